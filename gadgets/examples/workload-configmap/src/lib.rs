//! Example: a gadget that keeps, for each workload, a `ConfigMap` with the system calls of its containers.
//!
//! A capture knows its pod, and not what the pod belongs to; [`workload`] reads that from the pod's name. What other replicas and
//! earlier recordings have found stays: the `ConfigMap` is read, joined with what is new, and applied.
//!
//! ```yaml
//! apiVersion: v1
//! kind: ConfigMap
//! metadata: {name: cart-syscalls, namespace: shop}
//! data:
//!   app: |-
//!     close
//!     read
//! ```
//!
//! Where the run asks for an object (`outputMode: ExternalResource`), it is that one; otherwise the gadget says what it wrote.
//!
//! ```
//! use example_workload_configmap::workload;
//!
//! assert_eq!(workload("cart-6d4b75cb6d-x2xzq"), "cart"); // of a Deployment
//! assert_eq!(workload("cart-0"), "cart"); // of a StatefulSet
//! assert_eq!(workload("cart"), "cart");
//! ```

use std::collections::{BTreeMap, BTreeSet};

use gadget_sdk::{
    Capture, Description, Document, Error, Gadget, MadeObject, Module, Run,
    kube::{self, Kind},
    log,
    module::Verb,
};
use serde_json::{Value, json};

gadget_sdk::export_gadget!(WorkloadConfigMap);

/// The gadget.
pub struct WorkloadConfigMap;

impl Module for WorkloadConfigMap {
    fn describe() -> Description {
        let summary = "Keeps the system calls of each workload in a ConfigMap.";
        Description::new("workload-configmap", env!("CARGO_PKG_VERSION"), summary).capability(
            "",
            "configmaps",
            &[Verb::Get, Verb::Apply],
        )
    }
}

/// The names of the calls of each container of a workload.
type Calls = BTreeMap<String, BTreeSet<String>>;

impl Gadget for WorkloadConfigMap {
    fn generate(run: &mut Run<'_>, captures: Vec<Capture>) -> Result<(), Error> {
        let target = run.target();
        let mut workloads: BTreeMap<(String, String), (Calls, Vec<&Capture>)> = BTreeMap::new();
        for capture in &captures {
            let container = capture.container();
            let Some(pod) = &container.pod else {
                log::warn("it is of no pod, and so of no workload", &[("container", &container.to_string())]);
                continue;
            };
            let place = match &target {
                Some(target) => (target.namespace.clone(), target.name.clone()),
                None => (pod.namespace.clone(), format!("{}-syscalls", workload(&pod.name))),
            };
            let (calls, about) = workloads.entry(place).or_default();
            let names = capture.syscalls().iter().filter_map(|call| call.name.clone());
            calls.entry(container.name.clone().unwrap_or_else(|| "pod".into())).or_default().extend(names);
            about.push(capture);
        }
        if workloads.is_empty() {
            return Err(Error::Empty("no container of a pod was recorded".into()));
        }
        let served = run.kube().discover("", "configmaps")?;
        let kind = served.first().ok_or(kube::Error::NotFound("configmaps".into()))?;
        for ((namespace, name), (calls, about)) in workloads {
            write(run, kind, &namespace, &name, calls)?;
            let text = format!("ConfigMap {namespace}/{name}\n");
            let object = MadeObject { kind: kind.clone(), namespace: Some(namespace), name, usage: None };
            run.made(&object, &about)?;
            if target.is_none() {
                run.emit(&Document::new("text/plain", text), &about)?;
            }
        }
        Ok(())
    }
}

/// Adds these calls to the object. Two nodes that do so at the same moment may undo each other's: the next run adds them
/// again.
fn write(run: &mut Run<'_>, kind: &Kind, namespace: &str, name: &str, mut calls: Calls) -> Result<(), Error> {
    match run.kube().get(kind, Some(namespace), name) {
        Ok(text) => {
            // What cannot be read must not be written over: it is what earlier recordings found.
            let unreadable = |why: String| Error::Other(format!("ConfigMap {namespace}/{name}: {why}"));
            let object: Value = serde_json::from_str(&text).map_err(|error| unreadable(error.to_string()))?;
            for (container, names) in object["data"].as_object().into_iter().flatten() {
                let names = names.as_str().ok_or_else(|| unreadable(format!("{container} is no text")))?;
                calls.entry(container.clone()).or_default().extend(names.lines().map(str::to_owned));
            }
        }
        Err(kube::Error::NotFound(_)) => {}
        Err(error) => return Err(error.into()),
    }
    let lines = |names: BTreeSet<String>| names.into_iter().collect::<Vec<_>>().join("\n");
    let data: BTreeMap<_, _> =
        calls.into_iter().map(|(container, names)| (container, lines(names))).collect();
    let object = json!({
        "apiVersion": kind.api_version(),
        "kind": kind.name,
        "metadata": { "name": name, "namespace": namespace },
        "data": data,
    });
    run.kube().apply(kind, Some(namespace), &object.to_string())?;
    Ok(())
}

/// The workload of a pod of this name, as far as the name tells: what controllers put behind their own name is taken away.
/// A `StatefulSet` counts its pods; a `Deployment` puts a hash and five random characters behind its name, and a `DaemonSet`
/// or `Job` the five alone.
pub fn workload(pod: &str) -> &str {
    let Some((rest, last)) = pod.rsplit_once('-') else { return pod };
    if !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit()) {
        return rest;
    }
    if last.len() != 5 || !is_random(last) {
        return pod;
    }
    match rest.rsplit_once('-') {
        Some((name, hash)) if (6..=10).contains(&hash.len()) && is_random(hash) => name,
        _ => rest,
    }
}

/// Of the characters that Kubernetes makes names of: no vowels, and nothing that looks like one.
fn is_random(text: &str) -> bool {
    text.bytes().all(|b| b"bcdfghjklmnpqrstvwxz2456789".contains(&b))
}
