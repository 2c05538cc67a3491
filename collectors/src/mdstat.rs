//! The text of `/proc/mdstat`: a line for each array, and what is said of it on indented lines below.
//!
//! ```text
//! md1 : active raid1 sdb1[1] sda1[0](F)
//!       976630464 blocks super 1.2 [2/1] [_U]
//!       [=>...................]  recovery =  8.5% (83127808/976630464) finish=98.1min speed=151700K/sec
//!       bitmap: 3/8 pages [12KB], 65536KB chunk
//! ```

use crate::parse::{ParseError, Words, number, numbered};

/// What an array does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Active,
    Inactive,
    Recovering,
    Resync,
    Check,
}

impl State {
    /// Each with node_exporter's word for it.
    pub(crate) const ALL: [(Self, &'static str); 5] = [
        (Self::Active, "active"),
        (Self::Inactive, "inactive"),
        (Self::Recovering, "recovering"),
        (Self::Resync, "resync"),
        (Self::Check, "check"),
    ];
}

/// One array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Array<'a> {
    pub(crate) name: &'a str,
    pub(crate) state: State,
    /// How many disks it has when it is whole; 0 if it is inactive.
    pub(crate) disks_required: u64,
    pub(crate) disks_active: u64,
    pub(crate) disks_failed: u64,
    pub(crate) disks_spare: u64,
    /// Of 1 KiB.
    pub(crate) blocks: u64,
    /// How far it is, of those; all of them if nothing is under way.
    pub(crate) blocks_synced: u64,
}

/// Gives each array to `each`, in the order of the text.
pub(crate) fn parse<'a>(text: &'a str, mut each: impl FnMut(&Array<'a>)) -> Result<(), ParseError> {
    let mut lines = numbered(text).peekable();
    while let Some((number, line)) = lines.next() {
        let is_blank = line.trim().is_empty();
        if is_blank
            || is_detail(line)
            || line.starts_with("Personalities")
            || line.starts_with("unused")
        {
            continue;
        }
        let mut array = device(number, line)?;
        let status = lines.next_if(|(_, line)| is_detail(line));
        let (number, status) =
            status.ok_or_else(|| ParseError::new(number + 1, "blocks", "missing"))?;
        disks(number, status, &mut array)?;
        array.blocks_synced = array.blocks;
        while let Some((number, detail)) = lines.next_if(|(_, line)| is_detail(line)) {
            progress(number, detail, &mut array)?;
        }
        each(&array);
    }
    Ok(())
}

fn is_detail(line: &str) -> bool {
    line.starts_with([' ', '\t']) && !line.trim().is_empty()
}

/// `md1 : active (auto-read-only) raid1 sdb1[1](S) sda1[0]`. Arrays without redundancy have no `[2/2]` on
/// the line below: they have the disks that are listed.
fn device(line: usize, text: &str) -> Result<Array<'_>, ParseError> {
    let mut words = Words::new(line, text);
    let name = words.word("name")?;
    if words.word("colon")? != ":" {
        return Err(ParseError::new(line, "colon", "missing"));
    }
    let state = match words.word("activity")? {
        "active" => State::Active,
        "inactive" => State::Inactive,
        _ => return Err(ParseError::new(line, "activity", "neither active nor inactive")),
    };
    let (mut listed, mut failed, mut spare, mut is_plain) = (0, 0, 0, false);
    while let Some(word) = words.next() {
        is_plain |= matches!(word, "raid0" | "linear");
        listed += u64::from(word.contains('['));
        failed += u64::from(word.contains("(F)"));
        spare += u64::from(word.contains("(S)"));
    }
    let disks = if is_plain { listed } else { 0 };
    Ok(Array {
        name,
        state,
        disks_required: disks,
        disks_active: disks,
        disks_failed: failed,
        disks_spare: spare,
        blocks: 0,
        blocks_synced: 0,
    })
}

/// `976630464 blocks super 1.2 [2/1] [_U]`.
fn disks(line: usize, text: &str, array: &mut Array<'_>) -> Result<(), ParseError> {
    let mut words = Words::new(line, text);
    array.blocks = words.number("blocks")?;
    if array.state == State::Inactive || array.disks_required > 0 {
        return Ok(());
    }
    let mut found = false;
    while let Some(word) = words.next() {
        let Some((required, active)) = within(word, '[', ']').and_then(|w| w.split_once('/'))
        else {
            continue;
        };
        array.disks_required = number(line, "disks", required)?;
        array.disks_active = number(line, "active disks", active)?;
        found = true;
    }
    if found { Ok(()) } else { Err(ParseError::new(line, "disks", "missing")) }
}

/// `[=>....]  recovery =  8.5% (83127808/976630464) finish=98.1min speed=151700K/sec`, or only `resync=PENDING`.
/// A reshape isn't told from an active array.
fn progress(line: usize, text: &str, array: &mut Array<'_>) -> Result<(), ParseError> {
    let states =
        [("recovery", State::Recovering), ("check", State::Check), ("resync", State::Resync)];
    let Some((_, state)) = states.into_iter().find(|(word, _)| text.contains(word)) else {
        return Ok(());
    };
    array.state = state;
    let mut words = text.split_ascii_whitespace().filter_map(|word| within(word, '(', ')'));
    array.blocks_synced = match words.find_map(|word| word.split_once('/')) {
        Some((synced, _)) => number(line, "blocks synced", synced)?,
        None if text.contains('%') => {
            return Err(ParseError::new(line, "blocks synced", "missing"));
        }
        // delayed, pending, or under way on another host
        None => 0,
    };
    Ok(())
}

fn within(word: &str, open: char, close: char) -> Option<&str> {
    word.strip_prefix(open)?.strip_suffix(close)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::kernel_text;

    const LARGE: &str = include_str!("../fixtures/large/proc/mdstat");

    fn all(text: &str) -> Result<Vec<Array<'_>>, ParseError> {
        let mut arrays = Vec::new();
        parse(text, |array| arrays.push(array.clone())).map(|()| arrays)
    }

    #[test]
    fn arrays_are_read() {
        let check = |text: &str, expected: &str| {
            let arrays = all(text).unwrap().into_iter().map(|a| {
                let counts = [a.disks_required, a.disks_active, a.disks_failed, a.disks_spare];
                let blocks = [a.blocks, a.blocks_synced];
                format!("{} {:?} {counts:?} {blocks:?}", a.name, a.state)
            });
            assert_eq!(arrays.collect::<Vec<_>>().join("; "), expected, "{text}");
        };
        check("Personalities : \nunused devices: <none>\n", "");
        check("", "");
        check(
            "md0 : active raid1 sdb[1] sda[0]\n      64 blocks super 1.2 [2/2] [UU]\n      \n",
            "md0 Active [2, 2, 0, 0] [64, 64]",
        );
        check(
            "md0 : active raid0 sdb[1] sda[0]\n      64 blocks super 1.2 512k chunks\n",
            "md0 Active [2, 2, 0, 0] [64, 64]",
        );
        check(
            "md127 : inactive sdb[1](S) sda[0](S)\n      5 blocks super external:imsm\n",
            "md127 Inactive [0, 0, 0, 2] [5, 5]",
        );
        check(
            "md5 : active (auto-read-only) raid5 sdd[3](S) sdc[2](F) sdb[1] sda[0]\n      64 blocks \
             level 5, 64k chunk, algorithm 2 [3/2] [UU_]\n      \tresync=PENDING\n",
            "md5 Resync [3, 2, 1, 1] [64, 0]",
        );
        let under_way = |what: &str| {
            format!(
                "md0 : active raid1 sdb[1] sda[0]\n      64 blocks [2/2] [UU]\n      bitmap: 0/1 pages \
                 [0KB], 65536KB chunk\n      [==>...]  {what} = 12.5% (8/64) finish=1.0min\n"
            )
        };
        check(&under_way("check"), "md0 Check [2, 2, 0, 0] [64, 8]");
        check(&under_way("recovery"), "md0 Recovering [2, 2, 0, 0] [64, 8]");
        check(&under_way("resync"), "md0 Resync [2, 2, 0, 0] [64, 8]");
        check(&under_way("reshape"), "md0 Active [2, 2, 0, 0] [64, 64]");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let check = |text: &str, expected: &str| {
            assert_eq!(all(text).unwrap_err().to_string(), expected, "{text}");
        };
        let first = "md0 : active raid1 sda[0]\n";
        check("md0", "line 1, colon: missing");
        check("md0 = active", "line 1, colon: missing");
        check("md0 :", "line 1, activity: missing");
        check("md0 : broken raid1", "line 1, activity: neither active nor inactive");
        check(first, "line 2, blocks: missing");
        check(&format!("{first}md1 : active raid1\n"), "line 2, blocks: missing");
        check(&format!("{first}  x blocks"), "line 2, blocks: \"x\" is not a number, or too large");
        check(&format!("{first}  64 blocks"), "line 2, disks: missing");
        check(
            &format!("{first}  64 blocks [2/-] [UU]"),
            "line 2, active disks: \"-\" is not a number, or too large",
        );
        check(
            &format!("{first}  64 blocks [1/1] [U]\n  check = 1% finish=1min"),
            "line 3, blocks synced: missing",
        );
        check(
            &format!("{first}  64 blocks [1/1] [U]\n  check = 1% (?/64)"),
            "line 3, blocks synced: \"?\" is not a number, or too large",
        );
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in kernel_text(LARGE)) {
            let _ = all(&text);
        }
    }
}
