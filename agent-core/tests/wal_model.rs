//! Any sequence of operations does what a list in memory would, with crashes, full disks and damage in
//! between.
//!
//! Sequences are made from a seed, which `HOLDFAST_TEST_SEED` in the environment sets, and
//! `HOLDFAST_TEST_CASES` their number. What failed once is kept in [`KEPT`] and tried first: a failure
//! prints its shortest sequence as it is written there.
//!
//! The child is this test binary again, with SIGXFSZ ignored: there a limit on the size of files makes
//! every write beyond it fail, as on a full disk.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a test ends it")]

#[path = "wal_support/hits.rs"]
mod hits;
#[path = "wal_support/model.rs"]
mod model;
mod wal_support;

use std::{
    cell::Cell,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use Operation::{Acknowledge, Append, Crash, Damage, Fill, Flush, Free, Read, Reopen};
use agent_core::{
    BatchLimits,
    wal::{MAX_BYTES_MIN, SledWal, WalOptions},
};
use hits::{Hit, PARTS, files_below};
use model::{Model, SINKS};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use proptest::{
    prelude::*,
    test_runner::{RngAlgorithm, TestRng, TestRunner},
};
use wal_support::{ALL, copy, fast_directory};

#[derive(Clone, Debug)]
enum Operation {
    Append {
        bytes: usize,
    },
    Read {
        sink: usize,
        records: usize,
        bytes: usize,
    },
    Acknowledge {
        sink: usize,
        seq: u64,
    },
    Flush,
    /// Closed and opened.
    Reopen,
    /// Left as it is, as by a kill, and opened.
    Crash,
    /// No file can be larger than that any more.
    Fill {
        bytes: u64,
    },
    /// The disk takes everything again.
    Free,
    /// Closed, a file of it is hit, and opened: the `nth` of that kind.
    Damage {
        kind: &'static str,
        nth: usize,
        hit: Hit,
    },
}

/// What failed once.
const KEPT: &[&[Operation]] = &[
    // What is salvaged is a single gap that tells of something else.
    &[
        Append { bytes: 100_000 },
        Append { bytes: 0 },
        Damage { kind: "db", nth: 0, hit: Hit::Zero { part: 0 } },
        Damage { kind: "conf", nth: 0, hit: Hit::Flip { part: 0, bit: 0 } },
        Read { sink: 0, records: 1, bytes: 1_000 },
    ],
    // The newest generation opens and turns out to be damaged when it is read.
    &[
        Append { bytes: 958 },
        Append { bytes: 2_042 },
        Append { bytes: 2_164 },
        Append { bytes: 1_664 },
        Append { bytes: 12_024 },
        Append { bytes: 231_061 },
        Append { bytes: 0 },
        Acknowledge { sink: 0, seq: 1 },
        Flush,
        Append { bytes: 14_284 },
        Append { bytes: 0 },
        Append { bytes: 7_138 },
        Reopen,
        Damage { kind: "db", nth: 0, hit: Hit::Flip { part: 146, bit: 0 } },
        Append { bytes: 0 },
    ],
    // What said where the log ends was damaged before its end was.
    &[
        Append { bytes: 0 },
        Append { bytes: 0 },
        Append { bytes: 0 },
        Damage { kind: "last", nth: 0, hit: Hit::Flip { part: 0, bit: 0 } },
        Damage { kind: "db", nth: 0, hit: Hit::Gone },
    ],
    // Nothing waits in what is damaged.
    &[
        Append { bytes: 0 },
        Acknowledge { sink: 1, seq: 1 },
        Acknowledge { sink: 0, seq: 1 },
        Flush,
        Reopen,
        Read { sink: 0, records: 1, bytes: 1_000 },
        Damage { kind: "conf", nth: 0, hit: Hit::Flip { part: 0, bit: 0 } },
    ],
];

/// Kinds of files that are hit, by name or extension; what holds records more often.
const KINDS: &[&str] = &[
    "db", "db", "db", "db", "pack", "pack", "pack", "conf", "head", "tail", "snap", "last", "lost",
    "lock", "reserve",
];

fn operation() -> impl Strategy<Value = Operation> {
    let bytes =
        prop_oneof![8 => 0_usize..3_000, 3 => 3_500_usize..20_000, 2 => 100_000_usize..300_000];
    let part = 0..PARTS;
    let hit = prop_oneof![
        4 => (part.clone(), 0_u8..8).prop_map(|(part, bit)| Hit::Flip { part, bit }),
        2 => part.clone().prop_map(|part| Hit::Cut { part }),
        2 => part.prop_map(|part| Hit::Zero { part }),
        1 => Just(Hit::Gone),
    ];
    let full = prop_oneof![2 => Just(0), 2 => 0_u64..100_000, 1 => 100_000_u64..2_000_000];
    prop_oneof![
        20 => bytes.prop_map(|bytes| Append { bytes }),
        12 => (0_usize..2, 1_usize..20, 1_000_usize..200_000)
            .prop_map(|(sink, records, bytes)| Read { sink, records, bytes }),
        8 => (0_usize..2, 0_u64..80).prop_map(|(sink, seq)| Acknowledge { sink, seq }),
        2 => Just(Flush),
        2 => Just(Reopen),
        3 => Just(Crash),
        2 => full.prop_map(|bytes| Fill { bytes }),
        2 => Just(Free),
        1 => (proptest::sample::select(KINDS), 0_usize..8, hit)
            .prop_map(|(kind, nth, hit)| Damage { kind, nth, hit }),
    ]
}

/// A log that lives, where it lives, and what it must hold.
struct Life {
    directory: tempfile::TempDir,
    crashes: u64,
    /// `None` only while it is closed.
    wal: Option<SledWal>,
    model: Model,
    limit: Option<u64>,
    /// Packed generations that were there after some step.
    packed: usize,
}

impl Life {
    fn begin() -> Self {
        let (directory, model) = (fast_directory(), Model::default());
        let mut life = Self { directory, crashes: 0, wal: None, model, limit: None, packed: 0 };
        life.open();
        life
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join(format!("log-{}", self.crashes))
    }

    fn open(&mut self) {
        // Damage is dated by when its file was written, long after these records.
        let max_age = Duration::from_secs(1 << 30);
        // Small generations, of which many are packed, and room for all of them.
        let options = WalOptions { max_bytes: MAX_BYTES_MIN * 3 / 2, max_age };
        let mut wal = SledWal::open(&self.path(), options).unwrap();
        self.model.opened(&mut wal);
        self.wal = Some(wal);
    }

    fn step(&mut self, operation: &Operation) {
        let Self { wal: Some(wal), model, .. } = self else { return };
        match *operation {
            Append { bytes } => model.append(wal, bytes),
            Read { sink, records, bytes } => {
                model.read(wal, sink, BatchLimits { records, bytes });
            }
            Acknowledge { sink, seq } => model.acknowledge(wal, sink, seq),
            Flush => model.flush(wal),
            Reopen => {
                self.wal = None;
                self.open();
            }
            Crash => self.crash(),
            Fill { bytes } => self.limit(Some(bytes)),
            Free => self.limit(None),
            Damage { kind, nth, hit } => self.damage(kind, nth, hit),
        }
        self.wal.iter().for_each(|wal| self.model.check_stats(wal));
        let is_packed = |path: &PathBuf| has_extension(path, "pack");
        self.packed += files_below(&self.path()).iter().filter(|path| is_packed(path)).count();
    }

    fn crash(&mut self) {
        let before = self.path();
        self.crashes += 1;
        limit_files(None);
        copy(&before, &self.path());
        limit_files(self.limit);
        self.wal = None;
        std::fs::remove_dir_all(before).unwrap();
        self.open();
    }

    fn limit(&mut self, bytes: Option<u64>) {
        self.limit = bytes;
        self.model.harm.is_full = bytes.is_some();
        self.model.harm.was_full |= bytes.is_some();
        limit_files(bytes);
    }

    fn damage(&mut self, kind: &str, nth: usize, hit: Hit) {
        self.wal = None;
        self.limit(None);
        let oldest = self.oldest();
        let of_kind: Vec<_> =
            files_below(&self.path()).into_iter().filter(|path| is_of_kind(path, kind)).collect();
        let hit_file = nth.checked_rem(of_kind.len()).map(|index| &of_kind[index]);
        // Without its first file, the log is as if that had been given back.
        let is_given_back =
            |file: &PathBuf| matches!(hit, Hit::Gone) && oldest.as_ref() == Some(file);
        if let Some(file) = hit_file.filter(|file| !is_given_back(file)) {
            hit.on(file);
            (self.model.harm.is_damaged, self.model.harm.is_hit) = (true, true);
        }
        self.open();
    }

    /// The first of what makes up the log.
    fn oldest(&self) -> Option<PathBuf> {
        let entries = std::fs::read_dir(self.path()).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| ["gen", "pack", "gap"].iter().any(|e| has_extension(path, e))).min()
    }

    /// With room again, everything is there for each sink.
    fn end(mut self) -> Self {
        self.limit(None);
        self.step(&Append { bytes: 10 });
        self.step(&Reopen);
        for sink in 0..SINKS.len() {
            let Self { wal: Some(wal), model, .. } = &mut self else { return self };
            while let Some(seq) = model.read(wal, sink, ALL) {
                model.acknowledge(wal, sink, seq);
            }
        }
        self.step(&Reopen);
        self
    }
}

fn is_of_kind(path: &Path, kind: &str) -> bool {
    has_extension(path, kind)
        || path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(kind))
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found == extension)
}

fn limit_files(bytes: Option<u64>) {
    let (_, hard) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
    setrlimit(Resource::RLIMIT_FSIZE, bytes.unwrap_or(hard), hard).unwrap();
}

/// Lets a test process write what it wants again, whatever becomes of a life.
struct Unlimited;

impl Drop for Unlimited {
    fn drop(&mut self) {
        limit_files(None);
    }
}

fn run(operations: &[Operation]) -> Life {
    let _unlimited = Unlimited;
    let mut life = Life::begin();
    operations.iter().for_each(|operation| life.step(operation));
    life.end()
}

/// A number from the environment.
fn given(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap())
}

/// Not a test of its own.
#[test]
fn child() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    // sled panics on damage, and a backtrace of each would take longer than the test.
    std::panic::set_hook(Box::new(|panic| eprintln!("{panic}")));
    for kept in KEPT {
        run(kept);
    }
    let cases = given("HOLDFAST_TEST_CASES").map_or(CASES, |cases| cases as u32);
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&given("HOLDFAST_TEST_SEED").unwrap_or(0x11f7).to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let operations = proptest::collection::vec(operation(), 1..120);
    let (gone, packed) = (Cell::new(0), Cell::new(0));
    let checked = TestRunner::new_with_rng(config, rng).run(&operations, |operations| {
        let life = run(&operations);
        gone.set(gone.get() + life.model.gone());
        packed.set(packed.get() + life.packed);
        Ok(())
    });
    if let Err(failure) = checked {
        panic!("{failure}");
    }
    let (gone, packed) = (gone.get(), packed.get());
    eprintln!("{gone} records were gone and told, {packed} packed generations were seen");
    // Nothing is proven of what didn't happen.
    assert!(cases < CASES || (gone > 0 && packed > 100));
}

const CHILD: &str = "HOLDFAST_TEST_CHILD";
const CASES: u32 = 64;

#[test]
fn does_what_a_list_would() {
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}", last_lines(&said));
    eprintln!("{}", last_lines(&said));
}

/// What was said at last; before there are panics of sled's, one after the other.
fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}
