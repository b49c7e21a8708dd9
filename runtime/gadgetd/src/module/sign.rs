//! `gadgetd module sign`: vouches for a module in a registry.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use clap::Args;
use gadgetd_registry::{PrivateKey, Reference};

use super::PATIENCE;
use crate::{note, output, registry::RegistryArgs};

#[derive(Debug, Args)]
pub(crate) struct SignArgs {
    /// The reference of the module: `REGISTRY/REPOSITORY:TAG@sha256:…`, as `gadgetd module push` printed it. A tag alone
    /// means the module that the registry now has under it.
    #[arg(value_name = "REFERENCE")]
    pub reference: String,

    /// The private key: PKCS#8 in PEM, as `gadgetd module keygen` and openssl write it. Only its owner may read it.
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,

    #[command(flatten)]
    pub registry: RegistryArgs,
}

pub(crate) async fn run(args: &SignArgs) -> Result<ExitCode> {
    let reference = Reference::parse(&args.reference)?;
    let key = PrivateKey::read(&args.key)?;
    let client = args.registry.patient_client(None, PATIENCE)?;
    let signed = client.sign(&reference, &key).await;
    let digest = signed.with_context(|| format!("cannot sign {reference}"))?;
    if reference.digest().is_none() {
        note(&format!("signed what {} has there now: {digest}", reference.registry()));
    }
    note(&format!("signed with key {}", key.public().id()));
    output::to_stdout(&format!("{}@{digest}\n", reference.name()))?;
    Ok(ExitCode::SUCCESS)
}
