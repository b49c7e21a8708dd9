//! The cluster as a run sees it: with the origin on every object that it writes, and with each request carried out once.
//!
//! Only the host knows for which Trace and on which occasion a gadget runs. It stands between the checks of the calls and
//! the API server, so no module can leave out or forge what is added here, and an object that the same request made before a
//! crash is the answer to the `create` that finds its name taken.

use std::sync::Arc;

use gadgetd_core::kube::{Answer, KubeApi, KubeError, Resource};
use gadgetd_kube::{controller::RunRequest, names::is_subdomain};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::{Map, Value, json};
use tokio::sync::OnceCell;

/// The prefix of the annotations that say where an object comes from.
const PROVENANCE_PREFIX: &str = "seccomp.gadget.kinvolk.io/";

/// The annotations that make two requests the same, together with the occasion or the content.
const IDENTITY_KEYS: [&str; 3] = ["trace-uid", "pod", "container"];

/// The calls of one run.
pub(crate) struct Origin {
    api: Arc<dyn KubeApi>,
    annotations: Map<String, Value>,
    /// The namespace of the pod.
    namespace: String,
    /// What controls the pod.
    owner: Option<OwnerReference>,
    /// What controls that in the end.
    top_owner: OnceCell<Option<OwnerReference>>,
}

impl Origin {
    /// For a run that carries out this request through `api`.
    pub(crate) fn of(request: &RunRequest<'_>, api: Arc<dyn KubeApi>) -> Self {
        let values = [
            ("trace", format!("{}/{}", request.trace_namespace, request.trace_name)),
            ("trace-uid", request.trace_uid.to_owned()),
            ("node", request.node.to_owned()),
            ("pod", format!("{}/{}", request.namespace, request.pod)),
            ("container", request.container.unwrap_or_default().to_owned()),
            ("occasion", request.occasion.to_owned()),
        ];
        let annotations =
            values.into_iter().map(|(name, value)| (format!("{PROVENANCE_PREFIX}{name}"), value.into()));
        Self {
            api,
            annotations: annotations.collect(),
            namespace: request.namespace.to_owned(),
            owner: request.owner.cloned(),
            top_owner: OnceCell::new(),
        }
    }

    /// Writes the annotations on an object, over whatever stands there.
    fn annotate(&self, object: &mut Value) {
        let annotations = field(field(object, "metadata"), "annotations");
        if let Some(annotations) = annotations.as_object_mut() {
            annotations.retain(|key, _| !key.starts_with(PROVENANCE_PREFIX));
            annotations.extend(self.annotations.clone());
        }
    }

    /// The owner of an object in a namespace: an owner must be in the namespace of what it owns.
    async fn owner(&self, namespace: Option<&str>) -> Result<Option<&OwnerReference>, KubeError> {
        let Some(owner) = self.owner.as_ref().filter(|_| namespace == Some(self.namespace.as_str())) else {
            return Ok(None);
        };
        let top = self.top_owner.get_or_try_init(|| top_owner(&*self.api, &self.namespace, owner)).await?;
        Ok(top.as_ref())
    }

    /// Whether an object that is there was made by the same request: of the same Trace about the same container, on the
    /// same occasion or with the same content.
    fn is_from_same_request(&self, found: &Value, wanted: &Value) -> bool {
        let same = |name: &str| {
            let key = format!("{PROVENANCE_PREFIX}{name}");
            let has = found.pointer("/metadata/annotations").and_then(|annotations| annotations.get(&key));
            has.is_some() && has == self.annotations.get(&key)
        };
        IDENTITY_KEYS.into_iter().all(same) && (same("occasion") || has_content(found, wanted))
    }

    async fn create_with_origin(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        mut object: Value,
    ) -> Result<Value, KubeError> {
        self.annotate(&mut object);
        let metadata = field(&mut object, "metadata");
        field(metadata, "labels")["app.kubernetes.io/managed-by"] = "gadgetd".into();
        if let Some(owner) = self.owner(namespace).await? {
            metadata["ownerReferences"] = json!([owner]);
        }
        let name = metadata["name"].as_str().unwrap_or_default().to_owned();
        let taken = match self.api.create(resource, namespace, object.clone()).await {
            Err(KubeError::Conflict(taken)) => taken,
            answer => return answer,
        };
        match self.api.get(resource, namespace, &name).await {
            Ok(found) if self.is_from_same_request(&found, &object) => Ok(found),
            // It went away in between: the name is free.
            Err(KubeError::NotFound(_)) => self.api.create(resource, namespace, object).await,
            Err(error @ (KubeError::Unavailable(_) | KubeError::Deadline(_))) => Err(error),
            // Somebody else's, or not for us to see.
            _ => Err(KubeError::Conflict(taken)),
        }
    }
}

impl KubeApi for Origin {
    fn discover<'a>(&'a self, group: &'a str, plural: &'a str) -> Answer<'a, Vec<Resource>> {
        self.api.discover(group, plural)
    }

    fn get<'a>(
        &'a self,
        resource: &'a Resource,
        namespace: Option<&'a str>,
        name: &'a str,
    ) -> Answer<'a, Value> {
        self.api.get(resource, namespace, name)
    }

    fn list<'a>(
        &'a self,
        resource: &'a Resource,
        namespace: Option<&'a str>,
        labels: &'a str,
    ) -> Answer<'a, Vec<Value>> {
        self.api.list(resource, namespace, labels)
    }

    fn create<'a>(
        &'a self,
        resource: &'a Resource,
        namespace: Option<&'a str>,
        object: Value,
    ) -> Answer<'a, Value> {
        Box::pin(self.create_with_origin(resource, namespace, object))
    }

    /// Nothing but the annotations: the object may be somebody else's, and would go with an owner of ours.
    fn apply<'a>(
        &'a self,
        resource: &'a Resource,
        namespace: Option<&'a str>,
        mut object: Value,
    ) -> Answer<'a, Value> {
        self.annotate(&mut object);
        self.api.apply(resource, namespace, object)
    }
}

/// A field that is an object, made one if it is none.
fn field<'a>(object: &'a mut Value, name: &str) -> &'a mut Value {
    let field = &mut object[name];
    if !field.is_object() {
        *field = json!({});
    }
    field
}

/// What controls a pod in the end: the Deployment of its `ReplicaSet`, the `CronJob` of its Job. What is in
/// between comes and goes, and would take the object with it.
async fn top_owner(
    api: &dyn KubeApi,
    namespace: &str,
    owner: &OwnerReference,
) -> Result<Option<OwnerReference>, KubeError> {
    let plural = match (owner.api_version.as_str(), owner.kind.as_str()) {
        ("apps/v1", "ReplicaSet") => "replicasets",
        ("batch/v1", "Job") => "jobs",
        _ => return Ok(Some(without_control(owner))),
    };
    // To the API server it is any text, and here it would be a path.
    if !is_subdomain(&owner.name) {
        return Ok(None);
    }
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
        Err(error @ (KubeError::Unavailable(_) | KubeError::Deadline(_))) => return Err(error),
        // It is gone, or not ours to read: an object without an owner stays.
        Err(_) => return Ok(None),
    };
    let owners = object.pointer("/metadata/ownerReferences").cloned().unwrap_or_default();
    let owners: Vec<OwnerReference> = serde_json::from_value(owners).unwrap_or_default();
    let controller = owners.iter().find(|o| o.controller == Some(true));
    Ok(Some(without_control(controller.unwrap_or(owner))))
}

/// An owner, without the claim to control the object and without holding up its owner's deletion.
fn without_control(owner: &OwnerReference) -> OwnerReference {
    OwnerReference { controller: None, block_owner_deletion: None, ..owner.clone() }
}

/// Whether an object has what is wanted of it, metadata aside. The API server may have added defaults.
fn has_content(found: &Value, wanted: &Value) -> bool {
    let wanted = wanted.as_object().into_iter().flatten();
    wanted.filter(|(name, _)| *name != "metadata").all(|(name, wanted)| covers(&found[name], wanted))
}

fn covers(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => {
            wanted.iter().all(|(name, wanted)| found.get(name).is_some_and(|found| covers(found, wanted)))
        }
        (Value::Array(found), Value::Array(wanted)) => {
            found.len() == wanted.len() && found.iter().zip(wanted).all(|(f, w)| covers(f, w))
        }
        _ => found == wanted,
    }
}

#[cfg(test)]
mod tests {
    use gadgetd_kube::controller::ObjectTarget;

    use super::*;

    /// An API server that takes everything.
    struct Echo;

    impl KubeApi for Echo {
        fn discover<'a>(&'a self, _: &'a str, _: &'a str) -> Answer<'a, Vec<Resource>> {
            Box::pin(async { Ok(Vec::new()) })
        }

        fn get<'a>(&'a self, _: &'a Resource, _: Option<&'a str>, name: &'a str) -> Answer<'a, Value> {
            Box::pin(async { Err(KubeError::NotFound(name.into())) })
        }

        fn list<'a>(&'a self, _: &'a Resource, _: Option<&'a str>, _: &'a str) -> Answer<'a, Vec<Value>> {
            Box::pin(async { Ok(Vec::new()) })
        }

        fn create<'a>(&'a self, _: &'a Resource, _: Option<&'a str>, object: Value) -> Answer<'a, Value> {
            Box::pin(async { Ok(object) })
        }

        fn apply<'a>(&'a self, _: &'a Resource, _: Option<&'a str>, object: Value) -> Answer<'a, Value> {
            Box::pin(async { Ok(object) })
        }
    }

    #[tokio::test]
    async fn what_a_module_says_of_the_origin_does_not_count() {
        let owner = OwnerReference {
            api_version: "apps/v1".into(),
            kind: "DaemonSet".into(),
            name: "cart".into(),
            uid: "u".into(),
            ..OwnerReference::default()
        };
        let request = RunRequest {
            trace_namespace: "gadget",
            trace_name: "t",
            trace_uid: "uid",
            node: "n",
            namespace: "shop",
            pod: "cart-0",
            container: None,
            owner: Some(&owner),
            target: Some(ObjectTarget { namespace: "shop", name: "p" }),
            occasion: "ended-a",
            confined_to: None,
        };
        let origin = Origin::of(&request, Arc::new(Echo));
        let things = Resource {
            group: "g".into(),
            version: "v1".into(),
            plural: "things".into(),
            kind: "Thing".into(),
            namespaced: true,
        };
        let forged = json!({ "metadata": {
            "name": "p",
            "annotations": {
                "own": "stays",
                "seccomp.gadget.kinvolk.io/pod": "bank/safe",
                "seccomp.gadget.kinvolk.io/reviewed": "yes",
            },
            "labels": { "own": "stays", "app.kubernetes.io/managed-by": "me" },
        } });
        let annotations = json!({
            "own": "stays",
            "seccomp.gadget.kinvolk.io/trace": "gadget/t",
            "seccomp.gadget.kinvolk.io/trace-uid": "uid",
            "seccomp.gadget.kinvolk.io/node": "n",
            "seccomp.gadget.kinvolk.io/pod": "shop/cart-0",
            "seccomp.gadget.kinvolk.io/container": "",
            "seccomp.gadget.kinvolk.io/occasion": "ended-a",
        });
        let made = origin.create(&things, Some("shop"), forged.clone()).await.unwrap();
        assert_eq!(made["metadata"]["annotations"], annotations);
        let labels = json!({ "own": "stays", "app.kubernetes.io/managed-by": "gadgetd" });
        assert_eq!(made["metadata"]["labels"], labels);
        assert_eq!(made["metadata"]["ownerReferences"][0]["name"], "cart");
        // It may be somebody else's, who would lose it with the owner.
        let applied = origin.apply(&things, Some("shop"), forged.clone()).await.unwrap();
        assert_eq!(applied["metadata"]["annotations"], annotations);
        assert_eq!(applied["metadata"]["labels"], forged["metadata"]["labels"]);
        assert_eq!(applied["metadata"]["ownerReferences"], Value::Null);
    }

    #[test]
    fn content_is_the_same_whatever_the_api_server_added() {
        let wanted = json!({ "metadata": { "name": "p" }, "spec": { "a": 1, "list": [{ "b": 2 }] } });
        let rows = [
            (json!({ "spec": { "a": 1, "list": [{ "b": 2 }] } }), true),
            (
                json!({ "metadata": { "name": "q" }, "spec": { "a": 1, "list": [{ "b": 2, "c": 0 }], "state": "on" }, "status": {} }),
                true,
            ),
            (json!({ "spec": { "a": 2, "list": [{ "b": 2 }] } }), false),
            (json!({ "spec": { "a": 1, "list": [] } }), false),
            (json!({ "spec": { "a": 1, "list": [{ "b": 2 }, { "b": 3 }] } }), false),
            (json!({ "spec": { "list": [{ "b": 2 }] } }), false),
            (json!({}), false),
        ];
        for (found, want) in rows {
            assert_eq!(has_content(&found, &wanted), want, "{found}");
        }
    }
}
