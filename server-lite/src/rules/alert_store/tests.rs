mod shared;

use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use crate::{
    notify::message::tests::incident,
    rules::alert::{Alert, AlertStates, Change, End, EndReason, Incident, Phase, Transition},
};

const NOW: i64 = 1_000_000;

fn open(dir: &TempDir) -> AlertStore {
    AlertStore::open(&dir.path().join(FILE)).unwrap()
}

fn names(notifiers: &[&str]) -> Vec<String> {
    notifiers.iter().map(|name| (*name).to_owned()).collect()
}

fn alert(incident: &Incident, phase: Phase) -> Alert {
    Alert {
        host: incident.host.clone(),
        since_ms: incident.since_ms,
        seen_ms: incident.started_ms,
        value: incident.value,
        unknown_since_ms: Some(7),
        phase,
    }
}

fn change(incident: &Incident, phase: Option<Phase>, transition: Option<Transition>) -> Change {
    Change {
        rule: incident.rule.clone(),
        series: incident.series.clone(),
        after: phase.map(|phase| alert(incident, phase)),
        transition,
    }
}

fn pending(rule: &str) -> Change {
    change(&incident(rule, 500), Some(Phase::Pending { held_ms: 42 }), None)
}

fn fired(rule: &str) -> Change {
    let incident = incident(rule, 500);
    let phase = Phase::Firing(Box::new(incident.clone()));
    change(&incident.clone(), Some(phase), Some(Transition::Fired(incident)))
}

fn resolved(rule: &str, ended_ms: i64) -> Change {
    let incident = incident(rule, 500);
    let end =
        End { ended_ms, value: 1.0, reason: EndReason::Recovered, summary: "fine".to_owned() };
    change(&incident.clone(), None, Some(Transition::Resolved(incident, end)))
}

/// Keys that wait for a notifier, in order; delivers them.
fn drain(store: &AlertStore, notifier: &str) -> Vec<String> {
    let mut keys = Vec::new();
    while let Some(delivery) = store.next_delivery(notifier).unwrap() {
        keys.push(delivery.notification.id);
        store.mark_delivered(delivery.id, NOW).unwrap();
    }
    keys
}

fn key(rule: &str, state: &str, notifier: &str) -> String {
    format!("{}-{state}-{notifier}", incident(rule, 500).id)
}

/// Opens what a test is about, once more if it is open.
type Open<'a> = &'a dyn Fn() -> AlertStore;
/// Each has to hold wherever it is kept.
const EITHER: [fn(Open<'_>); 6] = [
    states_survive_a_restart,
    the_same_transition_is_queued_once_for_each_notifier,
    infinite_values_are_kept,
    failures_are_counted_and_the_dead_are_kept,
    what_waits_for_nobody_is_given_up,
    history_tells_of_begin_and_end_until_it_is_old,
];

#[test]
fn a_file_does_what_it_has_to() {
    for test in EITHER {
        let dir = TempDir::new().unwrap();
        test(&|| open(&dir));
    }
}

fn states_survive_a_restart(open: Open<'_>) {
    let changes = vec![pending("a"), fired("b"), fired("c")];
    open().commit(&changes, &names(&["log"]), NOW).unwrap();
    let mut expected = AlertStates::default();
    expected.apply(changes);
    assert_eq!(open().load().unwrap(), expected);
    let store = open();
    store.commit(&[resolved("b", 900), fired("a")], &[], NOW).unwrap();
    expected.apply(vec![resolved("b", 900), fired("a")]);
    assert_eq!(open().load().unwrap(), expected);
}

fn the_same_transition_is_queued_once_for_each_notifier(open: Open<'_>) {
    let store = open();
    let notifiers = names(&["log", "webhook:ops"]);
    assert_eq!(store.commit(&[fired("a")], &notifiers, NOW).unwrap(), 2);
    assert_eq!(store.commit(&[fired("a")], &notifiers, NOW).unwrap(), 0);
    assert_eq!(drain(&store, "log"), [key("a", "firing", "log")]);
    assert_eq!(store.commit(&[fired("a")], &notifiers, NOW).unwrap(), 0);
    assert_eq!(store.commit(&[resolved("a", 900)], &notifiers, NOW).unwrap(), 2);
    drop(store);
    let store = open();
    assert_eq!(drain(&store, "log"), [key("a", "resolved", "log")]);
    let both = [key("a", "firing", "webhook:ops"), key("a", "resolved", "webhook:ops")];
    assert_eq!(drain(&store, "webhook:ops"), both);
    assert_eq!(store.outbox_counts().unwrap(), OutboxCounts::default());
}

#[test]
fn a_commit_is_whole_or_nothing() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let mut broken = pending("b");
    // No value is ever NaN; SQLite has no word for it, so it serves to make the last write fail.
    broken.after.as_mut().unwrap().value = f64::NAN;
    let error = store.commit(&[fired("a"), broken], &names(&["log"]), NOW).unwrap_err();
    assert!(error.to_string().starts_with("commit alerts to "), "{error}");
    assert_eq!(store.load().unwrap(), AlertStates::default());
    assert_eq!(store.next_delivery("log").unwrap(), None);
    assert_eq!(store.incidents(10).unwrap(), []);
}

fn infinite_values_are_kept(open: Open<'_>) {
    let store = open();
    let mut change = pending("a");
    change.after.as_mut().unwrap().value = f64::INFINITY;
    store.commit(std::slice::from_ref(&change), &[], NOW).unwrap();
    let states = store.load().unwrap();
    assert_eq!(states.of("a").get(&change.series), change.after.as_ref());
}

fn failures_are_counted_and_the_dead_are_kept(open: Open<'_>) {
    let store = open();
    store.commit(&[fired("a"), fired("b")], &names(&["log"]), NOW).unwrap();
    let first = store.next_delivery("log").unwrap().unwrap();
    store.mark_failed(first.id, "away", false).unwrap();
    store.mark_failed(first.id, "404", true).unwrap();
    let again = store.next_delivery("log").unwrap().unwrap();
    assert_eq!((again.id, again.attempts, again.refusals), (first.id, 2, 1));
    store.mark_dead(first.id, "404 again", NOW + 5).unwrap();
    assert_eq!(drain(&store, "log"), [key("b", "firing", "log")]);
    let counts = store.outbox_counts().unwrap();
    assert_eq!((counts.pending, counts.dead), (0, 1));
    let dead = store.dead_letters(10).unwrap().remove(0);
    assert_eq!((dead.attempts, dead.error.as_str(), dead.dead_ms), (3, "404 again", NOW + 5));
    assert_eq!(dead.notification, first.notification);
    // What is settled stays settled.
    store.mark_delivered(first.id, NOW).unwrap();
    assert_eq!(store.outbox_counts().unwrap().dead, 1);
}

fn what_waits_for_nobody_is_given_up(open: Open<'_>) {
    let store = open();
    store.commit(&[fired("a")], &names(&["log", "webhook:old"]), NOW).unwrap();
    assert_eq!(store.bury_unconfigured(&names(&["log", "webhook:new"]), NOW).unwrap(), 1);
    assert_eq!(store.dead_letters(10).unwrap()[0].notifier, "webhook:old");
    assert_eq!(drain(&store, "log"), [key("a", "firing", "log")]);
    assert_eq!(store.bury_unconfigured(&[], NOW).unwrap(), 0);
}

fn history_tells_of_begin_and_end_until_it_is_old(open: Open<'_>) {
    let store = open();
    store.commit(&[fired("a"), fired("b")], &names(&["log"]), NOW).unwrap();
    store.commit(&[resolved("a", 900)], &names(&["log"]), NOW).unwrap();
    let incidents = store.incidents(10).unwrap();
    let of = |rule: &str| incidents.iter().find(|incident| incident.rule == rule).unwrap();
    assert_eq!((of("a").ended_ms, of("a").end_reason.as_deref()), (Some(900), Some("recovered")));
    assert_eq!((of("b").ended_ms, of("b").started_ms), (None, 500));
    assert_eq!(store.incidents(1).unwrap().len(), 1);
    drain(&store, "log");
    let check = |now_ms: i64, removed: usize| {
        assert_eq!(store.prune(now_ms).unwrap(), removed, "at {now_ms}");
    };
    check(NOW + DELIVERED_KEPT_MS, 0);
    check(NOW + DELIVERED_KEPT_MS + 1, 3);
    check(900 + INCIDENTS_KEPT_MS, 0);
    check(900 + INCIDENTS_KEPT_MS + 1, 1);
    // What still fires is never old.
    check(i64::MAX / 2, 0);
    assert_eq!(store.incidents(10).unwrap()[0].rule, "b");
}

#[test]
fn a_file_that_is_not_ours_is_refused() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join(FILE);
    drop(open(&dir));
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let error = AlertStore::open(&path).unwrap_err().to_string();
    assert!(error.contains("has version 99, this hub reads up to 1"), "{error}");
    let other = dir.path().join("other.db");
    std::fs::write(&other, "not a database, but long enough to be taken for one".repeat(50))
        .unwrap();
    assert!(matches!(AlertStore::open(&other), Err(AlertStoreError::Database { .. })));
}
