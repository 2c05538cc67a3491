//! `holdfast-agent wal repair`: does now what an agent does when it starts and reads.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, BufWriter, Write, stdout},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use agent_core::wal::{
    WalOptions,
    inspect::{self, GapState, PlaceState, Repaired, Summary},
};
use anyhow::{Context as _, Result, bail};
use nix::unistd::{Gid, Uid, geteuid, setgid, setgroups, setuid};

use super::{
    inspect::gap,
    text::{bytes, count, numbers},
    verify::write_finding,
};

/// Repairs a log and prints what was done; true if it is sound now.
///
/// # Errors
/// When it can't be read or written, or standard output refuses.
pub(super) fn run(directory: &Path, options: WalOptions) -> Result<bool> {
    become_owner(directory)?;
    let repaired = inspect::repair(directory, options)?;
    let mut out = BufWriter::new(stdout().lock());
    write(&mut out, &repaired)?;
    out.flush()?;
    Ok(repaired.left.is_sound())
}

/// What a repair writes must belong to who owns the log: an agent that can't open it would be worse off
/// than before.
fn become_owner(directory: &Path) -> Result<()> {
    // That nothing is there is said by who looks for a log.
    let Ok(metadata) = fs::metadata(directory) else { return Ok(()) };
    let (user, group) = (Uid::from_raw(metadata.uid()), Gid::from_raw(metadata.gid()));
    if user == geteuid() {
        return Ok(());
    }
    if !geteuid().is_root() {
        bail!(
            "the log at {} belongs to user {user}: run this as that user, or as root",
            directory.display()
        );
    }
    let changed = setgroups(&[]).and_then(|()| setgid(group)).and_then(|()| setuid(user));
    changed.with_context(|| format!("become user {user}, to whom the log belongs"))
}

fn write(out: &mut impl Write, repaired: &Repaired) -> io::Result<()> {
    writeln!(out, "log  {}", repaired.after.directory.display())?;
    let findings = &repaired.found.findings;
    if !findings.is_empty() {
        writeln!(out, "\nfound:")?;
        findings.iter().try_for_each(|finding| write_finding(out, finding))?;
    }
    let done = done(&repaired.before, &repaired.after);
    if !done.is_empty() {
        writeln!(out, "\ndone:")?;
        done.iter().try_for_each(|line| writeln!(out, "{line}"))?;
    }
    writeln!(out)?;
    if repaired.left.is_sound() {
        let (lost, held) = (repaired.found.lost(), repaired.after.totals.records);
        let was = if repaired.found.is_sound() { "it was sound before" } else { "repaired" };
        return writeln!(
            out,
            "sound: {was}, {} lost, {} held",
            count(lost, "record"),
            count(held, "record")
        );
    }
    writeln!(out, "still damaged:")?;
    repaired.left.findings.iter().try_for_each(|finding| write_finding(out, finding))
}

/// What differs between before and after.
fn done(before: &Summary, after: &Summary) -> Vec<String> {
    let mut done = Vec::new();
    let known: BTreeSet<&str> = before.quarantine.iter().map(|old| old.name.as_str()).collect();
    for new in after.quarantine.iter().filter(|new| !known.contains(new.name.as_str())) {
        let (name, size) = (&new.name, bytes(new.disk_bytes));
        done.push(format!("put the damaged original aside: quarantine/{name}, {size}"));
    }
    for old in before.places.iter().filter(|old| after.places.iter().all(|p| p.name != old.name)) {
        done.push(format!("{}: {}", old.name, became(old, before, after)));
    }
    let told: Vec<&GapState> = before.places.iter().flat_map(|place| &place.gaps).collect();
    let gaps = after.places.iter().flat_map(|place| &place.gaps);
    done.extend(gaps.filter(|new| !told.contains(new)).map(|new| format!("left a {}", gap(new))));
    for stream in after.streams.iter().filter(|new| is_new(before, new)) {
        let inspect::StreamState { stream_id, first_seq, .. } = stream;
        done.push(format!("began stream {stream_id} with record {first_seq}"));
    }
    done
}

/// What became of a place that is no longer there.
fn became(old: &PlaceState, before: &Summary, after: &Summary) -> String {
    let acked_seq = before.sinks.iter().map(|sink| sink.acked_seq).min().unwrap_or(0);
    let covers = |new: &&PlaceState| {
        (new.first_seq..=new.last_seq).contains(&old.last_seq) && new.last_seq >= new.first_seq
    };
    if old.last_seq < old.first_seq {
        "removed, nothing was in it".to_owned()
    } else if old.last_seq <= acked_seq {
        let numbers = numbers(old.first_seq, old.last_seq);
        format!("given back, every sink has acknowledged {numbers}")
    } else if let Some(new) = after.places.iter().find(covers) {
        format!("{} is in its place", new.name)
    } else {
        format!("gone, with {}", numbers(old.first_seq, old.last_seq))
    }
}

fn is_new(before: &Summary, stream: &inspect::StreamState) -> bool {
    before.streams.iter().all(|known| known.stream_id != stream.stream_id)
}
