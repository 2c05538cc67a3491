//! The log's asynchronous face, over the real log.

mod wal_support;

use std::sync::Arc;

use agent_core::wal::{LogHandle, OwnedRecord, Wal as _, WalError};
use wal_support::{ALL, fast_directory, open, payload, time_ms};
use wire::Kind;

fn record(tick: u64) -> Arc<OwnedRecord> {
    let (kind, time_ms, payload) = (Kind::Metrics, time_ms(tick), payload(tick, 500));
    Arc::new(OwnedRecord { kind, time_ms, samples: 3, payload, schemas: Vec::new() })
}

#[tokio::test]
async fn what_is_appended_is_announced_read_and_given_back() {
    let directory = fast_directory();
    let log = LogHandle::spawn(Box::new(open(directory.path()))).unwrap();
    assert_eq!(log.register("hub").await.unwrap(), 0);
    let mut appended = log.appended();
    let waiting = tokio::spawn(async move { appended.wait_for(|seq| *seq == 2).await.is_ok() });
    for tick in 1..=2 {
        assert_eq!(log.append(record(tick)).await.unwrap(), tick);
        assert_eq!(log.stats().last_seq, tick, "published before the answer");
    }
    assert!(waiting.await.unwrap());

    let batch = log.read("hub", ALL).await.unwrap().unwrap();
    assert_eq!((batch.records.len(), batch.stream_id), (2, log.stream_id()));
    log.acknowledge("hub", 2).await.unwrap();
    assert_eq!((log.stats().records, log.stats().oldest_ms), (0, None));
    assert!(log.read("hub", ALL).await.unwrap().is_none());
    let unknown = log.read("nobody", ALL).await;
    assert!(matches!(unknown, Err(WalError::UnknownSink(name)) if name == "nobody"));
}

#[tokio::test]
async fn an_acknowledgement_brings_what_follows() {
    let directory = fast_directory();
    let log = LogHandle::spawn(Box::new(open(directory.path()))).unwrap();
    log.register("hub").await.unwrap();
    for tick in 1..=3 {
        log.append(record(tick)).await.unwrap();
    }
    let follows = log.go_on("hub", 2, ALL).await.unwrap().unwrap().unwrap();
    assert_eq!(follows.records.iter().map(|record| record.seq).collect::<Vec<_>>(), [3]);
    assert!(log.go_on("hub", 3, ALL).await.unwrap().unwrap().is_none());
    assert_eq!(log.stats().records, 0);
    let unknown = log.go_on("nobody", 3, ALL).await;
    assert!(matches!(unknown, Err(WalError::UnknownSink(name)) if name == "nobody"));
}

#[tokio::test]
async fn closing_makes_cursors_durable_and_frees_the_log() {
    let directory = fast_directory();
    let log = LogHandle::spawn(Box::new(open(directory.path()))).unwrap();
    let other = log.clone();
    log.register("hub").await.unwrap();
    for tick in 1..=3 {
        log.append(record(tick)).await.unwrap();
    }
    log.acknowledge("hub", 2).await.unwrap();
    log.close().await.unwrap();
    assert!(matches!(other.append(record(4)).await, Err(WalError::Closed)));

    let log = LogHandle::spawn(Box::new(open(directory.path()))).unwrap();
    assert_eq!(*log.appended().borrow(), 3);
    assert_eq!(log.register("hub").await.unwrap(), 2);
    assert_eq!(log.retain_sinks(&[]).await.unwrap(), ["hub"]);
}

#[tokio::test]
async fn without_a_thread_the_future_answers() {
    let directory = fast_directory();
    let (log, serve) = LogHandle::local(Box::new(open(directory.path())));
    let other = log.clone();
    let ask = async move {
        log.register("hub").await.unwrap();
        for tick in 1..=3 {
            assert_eq!(log.append(record(tick)).await.unwrap(), tick);
        }
        assert_eq!(log.read("hub", ALL).await.unwrap().unwrap().records.len(), 3);
        log.acknowledge("hub", 2).await.unwrap();
        log.close().await.unwrap();
    };
    tokio::join!(serve, ask);
    assert!(matches!(other.append(record(4)).await, Err(WalError::Closed)));

    let (log, serve) = LogHandle::local(Box::new(open(directory.path())));
    assert_eq!(*log.appended().borrow(), 3);
    drop(serve);
    assert!(matches!(log.register("hub").await, Err(WalError::Closed)));
    assert_eq!(open(directory.path()).register("hub").unwrap(), 2, "the log went with the future");
}
