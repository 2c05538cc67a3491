//! What [`crate::load`] says: tables of input and expected words.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{
    Duration, Flag, Key, Keys, Kind, Layers, Loaded, Secret, Size, Source, UserTable, load,
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    interval: Duration,
    hostname: Option<String>,
    wal: Wal,
    #[serde(default)]
    sinks: BTreeMap<String, Sink>,
    #[serde(default)]
    rules: Vec<Rule>,
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

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    name: String,
    threshold: f64,
    hook: Option<String>,
}

/// A rule that is checked in its own words.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(try_from = "RawRule")]
struct Rule(RawRule);

impl TryFrom<RawRule> for Rule {
    type Error = String;

    fn try_from(raw: RawRule) -> Result<Self, String> {
        let is_odd = raw.name == "odd" && raw.threshold.rem_euclid(2.0) < 1.0;
        if is_odd { Err("an odd rule wants an odd threshold".to_owned()) } else { Ok(Self(raw)) }
    }
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
        Key::new("rules.#.name", Kind::String, "Name.").required().example("busy"),
        Key::new("rules.#.threshold", Kind::Float, "Bound.").default("1"),
        Key::new("rules.#.hook", Kind::Url, "Address with a key in it.").secret(),
    ];
    let examples = &[("http", "hub"), ("file", "archive")];
    let sinks = UserTable { path: "sinks.*", doc: "A way out.", examples };
    let rules = UserTable { path: "rules.#", doc: "A rule.", examples: &[] };
    Keys { keys, tables: vec![sinks, rules] }
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
    let Config { interval, hostname, wal, sinks, .. } = loaded.config;
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

#[test]
fn words_become_values_by_the_kind_of_their_key() {
    let sink = |variables: &[(&str, &str)]| {
        let mut variables = variables.to_vec();
        variables.push(("HF_SINKS_A_TYPE", "file"));
        variables.push(("HF_SINKS_A_PATH", "/a"));
        loaded("", &variables).config.sinks.remove("a").unwrap()
    };
    let labelled = |labels: &[(&str, &str)]| {
        labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let check = |variable: (&str, &str), labels, only: Option<&[&str]>| {
        let only = only.map(|only| only.iter().map(|word| (*word).to_owned()).collect());
        let expected = Sink::File { path: "/a".to_owned(), labels, only };
        assert_eq!(sink(&[variable]), expected, "{variable:?}");
    };
    check(("HF_SINKS_A_LABELS", "a=1, b = x=y"), Some(labelled(&[("a", "1"), ("b", "x=y")])), None);
    check(("HF_SINKS_A_ONLY", "cpu, load ,"), None, Some(&["cpu", "load"]));
    check(("HF_SINKS_A_ONLY", ""), None, None);

    let wal = |variables: &[(&str, &str)]| loaded("", variables).config.wal;
    assert!(!wal(&[("HF_WAL_SYNC", "false")]).sync);
    assert_eq!(wal(&[("HF_WAL_PARTS", " 8 ")]).parts, 8);
    assert_eq!(wal(&[("HF_WAL_MAX_BYTES", "20971520")]).max_bytes, Size::from_mib(20));
}

#[test]
fn variables_that_mean_no_key_are_named() {
    let check = |variable: (&str, &str), expected: &str| {
        assert_eq!(problems("[sinks.my-hub]\nurl = \"http://a\"", &[variable]), expected);
    };
    check(
        ("HF_INTERVAL", "fast"),
        "HF_INTERVAL: interval: found \"fast\", expected a duration such as \"10s\", \"500ms\", \"1h30m\" or \"7d\"",
    );
    check(("HF_INTERVALL", "1s"), "HF_INTERVALL: sets no key, did you mean HF_INTERVAL?");
    check(
        ("HF_SINKS_MY_HUB_URLS", "x"),
        "HF_SINKS_MY_HUB_URLS: sets no key, did you mean HF_SINKS_MY_HUB_URL?",
    );
    check(("HF_COLOUR", "red"), "HF_COLOUR: sets no key; a key such as a.b is set by HF_A_B");
    check(("HF_WAL_SYNC", "yes"), "HF_WAL_SYNC: wal.sync: found \"yes\", expected true or false");
    check(
        ("HF_SINKS_MY_HUB_PATH", "/a"),
        "HF_SINKS_MY_HUB_PATH: sinks.my-hub.path is only for type = \"file\", and here type is \
         \"http\"",
    );
    // one of several tables fits: the one that is there
    let known = loaded("[sinks.a_type]\nurl = \"http://a\"", &[("HF_SINKS_A_TYPE_TIMEOUT", "1s")]);
    assert_eq!(known.config.sinks.keys().collect::<Vec<_>>(), ["a_type"]);
    // nobody's business
    let others = [("HF_HUB_LISTEN", "x"), ("HF_HUB", "x"), ("HFX", "x"), ("PATH", "/bin")];
    assert!(loaded("", &others).config.sinks.is_empty());
}

#[test]
fn flags_win_over_everything() {
    let mut layers = layers("interval = \"2s\"", &[("HF_INTERVAL", "3s")]);
    layers.flags.push(Flag::new("--interval", "interval", "4s"));
    let loaded = load::<Config>(&keys(), &layers).unwrap();
    assert_eq!(loaded.config.interval, Duration::from_secs(4));
    layers.flags.push(Flag::new("--interval", "interval", "soon"));
    let problems = load::<Config>(&keys(), &layers).unwrap_err().to_string();
    assert!(problems.starts_with("--interval: interval: found \"soon\", expected a"), "{problems}");
}

#[test]
fn broken_toml_is_said_with_its_places() {
    let check = |toml: &str, expected: &[&str]| {
        let problems = problems(toml, &[]);
        let places: Vec<_> =
            problems.lines().map(|line| &line[..line.find(": ").unwrap()]).collect();
        assert_eq!(places, expected, "{problems}");
    };
    check("interval = ", &["a.toml:1:12"]);
    check("interval = 10s", &["a.toml:1:12"]);
    check("[wal\nsync = true", &["a.toml:1:5"]);
    check("a = \"x\nb = 1 2\n", &["a.toml:1:7", "a.toml:2:5"]);
    check("interval = \"1s\"\ninterval = \"2s\"", &["a.toml:2:1"]);
    // columns are characters, lines may end as on other systems
    check("hostname = \"übermäßig\" x\r\n", &["a.toml:1:24"]);
}

#[test]
fn everything_that_can_be_written_is_read() {
    let check = |toml: &str| loaded(toml, &[]).config;
    assert_eq!(check("\u{feff}interval = \"2s\"\r\n").interval, Duration::from_secs(2));
    assert_eq!(check("wal.max_bytes = 0x2_000_000").wal.max_bytes, Size::from_mib(32));
    assert_eq!(check("wal = { parts = 1_00, sync = false }").wal.parts, 100);
    assert_eq!(check("[\"wal\"]\n\"parts\" = 3").wal.parts, 3);
    assert_eq!(check("hostname = 'a'").hostname.as_deref(), Some("a"));
}

#[test]
fn no_damage_to_a_file_is_fatal() {
    let toml = "interval = \"2s\" # ü\n[wal]\nmax_bytes = \"1GiB\"\nsync = true\nparts = 3\n\
                [sinks.hub]\nurl = \"https://a\"\ntoken = \"hunter2\"\n\
                [sinks.out]\ntype = \"file\"\npath = \"/a\"\nlabels = { a = \"1\" }\nonly = [\"a\"]";
    assert!(load::<Config>(&keys(), &layers(toml, &[])).is_ok());
    let check = |damaged: &str| {
        let said = match load::<Config>(&keys(), &layers(damaged, &[])) {
            Ok(loaded) => format!("{loaded:?}"),
            Err(problems) => format!("{problems} {problems:?}"),
        };
        assert!(!said.contains("hunter"), "{damaged}\n{said}");
    };
    for (at, character) in toml.char_indices() {
        let (before, after) = (&toml[..at], &toml[at + character.len_utf8()..]);
        check(before);
        check(&format!("{before}{after}"));
        for other in ["\"", "[", "]", "=", ".", "\n", "9", "\0", "ü"] {
            check(&format!("{before}{other}{after}"));
        }
    }
}

#[test]
fn lists_of_tables_keep_their_order() {
    let toml: String =
        (1..=12).map(|n| format!("[[rules]]\nname = \"{n}\"\nthreshold = {n}.5\n")).collect();
    let all = loaded(&toml, &[]);
    let names: Vec<_> = all.config.rules.iter().map(|rule| rule.0.name.parse()).collect();
    assert_eq!(names, (1..=12).map(Ok).collect::<Vec<_>>());
    assert_eq!(all.effective.get("rules.#12.threshold").unwrap().shown(), "12.5");
    // what is printed means the same
    assert_eq!(loaded(&all.effective.to_toml(), &[]).config.rules, all.config.rules);
    assert_eq!(loaded("rules = []", &[]).config.rules, []);
    assert_eq!(loaded("rules = [{ name = \"a\" }]", &[]).config.rules.len(), 1);
}

#[test]
fn what_is_wrong_in_a_list_is_said_with_its_place() {
    let check = |toml: &str, expected: &str| assert_eq!(problems(toml, &[]), expected, "{toml}");
    let one = "[[rules]]\nname = \"a\"\n";
    check(
        &format!("{one}[[rules]]\nname = \"b\"\ntreshold = 1"),
        "a.toml:5:1: unknown key \"rules.#2.treshold\", did you mean \"rules.#2.threshold\"?",
    );
    check(
        &format!("{one}[[rules]]\nthreshold = 1"),
        "a.toml:3:1: rules.#2 needs \"name\": a string",
    );
    check(
        &format!("{one}threshold = nan"),
        "a.toml:3:13: rules.#1.threshold: found the number nan, expected a number",
    );
    check(
        &format!("{one}[[rules]]\nname = \"odd\"\nthreshold = 2"),
        "a.toml:3:1: rules.#2: an odd rule wants an odd threshold",
    );
    check(
        &format!("{one}hook = \"hunter2\""),
        "a.toml:3:8: rules.#1.hook: found a string, expected a URL such as \
         \"https://hub.example:8443\", without user or password",
    );
    check(
        "[rules]\nname = \"a\"",
        "a.toml:1:2: rules is a list of tables: write [[rules]] for each, and its keys below",
    );
    check(
        "rules = [1]",
        "a.toml:1:1: rules is a list of tables: write [[rules]] for each, and its keys below",
    );
    check("[[wal]]\nparts = 1", "a.toml:1:3: wal is a table: write [wal], and its keys below");
    check(
        "threshold = 1",
        "a.toml:1:1: unknown key \"threshold\", did you mean \"rules.#1.threshold\"?",
    );
    let variable = [("HF_RULES_1_NAME", "a")];
    assert_eq!(
        problems("", &variable),
        "HF_RULES_1_NAME: sets no key; a key such as a.b is set by HF_A_B"
    );
}

#[test]
fn pages_show_tables_that_users_make() {
    let page = crate::reference(&keys(), "# T", "HF");
    assert!(page.contains("\n## `[[rules]]`\n\nA rule.\n\n"), "{page}");
    assert!(page.contains("\n## `[sinks.<name>]` with `type = \"file\"`\n"), "{page}");
    assert!(page.contains("| `threshold` | number | `1` | Bound. | none |\n"), "{page}");
    let sample = crate::sample(&keys(), "Hello.");
    assert!(
        sample.contains("\n# A rule.\n#[[rules]]\n# Name. Required.\n#name = \"busy\"\n"),
        "{sample}"
    );
    assert!(
        sample
            .contains("\n#[sinks.archive]\n# What it is. One of: http, file.\n#type = \"file\"\n"),
        "{sample}"
    );
    assert!(
        sample.starts_with("# Hello.\n\n# Time between ticks. At least 1s.\n#interval = \"10s\"\n"),
        "{sample}"
    );
}
