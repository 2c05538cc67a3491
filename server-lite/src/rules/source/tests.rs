use std::{sync::Mutex, task::Poll};

use tempfile::TempDir;
use wire::AgentId;

use super::*;
use crate::{
    rules::{
        Rule,
        alert::Phase,
        alert_store::{AlertStore, FILE},
        runner::{INTERVAL_DEFAULT, Parts, Runner, STALE_AFTER_DEFAULT},
    },
    store::{
        Embedded, Store as _,
        conformance::{FakeAgent, schema, tick, time_of, value_of},
        embedded::Options,
    },
};

/// A store in which three hosts have each sent the first `ticks` records of three series.
async fn store_of(dir: &TempDir, ticks: u64) -> Arc<Embedded> {
    let store = Embedded::open(&Options::new(dir.path())).unwrap();
    let schema = schema("load", 3);
    for agent in 1..=3 {
        let records: Vec<_> = (1..=ticks).map(|seq| tick(seq, &schema)).collect();
        FakeAgent::new(agent, agent, &[&schema]).send(&store, &records).await;
    }
    Arc::new(store)
}

fn rule(keys: &str) -> Rule {
    toml::from_str(&format!("name = 'busy'\nmetric = 'load'\nop = '>'\nthreshold = 9\n{keys}"))
        .unwrap()
}

#[tokio::test]
async fn a_store_answers_what_a_rule_asks() {
    let dir = TempDir::new().unwrap();
    let source = StoreSource::new(store_of(&dir, 10).await);
    let check = async |keys: &str, first: u64, last: u64, expected: &[(u8, &str)]| {
        let rule = rule(keys);
        let (from_ms, to_ms) = (time_of(first), time_of(last));
        let query = Query { selector: &rule.selector, from_ms, to_ms };
        let mut found = source.samples(query).await.unwrap().series;
        found.sort_by(|a, b| a.key.cmp(&b.key));
        let names: Vec<_> = found
            .iter()
            .map(|one| (one.key.agent_id.as_bytes()[0], one.key.labels["n"].as_str()))
            .collect();
        assert_eq!(names, expected, "{keys}");
        for one in found {
            let series: usize = one.key.labels["n"].parse().unwrap();
            let samples: Vec<_> =
                (first..=last.min(10)).map(|seq| (time_of(seq), value_of(seq, series))).collect();
            assert_eq!((one.samples, one.kind), (samples, MetricKind::Gauge));
            assert_eq!(one.host, format!("host-{}", one.key.agent_id.as_bytes()[0]));
        }
    };
    check("hosts = ['host-2']", 3, 7, &[(2, "0"), (2, "1"), (2, "2")]).await;
    check("labels = { n = '1' }", 1, 99, &[(1, "1"), (2, "1"), (3, "1")]).await;
    check("labels = { n = '1' }\nhosts = ['*-[13]']", 1, 99, &[]).await;
    check("labels = { n = '' }", 1, 99, &[]).await;
    check("", 11, 99, &[]).await;
}

#[tokio::test]
async fn what_an_agent_sends_makes_a_rule_fire() {
    let dir = TempDir::new().unwrap();
    let source = StoreSource::new(store_of(&dir, 10).await);
    let alerts = AlertStore::open(&dir.path().join(FILE)).unwrap();
    let now_ms = Arc::new(Mutex::new(0));
    let clock = Arc::clone(&now_ms);
    let mut runner = Runner::new(Parts {
        rules: vec![rule("labels = { n = '2' }\nhosts = ['host-[12]', 'host-2']")],
        source: Arc::new(source),
        store: alerts.clone(),
        notifiers: vec!["log".to_owned()],
        clock: Arc::new(move || *clock.lock().unwrap()),
        metrics: Arc::default(),
        leads: Arc::new(|| true),
        interval: INTERVAL_DEFAULT,
        stale_after: STALE_AFTER_DEFAULT,
    });
    *now_ms.lock().unwrap() = time_of(10) + 3_000;
    runner.round().await;
    let states = alerts.load().unwrap();
    let firing: Vec<_> = states.iter().collect();
    let [(_, series, alert)] = firing.as_slice() else { panic!("{firing:?}") };
    assert_eq!(series.agent_id, AgentId::from_bytes([2; 16]));
    let Phase::Firing(incident) = &alert.phase else { panic!("{alert:?}") };
    assert_eq!((incident.started_ms, incident.value), (time_of(10), value_of(10, 2)));
    let told = alerts.next_delivery("log").unwrap().unwrap().notification;
    assert_eq!((told.host.as_str(), told.labels["n"].as_str()), ("host-2", "2"));
}

#[tokio::test]
async fn one_unreadable_block_costs_the_host_it_hits_and_no_other() {
    let dir = TempDir::new().unwrap();
    let store = store_of(&dir, 10).await;
    let source = StoreSource::new(store.apart());
    let connection = rusqlite::Connection::open(dir.path().join("hub.sqlite")).unwrap();
    let broken = "UPDATE head SET body = zeroblob(length(body)) WHERE id IN \
                  (SELECT s.id << 32 FROM streams s JOIN agents a ON a.id = s.agent \
                  WHERE a.hostname = 'host-2')";
    assert_eq!(connection.execute(broken, []).unwrap(), 1);
    let rule = rule("labels = { n = '1' }\nhosts = ['host-[12]', 'host-1', 'host-2']");
    let (from_ms, to_ms) = (time_of(1), time_of(99));
    let query = Query { selector: &rule.selector, from_ms, to_ms };
    let found = source.samples(query).await.unwrap();
    let read: Vec<_> = found.series.iter().map(|one| one.host.as_str()).collect();
    assert_eq!(read, ["host-1"]);
    let unread: Vec<_> = found.unread.values().collect();
    let [unread] = unread.as_slice() else { panic!("{unread:?}") };
    assert_eq!(unread.host, "host-2");
    assert!(unread.reason.starts_with("damaged Head"), "{}", unread.reason);
    let elsewhere: Vec<_> = found.elsewhere.values().collect();
    assert_eq!(elsewhere, ["host-3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_do_not_hold_up_rules() {
    let dir = TempDir::new().unwrap();
    let options = Options { readers: 1, ..Options::new(dir.path()) };
    let store = Embedded::open(&options).unwrap();
    let schema = schema("load", 200);
    FakeAgent::new(1, 1, &[&schema]).send(&store, &[tick(1, &schema)]).await;
    let selector = store::Selector::metric("load");
    let series = store.series(selector).await.unwrap().iter().map(|one| one.id).collect();
    // A query whose reader is slow, and as many more as come: the only place is taken.
    let request = ReadRequest { series, from_ms: i64::MIN, to_ms: i64::MAX };
    let slow = store.read(request.clone()).await.unwrap();
    let mut waiting = Box::pin(store.read(request));
    let is_waiting = std::future::poll_fn(|cx| Poll::Ready(waiting.as_mut().poll(cx).is_pending()));
    assert!(is_waiting.await);
    let rule = rule("");
    let (from_ms, to_ms) = (time_of(1), time_of(99));
    let query = Query { selector: &rule.selector, from_ms, to_ms };
    let found = StoreSource::new(store.apart()).samples(query).await.unwrap();
    assert_eq!(found.series.len(), 200);
    drop(slow);
    drop(waiting.await.unwrap());
}
