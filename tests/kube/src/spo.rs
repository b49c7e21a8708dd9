//! Definitions of `SeccompProfile`: those of real releases of the Security Profiles Operator where they are at hand,
//! and our own, which say the same of the fields that are written.

use std::{collections::BTreeMap, env, fs, path::PathBuf};

use anyhow::{Context as _, Result};
pub use gadgetd_core::spo::{GROUP, KIND, PLURAL};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Value, json};

/// A release of the operator, as far as its `SeccompProfile` is concerned.
#[derive(Clone, Debug)]
pub struct Release {
    /// Its number, and where the definition is from.
    pub name: String,
    /// The definition.
    pub crd: CustomResourceDefinition,
    /// The version that is to be written.
    pub version: &'static str,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
}

/// The environment variable that names the folder with definitions of real releases.
const FOLDER: &str = "GADGETD_SPO_CRDS";

/// The releases whose definitions are at hand, then our own. Where there are none of the first kind it is said; with
/// `CI=true`, which is for machines that have all that can be had, our own have to do as well: a clone has no others.
pub fn releases() -> Result<Vec<Release>> {
    let mut all = Vec::new();
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/spo-crds");
    let folder = env::var_os(FOLDER).map_or(beside, PathBuf::from);
    for (number, version, namespaced) in
        [("0.3.0", "v1alpha1", true), ("0.8.4", "v1beta1", true), ("1.0.0", "v1", false)]
    {
        let file = folder.join(format!("seccompprofile-v{number}.yaml"));
        let Ok(text) = fs::read_to_string(&file) else {
            eprintln!(
                "NOT TESTED with the definition of SPO {number}: there is no {}; set {FOLDER} to a folder with it",
                file.display()
            );
            continue;
        };
        let crd = serde_saphyr::from_str(&text).with_context(|| file.display().to_string())?;
        all.push(Release { name: format!("SPO {number}"), crd, version, namespaced });
    }
    for (versions, namespaced) in
        [(&["v1alpha1"][..], true), (&["v1beta1"], true), (&["v1beta1"], false), (&["v1", "v1beta1"], false)]
    {
        let version = versions[0];
        let scope = if namespaced { "namespaced" } else { "cluster" };
        let name = format!("our own {version}, {scope}");
        all.push(Release { name, crd: own(versions, namespaced)?, version, namespaced });
    }
    Ok(all)
}

/// Our own definition: the fields that a policy can have.
fn own(versions: &[&str], namespaced: bool) -> Result<CustomResourceDefinition> {
    let word = |words: &[&str]| json!({ "type": "string", "enum": words });
    let versions = versions.iter().enumerate().map(|(index, version)| {
        let (sets, errno) = match *version {
            "v1alpha1" => (false, json!({ "type": "string" })),
            "v1beta1" => (versions.len() > 1, json!({ "type": "integer" })),
            _ => (true, json!({ "type": "integer", "minimum": 0 })),
        };
        let list = |items: Value| {
            let mut list = json!({ "type": "array", "items": items });
            if sets {
                list["x-kubernetes-list-type"] = json!("set");
            }
            list
        };
        let action = word(&[
            "SCMP_ACT_KILL",
            "SCMP_ACT_KILL_PROCESS",
            "SCMP_ACT_KILL_THREAD",
            "SCMP_ACT_TRAP",
            "SCMP_ACT_ERRNO",
            "SCMP_ACT_TRACE",
            "SCMP_ACT_ALLOW",
            "SCMP_ACT_LOG",
        ]);
        let comparison = word(&[
            "SCMP_CMP_NE",
            "SCMP_CMP_LT",
            "SCMP_CMP_LE",
            "SCMP_CMP_EQ",
            "SCMP_CMP_GE",
            "SCMP_CMP_GT",
            "SCMP_CMP_MASKED_EQ",
        ]);
        let architecture = word(&[
            "SCMP_ARCH_X86_64",
            "SCMP_ARCH_X86",
            "SCMP_ARCH_X32",
            "SCMP_ARCH_ARM",
            "SCMP_ARCH_AARCH64",
        ]);
        let count = json!({ "type": "integer", "format": "int64", "minimum": 0 });
        let argument = json!({
            "type": "object",
            "required": ["index", "op"],
            "properties": {
                "index": { "type": "integer", "minimum": 0 },
                "op": comparison,
                "value": count,
                "valueTwo": count,
            },
        });
        let rule = json!({
            "type": "object",
            "required": ["action", "names"],
            "properties": {
                "action": action,
                "names": list(json!({ "type": "string" })),
                "errnoRet": errno,
                "args": { "type": "array", "maxItems": 6, "items": argument },
            },
        });
        let spec = json!({
            "type": "object",
            "required": ["defaultAction"],
            "properties": {
                "defaultAction": action,
                "architectures": list(architecture),
                "syscalls": { "type": "array", "items": rule },
            },
        });
        let status = json!({ "type": "object", "properties": { "localhostProfile": { "type": "string" } } });
        json!({
            "name": version,
            "served": true,
            "storage": index == 0,
            "subresources": { "status": {} },
            "schema": { "openAPIV3Schema": {
                "type": "object",
                "properties": { "spec": spec, "status": status },
            } },
        })
    });
    Ok(serde_json::from_value(json!({
        "metadata": { "name": format!("{PLURAL}.{GROUP}") },
        "spec": {
            "group": GROUP,
            "scope": if namespaced { "Namespaced" } else { "Cluster" },
            "preserveUnknownFields": false,
            "names": { "kind": KIND, "plural": PLURAL, "singular": "seccompprofile" },
            "versions": versions.collect::<Vec<_>>(),
        },
    }))?)
}

/// What a schema has against a value: the rules that definitions of this kind use, and fields that it would drop.
pub fn objections(schema: &Value, value: &Value, path: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut object = |text: String| found.push(format!("{path}: {text}"));
    match schema["type"].as_str() {
        Some("object") => {
            let empty = serde_json::Map::new();
            let Some(fields) = value.as_object() else { return vec![format!("{path}: no object")] };
            let known = schema["properties"].as_object().unwrap_or(&empty);
            for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                if !fields.contains_key(name) {
                    object(format!("{name} is missing"));
                }
            }
            for (name, value) in fields {
                match known.get(name) {
                    Some(schema) => found.extend(objections(schema, value, &format!("{path}.{name}"))),
                    None => found.push(format!("{path}: there is no field {name}")),
                }
            }
        }
        Some("array") => {
            let Some(items) = value.as_array() else { return vec![format!("{path}: no array")] };
            if schema["maxItems"].as_u64().is_some_and(|most| items.len() as u64 > most) {
                object("too many items".into());
            }
            let mut times = BTreeMap::new();
            for item in items {
                *times.entry(item.to_string()).or_insert(0) += 1;
            }
            if schema["x-kubernetes-list-type"] == "set" && times.values().any(|n| *n > 1) {
                object("a set with duplicates".into());
            }
            for (index, item) in items.iter().enumerate() {
                found.extend(objections(&schema["items"], item, &format!("{path}[{index}]")));
            }
        }
        Some("string") if !value.is_string() => object(format!("{value} is no string")),
        Some("integer") if value.as_i64().is_none() => object(format!("{value} is no int64")),
        Some("boolean") if !value.is_boolean() => object(format!("{value} is no boolean")),
        _ => {}
    }
    if let Some(words) = schema["enum"].as_array()
        && !words.contains(value)
    {
        found.push(format!("{path}: {value} is none of {words:?}"));
    }
    if let (Some(least), Some(value)) = (schema["minimum"].as_f64(), value.as_f64())
        && value < least
    {
        found.push(format!("{path}: {value} is less than {least}"));
    }
    found
}
