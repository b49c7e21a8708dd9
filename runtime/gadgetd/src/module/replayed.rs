//! What `test` and `bench` have in common: the modules that a recording is run on.

use std::path::Path;

use anyhow::{Result, anyhow, bail};
use gadgetd_host::{
    AnyModule, Formatter, Gadget, Host, ModuleRef, Role, built_in,
    recording::{Identity, Recording},
};

/// The formatter of a recording that names none.
const USUAL_FORMATTER: &str = "oci";

/// The module that is worked on, and what was said of the other one.
pub(super) struct Modules {
    pub module: AnyModule,
    /// The other one, if the user chose it.
    pub other: Option<AnyModule>,
}

impl Modules {
    /// Loads the module, and the gadget or the formatter that the user chose to go with it.
    pub(super) async fn load(
        host: &Host,
        module: &ModuleRef,
        gadget: Option<&str>,
        formatter: Option<&str>,
    ) -> Result<Self> {
        let module = host.module(module).await?;
        let other = match (&module, gadget, formatter) {
            (AnyModule::Gadget(_), Some(_), _) => {
                bail!("--gadget says which gadget calls a formatter; the module is a gadget itself")
            }
            (AnyModule::Formatter(_), _, Some(_)) => {
                bail!("--formatter says which formatter a gadget calls; the module is a formatter itself")
            }
            (AnyModule::Gadget(_), _, Some(name)) => {
                Some(AnyModule::Formatter(host.formatter(&ModuleRef::parse(name)).await?))
            }
            (AnyModule::Formatter(_), Some(name), _) => {
                Some(AnyModule::Gadget(host.gadget(&ModuleRef::parse(name)).await?))
            }
            (_, None, None) => None,
        };
        Ok(Self { module, other })
    }

    /// The gadget and the formatter for a recording. What is not given is the recording's, if that is built in: files of
    /// other machines mean nothing here, and whoever wrote the recording does not choose what is loaded.
    pub(super) async fn pair(&self, host: &Host, recording: &Recording) -> Result<(Gadget, Formatter)> {
        Ok(match (&self.module, &self.other) {
            (AnyModule::Gadget(gadget), Some(AnyModule::Formatter(formatter)))
            | (AnyModule::Formatter(formatter), Some(AnyModule::Gadget(gadget))) => {
                (gadget.clone(), formatter.clone())
            }
            (AnyModule::Gadget(gadget), _) => {
                let name = named(Role::Formatter, recording.formatter.as_ref(), Some(USUAL_FORMATTER))?;
                (gadget.clone(), host.formatter(&name).await?)
            }
            (AnyModule::Formatter(formatter), _) => {
                let name = named(Role::Gadget, recording.gadget.as_ref(), None)?;
                (host.gadget(&name).await?, formatter.clone())
            }
        })
    }
}

fn named(role: Role, recorded: Option<&Identity>, usual: Option<&str>) -> Result<ModuleRef> {
    let name = recorded.map(|identity| identity.module.as_str()).or(usual);
    let name = name.ok_or_else(|| anyhow!("the recording names no {role}; say which with --{role}"))?;
    if built_in(role).any(|known| known == name) {
        Ok(ModuleRef::BuiltIn(name.to_owned()))
    } else {
        bail!(
            "the recording was made with the {role} {name:?}, which is not built in; say with --{role} where it is"
        )
    }
}

/// Reads a recording.
pub(super) fn read(file: &Path) -> Result<Recording> {
    Recording::read(file).map_err(|error| anyhow::Error::from(error).context(file.display().to_string()))
}
