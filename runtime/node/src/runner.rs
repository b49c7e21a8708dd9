//! Runs the built-in gadgets.

use std::{collections::BTreeMap, sync::Arc};

use gadgetd_host::{
    Formatter, Gadget, Host, HostError, ModuleError, ModuleRef, Params, Reason, Role, built_in,
};
use gadgetd_kube::{
    OutputMode,
    controller::{self, Document, RunError, Runner},
    machine,
};
use thiserror::Error;

use crate::chain;

/// Which formatter writes a gadget's documents where nobody asked for one.
const USUAL: &str = "oci";

/// Why gadgets cannot be run.
#[derive(Debug, Error)]
pub enum RunnerError {
    /// The host does not start.
    #[error(transparent)]
    Host(#[from] HostError),
    /// A module cannot be loaded.
    #[error(transparent)]
    Module(#[from] ModuleError),
}

/// The modules that are a part of gadgetd, loaded.
pub struct HostRunner {
    host: Host,
    gadgets: BTreeMap<&'static str, Gadget>,
    formatters: BTreeMap<&'static str, Formatter>,
}

impl HostRunner {
    /// Loads every module.
    pub async fn new(host: Host) -> Result<Self, RunnerError> {
        let (mut gadgets, mut formatters) = (BTreeMap::new(), BTreeMap::new());
        for name in built_in(Role::Gadget) {
            gadgets.insert(name, host.gadget(&ModuleRef::BuiltIn(name.into())).await?);
        }
        for name in built_in(Role::Formatter) {
            formatters.insert(name, host.formatter(&ModuleRef::BuiltIn(name.into())).await?);
        }
        Ok(Self { host, gadgets, formatters })
    }
}

impl Runner for HostRunner {
    fn gadgets(&self) -> Vec<machine::Gadget> {
        let gadget = |name: &&str| machine::Gadget {
            name: (*name).to_owned(),
            output_modes: OutputMode::ALL.to_vec(),
        };
        self.gadgets.keys().map(gadget).collect()
    }

    async fn run(&self, run: controller::Run<'_>) -> Result<Document, RunError> {
        if run.capture.syscalls.is_empty() {
            return Err(RunError::Empty);
        }
        let failed = |text: String| RunError::Failed(text);
        let gadget = self
            .gadgets
            .get(run.gadget)
            .ok_or_else(|| failed(format!("there is no gadget {}", run.gadget)))?;
        let wanted = run.formatter.unwrap_or(USUAL);
        let formatter = self.formatters.get(wanted).ok_or_else(|| {
            let known: Vec<_> = self.formatters.keys().copied().collect();
            failed(format!("there is no formatter {wanted}: there are {}", known.join(", ")))
        })?;
        let given = run.parameters.iter().map(|(name, value)| format!("{name}={value}"));
        let params = Params::resolve(gadget, formatter, given).map_err(|error| failed(chain(&error)))?;
        let reason = match run.reason {
            controller::Reason::OnDemand => Reason::OnDemand,
            controller::Reason::ContainerEnded => Reason::ContainerEnded,
        };
        let captures = Arc::new([run.capture]);
        let run =
            gadgetd_host::Run { gadget, formatter, params, captures, reason, target: None, cluster: None };
        let report = self.host.run(run).await.map_err(|error| failed(chain(&error)))?;
        let [emitted] = &report.documents[..] else {
            return Err(failed(format!("it made {} documents of one recording", report.documents.len())));
        };
        let document = emitted.document.clone();
        Ok(Document { media_type: document.media_type, body: document.body })
    }
}
