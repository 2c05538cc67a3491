//! TCP connections by state, and what waits in their buffers.
//!
//! The kernel walks the same tables whichever way it is asked, but to write them as text costs it four
//! times as much as to tell them over netlink (`sock_diag(7)`), which is what we do, as node_exporter does.
//! Where that is refused, by a filter of system calls or for want of a module, the text of
//! `/proc/net/tcp` and `/proc/net/tcp6` is read, and a remark says so; the values are the same. A `/proc`
//! that is no procfs but a copy of one is always read.
//!
//! Neither needs a privilege, and both show the network namespace of the agent.

mod answer;
mod diag;
mod text;

use std::path::Path;

use agent_core::{
    CollectError, Collector, Metric, Registration, Samples,
    collector::{BuildError, Context},
};
use nix::sys::statfs::{PROC_SUPER_MAGIC, statfs};

use self::{
    answer::Connection,
    diag::{Diag, DiagError, FAMILIES},
};
use crate::{reader::KeptFile, states::States};

pub(crate) const REGISTRATION: Registration = Registration {
    name: "tcpstat",
    summary: "TCP connections by state, and the bytes in their queues.",
    reads: &["sock_diag(7)", "/proc/net/tcp", "/proc/net/tcp6"],
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
const LISTEN: u8 = 10;
/// Connections beyond this are not walked: a second of a host that has so many is not ours to take.
const CONNECTIONS_MAX: usize = 1_000_000;
/// Ticks from a refusal to the next question: the kernel looks for its module at each one.
const REFUSED_TICKS: u32 = 60;

struct Tcpstat {
    kernel: Option<Kernel>,
    four: KeptFile,
    six: KeptFile,
    counts: Counts,
}

/// The kernel, as long as it answers.
struct Kernel {
    diag: Diag,
    /// Why it was last refused.
    refusal: String,
    /// For so many ticks nothing is asked.
    ticks_left: u32,
}

/// What connections add up to.
#[derive(Debug)]
struct Counts {
    total: usize,
    states: States<&'static str>,
    send_bytes: u64,
    receive_bytes: u64,
}

/// There are more than we look at.
#[derive(Debug, thiserror::Error)]
#[error("more than {CONNECTIONS_MAX} connections: switch this collector off")]
struct TooMany;

fn build(context: &Context<'_>) -> Result<Box<dyn Collector>, BuildError> {
    let is_real = is_procfs(&context.roots.procfs);
    let kernel = is_real.then(|| Kernel::new(Diag::new(diag::open)));
    let file = |name: &str| KeptFile::new(context.roots.proc(name));
    let (four, six) = (file("net/tcp"), file("net/tcp6"));
    Ok(Box::new(Tcpstat { kernel, four, six, counts: Counts::new() }))
}

fn is_procfs(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| found.filesystem_type() == PROC_SUPER_MAGIC)
}

impl Collector for Tcpstat {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let is_answered = match &mut self.kernel {
            Some(kernel) => kernel.ask(&mut self.counts, out)?,
            None => false,
        };
        if !is_answered {
            self.counts.restart();
            text::read(&mut self.four, &mut self.counts)?;
            match text::read(&mut self.six, &mut self.counts) {
                // a host without IPv6
                Err(CollectError::Unavailable { .. }) => {}
                read => read?,
            }
        }
        self.counts.push(out);
        Ok(())
    }
}

impl Kernel {
    fn new(diag: Diag) -> Self {
        Self { diag, refusal: String::new(), ticks_left: 0 }
    }

    /// Whether it has answered; why not is remarked.
    fn ask(&mut self, counts: &mut Counts, out: &mut Samples) -> Result<bool, CollectError> {
        if self.ticks_left == 0 {
            counts.restart();
            let dump = |family: &u8| self.diag.dump(*family, |connection| counts.add(connection));
            match FAMILIES.iter().try_for_each(dump) {
                Ok(()) => return Ok(true),
                Err(DiagError::TooMany(why)) => return Err(CollectError::failed("sock_diag", why)),
                Err(error) => self.refusal = error.to_string(),
            }
            self.ticks_left = REFUSED_TICKS;
        }
        self.ticks_left -= 1;
        out.remark(&format!(
            "sock_diag: {}: /proc/net/tcp is read, which costs more",
            self.refusal
        ));
        Ok(false)
    }
}

impl Counts {
    fn new() -> Self {
        Self { total: 0, states: States::new(&NAMES), send_bytes: 0, receive_bytes: 0 }
    }

    fn restart(&mut self) {
        self.states.restart();
        (self.total, self.send_bytes, self.receive_bytes) = (0, 0, 0);
    }

    fn add(&mut self, connection: Connection) -> Result<(), TooMany> {
        let Connection { state, receive_bytes, send_bytes } = connection;
        self.total += 1;
        if self.total > CONNECTIONS_MAX {
            return Err(TooMany);
        }
        let name = usize::from(state).checked_sub(1).and_then(|place| NAMES.get(place));
        self.states.add(name.unwrap_or(&"unknown"));
        self.receive_bytes += u64::from(receive_bytes);
        // nothing waits to be sent where one listens: netlink has there how many may wait to be accepted
        if state != LISTEN {
            self.send_bytes += u64::from(send_bytes);
        }
        Ok(())
    }

    fn push(&self, out: &mut Samples) {
        for (state, count) in self.states.iter() {
            out.push(&STATES, &[("state", state)], *count as f64);
        }
        out.push(&STATES, &[("state", "rx_queued_bytes")], self.receive_bytes as f64);
        out.push(&STATES, &[("state", "tx_queued_bytes")], self.send_bytes as f64);
    }
}

#[cfg(test)]
mod tests;
