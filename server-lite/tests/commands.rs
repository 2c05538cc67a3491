//! The real binary's commands: what they print, and how they end.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

fn hub(config: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_holdfast-hub"))
        .args(arguments)
        .arg("--config")
        .arg(config)
        .env_clear()
        .envs(variables.iter().copied())
        .output()
        .expect("run the hub")
}

struct Case<'a> {
    arguments: &'a [&'a str],
    config: &'a str,
    variables: &'a [(&'a str, &'a str)],
    code: i32,
    /// Part of standard output and of standard error.
    says: (&'a str, &'a str),
}

fn check(case: &Case<'_>) {
    let directory = tempfile::tempdir().expect("temporary directory");
    let config = directory.path().join("hub.toml");
    fs::write(&config, case.config).expect("write the configuration");
    let output = hub(&config, case.arguments, case.variables);
    let (out, error) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let told = format!("{:?}: {:?}\n{out}\n{error}", case.arguments, output.status);
    assert_eq!(output.status.code(), Some(case.code), "{told}");
    assert!(out.contains(case.says.0) && error.contains(case.says.1), "{told}");
    assert!(!told.contains("hidden"), "a secret is shown: {told}");
}

#[test]
fn commands_say_what_is_so_and_what_would_be_right() {
    let plain =
        |arguments, config, code, says| Case { arguments, config, variables: &[], code, says };
    check(&plain(&["version"], "", 0, ("holdfast-hub 0.", "")));
    check(&plain(&["check-config"], "", 0, ("configuration is good: 0 rules", "")));
    check(&plain(&["check-config"], "lisen = 'x'", 2, ("", "hub.toml:1:1: unknown key \"lisen\"")));
    check(&plain(&["check-config"], "listen = '0.0.0.0:1'", 2, ("", "no secret is set")));
    check(&plain(&["run"], "listen = '0.0.0.0:0'", 2, ("", "no secret is set")));
    check(&plain(
        &["check-config"],
        "log.level = 'inof'",
        1,
        ("", "log.level: found \"inof\", expected a filter"),
    ));
    check(&plain(&["print-config"], "auth.token = 'hidden'", 0, ("[auth]", "")));
    let from_environment = [("AGENT_TOKEN", "hidden"), ("HOLDFAST_HUB_LISTEN", "0.0.0.0:8080")];
    check(&Case {
        variables: &from_environment,
        ..plain(&["check-config"], "", 0, ("listens on 0.0.0.0:8080", ""))
    });
    check(&plain(
        &["audit", "--data-dir", "/nonexistent"],
        "",
        1,
        ("", "open database /nonexistent/hub.sqlite"),
    ));
    check(&plain(
        &["samples", "--metric", "m", "--labels", "x", "--data-dir", "/nonexistent"],
        "",
        1,
        ("", "expected NAME=VALUE"),
    ));
}
