//! `gadgetd module push`: puts a module into a registry.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result, ensure};
use clap::Args;
use gadgetd_host::{Description, Digest, ModuleRef};
use gadgetd_registry::{About, Reference};

use super::PATIENCE;
use crate::{host::host, note, output, registry::RegistryArgs};

#[derive(Debug, Args)]
pub(crate) struct PushArgs {
    /// The component.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// The destination: `REGISTRY/REPOSITORY:TAG`.
    #[arg(value_name = "REFERENCE")]
    pub reference: String,

    #[command(flatten)]
    pub registry: RegistryArgs,
}

pub(crate) async fn run(args: &PushArgs) -> Result<ExitCode> {
    let reference = Reference::parse(&args.reference)?;
    // What this gadgetd cannot run is nothing to hand on.
    let module = host(&args.registry)?.module(&ModuleRef::File(args.file.clone())).await?;
    let component =
        std::fs::read(&args.file).with_context(|| format!("cannot read {}", args.file.display()))?;
    ensure!(Digest::of(&component) == module.digest(), "{} changes while it is read", args.file.display());

    let Description { name, version, summary, .. } = module.description().clone();
    let imports = module.imports().into_iter().map(|(interface, _)| interface).collect();
    let about = About { name, version: version.to_string(), summary, imports, exports: module.exports() };
    let client = args.registry.patient_client(None, PATIENCE)?;
    let digest = client
        .push(&reference, component, &about)
        .await
        .with_context(|| format!("cannot push {} as {reference}", args.file.display()))?;
    note(&format!("pushed {} {} {}, {} bytes", module.role(), about.name, about.version, module.size()));
    output::to_stdout(&format!("{reference}@{digest}\n"))?;
    Ok(ExitCode::SUCCESS)
}
