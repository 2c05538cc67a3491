//! The kernel's load balancer: `/proc/net/ip_vs_stats` and `/proc/net/ip_vs`. Without its module there
//! are no such files.
//!
//! Which labels a backend has is an option; backends that then look the same are added up.

use std::{
    collections::HashMap,
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use agent_core::{
    CollectError, Collector, Metric, Registration, Samples,
    collector::{BuildError, Context, OptionSpec},
};

use crate::{
    parse::{ParseError, Words, hexadecimal, number, numbered},
    reader::KeptFile,
};

pub(crate) const REGISTRATION: Registration = Registration {
    name: "ipvs",
    summary: "Connections, packets and bytes of the kernel's load balancer, and its backends.",
    reads: &["/proc/net/ip_vs", "/proc/net/ip_vs_stats"],
    default_enabled: true,
    options: &[OptionSpec {
        key: "backend_labels",
        default: "local_address,local_port,remote_address,remote_port,proto,local_mark",
        doc: "Labels of backends, separated by commas; those that look the same are added up.",
    }],
    build,
};

/// The columns of the line of totals.
const TOTALS: [Metric<'_>; 5] = [
    Metric::counter("node_ipvs_connections_total", "The total number of connections made."),
    Metric::counter("node_ipvs_incoming_packets_total", "The total number of incoming packets."),
    Metric::counter("node_ipvs_outgoing_packets_total", "The total number of outgoing packets."),
    Metric::counter("node_ipvs_incoming_bytes_total", "The total amount of incoming data."),
    Metric::counter("node_ipvs_outgoing_bytes_total", "The total amount of outgoing data."),
];
/// Its place: below two lines of headings.
const TOTALS_LINE: usize = 3;
/// In the order of a backend's columns.
const BACKEND: [Metric<'_>; 3] = [
    Metric::gauge(
        "node_ipvs_backend_weight",
        "The current backend weight by local and remote address.",
    ),
    Metric::gauge(
        "node_ipvs_backend_connections_active",
        "The current active connections by local and remote address.",
    ),
    Metric::gauge(
        "node_ipvs_backend_connections_inactive",
        "The current inactive connections by local and remote address.",
    ),
];
/// Every label a backend can have, in the order in which series have them.
const LABELS: [&str; 6] =
    ["local_address", "local_mark", "local_port", "proto", "remote_address", "remote_port"];
/// Between the values of a key; none of them has it.
const SEPARATOR: char = '\n';

struct Ipvs {
    stats: KeptFile,
    services: KeptFile,
    backends: Backends,
}

/// What backends add up to, by their labels.
#[derive(Debug, Default)]
struct Backends {
    wanted: [bool; LABELS.len()],
    sums: Vec<Sum>,
    /// By the values of a backend's labels, its place in `sums`.
    places: HashMap<String, usize>,
    key: String,
}

#[derive(Debug)]
struct Sum {
    values: Vec<String>,
    counts: [u64; BACKEND.len()],
    seen: bool,
}

/// One backend of one service; addresses as they are shown.
#[derive(Debug, PartialEq, Eq)]
struct Backend<'a> {
    proto: &'a str,
    local: Option<(IpAddr, u16)>,
    local_mark: &'a str,
    remote: (IpAddr, u16),
    counts: [u64; BACKEND.len()],
}

fn build(context: &Context<'_>) -> Result<Box<dyn Collector>, BuildError> {
    let file = |name: &str| KeptFile::new(context.roots.proc(name));
    let wanted = wanted(context.option("backend_labels")).map_err(|reason| BuildError {
        collector: context.registration.name,
        key: "backend_labels",
        reason,
    })?;
    Ok(Box::new(Ipvs {
        stats: file("net/ip_vs_stats"),
        services: file("net/ip_vs"),
        backends: Backends { wanted, ..Backends::default() },
    }))
}

/// Which of [`LABELS`] are in a list with commas.
fn wanted(list: &str) -> Result<[bool; LABELS.len()], String> {
    let mut wanted = [false; LABELS.len()];
    for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let place = LABELS.iter().position(|label| *label == name);
        let unknown = || format!("'{name}' is not one of {}", LABELS.join(", "));
        wanted[place.ok_or_else(unknown)?] = true;
    }
    Ok(wanted)
}

impl Collector for Ipvs {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let stats = self.stats.text()?;
        let totals = parse_totals(stats.content).map_err(|error| stats.malformed(&error))?;
        for (metric, total) in TOTALS.iter().zip(totals) {
            out.push(metric, &[], total as f64);
        }
        let services = self.services.text()?;
        let backends = &mut self.backends;
        backends.begin();
        parse_backends(services.content, &mut |backend| backends.add(&backend))
            .map_err(|error| services.malformed(&error))?;
        backends.end();
        backends.push(out);
        Ok(())
    }
}

impl Backends {
    fn begin(&mut self) {
        for sum in &mut self.sums {
            (sum.counts, sum.seen) = ([0; BACKEND.len()], false);
        }
    }

    fn add(&mut self, backend: &Backend<'_>) {
        self.key.clear();
        for (place, wanted) in self.wanted.iter().enumerate() {
            if *wanted {
                write_label(&mut self.key, place, backend);
                self.key.push(SEPARATOR);
            }
        }
        let place = match self.places.get(&self.key) {
            Some(place) => *place,
            None => {
                let values = self.key.split_terminator(SEPARATOR).map(str::to_owned).collect();
                self.sums.push(Sum { values, counts: [0; BACKEND.len()], seen: false });
                self.places.insert(self.key.clone(), self.sums.len() - 1);
                self.sums.len() - 1
            }
        };
        let sum = &mut self.sums[place];
        sum.seen = true;
        for (total, count) in sum.counts.iter_mut().zip(backend.counts) {
            *total = total.saturating_add(count);
        }
    }

    /// Forgets those that are gone.
    fn end(&mut self) {
        if self.sums.iter().all(|sum| sum.seen) {
            return;
        }
        let mut place = 0;
        let places: Vec<_> = (self.sums.iter())
            .map(|sum| {
                place += usize::from(sum.seen);
                sum.seen.then(|| place - 1)
            })
            .collect();
        self.places.retain(|_, place| {
            places[*place].is_some_and(|new| {
                *place = new;
                true
            })
        });
        self.sums.retain(|sum| sum.seen);
    }

    fn push(&self, out: &mut Samples) {
        let names = || LABELS.iter().zip(&self.wanted).filter(|(_, wanted)| **wanted);
        for (place, metric) in BACKEND.iter().enumerate() {
            for sum in &self.sums {
                let mut labels = [("", ""); LABELS.len()];
                for (label, ((name, _), value)) in labels.iter_mut().zip(names().zip(&sum.values)) {
                    *label = (name, value);
                }
                out.push(metric, &labels[..sum.values.len()], sum.counts[place] as f64);
            }
        }
    }
}

/// The value of a label of [`LABELS`].
fn write_label(text: &mut String, label: usize, backend: &Backend<'_>) {
    let (local, port) = backend.local.map_or((None, 0), |(address, port)| (Some(address), port));
    // writing to a String can't fail
    let _ = match LABELS[label] {
        "local_address" => local.map_or(Ok(()), |address| write!(text, "{address}")),
        "local_mark" => text.write_str(backend.local_mark),
        "local_port" => write!(text, "{port}"),
        "proto" => text.write_str(backend.proto),
        "remote_address" => write!(text, "{}", backend.remote.0),
        _ => write!(text, "{}", backend.remote.1),
    };
}

/// The line of totals.
fn parse_totals(text: &str) -> Result<[u64; TOTALS.len()], ParseError> {
    let line = numbered(text).nth(TOTALS_LINE - 1);
    let (index, line) = line.ok_or_else(|| ParseError::new(TOTALS_LINE, "totals", "missing"))?;
    let mut words = Words::new(index, line);
    let mut totals = [0; TOTALS.len()];
    for (total, metric) in totals.iter_mut().zip(&TOTALS) {
        *total = words.hexadecimal(metric.name)?;
    }
    Ok(totals)
}

/// The backends, `-> address:port forward weight active inactive`, below the line of their service.
fn parse_backends<'a>(text: &'a str, push: &mut impl FnMut(Backend<'a>)) -> Result<(), ParseError> {
    let mut service = None;
    for (index, line) in numbered(text) {
        let mut words = Words::new(index, line);
        match words.next() {
            Some(proto @ ("TCP" | "UDP" | "SCTP")) => {
                let local = address(index, "local address", words.word("local address")?)?;
                service = Some((proto, Some(local), ""));
            }
            Some("FWM") => service = Some(("FWM", None, words.word("firewall mark")?)),
            Some("->") => {
                let remote = words.word("remote address")?;
                if remote.starts_with("RemoteAddress") {
                    continue;
                }
                let Some((proto, local, local_mark)) = service else {
                    return Err(ParseError::new(index, "backend", "no service above it"));
                };
                let remote = address(index, "remote address", remote)?;
                words.word("way of forwarding")?;
                let mut counts = [0; BACKEND.len()];
                for (count, field) in
                    counts.iter_mut().zip(["weight", "active connections", "inactive connections"])
                {
                    *count = number(index, field, words.word(field)?)?;
                }
                push(Backend { proto, local, local_mark, remote, counts });
            }
            // headings
            _ => {}
        }
    }
    Ok(())
}

/// `C0A80016:0CEA` or `[2620:0000:…:0001]:0050`.
fn address(line: usize, field: &'static str, word: &str) -> Result<(IpAddr, u16), ParseError> {
    let wrong = || ParseError::new(line, field, "not an address and a port");
    let (address, port) = word.rsplit_once(':').ok_or_else(wrong)?;
    let port = u16::try_from(hexadecimal(line, field, port)?).map_err(|_| wrong())?;
    let address = match address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(six) => six.parse::<Ipv6Addr>().map_err(|_| wrong())?.to_canonical(),
        None => {
            let bits = hexadecimal(line, field, address)?;
            Ipv4Addr::from(u32::try_from(bits).map_err(|_| wrong())?).into()
        }
    };
    Ok((address, port))
}

#[cfg(test)]
mod tests;
