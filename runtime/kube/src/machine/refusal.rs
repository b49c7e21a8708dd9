//! Why an operation is not carried out.

use thiserror::Error;

use crate::names::NameError;

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
