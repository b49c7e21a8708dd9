//! Seccomp policies into `SeccompProfile` objects.

use gadgetd_core::{
    kube::{Grant, KubeApi, KubeError, Names, Resource, Verb},
    oci,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::{Value, json};

use super::parts::{Order, PartError, ResourceSink, Written};
use crate::{
    names::is_subdomain,
    spo::{self, Version, localhost_profile},
};

/// Where a profile comes from, written on it: annotations begin with this.
const PROVENANCE: &str = "seccomp.gadget.kinvolk.io";

/// How many objects are tried that differ only in the number behind their name.
const TRIES: u32 = 20;

/// The media type of the documents that can become profiles.
pub const SECCOMP: &str = "application/vnd.oci.seccomp+json";

/// Makes `SeccompProfile` objects, in the version and scope that the cluster serves.
///
/// It only ever creates objects, and reads those that are in its way. A name that is taken by something else than
/// the same order is left alone, and a number put behind it: `cart`, `cart-2`, …; so that no profile that is in
/// force is ever changed, and names that would be the same on cluster scope (`a-b` of namespace `c`, `b` of
/// namespace `c-a`) are kept apart.
pub struct SeccompProfiles<K> {
    api: K,
    granted: Vec<Grant>,
}

impl<K> std::fmt::Debug for SeccompProfiles<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SeccompProfiles").field("granted", &self.granted).finish_non_exhaustive()
    }
}

/// What this needs of a cluster, and what a cluster grants it where nobody says otherwise.
pub fn grants() -> Vec<Grant> {
    let grant = |group: &str, plural: &str, verbs: &[Verb]| Grant {
        group: group.into(),
        plural: plural.into(),
        verbs: verbs.to_vec(),
        namespaces: Names::Any,
        names: Names::Any,
    };
    vec![
        grant(spo::GROUP, spo::PLURAL, &[Verb::Create, Verb::Get]),
        // To find out what a profile's pod belongs to.
        grant("apps", "replicasets", &[Verb::Get]),
        grant("batch", "jobs", &[Verb::Get]),
    ]
}

impl<K: KubeApi + 'static> SeccompProfiles<K> {
    /// Makes them through `api`.
    pub fn new(api: K, _system_namespace: impl Into<String>, granted: Vec<Grant>) -> Self {
        Self { api, granted }
    }
}

/// The version to write: the newest that is both served and known.
async fn served(api: &dyn KubeApi) -> Result<(Version, Resource), PartError> {
    let served = api.discover(spo::GROUP, spo::PLURAL).await.map_err(answer)?;
    let known =
        |version: Version| Some((version, served.iter().find(|r| r.version == version.name())?.clone()));
    Version::ALL.into_iter().find_map(known).ok_or_else(|| {
        PartError::Refused(match served.as_slice() {
            [] => "The cluster has no SeccompProfile objects: install the Security Profiles Operator".into(),
            [first, ..] => {
                format!(
                    "The cluster's SeccompProfile objects have version {}, which is not known",
                    first.version
                )
            }
        })
    })
}

/// What controls a pod in the end: the Deployment of its `ReplicaSet`, the `CronJob` of its Job. What is in
/// between comes and goes, and would take the profile with it.
async fn top(
    api: &dyn KubeApi,
    namespace: &str,
    owner: &OwnerReference,
) -> Result<Option<OwnerReference>, PartError> {
    let plural = match (owner.api_version.as_str(), owner.kind.as_str()) {
        ("apps/v1", "ReplicaSet") => "replicasets",
        ("batch/v1", "Job") => "jobs",
        _ => return Ok(Some(plain(owner))),
    };
    let (group, version) = owner.api_version.split_once('/').unwrap_or(("", &owner.api_version));
    let resource = Resource {
        group: group.into(),
        version: version.into(),
        plural: plural.into(),
        kind: owner.kind.clone(),
        namespaced: true,
    };
    let object = match api.get(&resource, Some(namespace), &owner.name).await {
        Ok(object) => object,
        Err(KubeError::Unavailable(text) | KubeError::Deadline(text)) => {
            return Err(PartError::Unavailable(text));
        }
        // It is gone, or not ours to read: a profile without an owner stays.
        Err(_) => return Ok(None),
    };
    let owners = object.pointer("/metadata/ownerReferences").cloned().unwrap_or_default();
    let owners: Vec<OwnerReference> = serde_json::from_value(owners).unwrap_or_default();
    let controller = owners.iter().find(|o| o.controller == Some(true));
    Ok(Some(plain(controller.unwrap_or(owner))))
}

/// An owner, without the claim to control the object and without holding up its owner's deletion.
fn plain(owner: &OwnerReference) -> OwnerReference {
    OwnerReference { controller: None, block_owner_deletion: None, ..owner.clone() }
}

/// What the API server's answer means for an order.
fn answer(error: KubeError) -> PartError {
    match error {
        KubeError::Unavailable(_) | KubeError::Deadline(_) => PartError::Unavailable(error.to_string()),
        other => PartError::Refused(other.to_string()),
    }
}

/// The annotations of a profile, and which of them make two orders the same.
fn provenance(order: &Order<'_>) -> Value {
    let key = |name: &str| format!("{PROVENANCE}/{name}");
    json!({
        key("trace"): format!("{}/{}", order.trace_namespace, order.trace_name),
        key("trace-uid"): order.trace_uid,
        key("node"): order.node,
        key("pod"): format!("{}/{}", order.namespace, order.pod),
        key("container"): order.container.unwrap_or_default(),
        key("occasion"): order.occasion,
    })
}

/// Whether an object that is there holds the same order: of the same Trace about the same container, made on the
/// same occasion or with the same content.
fn same_order(found: &Value, annotations: &Value, spec: &Value) -> bool {
    let same = |name: &str| {
        let key = format!("{PROVENANCE}/{name}");
        let has = found.pointer("/metadata/annotations").and_then(|a| a.get(&key));
        has.is_some() && has == annotations.get(&key)
    };
    let content = |field: &str| found.pointer(&format!("/spec/{field}")) == spec.get(field);
    let same_content = ["defaultAction", "architectures", "syscalls"].into_iter().all(content);
    ["trace-uid", "pod", "container"].into_iter().all(same) && (same("occasion") || same_content)
}

impl<K: KubeApi + 'static> ResourceSink for SeccompProfiles<K> {
    async fn write(&self, order: Order<'_>) -> Result<Written, PartError> {
        let refused = |text: String| Err(PartError::Refused(text));
        if order.document.media_type != SECCOMP {
            return refused(format!(
                "A SeccompProfile is made from a document of type {SECCOMP}, not {}",
                order.document.media_type
            ));
        }
        let profile = match oci::parse(order.document.body.as_bytes()) {
            Ok(profile) => profile,
            Err(error) => return refused(format!("The document is no seccomp profile: {error}")),
        };
        let api: &dyn KubeApi = &self.api;
        let (version, resource) = served(api).await?;
        let namespace = order.target.namespace.as_deref().unwrap_or(order.namespace);
        let inside = resource.namespaced.then_some(namespace);
        let base = match inside {
            Some(_) => order.name.to_owned(),
            None => format!("{namespace}-{}", order.name),
        };
        let owner = match order.owner {
            // An owner must be in the namespace of what it owns.
            Some(owner) if inside == Some(order.namespace) => top(api, order.namespace, owner).await?,
            _ => None,
        };
        let annotations = provenance(&order);
        let mut styles = version.errno_styles().iter().copied().peekable();
        let mut number = 1;
        while let Some(style) = styles.peek() {
            if number > TRIES {
                return refused(format!("{base} and {} names like it are taken: choose another", TRIES - 1));
            }
            let name = if number == 1 { base.clone() } else { format!("{base}-{number}") };
            if !is_subdomain(&name) {
                return refused(format!("{name} is too long, or cannot be the name of an object"));
            }
            let spec = match spo::spec(&profile.policy, version, *style) {
                Ok(spec) => spec,
                Err(error) => return refused(error.to_string()),
            };
            let object = json!({
                "apiVersion": format!("{}/{}", spo::GROUP, version.name()),
                "kind": spo::KIND,
                "metadata": {
                    "name": name,
                    "namespace": inside,
                    "annotations": annotations,
                    "labels": { "app.kubernetes.io/managed-by": "gadgetd" },
                    "ownerReferences": owner.iter().collect::<Vec<_>>(),
                },
                "spec": spec,
            });
            let found = match api.create(&resource, inside, object).await {
                Ok(made) => Some(made),
                Err(KubeError::Conflict(_)) => match api.get(&resource, inside, &name).await {
                    Ok(found) => same_order(&found, &annotations, &spec).then_some(found),
                    // It went away in between: the name is free.
                    Err(KubeError::NotFound(_)) => continue,
                    Err(error) => return Err(answer(error)),
                },
                Err(KubeError::Invalid(text)) => {
                    styles.next();
                    if styles.peek().is_none() {
                        return refused(format!(
                            "The API server does not accept the SeccompProfile {name}: {text}"
                        ));
                    }
                    continue;
                }
                Err(error) => return Err(answer(error)),
            };
            let Some(found) = found else {
                number += 1;
                continue;
            };
            let installed = found.pointer("/status/localhostProfile").and_then(Value::as_str);
            let usual = localhost_profile(inside, &name);
            return Ok(Written {
                resource: inside.map_or_else(|| name.clone(), |namespace| format!("{namespace}/{name}")),
                localhost_profile: Some(installed.filter(|p| !p.is_empty()).map_or(usual, str::to_owned)),
            });
        }
        refused(format!("Version {} of SeccompProfile cannot be written", version.name()))
    }
}
