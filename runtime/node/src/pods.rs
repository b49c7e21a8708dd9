//! The pods of this node.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    time::{Duration, Instant},
};

use futures::{Stream, StreamExt as _};
use k8s_openapi::{
    api::core::v1::{ContainerStatus, Pod},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{
    Api, Client, ResourceExt as _,
    runtime::{WatchStreamExt as _, watcher},
};

use crate::chain;

/// The annotation by which the mirror of a static pod names the uid that the kubelet uses for it.
const STATIC_UID_ANNOTATION: &str = "kubernetes.io/config.hash";

/// How long to remember a deleted pod: its containers may be noticed only after its deletion.
const DELETED_POD_TTL: Duration = Duration::from_mins(10);

/// How many deleted pods to remember.
const DELETED_PODS_MAX: usize = 2_048;

/// A pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodRecord {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// The uid that its cgroup has, where that is another: a static pod's.
    pub static_uid: Option<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What controls it.
    pub owner: Option<OwnerReference>,
    /// The names of all its containers: init and ephemeral ones among them.
    pub containers: Vec<String>,
    /// Those that have been started, as far as the kubelet has told.
    pub instances: Vec<Instance>,
}

/// One start of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Instance {
    /// The container's id in its runtime.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The image.
    pub image: Option<String>,
    /// The digest of the image.
    pub image_digest: Option<String>,
}

impl From<&Pod> for PodRecord {
    fn from(pod: &Pod) -> Self {
        let owners = pod.metadata.owner_references.iter().flatten();
        let owner = owners.into_iter().find(|o| o.controller == Some(true)).cloned();
        let mut containers = Vec::new();
        if let Some(spec) = &pod.spec {
            containers.extend(spec.init_containers.iter().flatten().map(|c| c.name.clone()));
            containers.extend(spec.containers.iter().map(|c| c.name.clone()));
            containers.extend(spec.ephemeral_containers.iter().flatten().map(|c| c.name.clone()));
        }
        let status = pod.status.as_ref();
        let statuses = status
            .map(|s| [&s.init_container_statuses, &s.container_statuses, &s.ephemeral_container_statuses]);
        let statuses = statuses.into_iter().flatten().flat_map(|list| list.iter().flatten());
        Self {
            namespace: pod.namespace().unwrap_or_default(),
            name: pod.name_any(),
            uid: pod.uid().unwrap_or_default(),
            static_uid: pod.annotations().get(STATIC_UID_ANNOTATION).cloned(),
            labels: pod.labels().clone(),
            owner,
            containers,
            instances: statuses.flat_map(instances).collect(),
        }
    }
}

/// The present and the last start of a container.
fn instances(status: &ContainerStatus) -> Vec<Instance> {
    let ended = [&status.state, &status.last_state].into_iter().flatten();
    let ended = ended.filter_map(|state| state.terminated.as_ref()?.container_id.as_ref());
    let mut found: Vec<Instance> = Vec::new();
    for reference in status.container_id.iter().chain(ended) {
        // `containerd://<id>`
        let id = reference.rsplit_once("://").map_or(reference.as_str(), |(_, id)| id);
        if id.is_empty() || found.iter().any(|f| f.id == id) {
            continue;
        }
        // The image is that of the present start; it changes when somebody edits the pod.
        let present = found.is_empty();
        let digest = status.image_id.rsplit_once('@').map_or(status.image_id.as_str(), |(_, digest)| digest);
        found.push(Instance {
            id: id.to_owned(),
            name: status.name.clone(),
            image: Some(status.image.clone()).filter(|image| present && !image.is_empty()),
            image_digest: Some(digest.to_owned()).filter(|d| present && d.starts_with("sha256:")),
        });
    }
    found
}

/// A change of the pods of a node.
#[derive(Clone, Debug, PartialEq)]
pub enum PodChange {
    /// A list of all of them begins.
    Listing,
    /// One of that list.
    Listed(PodRecord),
    /// The list is complete.
    ListedAll,
    /// One is new, or other than before.
    Applied(PodRecord),
    /// One is gone.
    Deleted(PodRecord),
    /// The watch failed. Text for people.
    Failed(String),
}

/// Watches the pods of a node, for ever.
pub fn watch(client: Client, node: &str) -> impl Stream<Item = PodChange> + Send + 'static {
    let config = watcher::Config::default().fields(&format!("spec.nodeName={node}"));
    watcher(Api::<Pod>::all(client), config).default_backoff().map(|event| match event {
        Ok(watcher::Event::Init) => PodChange::Listing,
        Ok(watcher::Event::InitApply(pod)) => PodChange::Listed((&pod).into()),
        Ok(watcher::Event::InitDone) => PodChange::ListedAll,
        Ok(watcher::Event::Apply(pod)) => PodChange::Applied((&pod).into()),
        Ok(watcher::Event::Delete(pod)) => PodChange::Deleted((&pod).into()),
        Err(error) => PodChange::Failed(chain(&error)),
    })
}

/// The pods, including those that were deleted lately.
#[derive(Debug, Default)]
pub(crate) struct Pods {
    by_uid: HashMap<String, Entry>,
    /// Of static pods: from the uid of their cgroups to the one in the API server.
    aliases: HashMap<String, BTreeSet<String>>,
    /// The uids of a list that is not complete.
    listing: HashSet<String>,
    listed: bool,
    problem: Option<String>,
}

#[derive(Debug)]
struct Entry {
    pod: PodRecord,
    deleted: Option<Instant>,
}

impl Pods {
    /// Applies a change. Returns the uids of the pods that are different now.
    pub(crate) fn apply_change(&mut self, change: PodChange, now: Instant) -> Vec<String> {
        if let PodChange::Failed(problem) = change {
            self.problem = Some(problem);
            return Vec::new();
        }
        self.problem = None;
        match change {
            PodChange::Listing => {
                self.listing.clear();
                Vec::new()
            }
            PodChange::Listed(pod) => {
                self.listing.insert(pod.uid.clone());
                self.apply(pod)
            }
            PodChange::ListedAll => {
                self.listed = true;
                let listed = std::mem::take(&mut self.listing);
                for (uid, entry) in &mut self.by_uid {
                    if !listed.contains(uid) {
                        entry.deleted.get_or_insert(now);
                    }
                }
                Vec::new()
            }
            PodChange::Applied(pod) => self.apply(pod),
            PodChange::Deleted(pod) => {
                let uid = pod.uid.clone();
                let changed = self.apply(pod);
                if let Some(entry) = self.by_uid.get_mut(&uid) {
                    entry.deleted = Some(now);
                }
                changed
            }
            PodChange::Failed(_) => unreachable!("it was dealt with"),
        }
    }

    fn apply(&mut self, pod: PodRecord) -> Vec<String> {
        if let Some(alias) = &pod.static_uid {
            self.aliases.entry(alias.clone()).or_default().insert(pod.uid.clone());
        }
        let uid = pod.uid.clone();
        if self.by_uid.get(&uid).is_some_and(|e| e.deleted.is_none() && e.pod == pod) {
            return Vec::new();
        }
        self.by_uid.insert(uid.clone(), Entry { pod, deleted: None });
        vec![uid]
    }

    /// Forgets pods that were deleted long ago, or the oldest of them if there are too many.
    pub(crate) fn prune(&mut self, now: Instant) {
        let mut deleted: Vec<_> =
            self.by_uid.iter().filter_map(|(uid, e)| Some((e.deleted?, uid.clone()))).collect();
        deleted.sort_unstable();
        let many = deleted.len().saturating_sub(DELETED_PODS_MAX);
        for (index, (since, uid)) in deleted.into_iter().enumerate() {
            if index < many || now.duration_since(since) > DELETED_POD_TTL {
                self.by_uid.remove(&uid);
            }
        }
        self.aliases.retain(|_, uids| {
            uids.retain(|uid| self.by_uid.contains_key(uid));
            !uids.is_empty()
        });
    }

    /// The pod with this uid, be it the API server's or that of its cgroup.
    ///
    /// The former nobody can choose. The latter stands in an annotation, which whoever may make pods can write into theirs:
    /// so it never stands for a pod that has that uid, and where pods of several names claim it, for none of them.
    pub(crate) fn get(&self, uid: &str) -> Option<&PodRecord> {
        if let Some(entry) = self.by_uid.get(uid) {
            return Some(&entry.pod);
        }
        let claims =
            || self.aliases.get(uid)?.iter().map(|uid| self.by_uid.get(uid)).collect::<Option<Vec<_>>>();
        let mut claims = claims()?;
        // The mirror of a static pod is made anew when somebody deletes it: the one that is there counts.
        claims.sort_by_key(|entry| entry.deleted.is_some());
        let (first, others) = claims.split_first()?;
        let name = |entry: &Entry| (entry.pod.namespace.clone(), entry.pod.name.clone());
        others.iter().all(|other| name(other) == name(first)).then_some(&first.pod)
    }

    /// The pods that were not deleted.
    pub(crate) fn present(&self) -> impl Iterator<Item = &PodRecord> {
        self.by_uid.values().filter(|e| e.deleted.is_none()).map(|e| &e.pod)
    }

    /// Whether all pods were listed; if not, why.
    pub(crate) fn listed(&self) -> Result<(), String> {
        match &self.problem {
            _ if self.listed => Ok(()),
            Some(problem) => Err(format!("the pods of this node are not known: {problem}")),
            None => Err("the pods of this node are not known yet".to_owned()),
        }
    }

    /// What is wrong with the watch, if anything.
    pub(crate) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }
}
