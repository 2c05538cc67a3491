//! Every key of the agent's configuration, and the pages made from them.

use settings::{Key, Keys, Kind, UserTable};

use super::PREFIX;
use crate::collector::Registration;

const SAMPLE_INTRODUCTION: &str = "\
Configuration of holdfast-agent. What is commented out shows the default, or an example
where there is none.

After a change: `holdfast-agent check-config`, then `systemctl reload holdfast-agent`.
Every key can also be set in the environment: wal.max_bytes as HOLDFAST_WAL_MAX_BYTES.
Durations: 500ms, 10s, 5m, 1h30m, 7d. Sizes: 16MiB, 1GB, 4096 (bytes).";

const REFERENCE_INTRODUCTION: &str = "\
# Configuration of holdfast-agent

`/etc/holdfast/agent.toml`, or the file named with `--config`. It may be absent: everything has a \
default, except where to send. Unknown keys and variables are refused with the nearest valid one. \
`holdfast-agent check-config` says what is wrong; `holdfast-agent print-config` shows what is in \
force, and where each value came from.

Later ones win: defaults, the file, `SERVER_URL` and `AGENT_TOKEN` (short for `sinks.hub.url` and \
`sinks.hub.token`), the variables below, flags. An empty variable counts as not set, except where \
any text is a value.

On SIGHUP the agent reads its configuration again and says what changed, or why it refuses the new \
one and keeps the old. A collector that can't be right on this kind of host (a container, a virtual \
machine) is off there by default: [collectors](collectors.md). Keys whose change needs a restart say so.

This page is made from the table of keys in `agent-core/src/config/keys.rs`.";

/// Every key, with one table for each line of the registry.
#[must_use]
pub fn keys(registry: &[Registration]) -> Keys {
    let mut keys = agent_keys();
    keys.extend(wal_keys());
    keys.extend(sink_keys());
    keys.extend(registry.iter().flat_map(collector_keys));
    Keys { keys, tables: vec![SINKS] }
}

/// The sample file.
#[must_use]
pub fn sample(registry: &[Registration]) -> String {
    settings::sample(&keys(registry), SAMPLE_INTRODUCTION)
}

/// The reference page, in Markdown.
#[must_use]
pub fn reference(registry: &[Registration]) -> String {
    settings::reference(&keys(registry), REFERENCE_INTRODUCTION, PREFIX)
}

fn agent_keys() -> Vec<Key> {
    vec![
        Key::new(
            "interval",
            Kind::Duration,
            "Time between two ticks. They fall on its multiples by the wall clock.",
        )
        .default("10s")
        .min("1s")
        .max("1h"),
        Key::new(
            "collector_deadline",
            Kind::Duration,
            "How long one collector may take before it is skipped and counted; never \
             longer than the interval.",
        )
        .default("5s")
        .min("10ms"),
        Key::new(
            "shutdown_deadline",
            Kind::Duration,
            "How long stopping may take: the last records are sent meanwhile, the others \
             stay in the log. systemd's TimeoutStopSec must be longer.",
        )
        .default("10s")
        .max("10m"),
        Key::new(
            "data_dir",
            Kind::Path,
            "Where the write-ahead log and the agent's identity lie. Absolute.",
        )
        .default("/var/lib/holdfast-agent")
        .restart(),
        Key::new("hostname", Kind::String, "Name of this host. Without it: what the kernel says.")
            .example("web-1"),
        Key::new(
            "procfs",
            Kind::Path,
            "Stands for /proc: in a container, where the host's is mounted.",
        )
        .default("/proc"),
        Key::new("sysfs", Kind::Path, "Stands for /sys.").default("/sys"),
        Key::new(
            "rootfs",
            Kind::Path,
            "Stands for /: put before mount points when file systems are measured.",
        )
        .default("/"),
        Key::new(
            "log.level",
            Kind::String,
            "What the agent says of itself: error, warn, info, debug, trace, or a filter \
             by module such as \"info,agent_core=debug\".",
        )
        .default("info"),
    ]
}

fn wal_keys() -> Vec<Key> {
    vec![
        Key::new(
            "wal.max_bytes",
            Kind::Size,
            "Bytes on disk that the write-ahead log may take. Beyond it the oldest \
             records go, and a gap says what went.",
        )
        .default("256MiB")
        .min("16MiB")
        .restart(),
        Key::new(
            "wal.max_age",
            Kind::Duration,
            "Age at which records go even if nobody has taken them, by the time that was \
             recorded since: hours without a record count for an eighth of it at most.",
        )
        .default("7d")
        .min("1m")
        .restart(),
        Key::new(
            "wal.memory_max",
            Kind::Size,
            "Bytes of ticks that wait in memory while the disk takes none: full, or \
             broken.",
        )
        .default("4MiB")
        .min("64KiB")
        .max("256MiB")
        .restart(),
    ]
}

const SINKS: UserTable = UserTable {
    path: "sinks.*",
    doc: "Where records go. There can be several, with names of your own; each goes on \
             where it was, as long as its name stays.",
    examples: &[
        ("http", "hub"),
        ("remote_write", "mimir"),
        ("stdout", "console"),
        ("file", "archive"),
    ],
};

fn sink_keys() -> Vec<Key> {
    let mut keys = vec![
        Key::new(
            "sinks.*.type",
            Kind::Choice(&["http", "remote_write", "stdout", "file"]),
            "http: a Holdfast hub. remote_write: Prometheus, Mimir, Thanos, VictoriaMetrics, or any \
             other receiver of Prometheus remote write. stdout: standard output. file: JSON \
             lines, or a page for a textfile collector.",
        )
        .default("http"),
    ];
    keys.extend(http_keys());
    keys.extend(remote_write_keys());
    keys.extend(stdout_and_file_keys());
    keys.extend(delivery_keys());
    keys
}

fn http_keys() -> Vec<Key> {
    let http = |key: Key| key.when("type", "http");
    vec![
        http(Key::new("sinks.*.url", Kind::Url, "Address of the hub."))
            .required()
            .example("https://hub.example:8443"),
        http(Key::new(
            "sinks.*.token",
            Kind::Secret,
            "The secret that the hub has as AGENT_TOKEN. Better kept in \
             /etc/holdfast/agent.env, also as AGENT_TOKEN: only root reads that.",
        ))
        .example("a long random text"),
        http(Key::new(
            "sinks.*.ca_file",
            Kind::Path,
            "PEM file with the only certificates that may sign the hub's. Without it: \
             those of this host.",
        ))
        .example("/etc/holdfast/ca.pem"),
        http(Key::new("sinks.*.timeout", Kind::Duration, "How long one request may take."))
            .default("30s")
            .min("1s")
            .max("10m"),
        http(Key::new(
            "sinks.*.max_bytes_per_request",
            Kind::Size,
            "Bytes of records in one request, before compression.",
        ))
        .default("1MiB")
        .min("64KiB")
        .max("8MiB"),
    ]
}

fn remote_write_keys() -> Vec<Key> {
    let key = |name: &str, kind, doc: &'static str| {
        Key::new(format!("sinks.*.{name}"), kind, doc).when("type", "remote_write")
    };
    vec![
        key("url", Kind::Url, "Address of the receiver, with the path that it takes samples at.")
            .required()
            .example("https://mimir.example/api/v1/push"),
        key(
            "protocol",
            Kind::Choice(&["auto", "1.0", "2.0"]),
            "Version of remote write. auto: 2.0, and 1.0 with a receiver that doesn't understand it.",
        )
        .default("auto"),
        key(
            "username",
            Kind::String,
            "Name for basic authentication, with token as the password. Without it: token is a bearer \
             token.",
        )
        .example("web-1"),
        key("token", Kind::Secret, "What the receiver knows this agent by.")
            .example("a long random text"),
        key(
            "headers",
            Kind::Table,
            "Further headers, such as the tenant's. They are shown by print-config: secrets go into \
             token.",
        )
        .example("X-Scope-OrgID=team-a"),
        key(
            "ca_file",
            Kind::Path,
            "PEM file with the only certificates that may sign the receiver's. Without it: those of \
             this host.",
        )
        .example("/etc/holdfast/ca.pem"),
        key("timeout", Kind::Duration, "How long one request may take.")
            .default("30s")
            .min("1s")
            .max("10m"),
        key(
            "job",
            Kind::String,
            "Label job of every series, as dashboards for node_exporter expect it. Empty: none.",
        )
        .default("node"),
        key(
            "instance",
            Kind::String,
            "Label instance of every series. Without it: the host's name at the start.",
        )
        .example("web-1:9100"),
        key(
            "external_labels",
            Kind::Table,
            "Labels for every series that doesn't have them itself.",
        )
        .example("cluster=eu-1"),
        key(
            "max_samples_per_request",
            Kind::Integer,
            "A tick of more samples goes in several requests. Less when the receiver says 413.",
        )
        .default("10000")
        .min("100")
        .max("1000000"),
    ]
}

fn stdout_and_file_keys() -> Vec<Key> {
    let file = |key: Key| key.when("type", "file");
    vec![
        Key::new(
            "sinks.*.format",
            Kind::Choice(&["prometheus", "json", "pretty"]),
            "How it looks.",
        )
        .default("prometheus")
        .when("type", "stdout"),
        file(Key::new(
            "sinks.*.format",
            Kind::Choice(&["json", "prometheus"]),
            "json: each record as a line, rotated. prometheus: the newest tick alone, replaced as a \
             whole, for a textfile collector: the path then ends in .prom. For node_exporter with \
             --collector.disable-defaults --collector.textfile: it refuses a page that has its own \
             metrics twice.",
        ))
        .default("json"),
        file(Key::new("sinks.*.path", Kind::Path, "The file. Absolute."))
            .required()
            .example("/var/lib/holdfast-agent/archive.jsonl"),
        file(Key::new("sinks.*.max_bytes", Kind::Size, "Size at which it is rotated."))
            .default("64MiB")
            .min("64KiB"),
        file(Key::new("sinks.*.max_age", Kind::Duration, "Age at which it is rotated."))
            .default("1d")
            .min("1m"),
        file(Key::new("sinks.*.keep", Kind::Integer, "Rotated files that are kept."))
            .default("7")
            .min("0")
            .max("10000"),
    ]
}

fn delivery_keys() -> Vec<Key> {
    vec![
        Key::new(
            "sinks.*.delivery",
            Kind::Choice(&["required", "best_effort"]),
            "required: records are kept until the sink has them, within the bounds of the log. \
             best_effort: only about the last 1 MiB of records is kept for it; for what went before \
             it came it gets a gap. At least one sink is required.",
        )
        .default("required"),
        Key::new(
            "sinks.*.max_bytes_per_second",
            Kind::Size,
            "Bytes of records a second, before compression, while a backlog drains: more than the \
             host makes, less than would flood the far side. A sink that has everything gets new \
             records at once.",
        )
        .default("4MiB")
        .min("64KiB"),
    ]
}

fn collector_keys(line: &Registration) -> Vec<Key> {
    let path = |key: &str| format!("collectors.{}.{key}", line.name);
    let doc = format!("{} Reads {}.", line.summary, line.reads.join(", "));
    let enabled = Key::new(path("enabled"), Kind::Bool, doc);
    let option = |spec: &crate::collector::OptionSpec| {
        Key::new(path(spec.key), Kind::String, spec.doc).default(spec.default)
    };
    let enabled = enabled.default(if line.default_enabled { "true" } else { "false" });
    let interval = Key::new(
        path("interval"),
        Kind::Duration,
        "Time between two runs, a whole multiple of the agent's interval. Without it: that interval.",
    )
    .example("1m")
    .min("1s")
    .max("1d");
    [enabled, interval].into_iter().chain(line.options.iter().map(option)).collect()
}
