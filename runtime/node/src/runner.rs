//! Runs the built-in gadgets.

use std::{collections::BTreeMap, sync::Arc};

use gadgetd_core::kube::{Grant, KubeApi, KubeError, Names, Verb};
use gadgetd_host::{
    Cluster, Emitted, Fault, Formatter, Gadget, Host, HostError, MadeObject, ModuleError, ModuleRef, Params,
    Reason, Report, Role, Target, built_in,
};
use gadgetd_kube::{
    OutputMode,
    controller::{self, Document, Order, Product, RunError, Runner, Written},
    machine,
};
use thiserror::Error;
use tracing::Instrument as _;

use crate::{chain, origin::Origin};

/// Which formatter writes a gadget's documents where nobody asked for one.
const USUAL: &str = "oci";
/// And which one its objects.
const USUAL_FOR_OBJECTS: &str = "spo";

/// How many calls to the cluster a run may make: to find out what is served, and to try every name that is tried.
const BUDGET: u32 = 64;

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

/// The modules that are a part of gadgetd, loaded, and the cluster on which they may make objects.
pub struct HostRunner {
    modules: Arc<Modules>,
    connect: Connect,
}

struct Modules {
    host: Host,
    gadgets: BTreeMap<&'static str, Gadget>,
    formatters: BTreeMap<&'static str, Formatter>,
}

impl HostRunner {
    /// Loads every module. `connect` gives the calls to the cluster, for a field manager; what of them a gadget may make
    /// is decided here.
    pub async fn new(
        host: Host,
        connect: impl Fn(&str) -> Arc<dyn KubeApi> + Send + Sync + 'static,
    ) -> Result<Self, RunnerError> {
        let (mut gadgets, mut formatters) = (BTreeMap::new(), BTreeMap::new());
        for name in built_in(Role::Gadget) {
            gadgets.insert(name, host.gadget(&ModuleRef::BuiltIn(name.into())).await?);
        }
        for name in built_in(Role::Formatter) {
            formatters.insert(name, host.formatter(&ModuleRef::BuiltIn(name.into())).await?);
        }
        Ok(Self { modules: Arc::new(Modules { host, gadgets, formatters }), connect: Arc::new(connect) })
    }

    /// The same modules, on another cluster.
    #[must_use]
    pub fn on(&self, connect: impl Fn(&str) -> Arc<dyn KubeApi> + Send + Sync + 'static) -> Self {
        Self { modules: Arc::clone(&self.modules), connect: Arc::new(connect) }
    }

    /// The cluster as far as a run for this order may use it.
    fn cluster(&self, gadget: &str, order: &Order<'_>) -> Cluster {
        let api = (self.connect)(&format!("gadget-{gadget}"));
        Cluster {
            api: Arc::new(Origin::of(order, api)),
            granted: granted(gadget),
            confined_to: order.confined_to.map(str::to_owned),
            budget: BUDGET,
        }
    }
}

/// What is granted to a built-in gadget where the cluster says nothing else.
fn granted(gadget: &str) -> Vec<Grant> {
    let grant = |group: &str, plural: &str, verbs: &[Verb]| Grant {
        group: group.into(),
        plural: plural.into(),
        verbs: verbs.to_vec(),
        namespaces: Names::Any,
        names: Names::Any,
    };
    match gadget {
        "seccomp" => vec![grant(gadgetd_core::spo::GROUP, gadgetd_core::spo::PLURAL, &[Verb::Create])],
        _ => Vec::new(),
    }
}

impl Runner for HostRunner {
    fn gadgets(&self) -> Vec<machine::Gadget> {
        let gadget = |name: &&str| machine::Gadget {
            name: (*name).to_owned(),
            output_modes: OutputMode::ALL.to_vec(),
        };
        self.modules.gadgets.keys().map(gadget).collect()
    }

    async fn run(&self, run: controller::Run<'_>) -> Result<Product, RunError> {
        if run.capture.syscalls.is_empty() {
            return Err(RunError::Empty);
        }
        let Modules { host, gadgets, formatters } = &*self.modules;
        let failed = |text: String| RunError::Failed(text);
        let gadget =
            gadgets.get(run.gadget).ok_or_else(|| failed(format!("there is no gadget {}", run.gadget)))?;
        let usual = if run.order.is_some() { USUAL_FOR_OBJECTS } else { USUAL };
        let wanted = run.formatter.unwrap_or(usual);
        let formatter = formatters.get(wanted).ok_or_else(|| {
            let known: Vec<_> = formatters.keys().copied().collect();
            failed(format!("there is no formatter {wanted}: there are {}", known.join(", ")))
        })?;
        let given = run.parameters.iter().map(|(name, value)| format!("{name}={value}"));
        let params = Params::resolve(gadget, formatter, given).map_err(|error| failed(chain(&error)))?;
        let reason = match run.reason {
            controller::Reason::OnDemand => Reason::OnDemand,
            controller::Reason::ContainerEnded => Reason::ContainerEnded,
        };
        let target = |order: &Order<'_>| Target {
            namespace: order.target_namespace.to_owned(),
            name: order.name.to_owned(),
        };
        let host_run = gadgetd_host::Run {
            gadget,
            formatter,
            params,
            captures: Arc::new([run.capture]),
            reason,
            target: run.order.as_ref().map(target),
            cluster: run.order.as_ref().map(|order| self.cluster(run.gadget, order)),
        };
        let span = tracing::info_span!("run", trace = run.trace, gadget = run.gadget);
        let report = host.run(host_run).instrument(span).await.map_err(|error| why(&error))?;
        product(report, run.order.is_some()).map_err(failed)
    }
}

/// Why a run failed, and whether it may succeed later.
fn why(error: &gadgetd_host::RunError) -> RunError {
    let text = chain(error);
    match &error.fault.fault {
        Fault::Kube(KubeError::Unavailable(_) | KubeError::Deadline(_)) => RunError::Unavailable(text),
        // A module's own time is over much sooner: it waited for the cluster.
        Fault::RunDeadline(_) if !error.report.audit.is_empty() => RunError::Unavailable(text),
        _ => RunError::Refused(text),
    }
}

/// What came of a run about one recording.
fn product(report: Report, ordered: bool) -> Result<Product, String> {
    let Report { documents, objects, .. } = report;
    if ordered {
        let objects = <[MadeObject; 1]>::try_from(objects);
        let [object] = objects.map_err(|all| format!("it made {} objects of one recording", all.len()))?;
        let MadeObject { namespace, name, usage, .. } = object;
        let resource = namespace.map_or_else(|| name.clone(), |namespace| format!("{namespace}/{name}"));
        return Ok(Product::Object(Written { resource, localhost_profile: usage }));
    }
    let documents = <[Emitted; 1]>::try_from(documents);
    let [emitted] = documents.map_err(|all| format!("it made {} documents of one recording", all.len()))?;
    let gadgetd_host::Document { media_type, body } = emitted.document;
    Ok(Product::Document(Document { media_type, body }))
}
