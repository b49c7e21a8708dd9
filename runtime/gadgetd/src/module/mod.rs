//! `gadgetd module`: what the author of a module does with it. One file for each subcommand.

mod bench;
mod build;
mod inspect;
mod new;
mod replayed;
mod test;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use gadgetd_host::ModuleError;
use tokio::runtime::Runtime;

use crate::note;

#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct ModuleArgs {
    #[command(subcommand)]
    pub command: ModuleCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ModuleCommand {
    /// Make a project to begin with: a gadget or a formatter that works, in the language of your choice.
    New(new::NewArgs),
    /// Build a project into a component, with the tools of its language; says which are missing.
    Build(build::BuildArgs),
    /// Show what a module is: its world and version, what it imports, its parameters, and what it asks for.
    Inspect(inspect::InspectArgs),
    /// Run a module on recordings, and compare what comes out with what they say. Needs no rights, and no network.
    Test(test::TestArgs),
    /// Measure a module: how long each step takes, and how much of its limits it uses.
    Bench(bench::BenchArgs),
}

/// Does what one of the subcommands says.
pub(crate) fn main(args: &ModuleArgs) -> ExitCode {
    let outcome = Runtime::new().context("cannot start").and_then(|runtime| runtime.block_on(run(args)));
    match outcome {
        Ok(code) => code,
        Err(error) => {
            note(&format!("{error:#}"));
            let usage = matches!(error.downcast_ref(), Some(ModuleError::Unknown { .. }));
            if usage { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}

async fn run(args: &ModuleArgs) -> Result<ExitCode> {
    match &args.command {
        ModuleCommand::New(args) => new::run(args),
        ModuleCommand::Build(args) => build::run(args),
        ModuleCommand::Inspect(args) => inspect::run(args).await,
        ModuleCommand::Test(args) => test::run(args).await,
        ModuleCommand::Bench(args) => bench::run(args).await,
    }
}
