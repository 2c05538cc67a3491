//! TCP connections by state, and what waits in their buffers: `/proc/net/tcp` and `/proc/net/tcp6`.
//!
//! node_exporter asks `inet_diag` over netlink. The kernel walks the same tables for both; to write them as
//! text costs it more (16 000 connections: 45 ms of CPU against 16). We read the text all the same: it needs
//! no kind of socket that a hardened service is denied and no module that may not be loaded, it shows the
//! network namespace of the `/proc` that was asked for, and hosts with so many connections give this
//! collector an interval of its own. It also means what it says: over netlink the bytes to send of a socket
//! that listens are the longest its queue may grow.
//!
//! The text is read in parts: it takes 150 bytes a connection.

use agent_core::{
    CollectError, Collector, Metric, Registration, Samples,
    collector::{BuildError, Context},
};

use crate::{
    parse::{ParseError, Words, hexadecimal},
    reader::KeptFile,
    states::States,
};

pub(crate) const REGISTRATION: Registration = Registration {
    name: "tcpstat",
    summary: "TCP connections by state, and the bytes in their queues.",
    reads: &["/proc/net/tcp", "/proc/net/tcp6"],
    default_enabled: false,
    options: &[],
    build,
};

const STATES: Metric<'_> =
    Metric::gauge("node_tcp_connection_states", "Number of connection states.");
/// By the kernel's number, from 1 on: `include/net/tcp_states.h`.
const NAMES: [&str; 11] = [
    "established",
    "syn_sent",
    "syn_recv",
    "fin_wait1",
    "fin_wait2",
    "time_wait",
    "close",
    "close_wait",
    "last_ack",
    "listen",
    "closing",
];
/// Connections beyond this are not walked: half a minute of a host that has a million is not ours to take.
const CONNECTIONS_MAX: usize = 1_000_000;

struct Tcpstat {
    four: KeptFile,
    six: KeptFile,
    counts: Counts,
}

#[derive(Debug)]
struct Counts {
    states: States<&'static str>,
    send_bytes: u64,
    receive_bytes: u64,
}

fn build(context: &Context<'_>) -> Result<Box<dyn Collector>, BuildError> {
    let file = |name: &str| KeptFile::new(context.roots.proc(name));
    let (four, six) = (file("net/tcp"), file("net/tcp6"));
    Ok(Box::new(Tcpstat { four, six, counts: Counts::new() }))
}

impl Collector for Tcpstat {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let counts = &mut self.counts;
        counts.restart();
        self.four.lines(|index, line| counts.add(index, line))?;
        match self.six.lines(|index, line| counts.add(index, line)) {
            // a host without IPv6
            Err(CollectError::Unavailable { .. }) => {}
            read => read?,
        }
        for (state, count) in counts.states.iter() {
            out.push(&STATES, &[("state", state)], *count as f64);
        }
        out.push(&STATES, &[("state", "rx_queued_bytes")], counts.receive_bytes as f64);
        out.push(&STATES, &[("state", "tx_queued_bytes")], counts.send_bytes as f64);
        Ok(())
    }
}

impl Counts {
    fn new() -> Self {
        Self { states: States::new(&NAMES), send_bytes: 0, receive_bytes: 0 }
    }

    fn restart(&mut self) {
        self.states.restart();
        (self.send_bytes, self.receive_bytes) = (0, 0);
    }

    /// A line below the heading: `0: local remote state send:receive …`.
    fn add(&mut self, index: usize, line: &str) -> Result<(), ParseError> {
        if index == 1 {
            return Ok(());
        }
        if index > CONNECTIONS_MAX {
            let reason = format!("more than {CONNECTIONS_MAX}: switch this collector off");
            return Err(ParseError::new(index, "connections", reason));
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
        let name = usize::try_from(state).ok().and_then(|state| NAMES.get(state.checked_sub(1)?));
        self.states.add(name.unwrap_or(&"unknown"));
        self.send_bytes += hexadecimal(index, "bytes to send", send)?;
        self.receive_bytes += hexadecimal(index, "bytes received", receive)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{parse::numbered, testing::kernel_text};

    const TCP: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:0016 00000000:0000 0A 00000000:00000002 00:00000000 00000000     0        0 1211 1 0 100 0 0 10 0
   1: 0100007F:1F90 0100007F:C350 01 0000001A:00000100 01:00000014 00000000  1000        0 2210 1 0 20 4 30 10 -1
   2: 0100007F:1F90 0100007F:C351 06 00000000:00000000 03:00001770 00000000     0        0 0 3 0
   3: 0100007F:1F90 0100007F:C352 0C 00000000:00000000 03:00001770 00000000     0        0 0 3 0
";

    fn read(text: &str) -> Result<String, String> {
        let mut counts = Counts::new();
        for (index, line) in numbered(text) {
            counts.add(index, line).map_err(|error| error.to_string())?;
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
        check("sl\n 0: a b\n", Err("line 2, state: missing"));
        check("sl\n 0: a b 0A\n", Err("line 2, queues: missing"));
        check("sl\n 0: a b 0A 00\n", Err("line 2, queues: no colon between them"));
        check(
            "sl\n 0: a b 0A x:0\n",
            Err("line 2, bytes to send: \"x\" is not a number, or too large"),
        );
    }

    #[test]
    fn connections_are_bounded() {
        let error = Counts::new().add(CONNECTIONS_MAX + 1, "").unwrap_err().to_string();
        assert!(error.ends_with("more than 1000000: switch this collector off"), "{error}");
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_read(text in kernel_text(TCP)) {
            let _ = read(&text);
        }
    }
}
