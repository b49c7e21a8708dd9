//! Reconciles one Trace: asks [`plan()`] for the next step, takes it, and asks again.
//!
//! [`TraceReconciler`] puts together a type for each part of the work: the object at the API server ([`object`]), the
//! recorder ([`recorder`]), documents ([`documents`]), operations ([`operations`]), an active recording ([`recording`]), and
//! nodes that no longer exist ([`absent`]).

mod absent;
mod documents;
mod object;
mod operations;
mod recorder;
mod recording;

use std::{fmt, sync::Arc, time::Duration};

use gadgetd_core::kube::KubeError;
use k8s_openapi::jiff::Timestamp;
use kube::{Api, ResourceExt as _, runtime::controller::Action};
use thiserror::Error;

use self::{
    absent::{AbsentNodes, Recheck},
    documents::Documents,
    object::{TraceObject, Update},
    operations::Operations,
    recorder::TraceRecorder,
    recording::{ActiveRecording, Poll},
};
use super::{
    Context, NodeServices, Settings,
    node::{FileSink, NodeError, Recorder, Runner},
    schedule::Schedule,
};
use crate::{
    NodeStatus, Trace,
    machine::{self, Availability, Gadget, NodeView, Plan, Refusal, plan},
};

/// Steps of one reconciliation before other Traces have their turn.
const STEPS_MAX: usize = 16;

/// When to check again whether a gadget has been fetched.
const MODULE_RECHECK: Duration = Duration::from_millis(500);

/// When to reconcile again after somebody else changed the object, or after [`STEPS_MAX`] steps.
const REQUEUE_AFTER: Duration = Duration::from_millis(100);

/// Why a step has to be retried.
#[derive(Debug, Error)]
pub(super) enum StepError {
    #[error("the API server: {0}")]
    Kube(#[from] KubeError),
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("the object cannot be written: {0}")]
    Json(#[from] serde_json::Error),
}

/// Names one Trace.
struct TraceRef {
    namespace: String,
    name: String,
    uid: String,
}

impl fmt::Display for TraceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// This node: its settings, and the gadgets that it can run.
#[derive(Clone, Copy)]
struct LocalNode<'a> {
    settings: &'a Settings,
    gadgets: &'a [Gadget],
}

impl<'a> LocalNode<'a> {
    fn name(self) -> &'a str {
        &self.settings.node
    }

    /// Whether a gadget is still being fetched.
    fn is_pending(self, gadget: &str) -> bool {
        self.gadgets.iter().any(|g| g.name == gadget && g.availability == Availability::Pending)
    }

    fn view(self) -> NodeView<'a> {
        NodeView {
            node: &self.settings.node,
            system_namespace: &self.settings.system_namespace,
            gadgets: self.gadgets,
            now: Timestamp::now(),
        }
    }
}

/// Reconciles one Trace on this node.
struct TraceReconciler<'a, R, U, F> {
    node: LocalNode<'a>,
    trace: &'a TraceRef,
    schedule: &'a Schedule,
    object: &'a TraceObject<'a>,
    recorder: &'a TraceRecorder<'a, R>,
    operations: Operations<'a, R, U, F>,
    recording: ActiveRecording<'a, R, U, F>,
    absent: AbsentNodes<'a>,
}

pub(super) async fn reconcile<R: Recorder, U: Runner, F: FileSink>(
    cached: Arc<Trace>,
    context: Arc<Context<R, U, F>>,
) -> Result<Action, StepError> {
    let (Some(namespace), Some(uid)) = (cached.namespace(), cached.uid()) else {
        return Ok(Action::await_change());
    };
    let Context { client, settings, services: NodeServices { recorder, runner, files }, schedule } =
        &*context;
    let gadgets = runner.gadgets().await;
    let node = LocalNode { settings, gadgets: &gadgets };
    let trace = &TraceRef { namespace, name: cached.name_any(), uid };
    let object = &TraceObject::new(client, trace, node);
    let recorder = &TraceRecorder { recorder, trace, system_namespace: &settings.system_namespace };
    let documents = &Documents { node, trace, recorder, runner, files };
    let reconciler = TraceReconciler {
        node,
        trace,
        schedule,
        object,
        recorder,
        operations: Operations { node, trace, object, recorder, documents },
        recording: ActiveRecording { node, trace, schedule, object, recorder, documents },
        absent: AbsentNodes { node, trace, schedule, object, nodes: Api::all(client.clone()) },
    };
    reconciler.run(&cached).await
}

impl<R: Recorder, U: Runner, F: FileSink> TraceReconciler<'_, R, U, F> {
    /// Takes steps until nothing is left but to wait.
    async fn run(&self, cached: &Trace) -> Result<Action, StepError> {
        // The cache may be behind what this node itself wrote. It is good enough to see that there is nothing to do, which
        // spares the API server most requests.
        match plan(cached, &self.node.view()) {
            Plan::Idle => return self.idle(cached, None).await,
            Plan::CheckNode { node } => return self.wait_for_node(&node).await,
            Plan::Record { session } if !self.recording.has_changes(cached, session).await? => {
                let pause = self.recording.poll_interval(cached);
                return self.idle(cached, Some(pause)).await;
            }
            _ => {}
        }
        let Some(mut trace) = self.object.get().await? else { return self.gone().await };
        for _ in 0..STEPS_MAX {
            let next = match plan(&trace, &self.node.view()) {
                Plan::Idle => return self.idle(&trace, None).await,
                Plan::CheckNode { node } => return self.wait_for_node(&node).await,
                Plan::Claim(accepted) => self.object.claim(&trace, &accepted).await?,
                Plan::Perform(..) if self.node.is_pending(&trace.spec.gadget) => {
                    return Ok(Action::requeue(MODULE_RECHECK));
                }
                Plan::Perform(accepted, verdict) => {
                    self.operations.perform(&trace, &accepted, verdict).await?
                }
                Plan::Expire { session } => self.operations.expire(&trace, session).await?,
                Plan::Record { session } => match self.recording.poll(&trace, session).await? {
                    Poll::Updated(next) => next,
                    Poll::Unchanged { pause } => return self.idle(&trace, Some(pause)).await,
                },
                Plan::Release => self.release(&trace).await?,
            };
            match next {
                Update::Applied(after) => trace = *after,
                Update::Conflict => return Ok(Action::requeue(REQUEUE_AFTER)),
                Update::NotFound => return self.gone().await,
            }
        }
        Ok(Action::requeue(REQUEUE_AFTER))
    }

    /// Waits: checks lagging nodes meanwhile and, if this node is the first of the Trace, keeps the summary up to date.
    async fn idle(&self, trace: &Trace, pause: Option<Duration>) -> Result<Action, StepError> {
        self.schedule.set_active(&self.trace.uid, pause.is_some());
        let nodes = trace.status.iter().flat_map(|s| &s.nodes).map(|n| n.node.as_str());
        // Each node writes the summary after its own part; the first node makes sure that this happened.
        if nodes.min() == Some(self.node.name()) {
            self.object.summarise(trace).await?;
        }
        let lagging = machine::lagging_nodes(trace, &self.node.view());
        let rank = u32::try_from(machine::rank(trace, &self.node.view())).unwrap_or(u32::MAX);
        let grace = self.node.settings.grace_period.saturating_mul(rank.saturating_add(1));
        let Recheck::After(recheck) = self.absent.check_nodes(&lagging, grace).await? else {
            return self.gone().await;
        };
        let ends = machine::time_left_of_others(trace, &self.node.view());
        let pause = pause.into_iter().chain(recheck).chain(ends).min();
        Ok(pause.map_or_else(Action::await_change, Action::requeue))
    }

    /// Waits for another node, the only one that this Trace is about.
    async fn wait_for_node(&self, node: &str) -> Result<Action, StepError> {
        match self.absent.check_nodes(&[node], self.node.settings.grace_period).await? {
            Recheck::After(pause) => Ok(pause.map_or_else(Action::await_change, Action::requeue)),
            Recheck::TraceGone => self.gone().await,
        }
    }

    /// Stops recording for a Trace that no longer exists.
    async fn gone(&self) -> Result<Action, StepError> {
        self.schedule.set_active(&self.trace.uid, false);
        self.schedule.due_in(&self.trace.uid, &[], Duration::ZERO);
        self.recorder.stop(None).await?;
        Ok(Action::await_change())
    }

    /// Stops recording, removes this node's part of the status if the Trace is now another node's, then the finalizer.
    async fn release(&self, trace: &Trace) -> Result<Update, StepError> {
        self.recorder.stop(None).await?;
        let deleting = trace.metadata.deletion_timestamp.is_some();
        let elsewhere = !trace.spec.node.is_empty() && trace.spec.node != self.node.name();
        if elsewhere && !deleting && machine::node_status(trace, self.node.name()).is_some() {
            return self.object.clear_status().await;
        }
        self.object.remove_finalizer(trace, self.node.name()).await
    }
}

/// The status of a node that refused an operation.
fn refused(entry: NodeStatus, refusal: &Refusal) -> NodeStatus {
    NodeStatus { operation_error: Some(refusal.to_string()), operation_warning: None, ..entry }
}
