//! What is known of a container, and whether a selection matches it.

use std::collections::BTreeMap;

use gadgetd_containers::{Described, Role};
use gadgetd_core::{Container, Pod};
use gadgetd_kube::machine::Selection;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde::{Deserialize, Serialize};

use crate::pods::PodRecord;

/// What is known of a container. The API server and the container runtime each report a part, in any order, and one of them may
/// never report.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ContainerInfo {
    /// It is a pod sandbox, or belongs to no pod: it is never recorded.
    pub(super) foreign: bool,
    /// Whether its runtime has reported.
    pub(super) described: bool,
    pub(super) pod: Option<Pod>,
    pub(super) labels: Option<BTreeMap<String, String>>,
    pub(super) name: Option<String>,
    pub(super) image: Option<String>,
    pub(super) image_digest: Option<String>,
    pub(super) runtime: Option<String>,
    pub(super) owner: Option<OwnerReference>,
    /// How many containers its pod had when it was first seen.
    pub(super) siblings: Option<usize>,
}

/// Whether a selection matches a container, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Match {
    Yes,
    No,
    /// Everything that is known matches, and something is not known yet.
    Unknown,
}

impl ContainerInfo {
    /// Adds what the API server reports of the pod, and of the container in it.
    pub(super) fn update_from_pod(&mut self, pod: &PodRecord, id: &str, node: &str) {
        self.pod = Some(Pod {
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            uid: pod.uid.clone(),
            node: node.to_owned(),
        });
        self.labels = Some(pod.labels.clone());
        if pod.owner.is_some() {
            self.owner.clone_from(&pod.owner);
        }
        // Names of documents depend on it, and must not change when a container is added to the pod later.
        self.siblings.get_or_insert(pod.containers.len());
        if let Some(instance) = pod.instances.iter().find(|i| i.id == id) {
            self.name = Some(instance.name.clone());
            self.image = instance.image.clone().or(self.image.take());
            self.image_digest = instance.image_digest.clone().or(self.image_digest.take());
        }
    }

    /// Adds what the container runtime reports. `uid` is the pod uid in the cgroup's path: a report about a container of another pod
    /// is ignored.
    pub(super) fn update_from_runtime(&mut self, described: Described, uid: Option<&str>, node: &str) {
        let theirs = described.pod.as_ref().and_then(|pod| pod.uid.as_deref());
        if uid.zip(theirs).is_some_and(|(path, reported)| path != reported) {
            return;
        }
        self.described = true;
        if described.role == Role::Sandbox || described.pod.is_none() {
            self.foreign = true;
            return;
        }
        if let (None, Some(pod)) = (&self.pod, described.pod) {
            let uid = pod.uid.or(uid.map(str::to_owned)).unwrap_or_default();
            self.pod = Some(Pod { namespace: pod.namespace, name: pod.name, uid, node: node.to_owned() });
        }
        self.name = self.name.take().or(described.name);
        self.image = self.image.take().or(described.image);
        self.image_digest = self.image_digest.take().or(described.image_digest);
        self.runtime = described.runtime;
    }

    /// Whether a selection matches the container.
    pub(super) fn matches(&self, selection: &Selection) -> Match {
        if self.foreign {
            return Match::No;
        }
        let pod = self.pod.as_ref();
        let labels = selection.labels.iter().map(|(key, value)| {
            let labels = self.labels.as_ref()?;
            Some(labels.get(key) == Some(value))
        });
        let same = |wanted: &Option<String>, known: Option<&String>| match (wanted, known) {
            (Some(wanted), Some(known)) => Some(wanted == known),
            // Any container: but one without a name may not belong to a pod at all.
            (None, Some(_)) => Some(true),
            (_, None) => None,
        };
        let rest = [
            same(&selection.namespace, pod.map(|p| &p.namespace)),
            same(&selection.pod, pod.map(|p| &p.name)),
            same(&selection.container, self.name.as_ref()),
        ];
        labels.chain(rest).fold(Match::Yes, |all, one| match (all, one) {
            (Match::No, _) | (_, Some(false)) => Match::No,
            (Match::Unknown, _) | (_, None) => Match::Unknown,
            (Match::Yes, Some(true)) => Match::Yes,
        })
    }

    /// Whether another container has the same name, in a pod of the same name.
    pub(super) fn is_namesake(&self, other: &Self) -> bool {
        let who = |known: &Self| {
            let pod = known.pod.as_ref().map(|pod| (pod.namespace.clone(), pod.name.clone()));
            pod.zip(known.name.clone())
        };
        who(self).is_some_and(|own| Some(own) == who(other))
    }

    /// The container, as a recording names it.
    pub(super) fn container(&self, id: &str, cgroup: &str) -> Container {
        Container {
            id: id.to_owned(),
            name: self.name.clone(),
            pod: self.pod.clone(),
            image: self.image.clone(),
            image_digest: self.image_digest.clone(),
            runtime: self.runtime.clone(),
            cgroup: cgroup.to_owned(),
        }
    }
}
