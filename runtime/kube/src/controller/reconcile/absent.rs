//! Checks whether nodes that a Trace waits for exist, and writes the status of those that do not.

use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::{Api, ResourceExt as _};

use super::{
    LocalNode, STEPS_MAX, StepError, TraceRef,
    object::{TraceObject, Update, outputs_of},
    refused,
};
use crate::{
    NodeStatus, State, Trace,
    controller::{NODE_NAME_MAX, call, schedule::Schedule},
    machine::{self, Plan, Refusal, plan_for_absent},
    names::is_subdomain,
};

/// When to check again a node that exists and does not answer.
const NODE_RECHECK: Duration = Duration::from_mins(1);

/// The result of a check.
pub(super) enum Recheck {
    /// How long until the next check; `None`: none is needed.
    After(Option<Duration>),
    /// The Trace no longer exists.
    TraceGone,
}

/// The other nodes of one Trace.
pub(super) struct AbsentNodes<'a> {
    pub(super) node: LocalNode<'a>,
    pub(super) trace: &'a TraceRef,
    pub(super) object: &'a TraceObject<'a>,
    pub(super) schedule: &'a Schedule,
    pub(super) nodes: Api<Node>,
}

impl AbsentNodes<'_> {
    /// Checks the nodes that this Trace waits for, each once it is due.
    pub(super) async fn check_nodes(&self, nodes: &[&str], grace: Duration) -> Result<Recheck, StepError> {
        let mut again = None;
        for (node, rest) in nodes.iter().zip(self.schedule.due_in(&self.trace.uid, nodes, grace)) {
            let pause = match rest {
                Duration::ZERO => match self.check_node(node).await? {
                    Recheck::After(pause) => pause,
                    Recheck::TraceGone => return Ok(Recheck::TraceGone),
                },
                rest => Some(rest),
            };
            again = again.into_iter().chain(pause).min();
        }
        Ok(Recheck::After(again))
    }

    /// Checks whether a node exists, and writes its status if it does not.
    async fn check_node(&self, node: &str) -> Result<Recheck, StepError> {
        // The schema rejects such names; an object that is older than the schema may have one.
        if node.len() > NODE_NAME_MAX || !is_subdomain(node) {
            tracing::warn!(trace = self.trace.to_string(), node, "no node can be called like that");
            return Ok(Recheck::After(None));
        }
        if call(self.node.settings.request_timeout, self.nodes.get_opt(node)).await?.is_some() {
            self.schedule.recheck_node(&self.trace.uid, node, NODE_RECHECK);
            return Ok(Recheck::After(Some(NODE_RECHECK)));
        }
        for _ in 0..STEPS_MAX {
            let Some(trace) = self.object.get().await? else { return Ok(Recheck::TraceGone) };
            let _ = match plan_for_absent(&trace, node, &self.node.view()) {
                Plan::Claim(accepted) => self.object.claim(&trace, &accepted).await?,
                Plan::Perform(accepted, Err(refusal)) => {
                    self.report_absent(&trace, node, Some(accepted.id), &refusal).await?
                }
                Plan::Expire { .. } => {
                    let refusal = Refusal::NodeGone { node: node.to_owned() };
                    self.report_absent(&trace, node, None, &refusal).await?
                }
                Plan::Release => self.object.remove_finalizer(&trace, node).await?,
                _ => break,
            };
        }
        Ok(Recheck::After(None))
    }

    /// Writes that a node that no longer exists has stopped recording. Its documents stay.
    async fn report_absent(
        &self,
        trace: &Trace,
        node: &str,
        operation: Option<u64>,
        refusal: &Refusal,
    ) -> Result<Update, StepError> {
        tracing::info!(trace = self.trace.to_string(), node, %refusal, "answers for a node that is gone");
        let before = machine::node_status(trace, node).cloned().unwrap_or_default();
        let recorded = before.state == Some(State::Started);
        let something = before.progress.as_ref().is_some_and(|progress| progress.containers > 0);
        let state = if recorded { Some(State::Stopped) } else { before.state.clone() };
        let operation = operation.unwrap_or(before.operation);
        let entry = NodeStatus { node: node.to_owned(), operation, state, ..before };
        let entry = if trace.spec.node.is_empty() {
            // The other nodes carried the operation out. A node that had recorded nothing is not missed.
            let operation_warning = (recorded && something).then(|| refusal.to_string());
            NodeStatus { operation_error: None, operation_warning, ..entry }
        } else {
            refused(entry, refusal)
        };
        // The node may exist after all, and have written something newer.
        self.object.write_onto(trace.resource_version(), &entry, &outputs_of(trace, node)).await
    }
}
