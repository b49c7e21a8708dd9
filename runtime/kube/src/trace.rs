//! The `Trace` object, `gadget.kinvolk.io/v1alpha1`.
#![allow(clippy::doc_markdown)] // The texts of fields are the schema's, which `kubectl explain` prints as they are.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::{is_zero, null_is_empty, words};

/// The annotation by which an operation is asked for: `start`, `generate` or `stop`.
///
/// It is removed before the work starts.
pub const OPERATION: &str = "gadget.kinvolk.io/operation";

/// What the annotations begin with that give parameters to one operation:
/// `gadget.kinvolk.io/operation-formatter=table`.
pub const OPERATION_PARAMETER: &str = "gadget.kinvolk.io/operation-";

/// The annotation in which the runtime keeps the operation it took last; see [`crate::machine::Accepted`].
pub const ACCEPTED: &str = "gadget.kinvolk.io/accepted";

/// The suffix of the finalizers that nodes hold while they record; the node's name stands before it.
const FINALIZER: &str = ".node.gadget.kinvolk.io/recording";

/// The finalizer that a node holds on a Trace while it records for it.
///
/// ```
/// let finalizer = gadgetd_kube::finalizer("node-1");
/// assert_eq!(finalizer, "node-1.node.gadget.kinvolk.io/recording");
/// assert_eq!(gadgetd_kube::finalizer_node(&finalizer), Some("node-1"));
/// ```
pub fn finalizer(node: &str) -> String {
    format!("{node}{FINALIZER}")
}

/// The node that holds a finalizer; `None` for finalizers that are not this project's.
pub fn finalizer_node(finalizer: &str) -> Option<&str> {
    finalizer.strip_suffix(FINALIZER)
}

/// What is asked for: a gadget, the containers it looks at, and where its documents go.
#[allow(clippy::duplicated_attributes)] // It takes the columns for attributes of one thing.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "gadget.kinvolk.io",
    version = "v1alpha1",
    kind = "Trace",
    namespaced,
    status = "TraceStatus",
    derive = "Default",
    derive = "PartialEq",
    category = "gadgetd",
    doc = "A recording of what containers do, and the documents that a gadget makes of it. The annotation \
           gadget.kinvolk.io/operation=start|generate|stop sets it to work.",
    printcolumn(name = "Gadget", type_ = "string", json_path = ".spec.gadget"),
    printcolumn(name = "Node", type_ = "string", json_path = ".spec.node"),
    printcolumn(name = "Pod", type_ = "string", json_path = ".spec.filter.podname"),
    printcolumn(name = "State", type_ = "string", json_path = ".status.state"),
    printcolumn(name = "Containers", type_ = "integer", json_path = ".status.progress.containers"),
    printcolumn(name = "Calls", type_ = "integer", json_path = ".status.progress.syscalls"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Output", type_ = "string", json_path = ".spec.outputMode", priority = "1"),
    printcolumn(name = "Error", type_ = "string", json_path = ".status.operationError", priority = "1"),
    printcolumn(name = "Warning", type_ = "string", json_path = ".status.operationWarning", priority = "1")
)]
#[serde(rename_all = "camelCase")]
pub struct TraceSpec {
    /// The node that records. Empty: every node records, and the results stand together.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 120), regex(pattern = "^([a-z0-9]([a-z0-9.-]*[a-z0-9])?)?$"))]
    pub node: String,
    /// The gadget, such as seccomp.
    #[schemars(length(min = 1, max = 253))]
    pub gadget: String,
    /// How the gadget is driven. Manual: by the annotation gadget.kinvolk.io/operation.
    #[serde(default)]
    pub run_mode: RunMode,
    /// Which containers. At least one of podname and labels must be there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<TraceFilter>,
    /// Where the documents go. Status: into this object. Stream: into this object as containers end, a bounded
    /// number of them. File: to the node, below the kubelet's folder for seccomp profiles. ExternalResource: into
    /// objects of their own, for seccomp SeccompProfiles of the Security Profiles Operator.
    #[serde(default)]
    pub output_mode: OutputMode,
    /// For ExternalResource the name of the object, with or without its namespace: namespace/name. For File the
    /// name of the file. Other modes do not read it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 320))]
    pub output: String,
    /// Parameters of the gadget and of its formatter. Of the runtime itself: formatter (which one writes the
    /// documents), merge (container or pod: what one document is about), timeout (such as 30s: the recording
    /// ends by itself), profile-prefix (ExternalResource and File without output: what names begin with).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
}

/// Which containers a Trace is about. All that is given must fit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TraceFilter {
    /// The namespace of the pods. A Trace in the runtime's own namespace may name any, and means all of them when
    /// this is empty. A Trace elsewhere means its own namespace, and may name no other.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// The name of the pod.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253))]
    pub podname: String,
    /// Labels that the pod must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The container in the pod; empty: all of them.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 63))]
    pub container_name: String,
}

words! {
    /// How a gadget is driven.
    #[derive(Default)]
    RunMode: "How the gadget is driven." {
        /// Without being asked; no gadget of this release supports it.
        Auto,
        /// By operations.
        #[default]
        Manual,
    }
}

words! {
    /// Where documents go.
    #[derive(Default)]
    OutputMode: "Where the documents go." {
        /// Into the status.
        #[default]
        Status,
        /// Into the status as containers end, the oldest making room for the newest.
        Stream,
        /// Into files on the node.
        File,
        /// Into objects of their own.
        ExternalResource,
    }
}

words! {
    /// What a recording is doing.
    State: "What the recording is doing." {
        /// It records.
        Started,
        /// Somebody stopped it.
        Stopped,
        /// It ended by itself, at its timeout.
        Completed,
    }
}

/// What has become of it. Written by the runtime alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TraceStatus {
    /// What the recording is doing. Absent before the first start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// The document, where there is exactly one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// Why the last operation failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation_error: Option<String>,
    /// What somebody should know of the last operation, although it did not fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation_warning: Option<String>,
    /// The number of the last operation that every node concerned has carried out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<u64>,
    /// Every document, or where it went: one for each container, or for each pod with merge=pod.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["node", "id"]))]
    pub outputs: Vec<Output>,
    /// What each node did.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["node"]))]
    pub nodes: Vec<NodeStatus>,
    /// How far the recording has come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// Ready: the recording is on. Complete: nothing that should be in the documents was lost.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// One document, and what it is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Output {
    /// The node that made it.
    pub node: String,
    /// The id of the container it is about, the latest one of that name; with merge=pod, the uid of the pod.
    pub id: String,
    /// The namespace of the pod.
    #[serde(default)]
    pub namespace: String,
    /// The name of the pod.
    #[serde(default)]
    pub pod: String,
    /// The name of the container; empty where the document is about the whole pod.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub container: String,
    /// The ids of the containers that are in it: more than one where it was restarted, or merged. Of those that ended, the
    /// latest of each name.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub instances: Vec<String>,
    /// Those of them that had ended when the document was made.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub ended: Vec<String>,
    /// How many containers are in it beside those: earlier ones.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more_instances: u64,
    /// The document; absent where it went elsewhere, or could not be made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// For ExternalResource: the object that holds it, namespace/name, or its name where it has no namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// For File and ExternalResource: what to write as localhostProfile to use it as a seccomp profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub localhost_profile: Option<String>,
    /// The calls to the cluster that the gadget made for it, or tried to: a bounded number, those that were denied before
    /// others. The log of the node has every one.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub calls: Vec<Call>,
    /// How many calls there were beyond these.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more_calls: u64,
    /// Why what was recorded is not as it should be, in the words of the gadget; absent where it is, or where the gadget
    /// does not judge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objection: Option<String>,
    /// The place of the document in the order in which this node made them.
    #[serde(default)]
    pub sequence: u64,
    /// When it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
    /// What the recording of it lost, or why there is no document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
    /// Whether nothing that should be in it was lost.
    #[serde(default)]
    pub complete: bool,
}

/// A call to the cluster that a gadget made, or tried to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Call {
    /// What was to be done, to which kind and object: apply configmaps shop/cart.
    pub call: String,
    /// The SHA-256 of the call with all its arguments.
    #[serde(default)]
    pub arguments: String,
    /// Whether the module asks for it and the cluster grants it. What is not was not made.
    #[serde(default)]
    pub allowed: bool,
    /// How long the module waited for the answer, in milliseconds.
    #[serde(default)]
    pub milliseconds: u64,
    /// What came of it: ok, or the error.
    #[serde(default)]
    pub result: String,
}

/// What one node did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// The node.
    pub node: String,
    /// The number of the last operation that it carried out, or refused.
    #[serde(default)]
    pub operation: u64,
    /// The number of the start to which its present or last recording belongs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<u64>,
    /// What its recording is doing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// When its recording began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Time>,
    /// After how many seconds it ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u64>,
    /// What it records, as it was when the recording began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<TraceFilter>,
    /// Why the last operation failed here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation_error: Option<String>,
    /// What somebody should know of the last operation here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation_warning: Option<String>,
    /// How far the recording has come here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
}

/// How far a recording has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// Containers that were seen, those that have ended among them.
    #[serde(default)]
    pub containers: u32,
    /// Different system calls that were seen, over all containers.
    #[serde(default)]
    pub syscalls: u32,
    /// When the last one was new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_new: Option<Time>,
    /// Documents that had to make room for newer ones, in mode Stream or because the object would be too large.
    #[serde(default)]
    pub dropped: u64,
}
