//! A disk that is full to the last byte, and the log's reserve gone with it: all that lies in the log is
//! read, acknowledged and given back, and what stays says where it goes on. The power is cut on the way.

use std::{fs, path::Path, sync::Arc};

use super::{
    super::{SledWal, Wal as _, WalError, disk::Disk, log::Bounds},
    known::{Known, SINKS, log_path},
    medium::{Ignored, Medium},
    support::{append_with, fast_directory, payload, schema, seen},
};
use crate::BatchLimits;

const RECORD_BYTES: usize = 4_000;
const BYTES_MAX: u64 = 64 << 20;

struct Life {
    directory: tempfile::TempDir,
    medium: Arc<Medium>,
    wal: SledWal,
    known: Known,
}

impl Life {
    fn begin(seed: u64) -> Self {
        let directory = fast_directory();
        let root = directory.path().join("tree");
        fs::create_dir(&root).unwrap();
        let medium = Medium::new(&root, directory.path(), seed, Ignored::Nothing);
        let (medium, mut known) = (Arc::new(medium), Known::new(RECORD_BYTES, BYTES_MAX));
        let mut wal = open(&medium, &root, known.bounds());
        known.opened(&mut wal).unwrap();
        Self { directory, medium, wal, known }
    }

    fn root(&self) -> std::path::PathBuf {
        self.directory.path().join("tree")
    }

    fn append(&mut self) -> Result<(), WalError> {
        let seq = self.known.last_seq() + 1;
        self.known.appending(seq);
        let payload = payload(seq, RECORD_BYTES);
        let appended = append_with(&mut self.wal, seq, &payload, &[schema("a", 30)]);
        self.judge();
        assert_eq!(appended?, seq);
        self.known.appended(&self.wal);
        Ok(())
    }

    fn acknowledge_all(&mut self, sink: usize) {
        let (name, delivery) = SINKS[sink];
        loop {
            let from = self.wal.register_as(name, delivery).unwrap() + 1;
            let limits = BatchLimits { records: 4, bytes: usize::MAX };
            let Some(batch) = self.wal.read(name, limits).unwrap() else { break };
            let records = seen(&batch);
            self.known.check(sink, from, &records);
            let seq = records.last().unwrap().0;
            self.known.acknowledging(sink, seq);
            self.wal.acknowledge(name, seq).unwrap();
            self.judge();
        }
    }

    /// Judges what cuts left meanwhile.
    fn judge(&self) {
        for (image, cut) in self.medium.take_images() {
            self.known.judge(&image, &[0, 1, 2], &cut).unwrap();
            fs::remove_dir_all(image).unwrap();
        }
    }

    fn reopen(self) -> Self {
        let (root, Self { directory, medium, wal, mut known }) = (self.root(), self);
        drop(wal);
        let mut wal = open(&medium, &root, known.bounds());
        known.opened(&mut wal).unwrap();
        Self { directory, medium, wal, known }
    }

    /// Names of generations and gaps that lie in the log.
    fn held(&self) -> Vec<String> {
        let entries = fs::read_dir(log_path(&self.root())).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.contains('.')).collect()
    }
}

fn open(medium: &Arc<Medium>, root: &Path, bounds: Bounds) -> SledWal {
    SledWal::open_on(Disk::observed(medium.clone()), &log_path(root), bounds).unwrap()
}

fn check(seed: u64, records: u64, reopened: bool) {
    let mut life = Life::begin(seed);
    (0..records).for_each(|_| life.append().unwrap());
    life.medium.fill(true);
    let refused = life.append().unwrap_err().to_string();
    assert!(refused.contains("log") || refused.contains("gen"), "{refused}");
    if reopened {
        life = life.reopen();
    }
    (0..SINKS.len()).for_each(|sink| life.acknowledge_all(sink));
    assert!(life.held().is_empty(), "seed {seed}, {records} records: {:?}", life.held());
    assert_eq!(life.wal.stats().records, 0);
    let image = life.medium.cut();
    life.known.judge(&image, &[0, 1, 2], "without a generation").unwrap();
    if reopened {
        life = life.reopen();
    }
    assert!(life.append().is_err(), "still full");
    life.medium.fill(false);
    life.append().unwrap();
    life = life.reopen();
    (0..SINKS.len()).for_each(|sink| life.acknowledge_all(sink));
    life.append().unwrap();
    assert_eq!(life.known.last_seq(), records + 2);
}

#[test]
fn all_is_given_back_on_a_full_disk() {
    for seed in 0..4 {
        check(seed, 3, false);
        check(seed, 20, false);
    }
}

#[test]
fn all_is_given_back_on_a_full_disk_after_a_crash() {
    for seed in 0..4 {
        check(seed, 3, true);
        check(seed, 20, true);
    }
}
