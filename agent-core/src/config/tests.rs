//! What people write, and what the agent makes of it.

use std::collections::BTreeMap;

use settings::{Change, Place, Reload};

use super::*;
use crate::collector::{BuildError, Collector, Context, OptionSpec};

fn unbuilt(_: &Context<'_>) -> Result<Box<dyn Collector>, BuildError> {
    Err(BuildError { collector: "fake", key: "", reason: "only its line counts here".to_owned() })
}

const REGISTRY: &[Registration] = &[
    Registration {
        name: "cpu",
        summary: "CPU time.",
        reads: &["/proc/stat"],
        default_enabled: true,
        options: &[],
        build: unbuilt,
    },
    Registration {
        name: "netdev",
        summary: "Interfaces.",
        reads: &["/proc/net/dev"],
        default_enabled: false,
        options: &[
            OptionSpec { key: "device_exclude", default: "^(lo|veth)", doc: "Left out." },
            OptionSpec { key: "device_include", default: "", doc: "Only these." },
        ],
        build: unbuilt,
    },
];

fn load(toml: &str, variables: &[(&str, &str)]) -> Result<Loaded<Config>, Problems> {
    let file = Source { name: "agent.toml".to_owned(), text: toml.to_owned() };
    let variables = variables.iter().map(|(name, word)| ((*name).to_owned(), (*word).to_owned()));
    let inputs = Inputs { variables: variables.collect(), ..Inputs::default() };
    Config::load_text(Some(file), inputs, REGISTRY)
}

fn config(toml: &str, variables: &[(&str, &str)]) -> Config {
    load(toml, variables).unwrap().config
}

#[test]
fn what_is_wrong_is_said_with_what_would_be_right() {
    let check = |toml: &str, expected: &str| {
        let problems = load(toml, &[]).map(|loaded| loaded.config).unwrap_err();
        assert_eq!(problems.to_string(), expected, "{toml}");
    };
    check(
        "intervall = \"10s\"",
        "agent.toml:1:1: unknown key \"intervall\", did you mean \"interval\"?",
    );
    check(
        "[wal]\nmax_byte = \"1GB\"",
        "agent.toml:2:1: unknown key \"wal.max_byte\", did you mean \"wal.max_bytes\"?",
    );
    check(
        "[wal]\nmax_bytes = \"1MiB\"",
        "agent.toml:2:13: wal.max_bytes: found \"1MiB\", expected at least 16MiB",
    );
    check(
        "interval = \"100ms\"",
        "agent.toml:1:12: interval: found \"100ms\", expected at least 1s and at most 1h",
    );
    check(
        "data_dir = \"log\"",
        "agent.toml:1:12: data_dir: found \"log\", expected an absolute path: where the agent is \
         started doesn't matter then",
    );
    check(
        "[collectors.cpus]\nenabled = true",
        "agent.toml:1:13: unknown key \"collectors.cpus\", did you mean \"collectors.cpu\"?",
    );
    check(
        "[collectors.entropy]\nenabled = true",
        "agent.toml:1:13: unknown key \"collectors.entropy\"; valid here: cpu, netdev",
    );
    check(
        "[collectors.netdev]\ndevice_exclud = \"^lo$\"",
        "agent.toml:2:1: unknown key \"collectors.netdev.device_exclud\", did you mean \
         \"collectors.netdev.device_exclude\"?",
    );
    check(
        "[sinks.hub]\ntype = \"htpp\"",
        "agent.toml:2:8: sinks.hub.type: found \"htpp\", expected one of \"http\", \
         \"remote_write\", \"stdout\", \"file\"; did you mean \"http\"?",
    );
    check(
        "[sinks.hub]",
        "agent.toml:1:8: sinks.hub needs \"url\": a URL such as \"https://hub.example:8443\", \
         without user or password",
    );
    check(
        "[sinks.hub]\nurl = \"hub:8443\"",
        "agent.toml:2:7: sinks.hub.url: found \"hub:8443\", expected a URL such as \
         \"https://hub.example:8443\", without user or password",
    );
    check(
        "[sinks.hub]\nurl = \"http://a\"\npath = \"/a\"",
        "agent.toml:3:8: sinks.hub.path is only for type = \"file\", and here type is \"http\"",
    );
    check(
        "[sinks.hub]\nurl = \"http://a\"\nca_file = \"/a\"",
        "agent.toml:3:11: sinks.hub.ca_file: is for https:// only, and sinks.hub.url is \
         \"http://a\"",
    );
    check(
        "[sinks.a]\ntype = \"remote_write\"\nurl = \"http://a\"\nusername = \"me\"",
        "agent.toml:4:12: sinks.a.username: needs sinks.a.token beside it, the password",
    );
    check(
        "[sinks.a]\ntype = \"file\"\npath = \"out\"",
        "agent.toml:3:8: sinks.a.path: found \"out\", expected an absolute path: where the agent \
         is started doesn't matter then",
    );
    check(
        "[sinks.a]\ntype = \"file\"\npath = \"/a.txt\"\nformat = \"prometheus\"",
        "agent.toml:3:8: sinks.a.path: doesn't end in .prom, and textfile collectors read no other \
         files",
    );
    check(
        "[sinks]\na = { type = \"file\", path = \"/x\" }\nb = { type = \"file\", path = \"/x\" }",
        "agent.toml:3:29: sinks.b.path: sinks.a writes to the same file: give each its own",
    );
    check(
        "[sinks.\"my hub\"]\nurl = \"http://a\"",
        "agent.toml:1:8: \"my hub\" can't be a name: letters, digits, _ and - can, at most 64 of \
         them",
    );
    check(
        "[sinks.a]\nurl = \"http://a\"\ndelivery = \"best_effort\"",
        "agent.toml:3:12: sinks.a.delivery: no sink is required, so records would wait for none: \
         leave this one at \"required\"",
    );
    check(
        "[sinks.a]\nurl = \"http://a\"\ndelivery = \"best-effort\"",
        "agent.toml:3:12: sinks.a.delivery: found \"best-effort\", expected one of \"required\", \
         \"best_effort\"; did you mean \"best_effort\"?",
    );
    for (given, right) in
        [("5s", "10s\" or \"20s"), ("15s", "10s\" or \"20s"), ("64s", "1m\" or \"1m10s")]
    {
        let found: Duration = given.parse().unwrap();
        check(
            &format!("[collectors.cpu]\ninterval = \"{given}\""),
            &format!(
                "agent.toml:2:12: collectors.cpu.interval: found \"{found}\", expected a whole \
                 multiple of interval, which is 10s, such as \"{right}\""
            ),
        );
    }
    check(
        "[collectors.cpu]\ninterval = \"10ms\"",
        "agent.toml:2:12: collectors.cpu.interval: found \"10ms\", expected at least 1s and at \
         most 1d",
    );
    // all at once
    check(
        "interval = 10\n[wal]\nmax_age = \"old\"\nsize = 1",
        "agent.toml:1:12: interval: found the integer 10, expected a duration with its unit, as \
         \"10s\"\n\
         agent.toml:3:11: wal.max_age: found \"old\", expected a duration such as \"10s\", \
         \"500ms\", \"1h30m\" or \"7d\"\n\
         agent.toml:4:1: unknown key \"wal.size\"; valid here: max_bytes, max_age, memory_max",
    );
}

#[test]
fn documented_defaults_are_the_defaults() {
    let mut loaded = config("", &[]);
    let collectors = std::mem::take(&mut loaded.collectors);
    assert_eq!(loaded, Config::default());
    // what runs without being told to, the machine has a say in
    let given = CollectorConfig::default();
    let expected = ["cpu", "netdev"].map(|name| (name.to_owned(), given.clone()));
    assert_eq!(collectors, BTreeMap::from(expected));
}

#[test]
fn the_sample_means_the_defaults_and_all_of_it_can_be_used() {
    let sample = sample(REGISTRY);
    assert_eq!(config(&sample, &[]), config("", &[]));

    let used: Vec<&str> = sample
        .lines()
        .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line))
        .collect();
    let loaded = load(&used.join("\n"), &[]).unwrap();
    let types: Vec<_> =
        loaded.config.sinks.iter().map(|(name, sink)| (name.as_str(), &sink.target)).collect();
    assert!(
        matches!(
            types[..],
            [
                ("archive", SinkTarget::File(_)),
                ("console", SinkTarget::Stdout(_)),
                ("hub", SinkTarget::Http(_)),
                ("mimir", SinkTarget::RemoteWrite(_))
            ]
        ),
        "{types:?}"
    );
    // Every key is in it: nothing was left at its default.
    for setting in loaded.effective.iter() {
        assert!(loaded.effective.is_given(&setting.path), "{setting:?}");
    }
    // A sample's line is good as it stands, with any interval that the sample has.
    let minute = Some(Duration::from_secs(60));
    assert!(loaded.config.collectors.values().all(|collector| collector.interval == minute));
    // What has a default is set to it.
    let (sinks, collectors, hostname) = (BTreeMap::new(), BTreeMap::new(), None);
    let config = Config { sinks, collectors, hostname, ..loaded.config };
    assert_eq!(config, Config::default());
}

#[test]
fn the_reference_has_every_key_and_variable() {
    let page = reference(REGISTRY);
    for key in keys(REGISTRY).keys {
        let (_, name) = key.path.rsplit_once('.').unwrap_or(("", &key.path));
        assert!(page.contains(&format!("\n| `{name}` |")), "{name}");
    }
    assert!(page.contains("`HOLDFAST_SINKS_<NAME>_MAX_BYTES_PER_REQUEST`"), "{page}");
    assert!(page.contains("`HOLDFAST_COLLECTORS_NETDEV_DEVICE_EXCLUDE`"), "{page}");
}

#[test]
fn every_key_has_a_variable() {
    for key in keys(REGISTRY).keys {
        let path = key.path.replace('*', "box");
        let name = format!("HOLDFAST_{}", path.replace('.', "_").to_uppercase());
        let word = key.default.as_deref().or(key.example.as_deref()).unwrap_or_default();
        let form = key.when.map_or("stdout", |(_, value)| value);
        let word = if key.path == "sinks.*.type" { form } else { word };
        let mut variables = vec![("HOLDFAST_SINKS_BOX_TYPE", form)];
        match form {
            "http" | "remote_write" => {
                variables.push(("HOLDFAST_SINKS_BOX_URL", "https://a"));
                // a name needs it
                variables.push(("HOLDFAST_SINKS_BOX_TOKEN", "x"));
            }
            "file" => variables.push(("HOLDFAST_SINKS_BOX_PATH", "/a")),
            _ => {}
        }
        variables.retain(|(other, _)| *other != name);
        variables.push((&name, word));
        let loaded = load("", &variables).unwrap();
        let setting = loaded.effective.get(&path).unwrap();
        assert_eq!(setting.origin.place(), Place::Named(name), "{path}");
    }
}

#[test]
fn short_variables_make_a_sink() {
    let hub = |variables: &[(&str, &str)]| match config("", variables)
        .sinks
        .remove("hub")
        .map(|sink| sink.target)
    {
        Some(SinkTarget::Http(http)) => Some((http.url, http.token)),
        _ => None,
    };
    let token = || Some(Secret::new("s3cret"));
    assert_eq!(hub(&[("SERVER_URL", "http://hub:1")]), Some(("http://hub:1".to_owned(), None)));
    assert_eq!(
        hub(&[("AGENT_TOKEN", "s3cret"), ("SERVER_URL", "http://hub:1")]),
        Some(("http://hub:1".to_owned(), token()))
    );
    // the long form wins
    let both = [("HOLDFAST_SINKS_HUB_URL", "http://long"), ("SERVER_URL", "http://short")];
    assert_eq!(hub(&both), Some(("http://long".to_owned(), None)));
    // empty is unset, and the hub's own variables are none of ours
    assert_eq!(hub(&[("SERVER_URL", ""), ("AGENT_TOKEN", ""), ("HOLDFAST_HUB_LISTEN", "x")]), None);
}

#[test]
fn wrong_variables_are_named() {
    let check = |variables: &[(&str, &str)], expected: &str| {
        let problems = load("", variables).map(|loaded| loaded.config).unwrap_err();
        assert_eq!(problems.to_string(), expected);
    };
    check(
        &[("HOLDFAST_INTERVALL", "1s")],
        "HOLDFAST_INTERVALL: sets no key, did you mean HOLDFAST_INTERVAL?",
    );
    check(
        &[("HOLDFAST_WAL_MAX_AGE", "old")],
        "HOLDFAST_WAL_MAX_AGE: wal.max_age: found \"old\", expected a duration such as \"10s\", \
         \"500ms\", \"1h30m\" or \"7d\"",
    );
    check(
        &[("AGENT_TOKEN", "s3cret")],
        "AGENT_TOKEN: sinks.hub needs \"url\": a URL such as \"https://hub.example:8443\", without \
         user or password",
    );
}

#[test]
fn collectors_get_the_options_that_were_given() {
    let options = |toml: &str| config(toml, &[]).collectors.remove("netdev").unwrap().options;
    assert!(options("").is_empty());
    let given = options("[collectors.netdev]\nenabled = true\ndevice_include = \"^eth\"");
    assert_eq!(given, BTreeMap::from([("device_include".to_owned(), "^eth".to_owned())]));
    let collector = |toml: &str| config(toml, &[]).collectors.remove("netdev").unwrap();
    assert_eq!(collector("").enabled, None);
    let own = collector("[collectors.netdev]\nenabled = false\ninterval = \"1m\"");
    let expected = CollectorConfig {
        enabled: Some(false),
        interval: Some(Duration::from_secs(60)),
        options: BTreeMap::new(),
    };
    assert_eq!(own, expected);
    // an empty option is a value: here, to leave nothing out
    let variable = [("HOLDFAST_COLLECTORS_NETDEV_DEVICE_EXCLUDE", "")];
    let given = config("", &variable).collectors.remove("netdev").unwrap().options;
    assert_eq!(given, BTreeMap::from([("device_exclude".to_owned(), String::new())]));
}

#[test]
fn a_secret_is_never_shown() {
    let hub = |token: &str| {
        let toml = format!("[sinks.hub]\nurl = \"https://a\"\ntoken = \"{token}\"");
        load(&toml, &[]).unwrap()
    };
    let (old, new) = (hub("hunter2"), hub("hunter3"));
    let changes = old.effective.changes_to(&new.effective);
    let shown = "sinks.hub.token: <redacted> -> <redacted>";
    assert_eq!(changes.iter().map(ToString::to_string).collect::<Vec<_>>(), [shown]);
    let wrong = load("[sinks.hub]\nurl = \"https://a\"\ntoken = 12345", &[]).unwrap_err();
    let in_url = load("[sinks.hub]\nurl = \"https://me:hunter2@a\"", &[]).unwrap_err();
    let all = format!("{old:?}{}{changes:?}{wrong}{in_url}", old.effective.to_toml());
    assert!(!all.contains("hunter") && !all.contains("12345"), "{all}");
    // what is printed can be read again
    assert!(load(&old.effective.to_toml(), &[]).is_ok());
}

#[test]
fn a_reload_says_what_changed_and_what_waits_for_a_restart() {
    let changes = |old: &str, new: &str| -> Vec<(String, Reload)> {
        let effective = |toml: &str| load(toml, &[]).unwrap().effective;
        let said = |change: &Change| (change.to_string(), change.reload);
        effective(old).changes_to(&effective(new)).iter().map(said).collect()
    };
    let live = |text: &str| (text.to_owned(), Reload::Live);
    let restart = |text: &str| (text.to_owned(), Reload::Restart);
    assert_eq!(changes("", "interval = \"10s\""), []);
    assert_eq!(
        changes("", "interval = \"30s\"\n[collectors.cpu]\nenabled = false"),
        [live("interval: \"10s\" -> \"30s\""), live("collectors.cpu.enabled: true -> false")]
    );
    assert_eq!(
        changes("data_dir = \"/a\"", "[wal]\nmax_bytes = \"1GiB\""),
        [
            restart("data_dir: \"/a\" -> \"/var/lib/holdfast-agent\""),
            restart("wal.max_bytes: \"256MiB\" -> \"1GiB\"")
        ]
    );
    assert_eq!(
        changes("[sinks.out]\ntype = \"stdout\"", ""),
        [
            live("sinks.out.type: \"stdout\" -> absent"),
            live("sinks.out.format: \"prometheus\" -> absent"),
            live("sinks.out.delivery: \"required\" -> absent"),
            live("sinks.out.max_bytes_per_second: \"4MiB\" -> absent")
        ]
    );
}

#[test]
fn the_file_may_be_absent_only_where_it_is_looked_for_unasked() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.toml");
    let load = || Config::load(Inputs { path: Some(&path), ..Inputs::default() }, REGISTRY);
    let missing =
        format!("{}: can't be read: No such file or directory (os error 2)", path.display());
    assert_eq!(load().unwrap_err().to_string(), missing);
    std::fs::write(&path, "interval = \"20s\"").unwrap();
    assert_eq!(load().unwrap().config.interval, Duration::from_secs(20));
    assert_eq!(Source::read_if_present(&dir.path().join("none")), Ok(None));
}

#[test]
fn a_collector_never_has_longer_than_the_interval() {
    let deadline = |toml: &str| config(toml, &[]).collector_deadline().as_secs();
    assert_eq!(deadline(""), 5);
    assert_eq!(deadline("interval = \"1s\""), 1);
}

#[test]
fn without_a_sink_it_says_what_to_do() {
    let problems = config("", &[]).require_sinks().unwrap_err();
    assert_eq!(
        problems.to_string(),
        "no sink is configured, records would go nowhere: set SERVER_URL to the hub's address, or \
         add a [sinks.<name>] table to /etc/holdfast/agent.toml"
    );
    assert_eq!(config("[sinks.out]\ntype = \"stdout\"", &[]).require_sinks(), Ok(()));
}
