//! One Trace at the API server: reads it, and writes its annotations, finalizers and status.

use std::time::Duration;

use gadgetd_core::kube::KubeError;
use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, Client, Resource as _, ResourceExt as _,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use super::{LocalNode, StepError, TraceRef};
use crate::{
    ACCEPTED, NodeStatus, Output, Trace, TraceStatus,
    controller::{call, field_manager},
    finalizer,
    machine::{self, Accepted},
    summary::summary,
};

/// The result of a write.
pub(super) enum Update {
    /// The object after the write.
    Applied(Box<Trace>),
    /// Somebody else changed the object first.
    Conflict,
    /// The object no longer exists.
    NotFound,
}

/// A Trace, on behalf of this node.
pub(super) struct TraceObject<'a> {
    api: Api<Trace>,
    trace: &'a TraceRef,
    node: &'a str,
    deadline: Duration,
}

impl<'a> TraceObject<'a> {
    pub(super) fn new(client: &Client, trace: &'a TraceRef, node: LocalNode<'a>) -> Self {
        let api = Api::namespaced(client.clone(), &trace.namespace);
        Self { api, trace, node: &node.settings.node, deadline: node.settings.request_timeout }
    }

    pub(super) async fn get(&self) -> Result<Option<Trace>, StepError> {
        let trace = call(self.deadline, self.api.get_opt(&self.trace.name)).await?;
        Ok(trace.filter(|t| t.metadata.uid.as_ref() == Some(&self.trace.uid)))
    }

    /// Changes metadata, provided that nobody has changed the object since it was read.
    async fn patch(&self, trace: &Trace, mut metadata: Value) -> Result<Update, StepError> {
        metadata["resourceVersion"] = json!(trace.resource_version());
        let params = PatchParams { field_manager: Some(field_manager(self.node)), ..PatchParams::default() };
        let patch = Patch::Merge(json!({ "metadata": metadata }));
        update(call(self.deadline, self.api.patch(&self.trace.name, &params, &patch)).await)
    }

    /// Applies a part of the status (server-side, as `manager`), on `version` if that is given.
    async fn apply(
        &self,
        manager: &str,
        version: Option<String>,
        status: Value,
    ) -> Result<Update, StepError> {
        let mut object = json!({
            "apiVersion": Trace::api_version(&()),
            "kind": Trace::kind(&()),
            "metadata": { "name": self.trace.name, "namespace": self.trace.namespace, "uid": self.trace.uid },
            "status": status,
        });
        if let Some(version) = version {
            object["metadata"]["resourceVersion"] = json!(version);
        }
        let params = PatchParams::apply(manager).force();
        update(
            call(self.deadline, self.api.patch_status(&self.trace.name, &params, &Patch::Apply(object)))
                .await,
        )
    }

    /// Writes the status and the documents of a node, then the summary.
    pub(super) async fn write(&self, entry: &NodeStatus, outputs: &[Output]) -> Result<Update, StepError> {
        self.write_onto(None, entry, outputs).await
    }

    /// Writes the status of this node, whose documents stay as they are.
    pub(super) async fn write_entry(&self, trace: &Trace, entry: &NodeStatus) -> Result<Update, StepError> {
        self.write(entry, &self.outputs(trace)).await
    }

    /// Like [`Self::write`], on `version` of the object if that is given.
    pub(super) async fn write_onto(
        &self,
        version: Option<String>,
        entry: &NodeStatus,
        outputs: &[Output],
    ) -> Result<Update, StepError> {
        let status = json!({ "nodes": [entry], "outputs": outputs });
        match self.apply(&field_manager(&entry.node), version, status).await? {
            Update::Applied(after) => self.summarise(&after).await,
            other => Ok(other),
        }
    }

    /// Brings the summary up to date, on the version of the object that it was computed from.
    pub(super) async fn summarise(&self, trace: &Trace) -> Result<Update, StepError> {
        let wanted = summary(trace, Timestamp::now());
        let mut found = trace.status.clone().unwrap_or_default();
        found.nodes.clear();
        found.outputs.clear();
        if found == wanted || wanted == TraceStatus::default() {
            return Ok(Update::Applied(Box::new(trace.clone())));
        }
        let status = serde_json::to_value(wanted)?;
        match self.apply("gadgetd", trace.resource_version(), status).await? {
            // Whoever changed the object writes the summary after it.
            Update::Conflict => {
                self.get().await.map(|t| t.map_or(Update::NotFound, |t| Update::Applied(Box::new(t))))
            }
            next => Ok(next),
        }
    }

    /// Takes an operation: replaces the annotations that ask for it by the one that numbers it.
    pub(super) async fn claim(&self, trace: &Trace, accepted: &Accepted) -> Result<Update, StepError> {
        let mut annotations = serde_json::Map::new();
        for key in machine::request_annotations(trace) {
            annotations.insert(key, Value::Null);
        }
        annotations.insert(ACCEPTED.into(), serde_json::to_string(accepted)?.into());
        let next = self.patch(trace, json!({ "annotations": annotations })).await?;
        if matches!(next, Update::Applied(_)) {
            let operation = &accepted.operation;
            tracing::info!(trace = self.trace.to_string(), id = accepted.id, ?operation, "took an operation");
        }
        Ok(next)
    }

    /// Adds the finalizer of this node.
    pub(super) async fn add_finalizer(&self, trace: &Trace) -> Result<Update, StepError> {
        let own = finalizer(self.node);
        let finalizers: Vec<_> = trace.finalizers().iter().chain([&own]).collect();
        self.patch(trace, json!({ "finalizers": finalizers })).await
    }

    /// Whether the object has the finalizer of this node.
    pub(super) fn has_finalizer(&self, trace: &Trace) -> bool {
        trace.finalizers().contains(&finalizer(self.node))
    }

    /// Removes the finalizer of a node.
    pub(super) async fn remove_finalizer(&self, trace: &Trace, node: &str) -> Result<Update, StepError> {
        let own = finalizer(node);
        let rest: Vec<_> = trace.finalizers().iter().filter(|f| **f != own).collect();
        self.patch(trace, json!({ "finalizers": rest })).await
    }

    /// Removes this node's part of the status.
    pub(super) async fn clear_status(&self) -> Result<Update, StepError> {
        self.apply(&field_manager(self.node), None, json!({})).await
    }

    /// The status of this node.
    pub(super) fn node_status(&self, trace: &Trace) -> NodeStatus {
        let fresh = || NodeStatus { node: self.node.to_owned(), ..NodeStatus::default() };
        machine::node_status(trace, self.node).cloned().unwrap_or_else(fresh)
    }

    /// The documents of this node.
    pub(super) fn outputs(&self, trace: &Trace) -> Vec<Output> {
        outputs_of(trace, self.node)
    }
}

/// The documents of a node, in the order in which it made them.
pub(super) fn outputs_of(trace: &Trace, node: &str) -> Vec<Output> {
    let outputs = trace.status.iter().flat_map(|s| &s.outputs);
    let mut outputs: Vec<_> = outputs.filter(|o| o.node == node).cloned().collect();
    outputs.sort_by_key(|o| o.sequence);
    outputs
}

fn update(answer: Result<Trace, KubeError>) -> Result<Update, StepError> {
    match answer {
        Ok(trace) => Ok(Update::Applied(Box::new(trace))),
        Err(KubeError::Conflict(_)) => Ok(Update::Conflict),
        Err(KubeError::NotFound(_)) => Ok(Update::NotFound),
        Err(error) => Err(error.into()),
    }
}
