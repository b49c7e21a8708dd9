//! `gadgetd module verify`: says who signed a module in a registry.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use gadgetd_host::Source;
use gadgetd_registry::Reference;

use crate::{
    output,
    registry::{RegistryArgs, TrustArgs},
};

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The reference of the module: `REGISTRY/REPOSITORY[:TAG][@sha256:…]`.
    #[arg(value_name = "REFERENCE")]
    pub reference: String,

    #[command(flatten)]
    pub trust: TrustArgs,

    #[command(flatten)]
    pub registry: RegistryArgs,
}

pub(crate) async fn run(args: &VerifyArgs) -> Result<ExitCode> {
    let reference = Reference::parse(&args.reference)?;
    let trust = args.trust.trust()?;
    let verified = args.registry.client(None)?.verify(&reference, &trust).await;
    let origin = verified.with_context(|| format!("cannot vouch for {reference}"))?;
    output::to_stdout(&format!("{}\n", Source::Registry(origin)))?;
    Ok(ExitCode::SUCCESS)
}
