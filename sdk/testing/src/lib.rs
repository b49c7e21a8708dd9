//! Tests of gadgets and formatters as what is shipped: the component, in the host that runs it on a node.
//!
//! A module's code is tested natively with [`gadget_sdk::testing`]. This crate takes the **component** instead, in whatever
//! language it was written, and runs it within the limits and behind the checks of the host: on captures of plain data with
//! a scripted cluster, in the same words, or on a [recording]. Neither needs rights, a network or a kernel feature.
//!
//! ```
//! use gadget_sdk::{Abi, Phases, testing};
//! use gadget_testing::Component;
//!
//! let web = testing::capture("web").call(Abi::Native, 0, "read", Phases::APPLICATION).build();
//! // The path of a component, such as `count.wasm`; or what is built in.
//! let outcome = Component::load("seccomp").formatter("oci").param("compact", "true").run([web]);
//! assert!(outcome.document().body.contains(r#""read""#));
//! ```
//!
//! A script answers for the cluster, as far as the gadget asks for it in its description:
//!
//! ```
//! use gadget_sdk::testing::{self, KubeAnswer, KubeCall};
//! use gadget_testing::Component;
//!
//! let kind = testing::kind("security-profiles-operator.x-k8s.io", "v1", "seccompprofiles", "SeccompProfile", false);
//! let web = testing::capture("web").call(gadget_sdk::Abi::Native, 0, "read", gadget_sdk::Phases::APPLICATION).build();
//! let outcome = Component::load("seccomp")
//!     .formatter("spo")
//!     .target("shop", "cart")
//!     .kube(move |call| match call {
//!         KubeCall::Discover { .. } => Ok(KubeAnswer::Kinds(vec![kind.clone()])),
//!         KubeCall::Create { object, .. } => Ok(KubeAnswer::Object(object.clone())),
//!         other => panic!("{other:?}"),
//!     })
//!     .run([web]);
//! assert_eq!(outcome.result, Ok(()));
//! assert_eq!(outcome.made[0].object.name, "shop.cart");
//! ```
//!
//! A recording, as `gadgetd run --record FILE` makes it, holds what should come out as well:
//!
//! ```no_run
//! gadget_testing::Component::load("count.wasm").assert_replays("tests/web.json");
//! ```
//!
//! [recording]: gadgetd_host::recording

mod cluster;
mod convert;

use std::{path::Path, sync::Arc};

use gadget_sdk::{
    Capture, Document, Reason,
    kube::Error as KubeError,
    testing::{Emitted, Judged, KubeAnswer, KubeCall, Line, Made},
};
use gadgetd_core::kube::Granted;
use gadgetd_host::{
    AnyModule, Cluster, Formatter, Gadget, Host, HostConfig, Matching, ModuleFault, ModuleRef, Params,
    RecordedRun, Report, Role, Run, Target, built_in,
    recording::{Difference, Recording},
};

use self::cluster::{Script, Scripted};

/// The formatter of runs that choose none.
const USUAL_FORMATTER: &str = "oci";
/// The gadget that calls a formatter which is tested.
const USUAL_GADGET: &str = "seccomp";
/// More calls to the cluster than any test makes.
const CALLS: u32 = 4000;

/// A component that is ready to run, and how it is to be run. It can be run again and again.
pub struct Component {
    host: Host,
    runtime: tokio::runtime::Runtime,
    module: AnyModule,
    gadget: Option<String>,
    formatter: Option<String>,
    params: Vec<String>,
    reason: gadgetd_host::Reason,
    target: Option<Target>,
    script: Option<Script>,
}

/// What came of a run, in the words of [`gadget_sdk::testing`].
#[derive(Debug)]
pub struct Outcome {
    /// Whether it succeeded; if not, which module failed, and how.
    pub result: Result<(), ModuleFault>,
    /// The documents that the gadget emitted.
    pub emitted: Vec<Emitted>,
    /// The objects that it reported.
    pub made: Vec<Made>,
    /// What it said of what was recorded.
    pub verdicts: Vec<Judged>,
    /// The calls that it made to the cluster, denied ones among them.
    pub calls: Vec<KubeCall>,
    /// The lines that the gadget and the formatter logged.
    pub log: Vec<Line>,
}

impl Component {
    /// Loads a gadget or a formatter: the path of a component, which has a `/` or ends in `.wasm`, or the name of a
    /// built-in module.
    ///
    /// # Panics
    ///
    /// If it is no module that gadgetd would run; the message says why. Nor can this be called from async code.
    #[track_caller]
    pub fn load(module: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.unwrap_or_else(|error| panic!("cannot start: {error}"));
        let host = Host::new(HostConfig::default()).unwrap_or_else(|error| panic!("{error}"));
        let loaded = runtime.block_on(host.module(&ModuleRef::parse(module)));
        let module = loaded.unwrap_or_else(|error| panic!("{}", chain(&error)));
        Self {
            host,
            runtime,
            module,
            gadget: None,
            formatter: None,
            params: Vec::new(),
            reason: gadgetd_host::Reason::OnDemand,
            target: None,
            script: None,
        }
    }

    /// Chooses the formatter that the gadget calls, as `gadgetd run` does; `oci`, if nothing else is said.
    #[must_use]
    pub fn formatter(mut self, formatter: &str) -> Self {
        self.formatter = Some(formatter.to_owned());
        self
    }

    /// Chooses the gadget that calls the formatter; `seccomp`, if nothing else is said.
    #[must_use]
    pub fn gadget(mut self, gadget: &str) -> Self {
        self.gadget = Some(gadget.to_owned());
        self
    }

    /// Gives a parameter, as a user writes it: `("exclude", "ptrace,bpf")`. It goes to the module that declares it.
    #[must_use]
    pub fn param(mut self, name: &str, value: &str) -> Self {
        self.params.push(format!("{name}={value}"));
        self
    }

    /// Why the gadget runs; on demand, if nothing else is said.
    #[must_use]
    pub fn reason(mut self, reason: Reason) -> Self {
        self.reason = convert::reason(reason);
        self
    }

    /// Asks for an object instead of documents.
    #[must_use]
    pub fn target(mut self, namespace: &str, name: &str) -> Self {
        self.target = Some(Target { namespace: namespace.to_owned(), name: name.to_owned() });
        self
    }

    /// A cluster that grants everything and answers as the script says. Without one there is no cluster. Calls that the
    /// gadget does not ask for in its description, or that are not well formed, do not reach the script.
    #[must_use]
    pub fn kube(
        mut self,
        script: impl Fn(&KubeCall) -> Result<KubeAnswer, KubeError> + Send + Sync + 'static,
    ) -> Self {
        self.script = Some(Arc::new(script));
        self
    }

    /// Runs it on captures. The host names their calls from its own tables, whatever names they have.
    ///
    /// # Panics
    ///
    /// If the other module cannot be loaded, or a parameter is not declared or not of its type: the host does not let such
    /// a run begin. Nor can this be called from async code.
    #[track_caller]
    pub fn run(&self, captures: impl IntoIterator<Item = Capture>) -> Outcome {
        let captures: Vec<_> = captures.into_iter().map(|capture| convert::capture(&capture)).collect();
        let (gadget, formatter) = self.pair();
        let params = Params::resolve(&gadget, &formatter, &self.params);
        let params = params.unwrap_or_else(|error| panic!("{error}"));
        let cluster = self.script.clone().map(|script| Cluster {
            api: Arc::new(Scripted(script)),
            granted: Arc::new(Granted {
                grants: gadget.description().capabilities.iter().map(Into::into).collect(),
                calls: CALLS,
            }),
            confined_to: None,
        });
        let run = Run {
            gadget: &gadget,
            formatter: &formatter,
            params,
            captures: captures.into(),
            reason: self.reason,
            target: self.target.clone(),
            cluster,
        };
        outcome(self.runtime.block_on(self.host.record(run)))
    }

    /// Runs it on a recording, and checks that everything comes out that the recording says: outcome, documents, objects,
    /// verdicts and calls to the cluster. What is chosen here otherwise, but for the other module, does not matter then.
    ///
    /// # Panics
    ///
    /// With the differences, if there are any; and if the recording cannot be read.
    #[track_caller]
    pub fn assert_replays(&self, recording: impl AsRef<Path>) {
        let file = recording.as_ref();
        let recording =
            Recording::read(file).unwrap_or_else(|error| panic!("{}: {}", file.display(), chain(&error)));
        let (gadget, formatter) = self.pair_for(&recording);
        let replay = self.host.replay(&recording, &gadget, &formatter, Matching::Exact);
        let replay =
            self.runtime.block_on(replay).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let found = replay.recording.unwrap_or_else(|error| panic!("the recording of the run {error}"));
        if let Some(difference) = Difference::between(&recording, &found) {
            panic!("{}:\n{difference}", file.display());
        }
    }

    /// The gadget and the formatter of a run.
    fn pair(&self) -> (Gadget, Formatter) {
        match &self.module {
            AnyModule::Gadget(gadget) => {
                (gadget.clone(), self.load_formatter(self.formatter.as_deref().unwrap_or(USUAL_FORMATTER)))
            }
            AnyModule::Formatter(formatter) => {
                (self.load_gadget(self.gadget.as_deref().unwrap_or(USUAL_GADGET)), formatter.clone())
            }
        }
    }

    /// The same for a recording, whose word counts where none was given.
    fn pair_for(&self, recording: &Recording) -> (Gadget, Formatter) {
        match (&self.module, &recording.gadget, &recording.formatter) {
            (AnyModule::Gadget(gadget), _, Some(formatter)) if self.formatter.is_none() => {
                (gadget.clone(), self.load_formatter(known(Role::Formatter, &formatter.module)))
            }
            (AnyModule::Formatter(formatter), Some(gadget), _) if self.gadget.is_none() => {
                (self.load_gadget(known(Role::Gadget, &gadget.module)), formatter.clone())
            }
            _ => self.pair(),
        }
    }

    fn load_gadget(&self, name: &str) -> Gadget {
        let loaded = self.runtime.block_on(self.host.gadget(&ModuleRef::parse(name)));
        loaded.unwrap_or_else(|error| panic!("{}", chain(&error)))
    }

    fn load_formatter(&self, name: &str) -> Formatter {
        let loaded = self.runtime.block_on(self.host.formatter(&ModuleRef::parse(name)));
        loaded.unwrap_or_else(|error| panic!("{}", chain(&error)))
    }
}

impl Outcome {
    /// The only document of a run that succeeded.
    ///
    /// # Panics
    ///
    /// If it failed, or emitted none or several.
    #[track_caller]
    pub fn document(&self) -> &Document {
        match (&self.result, &self.emitted[..]) {
            (Ok(()), [only]) => &only.document,
            (Err(fault), _) => panic!("{fault}"),
            (Ok(()), all) => panic!("{} documents: {all:?}", all.len()),
        }
    }
}

fn outcome(recorded: RecordedRun) -> Outcome {
    let RecordedRun { recording, result, .. } = recorded;
    let recording = recording.unwrap_or_else(|error| panic!("the recording of the run {error}"));
    let (result, report) = match result {
        Ok(report) => (Ok(()), report),
        Err(error) => (Err(error.fault), *error.report),
    };
    let Report { documents, objects, verdicts, log, .. } = report;
    let about = |indices: &[usize]| {
        let names = indices.iter().filter_map(|index| recording.captures.get(*index));
        names.map(|capture| capture.container.to_string()).collect::<Vec<_>>()
    };
    Outcome {
        result,
        emitted: documents
            .into_iter()
            .map(|emitted| Emitted {
                about: about(&emitted.about),
                document: convert::document(emitted.document),
            })
            .collect(),
        made: objects
            .into_iter()
            .map(|object| Made { about: about(&object.about), object: convert::made(object) })
            .collect(),
        verdicts: verdicts
            .into_iter()
            .map(|verdict| Judged { about: about(&verdict.about), verdict: convert::verdict(verdict) })
            .collect(),
        calls: recording.kube.iter().map(|exchange| convert::call(&exchange.call)).collect(),
        log: log.into_iter().map(convert::line).collect(),
    }
}

/// The name of a built-in module. A recording chooses no other: files of other machines mean nothing here.
fn known(role: Role, name: &str) -> &str {
    let is_known = built_in(role).any(|known| known == name);
    assert!(
        is_known,
        "the recording was made with the {role} {name:?}, which is not built in: choose one with .{role}(…)"
    );
    name
}

/// An error with what is behind it.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
