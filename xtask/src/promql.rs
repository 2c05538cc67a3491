//! `cargo xtask promql FILE…`: test scripts in Prometheus's format, run against our engine.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use promql::script::{self, Outcome};

/// Runs each script and prints what failed in it, and how many of its evaluations passed and failed.
pub fn run(files: &[PathBuf]) -> Result<ExitCode> {
    let (mut passed, mut failed) = (0, 0);
    for file in files {
        let (here_passed, here_failed) = run_file(file)?;
        passed += here_passed;
        failed += here_failed;
    }
    println!("{passed} passed, {failed} failed");
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run_file(file: &Path) -> Result<(usize, usize)> {
    let script = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    let outcomes = script::run(&script);
    let failures: Vec<_> = outcomes.iter().filter_map(|o| Some((o, o.failure.as_ref()?))).collect();
    for (Outcome { line, command, .. }, failure) in &failures {
        println!("{}:{line}: {command}\n    {failure}", file.display());
    }
    let failed = failures.len();
    let passed = outcomes.len() - failed;
    println!("{}: {passed} passed, {failed} failed", file.display());
    Ok((passed, failed))
}
