//! `gadgetd`: records system calls of commands, processes and containers, and runs gadgets on the recordings.
//!
//! The command line is in `cli`, one module follows for each subcommand. Results go to standard output,
//! everything for people to standard error.

mod cli;
mod command;
mod confine;
mod run;
mod signals;

use std::{io, io::IsTerminal, process::ExitCode};

use clap::Parser;
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    log_to_stderr(cli.verbose);
    match &cli.command {
        Command::Run(args) => run::main(args),
        Command::Confine(args) => confine::main(args),
    }
}

/// Tells people something.
fn note(text: &str) {
    eprintln!("gadgetd: {text}");
}

fn log_to_stderr(verbose: u8) {
    let level = match verbose {
        0 => LevelFilter::WARN,
        1 => LevelFilter::INFO,
        _ => LevelFilter::DEBUG,
    };
    let filter = EnvFilter::builder().with_default_directive(level.into()).from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .without_time()
        .with_target(verbose > 1)
        .init();
}
