//! `cargo xtask test`: everything that has to pass before a change lands.

use std::{
    env,
    process::{Command, ExitCode},
    time::Instant,
};

use anyhow::{Context as _, Result};
use nix::unistd::geteuid;

use crate::{
    chore::{self, cargo, has},
    cluster::{self, Cluster, Durability},
};

/// A program that tests use where it is there, and that a Debian package brings.
struct Peer {
    program: &'static str,
    package: &'static str,
    used_for: &'static str,
}

const PEERS: &[Peer] = &[
    Peer {
        program: "prometheus-node-exporter",
        package: "prometheus-node-exporter",
        used_for: "comparing every shared series on this host",
    },
    Peer {
        program: "dbus-daemon",
        package: "dbus-daemon",
        used_for: "asking services over a real bus",
    },
    Peer {
        program: "prometheus",
        package: "prometheus",
        used_for: "remote write from and to it, comparing the hub's answers with its, and its tool",
    },
    Peer {
        program: "vmagent",
        package: "victoria-metrics",
        used_for: "remote write from and to VictoriaMetrics",
    },
];

/// Formats, lints and tests the workspace, and checks that the fuzz targets build.
pub fn run() -> Result<ExitCode> {
    let begun = Instant::now();
    let missing = install_peers();
    chore::run(&mut cargo(&["fmt", "--all", "--check"]))?;
    chore::run(&mut cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    let (cluster, without) = start_cluster()?;
    let mut tests = cargo(&["test", "--workspace"]);
    if let Some(cluster) = &cluster {
        tests.env(cluster::VARIABLE, cluster.url());
    }
    chore::run(&mut tests)?;
    drop(cluster);
    chore::run(cargo(&["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"))?;
    chore::run(&mut cargo(&["check", "--manifest-path", "fuzz/Cargo.toml"]))?;
    let denied = check_dependencies()?;
    println!("\nall passed in {} s", begun.elapsed().as_secs());
    for skipped in missing.into_iter().chain(without).chain(denied) {
        println!("SKIPPED: {skipped}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs a command beside a cluster of its own.
///
/// # Errors
/// When there is none to be had, or the command fails.
pub fn with_postgres(command: &[String]) -> Result<ExitCode> {
    let (cluster, without) = start_cluster()?;
    let cluster = cluster.with_context(|| without.join("; "))?;
    let (program, arguments) = command.split_first().context("no command")?;
    chore::run(Command::new(program).args(arguments).env(cluster::VARIABLE, cluster.url()))?;
    Ok(ExitCode::SUCCESS)
}

/// A cluster for the tests of the hub's store, and what can't be tested without what isn't here. Root
/// installs it: these tests are no extra.
fn start_cluster() -> Result<(Option<Cluster>, Vec<String>)> {
    if cluster::programs().is_none() && geteuid().is_root() {
        install_now(cluster::PACKAGE);
    }
    let cluster = Cluster::start(Durability::Volatile)?;
    let mut without = Vec::new();
    match cluster::programs() {
        None => without.push(format!(
            "the hub's store in PostgreSQL: it is not here (apt-get install {})",
            cluster::PACKAGE
        )),
        Some(programs) if !cluster::has_timescale(&programs) => without.push(
            "the hub's store in TimescaleDB: the extension is not installed for this PostgreSQL"
                .to_owned(),
        ),
        Some(_) => {}
    }
    Ok((cluster, without))
}

/// Installs missing peers in CI, where nobody minds; elsewhere says how. Returns what stays missing.
fn install_peers() -> Vec<String> {
    let missing = PEERS.iter().filter(|peer| !has(peer.program, &["--version"]));
    missing.filter_map(|peer| if install(peer.package) { None } else { Some(hint(peer)) }).collect()
}

fn install(package: &str) -> bool {
    env::var_os("CI").is_some() && install_now(package)
}

fn install_now(package: &str) -> bool {
    if !has("apt-get", &["--version"]) {
        return false;
    }
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        chore::run(&mut command).is_ok()
    };
    apt(&["update", "-qq"]) && apt(&["install", "-y", "-qq", "--no-install-recommends", package])
}

fn hint(peer: &Peer) -> String {
    let Peer { program, package, used_for } = peer;
    format!("{used_for}: {program} is not here (apt-get install {package})")
}

/// Licences, sources and unmaintained crates, where `cargo deny` is there.
fn check_dependencies() -> Result<Option<String>> {
    if !has("cargo-deny", &["--version"]) {
        let hint = "dependency policy: cargo-deny is not here (cargo install cargo-deny)";
        return Ok(Some(hint.to_owned()));
    }
    chore::run(&mut cargo(&["deny", "check", "bans", "licenses", "sources"]))?;
    Ok(None)
}
