//! Text for a terminal or a pipe.
//!
//! A record is written whole or goes on where it stopped: what a failed write left over is written
//! first the next time, so that a pipe that stalls shows every record once and none torn.
//! Acknowledged is what was written and flushed. Nothing is remembered beyond this process: whoever
//! needs that uses the [file sink](crate::file).

use std::{
    io::{self, ErrorKind, Write},
    sync::{Arc, Mutex},
};

use agent_core::{Batch, BatchLimits, Sink, SinkError, sink::BoxFuture};
use wire::StreamId;

use crate::{
    offload,
    records::{Decoded, decode_records},
    render::{Format, Heading},
    utc::Utc,
};

/// Small batches: text is a hundred times the size of its records, and a person waits for it.
const LIMITS: BatchLimits = BatchLimits { records: 64, bytes: 128 << 10 };

/// Writes records as text.
#[derive(Debug)]
pub struct StdoutSink<W> {
    /// Writing to a terminal or a pipe may block for as long as its reader likes.
    output: Arc<Mutex<Output<W>>>,
}

#[derive(Debug)]
struct Output<W> {
    out: W,
    format: Format,
    host: Option<String>,
    /// The last record that was written, or is in `text`.
    written: Option<(StreamId, u64)>,
    /// A record as text, from `at` still to be written.
    text: Vec<u8>,
    at: usize,
}

impl StdoutSink<io::Stdout> {
    /// A sink to standard output; `host` is the name to show.
    #[must_use]
    pub fn stdout(format: Format, host: Option<String>) -> Self {
        Self::new(io::stdout(), format, host)
    }
}

impl<W: Write + Send + 'static> StdoutSink<W> {
    /// A sink to any writer.
    pub fn new(out: W, format: Format, host: Option<String>) -> Self {
        let output = Output { out, format, host, written: None, text: Vec::new(), at: 0 };
        Self { output: Arc::new(Mutex::new(output)) }
    }
}

impl<W: Write + Send + 'static> Sink for StdoutSink<W> {
    fn limits(&self) -> BatchLimits {
        LIMITS
    }

    fn send<'a>(&'a mut self, batch: &'a Batch) -> BoxFuture<'a, Result<u64, SinkError>> {
        let batch = batch.clone();
        Box::pin(offload::run(&self.output, move |output| output.send(&batch)))
    }
}

impl<W: Write> Output<W> {
    fn send(&mut self, batch: &Batch) -> Result<u64, SinkError> {
        self.write_left().map_err(failed)?;
        for decoded in decode_records(batch) {
            let decoded = decoded?;
            if self.is_written(batch.stream_id, decoded.seq) {
                continue;
            }
            self.render(batch.stream_id, &decoded).map_err(failed)?;
            self.write_left().map_err(failed)?;
        }
        self.out.flush().map_err(failed)?;
        Ok(batch.records.last().map_or(0, |record| record.seq))
    }

    fn is_written(&self, stream_id: StreamId, seq: u64) -> bool {
        self.written.is_some_and(|(stream, last)| stream == stream_id && seq <= last)
    }

    fn render(&mut self, stream_id: StreamId, decoded: &Decoded<'_>) -> io::Result<()> {
        let (seq, time_ms) = (decoded.seq, decoded.time_ms());
        let host = self.host.as_deref();
        let heading = Heading { stream_id: Some(stream_id), seq: Some(seq), time_ms, host };
        self.text.clear();
        self.at = 0;
        if self.format == Format::Prometheus {
            // the format has no frame of its own: a comment tells one tick from the next
            writeln!(self.text, "# record {seq} at {}", Utc::from_unix_ms(time_ms))?;
        }
        self.format.write(&mut self.text, &heading, &decoded.content())?;
        if self.format != Format::Json {
            self.text.push(b'\n');
        }
        self.written = Some((stream_id, seq));
        Ok(())
    }

    fn write_left(&mut self) -> io::Result<()> {
        while self.at < self.text.len() {
            match self.out.write(&self.text[self.at..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => self.at += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn failed(error: io::Error) -> SinkError {
    let reason = format!("write to standard output: {error}");
    match error.kind() {
        ErrorKind::BrokenPipe => SinkError::Refused {
            reason: format!("{reason}: its reader has gone, restart the agent with another"),
        },
        _ => SinkError::Transient { reason, retry_after: None },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    /// Takes so many bytes and flushes before each failure.
    struct Stutter {
        taken: Vec<u8>,
        every: usize,
        left: usize,
        error: ErrorKind,
    }

    impl Stutter {
        fn fail_when_used_up(&mut self) -> io::Result<()> {
            if self.left == 0 {
                self.left = self.every;
                return Err(self.error.into());
            }
            Ok(())
        }
    }

    impl Write for Stutter {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.fail_when_used_up()?;
            let count = bytes.len().min(self.left);
            self.left -= count;
            self.taken.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            self.fail_when_used_up()
        }
    }

    fn output(format: Format, every: usize, error: ErrorKind) -> Output<Stutter> {
        let out = Stutter { taken: Vec::new(), every, left: every, error };
        Output { out, format, host: None, written: None, text: Vec::new(), at: 0 }
    }

    #[test]
    fn a_stalling_reader_sees_everything_once_and_whole() {
        for format in Format::ALL {
            let batch = fixture::ticks(1..=3);
            let mut whole = output(format, usize::MAX, ErrorKind::WouldBlock);
            assert_eq!(whole.send(&batch).unwrap(), 3);
            for every in 1..100 {
                let mut stalling = output(format, every, ErrorKind::WouldBlock);
                while stalling.send(&batch).is_err() {}
                assert_eq!(stalling.out.taken, whole.out.taken, "{format}, every {every} bytes");
            }
        }
    }

    #[test]
    fn interruptions_are_passed_over() {
        let mut output = output(Format::Json, 10, ErrorKind::Interrupted);
        // flush may still be interrupted, and says so
        while output.send(&fixture::ticks([1])).is_err() {}
        assert_eq!(output.out.taken.iter().filter(|byte| **byte == b'\n').count(), 1);
    }

    #[test]
    fn a_closed_pipe_is_said_and_what_to_do() {
        let mut output = output(Format::Json, 0, ErrorKind::BrokenPipe);
        let error = output.send(&fixture::ticks([1])).unwrap_err();
        assert!(
            matches!(&error, SinkError::Refused { reason } if reason.contains("its reader has gone"))
        );
    }

    #[test]
    fn ticks_are_told_apart() {
        let mut output = output(Format::Prometheus, usize::MAX, ErrorKind::Other);
        output
            .send(&fixture::batch(vec![fixture::tick_record(1), fixture::gap_record(2)]))
            .unwrap();
        let text = String::from_utf8(output.out.taken).unwrap();
        assert!(text.starts_with("# record 1 at 1970-01-01T00:00:01.000Z\n# HELP "), "{text}");
        assert!(text.contains("\n\n# record 2 at 1970-01-01T00:00:04.000Z\n# gap "), "{text}");
        assert!(text.ends_with("\n\n"), "{text}");
    }

    #[test]
    fn an_unreadable_record_is_rejected_and_the_ones_before_it_stay() {
        let mut output = output(Format::Json, usize::MAX, ErrorKind::Other);
        let mut batch = fixture::ticks(1..=3);
        batch.records[1].bytes[30] ^= 1;
        let error = output.send(&batch).unwrap_err();
        assert!(matches!(error, SinkError::Rejected { seq: 2, .. }), "{error}");
        batch.records[1] = fixture::gap_record(2);
        assert_eq!(output.send(&batch).unwrap(), 3);
        assert_eq!(output.out.taken.iter().filter(|byte| **byte == b'\n').count(), 3);
    }
}
