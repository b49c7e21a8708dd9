//! `gadgetd`: records system calls of commands, processes and containers, and runs gadgets on the recordings.
//!
//! The command line is in `cli`, one module follows for each subcommand. Results go to standard output,
//! everything for people to standard error.

mod about;
mod cli;
mod command;
mod confine;
mod host;
#[cfg(feature = "registry")]
mod module;
mod output;
#[cfg(feature = "registry")]
mod registry;
mod run;
#[cfg(feature = "cluster")]
mod serve;
mod signals;

use std::{io, io::IsTerminal, process::ExitCode};

use anyhow::{Context, Result};
use clap::Parser;
use tokio::runtime::Runtime;
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    match &cli.command {
        #[cfg(feature = "cluster")]
        Command::Serve(args) => log(cli.verbose + 1, args.log_format),
        _ => log_to_stderr(cli.verbose),
    }
    match &cli.command {
        Command::Run(args) => run::main(args),
        Command::Confine(args) => confine::main(args),
        #[cfg(feature = "registry")]
        Command::Module(args) => module::main(args),
        #[cfg(feature = "cluster")]
        Command::Serve(args) => serve::main(args),
    }
}

/// Runs work to its end, and leaves behind what it does not wait for any more: nothing can end a compiler.
fn to_the_end<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = Runtime::new().context("cannot start")?;
    let outcome = runtime.block_on(work);
    runtime.shutdown_background();
    outcome
}

/// Tells people something.
fn note(text: &str) {
    eprintln!("gadgetd: {text}");
}

/// For people who watch a command.
fn log_to_stderr(verbose: u8) {
    let builder = tracing_subscriber::fmt().with_env_filter(filter(verbose));
    builder
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .without_time()
        .with_target(verbose > 1)
        .init();
}

/// For whoever collects the log of a service.
#[cfg(feature = "cluster")]
fn log(verbose: u8, format: cli::LogFormat) {
    let builder = tracing_subscriber::fmt().with_env_filter(filter(verbose)).with_writer(io::stderr);
    match format {
        cli::LogFormat::Json => builder.json().flatten_event(true).init(),
        cli::LogFormat::Text => builder.with_ansi(io::stderr().is_terminal()).init(),
    }
}

fn filter(verbose: u8) -> EnvFilter {
    let level = match verbose {
        0 => LevelFilter::WARN,
        1 => LevelFilter::INFO,
        _ => LevelFilter::DEBUG,
    };
    EnvFilter::builder().with_default_directive(level.into()).from_env_lossy()
}
