//! What the controller needs of its node: traits that `gadgetd-node` implements.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures::Stream;
use gadgetd_core::Capture;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    Call, GadgetAsk, GadgetParameter, GadgetSpec,
    documents::Recording,
    machine::{FoundPod, Gadget, Selection},
};

/// Names a recording on a node: a Trace, and one of its sessions.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Session {
    /// The uid of the Trace.
    pub trace: String,
    /// The number of the start.
    pub number: u64,
}

/// How far a recording has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordingProgress {
    /// Containers, including ended ones.
    pub containers: u32,
    /// Distinct system calls, over all containers.
    pub syscalls: u32,
    /// Time since the last new call.
    pub since_new: Option<Duration>,
    /// The ids of the containers that ended and were not released.
    pub ended: Vec<String>,
}

/// Why the node could not do what the controller asked. The texts are for people.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NodeError {
    /// A retry will fail as well.
    #[error("{0}")]
    Refused(String),
    /// A retry may succeed.
    #[error("{0}")]
    Unavailable(String),
}

/// Records containers of this node: the kernel side.
///
/// Every method is idempotent: after a crash the controller repeats what it may or may not have done. Recordings outlive the
/// process.
pub trait Recorder: Send + Sync + 'static {
    /// The pods of this node that a selection finds, whatever its container name.
    fn find(&self, selection: &Selection) -> impl Future<Output = Result<Vec<FoundPod>, NodeError>> + Send;

    /// Records every container that the selection finds, now and later, from its first call on where it is not
    /// running yet. A session that is being recorded goes on as it is.
    fn start(
        &self,
        session: &Session,
        selection: &Selection,
    ) -> impl Future<Output = Result<(), NodeError>> + Send;

    /// How far a session has come.
    fn progress(
        &self,
        session: &Session,
    ) -> impl Future<Output = Result<RecordingProgress, NodeError>> + Send;

    /// What was recorded, in the order in which the containers appeared; those that ended among them until they
    /// are released.
    fn recordings(&self, session: &Session)
    -> impl Future<Output = Result<Vec<Recording>, NodeError>> + Send;

    /// Forgets an ended container, as far as this session is concerned.
    fn release(
        &self,
        session: &Session,
        container: &str,
    ) -> impl Future<Output = Result<(), NodeError>> + Send;

    /// Ends every session of a Trace but `keep`, and forgets what it recorded.
    fn stop(&self, trace: &str, keep: Option<u64>) -> impl Future<Output = Result<(), NodeError>> + Send;

    /// Every session that is being recorded, including those of an earlier process.
    fn sessions(&self) -> impl Future<Output = Result<Vec<Session>, NodeError>> + Send;

    /// Yields the uid of a Trace each time a container that is recorded for it appears or ends.
    fn events(&self) -> impl Stream<Item = String> + Send + 'static;
}

/// Why a gadget runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Somebody asked for the document.
    OnDemand,
    /// A container ended.
    ContainerEnded,
}

/// One run of a gadget.
#[derive(Clone, Debug)]
pub struct Run<'a> {
    /// The Trace, as `namespace/name`, for logs.
    pub trace: &'a str,
    /// The gadget.
    pub gadget: &'a str,
    /// The formatter; `None`: the default of the gadget.
    pub formatter: Option<&'a str>,
    /// The parameters of the gadget and of the formatter.
    pub parameters: &'a BTreeMap<String, String>,
    /// What was recorded.
    pub capture: Capture,
    /// Why it runs.
    pub reason: Reason,
    /// For whom and on which occasion it runs, and what it must produce.
    pub request: RunRequest<'a>,
}

/// For whom and on which occasion a gadget runs. Every object that the run writes is annotated with it.
#[derive(Clone, Copy, Debug)]
pub struct RunRequest<'a> {
    /// The Trace's namespace.
    pub trace_namespace: &'a str,
    /// The Trace's name.
    pub trace_name: &'a str,
    /// The Trace's uid.
    pub trace_uid: &'a str,
    /// The node.
    pub node: &'a str,
    /// The pod's namespace.
    pub namespace: &'a str,
    /// The pod's name.
    pub pod: &'a str,
    /// The container's name; `None` where the result is about the whole pod.
    pub container: Option<&'a str>,
    /// What controls the pod.
    pub owner: Option<&'a OwnerReference>,
    /// The object that is to hold the result; `None`: a document is wanted.
    pub target: Option<ObjectTarget<'a>>,
    /// The event that led to the run. A request of the same occasion for the same container is the same request again.
    pub occasion: &'a str,
    /// The only namespace that may be written to; `None`: any.
    pub confined_to: Option<&'a str>,
}

/// An object of its own for a result.
#[derive(Clone, Copy, Debug)]
pub struct ObjectTarget<'a> {
    /// Its namespace; where its kind has none, the first part of its name.
    pub namespace: &'a str,
    /// Its name, before what makes it unique.
    pub name: &'a str,
}

/// How a run went.
#[derive(Clone, Debug)]
pub struct RunOutcome {
    /// What it produced.
    pub output: Result<RunOutput, RunError>,
    /// The calls to the cluster that it made, or tried to, in their order.
    pub calls: Vec<Call>,
    /// The gadget's objection to what was recorded, if it has one.
    pub objection: Option<String>,
}

impl From<Result<RunOutput, RunError>> for RunOutcome {
    /// A run without calls.
    fn from(output: Result<RunOutput, RunError>) -> Self {
        Self { output, calls: Vec::new(), objection: None }
    }
}

/// What a run produced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunOutput {
    /// A document.
    Document(Document),
    /// The object that was asked for.
    Object(WrittenObject),
}

/// A finished document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Its media type.
    pub media_type: String,
    /// Its text.
    pub body: String,
}

/// An object that holds a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenObject {
    /// `namespace/name`, or the name of an object without a namespace.
    pub resource: String,
    /// What to write as `localhostProfile` to use it; `None` where it is no seccomp profile.
    pub localhost_profile: Option<String>,
}

/// Why a run produced nothing. The texts are for people.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RunError {
    /// There is nothing to make a document from.
    #[error("nothing was recorded to make a document from")]
    Empty,
    /// The gadget failed.
    #[error("{0}")]
    Failed(String),
    /// Somebody else refuses, or failed: the text says who.
    #[error("{0}")]
    Refused(String),
    /// The cluster does not answer; it may do so later.
    #[error("{0}")]
    Unavailable(String),
}

/// Runs gadgets.
pub trait Runner: Send + Sync + 'static {
    /// The gadgets that it knows, as soon as it knows which the cluster has installed.
    fn gadgets(&self) -> impl Future<Output = Vec<Gadget>> + Send;

    /// Makes one document of one capture, or one object if that is what the run asks for. The same request again gives
    /// the same object.
    fn run(&self, run: Run<'_>) -> impl Future<Output = RunOutcome> + Send;
}

/// Installs the modules of `Gadget` objects.
pub trait Installer: Send + Sync + 'static {
    /// The objects that there are, once they are known and whenever they were listed anew. Others are forgotten.
    fn retain(&self, names: &BTreeSet<String>);

    /// There is an object: what it says that its module may do holds from this call on, also for runs that are under way. Called
    /// in the order in which it changes.
    fn grant(&self, name: &str, spec: &GadgetSpec);

    /// Makes the module of an object one that can run: with what it is, it runs when this returns. What it may do was said
    /// before, and may have changed since `spec`.
    fn install(
        &self,
        name: &str,
        spec: &GadgetSpec,
    ) -> impl Future<Output = Result<Installed, InstallError>> + Send;

    /// Forgets the module of an object.
    fn remove(&self, name: &str);
}

/// A module that can run, as its object tells of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Installed {
    /// `gadget` or `formatter`.
    pub role: String,
    /// Its version.
    pub version: String,
    /// What it does, in one sentence.
    pub summary: String,
    /// The digest of the component.
    pub digest: String,
    /// Which key verified it.
    pub verified_by: String,
    /// Its parameters.
    pub parameters: Vec<GadgetParameter>,
    /// What it asks to do on the cluster.
    pub asks: Vec<GadgetAsk>,
}

/// Why the module of an object cannot run. The texts are for people.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InstallError {
    /// It never will, as things are.
    #[error("{0}")]
    Refused(String),
    /// It may later.
    #[error("{0}")]
    Unavailable(String),
}

/// Writes documents into files of the node, below the folder that the kubelet reads seccomp profiles from.
pub trait FileSink: Send + Sync + 'static {
    /// Writes a file in the folder of a namespace (of the Trace's), whole or not at all, in place of one
    /// of the same name. Gives what to write as `localhostProfile` to use it.
    fn write(
        &self,
        namespace: &str,
        name: &str,
        body: &str,
    ) -> impl Future<Output = Result<String, NodeError>> + Send;
}
