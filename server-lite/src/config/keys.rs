//! Every key of the hub's configuration, and the pages made from them.

use settings::{Key, Keys, Kind};

use super::PREFIX;
use crate::{notify, rules};

const SAMPLE_INTRODUCTION: &str = "\
Configuration of holdfast-hub. Everything has a default: what is commented out shows it.

After a change: `holdfast-hub check-config`, then `systemctl restart holdfast-hub`.
Every key can also be set in the environment: retention.raw as HOLDFAST_HUB_RETENTION_RAW.
Durations: 500ms, 10s, 5m, 1h30m, 7d. Sizes: 16MiB, 1GB, 4096 (bytes).";

const REFERENCE_INTRODUCTION: &str = "\
# Configuration of holdfast-hub

`/etc/holdfast/hub.toml`, or the file named with `--config`. It may be absent: everything has a \
default. Unknown keys and variables are refused with the nearest valid one. `holdfast-hub \
check-config` says what is wrong; `holdfast-hub print-config` shows what is in force, and where each \
value came from.

Later ones win: defaults, the file, `AGENT_TOKEN` (short for `auth.token`) and `RUST_LOG` (short for \
`log.level`), the variables below, flags. An empty variable counts as not set, except where any text \
is a value.

Without a secret the hub listens on loopback only. With one, agents and readers of the API send a \
token made with it, or the secret itself (`Authorization: Bearer …`, or as a password with `Basic`); `/healthz`, `/readyz` and `/metrics` are open.

This page is made from the table of keys in `server-lite/src/config/keys.rs`.";

/// Every key.
#[must_use]
pub fn keys() -> Keys {
    let mut keys = hub_keys();
    keys.extend(limit_keys());
    keys.extend(rules::keys::keys());
    keys.extend(notify::keys::keys());
    Keys { keys, tables: vec![rules::keys::TABLE, notify::keys::TABLE] }
}

/// The sample file.
#[must_use]
pub fn sample() -> String {
    settings::sample(&keys(), SAMPLE_INTRODUCTION)
}

/// The reference page, in Markdown.
#[must_use]
pub fn reference() -> String {
    settings::reference(&keys(), REFERENCE_INTRODUCTION, PREFIX)
}

fn hub_keys() -> Vec<Key> {
    vec![
        Key::new("listen", Kind::String, "Address and port; port 0 is any that is free. Other addresses than loopback need auth.token.")
            .default("127.0.0.1:8080").restart(),
        Key::new("data_dir", Kind::Path, "Where the store lies, and the states of alerts; with database.url both lie there instead. One hub owns it.")
            .default("/var/lib/holdfast-hub").restart(),
        Key::new("database.url", Kind::String, "Empty: the store lies in data_dir. Else PostgreSQL 14 or newer, as \"postgres://user:password@host/database\", with TimescaleDB or without; several hubs may share it. Not through a pooler that gives each transaction another connection. TLS is required except on this machine: a Unix socket or a loopback address. sslmode is disable, prefer or require, which always checks certificate and name, as verify-full does; sslrootcert names a file of the only certificates to trust.")
            .default("").secret().restart(),
        Key::new("database.connections", Kind::Integer, "Transactions at one time that store what agents send. The hub has up to limits.queries and eight more connections beside them.")
            .default("2").min("1").max("64").restart(),
        Key::new("shutdown_deadline", Kind::Duration, "How long requests that are under way may take when the hub stops, and then, as long again, what rules and notifiers are at. systemd's TimeoutStopSec must be longer than both together.")
            .default("20s").max("10m").restart(),
        Key::new("auth.token", Kind::Secret, "The secret that agents and readers make their tokens with.").restart(),
        Key::new("log.level", Kind::String, "What the hub says of itself: error, warn, info, debug, trace, or a filter by module such as \"info,server_lite::store=debug\".")
            .default("info").restart(),
        Key::new("retention.raw", Kind::Duration, "How long samples are kept as they came, and the lines of the gap ledger.")
            .default("30d").min("1h").max("3650d").restart(),
        Key::new("retention.rollup_1m", Kind::Duration, "How long rollups of a minute are kept: minimum, maximum, sum, number, first, last, increase. While samples are kept they answer in their place.")
            .default("30d").min("1d").max("36500d").restart(),
        Key::new("retention.rollup_10m", Kind::Duration, "How long rollups of ten minutes are kept; no shorter than those of a minute.")
            .default("90d").min("1d").max("36500d").restart(),
        Key::new("retention.rollup_1h", Kind::Duration, "How long rollups of an hour are kept; no shorter than those of ten minutes.")
            .default("730d").min("1d").max("36500d").restart(),
        Key::new("retention.rollup_1d", Kind::Duration, "How long rollups of a day of UTC are kept; no shorter than those of an hour. A series is forgotten when nothing of it is left.")
            .default("3650d").min("1d").max("36500d").restart(),
    ]
}

fn limit_keys() -> Vec<Key> {
    vec![
        Key::new("limits.series_per_agent", Kind::Integer, "Series stored of one agent. Samples of more are not stored; the gap ledger says how many.")
            .default("100000").min("1").max("10000000").restart(),
        Key::new("limits.ingest_memory", Kind::Size, "Bytes of request bodies in memory at one time; agents beyond it are told to come back.")
            .default("64MiB").min("8MiB").restart(),
        Key::new("limits.query_series", Kind::Integer, "Series that one query may return.")
            .default("1000").min("1").max("1000000").restart(),
        Key::new("limits.query_points", Kind::Integer, "Points that one query may return, all series together.")
            .default("1000000").min("1").max("100000000").restart(),
        Key::new("limits.connections", Kind::Integer, "Connections at one time; more wait to be taken. An agent has one or two. Fewer where the system allows this process fewer open files.")
            .default("25000").min("1").max("1000000").restart(),
        Key::new("limits.query_samples", Kind::Integer, "Samples that one expression may read and hold, as Prometheus's --query.max-samples.")
            .default("50000000").min("1").max("10000000000").restart(),
        Key::new("limits.query_selected_series", Kind::Integer, "Series that one selector of an expression may select.")
            .default("100000").min("1").max("100000000").restart(),
        Key::new("limits.query_timeout", Kind::Duration, "Time that one expression may take, waiting included.")
            .default("2m").min("1s").max("1h").restart(),
        Key::new("limits.query_concurrency", Kind::Integer, "Expressions reckoned at one time, a thread each: fewer than cores, so that ingest has some.")
            .default("2").min("1").max("64").restart(),
        Key::new("limits.query_queue", Kind::Integer, "Expressions that may wait for their turn; more are told to come back (503).")
            .default("64").min("0").max("10000").restart(),
        Key::new("limits.queries", Kind::Integer, "Reads of the store for queries at one time; more wait.")
            .default("4").min("1").max("64").restart(),
    ]
}
