//! Any bytes in any file that a collector reads: samples or an error, never a panic.
//!
//! `COLLECTOR=netstat cargo +nightly fuzz run collector` fuzzes the parsers of one collector; without
//! it, of all there are. Collectors read copies of the committed trees: an input says which file (two
//! bytes) and whether it becomes the file (an even byte), or part of it from a place on (an odd one, and
//! two bytes).
#![no_main]

#[path = "../../collectors/tests/trees/mod.rs"]
mod trees;

use std::{env, fs, path::PathBuf, sync::OnceLock};

use agent_core::{Registration, Samples};
use collectors::REGISTRY;

use trees::{FIXTURES, Tree, tick};

struct Target {
    tree: &'static Tree,
    line: &'static Registration,
    file: PathBuf,
    whole: Vec<u8>,
}

static TARGETS: OnceLock<Vec<Target>> = OnceLock::new();

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some(([high, low, how], rest)) = bytes.split_first_chunk() else { return };
    let targets = TARGETS.get_or_init(targets);
    let target = &targets[usize::from(u16::from_be_bytes([*high, *low])) % targets.len()];
    let Some(content) =
        (if how % 2 == 0 { Some(rest.to_vec()) } else { patch(&target.whole, rest) })
    else {
        return;
    };
    fs::write(&target.file, content).unwrap();
    let mut collector = target.tree.build(target.line);
    let mut samples = Samples::new(target.line.name);
    for _ in 0..2 {
        let _ = tick(collector.as_mut(), &mut samples);
        samples.finish();
    }
    fs::write(&target.file, &target.whole).unwrap();
});

/// The file with `rest` instead of as many bytes from a place on.
fn patch(whole: &[u8], rest: &[u8]) -> Option<Vec<u8>> {
    let (place, rest) = rest.split_first_chunk()?;
    let from = usize::from(u16::from_be_bytes(*place)) % (whole.len() + 1);
    let to = (from + rest.len()).min(whole.len());
    Some([&whole[..from], rest, &whole[to..]].concat())
}

fn targets() -> Vec<Target> {
    let only = env::var("COLLECTOR").ok();
    let mut targets = Vec::new();
    for fixture in FIXTURES {
        let tree: &'static Tree = Box::leak(Box::new(Tree::copy(fixture).unwrap()));
        for line in
            REGISTRY.iter().filter(|line| only.as_deref().is_none_or(|one| one == line.name))
        {
            for file in tree.read_by(line).unwrap() {
                let whole = fs::read(&file).unwrap();
                targets.push(Target { tree, line, file, whole });
            }
        }
    }
    assert!(!targets.is_empty(), "COLLECTOR={only:?} reads no file of {FIXTURES:?}, or is none");
    targets
}
