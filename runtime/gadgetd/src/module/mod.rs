//! `gadgetd module`: what the author of a module does with it. One file for each subcommand.

mod bench;
mod build;
mod inspect;
mod keygen;
mod new;
mod pull;
mod push;
mod replayed;
mod sign;
mod test;
mod verify;

use std::{process::ExitCode, time::Duration};

use anyhow::Result;
use clap::{Args, Subcommand};
use gadgetd_host::ModuleError;
use gadgetd_registry::{Error as RegistryError, PrivateKeyError, ReferenceError};

use crate::note;

/// How long somebody who waits for a registry is ready to wait, as long as it does something.
const PATIENCE: Duration = Duration::from_mins(10);

#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct ModuleArgs {
    #[command(subcommand)]
    pub command: ModuleCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ModuleCommand {
    /// Create a project with a working gadget or formatter, in the language of your choice.
    New(new::NewArgs),
    /// Build a component from a project, with the tools of its language. Lists missing tools.
    Build(build::BuildArgs),
    /// Show the world, version, imports, parameters and capabilities of a module.
    Inspect(inspect::InspectArgs),
    /// Run a module on recorded runs, and compare the results. Needs neither root nor a network.
    Test(test::TestArgs),
    /// Measure a module: how long each step takes, and how much of its limits it uses.
    Bench(bench::BenchArgs),
    /// Push a module to a registry, and print its reference.
    Push(push::PushArgs),
    /// Pull a module from a registry, if a trusted key signed it.
    Pull(pull::PullArgs),
    /// Sign a module in a registry, in cosign's format.
    Sign(sign::SignArgs),
    /// Verify the signature of a module in a registry.
    Verify(verify::VerifyArgs),
    /// Create a key pair for signatures.
    Keygen(keygen::KeygenArgs),
}

/// Does what one of the subcommands says.
pub(crate) fn main(args: &ModuleArgs) -> ExitCode {
    let outcome = crate::to_the_end(run(args));
    match outcome {
        Ok(code) => code,
        Err(error) => {
            note(&format!("{error:#}"));
            if is_usage(&error) { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}

/// Whether the command line asks for something that does not exist or makes no sense.
fn is_usage(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(ModuleError::Unknown { .. }))
        || matches!(
            error.downcast_ref(),
            Some(RegistryError::NobodyIsTrusted | RegistryError::Reference(ReferenceError::NoTag(_)))
        )
        || matches!(error.downcast_ref(), Some(PrivateKeyError::Exists(_)))
        || error.is::<ReferenceError>()
}

async fn run(args: &ModuleArgs) -> Result<ExitCode> {
    match &args.command {
        ModuleCommand::New(args) => new::run(args),
        ModuleCommand::Build(args) => build::run(args),
        ModuleCommand::Inspect(args) => inspect::run(args).await,
        ModuleCommand::Test(args) => test::run(args).await,
        ModuleCommand::Bench(args) => bench::run(args).await,
        ModuleCommand::Push(args) => push::run(args).await,
        ModuleCommand::Pull(args) => pull::run(args).await,
        ModuleCommand::Sign(args) => sign::run(args).await,
        ModuleCommand::Verify(args) => verify::run(args).await,
        ModuleCommand::Keygen(args) => keygen::run(args),
    }
}
