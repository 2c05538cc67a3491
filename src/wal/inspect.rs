//! `holdfast-agent wal inspect`: what lies in a log.

use std::io::{self, BufWriter, Write, stdout};

use agent_core::wal::inspect::{GapState, PlaceState, StoppedLog, Summary};
use anyhow::Result;

use super::text::{Table, bytes, count, numbers, time};
use crate::cli::TableFormat;

/// Prints how a log stands; true if nothing is missing in it.
///
/// # Errors
/// When it can't be read, or standard output refuses.
pub(super) fn run(log: &StoppedLog, format: TableFormat) -> Result<bool> {
    let summary = log.summary()?;
    let mut out = BufWriter::new(stdout().lock());
    match format {
        TableFormat::Pretty => write(&mut out, &summary)?,
        TableFormat::Json => {
            serde_json::to_writer_pretty(&mut out, &summary).map_err(io::Error::from)?;
            writeln!(out)?;
        }
    }
    out.flush()?;
    Ok(summary.places.iter().all(|place| place.missing == 0))
}

fn write(out: &mut impl Write, summary: &Summary) -> io::Result<()> {
    write_heading(out, summary)?;
    if !summary.places.is_empty() {
        writeln!(out)?;
        places(summary).write(out)?;
    }
    writeln!(out)?;
    sinks(summary).write(out)?;
    if !summary.quarantine.is_empty() {
        writeln!(out)?;
        quarantine(summary).write(out)?;
    }
    Ok(())
}

fn write_heading(out: &mut impl Write, summary: &Summary) -> io::Result<()> {
    let totals = &summary.totals;
    writeln!(out, "log         {}", summary.directory.display())?;
    for stream in &summary.streams {
        let numbers = numbers(stream.first_seq, stream.last_seq);
        writeln!(out, "stream      {}, {numbers}", stream.stream_id)?;
    }
    let from_ms = summary.places.iter().find_map(|place| place.from_ms);
    let to_ms = summary.places.iter().rev().find_map(|place| place.to_ms);
    write!(out, "holds       {}", count(totals.records, "record"))?;
    write!(out, " with {}", count(totals.samples, "sample"))?;
    match (from_ms, to_ms) {
        (Some(_), Some(_)) => writeln!(out, ", {} to {}", time(from_ms), time(to_ms))?,
        _ => writeln!(out)?,
    }
    write!(out, "takes       {}", bytes(totals.disk_bytes))?;
    let per = |of: Option<f64>, what: &str| of.map(|of| format!(", {of:.1} bytes a {what}"));
    write!(out, "{}", per(totals.bytes_per_record, "record").unwrap_or_default())?;
    writeln!(out, "{}", per(totals.bytes_per_sample, "sample").unwrap_or_default())?;
    let beside = match summary.reserve_bytes {
        0 => "no reserve".to_owned(),
        reserve => format!("a reserve of {}", bytes(reserve)),
    };
    writeln!(out, "in all      {} on disk, with {beside}", bytes(summary.disk_bytes))?;
    let quarantine = summary.quarantine.iter().map(|damaged| damaged.disk_bytes).sum();
    let generations = count(summary.quarantine.len() as u64, "generation");
    writeln!(out, "quarantine  {generations}, {}", bytes(quarantine))?;
    if let Some(refused) = &summary.refused {
        let (records, directory) = (count(refused.records, "record"), refused.directory.display());
        writeln!(out, "refused     {records} that sinks didn't take, in {directory}")?;
    }
    Ok(())
}

fn places(summary: &Summary) -> Table<9> {
    let mut table = Table::new([
        "PLACE", "STATE", ">FIRST", ">LAST", ">RECORDS", ">SAMPLES", "FROM", "TO", ">DISK",
    ]);
    for place in &summary.places {
        table.row([
            place.name.clone(),
            place.state.as_str().to_owned(),
            place.first_seq.to_string(),
            if place.last_seq < place.first_seq {
                "-".to_owned()
            } else {
                place.last_seq.to_string()
            },
            place.records.to_string(),
            place.samples.to_string(),
            time(place.from_ms),
            time(place.to_ms),
            bytes(place.disk_bytes),
        ]);
        notes(place).into_iter().for_each(|note| table.note(note));
    }
    table
}

fn notes(place: &PlaceState) -> Vec<String> {
    let mut notes: Vec<String> = place.gaps.iter().map(gap).collect();
    if place.missing > 0 {
        let missing = count(place.missing, "record");
        notes.push(format!("{missing} not found whole: `wal verify` says which"));
    }
    notes
}

/// A gap in a line.
pub(super) fn gap(GapState { seq, gap }: &GapState) -> String {
    let (reason, from, to) = (gap.reason.as_str(), time(Some(gap.from_ms)), time(Some(gap.to_ms)));
    let lost = match gap.records {
        0 => "no record".to_owned(),
        records => {
            let samples = if gap.samples > 0 {
                format!(" with {}", count(gap.samples, "sample"))
            } else {
                String::new()
            };
            let numbers = numbers(gap.first_seq, gap.last_seq);
            format!("{}{samples} ({numbers})", count(records, "record"))
        }
    };
    let detail = if gap.detail.is_empty() { String::new() } else { format!(": {}", gap.detail) };
    format!("gap at {seq}: {reason}, {from} to {to}, lost {lost}{detail}")
}

fn sinks(summary: &Summary) -> Table<5> {
    let mut table = Table::new(["SINK", ">ACKNOWLEDGED", ">RECORDS WAITING", ">SAMPLES", "OLDEST"]);
    for sink in &summary.sinks {
        table.row([
            sink.sink.clone(),
            sink.acked_seq.to_string(),
            sink.waiting_records.to_string(),
            sink.waiting_samples.to_string(),
            time(sink.oldest_ms),
        ]);
        for lost in &sink.lost {
            let numbers = numbers(lost.first_seq, lost.last_seq);
            table.note(format!("lost {numbers}, as a gap will tell it: {}", lost.detail));
        }
    }
    if summary.sinks.is_empty() {
        table.note("none has read from it".to_owned());
    }
    table
}

fn quarantine(summary: &Summary) -> Table<4> {
    let mut table = Table::new(["QUARANTINE", "WRITTEN", ">RECORDS FOUND", ">DISK"]);
    for damaged in &summary.quarantine {
        table.row([
            damaged.name.clone(),
            time(damaged.written_ms),
            damaged.records.to_string(),
            bytes(damaged.disk_bytes),
        ]);
    }
    table
}
