//! Bytes that wait in the queues of UDP sockets: `/proc/net/udp` and `/proc/net/udp6`, of the network
//! namespace that the agent runs in.

use agent_core::{
    CollectError, Collector, Metric, Registration, Samples,
    collector::{BuildError, Context},
};

use crate::{
    parse::{ParseError, Words, hexadecimal, numbered},
    reader::KeptFile,
};

pub(crate) const REGISTRATION: Registration = Registration {
    name: "udp_queues",
    summary: "Bytes that wait in the queues of UDP sockets.",
    reads: &["/proc/net/udp", "/proc/net/udp6"],
    default_enabled: true,
    options: &[],
    build,
};

const QUEUES: Metric<'_> = Metric::gauge(
    "node_udp_queues",
    "Number of allocated memory in the kernel for UDP datagrams in bytes.",
);
const FILES: [(&str, &str); 2] = [("v4", "net/udp"), ("v6", "net/udp6")];

struct UdpQueues {
    files: [KeptFile; FILES.len()],
}

/// Bytes over all sockets.
#[derive(Debug, Default, PartialEq, Eq)]
struct Queued {
    transmit: u64,
    receive: u64,
}

fn build(context: &Context<'_>) -> Result<Box<dyn Collector>, BuildError> {
    let file = |(_, path): (&str, &str)| KeptFile::new(context.roots.proc(path));
    Ok(Box::new(UdpQueues { files: FILES.map(file) }))
}

impl Collector for UdpQueues {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let mut unavailable = None;
        for ((ip, _), file) in FILES.iter().zip(&mut self.files) {
            let text = match file.text() {
                Ok(text) => text,
                Err(error @ CollectError::Unavailable { .. }) => {
                    unavailable = Some(error);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let queued = parse(text.content).map_err(|error| text.malformed(&error))?;
            out.push(&QUEUES, &[("ip", ip), ("queue", "tx")], queued.transmit as f64);
            out.push(&QUEUES, &[("ip", ip), ("queue", "rx")], queued.receive as f64);
        }
        // Without IPv6 there is one of them.
        unavailable.filter(|_| out.is_empty()).map_or(Ok(()), Err)
    }
}

/// Sums up the fifth column, `tx_queue:rx_queue` in hexadecimal.
fn parse(text: &str) -> Result<Queued, ParseError> {
    const BEFORE: usize = 4;
    let mut sum = Queued::default();
    for (index, line) in numbered(text).skip(1) {
        let mut words = Words::new(index, line);
        for _ in 0..BEFORE {
            words.next();
        }
        let queues = words.word("queues")?;
        let (transmit, receive) = queues
            .split_once(':')
            .ok_or_else(|| ParseError::new(index, "queues", "not two numbers and a colon"))?;
        sum.transmit = sum.transmit.saturating_add(hexadecimal(index, "tx_queue", transmit)?);
        sum.receive = sum.receive.saturating_add(hexadecimal(index, "rx_queue", receive)?);
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::kernel_text;

    const UDP: &str = "   \
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
  543: 00000000:0044 00000000:0000 07 00000000:00000015 00:00000000 00000000     0        0 19
  544: 00000000:0045 00000000:0000 07 00000002:0000000a 00:00000000 00000000     0        0 20
";

    #[test]
    fn queues_are_summed_or_the_place_is_named() {
        let check = |text: &str, expected: Result<(u64, u64), &str>| {
            let got = parse(text).map(|sum| (sum.transmit, sum.receive));
            assert_eq!(got.map_err(|e| e.to_string()), expected.map_err(str::to_owned));
        };
        check(UDP, Ok((2, 31)));
        check("heading\n", Ok((0, 0)));
        check("\n1: a b c\n", Err("line 2, queues: missing"));
        check("\n1: a b c 00\n", Err("line 2, queues: not two numbers and a colon"));
        check("\n1: a b c 0:z\n", Err("line 2, rx_queue: \"z\" is not a number, or too large"));
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_read(text in kernel_text(UDP)) {
            let _ = parse(&text);
        }
    }
}
