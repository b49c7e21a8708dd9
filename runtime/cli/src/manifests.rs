//! What is installed in a cluster: the manifests of `deploy/base` and the definitions of `deploy/crds`, as they were when
//! this command was built.

use anyhow::{Context as _, Result};
use gadgetd_kube::crds::crds;
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DynamicObject, GroupVersionKind},
};
use serde_json::Value;

use crate::runtime::DAEMON_SET;

/// The namespace that the manifests are written for.
const NAMESPACE: &str = "gadget";

const BEFORE_DEFINITIONS: &str = include_str!("../../../deploy/base/namespace.yaml");

const AFTER_DEFINITIONS: [&str; 3] = [
    include_str!("../../../deploy/base/serviceaccount.yaml"),
    include_str!("../../../deploy/base/rbac.yaml"),
    include_str!("../../../deploy/base/daemonset.yaml"),
];

/// The label of what was made from these manifests, and its value: of other things of the same name it is not.
const MARK: (&str, &str) = ("app.kubernetes.io/managed-by", "kubectl-gadget");

/// Whether an object of the cluster was made from these manifests.
pub(crate) fn is_ours(object: &impl ResourceExt) -> bool {
    object.labels().get(MARK.0).is_some_and(|value| value == MARK.1)
}

/// Every object, in the order in which they are to be made.
pub(crate) fn manifests(namespace: &str, image: Option<&str>) -> Result<Vec<DynamicObject>> {
    let read = |text: &str| serde_saphyr::from_multiple::<Value>(text).context("a manifest is not valid");
    let mut values = read(BEFORE_DEFINITIONS)?;
    for crd in crds() {
        values.push(serde_json::to_value(crd).context("a definition is not valid")?);
    }
    for text in AFTER_DEFINITIONS {
        values.extend(read(text)?);
    }
    let mut objects = Vec::new();
    for mut value in values {
        into_namespace(&mut value, namespace);
        if let Some(image) = image.filter(|_| value["kind"] == "DaemonSet") {
            let containers =
                value.pointer_mut("/spec/template/spec/containers").and_then(Value::as_array_mut);
            let mut containers = containers.into_iter().flatten();
            let container =
                containers.find(|c| c["name"] == DAEMON_SET).context("the DaemonSet has no gadgetd")?;
            container["image"] = image.into();
        }
        objects.push(serde_json::from_value(value).context("a manifest is no object")?);
    }
    Ok(objects)
}

/// Changes the namespace in all the places that name it.
fn into_namespace(object: &mut Value, namespace: &str) {
    if object["kind"] == "Namespace" {
        object["metadata"]["name"] = namespace.into();
    }
    let metadata = object.pointer_mut("/metadata/namespace");
    if let Some(found) = metadata.filter(|found| **found == NAMESPACE) {
        *found = namespace.into();
    }
    for subject in object.get_mut("subjects").and_then(Value::as_array_mut).into_iter().flatten() {
        if subject["namespace"] == NAMESPACE {
            subject["namespace"] = namespace.into();
        }
    }
}

/// Where objects of its kind are.
pub(crate) fn api(client: &Client, object: &DynamicObject) -> Result<Api<DynamicObject>> {
    let types = object.types.as_ref().context("a manifest has no kind")?;
    let kind = GroupVersionKind::try_from(types).context("a manifest has no usable kind")?;
    let resource = ApiResource::from_gvk(&kind);
    Ok(match &object.metadata.namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    })
}

/// What an object is, for people: `daemonset gadget/gadgetd`.
pub(crate) fn name(object: &DynamicObject) -> String {
    let name = object.metadata.name.as_deref().unwrap_or_default();
    match &object.metadata.namespace {
        Some(namespace) => format!("{} {namespace}/{name}", kind(object).to_lowercase()),
        None => format!("{} {name}", kind(object).to_lowercase()),
    }
}

/// What people type to look at it.
pub(crate) fn describe(object: &DynamicObject) -> String {
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let namespace = object.metadata.namespace.iter().map(|namespace| format!(" -n {namespace}"));
    format!("kubectl describe {} {name}{}", kind(object).to_lowercase(), namespace.collect::<String>())
}

/// The kind of an object.
pub(crate) fn kind(object: &DynamicObject) -> &str {
    object.types.as_ref().map_or("", |types| &types.kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(objects: &[DynamicObject]) -> Vec<String> {
        objects.iter().map(name).collect()
    }

    #[test]
    fn everything_of_the_kustomization_is_installed_in_an_order_that_works() {
        let objects = manifests("gadget", None).unwrap();
        let found = names(&objects);
        let place =
            |name: &str| found.iter().position(|n| n == name).unwrap_or_else(|| panic!("{name}: {found:?}"));
        assert_eq!(place("namespace gadget"), 0);
        let order = [
            place("customresourcedefinition traces.gadget.kinvolk.io"),
            place("serviceaccount gadget/gadgetd"),
            place("clusterrole gadgetd"),
            place("clusterrolebinding gadgetd"),
            place("daemonset gadget/gadgetd"),
        ];
        assert!(order.is_sorted(), "{found:?}");
        // What is deleted later is known by its mark.
        assert!(is_ours(&objects[0]) && !is_ours(&k8s_openapi::api::core::v1::Namespace::default()));
        assert_eq!(describe(&objects[0]), "kubectl describe namespace gadget");
        assert_eq!(describe(&objects[order[4]]), "kubectl describe daemonset gadgetd -n gadget");
        // Every file that `kubectl apply --kustomize deploy/base` reads is known here.
        let base = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/base");
        let kustomization = std::fs::read_to_string(base.join("kustomization.yaml")).unwrap();
        let kustomization: Value = serde_saphyr::from_str(&kustomization).unwrap();
        for resource in kustomization["resources"].as_array().unwrap() {
            let resource = resource.as_str().unwrap();
            let Ok(text) = std::fs::read_to_string(base.join(resource)) else {
                assert_eq!(resource, "../crds");
                continue;
            };
            for object in serde_saphyr::from_multiple::<DynamicObject>(&text).unwrap() {
                place(&name(&object));
            }
        }
    }

    #[test]
    fn another_namespace_and_image_are_everywhere() {
        let objects = manifests("elsewhere", Some("registry.example/gadgetd:x")).unwrap();
        let text = serde_json::to_string(&objects).unwrap();
        assert!(!text.contains("\"namespace\":\"gadget\"") && !text.contains("ghcr.io"), "{text}");
        assert_eq!(names(&objects)[0], "namespace elsewhere");
        assert!(text.contains("\"image\":\"registry.example/gadgetd:x\""));
        assert!(names(&objects).contains(&"daemonset elsewhere/gadgetd".to_owned()));
    }
}
