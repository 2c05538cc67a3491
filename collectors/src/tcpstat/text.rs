//! Connections as the kernel writes them in `/proc/net/tcp` and `/proc/net/tcp6`. It takes 150 bytes for
//! each, so the text is read in parts.

use agent_core::CollectError;

use super::{Counts, answer::Connection};
use crate::{
    parse::{ParseError, Words, hexadecimal},
    reader::KeptFile,
};

/// Counts all of a file.
pub(super) fn read(file: &mut KeptFile, counts: &mut Counts) -> Result<(), CollectError> {
    file.lines(|index, line| add(counts, index, line))
}

/// A line below the heading: `0: local remote state send:receive …`.
fn add(counts: &mut Counts, index: usize, line: &str) -> Result<(), ParseError> {
    if index == 1 {
        return Ok(());
    }
    let mut words = Words::new(index, line);
    for field in ["number", "local address", "remote address"] {
        words.word(field)?;
    }
    let state = words.hexadecimal("state")?;
    let queues = words.word("queues")?;
    let (send, receive) = queues
        .split_once(':')
        .ok_or_else(|| ParseError::new(index, "queues", "no colon between them"))?;
    let bytes = |field: &'static str, word: &str| {
        let bytes = hexadecimal(index, field, word)?;
        u32::try_from(bytes).map_err(|_| ParseError::new(index, field, "more than 32 bits"))
    };
    let connection = Connection {
        // one that there is no name for
        state: u8::try_from(state).unwrap_or(u8::MAX),
        send_bytes: bytes("bytes to send", send)?,
        receive_bytes: bytes("bytes received", receive)?,
    };
    counts.add(connection).map_err(|why| ParseError::new(index, "connections", why.to_string()))
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{parse::numbered, testing::kernel_text};

    pub(crate) const TCP: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:0016 00000000:0000 0A 00000000:00000002 00:00000000 00000000     0        0 1211 1 0 100 0 0 10 0
   1: 0100007F:1F90 0100007F:C350 01 0000001A:00000100 01:00000014 00000000  1000        0 2210 1 0 20 4 30 10 -1
   2: 0100007F:1F90 0100007F:C351 06 00000000:00000000 03:00001770 00000000     0        0 0 3 0
   3: 0100007F:1F90 0100007F:C352 0C 00000000:00000000 03:00001770 00000000     0        0 0 3 0
";

    fn read(text: &str) -> Result<String, String> {
        let mut counts = Counts::new();
        for (index, line) in numbered(text) {
            add(&mut counts, index, line).map_err(|error| error.to_string())?;
        }
        let there = counts.states.iter().filter(|(_, count)| *count > 0);
        let states: Vec<_> = there.map(|(k, v)| format!("{k} {v}")).collect();
        Ok(format!("{}; {} {}", states.join(", "), counts.send_bytes, counts.receive_bytes))
    }

    #[test]
    fn lines_are_read_or_the_place_is_named() {
        let check = |text: &str, expected: Result<&str, &str>| {
            assert_eq!(read(text), expected.map(str::to_owned).map_err(str::to_owned), "{text:?}");
        };
        check(TCP, Ok("established 1, time_wait 1, listen 1, unknown 1; 26 258"));
        check("", Ok("; 0 0"));
        check("sl\n 0: a b 0A 0:1\n", Ok("listen 1; 0 1"));
        check("sl\n 0: a b 101 0:1\n", Ok("unknown 1; 0 1"));
        check("sl\n 0: a b\n", Err("line 2, state: missing"));
        check("sl\n 0: a b 0A\n", Err("line 2, queues: missing"));
        check("sl\n 0: a b 0A 00\n", Err("line 2, queues: no colon between them"));
        check(
            "sl\n 0: a b 0A x:0\n",
            Err("line 2, bytes to send: \"x\" is not a number, or too large"),
        );
        check("sl\n 0: a b 0A 0:100000000\n", Err("line 2, bytes received: more than 32 bits"));
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_read(text in kernel_text(TCP)) {
            let _ = read(&text);
        }
    }
}
