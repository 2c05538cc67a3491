//! What [`crate::load`] says: tables of input and expected words.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{Duration, Key, Keys, Kind, Layers, Loaded, Secret, Size, Source, UserTable, load};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    interval: Duration,
    hostname: Option<String>,
    wal: Wal,
    #[serde(default)]
    sinks: BTreeMap<String, Sink>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wal {
    max_bytes: Size,
    sync: bool,
    parts: u8,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
enum Sink {
    Http { url: String, token: Option<Secret>, timeout: Duration },
    File { path: String, labels: Option<BTreeMap<String, String>>, only: Option<Vec<String>> },
}

fn keys() -> Keys {
    let keys = vec![
        Key::new("interval", Kind::Duration, "Time between ticks.").default("10s").min("1s"),
        Key::new("hostname", Kind::String, "Name of this host."),
        Key::new("wal.max_bytes", Kind::Size, "Bound.").default("256MiB").min("16MiB").restart(),
        Key::new("wal.sync", Kind::Bool, "Whether to sync.").default("true").restart(),
        Key::new("wal.parts", Kind::Integer, "Parts.").default("4").max("1000"),
        Key::new("sinks.*.type", Kind::Choice(&["http", "file"]), "What it is.").default("http"),
        Key::new("sinks.*.url", Kind::Url, "Address.").when("type", "http").required(),
        Key::new("sinks.*.token", Kind::Secret, "Key.").when("type", "http"),
        Key::new("sinks.*.timeout", Kind::Duration, "Time.").when("type", "http").default("30s"),
        Key::new("sinks.*.path", Kind::Path, "Where.").when("type", "file").required(),
        Key::new("sinks.*.labels", Kind::Table, "Labels.").when("type", "file"),
        Key::new("sinks.*.only", Kind::Strings, "Only these.").when("type", "file"),
    ];
    let examples = &[("http", "hub"), ("file", "archive")];
    Keys { keys, tables: vec![UserTable { path: "sinks.*", doc: "A way out.", examples }] }
}

fn layers(toml: &str, variables: &[(&str, &str)]) -> Layers<'static> {
    let owned = |(name, word): &(&str, &str)| ((*name).to_owned(), (*word).to_owned());
    Layers {
        file: Some(Source { name: "a.toml".to_owned(), text: toml.to_owned() }),
        variables: variables.iter().map(owned).collect(),
        prefix: "HF",
        foreign: &["HF_HUB"],
        shorts: &[("SERVER_URL", "sinks.hub.url"), ("AGENT_TOKEN", "sinks.hub.token")],
        flags: Vec::new(),
    }
}

fn loaded(toml: &str, variables: &[(&str, &str)]) -> Loaded<Config> {
    load(&keys(), &layers(toml, variables)).unwrap()
}

fn problems(toml: &str, variables: &[(&str, &str)]) -> String {
    load::<Config>(&keys(), &layers(toml, variables)).unwrap_err().to_string()
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let check = |toml: &str, expected: &str| {
        assert_eq!(problems(toml, &[]), expected, "{toml}");
    };
    // unknown keys
    check(
        "[wal]\nmax_byte = \"1GB\"",
        "a.toml:2:1: unknown key \"wal.max_byte\", did you mean \"wal.max_bytes\"?",
    );
    check("[sink.hub]\nurl = \"\"", "a.toml:1:2: unknown key \"sink\", did you mean \"sinks\"?");
    check(
        "max_bytes = 1",
        "a.toml:1:1: unknown key \"max_bytes\", did you mean \"wal.max_bytes\"?",
    );
    check("url = 1", "a.toml:1:1: unknown key \"url\", did you mean \"sinks.<name>.url\"?");
    check(
        "wal_max_bytes = 1",
        "a.toml:1:1: unknown key \"wal_max_bytes\", did you mean \"wal.max_bytes\"?",
    );
    check(
        "[wal]\ncolour = \"red\"",
        "a.toml:2:1: unknown key \"wal.colour\"; valid here: max_bytes, sync, parts",
    );
    check(
        "[sinks.hub]\nurl=\"http://a\"\ntimeot = \"1s\"",
        "a.toml:3:1: unknown key \"sinks.hub.timeot\", did you mean \"sinks.hub.timeout\"?",
    );
    // kinds
    check(
        "interval = 10",
        "a.toml:1:12: interval: found the integer 10, expected a duration with its unit, as \"10s\"",
    );
    check(
        "interval = \"ten\"",
        "a.toml:1:12: interval: found \"ten\", expected a duration such as \"10s\", \"500ms\", \
         \"1h30m\" or \"7d\"",
    );
    check("interval = \"500ms\"", "a.toml:1:12: interval: found \"500ms\", expected at least 1s");
    check(
        "[wal]\nmax_bytes = 4096",
        "a.toml:2:13: wal.max_bytes: found the integer 4096, expected at least 16MiB",
    );
    check("[wal]\nsync = \"yes\"", "a.toml:2:8: wal.sync: found \"yes\", expected true or false");
    check(
        "[wal]\nparts = 2000",
        "a.toml:2:9: wal.parts: found the integer 2000, expected at most 1000",
    );
    check("[wal]\nparts = 300", "a.toml:2:9: wal.parts: invalid value: integer `300`, expected u8");
    check("wal = 3", "a.toml:1:1: wal is a table: write [wal], and its keys below");
    check(
        "interval = [1]",
        "a.toml:1:12: interval: found a list, expected a duration such as \"10s\", \"500ms\", \"1h30m\" or \"7d\"",
    );
}

#[test]
fn later_layers_win_and_every_value_says_where_it_came_from() {
    let toml = "[sinks.my-hub]\nurl = \"http://file\"";
    let variables =
        [("HF_INTERVAL", "5s"), ("HF_SINKS_MY_HUB_URL", "http://v"), ("SERVER_URL", "http://s")];
    let loaded = loaded(toml, &variables);
    let Config { interval, hostname, wal, sinks } = loaded.config;
    assert_eq!((interval, hostname), (Duration::from_secs(5), None));
    assert_eq!((wal.max_bytes, wal.sync, wal.parts), (Size::from_mib(256), true, 4));
    assert_eq!(sinks.keys().collect::<Vec<_>>(), ["hub", "my-hub"]);
    assert_eq!(
        loaded.effective.to_toml(),
        r#"interval = "5s"  # HF_INTERVAL

[wal]
max_bytes = "256MiB"  # default
sync = true  # default
parts = 4  # default

[sinks.hub]
type = "http"  # default
url = "http://s"  # SERVER_URL
timeout = "30s"  # default

[sinks.my-hub]
type = "http"  # default
url = "http://v"  # HF_SINKS_MY_HUB_URL
timeout = "30s"  # default
"#
    );
}
