use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicI64, Ordering::SeqCst},
    },
};

use tempfile::TempDir;
use tokio::sync::oneshot;
use wire::{AgentId, MetricKind};

use super::*;
use crate::rules::{
    alert::SeriesKey,
    alert_store::FILE,
    source::{BoxFuture, SeriesSamples, SourceError, Unread},
};

/// One series of each metric, as a test wants it.
#[derive(Default)]
struct Samples(Mutex<BTreeMap<String, Answer>>);

#[derive(Clone)]
enum Answer {
    Samples(Vec<(i64, f64)>),
    Unreadable,
    Failure,
    Silence,
}

impl SampleSource for Samples {
    fn samples<'a>(&'a self, query: Query<'a>) -> BoxFuture<'a, Result<Found, SourceError>> {
        let metric = query.selector.metric.clone();
        let answer = self.0.lock().unwrap().get(&metric).cloned();
        Box::pin(async move {
            let samples = match answer {
                None => return Ok(Found::default()),
                Some(Answer::Samples(samples)) => samples,
                Some(Answer::Unreadable) => {
                    let unread =
                        Unread { host: "web-1".to_owned(), reason: "bad block".to_owned() };
                    let unread = [(key(metric), unread)].into();
                    return Ok(Found { unread, ..Found::default() });
                }
                Some(Answer::Failure) => {
                    return Err(SourceError { metric, source: "disk on fire".into() });
                }
                Some(Answer::Silence) => std::future::pending().await,
            };
            let wanted = query.from_ms..=query.to_ms;
            let one = SeriesSamples {
                key: key(metric),
                host: "web-1".to_owned(),
                kind: MetricKind::Gauge,
                samples: samples.into_iter().filter(|(t, _)| wanted.contains(t)).collect(),
            };
            Ok(Found { series: vec![one], ..Found::default() })
        })
    }
}

fn key(metric: String) -> SeriesKey {
    SeriesKey { agent_id: AgentId::from_bytes([1; 16]), metric, labels: BTreeMap::new() }
}

/// A hub's data directory, its samples and its clock: what outlives a restart.
struct Bench {
    dir: TempDir,
    source: Arc<Samples>,
    now_ms: Arc<AtomicI64>,
    metrics: Arc<RuleMetrics>,
    /// Another hub leads.
    follows: Arc<AtomicBool>,
}

impl Bench {
    fn new() -> Self {
        Self {
            dir: TempDir::new().unwrap(),
            source: Arc::default(),
            now_ms: Arc::default(),
            metrics: Arc::default(),
            follows: Arc::default(),
        }
    }

    fn store(&self) -> AlertStore {
        AlertStore::open(&self.dir.path().join(FILE)).unwrap()
    }

    /// A hub that starts.
    fn start(&self, rules: &[&str]) -> Runner {
        let now_ms = Arc::clone(&self.now_ms);
        Runner::new(Parts {
            rules: rules.iter().map(|rule| toml::from_str(rule).unwrap()).collect(),
            source: Arc::clone(&self.source) as _,
            store: self.store(),
            notifiers: vec!["log".to_owned()],
            clock: Arc::new(move || now_ms.load(SeqCst)),
            metrics: Arc::clone(&self.metrics),
            leads: {
                let follows = Arc::clone(&self.follows);
                Arc::new(move || !follows.load(SeqCst))
            },
            interval: INTERVAL_DEFAULT,
            stale_after: STALE_AFTER_DEFAULT,
        })
    }

    fn set(&self, metric: &str, answer: Answer) {
        self.source.0.lock().unwrap().insert(metric.to_owned(), answer);
    }

    /// A sample that arrives as it is made, and a round of evaluation.
    async fn sample(&self, runner: &mut Runner, at_s: i64, value: f64) {
        self.set("load", Answer::Samples(vec![(at_s * 1_000, value)]));
        self.round(runner, at_s).await;
    }

    async fn round(&self, runner: &mut Runner, now_s: i64) {
        self.now_ms.store(now_s * 1_000, SeqCst);
        runner.round().await;
    }

    /// States of what waits in the outbox, in order.
    fn queued(&self) -> Vec<&'static str> {
        let store = self.store();
        let mut states = Vec::new();
        while let Some(delivery) = store.next_delivery("log").unwrap() {
            states.push(delivery.notification.state.as_str());
            store.mark_delivered(delivery.id, 0).unwrap();
        }
        states
    }

    fn figure(&self, name: &str) -> u64 {
        let figures = self.metrics.figures();
        let figure = figures.iter().find(|figure| figure.name.ends_with(name));
        figure.unwrap_or_else(|| panic!("no figure {name}")).value
    }
}

const BUSY: &str = "name = 'busy'\nmetric = 'load'\nop = '>'\nthreshold = 4\nfor = '1m'\n";
const FULL: &str = "name = 'full'\nmetric = 'disk'\nop = '<'\nthreshold = 4\n";

#[tokio::test]
async fn while_another_hub_leads_nothing_is_evaluated() {
    let bench = Bench::new();
    let mut hub = bench.start(&[FULL]);
    bench.set("disk", Answer::Samples(vec![(1_000, 1.0)]));
    bench.follows.store(true, SeqCst);
    bench.round(&mut hub, 1).await;
    assert_eq!(bench.queued(), [""; 0]);
    bench.follows.store(false, SeqCst);
    bench.round(&mut hub, 1).await;
    assert_eq!(bench.queued(), ["firing"]);
}

#[tokio::test]
async fn a_restart_neither_forgets_nor_repeats() {
    let bench = Bench::new();
    let mut hub = bench.start(&[BUSY]);
    bench.sample(&mut hub, 0, 5.0).await;
    bench.sample(&mut hub, 30, 5.0).await;
    drop(hub);
    let mut hub = bench.start(&[BUSY]);
    assert_eq!(bench.figure("alerts_pending"), 1, "pending survives");
    bench.sample(&mut hub, 60, 5.0).await;
    assert_eq!((bench.figure("alerts_pending"), bench.figure("alerts_firing")), (0, 1));
    drop(hub);
    assert_eq!(bench.queued(), ["firing"]);
    let mut hub = bench.start(&[BUSY]);
    bench.sample(&mut hub, 70, 5.0).await;
    assert_eq!(bench.queued(), [""; 0], "told once");
    bench.sample(&mut hub, 80, 1.0).await;
    bench.round(&mut hub, 90).await;
    drop(hub);
    let mut hub = bench.start(&[BUSY]);
    bench.round(&mut hub, 100).await;
    assert_eq!(bench.queued(), ["resolved"]);
    assert_eq!((bench.figure("fired_total"), bench.figure("resolved_total")), (1, 1));
}

#[tokio::test]
async fn a_rule_that_was_removed_ends_its_alerts() {
    let bench = Bench::new();
    bench.set("disk", Answer::Samples(vec![(0, 1.0)]));
    bench.round(&mut bench.start(&[FULL]), 0).await;
    bench.round(&mut bench.start(&[BUSY]), 10).await;
    assert_eq!(bench.queued(), ["firing", "resolved"]);
    assert_eq!(bench.store().load().unwrap(), AlertStates::default());
    let reason = bench.store().incidents(1).unwrap().remove(0).end_reason;
    assert_eq!(reason.as_deref(), Some("rule_removed"));
}

#[tokio::test]
async fn a_store_that_cannot_be_read_leaves_alerts_as_they_are() {
    let bench = Bench::new();
    let mut hub = bench.start(&[BUSY, FULL]);
    bench.sample(&mut hub, 0, 5.0).await;
    bench.sample(&mut hub, 60, 5.0).await;
    bench.set("load", Answer::Failure);
    bench.set("disk", Answer::Samples(vec![(70_000, 1.0)]));
    bench.round(&mut hub, 70).await;
    assert_eq!((bench.figure("alerts_firing"), bench.figure("alerts_unknown")), (2, 0));
    bench.round(&mut hub, 900).await;
    assert_eq!((bench.figure("alerts_firing"), bench.figure("alerts_unknown")), (2, 2));
    assert_eq!(bench.figure("rule_evaluation_failures_total"), 2);
    let rules = bench.metrics.rules();
    assert_eq!(rules["busy"].error.as_deref(), Some("read samples of load: disk on fire"));
    assert_eq!((rules["full"].evaluated_ms, &rules["full"].error), (Some(900_000), &None));
    bench.sample(&mut hub, 910, 5.0).await;
    assert_eq!((bench.figure("alerts_unknown"), &bench.metrics.rules()["busy"].error), (1, &None));
    assert_eq!(bench.queued(), ["firing", "firing"]);
}

#[tokio::test]
async fn a_host_that_cannot_be_read_is_unknown_with_its_reason() {
    let bench = Bench::new();
    let mut hub = bench.start(&[BUSY, FULL]);
    bench.set("disk", Answer::Samples(vec![(0, 1.0)]));
    bench.sample(&mut hub, 0, 5.0).await;
    assert_eq!((bench.figure("alerts_firing"), bench.figure("alerts_unknown")), (1, 0));
    bench.set("disk", Answer::Unreadable);
    bench.round(&mut hub, 10).await;
    assert_eq!((bench.figure("alerts_firing"), bench.figure("alerts_unknown")), (1, 1));
    assert_eq!(bench.figure("rule_evaluation_failures_total"), 0);
    assert_eq!(bench.figure("rule_unread_series_total"), 1);
    let rules = bench.metrics.rules();
    assert_eq!(rules["full"].unread["web-1"], "bad block");
    assert!(rules["busy"].unread.is_empty());
    bench.set("disk", Answer::Samples(vec![(20_000, 1.0)]));
    bench.round(&mut hub, 20).await;
    assert_eq!(bench.figure("alerts_unknown"), 0);
    assert!(bench.metrics.rules()["full"].unread.is_empty());
    assert_eq!(bench.queued(), ["firing"]);
}

#[tokio::test]
async fn a_round_that_is_not_committed_is_found_again() {
    let bench = Bench::new();
    let mut hub = bench.start(&[FULL]);
    bench.round(&mut hub, -10).await;
    bench.set("disk", Answer::Samples(vec![(0, 1.0)]));
    let other = rusqlite::Connection::open(bench.dir.path().join(FILE)).unwrap();
    other.execute_batch("ALTER TABLE outbox RENAME TO away").unwrap();
    bench.round(&mut hub, 0).await;
    assert_eq!(bench.figure("rule_commit_failures_total"), 1);
    assert_eq!((bench.figure("fired_total"), bench.figure("alerts_firing")), (0, 0));
    other.execute_batch("ALTER TABLE away RENAME TO outbox").unwrap();
    bench.round(&mut hub, 10).await;
    assert_eq!((bench.figure("fired_total"), bench.figure("alerts_firing")), (1, 1));
    assert_eq!(bench.queued(), ["firing"]);
}

#[tokio::test]
async fn samples_are_read_from_the_whole_window_of_the_oldest_that_counts() {
    let check = async |samples: &[(i64, f64)], started_s: i64| {
        let bench = Bench::new();
        bench.set("load", Answer::Samples(samples.iter().map(|(s, v)| (s * 1_000, *v)).collect()));
        let rule = "name = 'busy'\nmetric = 'load'\nop = '>'\nthreshold = 4\nagg = 'max'\n";
        bench.round(&mut bench.start(&[rule]), 1_000).await;
        let incidents = bench.store().incidents(1).unwrap();
        let started: Vec<_> = incidents.iter().map(|one| one.started_ms / 1_000).collect();
        assert_eq!(started, [started_s], "{samples:?}");
    };
    check(&[(641, 5.0), (700, 1.0)], 700).await;
    // A host's clock may be ahead.
    check(&[(1_300, 5.0)], 1_300).await;
    check(&[(1_000, 5.0), (1_301, 1.0)], 1_000).await;
}

#[tokio::test(start_paused = true)]
async fn rounds_come_every_interval_until_shutdown() {
    let bench = Bench::new();
    bench.set("disk", Answer::Silence);
    let (stop, stopped) = oneshot::channel::<()>();
    let hub = bench.start(&[BUSY]);
    let running = tokio::spawn(hub.run(async { stopped.await.unwrap() }));
    // Time stands still unless everybody waits: each sleep ends after the rounds due before it.
    tokio::time::sleep(Duration::from_millis(9_999)).await;
    assert_eq!(bench.figure("rule_evaluations_total"), 1, "at once");
    tokio::time::sleep(Duration::from_millis(20_000)).await;
    assert_eq!(bench.figure("rule_evaluations_total"), 3);
    stop.send(()).unwrap();
    running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_rule_whose_samples_never_come_holds_up_no_other() {
    let bench = Bench::new();
    bench.set("disk", Answer::Silence);
    bench.set("load", Answer::Samples(vec![(0, 5.0)]));
    let mut hub = bench.start(&[FULL, BUSY]);
    bench.round(&mut hub, 0).await;
    assert_eq!((bench.figure("evaluation_failures_total"), bench.figure("alerts_pending")), (1, 1));
    let error = bench.metrics.rules()["full"].error.clone().unwrap();
    assert_eq!(error, "samples were not read within 30 s");
}
