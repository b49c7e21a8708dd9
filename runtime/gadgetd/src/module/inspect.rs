//! `gadgetd module inspect`: shows what a module is.

use std::{fmt::Write, process::ExitCode};

use anyhow::Result;
use clap::Args;
use gadgetd_host::{AnyModule, Capability, Description, ModuleRef, Source, Spec};
use serde_json::json;

use crate::{
    about,
    host::host,
    output,
    registry::{RegistryArgs, TrustArgs},
};

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// A built-in module, such as `oci`, the path of a component, such as `./mine.wasm`, or a reference to a registry,
    /// such as `ghcr.io/me/mine:1.0`.
    #[arg(value_name = "NAME|FILE|REFERENCE")]
    pub module: String,

    /// Print one JSON object, for programs.
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub trust: TrustArgs,

    #[command(flatten)]
    pub registry: RegistryArgs,
}

pub(crate) async fn run(args: &InspectArgs) -> Result<ExitCode> {
    let module =
        host(&args.registry)?.module_from(&ModuleRef::parse(&args.module), &args.trust.trust()?).await?;
    let text = if args.json { format!("{:#}\n", object(&module)) } else { table(&module) };
    output::to_stdout(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// For people.
fn table(module: &AnyModule) -> String {
    let mut text = about::one(module.role(), module.description());
    let _ = write!(
        text,
        "\nSource   {}\nWorld    {}\nDigest   {}\nSize     {} bytes\nImports",
        module.source(),
        module.world(),
        module.digest(),
        module.size()
    );
    let imports = module.imports();
    if imports.is_empty() {
        text.push_str("  nothing");
    }
    for (at, (interface, functions)) in imports.iter().enumerate() {
        let indent = if at == 0 { "  " } else { "\n         " };
        let _ = write!(text, "{indent}{interface}");
        if !functions.is_empty() {
            let _ = write!(text, ": {}", functions.join(", "));
        }
    }
    text.push('\n');
    text
}

/// For programs.
fn object(module: &AnyModule) -> serde_json::Value {
    let Description { name, version, summary, params, capabilities } = module.description();
    let param = |spec: &Spec| {
        let Spec { name, help, kind, default } = spec;
        let default = default.as_ref().map(ToString::to_string);
        json!({ "name": name, "help": help, "takes": kind.to_string(), "default": default })
    };
    let capability = |capability: &Capability| {
        let Capability { group, plural, verbs } = capability;
        let verbs: Vec<_> = verbs.iter().map(ToString::to_string).collect();
        json!({ "group": group, "resource": plural, "verbs": verbs })
    };
    let import = |(interface, functions): (String, Vec<String>)| json!({ "interface": interface, "functions": functions });
    let source = match module.source() {
        Source::BuiltIn => json!({ "built-in": true }),
        Source::File(path) => json!({ "file": path }),
        Source::Registry(origin) => json!({
            "reference": origin.to_string(),
            "manifest": origin.manifest.to_string(),
            "signed-by": origin.signed_by.map(|key| key.to_string()),
        }),
    };
    json!({
        "source": source,
        "role": module.role().to_string(),
        "name": name,
        "version": version.to_string(),
        "summary": summary,
        "world": module.world(),
        "digest": module.digest().to_string(),
        "size": module.size(),
        "imports": module.imports().into_iter().map(import).collect::<Vec<_>>(),
        "parameters": params.iter().map(param).collect::<Vec<_>>(),
        "capabilities": capabilities.iter().map(capability).collect::<Vec<_>>(),
    })
}
