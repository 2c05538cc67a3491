//! Fibre Channel ports: `/sys/class/fc_host`.

use std::path::Path;

use agent_core::{
    CollectError, Collector, Metric, Registration, Samples,
    collector::{BuildError, Context},
};

use crate::{
    attribute::{Field, Fields, Page, Text},
    devices::Devices,
    sysfs::number,
};

pub(crate) const REGISTRATION: Registration = Registration {
    name: "fibrechannel",
    summary: "State, speed, traffic and errors of Fibre Channel ports.",
    reads: &["/sys/class/fc_host"],
    default_enabled: true,
    options: &[],
    build,
};

const INFO: Metric<'_> = Metric::gauge(
    "node_fibrechannel_info",
    "Non-numeric data from /sys/class/fc_host/<host>, value is always 1.",
);
/// Labels of [`INFO`] in their order, each an attribute but for the name of the host itself.
const TEXTS: [&str; 11] = [
    "dev_loss_tmo",
    "fabric_name",
    HOST,
    "port_id",
    "port_name",
    "port_state",
    "port_type",
    "speed",
    "supported_classes",
    "supported_speeds",
    "symbolic_name",
];
const HOST: &str = "fc_host";
/// Those that are written in hexadecimal, without the `0x` as a label.
const HEXADECIMAL: [&str; 3] = ["fabric_name", "port_id", "port_name"];
/// What a port's firmware doesn't count has all bits set.
const NOT_COUNTED: f64 = u64::MAX as f64;

static COUNTERS: [Field; 14] = [
    Field::new(
        "statistics/dumped_frames",
        Metric::counter("node_fibrechannel_dumped_frames_total", "Number of dumped frames"),
    ),
    Field::new(
        "statistics/error_frames",
        Metric::counter("node_fibrechannel_error_frames_total", "Number of errors in frames"),
    ),
    Field::new(
        "statistics/fcp_packet_aborts",
        Metric::counter("node_fibrechannel_fcp_packet_aborts_total", "Number of aborted packets"),
    ),
    Field::new(
        "statistics/invalid_crc_count",
        Metric::counter(
            "node_fibrechannel_invalid_crc_total",
            "Invalid Cyclic Redundancy Check count",
        ),
    ),
    Field::new(
        "statistics/invalid_tx_word_count",
        Metric::counter(
            "node_fibrechannel_invalid_tx_words_total",
            "Number of invalid words transmitted by host port",
        ),
    ),
    Field::new(
        "statistics/link_failure_count",
        Metric::counter(
            "node_fibrechannel_link_failure_total",
            "Number of times the host port link has failed",
        ),
    ),
    Field::new(
        "statistics/loss_of_signal_count",
        Metric::counter(
            "node_fibrechannel_loss_of_signal_total",
            "Number of times signal has been lost",
        ),
    ),
    Field::new(
        "statistics/loss_of_sync_count",
        Metric::counter(
            "node_fibrechannel_loss_of_sync_total",
            "Number of failures on either bit or transmission word boundaries",
        ),
    ),
    Field::new(
        "statistics/nos_count",
        Metric::counter(
            "node_fibrechannel_nos_total",
            "Number Not_Operational Primitive Sequence received by host port",
        ),
    ),
    Field::new(
        "statistics/rx_frames",
        Metric::counter("node_fibrechannel_rx_frames_total", "Number of frames received"),
    ),
    Field::new(
        "statistics/rx_words",
        Metric::counter(
            "node_fibrechannel_rx_words_total",
            "Number of words received by host port",
        ),
    ),
    Field::new(
        "statistics/seconds_since_last_reset",
        Metric::counter(
            "node_fibrechannel_seconds_since_last_reset_total",
            "Number of seconds since last host port reset",
        ),
    ),
    Field::new(
        "statistics/tx_frames",
        Metric::counter(
            "node_fibrechannel_tx_frames_total",
            "Number of frames transmitted by host port",
        ),
    ),
    Field::new(
        "statistics/tx_words",
        Metric::counter(
            "node_fibrechannel_tx_words_total",
            "Number of words transmitted by host port",
        ),
    ),
];

struct Fibrechannel {
    hosts: Devices<Host>,
    page: Page,
}

struct Host {
    name: String,
    texts: [Text; TEXTS.len()],
    counters: Fields,
}

fn build(context: &Context<'_>) -> Result<Box<dyn Collector>, BuildError> {
    let hosts = Devices::new(context.roots.sys("class/fc_host"));
    Ok(Box::new(Fibrechannel { hosts, page: Page::default() }))
}

impl Collector for Fibrechannel {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let Self { hosts, page } = self;
        for host in hosts.current(|name, path| Some(Host::discover(name, path)))? {
            host.push(page, out);
        }
        Ok(())
    }
}

impl Host {
    fn discover(name: &str, path: &Path) -> Self {
        Self {
            name: name.to_owned(),
            texts: TEXTS.map(|text| Text::new(path.join(text))),
            counters: Fields::of(path, &COUNTERS),
        }
    }

    fn push(&mut self, page: &mut Page, out: &mut Samples) {
        let Self { name, texts, counters } = self;
        let mut labels = [("", ""); TEXTS.len()];
        for ((label, key), text) in labels.iter_mut().zip(TEXTS).zip(texts) {
            *label = (key, if key == HOST { name } else { value(key, text, page) });
        }
        out.push(&INFO, &labels, 1.0);
        counters.push_parsed(&[(HOST, name)], page, out, |_, text| {
            number(text).map(|count| (count < NOT_COUNTED).then_some(count))
        });
    }
}

fn value<'t>(key: &str, text: &'t mut Text, page: &mut Page) -> &'t str {
    text.refresh(page);
    let value = text.value();
    let digits = value.strip_prefix("0x").filter(|_| HEXADECIMAL.contains(&key));
    digits.unwrap_or(value)
}
