//! Requests, made beforehand, and the connections that send them.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::store::Connection;
use crate::workload::Host;

/// How long a request that was told to come back waits: shorter than a real sender, which has time.
const PUSHED_BACK: Duration = Duration::from_millis(50);
/// How often one request may be told to come back.
const TRIES_MAX: u64 = 2_400;

/// How a store is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// As an agent does.
    Records,
    /// Prometheus remote write 1.0.
    RemoteWrite,
}

/// The requests of some hosts: for each host, one a scrape, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Load(Vec<Vec<Vec<u8>>>);

/// How sending went.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sent {
    /// Time.
    pub took: Duration,
    /// The longest time that one request took, from its first attempt to its answer.
    pub slowest: Duration,
    /// Answers that said to come back later.
    pub pushed_back: u64,
}

impl Sent {
    /// Of two that were sent side by side.
    fn beside(self, other: Self) -> Self {
        Self {
            took: self.took.max(other.took),
            slowest: self.slowest.max(other.slowest),
            pushed_back: self.pushed_back + other.pushed_back,
        }
    }
}

impl Load {
    /// So many scrapes of each.
    ///
    /// # Errors
    /// When a host has more series than a record holds.
    pub fn new(hosts: Vec<Host>, ticks: u64, protocol: Protocol) -> Result<Self> {
        let bodies = hosts.into_iter().map(|mut host| {
            let body = |_| match protocol {
                Protocol::Records => Ok(host.request()?),
                Protocol::RemoteWrite => Ok(host.remote_write()),
            };
            (0..ticks).map(body).collect()
        });
        Ok(Self(bodies.collect::<Result<_>>()?))
    }

    /// Bytes of all requests.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.iter().flatten().map(|body| body.len() as u64).sum()
    }

    /// The first request of each host, and all others.
    pub(super) fn split(self) -> (Self, Self) {
        let split = |mut bodies: Vec<Vec<u8>>| {
            let rest = bodies.split_off(1.min(bodies.len()));
            (bodies, rest)
        };
        let (first, rest) = self.0.into_iter().map(split).unzip();
        (Self(first), Self(rest))
    }

    /// Sends all of it: each connection has hosts of its own and goes through them scrape by scrape.
    ///
    /// # Errors
    /// When a request is refused, or told to come back too often.
    pub fn send(self, connections: &[Connection]) -> Result<Sent> {
        let mut parts: Vec<Vec<Vec<Vec<u8>>>> = connections.iter().map(|_| Vec::new()).collect();
        for (index, host) in self.0.into_iter().enumerate() {
            parts[index % connections.len()].push(host);
        }
        let begun = Instant::now();
        thread::scope(|scope| {
            let senders: Vec<_> = connections
                .iter()
                .zip(&parts)
                .map(|(connection, part)| scope.spawn(move || send_part(connection, part)))
                .collect();
            let mut all = Sent::default();
            for sender in senders {
                let Ok(sent) = sender.join() else { bail!("a sender panicked") };
                all = all.beside(sent?);
            }
            Ok(Sent { took: begun.elapsed(), ..all })
        })
    }
}

fn send_part(connection: &Connection, hosts: &[Vec<Vec<u8>>]) -> Result<Sent> {
    let mut all = Sent::default();
    let ticks = hosts.iter().map(Vec::len).max().unwrap_or(0);
    for tick in 0..ticks {
        for body in hosts.iter().filter_map(|bodies| bodies.get(tick)) {
            let begun = Instant::now();
            let mut tries = 0;
            while !connection.send(body).with_context(|| format!("scrape {}", tick + 1))? {
                tries += 1;
                if tries > TRIES_MAX {
                    bail!("told to come back {tries} times");
                }
                thread::sleep(PUSHED_BACK);
            }
            let one = Sent { took: Duration::ZERO, slowest: begun.elapsed(), pushed_back: tries };
            all = all.beside(one);
        }
    }
    Ok(all)
}
