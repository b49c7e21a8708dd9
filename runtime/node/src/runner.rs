//! Runs gadgets: those that are built in, and those of the cluster's `Gadget` objects.

use std::{collections::BTreeSet, sync::Arc};

use gadgetd_core::kube::{KubeApi, KubeError};
use gadgetd_host::{
    Cluster, Emitted, Fault, Host, HostError, KubeCall, MadeObject, ModuleError, Params, Reason, Report,
    Target,
};
use gadgetd_kube::{
    Call, GadgetSpec,
    controller::{
        self, Document, InstallError, Installed, Installer, RunError, RunOutcome, RunOutput, RunRequest,
        Runner, WrittenObject,
    },
    machine,
};
use thiserror::Error;
use tracing::Instrument as _;

use crate::{
    chain,
    gadgets::{LiveGrants, Modules, Unavailable},
    origin::Origin,
};

/// The formatter of documents if the run names none.
const DEFAULT_FORMATTER: &str = "oci";
/// The formatter of objects if the run names none.
const DEFAULT_OBJECT_FORMATTER: &str = "spo";

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

/// Reaches the cluster under a name that is known to the API server as the field manager.
type Connect = Arc<dyn Fn(&str) -> Arc<dyn KubeApi> + Send + Sync>;

/// The modules that this node can run, and the cluster on which they may do something. Clones have the same modules.
#[derive(Clone)]
pub struct HostRunner {
    modules: Arc<Modules>,
    connect: Connect,
}

impl HostRunner {
    /// Loads every module that is built in. `connect` gives the calls to the cluster, for a field manager; what of them a
    /// gadget may make is decided here.
    pub async fn new(
        host: Host,
        connect: impl Fn(&str) -> Arc<dyn KubeApi> + Send + Sync + 'static,
    ) -> Result<Self, RunnerError> {
        Ok(Self { modules: Arc::new(Modules::load(host).await?), connect: Arc::new(connect) })
    }

    /// The same modules, on another cluster.
    #[must_use]
    pub fn on(&self, connect: impl Fn(&str) -> Arc<dyn KubeApi> + Send + Sync + 'static) -> Self {
        Self { modules: Arc::clone(&self.modules), connect: Arc::new(connect) }
    }

    /// The cluster as far as a run for this request may use it.
    fn cluster(&self, gadget: &str, request: &RunRequest<'_>) -> Cluster {
        let api = (self.connect)(&format!("gadget-{gadget}"));
        Cluster {
            api: Arc::new(Origin::of(request, api)),
            granted: Arc::new(LiveGrants { modules: self.modules.clone(), gadget: gadget.to_owned() }),
            confined_to: request.confined_to.map(str::to_owned),
        }
    }

    async fn report(&self, run: controller::Run<'_>) -> Result<Report, (RunError, Option<Report>)> {
        let before = |error: RunError| (error, None);
        if run.capture.syscalls.is_empty() {
            return Err(before(RunError::Empty));
        }
        let unavailable = |reason| match reason {
            Unavailable::Pending => before(RunError::Unavailable("a module is being fetched".to_owned())),
            Unavailable::Failed(text) => before(RunError::Failed(text)),
        };
        let gadget = self.modules.gadget(run.gadget).map_err(unavailable)?;
        let default = if run.request.target.is_some() { DEFAULT_OBJECT_FORMATTER } else { DEFAULT_FORMATTER };
        let formatter = self.modules.formatter(run.formatter.unwrap_or(default)).map_err(unavailable)?;
        let given = run.parameters.iter().map(|(name, value)| format!("{name}={value}"));
        let params = Params::resolve(&gadget, &formatter, given);
        let params = params.map_err(|error| before(RunError::Failed(chain(&error))))?;
        let reason = match run.reason {
            controller::Reason::OnDemand => Reason::OnDemand,
            controller::Reason::ContainerEnded => Reason::ContainerEnded,
        };
        let target = run
            .request
            .target
            .map(|target| Target { namespace: target.namespace.to_owned(), name: target.name.to_owned() });
        let host_run = gadgetd_host::Run {
            gadget: &gadget,
            formatter: &formatter,
            params,
            captures: Arc::new([run.capture]),
            reason,
            target,
            cluster: Some(self.cluster(run.gadget, &run.request)),
        };
        let span = tracing::info_span!("run", trace = run.trace, gadget = run.gadget);
        let report = self.modules.host.run(host_run).instrument(span).await;
        report.map_err(|error| (run_error(&error), Some(*error.report)))
    }
}

impl Runner for HostRunner {
    async fn gadgets(&self) -> Vec<machine::Gadget> {
        self.modules.all().await
    }

    async fn run(&self, run: controller::Run<'_>) -> RunOutcome {
        let wants_object = run.request.target.is_some();
        let mut objection = None;
        let (output, calls) = match self.report(run).await {
            Ok(mut report) => {
                let calls = std::mem::take(&mut report.audit);
                let failures: Vec<_> = report.verdicts.iter().filter_map(|v| v.failure.as_deref()).collect();
                objection = (!failures.is_empty()).then(|| failures.join("; "));
                (output(report, wants_object).map_err(RunError::Failed), calls)
            }
            Err((error, report)) => (Err(error), report.map(|report| report.audit).unwrap_or_default()),
        };
        RunOutcome { output, calls: calls.iter().map(call).collect(), objection }
    }
}

impl Installer for HostRunner {
    fn retain(&self, names: &BTreeSet<String>) {
        self.modules.retain(names);
    }

    fn grant(&self, name: &str, spec: &GadgetSpec) {
        self.modules.grant(name, spec);
    }

    async fn install(&self, name: &str, spec: &GadgetSpec) -> Result<Installed, InstallError> {
        self.modules.install(name, spec).await
    }

    fn remove(&self, name: &str) {
        self.modules.remove(name);
    }
}

/// A call, as the status of a Trace has it.
fn call(made: &KubeCall) -> Call {
    Call {
        call: made.call().to_string(),
        arguments: made.arguments.to_string(),
        allowed: made.allowed,
        milliseconds: u64::try_from(made.duration.as_millis()).unwrap_or(u64::MAX),
        result: match &made.result {
            None => "the run ended before an answer came".to_owned(),
            Some(Ok(())) => "ok".to_owned(),
            Some(Err(error)) => error.to_string(),
        },
    }
}

/// Why a run failed, and whether it may succeed later.
fn run_error(error: &gadgetd_host::RunError) -> RunError {
    let text = chain(error);
    match &error.fault.fault {
        Fault::Kube(KubeError::Unavailable(_) | KubeError::Deadline(_)) => RunError::Unavailable(text),
        // A module's own time is over much sooner: it waited for the cluster.
        Fault::RunDeadline(_) if !error.report.audit.is_empty() => RunError::Unavailable(text),
        _ => RunError::Refused(text),
    }
}

/// What came of a run about one recording.
fn output(report: Report, wants_object: bool) -> Result<RunOutput, String> {
    let Report { documents, objects, .. } = report;
    if wants_object {
        let objects = <[MadeObject; 1]>::try_from(objects);
        let [object] = objects.map_err(|all| format!("it made {} objects of one recording", all.len()))?;
        let MadeObject { namespace, name, usage, .. } = object;
        let resource = namespace.map_or_else(|| name.clone(), |namespace| format!("{namespace}/{name}"));
        return Ok(RunOutput::Object(WrittenObject { resource, localhost_profile: usage }));
    }
    let documents = <[Emitted; 1]>::try_from(documents);
    let [emitted] = documents.map_err(|all| format!("it made {} documents of one recording", all.len()))?;
    let gadgetd_host::Document { media_type, body } = emitted.document;
    Ok(RunOutput::Document(Document { media_type, body }))
}
