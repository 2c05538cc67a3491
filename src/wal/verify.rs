//! `holdfast-agent wal verify`: what is wrong with a log, and what becomes of it.

use std::io::{self, BufWriter, Write, stdout};

use agent_core::wal::inspect::{Checked, Finding, StoppedLog, Verdict};
use anyhow::Result;

use super::text::{Table, count};

/// Reads everything and prints what is wrong; true if the log is sound.
///
/// # Errors
/// When it can't be read, or standard output refuses.
pub(super) fn run(log: &StoppedLog) -> Result<bool> {
    let verdict = log.verify()?;
    let mut out = BufWriter::new(stdout().lock());
    writeln!(out, "log  {}", log.directory().display())?;
    if !verdict.checked.is_empty() {
        writeln!(out)?;
        checked(&verdict.checked).write(&mut out)?;
    }
    for finding in &verdict.findings {
        writeln!(out)?;
        write_finding(&mut out, finding)?;
        writeln!(out, "    then: {}", finding.then)?;
    }
    writeln!(out)?;
    write_verdict(&mut out, &verdict)?;
    out.flush()?;
    Ok(verdict.is_sound())
}

fn checked(checked: &[Checked]) -> Table<5> {
    let mut table = Table::new(["GENERATION", ">FIRST", ">LAST", ">GIVES", ">FOUND IN ITS BYTES"]);
    for generation in checked {
        let Checked { first_seq, last_seq, .. } = *generation;
        table.row([
            generation.name.clone(),
            first_seq.to_string(),
            if last_seq < first_seq { "-".to_owned() } else { last_seq.to_string() },
            generation.given.map_or_else(|| "damaged".to_owned(), |given| given.to_string()),
            generation.raw.to_string(),
        ]);
    }
    table
}

/// What it is and where, in a line.
pub(super) fn write_finding(out: &mut impl Write, finding: &Finding) -> io::Result<()> {
    let kind = if finding.is_damage { "damage" } else { "note" };
    let Finding { place, what, .. } = finding;
    writeln!(out, "{kind}: {place}: {what}")?;
    if finding.lost > 0 {
        writeln!(out, "    lost: {} that a sink waits for", count(finding.lost, "record"))?;
    }
    Ok(())
}

fn write_verdict(out: &mut impl Write, verdict: &Verdict) -> io::Result<()> {
    if verdict.is_sound() {
        return writeln!(out, "sound");
    }
    writeln!(
        out,
        "damaged: {} lost. `holdfast-agent wal repair` does now what is said above, an agent does it \
         when it starts and reads",
        count(verdict.lost(), "record")
    )?;
    if verdict.begins_stream {
        let stream = "the end of the log is uncertain: another stream begins there, with a gap";
        writeln!(out, "{stream}")?;
    }
    Ok(())
}
