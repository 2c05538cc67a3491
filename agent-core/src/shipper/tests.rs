use std::{cell::RefCell, collections::VecDeque, sync::Arc};

use tokio::task::LocalSet;
use wire::{StreamId, Tick};

use super::*;
use crate::{
    sink::BoxFuture,
    wal::{NewRecord, OwnedRecord, Wal, WalStats},
};

const LIMITS: BatchLimits = BatchLimits { records: 4, bytes: 1 << 20 };
const STREAM: StreamId = StreamId::from_bytes([9; 16]);

/// A log of one sink in memory: the shipper's view of one.
#[derive(Default)]
struct MemoryWal {
    records: Vec<LogRecord>,
    cursor: u64,
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

    fn register(&mut self, _: &str) -> Result<u64, WalError> {
        Ok(self.cursor)
    }

    fn retain_sinks(&mut self, _: &[&str]) -> Result<Vec<String>, WalError> {
        Ok(Vec::new())
    }

    fn read(&mut self, _: &str, limits: BatchLimits) -> Result<Option<Batch>, WalError> {
        let after = self.records.iter().filter(|record| record.seq > self.cursor);
        let records: Vec<LogRecord> = after.take(limits.records).cloned().collect();
        let batch = Batch { stream_id: STREAM, records, schemas: Arc::default() };
        Ok((!batch.records.is_empty()).then_some(batch))
    }

    fn acknowledge(&mut self, _: &str, seq: u64) -> Result<(), WalError> {
        self.cursor = self.cursor.max(seq);
        Ok(())
    }

    fn stats(&self) -> WalStats {
        WalStats { last_seq: self.records.len() as u64, ..WalStats::default() }
    }

    fn flush(&mut self) -> Result<(), WalError> {
        Ok(())
    }
}

/// What a scripted sink was sent: sequence number and kind of each record.
type Sent = Rc<RefCell<Vec<Vec<(u64, Kind)>>>>;

/// Answers as its script says, then takes everything.
struct Scripted {
    script: VecDeque<Answer>,
    sent: Sent,
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
        self.sent.borrow_mut().push(row);
        let last = batch.records.last().unwrap().seq;
        let answer = match self.script.pop_front() {
            None => Ok(last),
            Some(Answer::Take(seq)) => Ok(seq),
            Some(Answer::Fail(error)) => Err(error),
        };
        Box::pin(std::future::ready(answer))
    }
}

struct Run {
    sent: Vec<Vec<(u64, Kind)>>,
    stats: Rc<SinkStats>,
    directory: tempfile::TempDir,
}

/// Drains `records` records into a sink that answers by `script`.
async fn drain(records: u64, script: impl IntoIterator<Item = Answer>) -> Run {
    let log = LogHandle::spawn(Box::new(MemoryWal::default())).unwrap();
    for time_ms in 0..records {
        let payload = Tick::encode(time_ms.cast_signed(), &[]);
        let record = OwnedRecord {
            kind: Kind::Metrics,
            time_ms: time_ms.cast_signed(),
            samples: 0,
            payload,
            schemas: Vec::new(),
        };
        log.append(Arc::new(record)).await.unwrap();
    }
    let sent = Sent::default();
    let sink = Scripted { script: script.into_iter().collect(), sent: Rc::clone(&sent) };
    let stats: Rc<SinkStats> = Rc::default();
    let directory = tempfile::tempdir().unwrap();
    let quarantine = Rc::new(Quarantine::below(directory.path()));
    let shipper = Shipper::new(
        "hub".to_owned(),
        Box::new(sink),
        log.clone(),
        Rc::clone(&stats),
        quarantine,
        Duration::ZERO,
    );
    let (tell, told) = watch::channel(Stop::Run);
    let until_taken = async {
        while stats.acked_seq.get() < records {
            sleep(Duration::from_secs(1)).await;
        }
        tell.send(Stop::Drain).unwrap();
    };
    let both = async { tokio::join!(shipper.run(told), until_taken) };
    LocalSet::new().run_until(both).await;
    log.close().await.unwrap();
    let sent = sent.borrow().clone();
    Run { sent, stats, directory }
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
    assert_eq!(run.sent, [metrics(1..=4), metrics(5..=6)]);
    assert_eq!((run.stats.sends.get(), run.stats.records.get()), (2, 6));
    assert!(run.stats.up.get());
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_is_away_gets_the_same_records_again() {
    let refused = Answer::Fail(SinkError::Refused { reason: "bad token".to_owned() });
    let run = drain(2, [away(), refused, away()]).await;
    assert_eq!(run.sent, [metrics(1..=2), metrics(1..=2), metrics(1..=2), metrics(1..=2)]);
    assert_eq!(run.stats.retries.get(), 3);
}

#[tokio::test(start_paused = true)]
async fn what_was_not_taken_is_sent_again() {
    let run = drain(4, [Answer::Take(1), Answer::Take(3)]).await;
    assert_eq!(run.sent, [metrics(1..=4), metrics(2..=4), metrics([4])]);
}

#[tokio::test(start_paused = true)]
async fn an_acknowledgement_of_nothing_is_not_believed() {
    let run = drain(1, [Answer::Take(0)]).await;
    assert_eq!(run.sent, [metrics([1]), metrics([1])]);
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
    assert_eq!(run.sent, [metrics(1..=3), replaced]);
    assert_eq!(run.stats.rejected.get(), 1);
    let name = format!("quarantine/hub-{STREAM}-00000000000000000002.record");
    let kept = std::fs::read(run.directory.path().join(name)).unwrap();
    assert_eq!(envelope::split_first(&kept).unwrap().0.seq, 2);
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
    assert_eq!(run.sent, expected);
    assert_eq!(run.stats.rejected.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn draining_does_not_wait_for_a_sink_that_is_away() {
    let log = LogHandle::spawn(Box::new(MemoryWal::default())).unwrap();
    let record = OwnedRecord {
        kind: Kind::Metrics,
        time_ms: 0,
        samples: 0,
        payload: Tick::encode(0, &[]),
        schemas: Vec::new(),
    };
    log.append(Arc::new(record)).await.unwrap();
    let sent = Sent::default();
    let script = (0..100).map(|_| away()).collect();
    let sink = Scripted { script, sent: Rc::clone(&sent) };
    let quarantine = Rc::new(Quarantine::below(std::path::Path::new("/nonexistent")));
    let shipper = Shipper::new(
        "hub".to_owned(),
        Box::new(sink),
        log.clone(),
        Rc::default(),
        quarantine,
        Duration::ZERO,
    );
    let (tell, told) = watch::channel(Stop::Drain);
    shipper.run(told).await;
    drop(tell);
    assert_eq!(sent.borrow().len(), 1);
}
