//! The write-ahead log, beside its floor in the same run: a bare append-only file of the same records,
//! with as many `fdatasync` calls.
//!
//! What lies on a disk and what a drain takes is in `benches/outage.rs`.

use std::{
    fs::{self, File},
    hint::black_box,
    io::{Read as _, Write as _},
    path::Path,
    time::Duration,
};

use agent_core::{
    BatchLimits,
    wal::{NewRecord, SledWal, Wal, WalOptions},
};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use wire::{Kind, envelope};
use xtask::workload::Host;

/// Series of a plain host's default collectors.
const SERIES: usize = 349;
const INTERVAL_MS: i64 = 10_000;
/// Nothing is dropped.
const MAX_BYTES: u64 = 1 << 30;
const MAX_AGE: Duration = Duration::from_secs(1 << 30);
/// Records that lie in the log when it is read.
const BACKLOG: u64 = 10_000;
/// What the HTTP sink asks for.
const LIMITS: BatchLimits = BatchLimits { records: 10_000, bytes: 1 << 20 };

fn host() -> Host {
    Host::new(1, SERIES, INTERVAL_MS)
}

fn open(directory: &Path) -> SledWal {
    let options = WalOptions { max_bytes: MAX_BYTES, max_age: MAX_AGE };
    let mut wal = SledWal::open(directory, options).expect("opens");
    wal.register("hub").expect("registers");
    wal
}

fn append(wal: &mut SledWal, host: &mut Host) -> u64 {
    let payload = host.tick();
    let record = NewRecord {
        kind: Kind::Metrics,
        time_ms: host.time_ms(),
        samples: SERIES as u64,
        payload: &payload,
        schemas: host.schemas(),
    };
    wal.append(&record).expect("appends")
}

/// A log with so many records, made where syncing costs nothing and copied to `to`.
fn filled(to: &Path, records: u64) {
    let memory = Path::new("/dev/shm");
    let aside = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let aside = aside.expect("temporary directory");
    let (mut wal, mut host) = (open(aside.path()), host());
    for _ in 0..records {
        append(&mut wal, &mut host);
    }
    drop(wal);
    copy(aside.path(), to);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("creates");
    for entry in fs::read_dir(from).expect("lists") {
        let path = entry.expect("lists").path();
        let target = to.join(path.file_name().expect("has a name"));
        if path.is_dir() { copy(&path, &target) } else { drop(fs::copy(&path, &target)) }
    }
}

fn appending(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append + sync");
    let directory = tempfile::tempdir().expect("temporary directory");
    group.bench_function("floor: bare file", |bencher| {
        let mut file = File::create(directory.path().join("bare")).expect("creates");
        let (mut host, mut seq) = (host(), 0);
        bencher.iter(|| {
            seq += 1;
            let bytes = envelope::encode(Kind::Metrics, seq, &host.tick()).expect("fits");
            file.write_all(&bytes).expect("writes");
            file.sync_data().expect("syncs");
        });
    });
    group.bench_function("log, the sink keeps up", |bencher| {
        let (mut wal, mut host) = (open(&directory.path().join("steady")), host());
        bencher.iter(|| {
            let seq = append(&mut wal, &mut host);
            wal.acknowledge("hub", seq).expect("acknowledges");
        });
    });
    group.bench_function("log, the sink is away", |bencher| {
        let (mut wal, mut host) = (open(&directory.path().join("backlog")), host());
        bencher.iter(|| append(&mut wal, &mut host));
    });
    group.finish();
}

/// Reads all that `sink` hasn't taken yet; how many records.
fn read_all(wal: &mut SledWal, sink: &str) -> u64 {
    let mut records = 0;
    while let Some(batch) = wal.read(sink, LIMITS).expect("reads") {
        records += black_box(&batch).records.len() as u64;
        let last_seq = batch.records.last().map_or(0, |record| record.seq);
        wal.acknowledge(sink, last_seq).expect("acknowledges");
    }
    records
}

fn read_bare(file: &Path) -> u64 {
    let mut bytes = Vec::new();
    File::open(file).and_then(|mut file| file.read_to_end(&mut bytes)).expect("reads");
    let (mut rest, mut records) = (bytes.as_slice(), 0);
    while !rest.is_empty() {
        let (found, after) = envelope::split_first(rest).expect("is whole");
        black_box(found);
        (rest, records) = (after, records + 1);
    }
    records
}

fn reading(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("read 10 000 records");
    group.throughput(Throughput::Elements(BACKLOG));
    group.sample_size(10);
    let directory = tempfile::tempdir().expect("temporary directory");
    let bare = directory.path().join("bare");
    let mut file = File::create(&bare).expect("creates");
    let mut host = host();
    for seq in 1..=BACKLOG {
        let bytes = envelope::encode(Kind::Metrics, seq, &host.tick()).expect("fits");
        file.write_all(&bytes).expect("writes");
    }
    group.bench_function("floor: bare file", |bencher| {
        bencher.iter(|| assert_eq!(read_bare(&bare), BACKLOG));
    });
    let path = directory.path().join("wal");
    filled(&path, BACKLOG);
    let mut wal = open(&path);
    group.bench_function("log", |bencher| {
        // Another sink reads each time: the hub's cursor keeps the records.
        let new_reader = || ();
        bencher.iter_batched(
            new_reader,
            |()| {
                wal.register("reader").expect("registers");
                assert_eq!(read_all(&mut wal, "reader"), BACKLOG);
                wal.retain_sinks(&["hub"]).expect("forgets");
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn acknowledging(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("acknowledge");
    let directory = tempfile::tempdir().expect("temporary directory");
    group.bench_function("floor: number in a bare file, synced", |bencher| {
        use std::os::unix::fs::FileExt as _;
        let file = File::create(directory.path().join("bare")).expect("creates");
        let mut seq = 0_u64;
        bencher.iter(|| {
            seq += 1;
            file.write_all_at(&seq.to_le_bytes(), 0).expect("writes");
            file.sync_data().expect("syncs");
        });
    });
    let path = directory.path().join("wal");
    filled(&path, BACKLOG);
    let mut wal = open(&path);
    let mut next = 0;
    let mut acknowledge_next = |wal: &mut SledWal| {
        next += 1;
        if next > BACKLOG / 2 {
            // Begin again with a reader that has acknowledged nothing.
            wal.retain_sinks(&["hub"]).expect("forgets");
            next = 1;
        }
        if next == 1 {
            wal.register("reader").expect("registers");
        }
        wal.acknowledge("reader", next).expect("acknowledges");
    };
    group.bench_function("log, lazily as the shipper does", |bencher| {
        bencher.iter(|| acknowledge_next(&mut wal));
    });
    group.bench_function("log, and made durable at once", |bencher| {
        bencher.iter(|| {
            acknowledge_next(&mut wal);
            wal.flush().expect("flushes");
        });
    });
    group.finish();
}

fn opening(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("open");
    group.sample_size(10);
    let directory = tempfile::tempdir().expect("temporary directory");
    for records in [0, 10_000, 100_000] {
        let path = directory.path().join(records.to_string());
        filled(&path, records);
        group.bench_function(format!("{records} records"), |bencher| {
            bencher.iter(|| {
                let wal = open(&path);
                assert_eq!(wal.stats().records, records);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, appending, reading, acknowledging, opening);
criterion_main!(benches);
