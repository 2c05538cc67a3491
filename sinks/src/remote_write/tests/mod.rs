//! The sink against receivers of every manner.

mod receiver;

use std::{path::Path, rc::Rc, sync::Arc, time::Duration};

use agent_core::{Batch, Metric, Samples, Sink as _, SinkError, clock::SystemClock};
use remote_write::Version;
use wire::{EncodedSchema, Kind, Tick};

use self::receiver::{Manner, Receiver};
use super::{Protocol, RemoteWriteConfig, RemoteWriteSink};
use crate::fixture;

const LOAD: &str = "node_load1 instance=web-1 job=node";
const MANNERS: [Manner; 3] = [Manner::AllOrNothing, Manner::Partly, Manner::Anything];

fn config() -> RemoteWriteConfig {
    RemoteWriteConfig {
        instance: "web-1".into(),
        ..RemoteWriteConfig::new("http://receiver/write")
    }
}

fn sink_with(receiver: &Receiver, config: RemoteWriteConfig) -> RemoteWriteSink {
    RemoteWriteSink::over(receiver.clone(), config, Rc::new(SystemClock)).unwrap()
}

fn sink(receiver: &Receiver) -> RemoteWriteSink {
    sink_with(receiver, config())
}

/// A sink that remembers in `directory`.
fn life(receiver: &Receiver, directory: &Path) -> RemoteWriteSink {
    let state_file = Some(directory.join("x.sent"));
    sink_with(receiver, RemoteWriteConfig { state_file, ..config() })
}

fn says(result: &Result<u64, SinkError>) -> String {
    match result {
        Ok(seq) => format!("acked {seq}"),
        Err(SinkError::Rejected { seq, .. }) => format!("rejected {seq}"),
        Err(SinkError::Transient { retry_after, .. }) => {
            format!("transient {}", retry_after.unwrap_or_default().as_secs())
        }
        Err(other) => format!("{other:?}"),
    }
}

#[track_caller]
fn check(result: &Result<u64, SinkError>, expected: &str) {
    assert_eq!(says(result), expected, "{result:?}");
}

#[tokio::test]
async fn ticks_arrive_as_series_and_gaps_not_at_all() {
    for manner in MANNERS {
        let receiver = Receiver::new(manner);
        let mut sink = sink(&receiver);
        check(&sink.send(&fixture::ticks(1..=3)).await, "acked 3");
        check(&sink.send(&fixture::batch(vec![fixture::gap_record(4)])).await, "acked 4");
        check(&sink.send(&fixture::ticks([5])).await, "acked 5");
        assert_eq!(receiver.held(LOAD), "1:0.01 2:0.02 3:0.03 5:0.05");
        let idle = "node_cpu_seconds_total cpu=0 instance=web-1 job=node mode=idle";
        assert_eq!(receiver.held(idle), "1:10 2:20 3:30 5:50");
        let store = receiver.store.borrow();
        assert_eq!(store.series.len(), 3);
        // one request a tick
        assert_eq!(store.requests, [(Version::V2, 3); 4]);
        assert_eq!(store.last_headers["x-prometheus-remote-write-version"], "2.0.0");
        assert_eq!(store.last_headers["content-encoding"], "snappy");
    }
}

#[tokio::test]
async fn the_version_that_the_receiver_speaks() {
    use Version::{V1, V2};
    let check = async |protocol, v1_says, expected: Result<&[Version], &str>| {
        let receiver = Receiver::new(Manner::AllOrNothing);
        receiver.store.borrow_mut().v1_says = v1_says;
        let mut sink = sink_with(&receiver, RemoteWriteConfig { protocol, ..config() });
        let sent = sink.send(&fixture::ticks(1..=2)).await;
        match expected {
            Ok(versions) => {
                assert_eq!(sent.unwrap(), 2, "{protocol:?} {v1_says:?}");
                let store = receiver.store.borrow();
                let found: Vec<_> = store.requests.iter().map(|(version, _)| *version).collect();
                assert_eq!(found, versions, "{protocol:?} {v1_says:?}");
            }
            Err(expected) => {
                let Err(SinkError::Refused { reason }) = sent else { panic!("{sent:?}") };
                assert!(reason.contains(expected), "{reason}");
            }
        }
    };
    check(Protocol::Auto, None, Ok(&[V2, V2])).await;
    check(Protocol::V2, None, Ok(&[V2, V2])).await;
    check(Protocol::V1, None, Ok(&[V1, V1])).await;
    // old receivers take it for an empty message, say what it is, or find it bad
    for status in [204, 415, 400] {
        check(Protocol::Auto, Some(status), Ok(&[V1, V1])).await;
        check(Protocol::V1, Some(status), Ok(&[V1, V1])).await;
    }
    check(Protocol::V2, Some(204), Err("doesn't understand remote write 2.0")).await;
    check(Protocol::V2, Some(415), Err("doesn't understand remote write 2.0")).await;
}

/// A `kill -9` in the middle of a backlog: the cursor is where it was, everything goes again.
#[tokio::test]
async fn what_was_sent_before_a_crash_is_neither_doubled_nor_told_as_lost() {
    for manner in MANNERS {
        for protocol in [Protocol::V1, Protocol::V2] {
            let directory = tempfile::tempdir().unwrap();
            let receiver = Receiver::new(manner);
            let make = || {
                let state_file = Some(directory.path().join("x.sent"));
                sink_with(&receiver, RemoteWriteConfig { state_file, protocol, ..config() })
            };
            check(&make().send(&fixture::ticks(1..=5)).await, "acked 5");
            check(&make().send(&fixture::ticks(1..=7)).await, "acked 7");
            // and again before it had caught up with the first life
            check(&make().send(&fixture::ticks(1..=2)).await, "acked 2");
            check(&make().send(&fixture::ticks(3..=9)).await, "acked 9");
            let expected: Vec<_> = (1..=9).map(|n| format!("{n}:0.0{n}")).collect();
            assert_eq!(receiver.held(LOAD), expected.join(" "), "{manner:?} {protocol:?}");
        }
    }
}

#[tokio::test]
async fn what_is_too_old_for_the_receiver_is_told_and_the_rest_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::new(Manner::AllOrNothing);
    check(&life(&receiver, directory.path()).send(&fixture::ticks(1..=2)).await, "acked 2");
    receiver.store.borrow_mut().not_before_s = 5;
    // the life after an outage: 1 and 2 were sent before, 3 and 4 never were
    let mut sink = life(&receiver, directory.path());
    check(&sink.send(&fixture::ticks(1..=6)).await, "acked 2");
    check(&sink.send(&fixture::ticks(3..=6)).await, "rejected 3");
    let replaced = |seq| {
        let mut batch = fixture::ticks(seq..=6);
        batch.records[0] = fixture::gap_record(seq);
        batch
    };
    check(&sink.send(&replaced(3)).await, "acked 3");
    check(&sink.send(&fixture::ticks(4..=6)).await, "rejected 4");
    check(&sink.send(&replaced(4)).await, "acked 6");
    assert_eq!(receiver.held(LOAD), "1:0.01 2:0.02 5:0.05 6:0.06");
}

#[tokio::test]
async fn a_lost_reply_doubles_nothing() {
    for manner in MANNERS {
        let receiver = Receiver::new(manner);
        let mut sink = sink(&receiver);
        receiver.store.borrow_mut().script.push_back(None);
        check(&sink.send(&fixture::ticks(1..=2)).await, "transient 0");
        check(&sink.send(&fixture::ticks(1..=2)).await, "acked 2");
        assert_eq!(receiver.held(LOAD), "1:0.01 2:0.02", "{manner:?}");
    }
}

/// What the receiver has taken is acknowledged first; then it is waited for as long as it said.
#[tokio::test]
async fn a_busy_receiver_is_waited_for() {
    let receiver = Receiver::new(Manner::AllOrNothing);
    let mut sink = sink(&receiver);
    check(&sink.send(&fixture::ticks([1])).await, "acked 1");
    receiver.store.borrow_mut().script.push_back(Some((429, "7")));
    check(&sink.send(&fixture::ticks([2])).await, "transient 7");
    receiver.store.borrow_mut().v1_says = Some(503);
    check(&sink.send(&fixture::ticks([2])).await, "transient 0");
    receiver.store.borrow_mut().v1_says = None;
    check(&sink.send(&fixture::ticks(2..=3)).await, "acked 3");

    let mut batch = fixture::ticks(4..=6);
    batch.records[1] = fixture::record(5, Kind::Metrics, b"\xff");
    check(&sink.send(&batch).await, "acked 4");
    let requests = receiver.store.borrow().requests.len();
    batch.records.remove(0);
    check(&sink.send(&batch).await, "rejected 5");
    assert_eq!(receiver.store.borrow().requests.len(), requests, "nothing was sent for that");
}

#[tokio::test]
async fn a_tick_that_is_too_large_goes_in_parts() {
    for max in [1, 2] {
        let receiver = Receiver::new(Manner::AllOrNothing);
        receiver.store.borrow_mut().samples_max = max;
        check(&sink(&receiver).send(&fixture::ticks(1..=2)).await, "acked 2");
        assert_eq!(receiver.store.borrow().series.len(), 3);
        assert_eq!(receiver.held(LOAD), "1:0.01 2:0.02");
    }
    let receiver = Receiver::new(Manner::AllOrNothing);
    receiver.store.borrow_mut().samples_max = 0;
    check(&sink(&receiver).send(&fixture::ticks([1])).await, "rejected 1");
    let receiver = Receiver::new(Manner::AllOrNothing);
    let config = RemoteWriteConfig { max_samples_per_request: 2, ..config() };
    check(&sink_with(&receiver, config).send(&fixture::ticks([1])).await, "acked 1");
    assert_eq!(receiver.store.borrow().requests, [(Version::V2, 2), (Version::V2, 1)]);
}

fn devices(devices: &[&str]) -> Arc<EncodedSchema> {
    let mut samples = Samples::new("disk");
    for device in devices {
        samples.push(&Metric::gauge("disk", ""), &[("device", device)], 0.0);
    }
    Arc::clone(samples.finish().0)
}

/// Ticks of schemas with all values 1, from record 1 on, ten seconds apart.
fn ticks_of(all: &[&[&Arc<EncodedSchema>]]) -> Batch {
    let mut batch = fixture::batch(Vec::new());
    let mut schemas = (*batch.schemas).clone();
    for (at, tick) in all.iter().enumerate() {
        schemas.extend(tick.iter().map(|schema| (schema.id, Arc::clone(schema))));
        let values: Vec<_> =
            tick.iter().map(|schema| vec![1.0; schema.schema.series.len()]).collect();
        let blocks: Vec<_> =
            tick.iter().zip(&values).map(|(schema, values)| (schema.id, &values[..])).collect();
        let payload = Tick::encode(at as i64 * 10_000, &blocks);
        batch.records.push(fixture::record(at as u64 + 1, Kind::Metrics, &payload));
    }
    batch.schemas = Arc::new(schemas);
    batch
}

#[tokio::test]
async fn series_that_end_are_marked_in_their_next_tick() {
    let (both, one, none) = (devices(&["a", "b"]), devices(&["a"]), devices(&[]));
    let load = fixture::load_schema();
    for protocol in [Protocol::V1, Protocol::V2] {
        let receiver = Receiver::new(Manner::AllOrNothing);
        let mut sink = sink_with(&receiver, RemoteWriteConfig { protocol, ..config() });
        let batch = ticks_of(&[
            &[&both, &load],
            &[&one, &load],
            &[&one, &load],
            &[&both, &load],
            &[&load],
            &[&load],
            &[&none, &load],
        ]);
        check(&sink.send(&batch).await, "acked 7");
        let held = |device| receiver.held(&format!("disk device={device} instance=web-1 job=node"));
        assert_eq!(held("a"), "0:1 10:1 20:1 30:1 40:stale");
        assert_eq!(held("b"), "0:1 10:stale 30:1 40:stale");
        assert_eq!(receiver.held(LOAD), "0:1 10:1 20:1 30:1 40:1 50:1 60:1");
    }
}

/// A marker isn't forgotten when the tick that brings it has to be sent again.
#[tokio::test]
async fn a_marker_waits_until_it_is_taken() {
    let (both, one) = (devices(&["a", "b"]), devices(&["a"]));
    let receiver = Receiver::new(Manner::AllOrNothing);
    let mut sink = sink(&receiver);
    let all = ticks_of(&[&[&both], &[&one], &[&one]]);
    let tick = |at: usize| Batch { records: vec![all.records[at].clone()], ..all.clone() };
    check(&sink.send(&tick(0)).await, "acked 1");
    receiver.store.borrow_mut().script.extend([Some((503, "")), None]);
    check(&sink.send(&tick(1)).await, "transient 0");
    check(&sink.send(&tick(1)).await, "transient 0");
    check(&sink.send(&tick(1)).await, "acked 2");
    check(&sink.send(&tick(2)).await, "acked 3");
    assert_eq!(receiver.held("disk device=b instance=web-1 job=node"), "0:1 10:stale");
}

#[tokio::test]
async fn a_slow_collector_ends_only_when_it_was_due() {
    let (slow, load) = (devices(&["a"]), fixture::load_schema());
    let receiver = Receiver::new(Manner::AllOrNothing);
    let intervals = [("disk".to_owned(), Duration::from_secs(20))].into();
    let mut sink = sink_with(&receiver, RemoteWriteConfig { intervals, ..config() });
    let batch = ticks_of(&[&[&slow, &load], &[&load], &[&slow, &load], &[&load], &[&load]]);
    check(&sink.send(&batch).await, "acked 5");
    assert_eq!(receiver.held("disk device=a instance=web-1 job=node"), "0:1 20:1 40:stale");
}

/// Two values at one time would be refused with everything else of the tick.
#[tokio::test]
async fn a_series_that_comes_twice_in_a_tick_is_sent_once() {
    let mut samples = Samples::new("other");
    samples.push(&Metric::gauge("node_load1", ""), &[], 0.0);
    let other = Arc::clone(samples.finish().0);
    let receiver = Receiver::new(Manner::AllOrNothing);
    let batch = ticks_of(&[&[&fixture::load_schema(), &other]]);
    check(&sink(&receiver).send(&batch).await, "acked 1");
    assert_eq!(receiver.store.borrow().requests, [(Version::V2, 1)]);
}
