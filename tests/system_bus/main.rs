//! `holdfast-agent once` with the collectors that ask over D-Bus, on a real bus: dbus-daemon, and services
//! that `zbus` serves. What it prints is committed: `UPDATE_GOLDEN=1` writes it anew.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what goes wrong in a test ends it")]

mod peer;

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use self::peer::PrivateBus;

/// Collectors `systemd` and `logind`, with everything switched on, and no others.
fn once(variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast-agent"));
    command.arg("once").env_clear();
    for line in collectors::REGISTRY {
        let is_on = ["systemd", "logind"].contains(&line.name);
        let name = line.name.to_uppercase();
        command.env(format!("HOLDFAST_COLLECTORS_{name}_ENABLED"), is_on.to_string());
    }
    for option in ["TASK", "RESTARTS", "START_TIME"] {
        command.env(format!("HOLDFAST_COLLECTORS_SYSTEMD_ENABLE_{option}_METRICS"), "true");
    }
    command.envs(variables.iter().copied()).output().unwrap()
}

/// What doesn't differ from run to run.
fn listing(output: &Output) -> String {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let stays = |line: &&str| !line.contains("_duration_seconds") && !line.contains("holdfast_");
    text.lines().filter(stays).map(|line| format!("{line}\n")).collect()
}

#[test]
fn a_small_host_is_read_over_a_real_bus() {
    let Some(bus) = PrivateBus::start() else { return };
    let output = once(&[("DBUS_SYSTEM_BUS_ADDRESS", bus.address())]);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let got = listing(&output);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/system_bus/expected.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&file, &got).unwrap();
    }
    let expected = fs::read_to_string(&file).unwrap();
    let differing = got.lines().zip(expected.lines()).find(|(got, expected)| got != expected);
    assert!(got == expected, "UPDATE_GOLDEN=1 rewrites it; first: {differing:#?}");
    // the option wins
    let options = [
        ("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nowhere"),
        ("HOLDFAST_COLLECTORS_SYSTEMD_BUS_ADDRESS", bus.address()),
        ("HOLDFAST_COLLECTORS_LOGIND_BUS_ADDRESS", bus.address()),
    ];
    assert_eq!(listing(&once(&options)), got);
}

#[test]
fn a_host_without_a_bus_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let rootfs = directory.path().to_str().unwrap();
    let output = once(&[("HOLDFAST_ROOTFS", rootfs)]);
    let said = String::from_utf8(output.stderr).unwrap().replace(rootfs, "ROOT");
    let expected = |name: &str| {
        format!(
            "{name}: unavailable on this host: unix:path=ROOT/run/dbus/system_bus_socket: \
             No such file or directory (os error 2)\n"
        )
    };
    assert_eq!(said, expected("logind") + &expected("systemd"));
    let wrong = once(&[("DBUS_SYSTEM_BUS_ADDRESS", "/run/dbus/system_bus_socket")]);
    assert_eq!(wrong.status.code(), Some(2));
    let said = String::from_utf8(wrong.stderr).unwrap();
    assert!(
        said.contains("DBUS_SYSTEM_BUS_ADDRESS: '/run/dbus/system_bus_socket' is no"),
        "{said}"
    );
    assert!(said.contains("write unix:path=/run/dbus/system_bus_socket"), "{said}");
}
