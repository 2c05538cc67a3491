//! Answers to expressions: PromQL over a [`Reader`], within bounds.
//!
//! - **Few at one time.** An expression is reckoned on a blocking thread; there are as many as configured,
//!   more wait in a queue, and one that is too long is refused. Ingest has the other cores.
//! - **It ends.** When its time is over, or when nobody waits for it any more, at the next few thousand
//!   samples or while it waits for the store.
//! - **Bounded memory.** Samples are read in batches (`source`); results are counted by
//!   the engine before they take memory.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use promql::{Error, Interrupt, Settings};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task,
};

use super::{
    source::StoreSource,
    stop::{CancelOnDrop, Stop},
};
use crate::store::{Reader, StoreError};

/// What expressions may use.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bounds and defaults of each.
    pub settings: Settings,
    /// Time of one, waiting included.
    pub time_max: Duration,
    /// At one time.
    pub at_once: usize,
    /// That may wait for their turn.
    pub waiting_max: usize,
}

/// What one query asks for besides its expression.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wishes {
    /// Time it may take, if less than it might.
    pub timeout: Option<Duration>,
    /// How old the newest sample of a series may be to count, if not as always.
    pub lookback_ms: Option<i64>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    /// What is wrong with the query or its data.
    #[error(transparent)]
    Query(#[from] Error),
    /// Its time was over before its turn came.
    #[error("query timed out in query queue")]
    TimedOutWaiting,
    /// Too many wait already.
    #[error("too many queries wait for their turn: ask again later")]
    Full,
    /// The store can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The thread it ran on ended.
    #[error("the query ended early; the hub's log says why")]
    Broken,
}

/// Reckons expressions.
pub struct Expressions {
    reader: Arc<dyn Reader>,
    bounds: Bounds,
    room: Arc<Semaphore>,
    waiting: AtomicUsize,
}

impl Expressions {
    /// Over a reader.
    #[must_use]
    pub fn new(reader: Arc<dyn Reader>, bounds: Bounds) -> Self {
        let room = Arc::new(Semaphore::new(bounds.at_once.max(1)));
        Self { reader, bounds, room, waiting: AtomicUsize::new(0) }
    }

    /// Series that one selector may select.
    #[must_use]
    pub fn series_max(&self) -> usize {
        self.bounds.settings.limits.series_max
    }

    /// Runs `work` on a thread of its own when its turn comes; what it says, and what its answer may
    /// lack.
    ///
    /// # Errors
    /// [`Unanswered`].
    pub async fn run<T: Send + 'static>(
        &self,
        wishes: Wishes,
        work: impl FnOnce(&dyn promql::Source, &Settings, &Interrupt<'_>) -> Result<T, Error>
        + Send
        + 'static,
    ) -> Result<(T, Vec<String>), Unanswered> {
        let (stop, _guard, permit) = self.turn(wishes).await?;
        let (reader, mut settings) = (Arc::clone(&self.reader), self.bounds.settings);
        if let Some(lookback_ms) = wishes.lookback_ms {
            settings.lookback_ms = lookback_ms;
        }
        let reckoned = task::spawn_blocking(move || {
            let source = StoreSource::new(reader, Arc::clone(&stop), settings.limits.series_max);
            let answer = work(&source, &settings, &|| stop.check());
            drop(permit);
            answer.map(|answer| (answer, source.into_warnings()))
        });
        Ok(reckoned.await.map_err(|_| Unanswered::Broken)??)
    }

    /// Asks the store for something that needs no thread, when its turn comes.
    ///
    /// # Errors
    /// [`Unanswered`].
    pub async fn look<'a, T, F>(
        &'a self,
        ask: impl FnOnce(&'a dyn Reader) -> F,
    ) -> Result<T, Unanswered>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let (stop, _guard, _permit) = self.turn(Wishes::default()).await?;
        tokio::select! {
            biased;
            ended = stop.ended() => Err(ended.into()),
            found = ask(self.reader.as_ref()) => Ok(found?),
        }
    }

    async fn turn(
        &self,
        wishes: Wishes,
    ) -> Result<(Arc<Stop>, CancelOnDrop, OwnedSemaphorePermit), Unanswered> {
        let most = self.bounds.time_max;
        let (stop, guard) = Stop::after(wishes.timeout.map_or(most, |wish| wish.min(most)));
        if let Ok(permit) = Arc::clone(&self.room).try_acquire_owned() {
            return Ok((stop, guard, permit));
        }
        let _place = Place::take(&self.waiting, self.bounds.waiting_max)?;
        tokio::select! {
            biased;
            permit = Arc::clone(&self.room).acquire_owned() => {
                // Never closed, so always a permit.
                Ok((stop, guard, permit.map_err(|_| Unanswered::Broken)?))
            }
            _ = stop.ended() => Err(Unanswered::TimedOutWaiting),
        }
    }
}

/// A place in the queue.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize, most: usize) -> Result<Self, Unanswered> {
        let place = Self(waiting);
        if waiting.fetch_add(1, Relaxed) < most { Ok(place) } else { Err(Unanswered::Full) }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use promql::{Query, Value};
    use tokio::sync::Notify;
    use wire::{AgentId, Family, MetricKind};

    use super::*;
    use crate::store::{
        BoxFuture, Chunk, ReadRequest, Samples, Selector, Series, SeriesId, StoreError,
    };

    /// Two agents on hosts of one name, and one beside them; says when it is asked, and answers if it may.
    struct Fake {
        asked: Arc<Notify>,
        answers: bool,
    }

    fn series(agent: u8, hostname: &str) -> Series {
        Series {
            id: SeriesId(agent.into()),
            agent_id: AgentId::from_bytes([agent; 16]),
            hostname: hostname.into(),
            metric: "m".into(),
            kind: MetricKind::Gauge,
            labels: [].into(),
            is_written: false,
        }
    }

    impl Reader for Fake {
        fn series(&self, _: Selector) -> BoxFuture<'_, Result<Vec<Series>, StoreError>> {
            Box::pin(async {
                self.asked.notify_one();
                if !self.answers {
                    std::future::pending::<()>().await;
                }
                Ok(vec![series(1, "twin"), series(2, "other"), series(3, "twin")])
            })
        }

        /// Agent 1 ends at 100 s, agent 3 begins at 90 s.
        fn read(&self, request: ReadRequest) -> BoxFuture<'_, Result<Samples, StoreError>> {
            let (sink, chunks) = tokio::sync::mpsc::channel(16);
            for (place, id) in request.series.iter().enumerate() {
                let all = match id.0 {
                    1 => 0..=10_i64,
                    3 => 9..=20,
                    _ => 0..=20,
                };
                let times = all.map(|n| n * 10_000);
                let times: Vec<i64> =
                    times.filter(|time| (request.from_ms..=request.to_ms).contains(time)).collect();
                let values = vec![id.0 as f64; times.len()];
                if !times.is_empty() {
                    sink.try_send(Ok(Chunk { series: place, times, values })).unwrap();
                }
            }
            sink.try_send(Err(StoreError::Damaged {
                what: "block".into(),
                detail: "test".into(),
                series: vec![0],
            }))
            .unwrap();
            Box::pin(async { Ok(Samples::new(chunks)) })
        }

        fn families(&self) -> BoxFuture<'_, Result<Vec<Family>, StoreError>> {
            Box::pin(async { Ok(vec![]) })
        }
    }

    fn expressions(answers: bool, bounds: Bounds) -> (Arc<Expressions>, Arc<Notify>) {
        let asked = Arc::new(Notify::new());
        let fake = Fake { asked: Arc::clone(&asked), answers };
        (Arc::new(Expressions::new(Arc::new(fake), bounds)), asked)
    }

    fn bounds(at_once: usize, waiting_max: usize) -> Bounds {
        let time_max = Duration::from_secs(3_600);
        Bounds { settings: Settings::default(), time_max, at_once, waiting_max }
    }

    async fn ask(of: &Expressions, wishes: Wishes) -> Result<(Value, Vec<String>), Unanswered> {
        let query = Query::parse("m").unwrap();
        let work = move |source: &dyn promql::Source, settings: &_, interrupt: &Interrupt<'_>| {
            query.instant(source, 150_000, settings, interrupt)
        };
        of.run(wishes, work).await
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn series_of_twins_are_told_apart_while_both_are_there() {
        let (of, _) = expressions(true, bounds(1, 0));
        let check = async |lookback_ms, expected: &[(&str, bool, f64)]| {
            let wishes = Wishes { lookback_ms: Some(lookback_ms), ..Wishes::default() };
            let (value, warnings) = ask(&of, wishes).await.unwrap();
            assert_eq!(warnings, ["some stored samples no longer read and are left out"]);
            let Value::Vector(found) = value else { panic!("{value:?}") };
            let found: Vec<_> = found
                .iter()
                .map(|(l, v)| (l.get("instance"), !l.get("agent_id").is_empty(), *v))
                .collect();
            assert_eq!(found, expected);
        };
        let both = [("twin", true, 1.0), ("twin", true, 3.0), ("other", false, 2.0)];
        check(300_000, &both).await;
        check(20_000, &[("twin", false, 3.0), ("other", false, 2.0)]).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn those_that_find_no_room_wait_or_are_refused() {
        let (of, asked) = expressions(false, bounds(1, 1));
        let first = tokio::spawn({
            let of = Arc::clone(&of);
            async move { ask(&of, Wishes::default()).await }
        });
        asked.notified().await;
        let soon = Wishes { timeout: Some(Duration::ZERO), ..Wishes::default() };
        let late = ask(&of, soon).await.unwrap_err();
        assert!(matches!(late, Unanswered::TimedOutWaiting), "{late:?}");

        let mut second = Box::pin(ask(&of, Wishes::default()));
        assert!(futures_pending(&mut second).await);
        let third = ask(&of, soon).await.unwrap_err();
        assert!(matches!(third, Unanswered::Full), "{third:?}");

        // Whoever asked first goes away: its turn ends, and the second's begins.
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
        tokio::select! {
            answer = &mut second => panic!("{answer:?}"),
            () = asked.notified() => {}
        }
        drop(second);
        let last = Wishes { timeout: Some(Duration::from_millis(10)), ..Wishes::default() };
        let error = loop {
            match ask(&of, last).await.unwrap_err() {
                Unanswered::TimedOutWaiting => {}
                other => break other,
            }
        };
        assert!(matches!(error, Unanswered::Query(Error::Timeout)), "{error:?}");
    }

    /// Whether a future that has been polled has nothing to say yet.
    async fn futures_pending<T>(future: &mut (impl Future<Output = T> + Unpin)) -> bool {
        std::future::poll_fn(|context| {
            std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(context).is_pending())
        })
        .await
    }
}
