use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    sync::Arc,
};

use tokio::sync::Notify;
use wire::{StreamId, Tick};

use super::*;
use crate::{
    sink::{BoxFuture, Delivery},
    wake::{WINDOW, Wake},
    wal::{NewRecord, OwnedRecord, Wal, WalStats},
};

const LIMITS: BatchLimits = BatchLimits { records: 4, bytes: 1 << 20 };
/// Of every record.
const TIME_MS: i64 = 1_700_000_000_000;
const STREAM: StreamId = StreamId::from_bytes([9; 16]);

/// A log of one sink in memory: the shipper's view of one.
struct MemoryWal {
    records: Vec<LogRecord>,
    cursor: u64,
    /// Up to where a read found that the sink has everything.
    idle: watch::Sender<u64>,
}

impl Wal for MemoryWal {
    fn stream_id(&self) -> StreamId {
        STREAM
    }

    fn append(&mut self, record: &NewRecord<'_>) -> Result<u64, WalError> {
        let seq = self.records.len() as u64 + 1;
        let bytes = envelope::encode(record.kind, seq, record.payload)?;
        self.records.push(LogRecord { seq, bytes });
        Ok(seq)
    }

    fn register_as(&mut self, _: &str, _: Delivery) -> Result<u64, WalError> {
        Ok(self.cursor)
    }

    fn retain_sinks(&mut self, _: &[&str]) -> Result<Vec<String>, WalError> {
        Ok(Vec::new())
    }

    fn read(&mut self, _: &str, limits: BatchLimits) -> Result<Option<Batch>, WalError> {
        let after = self.records.iter().filter(|record| record.seq > self.cursor);
        let records: Vec<LogRecord> = after.take(limits.records).cloned().collect();
        let batch = Batch { stream_id: STREAM, records, schemas: Arc::default() };
        if batch.records.is_empty() {
            self.idle.send_replace(self.cursor);
            return Ok(None);
        }
        Ok(Some(batch))
    }

    fn acknowledge(&mut self, _: &str, seq: u64) -> Result<(), WalError> {
        self.cursor = self.cursor.max(seq);
        Ok(())
    }

    fn stats(&self) -> WalStats {
        WalStats { last_seq: self.records.len() as u64, ..WalStats::default() }
    }

    fn lost(&self) -> &BTreeMap<String, u64> {
        const { &BTreeMap::new() }
    }

    fn flush(&mut self) -> Result<(), WalError> {
        Ok(())
    }
}

/// What a sink was sent, and when.
#[derive(Default)]
struct Seen {
    /// Sequence number and kind of each record.
    sent: RefCell<Vec<Vec<(u64, Kind)>>>,
    times: RefCell<Vec<Instant>>,
    /// Whole, each time one was sent.
    gaps: RefCell<Vec<Vec<u8>>>,
    /// Up to where it took everything.
    taken: Cell<u64>,
    news: Notify,
}

impl Seen {
    async fn until_taken(&self, seq: u64) {
        while self.taken.get() < seq {
            self.news.notified().await;
        }
    }

    fn millis_after(&self, begun: Instant) -> Vec<u128> {
        self.times.borrow().iter().map(|time| (*time - begun).as_millis()).collect()
    }
}

/// Answers as its script says, then takes everything.
struct Scripted {
    script: VecDeque<Answer>,
    seen: Rc<Seen>,
}

enum Answer {
    /// Takes all up to that number.
    Take(u64),
    Fail(SinkError),
}

impl Sink for Scripted {
    fn limits(&self) -> BatchLimits {
        LIMITS
    }

    fn send<'a>(&'a mut self, batch: &'a Batch) -> BoxFuture<'a, Result<u64, SinkError>> {
        let kind = |record: &LogRecord| envelope::split_first(&record.bytes).unwrap().0.kind;
        let row = batch.records.iter().map(|record| (record.seq, kind(record))).collect();
        self.seen.sent.borrow_mut().push(row);
        let gaps = batch.records.iter().filter(|record| kind(record) == Kind::Gap);
        self.seen.gaps.borrow_mut().extend(gaps.map(|record| record.bytes.clone()));
        self.seen.times.borrow_mut().push(Instant::now());
        let last = batch.records.last().unwrap().seq;
        let answer = match self.script.pop_front() {
            None => Ok(last),
            Some(Answer::Take(seq)) => Ok(seq),
            Some(Answer::Fail(error)) => Err(error),
        };
        if let Ok(seq) = answer {
            self.seen.taken.set(seq);
        }
        self.seen.news.notify_one();
        Box::pin(std::future::ready(answer))
    }
}

/// A log, and a sink that answers by its script. No timer but the shipper's own runs, so that the
/// paused clock moves only when the shipper waits for it.
struct Bench {
    log: LogHandle,
    idle: watch::Receiver<u64>,
    seen: Rc<Seen>,
    stats: Rc<SinkStats>,
    directory: tempfile::TempDir,
}

impl Bench {
    async fn new(records: u64) -> Self {
        let (tell, idle) = watch::channel(0);
        let wal = MemoryWal { records: Vec::new(), cursor: 0, idle: tell };
        let log = LogHandle::spawn(Box::new(wal)).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let bench = Self { log, idle, seen: Rc::default(), stats: Rc::default(), directory };
        for _ in 0..records {
            bench.append().await;
        }
        bench
    }

    async fn append(&self) {
        let payload = Tick::encode(TIME_MS, &[]);
        let (kind, schemas) = (Kind::Metrics, Vec::new());
        let record = OwnedRecord { kind, time_ms: TIME_MS, samples: 0, payload, schemas };
        self.log.append(Arc::new(record)).await.unwrap();
    }

    fn sink(&self, script: impl IntoIterator<Item = Answer>) -> PlannedSink {
        let sink = Scripted { script: script.into_iter().collect(), seen: Rc::clone(&self.seen) };
        PlannedSink::new("hub", Box::new(sink))
    }

    fn shipper(&self, planned: PlannedSink) -> Shipper {
        let quarantine = Rc::new(Quarantine::below(self.directory.path()));
        Shipper::new(planned, self.log.clone(), Rc::clone(&self.stats), quarantine)
    }

    /// Ships while `work` goes on, then drains.
    async fn ship(&self, planned: PlannedSink, work: impl Future<Output = ()>) {
        let shipper = self.shipper(planned);
        let (tell, told) = watch::channel(Stop::Run);
        let work = async {
            work.await;
            tell.send(Stop::Drain).unwrap();
        };
        tokio::join!(shipper.run(told), work);
    }

    fn sent(&self) -> Vec<Vec<(u64, Kind)>> {
        self.seen.sent.borrow().clone()
    }
}

/// Drains `records` records into a sink that answers by `script`.
async fn drain(records: u64, script: impl IntoIterator<Item = Answer>) -> Bench {
    let bench = Bench::new(records).await;
    bench.ship(bench.sink(script), bench.seen.until_taken(records)).await;
    bench
}

fn metrics(seqs: impl IntoIterator<Item = u64>) -> Vec<(u64, Kind)> {
    seqs.into_iter().map(|seq| (seq, Kind::Metrics)).collect()
}

fn away() -> Answer {
    Answer::Fail(SinkError::Transient { reason: "away".to_owned(), retry_after: None })
}

#[tokio::test(start_paused = true)]
async fn records_go_out_in_order_in_batches() {
    let run = drain(6, []).await;
    assert_eq!(run.sent(), [metrics(1..=4), metrics(5..=6)]);
    assert_eq!((run.stats.sends.get(), run.stats.records.get()), (2, 6));
    assert!(run.stats.up.get());
    assert_eq!(run.stats.oldest_ms.get(), None);
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_is_away_gets_the_same_records_again() {
    let refused = Answer::Fail(SinkError::Refused { reason: "bad token".to_owned() });
    let run = drain(2, [away(), refused, away()]).await;
    assert_eq!(run.sent(), [metrics(1..=2), metrics(1..=2), metrics(1..=2), metrics(1..=2)]);
    assert_eq!(run.stats.retries.get(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_refused_identity_drops_nothing_and_is_told_until_it_is_taken_again() {
    let conflict = || Answer::Fail(SinkError::Conflict { reason: "two hosts".to_owned() });
    let bench = Bench::new(2).await;
    let told = RefCell::new(Vec::new());
    let work = async {
        while bench.seen.taken.get() < 2 {
            bench.seen.news.notified().await;
            told.borrow_mut().push(bench.stats.identity_conflict.get());
        }
    };
    // One that is away in between says nothing new of it.
    bench.ship(bench.sink([conflict(), conflict(), away()]), work).await;
    assert_eq!(bench.sent(), [metrics(1..=2), metrics(1..=2), metrics(1..=2), metrics(1..=2)]);
    assert_eq!(told.borrow()[..3], [true; 3]);
    assert!(!bench.stats.identity_conflict.get());
    assert_eq!(bench.stats.rejected.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_was_not_taken_is_sent_again() {
    let run = drain(4, [Answer::Take(1), Answer::Take(3)]).await;
    assert_eq!(run.sent(), [metrics(1..=4), metrics(2..=4), metrics([4])]);
}

#[tokio::test(start_paused = true)]
async fn an_acknowledgement_of_nothing_is_not_believed() {
    let run = drain(1, [Answer::Take(0)]).await;
    assert_eq!(run.sent(), [metrics([1]), metrics([1])]);
    assert_eq!(run.stats.retries.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_far_sides_word_on_when_is_a_floor() {
    let retry_after = Some(Duration::from_secs(300));
    let busy = SinkError::Transient { reason: "busy".to_owned(), retry_after };
    let begun = tokio::time::Instant::now();
    drain(1, [Answer::Fail(busy)]).await;
    assert!(begun.elapsed() >= Duration::from_secs(300));
}

#[tokio::test(start_paused = true)]
async fn a_rejected_record_is_quarantined_and_a_gap_stands_in_its_place() {
    let rejected = SinkError::Rejected { seq: 2, reason: "malformed tick".to_owned() };
    let run = drain(3, [Answer::Fail(rejected)]).await;
    let replaced = vec![(1, Kind::Metrics), (2, Kind::Gap), (3, Kind::Metrics)];
    assert_eq!(run.sent(), [metrics(1..=3), replaced]);
    assert_eq!(run.stats.rejected.get(), 1);
    let name = format!("quarantine/hub-{STREAM}-00000000000000000002.record");
    let kept = std::fs::read(run.directory.path().join(name)).unwrap();
    assert_eq!(envelope::split_first(&kept).unwrap().0.seq, 2);
}

#[tokio::test(start_paused = true)]
async fn after_a_crash_a_rejected_record_is_replaced_again_to_the_same_effect() {
    let bench = Bench::new(3).await;
    let rejected =
        || Answer::Fail(SinkError::Rejected { seq: 2, reason: "malformed tick".to_owned() });
    // It stops with the first record acknowledged and the gap sent, but not acknowledged.
    let (_tell, told) = watch::channel(Stop::Drain);
    let script = [rejected(), Answer::Take(1), away()];
    bench.shipper(bench.sink(script)).run(told).await;
    let gap_and_last = || vec![(2, Kind::Gap), (3, Kind::Metrics)];
    bench.ship(bench.sink([rejected()]), bench.seen.until_taken(3)).await;
    let sent = bench.sent();
    assert_eq!(sent[2..], [gap_and_last(), metrics(2..=3), gap_and_last()]);
    let gaps = bench.seen.gaps.borrow();
    assert!(gaps.len() == 3 && gaps.iter().all(|gap| *gap == gaps[0]), "{gaps:?}");
    let kept = std::fs::read_dir(bench.directory.path().join("quarantine")).unwrap();
    assert_eq!(kept.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn too_large_a_batch_is_halved_down_to_one_record() {
    let too_large = || Answer::Fail(SinkError::TooLarge { reason: "413".to_owned() });
    let run = drain(4, [too_large(), too_large(), too_large()]).await;
    let expected = [
        metrics(1..=4),
        metrics(1..=2),
        metrics([1]),
        // alone and still too large: it will never be taken
        vec![(1, Kind::Gap)],
        metrics(2..=3),
        metrics([4]),
    ];
    assert_eq!(run.sent(), expected);
    assert_eq!(run.stats.rejected.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn draining_does_not_wait_for_a_sink_that_is_away() {
    let bench = Bench::new(1).await;
    let begun = Instant::now();
    let (_tell, told) = watch::channel(Stop::Drain);
    bench.shipper(bench.sink((0..100).map(|_| away()))).run(told).await;
    assert_eq!((bench.sent().len(), begun.elapsed()), (1, Duration::ZERO));
    assert_eq!((bench.stats.up.get(), bench.stats.oldest_ms.get()), (false, Some(TIME_MS)));
}

/// A batch a second.
fn slow(bench: &Bench, record_bytes: u64) -> PlannedSink {
    let max_bytes_per_second = record_bytes * LIMITS.records as u64;
    PlannedSink { max_bytes_per_second, ..bench.sink([]) }
}

fn record_bytes() -> u64 {
    (wire::envelope::HEADER_BYTES + Tick::encode(TIME_MS, &[]).len()) as u64
}

#[tokio::test(start_paused = true)]
async fn a_backlog_drains_at_its_rate_and_live_records_dont_wait() {
    let bench = Bench::new(20).await;
    let begun = Instant::now();
    let work = async {
        let mut idle = bench.idle.clone();
        for seq in 20..23 {
            // What comes now is live, however much was just sent.
            idle.wait_for(|idle| *idle == seq).await.unwrap();
            bench.append().await;
        }
        bench.seen.until_taken(23).await;
    };
    bench.ship(slow(&bench, record_bytes()), work).await;
    // What a full bucket holds, what overdraws it, then the rate.
    assert_eq!(bench.seen.millis_after(begun), [0, 0, 1_000, 2_000, 3_000, 3_000, 3_000, 3_000]);
}

#[tokio::test(start_paused = true)]
async fn a_reload_doesnt_wait_for_a_backlog() {
    let bench = Bench::new(20).await;
    let (tell, told) = watch::channel(Stop::Run);
    let begun = Instant::now();
    let work = async {
        bench.seen.until_taken(4).await;
        tell.send(Stop::Now).unwrap();
    };
    tokio::join!(bench.shipper(slow(&bench, 1)).run(told), work);
    assert_eq!((begun.elapsed(), bench.stats.acked_seq.get()), (Duration::ZERO, 4));
}

/// When a sink that fails fifty times, with this word on when, and is then seen alive, gets its records:
/// seconds after that.
async fn woken(retry_after: Option<Duration>) -> Duration {
    let bench = Bench::new(1).await;
    let busy = || SinkError::Transient { reason: "busy".to_owned(), retry_after };
    let wake = Wake::default();
    let planned = bench.sink((0..50).map(|_| Answer::Fail(busy())));
    let planned = PlannedSink { wake: wake.clone(), ..planned };
    let back = Cell::new(Instant::now());
    let work = async {
        while bench.seen.times.borrow().len() < 50 {
            bench.seen.news.notified().await;
        }
        back.set(Instant::now());
        wake.far_side_is_back();
        bench.seen.until_taken(1).await;
    };
    bench.ship(planned, work).await;
    bench.seen.times.borrow().last().unwrap().duration_since(back.get())
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_is_seen_alive_gets_its_records_soon_but_not_before_it_said() {
    let millisecond = Duration::from_millis(1);
    let soon = woken(None).await;
    assert!(soon <= WINDOW + millisecond, "{soon:?}");
    let floor = Duration::from_secs(40);
    let later = woken(Some(floor)).await;
    assert!((floor..=floor + WINDOW + millisecond).contains(&later), "{later:?}");
}
