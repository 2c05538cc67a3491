use std::{
    collections::VecDeque,
    sync::{
        Mutex,
        atomic::{AtomicI64, Ordering::SeqCst},
    },
};

use axum::{
    Router,
    extract::State as Shared,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Response},
    routing::{any, post},
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::mpsc};

use super::*;
use crate::{
    notify::message::tests::incident,
    rules::{
        alert::{Alert, Change, Incident, Phase, Transition},
        alert_store::FILE,
    },
};

/// What a receiver answers: a status, or never anything.
#[derive(Clone, Copy)]
enum Answer {
    Status(u16),
    Never,
    Later { seconds: u32 },
}
use Answer::{Later, Never, Status};

/// A webhook's far side: answers by script, then with 200.
struct Receiver {
    address: String,
    requests: mpsc::UnboundedReceiver<Request>,
}

#[derive(Debug)]
struct Request {
    headers: HeaderMap,
    body: Value,
}

struct Script {
    answers: Mutex<VecDeque<Answer>>,
    requests: mpsc::UnboundedSender<Request>,
}

async fn answer(Shared(script): Shared<Arc<Script>>, headers: HeaderMap, body: String) -> Response {
    let answer = script.answers.lock().unwrap().pop_front().unwrap_or(Status(200));
    let body = serde_json::from_str(&body).unwrap();
    script.requests.send(Request { headers, body }).unwrap();
    match answer {
        Status(code) => {
            let code = StatusCode::from_u16(code).unwrap();
            (code, [("location", "/other")], "so\nit is").into_response()
        }
        Later { seconds } => {
            (StatusCode::TOO_MANY_REQUESTS, [("retry-after", seconds.to_string())]).into_response()
        }
        Never => std::future::pending().await,
    }
}

impl Receiver {
    async fn new(answers: &[Answer]) -> Self {
        let (sender, requests) = mpsc::unbounded_channel();
        let answers = Mutex::new(answers.iter().copied().collect());
        let script = Arc::new(Script { answers, requests: sender });
        let app = Router::new()
            .route("/hook", post(answer))
            .route("/other", any(async || "whoever follows here takes this for a yes"))
            .with_state(script);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}/hook", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { address, requests }
    }

    /// The next requests, as `rule state`.
    async fn heard(&mut self, count: usize) -> Vec<String> {
        let mut heard = Vec::new();
        while heard.len() < count {
            let request = self.requests.recv().await.unwrap();
            let word = |key: &str| request.body[key].as_str().unwrap().to_owned();
            assert_eq!(request.headers["idempotency-key"], word("id"));
            heard.push(format!("{} {}", word("rule"), word("state")));
        }
        heard
    }

    fn config(&self, name: &str, keys: &str) -> String {
        format!("[webhooks.{name}]\nurl = '{}'\n{keys}\n", self.address)
    }
}

/// An outbox, its clock and its counts.
struct Bench {
    dir: TempDir,
    now_ms: Arc<AtomicI64>,
    metrics: Arc<RuleMetrics>,
}

impl Bench {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        Self { dir, now_ms: Arc::default(), metrics: Arc::default() }
    }

    fn store(&self) -> AlertStore {
        AlertStore::open(&self.dir.path().join(FILE)).unwrap()
    }

    /// Commits that these rules' alerts fired.
    fn fire(&self, store: &AlertStore, rules: &[&str], notifiers: &[&str]) {
        let changes: Vec<_> = rules.iter().map(|rule| fired(incident(rule, 0))).collect();
        let notifiers: Vec<_> = notifiers.iter().map(|name| (*name).to_owned()).collect();
        store.commit(&changes, &notifiers, self.now_ms.load(SeqCst)).unwrap();
    }

    /// Delivers until `done` has come to pass.
    async fn deliver<T>(
        &self,
        config: &str,
        store: &AlertStore,
        done: impl Future<Output = T>,
    ) -> T {
        let mut result = None;
        let shutdown = async { result = Some(done.await) };
        let notifiers = Notifier::all(&toml::from_str(config).unwrap()).unwrap();
        let now_ms = Arc::clone(&self.now_ms);
        let clock: Clock = Arc::new(move || now_ms.load(SeqCst));
        let (store, metrics) = (store.clone(), Arc::clone(&self.metrics));
        let wait = |_| Duration::from_millis(1);
        let running = run_with(notifiers, store, clock, metrics, wait, shutdown);
        // Only a hang takes that long.
        tokio::time::timeout(Duration::from_secs(30), running).await.unwrap();
        result.unwrap()
    }

    fn figure(&self, name: &str) -> u64 {
        let figures = self.metrics.figures();
        figures.iter().find(|figure| figure.name.ends_with(name)).unwrap().value
    }
}

fn fired(incident: Incident) -> Change {
    let alert = Alert {
        host: incident.host.clone(),
        since_ms: 0,
        seen_ms: 0,
        value: 1.0,
        unknown_since_ms: None,
        phase: Phase::Firing(Box::new(incident.clone())),
    };
    Change {
        rule: incident.rule.clone(),
        series: incident.series.clone(),
        after: Some(alert),
        transition: Some(Transition::Fired(incident)),
    }
}

async fn until(mut holds: impl FnMut() -> bool) {
    while !holds() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn trouble_is_tried_again_in_order() {
    let check = async |answers: &[Answer], expected: &[&str]| {
        let bench = Bench::new();
        let mut receiver = Receiver::new(answers).await;
        let (store, config) = (bench.store(), receiver.config("ops", "timeout = '200ms'"));
        bench.fire(&store, &["a", "b"], &["webhook:ops"]);
        let heard = bench.deliver(&config, &store, receiver.heard(expected.len())).await;
        assert_eq!(heard, expected);
        let counts = store.outbox_counts().unwrap();
        assert_eq!((counts.pending, counts.dead), (0, 0));
        assert_eq!(bench.figure("notifications_delivered_total"), 2);
        assert_eq!(bench.figure("notification_failures_total"), answers.len() as u64);
    };
    let (a, b) = ("a firing", "b firing");
    check(&[], &[a, b]).await;
    check(&[Status(500)], &[a, a, b]).await;
    check(&[Status(503), Status(429), Status(408)], &[a, a, a, a, b]).await;
    check(&[Status(404), Status(301)], &[a, a, a, b]).await;
    check(&[Never], &[a, a, b]).await;
}

#[tokio::test]
async fn what_is_refused_dies_and_the_next_is_told() {
    let bench = Bench::new();
    // Trouble in between doesn't count as a refusal.
    let script = [Status(400), Status(500), Status(400), Status(400), Status(400), Status(400)];
    let mut receiver = Receiver::new(&script).await;
    let (store, config) = (bench.store(), receiver.config("ops", ""));
    bench.fire(&store, &["a", "b"], &["webhook:ops"]);
    let heard = bench.deliver(&config, &store, receiver.heard(7)).await;
    assert_eq!((heard[5].as_str(), heard[6].as_str()), ("a firing", "b firing"));
    let dead = store.dead_letters(10).unwrap();
    assert_eq!((dead.len(), dead[0].attempts), (1, 6));
    assert_eq!(dead[0].error, "400 Bad Request: so it is");
    assert_eq!(bench.figure("notifications_dead_total"), 1);
    assert_eq!(bench.figure("notifications_delivered_total"), 1);
}

#[tokio::test]
async fn one_that_hangs_holds_up_no_other() {
    let bench = Bench::new();
    let mut hung = Receiver::new(&[Never]).await;
    let mut well = Receiver::new(&[]).await;
    let config = hung.config("hung", "timeout = '1s'") + &well.config("well", "");
    let store = bench.store();
    bench.fire(&store, &["a", "b"], &["webhook:hung", "webhook:well"]);
    let heard = bench
        .deliver(&config, &store, async {
            hung.heard(1).await;
            well.heard(2).await
        })
        .await;
    assert_eq!(heard, ["a firing", "b firing"]);
    assert_eq!(store.outbox_counts().unwrap().pending, 2);
}

#[tokio::test]
async fn what_was_committed_before_a_crash_is_told_after_it_once() {
    let bench = Bench::new();
    let mut receiver = Receiver::new(&[]).await;
    let config = receiver.config("ops", "");
    bench.fire(&bench.store(), &["a"], &["webhook:ops"]);
    let store = bench.store();
    assert_eq!(bench.deliver(&config, &store, receiver.heard(1)).await, ["a firing"]);
    // Once more from the start: the evaluation finds the same transition, and something new.
    let store = bench.store();
    bench.fire(&store, &["a", "b"], &["webhook:ops"]);
    assert_eq!(bench.deliver(&config, &store, receiver.heard(1)).await, ["b firing"]);
    assert!(receiver.requests.is_empty());
}

#[tokio::test]
async fn a_crash_before_the_mark_repeats_with_the_same_key() {
    let bench = Bench::new();
    let mut receiver = Receiver::new(&[]).await;
    let config = receiver.config("ops", "");
    let store = bench.store();
    bench.fire(&store, &["a"], &["webhook:ops"]);
    let notifiers = Notifier::all(&toml::from_str(&config).unwrap()).unwrap();
    let delivery = store.next_delivery("webhook:ops").unwrap().unwrap();
    let sender = notifiers.iter().find(|notifier| notifier.name() == "webhook:ops").unwrap();
    sender.send(&delivery.notification).await.unwrap();
    let first = receiver.requests.recv().await.unwrap();
    let second = bench.deliver(&config, &store, receiver.requests.recv()).await.unwrap();
    assert_eq!(first.headers["idempotency-key"], second.headers["idempotency-key"]);
    assert_eq!(first.body, second.body);
}

#[tokio::test]
async fn nobody_at_home_is_tried_until_it_is_too_late() {
    let bench = Bench::new();
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let config = format!("[webhooks.ops]\nurl = 'http://{closed}/hidden'\ngive_up_after = '1h'\n");
    let store = bench.store();
    bench.fire(&store, &["a"], &["webhook:ops"]);
    let tried = || bench.figure("notification_failures_total") >= 3;
    bench.deliver(&config, &store, until(tried)).await;
    assert_eq!(store.outbox_counts().unwrap().pending, 1);
    bench.now_ms.store(3_600_001, SeqCst);
    let dead = || bench.figure("notifications_dead_total") == 1;
    bench.deliver(&config, &store, until(dead)).await;
    let error = store.dead_letters(1).unwrap().remove(0).error;
    assert!(error.contains("refused") && !error.contains("hidden"), "{error}");
}

#[tokio::test]
async fn requests_carry_what_is_configured() {
    let bench = Bench::new();
    let mut receiver = Receiver::new(&[]).await;
    let keys = "token = 'sesame'\nheaders = { X-Team = 'ops' }\nformat = 'slack'";
    let (store, config) = (bench.store(), receiver.config("chat", keys));
    bench.fire(&store, &["a"], &["webhook:chat", "log"]);
    let request = bench.deliver(&config, &store, receiver.requests.recv()).await.unwrap();
    let header = |name: &str| request.headers[name].to_str().unwrap().to_owned();
    assert_eq!(header("authorization"), "Bearer sesame");
    assert_eq!(header("x-team"), "ops");
    assert_eq!(header("content-type"), "application/json");
    assert!(header("idempotency-key").ends_with("-firing-webhook:chat"));
    assert!(request.body["text"].as_str().unwrap().starts_with("[FIRING] a on web-1"));
}

#[tokio::test]
async fn a_receiver_says_when_to_come_again() {
    let bench = Bench::new();
    let receiver = Receiver::new(&[Later { seconds: 7 }]).await;
    let store = bench.store();
    bench.fire(&store, &["a"], &["webhook:ops"]);
    let config = toml::from_str(&receiver.config("ops", "")).unwrap();
    let delivery = store.next_delivery("webhook:ops").unwrap().unwrap();
    let sent = Notifier::all(&config).unwrap().remove(1).send(&delivery.notification).await;
    let Err(SendError::Transient { reason, retry_after }) = sent else { panic!("{sent:?}") };
    assert_eq!(reason, "429 Too Many Requests");
    assert_eq!(retry_after, Some(Duration::from_secs(7)));
}

#[tokio::test]
async fn what_is_queued_while_it_runs_is_told_by_all() {
    let bench = Bench::new();
    let mut receiver = Receiver::new(&[]).await;
    let (store, config) = (bench.store(), receiver.config("ops", ""));
    let told = async {
        bench.fire(&store, &["a"], &["webhook:ops", "log"]);
        let first = receiver.heard(1).await;
        bench.fire(&store, &["b"], &["webhook:ops", "log"]);
        let second = receiver.heard(1).await;
        until(|| bench.figure("notifications_delivered_total") == 4).await;
        [first, second].concat()
    };
    assert_eq!(bench.deliver(&config, &store, told).await, ["a firing", "b firing"]);
    assert_eq!(store.outbox_counts().unwrap().pending, 0);
}

#[tokio::test]
async fn what_waits_for_a_notifier_that_is_gone_is_given_up() {
    let bench = Bench::new();
    let store = bench.store();
    bench.fire(&store, &["a"], &["webhook:old", "log"]);
    let dead = || store.outbox_counts().unwrap().dead == 1;
    bench.deliver("[log]\nenabled = true\n", &store, until(dead)).await;
    assert_eq!(store.dead_letters(1).unwrap()[0].notifier, "webhook:old");
}

#[test]
fn a_certificate_store_is_not_needed_without_tls_and_the_provider_is_installed_twice() {
    let config =
        "[webhooks.a]\nurl = 'http://example.org'\n[webhooks.b]\nurl = 'http://example.org'\n";
    let notifiers = Notifier::all(&toml::from_str(config).unwrap()).unwrap();
    let names: Vec<_> = notifiers.iter().map(Notifier::name).collect();
    assert_eq!(names, ["log", "webhook:a", "webhook:b"]);
}
