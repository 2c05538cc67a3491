//! Any bytes in any file that a collector reads: it never panics, what fails names the file, and once
//! the file is whole again, so is what is read of it.
//!
//! Over the whole registry: a new collector is covered as soon as one of the trees has something for it,
//! and one that nothing is there for is named. `HOLDFAST_TEST_SEED=n` damages other places,
//! `HOLDFAST_TEST_TIMES=n` that many times as many.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what goes wrong in a test ends it")]

mod random;
mod trees;

use std::{
    collections::BTreeSet,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use agent_core::{CollectError, Registration, Samples};
use collectors::REGISTRY;

use self::{
    random::{Random, from_env},
    trees::{FIXTURES, Tree, tick},
};

/// They ask the kernel, or a service (`damaged_buses.rs`), not a file of a tree.
const WITHOUT_FILES: &[&str] = &["logind", "systemd", "timex", "uname"];

/// Numbers, and what stands where a number should.
const ODD_WORDS: [&str; 8] = [
    "18446744073709551616",
    "99999999999999999999999999999999999999",
    "18446744073709551615",
    "-9223372036854775809",
    "1e400",
    "nan",
    "0x",
    "",
];
/// Damages that one collector sees in one tree, and at least in each of its files: some have hundreds
/// of small ones.
const CASES_MAX: usize = 64;
const CASES_MIN: usize = 1;
/// Longer than any buffer that isn't made to grow.
const LONG: usize = 70_000;

#[test]
fn damaged_files_are_named_and_never_panic() {
    let (mut random, times) = (Random::from_env(), from_env("HOLDFAST_TEST_TIMES"));
    let times = usize::try_from(times).unwrap();
    let mut unread: BTreeSet<&str> = REGISTRY.iter().map(|line| line.name).collect();
    for fixture in FIXTURES {
        let tree = Tree::copy(fixture).unwrap();
        for line in REGISTRY {
            let files = tree.read_by(line).unwrap();
            if !files.is_empty() {
                unread.remove(line.name);
            }
            let each = (CASES_MAX / files.len().max(1)).max(CASES_MIN) * times;
            for file in files {
                damage(&tree, line, &file, each, &mut random);
            }
        }
    }
    unread.retain(|name| !WITHOUT_FILES.contains(name));
    assert!(unread.is_empty(), "no tree below fixtures/ has a file for {unread:?}: add some");
}

#[test]
fn the_files_that_are_damaged_are_those_that_are_read() {
    let tree = Tree::copy("vm").unwrap();
    let check = |name: &str, expected: &[&str]| {
        let files = tree.read_by(collectors::find(name).unwrap()).unwrap();
        let expected = expected.iter().map(|file| tree.path().join(file));
        assert_eq!(files, expected.collect(), "{name}");
    };
    check("loadavg", &["proc/loadavg"]);
    let pressure = ["proc/pressure/cpu", "proc/pressure/io", "proc/pressure/memory"];
    check("pressure", &pressure);
}

/// So many damages to one file, before the collector has seen it whole and after.
fn damage(tree: &Tree, line: &'static Registration, file: &Path, each: usize, random: &mut Random) {
    let whole = fs::read(file).unwrap();
    let mut damages = damages(&whole, random);
    while damages.len() > each {
        damages.swap_remove(random.below(damages.len()));
    }
    for bytes in damages {
        let case = || {
            let (shown, file) = (String::from_utf8_lossy(&bytes), file.strip_prefix(tree.path()));
            let shown: String = shown.chars().take(300).collect();
            format!("{} with {} as {shown:?}", line.name, file.unwrap().display())
        };
        let ran = catch_unwind(AssertUnwindSafe(|| check(tree, line, file, &whole, &bytes)));
        fs::write(file, &whole).unwrap();
        match ran {
            Ok(Ok(())) => {}
            Ok(Err(why)) => panic!("{}: {why}", case()),
            Err(_) => panic!("{}: panicked", case()),
        }
    }
}

fn check(
    tree: &Tree,
    line: &'static Registration,
    file: &Path,
    whole: &[u8],
    damaged: &[u8],
) -> Result<(), String> {
    let mut samples = Samples::new(line.name);
    let mut collector = tree.build(line);
    let before = tick(collector.as_mut(), &mut samples);
    samples.finish();

    fs::write(file, damaged).unwrap();
    named(tick(collector.as_mut(), &mut samples), &before, file)?;
    samples.finish();
    // one that never saw it whole
    named(tick(tree.build(line).as_mut(), &mut Samples::new(line.name)), &before, file)?;

    fs::write(file, whole).unwrap();
    match (before, tick(collector.as_mut(), &mut samples)) {
        (Ok(()), Err(error)) => Err(format!("the file is whole again, and still: {error}")),
        _ => Ok(()),
    }
}

/// What fails for the damage names the file.
fn named(
    result: Result<(), CollectError>,
    before: &Result<(), CollectError>,
    file: &Path,
) -> Result<(), String> {
    match (before, result) {
        (Ok(()), Err(error @ CollectError::Failed { .. })) => {
            let text = error.to_string();
            // or one that the damaged file named instead, and isn't there
            let said = Path::new(text.split(": ").next().unwrap_or_default());
            let is_absent = said.is_absolute() && !said.exists();
            let is_named = text.contains(&file.display().to_string()) || is_absent;
            if is_named { Ok(()) } else { Err(format!("the file isn't named: {text}")) }
        }
        _ => Ok(()),
    }
}

/// A file's bytes, gone wrong in every way that we can think of.
fn damages(whole: &[u8], random: &mut Random) -> Vec<Vec<u8>> {
    let mut all = vec![
        Vec::new(),
        b"\n".to_vec(),
        vec![0xff; 64],
        vec![0; 64],
        vec![b'9'; LONG],
        vec![b' '; LONG],
        (0..256).map(|_| random.byte()).collect(),
        whole.strip_suffix(b"\n").unwrap_or(whole).to_vec(),
        [whole, whole].concat(),
    ];
    for _ in 0..3 {
        all.push(whole[..random.below(whole.len() + 1)].to_vec());
        all.push(splice(whole, random, |random| vec![random.byte()]));
        all.push(splice(whole, random, |_| vec![0xff, 0xfe]));
        all.push(splice(whole, random, |_| b"\n".to_vec()));
        all.push(flip(whole, random));
        all.push(shuffle(whole, random));
    }
    for word in ODD_WORDS {
        all.push(replace_number(whole, word, random));
        all.push(replace_word(whole, word, random));
    }
    all
}

/// Up to eight bytes somewhere, instead of which something else stands.
fn splice(whole: &[u8], random: &mut Random, odd: fn(&mut Random) -> Vec<u8>) -> Vec<u8> {
    let from = random.below(whole.len() + 1);
    let to = (from + random.below(8)).min(whole.len());
    [&whole[..from], &odd(random), &whole[to..]].concat()
}

fn flip(whole: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    if !bytes.is_empty() {
        let at = random.below(bytes.len());
        bytes[at] ^= 1 << random.below(8);
    }
    bytes
}

/// A line less, and another one twice.
fn shuffle(whole: &[u8], random: &mut Random) -> Vec<u8> {
    let mut lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    if !lines.is_empty() {
        let again = lines[random.below(lines.len())];
        lines.remove(random.below(lines.len()));
        lines.insert(random.below(lines.len() + 1), again);
    }
    lines.concat()
}

fn replace_number(whole: &[u8], with: &str, random: &mut Random) -> Vec<u8> {
    replace_run(whole, with, random, u8::is_ascii_digit)
}

fn replace_word(whole: &[u8], with: &str, random: &mut Random) -> Vec<u8> {
    replace_run(whole, with, random, |byte| !byte.is_ascii_whitespace())
}

/// One of the runs of such bytes, instead of which something else stands.
fn replace_run(whole: &[u8], with: &str, random: &mut Random, is: fn(&u8) -> bool) -> Vec<u8> {
    let begins = |at: &usize| is(&whole[*at]) && (*at == 0 || !is(&whole[at - 1]));
    let starts: Vec<usize> = (0..whole.len()).filter(begins).collect();
    let Some(from) = starts.get(random.below(starts.len().max(1))).copied() else {
        return with.as_bytes().to_vec();
    };
    let run = whole[from..].iter().take_while(|byte| is(byte)).count();
    [&whole[..from], with.as_bytes(), &whole[from + run..]].concat()
}
