//! Whatever call of the log fails, nothing it promised is lost, nothing comes twice, and it goes on.
//!
//! The same life of a log is lived again and again; each time another call fails: of each kind the
//! first, the second, and so on, until a life ends before that. What failed is tried again. After each
//! failure the power is cut, too, and what that leaves is looked at.
//!
//! Errors that last, and those of calls that had their effect, come at every third place only, unless
//! `HOLDFAST_TEST_FAULTS` is `all`.

use std::{fs, path::PathBuf, sync::Arc};

use nix::errno::Errno;

use super::{
    super::{
        SledWal, Wal as _, WalError,
        disk::{Act, Disk},
    },
    known::{Known, SINKS, log_path},
    medium::{Fault, Ignored, Medium},
    support::{append_with, fast_directory, payload, schema, seen},
};
use crate::BatchLimits;

const RECORD_BYTES: usize = 4_000;

/// Room for the reserve, the headroom, a small database, and one or two that are packed.
const BYTES_MAX: u64 = (14 << 17) + 45_000;

/// How often something is tried while calls fail.
const TRIES_MAX: u64 = 12;

/// What a log does in its life.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Appends that many records.
    Append(usize),
    /// A sink reads that many records and acknowledges them.
    Acknowledge(usize, usize),
    Flush,
    /// A sink comes, and goes for ever.
    Visit,
    Reopen,
}

const LIFE: &[Step] = &[
    Step::Reopen,
    Step::Append(3),
    Step::Visit,
    Step::Append(5),
    Step::Acknowledge(0, 7),
    Step::Append(6),
    Step::Flush,
    Step::Acknowledge(1, 2),
    Step::Reopen,
    // Beyond the bound.
    Step::Append(8),
    Step::Acknowledge(1, 40),
    Step::Acknowledge(2, 3),
    Step::Acknowledge(0, 40),
    Step::Acknowledge(1, 40),
    Step::Append(2),
    Step::Reopen,
];

struct Life {
    directory: tempfile::TempDir,
    medium: Arc<Medium>,
    wal: Option<SledWal>,
    known: Known,
    fault: Fault,
    judged: u64,
}

impl Life {
    fn begin(fault: Fault) -> Self {
        let directory = fast_directory();
        let root = directory.path().join("tree");
        fs::create_dir(&root).unwrap();
        let medium = Medium::new(&root, directory.path(), 0xfa17 + fault.nth, Ignored::Nothing);
        medium.fail(fault);
        let known = Known::new(RECORD_BYTES, BYTES_MAX);
        Self { directory, medium: Arc::new(medium), wal: None, known, fault, judged: 0 }
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("tree")
    }

    fn live(&mut self) {
        for step in LIFE {
            match *step {
                Step::Append(records) => (0..records).for_each(|_| self.insist(Self::append)),
                Step::Acknowledge(sink, records) => {
                    self.insist(|life| life.acknowledge(sink, records));
                }
                Step::Flush => self.insist(Self::flush),
                Step::Visit => self.insist(Self::visit),
                Step::Reopen => self.insist(Self::reopen),
            }
        }
        self.wal = None;
        let at_last = format!("at last, with {:?}", self.fault);
        let sinks = if self.fault.nth.is_multiple_of(4) { &[0, 1, 2][..] } else { &[1] };
        self.known.judge(&self.root(), sinks, &at_last).unwrap();
    }

    /// Does something, if need be several times. It fails only when a call did, and says which; then the
    /// power is cut.
    fn insist(&mut self, act: impl Fn(&mut Self) -> Result<(), WalError>) {
        for _ in 0..TRIES_MAX {
            let failed = self.medium.failed();
            let acted = act(self);
            let has_failed = self.medium.failed() > failed;
            if has_failed {
                self.judge_cut();
            }
            match acted {
                Ok(()) => return,
                Err(error) => {
                    assert!(has_failed, "{error:?} without a fault");
                    self.check_error(&error);
                }
            }
        }
        panic!("{:?}: it doesn't go on", self.fault);
    }

    fn check_error(&self, error: &WalError) {
        let WalError::Io { operation, path, source } = error else {
            panic!("{:?} became {error:?}", self.fault);
        };
        assert!(!operation.is_empty() && path.starts_with(log_path(&self.root())), "{error}");
        assert_eq!(source.raw_os_error(), Some(self.fault.errno as i32), "{error}");
    }

    fn judge_cut(&mut self) {
        self.judged += 1;
        let image = self.medium.cut();
        let cut = format!("cut after {:?}", self.fault);
        self.known.judge(&image, &[1], &cut).unwrap();
        fs::remove_dir_all(image).unwrap();
    }

    fn reopen(&mut self) -> Result<(), WalError> {
        self.wal = None;
        let failed = self.medium.failed();
        let disk = Disk::observed(self.medium.clone());
        let mut wal = SledWal::open_on(disk, &log_path(&self.root()), self.known.bounds())?;
        if self.medium.failed() > failed {
            // Where no database could be opened, no cursor is known: records are read again.
            self.known.forget_cursors();
        }
        self.known.opened(&mut wal)?;
        self.wal = Some(wal);
        Ok(())
    }

    fn append(&mut self) -> Result<(), WalError> {
        let Some(wal) = &mut self.wal else { return self.reopen() };
        let seq = self.known.last_seq() + 1;
        let seed = seq * TRIES_MAX + self.judged;
        self.known.appending(seed);
        let appended = append_with(wal, seq, &payload(seed, RECORD_BYTES), &[schema("a", 30)]);
        self.known.look_at(wal);
        assert_eq!(appended?, seq);
        self.known.appended(wal);
        Ok(())
    }

    fn acknowledge(&mut self, sink: usize, records: usize) -> Result<(), WalError> {
        let Some(wal) = &mut self.wal else { return self.reopen() };
        let (name, delivery) = SINKS[sink];
        let mut left = records;
        while left > 0 {
            let from = wal.register_as(name, delivery)? + 1;
            let limits = BatchLimits { records: left, bytes: usize::MAX };
            let Some(batch) = wal.read(name, limits)? else { break };
            let records = seen(&batch);
            self.known.check(sink, from, &records);
            let seq = records.last().unwrap().0;
            assert!(seq <= self.known.last_seq(), "{seq} is not durable");
            self.known.acknowledging(sink, seq);
            wal.acknowledge(name, seq)?;
            left = left.saturating_sub(records.len());
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), WalError> {
        let Some(wal) = &mut self.wal else { return self.reopen() };
        wal.flush()?;
        self.known.flushed();
        Ok(())
    }

    fn visit(&mut self) -> Result<(), WalError> {
        let Some(wal) = &mut self.wal else { return self.reopen() };
        wal.register("visitor")?;
        wal.flush()?;
        wal.retain_sinks(&SINKS.map(|(name, _)| name))?;
        Ok(())
    }
}

/// Lets of each kind of call the first fail, then the second, until a life has no such call.
fn check(acts: &[Act], times: u64, errno: Errno, is_late: bool) {
    std::panic::set_hook(Box::new(|panic| eprintln!("{panic}")));
    let is_all = times == 1 && !is_late;
    let is_all = is_all || std::env::var("HOLDFAST_TEST_FAULTS").is_ok_and(|value| value == "all");
    for act in acts.iter().copied() {
        let mut lives = 0;
        for nth in (1..).step_by(if is_all { 1 } else { 3 }) {
            let mut life = Life::begin(Fault { act, nth, times, errno, is_late });
            life.live();
            if life.medium.calls() < nth {
                // Nothing failed: nothing is proven of what doesn't happen even then.
                let Known { dropped_to, packed, .. } = life.known;
                assert!(dropped_to > 0 && packed > 0, "to {dropped_to} dropped, {packed} packed");
                break;
            }
            lives += u64::from(life.medium.failed() > 0);
        }
        eprintln!("{lives} times {act:?} failed with {errno:?}");
        assert!(lives > 0, "no {act:?} in the life of a log");
    }
}

const CHANGES: &[Act] = &[
    Act::CreateDirectory,
    Act::CreateFile,
    Act::WriteFile,
    Act::Overwrite,
    Act::Allocate,
    Act::Rename,
    Act::RemoveFile,
    Act::RemoveDirectory,
];
const SYNCS: &[Act] = &[Act::SyncData, Act::SyncFile, Act::SyncDirectory];
const DATABASE: &[Act] =
    &[Act::OpenDatabase, Act::WriteDatabase, Act::FlushDatabase, Act::ReadDatabase];

#[test]
fn changes_fail_once() {
    check(CHANGES, 1, Errno::EIO, false);
}

#[test]
fn changes_fail_on_a_full_disk() {
    check(CHANGES, 4, Errno::ENOSPC, false);
}

#[test]
fn changes_are_done_and_reported_as_failed() {
    check(CHANGES, 1, Errno::EIO, true);
}

#[test]
fn syncs_fail_once() {
    check(SYNCS, 1, Errno::EIO, false);
}

#[test]
fn syncs_fail_on_a_full_disk() {
    check(SYNCS, 4, Errno::ENOSPC, false);
}

#[test]
fn syncs_are_done_and_reported_as_failed() {
    check(SYNCS, 1, Errno::EIO, true);
}

#[test]
fn databases_fail_once() {
    check(DATABASE, 1, Errno::EIO, false);
}

#[test]
fn databases_fail_on_a_full_disk() {
    check(DATABASE, 4, Errno::ENOSPC, false);
}

#[test]
fn databases_do_and_report_a_failure() {
    check(DATABASE, 1, Errno::EIO, true);
}
