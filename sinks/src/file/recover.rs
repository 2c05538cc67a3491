//! What a file holds after a crash: how far its lines are whole, and which record is the last.
//!
//! After a kill the last line may be torn. After a power cut anything that wasn't synced may be
//! missing, also in the middle: blocks reach the disk in any order. What wasn't synced is at most
//! [`UNSYNCED_BYTES_MAX`] or one longer line ([`super::lines`] sees to it), so it is enough to read
//! that much of the end, forward, up to the first line that isn't one.

use std::io::{self, BufRead as _, BufReader, Read, Seek, SeekFrom};

use serde::Deserialize;
use wire::StreamId;

/// Bytes that are written before they are synced, if they are more than one line.
pub(crate) const UNSYNCED_BYTES_MAX: u64 = 4 << 20;

/// How every line begins.
const SIGNATURE: &[u8] = b"{\"stream_id\":\"";
const CHUNK_BYTES: u64 = 64 << 10;

/// Which record a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Mark {
    pub(crate) stream_id: StreamId,
    pub(crate) seq: u64,
    pub(crate) time_ms: i64,
}

/// What a file holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// Bytes up to the end of the last whole line.
    pub(crate) whole_bytes: u64,
    /// Bytes of the file.
    pub(crate) bytes: u64,
    /// Whether lines, and not only a torn end, come after the whole ones.
    pub(crate) lines_after: bool,
    /// The first line.
    pub(crate) first: Option<Mark>,
    /// The last whole line.
    pub(crate) last: Option<Mark>,
}

/// Reads the end of a file.
///
/// # Errors
/// The reader's; [`io::ErrorKind::InvalidData`] if the file isn't one of ours.
pub(crate) fn examine(file: &mut (impl Read + Seek + ?Sized)) -> io::Result<Found> {
    let bytes = file.seek(SeekFrom::End(0))?;
    if bytes == 0 {
        return Ok(Found::default());
    }
    if !is_ours(file, bytes)? {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "holds something else than this sink's lines: move it away, or choose another path",
        ));
    }
    let mut window = UNSYNCED_BYTES_MAX;
    loop {
        let start = line_start(file, bytes.saturating_sub(window))?;
        let (whole_bytes, last) = whole_lines(file, start)?;
        if last.is_some() || start == 0 {
            let lines_after = has_newline(file, whole_bytes)?;
            let first = mark_at(file, 0)?;
            return Ok(Found { whole_bytes, bytes, lines_after, first, last });
        }
        window = window.saturating_mul(4);
    }
}

/// The last whole line of a file that was synced whole.
///
/// # Errors
/// As [`examine`].
pub(crate) fn last_mark(file: &mut (impl Read + Seek + ?Sized)) -> io::Result<Option<Mark>> {
    let bytes = file.seek(SeekFrom::End(0))?;
    let start = line_start(file, bytes.saturating_sub(1))?;
    match mark_at(file, start)? {
        Some(mark) => Ok(Some(mark)),
        None => examine(file).map(|found| found.last),
    }
}

/// Whether a file begins as ours do: with the signature, as far as it got, or with blocks that a
/// power cut left empty.
fn is_ours(file: &mut (impl Read + Seek + ?Sized), bytes: u64) -> io::Result<bool> {
    file.seek(SeekFrom::Start(0))?;
    let mut head = Vec::new();
    file.take(SIGNATURE.len() as u64).read_to_end(&mut head)?;
    if SIGNATURE.starts_with(&head) {
        return Ok(true);
    }
    Ok(bytes <= UNSYNCED_BYTES_MAX && all_zero(file)?)
}

fn all_zero(file: &mut (impl Read + Seek + ?Sized)) -> io::Result<bool> {
    file.seek(SeekFrom::Start(0))?;
    let mut all = Vec::new();
    file.take(UNSYNCED_BYTES_MAX).read_to_end(&mut all)?;
    Ok(all.iter().all(|byte| *byte == 0))
}

/// The beginning of the line that byte `at` lies in.
fn line_start(file: &mut (impl Read + Seek + ?Sized), at: u64) -> io::Result<u64> {
    let mut end = at;
    let mut chunk = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(CHUNK_BYTES);
        file.seek(SeekFrom::Start(start))?;
        chunk.clear();
        file.take(end - start).read_to_end(&mut chunk)?;
        if let Some(newline) = chunk.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + newline as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// Reads lines from `start` to the first that isn't whole: where that begins, and the one before it.
fn whole_lines(
    file: &mut (impl Read + Seek + ?Sized),
    start: u64,
) -> io::Result<(u64, Option<Mark>)> {
    file.seek(SeekFrom::Start(start))?;
    let mut reader = BufReader::new(file);
    let (mut end, mut last, mut line) = (start, None, Vec::new());
    while let Some((mark, bytes)) = next_mark(&mut reader, &mut line)? {
        end += bytes;
        last = Some(mark);
    }
    Ok((end, last))
}

fn mark_at(file: &mut (impl Read + Seek + ?Sized), start: u64) -> io::Result<Option<Mark>> {
    file.seek(SeekFrom::Start(start))?;
    Ok(next_mark(&mut BufReader::new(file), &mut Vec::new())?.map(|(mark, _)| mark))
}

fn next_mark(
    reader: &mut BufReader<impl Read>,
    line: &mut Vec<u8>,
) -> io::Result<Option<(Mark, u64)>> {
    line.clear();
    let bytes = reader.read_until(b'\n', line)?;
    let whole = line.strip_suffix(b"\n");
    let mark = whole.and_then(|line| serde_json::from_slice::<Mark>(line).ok());
    Ok(mark.map(|mark| (mark, bytes as u64)))
}

fn has_newline(file: &mut (impl Read + Seek + ?Sized), start: u64) -> io::Result<bool> {
    file.seek(SeekFrom::Start(start))?;
    let mut reader = BufReader::new(file);
    loop {
        let chunk = reader.fill_buf()?;
        if chunk.is_empty() {
            return Ok(false);
        }
        if chunk.contains(&b'\n') {
            return Ok(true);
        }
        let bytes = chunk.len();
        reader.consume(bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn line(seq: u64, padding: usize) -> String {
        let (stream, pad) = (crate::fixture::STREAM, "x".repeat(padding));
        format!(
            "{{\"stream_id\":\"{stream}\",\"seq\":{seq},\"time_ms\":{seq}000,\"p\":\"{pad}\"}}\n"
        )
    }

    fn check(bytes: impl Into<Vec<u8>>, whole_bytes: usize, last: Option<u64>, lines_after: bool) {
        let bytes = bytes.into();
        let length = bytes.len() as u64;
        let found = examine(&mut Cursor::new(bytes)).unwrap();
        assert_eq!((found.whole_bytes, found.bytes), (whole_bytes as u64, length));
        assert_eq!(found.last.map(|mark| mark.seq), last);
        assert_eq!(found.lines_after, lines_after);
        assert_eq!(found.first.map(|mark| mark.seq), (whole_bytes > 0).then_some(1));
    }

    #[test]
    fn whole_and_torn_files() {
        let (one, two) = (line(1, 0), line(2, 0));
        check("", 0, None, false);
        check(one.clone(), one.len(), Some(1), false);
        let both = format!("{one}{two}");
        check(both.clone(), both.len(), Some(2), false);
        for cut in 1..two.len() {
            check(&both[..one.len() + cut], one.len(), Some(1), false);
        }
        for cut in 1..one.len() {
            check(&one[..cut], 0, None, false);
        }
    }

    #[test]
    fn holes_end_what_is_whole() {
        let (one, two, three) = (line(1, 0), line(2, 0), line(3, 0));
        let zeros = "\0".repeat(two.len());
        check(format!("{one}{zeros}"), one.len(), Some(1), false);
        check(format!("{one}{zeros}{three}"), one.len(), Some(1), true);
        check(format!("{one}{{}}\n{three}"), one.len(), Some(1), true);
        check(zeros, 0, None, false);
    }

    #[test]
    fn only_the_end_of_a_long_file_is_read_but_the_last_line_is_always_found() {
        let padding = usize::try_from(UNSYNCED_BYTES_MAX / 3).unwrap();
        let lines: Vec<String> = (1..=9).map(|seq| line(seq, padding)).collect();
        let all = lines.concat();
        check(all.clone(), all.len(), Some(9), false);
        check(&all[..all.len() - 1], all.len() - lines[8].len(), Some(8), false);
        // one line longer than the window, whole and torn
        let long = format!("{}{}", line(1, 0), line(2, 3 * padding + 10));
        check(long.clone(), long.len(), Some(2), false);
        check(&long[..long.len() - 1], line(1, 0).len(), Some(1), false);
        // damage wider than the window: the line before it is found all the same
        let rotten = format!("{}{}\n", line(1, 0), "?".repeat(6 * padding));
        check(rotten, line(1, 0).len(), Some(1), true);
    }

    #[test]
    fn foreign_files_are_refused() {
        for foreign in ["root:x:0:0\n", "{\"level\":\"info\"}\n", "{\"stream_idx\":1}\n", "\0\0x"] {
            let error = examine(&mut Cursor::new(foreign)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{foreign:?}");
        }
    }
}
