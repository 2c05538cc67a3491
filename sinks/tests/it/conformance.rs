//! What every sink does alike, whatever its far side is.

use std::{
    fs,
    io::{self, Write},
    path::Path,
    sync::{Arc, Mutex},
};

use agent_core::{Batch, Sink, SinkError};
use sinks::{FileConfig, FileSink, Format, StdoutSink};
use wire::{Kind, SchemaId, Tick};

use crate::{fixture, hub};

/// A sink, how to make another one to the same far side, and what that holds.
struct Subject {
    name: &'static str,
    /// Whether the far side remembers beyond the sink.
    durable: bool,
    make: Box<dyn Fn() -> Box<dyn Sink>>,
    held: Box<dyn Fn() -> Vec<u64>>,
}

async fn subjects(directory: &Path) -> Vec<Subject> {
    vec![http().await, file(directory), stdout()]
}

async fn http() -> Subject {
    let (hub, url) = hub::Hub::start().await;
    Subject {
        name: "http",
        durable: true,
        make: Box::new(move || Box::new(hub::sink(&url))),
        held: Box::new(move || hub.held(fixture::STREAM)),
    }
}

fn file(directory: &Path) -> Subject {
    let path = directory.join("m.jsonl");
    let config = FileConfig::new(&path);
    Subject {
        name: "file",
        durable: true,
        make: Box::new(move || Box::new(FileSink::new(config.clone()).unwrap())),
        held: Box::new(move || seqs(&fs::read(&path).unwrap_or_default())),
    }
}

/// What a pipe's reader has read.
#[derive(Clone, Default)]
struct Pipe(Arc<Mutex<Vec<u8>>>);

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn stdout() -> Subject {
    let pipe = Pipe::default();
    let read = pipe.clone();
    Subject {
        name: "stdout",
        durable: false,
        make: Box::new(move || Box::new(StdoutSink::new(pipe.clone(), Format::Json, None))),
        held: Box::new(move || seqs(&read.0.lock().unwrap())),
    }
}

fn seqs(text: &[u8]) -> Vec<u64> {
    let values = serde_json::Deserializer::from_slice(text).into_iter::<serde_json::Value>();
    values.map(|value| value.unwrap()["seq"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn batches_arrive_in_order_and_once_however_often_they_are_given() {
    let directory = tempfile::tempdir().unwrap();
    for Subject { name, make, held, .. } in subjects(directory.path()).await {
        let mut sink = make();
        for (batch, acked, after) in [
            (fixture::ticks(1..=3), 3, 3),
            (fixture::ticks(1..=3), 3, 3),
            (fixture::ticks(2..=5), 5, 5),
            (fixture::ticks([1]), 1, 5),
            (fixture::ticks([6]), 6, 6),
            (fixture::batch(vec![fixture::gap_record(7), fixture::tick_record(8)]), 8, 8),
        ] {
            // the far side may know more already, never less, and never more than it holds
            let said = sink.send(&batch).await.unwrap();
            assert!((acked..=after).contains(&said), "{name}: {said}");
            assert_eq!(held(), (1..=after).collect::<Vec<_>>(), "{name}");
        }
        sink.close().await;
    }
}

#[tokio::test]
async fn numbers_may_jump_and_begin_anywhere() {
    let directory = tempfile::tempdir().unwrap();
    for Subject { name, make, held, .. } in subjects(directory.path()).await {
        let mut sink = make();
        assert_eq!(sink.send(&fixture::ticks([100, 105])).await.unwrap(), 105, "{name}");
        assert_eq!(sink.send(&fixture::ticks([105, 200])).await.unwrap(), 200, "{name}");
        assert_eq!(held(), [100, 105, 200], "{name}");
    }
}

#[tokio::test]
async fn what_is_durable_is_not_doubled_by_a_new_process() {
    let directory = tempfile::tempdir().unwrap();
    for Subject { name, durable, make, held } in subjects(directory.path()).await {
        assert_eq!(make().send(&fixture::ticks(1..=3)).await.unwrap(), 3, "{name}");
        if durable {
            assert_eq!(make().send(&fixture::ticks(2..=4)).await.unwrap(), 4, "{name}");
            assert_eq!(held(), [1, 2, 3, 4], "{name}");
        }
    }
}

#[tokio::test]
async fn a_batch_fits_what_the_sink_says_it_takes() {
    let directory = tempfile::tempdir().unwrap();
    for Subject { name, make, .. } in subjects(directory.path()).await {
        let limits = make().limits();
        assert!(
            limits.records > 0 && limits.records <= wire::limits::REQUEST_RECORDS_MAX,
            "{name}"
        );
        let most = wire::limits::REQUEST_DECODED_BYTES_MAX / 2;
        assert!(limits.bytes > 0 && limits.bytes <= most, "{name}");
    }
}

/// One record can't be taken: it is named, the ones around it arrive once a gap stands for it.
async fn check_rejected(damage: impl Fn(&mut Batch), expected: &str) {
    let directory = tempfile::tempdir().unwrap();
    for Subject { name, make, held, .. } in subjects(directory.path()).await {
        let mut sink = make();
        let mut batch = fixture::ticks(1..=5);
        damage(&mut batch);
        match sink.send(&batch).await {
            Err(SinkError::Rejected { seq: 3, reason }) => {
                assert!(reason.contains(expected), "{name}: {reason}");
            }
            other => panic!("{name}: {other:?}"),
        }
        batch.records[2] = fixture::gap_record(3);
        assert_eq!(sink.send(&batch).await.unwrap(), 5, "{name}");
        assert_eq!(held(), [1, 2, 3, 4, 5], "{name}");
    }
}

#[tokio::test]
async fn a_damaged_record_is_rejected_by_its_number() {
    check_rejected(|batch| batch.records[2].bytes[40] ^= 1, "checksum mismatch").await;
    check_rejected(
        |batch| batch.records[2] = fixture::record(3, Kind::Metrics, b"\xff"),
        "malformed tick",
    )
    .await;
}

#[tokio::test]
async fn a_record_without_its_schema_is_rejected_by_its_number() {
    let payload = Tick::encode(0, &[(SchemaId([9; 8]), &[1.0])]);
    let orphan = fixture::record(3, Kind::Metrics, &payload);
    check_rejected(|batch| batch.records[2] = orphan.clone(), "schema 0909090909090909").await;
}
