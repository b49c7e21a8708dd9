//! What is known of a container, and whether a selection means it.

use std::collections::BTreeMap;

use gadgetd_containers::{Described, Role};
use gadgetd_core::{Container, Pod};
use gadgetd_kube::machine::Selection;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde::{Deserialize, Serialize};

use crate::pods::PodRecord;

/// What is known of a container. The API server and the container's runtime each tell a part, in any order, and one of
/// them may never tell.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Known {
    /// It runs nobody's program, or belongs to no pod: it is never recorded.
    pub(super) foreign: bool,
    /// Whether its runtime has told.
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

/// Whether a selection means a container, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    Yes,
    No,
    /// What is known fits, and it is not enough.
    Perhaps,
}

impl Known {
    /// Learns what the API server tells of the container's pod, and of the container in it.
    pub(super) fn learn_pod(&mut self, pod: &PodRecord, id: &str, node: &str) {
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
        // Names of documents depend on it, and must not change with a container that joins the pod later.
        self.siblings.get_or_insert(pod.containers.len());
        if let Some(instance) = pod.instances.iter().find(|i| i.id == id) {
            self.name = Some(instance.name.clone());
            self.image = instance.image.clone().or(self.image.take());
            self.image_digest = instance.image_digest.clone().or(self.image_digest.take());
        }
    }

    /// Learns what the container's runtime tells. `uid` is what the cgroup's path has for the pod's: what a runtime says
    /// of another pod's container is not about this one.
    pub(super) fn learn_runtime(&mut self, told: Described, uid: Option<&str>, node: &str) {
        let theirs = told.pod.as_ref().and_then(|pod| pod.uid.as_deref());
        if uid.zip(theirs).is_some_and(|(path, told)| path != told) {
            return;
        }
        self.described = true;
        if told.role == Role::Sandbox || told.pod.is_none() {
            self.foreign = true;
            return;
        }
        if let (None, Some(pod)) = (&self.pod, told.pod) {
            let uid = pod.uid.or(uid.map(str::to_owned)).unwrap_or_default();
            self.pod = Some(Pod { namespace: pod.namespace, name: pod.name, uid, node: node.to_owned() });
        }
        self.name = self.name.take().or(told.name);
        self.image = self.image.take().or(told.image);
        self.image_digest = self.image_digest.take().or(told.image_digest);
        self.runtime = told.runtime;
    }

    /// Whether a selection means the container.
    pub(super) fn fit(&self, selection: &Selection) -> Fit {
        if self.foreign {
            return Fit::No;
        }
        let pod = self.pod.as_ref();
        let labels = selection.labels.iter().map(|(key, value)| {
            let labels = self.labels.as_ref()?;
            Some(labels.get(key) == Some(value))
        });
        let same = |wanted: &Option<String>, known: Option<&String>| match (wanted, known) {
            (Some(wanted), Some(known)) => Some(wanted == known),
            // Whoever it is: but a container without a name may be no container of a pod at all.
            (None, Some(_)) => Some(true),
            (_, None) => None,
        };
        let rest = [
            same(&selection.namespace, pod.map(|p| &p.namespace)),
            same(&selection.pod, pod.map(|p| &p.name)),
            same(&selection.container, self.name.as_ref()),
        ];
        labels.chain(rest).fold(Fit::Yes, |fit, one| match (fit, one) {
            (Fit::No, _) | (_, Some(false)) => Fit::No,
            (Fit::Perhaps, _) | (_, None) => Fit::Perhaps,
            (Fit::Yes, Some(true)) => Fit::Yes,
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
