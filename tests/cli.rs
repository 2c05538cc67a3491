//! The agent's commands as a person uses them.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a test ends it")]

use std::{
    fs,
    process::{Command, Output},
};

fn agent(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast-agent"));
    command.args(arguments).env_clear().envs(variables.iter().copied());
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

const HUB: (&str, &str) = ("SERVER_URL", "http://127.0.0.1:9");

#[test]
fn version_is_one_line() {
    let output = agent(&["version"], &[]);
    assert_eq!(text(&output.stdout), format!("holdfast-agent {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn once_prints_a_page_that_prometheus_reads() {
    let output = agent(&["once"], &[]);
    assert!(output.status.success(), "{output:?}");
    let page = text(&output.stdout);
    for name in [
        "node_cpu_seconds_total",
        "node_load1",
        "node_memory_MemTotal_bytes",
        "node_boot_time_seconds",
        "node_uname_info",
    ] {
        assert!(page.contains(&format!("# TYPE {name} ")), "{name} is missing");
    }
    assert!(page.contains(r#"node_scrape_collector_success{collector="cpu"} 1"#));
    let names: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    assert!(names.is_sorted_by(|a, b| a < b), "families are sorted, each is there once");
}

#[test]
fn once_runs_every_collector_if_told_to() {
    let off: Vec<_> = ["LOADAVG", "UNAME"]
        .map(|name| (format!("HOLDFAST_COLLECTORS_{name}_ENABLED"), "false"))
        .to_vec();
    let off: Vec<_> = off.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let ran = |arguments: &[&str]| {
        let page = text(&agent(arguments, &off).stdout);
        let name = |line: &str| {
            let labels = line.strip_prefix("node_scrape_collector_success{collector=\"")?;
            Some(labels.split_once('"')?.0.to_owned())
        };
        page.lines().filter_map(name).collect::<Vec<_>>()
    };
    let all: Vec<_> = collectors::REGISTRY.iter().map(|line| line.name).collect();
    assert_eq!(ran(&["once", "--all-collectors"]), all);
    let is_on = |name: &str| !["loadavg", "uname"].contains(&name);
    let host = collectors::Environment::detect(&agent_core::Roots::default());
    let fits = |name: &str| host.objection(name).is_none();
    let defaults = collectors::REGISTRY.iter();
    let defaults = defaults.filter(|line| line.default_enabled && fits(line.name));
    let rest: Vec<_> = defaults.map(|line| line.name).filter(|name| is_on(name)).collect();
    assert_eq!(ran(&["once"]), rest);
}

#[test]
fn once_prints_json() {
    let output = agent(&["once", "--format", "json"], &[]);
    let tick: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let samples = tick["samples"].as_array().unwrap();
    let load = samples.iter().find(|sample| sample["name"] == "node_load1").unwrap();
    assert!(load["value"].is_number(), "{load}");
}

#[test]
fn a_root_without_proc_is_unavailable_not_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().to_str().unwrap();
    let output = agent(&["once", "--procfs", root, "--sysfs", root], &[]);
    assert!(output.status.success(), "{output:?}");
    let said = text(&output.stderr);
    assert!(said.contains("meminfo: unavailable on this host"), "{said}");
    assert!(said.contains(root), "names the file: {said}");
    assert!(
        text(&output.stdout).contains(r#"node_scrape_collector_success{collector="meminfo"} 0"#)
    );
}

#[test]
fn mistakes_in_the_configuration_are_named_with_their_place() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("agent.toml");
    let check = |toml: &str, expected: &[&str]| {
        fs::write(&path, toml).unwrap();
        let output = agent(&["check-config", "--config", path.to_str().unwrap()], &[HUB]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        for part in expected {
            assert!(said.contains(part), "{part:?} not in {said:?}");
        }
    };
    check(
        "interval = \"1s\"\n[wal]\nmax_byte = \"1GiB\"\n",
        &["agent.toml:3:1", "wal.max_byte", "wal.max_bytes"],
    );
    check("[collectors.cpuu]\nenabled = true\n", &["agent.toml:1", "cpuu", "cpu"]);
    check("interval = 10\n", &["agent.toml:1", "interval", "10s"]);
    check("[wal]\nmax_bytes = \"1MiB\"\n", &["wal.max_bytes", "16MiB"]);
}

#[test]
fn a_filter_that_is_no_pattern_is_named() {
    let variable = ("HOLDFAST_COLLECTORS_NETDEV_DEVICE_EXCLUDE", "(");
    let output = agent(&["check-config"], &[HUB, variable]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("collectors.netdev.device_exclude"), "{said}");
    assert!(said.contains(variable.0), "names where it was set: {said}");
}

#[test]
fn a_good_configuration_is_said_to_be_good() {
    let output = agent(&["check-config"], &[HUB, ("AGENT_TOKEN", "hidden")]);
    assert!(output.status.success(), "{output:?}");
    assert!(text(&output.stdout).contains("sinks: hub"));
}

#[test]
fn print_config_shows_what_is_in_force_and_no_secret() {
    let variables = [HUB, ("AGENT_TOKEN", "hidden"), ("HOLDFAST_INTERVAL", "30s")];
    let output = agent(&["print-config"], &variables);
    let page = text(&output.stdout);
    assert!(page.contains("interval = \"30s\""), "{page}");
    assert!(page.contains("http://127.0.0.1:9"), "{page}");
    assert!(!page.contains("hidden"), "{page}");
}

#[test]
fn no_sink_says_what_to_do() {
    let output = agent(&["run"], &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("SERVER_URL"), "{output:?}");
}

#[test]
fn what_cannot_be_right_here_is_off_and_told() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root");
    fs::create_dir_all(root.join("run/systemd")).unwrap();
    fs::write(root.join("run/systemd/container"), "systemd-nspawn\n").unwrap();
    let flag = ["--rootfs", root.to_str().unwrap()];
    let said = text(&agent(&[&["check-config"][..], &flag].concat(), &[HUB]).stdout);
    assert!(said.contains("this host is a container (systemd-nspawn)"), "{said}");
    let off = said.lines().find(|line| line.contains("dmi")).unwrap();
    assert!(off.contains("off here unless switched on") && off.contains("thermal_zone"), "{off}");

    let on = ("HOLDFAST_COLLECTORS_DMI_ENABLED", "true");
    let said = text(&agent(&[&["check-config"][..], &flag].concat(), &[HUB, on]).stdout);
    assert!(said.contains("thermal_zone") && !said.contains("dmi"), "{said}");

    let page = text(&agent(&[&["print-config"][..], &flag].concat(), &[HUB, on]).stdout);
    let enabled = |name: &str| {
        let table = page.split(&format!("[collectors.{name}]\n")).nth(1).unwrap();
        table.lines().find(|line| line.starts_with("enabled = ")).unwrap().to_owned()
    };
    assert_eq!(enabled("dmi"), "enabled = true  # HOLDFAST_COLLECTORS_DMI_ENABLED");
    assert_eq!(enabled("cpu"), "enabled = true  # default");
    let off = enabled("thermal_zone");
    let expected = "enabled = false  # off by default on this host, a container (systemd-nspawn)";
    assert!(off.starts_with(expected), "{off}");
    assert!(off.contains("tell of hardware that isn't its own"), "{off}");
    // it can be read again
    let file = directory.path().join("agent.toml");
    fs::write(&file, &page).unwrap();
    let again = agent(&["check-config", "-c", file.to_str().unwrap()], &[]);
    assert!(again.status.success(), "{again:?}");

    let output = agent(&[&["once"][..], &flag].concat(), &[on]);
    let (page, said) = (text(&output.stdout), text(&output.stderr));
    assert!(said.contains("off here unless switched on"), "{said}");
    assert!(page.contains(r#"node_scrape_collector_success{collector="dmi"}"#));
    assert!(!page.contains(r#"collector="thermal_zone""#));
    assert!(page.contains(r#"container="systemd-nspawn""#), "the metric tells too");
}

#[test]
fn a_file_does_not_put_a_series_into_the_tick_twice() {
    let directory = tempfile::tempdir().unwrap();
    let files = directory.path().to_str().unwrap();
    let prom = "node_load1 99\nnode_load1{host=\"other\"} 98\nholdfast_agent_ticks_total 1\n";
    fs::write(directory.path().join("copied.prom"), prom).unwrap();
    let output = agent(&["once"], &[("HOLDFAST_COLLECTORS_TEXTFILE_DIRECTORY", files)]);
    let (page, said) = (text(&output.stdout), text(&output.stderr));
    let count = |start: &str| page.lines().filter(|line| line.starts_with(start)).count();
    assert_eq!((count("node_load1 "), count("node_load1 99")), (1, 0), "{page}");
    assert_eq!(count("node_load1{host=\"other\"} 98"), 1, "{page}");
    assert_eq!(count("holdfast_agent_ticks_total"), 0, "{page}");
    assert_eq!(count("holdfast_collector_series_left_out{collector=\"textfile\"} 1"), 1, "{page}");
    assert!(
        said.contains("1 series that another collector has: node_load1{} is loadavg's"),
        "{said}"
    );
    assert!(said.contains("holdfast_agent_ticks_total is the agent's own"), "{said}");
}
