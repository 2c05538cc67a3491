use std::sync::mpsc;

use super::*;
use crate::samples::Metric;

const DEADLINE: Duration = Duration::from_millis(500);

struct Fake(Box<dyn FnMut() -> Result<(), CollectError> + Send>);

impl Collector for Fake {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        (self.0)()?;
        out.push(&Metric::gauge("fake", "A fake."), &[], 1.0);
        Ok(())
    }
}

fn fake(
    name: &str,
    run: impl FnMut() -> Result<(), CollectError> + Send + 'static,
) -> (String, Box<dyn Collector>) {
    (name.to_owned(), Box::new(Fake(Box::new(run))))
}

fn outcomes(runner: &mut Runner) -> Vec<(String, String, usize)> {
    let describe = |report: Report<'_>| {
        let values = report.samples.map_or(0, |samples| samples.len());
        (report.name.to_owned(), format!("{:?}", report.outcome), values)
    };
    runner.reports().map(describe).collect()
}

fn expected(rows: &[(&str, &str, usize)]) -> Vec<(String, String, usize)> {
    rows.iter().map(|(a, b, c)| ((*a).to_owned(), (*b).to_owned(), *c)).collect()
}

#[tokio::test]
async fn failures_and_panics_stay_with_their_collector() {
    let mut runner = Runner::new(vec![
        fake("good", || Ok(())),
        fake("none", || Err(CollectError::unavailable("no such device"))),
        fake("bad", || Err(CollectError::failed("/proc/x", "line 3"))),
        fake("worse", || panic!("on purpose")),
        fake("last", || Ok(())),
    ]);
    for _ in 0..3 {
        runner.run(Duration::from_secs(60)).await.unwrap();
        assert_eq!(
            outcomes(&mut runner),
            expected(&[
                ("good", "Collected", 1),
                ("none", "Unavailable(\"no such device\")", 0),
                ("bad", "Failed(\"/proc/x: line 3\")", 0),
                ("worse", "Failed(\"panicked: on purpose\")", 0),
                ("last", "Collected", 1),
            ])
        );
    }
}

#[tokio::test]
async fn a_stuck_collector_is_skipped_until_it_returns() {
    let (release, blocked) = mpsc::channel::<()>();
    let (returned_tx, returned) = mpsc::channel::<()>();
    let mut first = true;
    let mut runner = Runner::new(vec![
        fake("before", || Ok(())),
        fake("hung", move || {
            if std::mem::take(&mut first) {
                blocked.recv().unwrap();
                returned_tx.send(()).unwrap();
            }
            Ok(())
        }),
        fake("after", || Ok(())),
    ]);
    let stuck =
        expected(&[("before", "Collected", 1), ("hung", "Stuck", 0), ("after", "Collected", 1)]);
    runner.run(DEADLINE).await.unwrap();
    assert_eq!(outcomes(&mut runner), stuck);
    runner.run(DEADLINE).await.unwrap();
    assert_eq!(outcomes(&mut runner), stuck, "skipped while it is away");

    release.send(()).unwrap();
    returned.recv().unwrap();
    // Its thread hands the job back just after that: the next ticks have it again.
    let back = expected(&[
        ("before", "Collected", 1),
        ("hung", "Collected", 1),
        ("after", "Collected", 1),
    ]);
    for _ in 0..1_000 {
        runner.run(Duration::from_secs(60)).await.unwrap();
        if outcomes(&mut runner) == back {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("the collector never came back: {:?}", outcomes(&mut runner));
}

/// Collectors that all hang until told, and how many of them do now.
#[derive(Clone, Default)]
struct Hanging(Arc<(Mutex<(usize, bool)>, Condvar)>);

impl Hanging {
    fn collector(&self) -> NamedCollector {
        let hanging = self.clone();
        fake("hung", move || {
            let (state, changed) = &*hanging.0;
            let mut state = state.lock().unwrap();
            state.0 += 1;
            while !state.1 {
                state = changed.wait(state).unwrap();
            }
            state.0 -= 1;
            Ok(())
        })
    }

    fn threads(&self) -> usize {
        self.0.0.lock().unwrap().0
    }

    fn release(&self) {
        self.0.0.lock().unwrap().1 = true;
        self.0.1.notify_all();
    }
}

#[tokio::test]
async fn reloads_leave_no_more_hung_threads_than_the_bound() {
    let hanging = Hanging::default();
    let mut runner = Runner::default();
    for reload in 0..6 {
        runner.renew(vec![hanging.collector(), fake("after", || Ok(()))]);
        runner.run(DEADLINE).await.unwrap();
        let rows = [("hung", "Stuck", 0), ("after", "Collected", 1)];
        assert_eq!(outcomes(&mut runner), expected(&rows));
        assert_eq!(hanging.threads(), HUNG_THREADS_MAX.min(reload + 1));
    }
    // What hung is another name now: nothing keeps it from running.
    runner.renew(vec![fake("other", || Ok(()))]);
    runner.run(DEADLINE).await.unwrap();
    assert_eq!(outcomes(&mut runner), expected(&[("other", "Collected", 1)]));

    hanging.release();
    let back = expected(&[("hung", "Collected", 1)]);
    for _ in 0..1_000 {
        runner.renew(vec![hanging.collector()]);
        runner.run(DEADLINE).await.unwrap();
        if outcomes(&mut runner) == back && runner.hung.is_empty() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("it never came back: {:?} {:?}", outcomes(&mut runner), runner.hung);
}

#[tokio::test]
async fn no_collectors_is_a_tick_too() {
    Runner::new(Vec::new()).run(DEADLINE).await.unwrap();
}
