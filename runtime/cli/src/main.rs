//! `kubectl-gadget`: the command line for people with a cluster.
//!
//! It talks to nothing but the API server: what it asks of nodes, and what they answer, is in Trace objects. The
//! command line is in `cli`, one module below `commands` follows for each subcommand. Results go to standard output,
//! everything for people to standard error.

mod cli;
mod commands;
mod connection;
mod documents;
mod errors;
mod live;
mod manifests;
mod output;
mod recording;
mod runtime;
mod signals;
mod table;
mod target;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser as _;

use cli::{AdvisorCommand, Cli, Command};

/// What a recording that is incomplete ends with.
const INCOMPLETE: u8 = 3;
/// What one ends with that a gadget objects to.
const OBJECTED: u8 = 4;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Into::into)
        .and_then(|runtime| runtime.block_on(go(&cli)));
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {}", table::tidy(&format!("{error:#}")));
        ExitCode::FAILURE
    })
}

async fn go(cli: &Cli) -> Result<ExitCode> {
    let cluster = &cli.cluster;
    match &cli.command {
        Command::Run(args) => Box::pin(commands::run::main(cluster, args)).await,
        Command::Advisor { command: AdvisorCommand::Start(args) } => {
            commands::advisor::start(cluster, args).await
        }
        Command::Advisor { command: AdvisorCommand::Stop(args) } => {
            commands::advisor::stop(cluster, args).await
        }
        Command::Advisor { command: AdvisorCommand::List(args) } => {
            commands::list::main(cluster, args, Some(target::SECCOMP)).await
        }
        Command::List(args) => commands::list::main(cluster, args, None).await,
        Command::Gadgets(args) => commands::gadgets::main(cluster, args).await,
        Command::Show(args) => commands::show::main(cluster, args).await,
        Command::Stop(args) => commands::stop::main(cluster, args).await,
        Command::Delete(args) => commands::delete::main(cluster, args).await,
        Command::Deploy(args) => commands::deploy::main(cluster, args).await,
        Command::Undeploy(args) => commands::undeploy::main(cluster, args).await,
        Command::Version(args) => commands::version::main(cluster, args).await,
        Command::Completion { shell } => commands::completion::completion(*shell),
        Command::Man { folder } => commands::completion::man(folder),
    }
}

/// Tells people something.
fn note(text: impl std::fmt::Display) {
    eprintln!("{}", table::tidy(&text.to_string()));
}

/// Tells people something that they should look into.
fn warn(text: impl std::fmt::Display) {
    eprintln!("warning: {}", table::tidy(&text.to_string()));
}
