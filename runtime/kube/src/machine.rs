//! The rules by which a Trace works: what a node has to do about one, given the object as it is.
//!
//! Nothing here talks to anybody. [`plan`] looks at a Trace and says the one next thing to do; the controller does
//! it, and asks again. Every such thing may be done twice without harm, so that a crash between any
//! two of them changes no outcome.
//!
//! **How an operation is taken.** The annotation `operation` is a message that any node concerned may find. One
//! of them replaces it, in a single write that holds only for the version of the object that was read, by the
//! annotation `accepted`: the same operation under a number ([`Accepted::id`]). Whoever loses that race finds
//! the number. Each node then carries the operation out and writes the number into its own part of the status.
//! A node that dies in between finds a number that it has not written, and carries the operation out (again).
//!
//! **Sessions.** From a start to the next stop is a session, named by the number of the start. What the kernel
//! side records is keyed by it, so that a recording of an earlier session is never taken for the present one.

use std::{collections::BTreeMap, fmt, time::Duration};

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    ACCEPTED, NodeStatus, OPERATION, OPERATION_PARAMETER, OutputMode, RunMode, State, Trace, TraceFilter,
    finalizer, finalizer_node,
    names::{NameError, Target},
};

/// A gadget that this node knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gadget {
    /// Its name, as `spec.gadget` has it.
    pub name: String,
    /// The output modes that make sense for it.
    pub output_modes: Vec<OutputMode>,
    /// Whether it can run here.
    pub usable: Usable,
}

/// Whether a gadget can run on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Usable {
    /// It can.
    Yes,
    /// It will be known in a moment: the module is being fetched.
    Soon,
    /// It cannot, and why.
    No(String),
}

/// Where the question is asked.
#[derive(Clone, Copy, Debug)]
pub struct Here<'a> {
    /// The name of this node.
    pub node: &'a str,
    /// The runtime's own namespace.
    pub system_namespace: &'a str,
    /// The gadgets that this node can run.
    pub gadgets: &'a [Gadget],
    /// The time.
    pub now: Timestamp,
}

/// What can be asked of a Trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// Begin to record.
    Start,
    /// Make documents of what was recorded so far.
    Generate,
    /// Make documents, and stop recording.
    Stop,
    /// Something else.
    #[serde(untagged)]
    Other(String),
}

impl From<&str> for Operation {
    fn from(word: &str) -> Self {
        match word {
            "start" => Self::Start,
            "generate" => Self::Generate,
            "stop" => Self::Stop,
            other => Self::Other(other.to_owned()),
        }
    }
}

/// An operation that was taken: the value of the annotation [`ACCEPTED`], as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// Its number: one more than that of the one before.
    pub id: u64,
    /// What is to be done.
    pub operation: Operation,
    /// The session that it is about; `None` where nothing had been started.
    pub start: Option<u64>,
    /// Parameters for this operation alone.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
}

/// Which containers to record, with the namespace rules applied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// The pods' namespace; `None`: all of them.
    pub namespace: Option<String>,
    /// The pod's name; `None`: whatever its name.
    pub pod: Option<String>,
    /// Labels that the pod must have.
    pub labels: BTreeMap<String, String>,
    /// The container's name; `None`: all of the pod's.
    pub container: Option<String>,
}

impl fmt::Display for Selection {
    /// The pods, as a person would name them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let namespace = self.namespace.as_deref();
        match (&self.pod, namespace) {
            (Some(pod), Some(namespace)) => write!(f, "Pod {namespace}/{pod}")?,
            (Some(pod), None) => write!(f, "Pod {pod}, in any namespace,")?,
            (None, Some(namespace)) => write!(f, "A pod in namespace {namespace}")?,
            (None, None) => f.write_str("A pod in any namespace")?,
        }
        if !self.labels.is_empty() {
            let labels: Vec<_> = self.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
            write!(f, " with labels {}", labels.join(","))?;
        }
        Ok(())
    }
}

/// A pod that a selection finds on this node, its container name left aside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
    /// The names of all its containers, those that do not run (yet, or any more) among them.
    pub containers: Vec<String>,
}

/// What one document is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Merge {
    /// One container of one pod, over its restarts.
    #[default]
    Container,
    /// One pod.
    Pod,
}

/// The parameters of an operation: the runtime's own, and what goes to the gadget and its formatter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters {
    /// What one document is about.
    pub merge: Merge,
    /// After which time the recording ends by itself.
    pub timeout: Option<Duration>,
    /// What names of files and objects begin with where `spec.output` does not give one.
    pub profile_prefix: Option<String>,
    /// Which formatter writes the documents; `None` leaves it to the runner.
    pub formatter: Option<String>,
    /// Everything else.
    pub rest: BTreeMap<String, String>,
}

/// Why an operation is not carried out. The text is what `status.operationError` says.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs)] // Each says it itself.
pub enum Refusal {
    #[error(
        "Unsupported operation {operation:?} for gadget {gadget:?}: it supports start, generate and stop"
    )]
    Operation { operation: String, gadget: String },
    #[error("Unknown gadget {gadget:?}: this node has {}", list(.known))]
    Gadget { gadget: String, known: Vec<String> },
    #[error("Gadget {gadget:?} cannot run on this node: {reason}")]
    Unusable { gadget: String, reason: String },
    #[error("Unsupported run mode {mode:?} for gadget {gadget:?}: it supports Manual")]
    RunMode { mode: String, gadget: String },
    #[error("Unsupported output mode {mode:?} for gadget {gadget:?}: it supports {}", list(.supported))]
    OutputMode { mode: String, gadget: String, supported: Vec<String> },
    #[error("Missing pod filter: set spec.filter.podname, or spec.filter.labels")]
    MissingFilter,
    #[error(
        "A Trace in namespace {own:?} may only record pods of that namespace, not of {asked:?}: create it in \
         namespace {asked:?}, or ask somebody who may write to namespace {system:?}"
    )]
    OtherNamespace { own: String, asked: String, system: String },
    #[error("A Trace in namespace {own:?} may only write to that namespace, not to {asked:?}")]
    OtherOutputNamespace { own: String, asked: String },
    #[error("Invalid spec.output {output:?}: {reason}")]
    Output { output: String, reason: NameError },
    #[error("Invalid parameter {name} {value:?}: it must be {must}")]
    Parameter { name: &'static str, value: String, must: &'static str },
    #[error("Not started: annotate the Trace with gadget.kinvolk.io/operation=start first")]
    NotStarted,
    #[error("Container {container:?} not found in pod {pod}: it has {}", list(.has))]
    Container { container: String, pod: String, has: Vec<String> },
    #[error(
        "Node {node:?} does not exist; set spec.node to one of the names that `kubectl get nodes` prints"
    )]
    Node { node: String },
    #[error("Node {node:?} is gone, and with it what it recorded and had not made documents of")]
    NodeGone { node: String },
}

/// `a, b and c`; for nothing, `none`.
fn list(words: &[String]) -> String {
    match words {
        [] => "none".to_owned(),
        [one] => one.clone(),
        [rest @ .., last] => format!("{} and {last}", rest.join(", ")),
    }
}

/// What carrying out an operation takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// It is so already.
    Nothing,
    /// Record this session, in place of any other.
    Start {
        /// The session.
        session: u64,
        /// Make documents as well: a generate that found this node not started yet.
        generate: bool,
    },
    /// Make documents of this session.
    Generate {
        /// The session.
        session: u64,
    },
    /// Make documents of this session, then end it.
    Stop {
        /// The session; `None` where this node never began it.
        session: Option<u64>,
    },
}

/// The one next thing to do about a Trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Nothing, until something changes.
    Idle,
    /// Somebody waits for this other node: see whether it exists.
    Attend {
        /// The node waited for.
        node: String,
    },
    /// Take the operation that was asked for, in one write with the removal of its annotations.
    Claim(Accepted),
    /// Carry out, or refuse, the operation that was taken.
    Perform(Accepted, Result<Act, Refusal>),
    /// The session's time is over: make documents, then end it.
    Expire {
        /// The session.
        session: u64,
    },
    /// Keep recording this session: see to containers that ended, and to the progress.
    Record {
        /// The session.
        session: u64,
    },
    /// Give up whatever is recorded here, then the finalizer.
    Release,
}

/// This node's part of the status.
pub fn entry<'a>(trace: &'a Trace, node: &str) -> Option<&'a NodeStatus> {
    trace.status.iter().flat_map(|s| &s.nodes).find(|n| n.node == node)
}

/// The operation that was taken last, if the annotation is there and can be read.
pub fn accepted(trace: &Trace) -> Option<Accepted> {
    let accepted: Accepted = serde_json::from_str(trace.annotations().get(ACCEPTED)?).ok()?;
    // Whoever may write Traces can write any number here, also one that none could follow.
    (accepted.id < NUMBER_MAX).then_some(accepted)
}

/// Beyond the number of any operation: what a JSON number holds exactly.
const NUMBER_MAX: u64 = 1 << 53;

/// The operation that is asked for and not taken yet, with its parameters.
fn asked(trace: &Trace) -> Option<(Operation, BTreeMap<String, String>)> {
    let operation = trace.annotations().get(OPERATION)?;
    let parameters = trace.annotations().iter().filter_map(|(key, value)| {
        let name = key.strip_prefix(OPERATION_PARAMETER)?;
        Some((name.to_owned(), value.clone()))
    });
    Some((Operation::from(operation.as_str()), parameters.collect()))
}

/// The keys of the annotations that ask for an operation, to be removed when it is taken.
pub fn asking(trace: &Trace) -> Vec<String> {
    let keys = trace.annotations().keys();
    keys.filter(|key| *key == OPERATION || key.starts_with(OPERATION_PARAMETER)).cloned().collect()
}

/// Says what this node has to do next about a Trace.
pub fn plan(trace: &Trace, here: &Here<'_>) -> Plan {
    let mine = trace.spec.node.is_empty() || trace.spec.node == here.node;
    let held = trace.finalizers().contains(&finalizer(here.node));
    let deleting = trace.metadata.deletion_timestamp.is_some();
    let entry = entry(trace, here.node);
    let recording = entry.filter(|e| e.state == Some(State::Started)).and_then(|e| e.session);

    if deleting || !mine {
        return if held { Plan::Release } else { elsewhere(trace, here, deleting) };
    }
    if let Some(accepted) = accepted(trace) {
        let late = entry.is_none() && accepted.operation == Operation::Stop && accepted.start.is_some();
        let done = entry.is_some_and(|e| e.operation >= accepted.id);
        // A node that joined after a stop that others carried out has no part in it.
        if !(done || late && trace.spec.node.is_empty()) {
            let verdict = judge(trace, &accepted, here);
            return Plan::Perform(accepted, verdict);
        }
    }
    if recording.is_none() && held {
        return Plan::Release;
    }
    if let Some((operation, parameters)) = asked(trace) {
        return Plan::Claim(number(trace, operation, parameters));
    }
    match recording {
        Some(session) if remaining(trace, here) == Some(Duration::ZERO) => Plan::Expire { session },
        Some(session) => Plan::Record { session },
        None => Plan::Idle,
    }
}

/// How long until this node's recording ends by itself; `None` if it does not.
pub fn remaining(trace: &Trace, here: &Here<'_>) -> Option<Duration> {
    remaining_of(entry(trace, here.node)?, here)
}

fn remaining_of(entry: &NodeStatus, here: &Here<'_>) -> Option<Duration> {
    let timeout = entry.timeout_seconds?;
    let elapsed = here.now.duration_since(entry.started.as_ref()?.0);
    let elapsed = Duration::try_from(elapsed).unwrap_or(Duration::ZERO);
    Some(Duration::from_secs(timeout).saturating_sub(elapsed))
}

/// Whose Trace it is, if it is waited for.
fn elsewhere(trace: &Trace, here: &Here<'_>, deleting: bool) -> Plan {
    let waited_for = if deleting {
        trace.finalizers().iter().find_map(|f| finalizer_node(f))
    } else {
        let node = trace.spec.node.as_str();
        let waits = asked(trace).is_some()
            || match entry(trace, node) {
                Some(entry) => is_behind(trace, entry, here),
                None => accepted(trace).is_some(),
            };
        (waits && !node.is_empty()).then_some(node)
    };
    match waited_for {
        Some(node) if node != here.node => Plan::Attend { node: node.to_owned() },
        _ => Plan::Idle,
    }
}

/// Whether what a node did is not what it should have come to by now.
fn is_behind(trace: &Trace, entry: &NodeStatus, here: &Here<'_>) -> bool {
    let time_is_over =
        || entry.state == Some(State::Started) && remaining_of(entry, here) == Some(Duration::ZERO);
    accepted(trace).is_some_and(|a| a.id > entry.operation) || time_is_over()
}

/// The other nodes that a Trace of all nodes waits for. What they did stands in it; they may be gone.
pub fn behind<'a>(trace: &'a Trace, here: &Here<'_>) -> Vec<&'a str> {
    if !trace.spec.node.is_empty() || trace.metadata.deletion_timestamp.is_some() {
        return Vec::new();
    }
    let others = trace.status.iter().flat_map(|s| &s.nodes).filter(|n| n.node != here.node);
    others.filter(|n| is_behind(trace, n, here)).map(|n| n.node.as_str()).collect()
}

/// How long until the time of another node's recording is over: until then nothing may happen that others see, and if the node is
/// gone, not even then.
pub fn until_others_end(trace: &Trace, here: &Here<'_>) -> Option<Duration> {
    if trace.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let counts = |node: &str| trace.spec.node.is_empty() || trace.spec.node == node;
    let others = trace.status.iter().flat_map(|s| &s.nodes);
    let others = others.filter(|n| n.node != here.node && counts(&n.node) && n.state == Some(State::Started));
    others.filter_map(|n| remaining_of(n, here)).filter(|rest| !rest.is_zero()).min()
}

/// How many nodes that are not behind come before this one: whoever is first looks for those that are. It may be gone itself.
pub fn rank(trace: &Trace, here: &Here<'_>) -> usize {
    let nodes = trace.status.iter().flat_map(|s| &s.nodes);
    nodes.filter(|n| n.node.as_str() < here.node && !is_behind(trace, n, here)).count()
}

/// What to do about a Trace one of whose nodes turned out not to exist.
pub fn plan_for_absent(trace: &Trace, absent: &str, here: &Here<'_>) -> Plan {
    if trace.metadata.deletion_timestamp.is_some() {
        let held = trace.finalizers().contains(&finalizer(absent));
        return if held { Plan::Release } else { Plan::Idle };
    }
    let entry = entry(trace, absent);
    let recording = entry.filter(|e| e.state == Some(State::Started)).and_then(|e| e.session);
    let everywhere = trace.spec.node.is_empty();
    // What never took part in a Trace of all nodes is not missed there.
    if !everywhere && trace.spec.node != absent || everywhere && entry.is_none() {
        return Plan::Idle;
    }
    let done = entry.map_or(0, |e| e.operation);
    if let Some(accepted) = accepted(trace).filter(|a| a.id > done) {
        let node = absent.to_owned();
        let verdict = if recording.is_some() || everywhere {
            Err(Refusal::NodeGone { node })
        } else {
            let checked = check(trace, &accepted.operation, &Parameters::default(), here);
            checked.and(Err(Refusal::Node { node }))
        };
        return Plan::Perform(accepted, verdict);
    }
    match (asked(trace), recording) {
        (Some((operation, parameters)), _) if !everywhere => {
            Plan::Claim(number(trace, operation, parameters))
        }
        (_, Some(session)) if entry.is_some_and(|e| is_behind(trace, e, here)) => Plan::Expire { session },
        _ => Plan::Idle,
    }
}

/// Gives an operation its number, and finds the session that it is about.
fn number(trace: &Trace, operation: Operation, parameters: BTreeMap<String, String>) -> Accepted {
    let before = accepted(trace);
    let nodes = || trace.status.iter().flat_map(|s| &s.nodes);
    let highest = nodes().map(|n| n.operation).chain(before.as_ref().map(|b| b.id)).max();
    let id = highest.unwrap_or(0) + 1;
    let running = || nodes().filter(|n| n.state == Some(State::Started)).filter_map(|n| n.session).max();
    let session = match before {
        Some(Accepted { operation: Operation::Stop, .. }) => None,
        _ => running(),
    };
    let start = if operation == Operation::Start { session.or(Some(id)) } else { session };
    Accepted { id, operation, start, parameters }
}

/// Whether an operation that was taken can be carried out here, and what that takes.
fn judge(trace: &Trace, accepted: &Accepted, here: &Here<'_>) -> Result<Act, Refusal> {
    let entry = entry(trace, here.node);
    let session = entry.filter(|e| e.state == Some(State::Started)).and_then(|e| e.session);
    // Whatever became of the spec since: what was started can be stopped.
    if accepted.operation == Operation::Stop && accepted.start.is_some() {
        return Ok(Act::Stop { session: session.filter(|s| Some(*s) == accepted.start) });
    }
    let parameters = Parameters::read(trace, Some(accepted))?;
    check(trace, &accepted.operation, &parameters, here)?;
    let own = trace.namespace().unwrap_or_default();
    let selected = || selection(trace.spec.filter.as_ref(), &own, here.system_namespace);
    let begun = accepted.start.filter(|start| Some(*start) == session);
    match (&accepted.operation, accepted.start, begun) {
        (Operation::Start, _, Some(_)) => Ok(Act::Nothing),
        (Operation::Start, start, None) => {
            selected()?;
            Ok(Act::Start { session: start.unwrap_or(accepted.id), generate: false })
        }
        (_, Some(_), Some(session)) => Ok(Act::Generate { session }),
        // The start was taken by another node, and this one has not seen it.
        (_, Some(start), None) if entry.is_none_or(|e| e.operation < start) => {
            selected()?;
            Ok(Act::Start { session: start, generate: true })
        }
        _ => Err(Refusal::NotStarted),
    }
}

/// The checks that every operation must pass, in the order in which somebody would want to know.
fn check(
    trace: &Trace,
    operation: &Operation,
    parameters: &Parameters,
    here: &Here<'_>,
) -> Result<(), Refusal> {
    check_gadget(trace, here)?;
    if let Operation::Other(operation) = operation {
        let gadget = trace.spec.gadget.clone();
        return Err(Refusal::Operation { operation: operation.clone(), gadget });
    }
    target(trace, parameters, here).map(|_| ())
}

/// Whether the gadget of a Trace may run for it. Its spec may be another one than when it was started.
fn check_gadget(trace: &Trace, here: &Here<'_>) -> Result<(), Refusal> {
    let spec = &trace.spec;
    let Some(gadget) = here.gadgets.iter().find(|g| g.name == spec.gadget) else {
        let known = here.gadgets.iter().map(|g| g.name.clone()).collect();
        return Err(Refusal::Gadget { gadget: spec.gadget.clone(), known });
    };
    if let Usable::No(reason) = &gadget.usable {
        return Err(Refusal::Unusable { gadget: spec.gadget.clone(), reason: reason.clone() });
    }
    if spec.run_mode != RunMode::Manual {
        let mode = spec.run_mode.to_string();
        return Err(Refusal::RunMode { mode, gadget: spec.gadget.clone() });
    }
    if !gadget.output_modes.contains(&spec.output_mode) {
        return Err(Refusal::OutputMode {
            mode: spec.output_mode.to_string(),
            gadget: spec.gadget.clone(),
            supported: gadget.output_modes.iter().map(ToString::to_string).collect(),
        });
    }
    Ok(())
}

/// Where the documents of a Trace go, for the modes that need a name; asked before each document is made.
pub fn destination(
    trace: &Trace,
    parameters: &Parameters,
    here: &Here<'_>,
) -> Result<Option<Target>, Refusal> {
    check_gadget(trace, here)?;
    target(trace, parameters, here)
}

fn target(trace: &Trace, parameters: &Parameters, here: &Here<'_>) -> Result<Option<Target>, Refusal> {
    let spec = &trace.spec;
    let own = trace.namespace().unwrap_or_default();
    let bad = |reason| Refusal::Output { output: spec.output.clone(), reason };
    let target = match spec.output_mode {
        OutputMode::ExternalResource => Target::resource(&spec.output).map_err(bad)?,
        OutputMode::File => Target::file(&spec.output).map_err(bad)?,
        _ => return Ok(None),
    };
    if let Some(asked) = target.namespace.as_ref().filter(|n| own != here.system_namespace && **n != own) {
        return Err(Refusal::OtherOutputNamespace { own, asked: asked.clone() });
    }
    if spec.output_mode == OutputMode::ExternalResource
        && let Some(formatter) = parameters.formatter.as_deref()
        && ["html", "systemd", "table"].contains(&formatter)
    {
        let must = "spo (or absent) where spec.outputMode is ExternalResource";
        return Err(Refusal::Parameter { name: "formatter", value: formatter.to_owned(), must });
    }
    Ok(Some(target.with_prefix(parameters.profile_prefix.as_deref())))
}

/// Which containers a filter means, in a Trace of namespace `own`.
pub fn selection(
    filter: Option<&TraceFilter>,
    own: &str,
    system_namespace: &str,
) -> Result<Selection, Refusal> {
    let given = |word: &str| (!word.is_empty()).then(|| word.to_owned());
    let filter = filter.cloned().unwrap_or_default();
    if filter.podname.is_empty() && filter.labels.is_empty() {
        return Err(Refusal::MissingFilter);
    }
    let mut namespace = given(&filter.namespace);
    // The runtime may look into every pod; whoever may write a Trace here may not.
    if own != system_namespace {
        if let Some(asked) = namespace.filter(|asked| asked != own) {
            return Err(Refusal::OtherNamespace { own: own.into(), asked, system: system_namespace.into() });
        }
        namespace = Some(own.to_owned());
    }
    Ok(Selection {
        namespace,
        pod: given(&filter.podname),
        labels: filter.labels,
        container: given(&filter.container_name),
    })
}

/// Looks at the pods that a selection finds when a recording is about to start: a warning if there is none
/// yet, a refusal if there are some and none has the container.
pub fn look(selection: &Selection, found: &[Found], node: Option<&str>) -> Result<Option<String>, Refusal> {
    let Some(first) = found.first() else {
        let node = node.map(|node| format!(" on node {node}")).unwrap_or_default();
        return Ok(Some(format!("{selection} not found{node}; it will be recorded from its first call on")));
    };
    match &selection.container {
        Some(container) if !found.iter().any(|f| f.containers.contains(container)) => {
            Err(Refusal::Container {
                container: container.clone(),
                pod: format!("{}/{}", first.namespace, first.pod),
                has: first.containers.clone(),
            })
        }
        _ => Ok(None),
    }
}

impl Parameters {
    /// The parameters of a Trace, with those of one operation over them.
    pub fn read(trace: &Trace, accepted: Option<&Accepted>) -> Result<Self, Refusal> {
        let mut all = trace.spec.parameters.clone();
        all.extend(accepted.iter().flat_map(|a| a.parameters.clone()));
        let merge = match all.remove("merge").as_deref() {
            None | Some("" | "container") => Merge::Container,
            Some("pod") => Merge::Pod,
            Some(other) => {
                let must = "container or pod";
                return Err(Refusal::Parameter { name: "merge", value: other.to_owned(), must });
            }
        };
        let timeout = match all.remove("timeout").filter(|t| !t.is_empty()) {
            None => None,
            Some(text) => Some(duration(&text).ok_or(Refusal::Parameter {
                name: "timeout",
                value: text,
                must: "a number of seconds, minutes or hours, such as 30s, 5m or 1h",
            })?),
        };
        let given = |word: Option<String>| word.filter(|w| !w.is_empty());
        let profile_prefix = given(all.remove("profile-prefix"));
        if let Some(prefix) = profile_prefix.as_ref().filter(|p| !crate::names::is_prefix(p)) {
            let must = "of lower case letters, digits and -, and begin with a letter or digit";
            return Err(Refusal::Parameter { name: "profile-prefix", value: prefix.clone(), must });
        }
        let formatter = given(all.remove("formatter"));
        Ok(Self { merge, timeout, profile_prefix, formatter, rest: all })
    }
}

/// `30s`, `5m`, `1h`, or seconds without a letter; at least a second, at most a year.
fn duration(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(['s', 'm', 'h']);
    let unit = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return None,
    };
    let seconds = digits.parse::<u64>().ok()?.checked_mul(unit)?;
    (1..=365 * 24 * 3600).contains(&seconds).then(|| Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests;
