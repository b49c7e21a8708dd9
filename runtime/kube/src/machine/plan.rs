//! What a node has to do next about a Trace.

use std::time::Duration;

use kube::ResourceExt as _;

use super::{
    NodeView,
    check::check,
    nodes::{is_lagging, node_status, time_left},
    operation::{Accepted, Operation, accept, accepted, requested},
    parameters::Parameters,
    refusal::Refusal,
    selection::selection,
};
use crate::{State, Trace, finalizer, finalizer_node};

/// What an operation takes on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// Nothing: it is done already.
    AlreadyDone,
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

/// The next step for a Trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Nothing, until something changes.
    Idle,
    /// The Trace waits for another node: check whether that exists.
    CheckNode {
        /// The node waited for.
        node: String,
    },
    /// Take the operation that was asked for, in one write with the removal of its annotations.
    Claim(Accepted),
    /// Carry out, or refuse, the operation that was taken.
    Perform(Accepted, Result<Task, Refusal>),
    /// The session's time is over: make documents, then end it.
    Expire {
        /// The session.
        session: u64,
    },
    /// Keep recording this session: write its progress, and documents of containers that ended.
    Record {
        /// The session.
        session: u64,
    },
    /// Give up whatever is recorded here, then the finalizer.
    Release,
}

/// Returns the next step of this node for a Trace.
pub fn plan(trace: &Trace, view: &NodeView<'_>) -> Plan {
    let mine = trace.spec.node.is_empty() || trace.spec.node == view.node;
    let held = trace.finalizers().contains(&finalizer(view.node));
    let deleting = trace.metadata.deletion_timestamp.is_some();
    let entry = node_status(trace, view.node);
    let recording = entry.filter(|e| e.state == Some(State::Started)).and_then(|e| e.session);

    if deleting || !mine {
        return if held { Plan::Release } else { plan_for_other_node(trace, view, deleting) };
    }
    if let Some(accepted) = accepted(trace) {
        let late = entry.is_none() && accepted.operation == Operation::Stop && accepted.start.is_some();
        let done = entry.is_some_and(|e| e.operation >= accepted.id);
        // A node that joined after a stop that others carried out has no part in it.
        if !(done || late && trace.spec.node.is_empty()) {
            let verdict = evaluate(trace, &accepted, view);
            return Plan::Perform(accepted, verdict);
        }
    }
    if recording.is_none() && held {
        return Plan::Release;
    }
    if let Some((operation, parameters)) = requested(trace) {
        return Plan::Claim(accept(trace, operation, parameters));
    }
    match recording {
        Some(session) if time_left(trace, view) == Some(Duration::ZERO) => Plan::Expire { session },
        Some(session) => Plan::Record { session },
        None => Plan::Idle,
    }
}

/// The next step for a Trace that is another node's.
fn plan_for_other_node(trace: &Trace, view: &NodeView<'_>, deleting: bool) -> Plan {
    let waited_for = if deleting {
        trace.finalizers().iter().find_map(|f| finalizer_node(f))
    } else {
        let node = trace.spec.node.as_str();
        let waits = requested(trace).is_some()
            || match node_status(trace, node) {
                Some(entry) => is_lagging(trace, entry, view),
                None => accepted(trace).is_some(),
            };
        (waits && !node.is_empty()).then_some(node)
    };
    match waited_for {
        Some(node) if node != view.node => Plan::CheckNode { node: node.to_owned() },
        _ => Plan::Idle,
    }
}

/// Whether an operation that was taken can be carried out here, and what that takes.
fn evaluate(trace: &Trace, accepted: &Accepted, view: &NodeView<'_>) -> Result<Task, Refusal> {
    let entry = node_status(trace, view.node);
    let session = entry.filter(|e| e.state == Some(State::Started)).and_then(|e| e.session);
    // Whatever became of the spec since: what was started can be stopped.
    if accepted.operation == Operation::Stop && accepted.start.is_some() {
        return Ok(Task::Stop { session: session.filter(|s| Some(*s) == accepted.start) });
    }
    let parameters = Parameters::read(trace, Some(accepted))?;
    check(trace, &accepted.operation, &parameters, view)?;
    let own = trace.namespace().unwrap_or_default();
    let selected = || selection(trace.spec.filter.as_ref(), &own, view.system_namespace);
    let begun = accepted.start.filter(|start| Some(*start) == session);
    match (&accepted.operation, accepted.start, begun) {
        (Operation::Start, _, Some(_)) => Ok(Task::AlreadyDone),
        (Operation::Start, start, None) => {
            selected()?;
            Ok(Task::Start { session: start.unwrap_or(accepted.id), generate: false })
        }
        (_, Some(_), Some(session)) => Ok(Task::Generate { session }),
        // The start was taken by another node, and this one has not seen it.
        (_, Some(start), None) if entry.is_none_or(|e| e.operation < start) => {
            selected()?;
            Ok(Task::Start { session: start, generate: true })
        }
        _ => Err(Refusal::NotStarted),
    }
}
