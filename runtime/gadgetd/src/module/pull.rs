//! `gadgetd module pull`: gets a module out of a registry, if it is from somebody who is trusted.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use clap::Args;
use gadgetd_host::{Limits, Source};
use gadgetd_registry::Reference;

use super::PATIENCE;
use crate::{
    note, output,
    registry::{RegistryArgs, TrustArgs},
};

#[derive(Debug, Args)]
pub(crate) struct PullArgs {
    /// The reference of the module: `REGISTRY/REPOSITORY[:TAG][@sha256:…]`.
    #[arg(value_name = "REFERENCE")]
    pub reference: String,

    /// The file of the component.
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,

    #[command(flatten)]
    pub trust: TrustArgs,

    #[command(flatten)]
    pub registry: RegistryArgs,
}

pub(crate) async fn run(args: &PullArgs) -> Result<ExitCode> {
    let reference = Reference::parse(&args.reference)?;
    let trust = args.trust.trust()?;
    let client = args.registry.patient_client(None, PATIENCE)?;
    let fetched = client.fetch(&reference, &trust, Limits::default().module_size).await;
    let fetched = fetched.with_context(|| format!("cannot pull {reference}"))?;
    output::to_file(&args.output, &fetched.bytes)
        .with_context(|| format!("cannot write {}", args.output.display()))?;
    note(&format!("{} has {} bytes", args.output.display(), fetched.bytes.len()));
    output::to_stdout(&format!("{}\n", Source::Registry(fetched.origin)))?;
    Ok(ExitCode::SUCCESS)
}
