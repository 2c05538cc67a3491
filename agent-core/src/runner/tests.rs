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
) -> PlannedCollector {
    PlannedCollector::new(name, Box::new(Fake(Box::new(run))))
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

fn denied() -> CollectError {
    let error = std::io::Error::from_raw_os_error(13);
    CollectError::from_io(std::path::Path::new("/proc/slabinfo"), &error)
}

#[tokio::test]
async fn failures_and_panics_stay_with_their_collector() {
    let mut runner = Runner::new(vec![
        fake("good", || Ok(())),
        fake("none", || Err(CollectError::unavailable("no such device"))),
        fake("root's", || Err(denied())),
        fake("bad", || Err(CollectError::failed("/proc/x", "line 3"))),
        fake("worse", || panic!("on purpose")),
        fake("last", || Ok(())),
    ]);
    for _ in 0..2 {
        runner.run(0, Duration::from_secs(60)).await.unwrap();
        assert_eq!(
            outcomes(&mut runner),
            expected(&[
                ("good", "Collected", 1),
                ("none", "Unavailable(\"no such device\")", 0),
                ("root's", "Denied(\"/proc/slabinfo: Permission denied (os error 13)\")", 0),
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
    runner.run(0, DEADLINE).await.unwrap();
    assert_eq!(outcomes(&mut runner), stuck);
    runner.run(0, DEADLINE).await.unwrap();
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
        runner.run(0, Duration::from_secs(60)).await.unwrap();
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
    fn collector(&self) -> PlannedCollector {
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
        runner.run(0, DEADLINE).await.unwrap();
        let rows = [("hung", "Stuck", 0), ("after", "Collected", 1)];
        assert_eq!(outcomes(&mut runner), expected(&rows));
        assert_eq!(hanging.threads(), HUNG_THREADS_MAX.min(reload + 1));
    }
    // What hung is another name now: nothing keeps it from running.
    runner.renew(vec![fake("other", || Ok(()))]);
    runner.run(0, DEADLINE).await.unwrap();
    assert_eq!(outcomes(&mut runner), expected(&[("other", "Collected", 1)]));

    hanging.release();
    let back = expected(&[("hung", "Collected", 1)]);
    for _ in 0..1_000 {
        runner.renew(vec![hanging.collector()]);
        runner.run(0, DEADLINE).await.unwrap();
        if outcomes(&mut runner) == back && runner.hung.is_empty() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("it never came back: {:?} {:?}", outcomes(&mut runner), runner.hung);
}

#[tokio::test]
async fn no_collectors_is_a_tick_too() {
    Runner::new(Vec::new()).run(0, DEADLINE).await.unwrap();
}

#[tokio::test]
async fn an_interval_of_its_own_is_kept_by_the_wall_clock() {
    let good = || fake("each", || Ok(()));
    let seldom = || fake("seldom", || Ok(())).every(Duration::from_secs(60));
    let mut runner = Runner::new(vec![seldom(), good()]);
    let check = async |runner: &mut Runner, time_s: i64, is_due: bool| {
        runner.run(time_s * 1_000, DEADLINE).await.unwrap();
        let rows = [("seldom", "Collected", 1), ("each", "Collected", 1)];
        let rows = if is_due { &rows[..] } else { &rows[1..] };
        assert_eq!(outcomes(runner), expected(rows), "at {time_s} s");
    };
    // the first tick after a start, then whole minutes; whichever tick of a minute comes first
    for (time_s, is_due) in [
        (40, true),
        (50, false),
        (60, true),
        (70, false),
        (110, false),
        (130, true),
        (170, false),
        (180, true),
        // set back, and on from there
        (60, true),
        (70, false),
        (120, true),
    ] {
        check(&mut runner, time_s, is_due).await;
    }
    // a reload shows at once what it changed
    check(&mut runner, 130, false).await;
    runner.renew(vec![seldom(), good()]);
    check(&mut runner, 140, true).await;
    check(&mut runner, 150, false).await;
}

#[tokio::test]
async fn what_a_host_lacks_is_looked_for_seldom() {
    let (plug_in, plugged_in) = mpsc::channel::<()>();
    let absent = fake("absent", move || match plugged_in.try_recv() {
        Ok(()) => Ok(()),
        Err(_) => Err(CollectError::unavailable("no such device")),
    });
    let mut runner = Runner::new(vec![absent]);
    let mut check = async |time_s: i64, outcome: &str| {
        runner.run(time_s * 1_000, DEADLINE).await.unwrap();
        let found = outcomes(&mut runner).pop().map(|(_, outcome, _)| outcome).unwrap_or_default();
        assert!(found.starts_with(outcome) && found.is_empty() == outcome.is_empty(), "{found}");
    };
    // Once may be chance.
    check(10, "Unavailable").await;
    check(20, "Unavailable").await;
    check(30, "").await;
    check(50, "").await;
    check(60, "Unavailable").await;
    (0..2).for_each(|_| plug_in.send(()).unwrap());
    check(70, "").await;
    check(120, "Collected").await;
    check(130, "Collected").await;
    check(140, "Unavailable").await;
    check(150, "Unavailable").await;
    check(160, "").await;
}

#[tokio::test]
async fn one_that_hung_keeps_its_interval() {
    let (release, blocked) = mpsc::channel::<()>();
    let (returned_tx, returned) = mpsc::channel::<()>();
    let mut first = true;
    let hung = fake("hung", move || {
        if std::mem::take(&mut first) {
            blocked.recv().unwrap();
            returned_tx.send(()).unwrap();
        }
        Ok(())
    });
    let mut runner = Runner::new(vec![hung.every(Duration::from_secs(60))]);
    let stuck = expected(&[("hung", "Stuck", 0)]);
    for (time_ms, rows) in [(60_000, &stuck[..]), (70_000, &[]), (120_000, &stuck)] {
        runner.run(time_ms, DEADLINE).await.unwrap();
        assert_eq!(outcomes(&mut runner), rows, "at {time_ms} ms");
    }
    release.send(()).unwrap();
    returned.recv().unwrap();
    // Its thread hands the job back just after that: one of the next minutes has it again.
    let back = expected(&[("hung", "Collected", 1)]);
    for minute in 3..1_000 {
        runner.run(minute * 60_000, DEADLINE).await.unwrap();
        if outcomes(&mut runner) == back {
            runner.run(minute * 60_000 + 10_000, DEADLINE).await.unwrap();
            assert_eq!(outcomes(&mut runner), []);
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("the collector never came back");
}
