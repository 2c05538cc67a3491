//! Project chores, in Rust: `cargo xtask <command>`.

mod chore;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Holdfast's chores")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Format, lints, every test, doc tests: what has to pass before a change lands
    Test,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.chore {
        Chore::Test => test::run_all(),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
