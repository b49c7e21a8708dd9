//! What a node does about a Trace for another one that does not exist.

use kube::ResourceExt as _;

use super::{
    NodeView,
    check::check,
    nodes::{is_lagging, node_status},
    operation::{accept, accepted, requested},
    parameters::Parameters,
    plan::Plan,
    refusal::Refusal,
};
use crate::{State, Trace, finalizer};

/// Returns the next step for a Trace one of whose nodes does not exist.
pub fn plan_for_absent(trace: &Trace, absent: &str, view: &NodeView<'_>) -> Plan {
    if trace.metadata.deletion_timestamp.is_some() {
        let held = trace.finalizers().contains(&finalizer(absent));
        return if held { Plan::Release } else { Plan::Idle };
    }
    let entry = node_status(trace, absent);
    let recording = entry.filter(|e| e.state == Some(State::Started)).and_then(|e| e.session);
    let everywhere = trace.spec.node.is_empty();
    // A node that never took part in a Trace of all nodes is not missed.
    if !everywhere && trace.spec.node != absent || everywhere && entry.is_none() {
        return Plan::Idle;
    }
    let done = entry.map_or(0, |e| e.operation);
    if let Some(accepted) = accepted(trace).filter(|a| a.id > done) {
        let node = absent.to_owned();
        let verdict = if recording.is_some() || everywhere {
            Err(Refusal::NodeGone { node })
        } else {
            let checked = check(trace, &accepted.operation, &Parameters::default(), view);
            checked.and(Err(Refusal::Node { node }))
        };
        return Plan::Perform(accepted, verdict);
    }
    match (requested(trace), recording) {
        (Some((operation, parameters)), _) if !everywhere => {
            Plan::Claim(accept(trace, operation, parameters))
        }
        (_, Some(session)) if entry.is_some_and(|e| is_lagging(trace, e, view)) => Plan::Expire { session },
        _ => Plan::Idle,
    }
}
