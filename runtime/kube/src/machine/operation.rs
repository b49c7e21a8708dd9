//! Operations: how one is asked for and taken.

use std::collections::BTreeMap;

use kube::ResourceExt as _;
use serde::{Deserialize, Serialize};

use crate::{ACCEPTED, OPERATION, OPERATION_PARAMETER, State, Trace};

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

/// The operation that was taken last, if the annotation is there and can be read.
pub fn accepted(trace: &Trace) -> Option<Accepted> {
    let accepted: Accepted = serde_json::from_str(trace.annotations().get(ACCEPTED)?).ok()?;
    // Whoever may write Traces can write any number here, also one that none could follow.
    (accepted.id < OPERATION_ID_MAX).then_some(accepted)
}

/// Beyond the number of any operation: what a JSON number holds exactly.
const OPERATION_ID_MAX: u64 = 1 << 53;

/// The operation that is asked for and not taken yet, with its parameters.
pub(super) fn requested(trace: &Trace) -> Option<(Operation, BTreeMap<String, String>)> {
    let operation = trace.annotations().get(OPERATION)?;
    let parameters = trace.annotations().iter().filter_map(|(key, value)| {
        let name = key.strip_prefix(OPERATION_PARAMETER)?;
        Some((name.to_owned(), value.clone()))
    });
    Some((Operation::from(operation.as_str()), parameters.collect()))
}

/// The keys of the annotations that ask for an operation, to be removed when it is taken.
pub fn request_annotations(trace: &Trace) -> Vec<String> {
    let keys = trace.annotations().keys();
    keys.filter(|key| *key == OPERATION || key.starts_with(OPERATION_PARAMETER)).cloned().collect()
}

/// Gives an operation its number, and finds the session that it is about.
pub(super) fn accept(trace: &Trace, operation: Operation, parameters: BTreeMap<String, String>) -> Accepted {
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
