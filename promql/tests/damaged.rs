//! Scripts with characters changed, moved and missing: whatever they say, nothing panics.

use std::{fs, path::Path};

use promql::script;

/// Small, deterministic, good enough to pick places (a 64-bit linear congruential generator).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % below.max(1)
    }
}

const CHARACTERS: &[u8] = b"0159-+*/%^()[]{}<>=!~,:@\"'`\\$#_. \naxeNIbyms";

/// Changes one character in some two hundred.
fn damaged(script: &str, dice: &mut Dice) -> String {
    let mut bytes = script.as_bytes().to_vec();
    for _ in 0..=bytes.len() / 200 {
        let at = dice.roll(bytes.len());
        let other = dice.roll(bytes.len());
        match dice.roll(4) {
            0 => bytes[at] = CHARACTERS[dice.roll(CHARACTERS.len())],
            1 => bytes.insert(at, CHARACTERS[dice.roll(CHARACTERS.len())]),
            2 => drop(bytes.remove(at)),
            _ => bytes.swap(at, other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn damaged_scripts_fail_without_a_panic() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut dice = Dice(2026);
    let (mut passed, mut failed) = (0, 0);
    let mut files: Vec<_> =
        fs::read_dir(corpus).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for file in files {
        let script = fs::read_to_string(file).unwrap();
        for _ in 0..20 {
            let outcomes = script::run(&damaged(&script, &mut dice));
            failed += outcomes.iter().filter(|outcome| outcome.failure.is_some()).count();
            passed += outcomes.iter().filter(|outcome| outcome.failure.is_none()).count();
        }
    }
    assert!(failed > 500 && passed > 500, "damage should show in some: {failed} and {passed}");
}
