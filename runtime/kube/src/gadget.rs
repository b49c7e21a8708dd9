//! The `Gadget` object, `gadget.kinvolk.io/v1alpha1`: a module that a cluster has installed, and what it may do there.
#![allow(clippy::doc_markdown)] // The texts of fields are the schema's, which `kubectl explain` prints as they are.

use std::{collections::BTreeSet, time::Duration};

use gadgetd_core::{
    kube::{Grant, Names, Verb},
    spo,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    OutputMode,
    schema::{null_is_empty, words},
};

/// How many calls a run may make where the object does not say: enough to find out what is served, and to try every name
/// that is tried.
pub const CALLS: u32 = 64;

/// The gadgets that are a part of gadgetd.
pub const BUILT_IN: [&str; 2] = ["seccomp", "seccomp-diff"];

/// What is granted to a gadget that is built in, where no object says anything else.
pub fn default_grants(gadget: &str) -> Vec<Grant> {
    match gadget {
        "seccomp" => vec![Grant {
            group: spo::GROUP.into(),
            plural: spo::PLURAL.into(),
            verbs: vec![Verb::Create],
            namespaces: Names::Any,
            names: Names::Any,
        }],
        _ => Vec::new(),
    }
}

/// The output modes in which a gadget that is built in makes sense.
pub fn default_output_modes(gadget: &str) -> Vec<OutputMode> {
    match gadget {
        // What it says is for people and pipelines, and is no profile.
        "seccomp-diff" => vec![OutputMode::Status, OutputMode::Stream],
        _ => OutputMode::ALL.to_vec(),
    }
}

/// In a list of namespaces or names: all of them.
const ALL: &str = "*";

/// A module that is installed, and what it may do.
#[allow(clippy::duplicated_attributes)] // It takes the columns for attributes of one thing.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "gadget.kinvolk.io",
    version = "v1alpha1",
    kind = "Gadget",
    status = "GadgetStatus",
    derive = "Default",
    derive = "PartialEq",
    category = "gadgetd",
    doc = "A module, a gadget or a formatter, that Traces may name; where it comes from, whose signature it must bear, \
           what it may do on the cluster, and what it may use. One that is built in needs no object: an object of its \
           name replaces what it is granted by default.",
    printcolumn(name = "Role", type_ = "string", json_path = ".status.role"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(name = "Digest", type_ = "string", json_path = ".status.digest"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Image", type_ = "string", json_path = ".spec.source.image", priority = "1"),
    printcolumn(name = "Verified-By", type_ = "string", json_path = ".status.verifiedBy", priority = "1"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = "1"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct GadgetSpec {
    /// Where the module comes from.
    pub source: GadgetSource,
    /// Public keys, as PEM, of which one must have signed the module. Built-in modules need none.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub keys: Vec<String>,
    /// Whether the module may run unsigned: whoever can write to the registry then decides what runs on every node, within
    /// the grants, unless the digest is given.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_unsigned: bool,
    /// The output modes in which Traces may use it. Empty: all.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub output_modes: Vec<OutputMode>,
    /// What it may do on the cluster, as far as it asks for it. Empty: nothing.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub grants: Vec<GadgetGrant>,
    /// How many calls to the cluster one run may make, granted or not; 64 where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 10000))]
    pub calls: Option<u32>,
    /// What it may use.
    #[serde(default, skip_serializing_if = "GadgetLimits::is_default")]
    pub limits: GadgetLimits,
}

/// Where a module comes from: one of these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GadgetSource {
    /// The name of a module that is a part of gadgetd, such as seccomp.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub built_in: Option<String>,
    /// An OCI artifact with its digest: registry/repository@sha256:…, with or without a tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,
}

words! {
    /// What may be done with objects.
    GrantVerb: "What may be done; to discover the kind goes with any of them." {
        /// Read one.
        Get,
        /// Read several.
        List,
        /// Make one that is not there.
        Create,
        /// Server-side apply.
        Apply,
    }
}

/// What a module may do with the objects of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GadgetGrant {
    /// The API group; empty for the core group.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253))]
    pub group: String,
    /// The kind, as its plural in paths, such as configmaps. No subresources.
    #[schemars(length(min = 1, max = 63))]
    pub resource: String,
    /// What may be done.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub verbs: Vec<GrantVerb>,
    /// In which namespaces; "*" means all of them, and objects without one. Empty: in none.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
    /// To objects of which names; "*" means all, which List needs. Empty: to none.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
}

/// What a module may use; where something is not given, what gadgetd allows by default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GadgetLimits {
    /// Memory, in MiB, at most 1024; by default 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1024))]
    pub memory_mib: Option<u32>,
    /// The module's own time in one call, in milliseconds, at most 60000; by default 2000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 60000))]
    pub call_milliseconds: Option<u32>,
    /// What one run may emit, in KiB, at most 65536; by default 16384.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65536))]
    pub output_kib: Option<u32>,
}

impl GadgetLimits {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The cap on memory, in bytes.
    pub fn memory(&self) -> Option<usize> {
        self.memory_mib.map(|mib| (mib.clamp(1, 1024) as usize) << 20)
    }

    /// The deadline of one call.
    pub fn call(&self) -> Option<Duration> {
        self.call_milliseconds.map(|ms| Duration::from_millis(ms.clamp(1, 60_000).into()))
    }

    /// The cap on output, in bytes.
    pub fn output(&self) -> Option<usize> {
        self.output_kib.map(|kib| (kib.clamp(1, 65_536) as usize) << 10)
    }
}

/// What has become of it. Written by the runtime alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GadgetStatus {
    /// What the module is: gadget or formatter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Its version, as it says itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What it does, as it says itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// The digest of the component.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The key that verified it, by the beginning of its SHA-256; unsigned where none had to, built-in where it is a part of
    /// gadgetd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified_by: Option<String>,
    /// Its parameters.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub parameters: Vec<GadgetParameter>,
    /// What it asks to do on the cluster. What it is not granted it does without.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub asks: Vec<GadgetAsk>,
    /// Where it can run, and where not and why.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["node"]))]
    pub nodes: Vec<GadgetNode>,
    /// Ready: it can run on every node that looked at it.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// A parameter of a module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GadgetParameter {
    /// Its name.
    pub name: String,
    /// What it takes.
    pub takes: String,
    /// What it is where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// What it is for.
    pub help: String,
}

/// What a module asks to do with the objects of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GadgetAsk {
    /// The API group; empty for the core group.
    #[serde(default)]
    pub group: String,
    /// The kind, as its plural in paths.
    pub resource: String,
    /// What it asks to do.
    #[serde(default, deserialize_with = "null_is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub verbs: Vec<GrantVerb>,
}

/// A module on one node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GadgetNode {
    /// The node.
    pub node: String,
    /// The generation of the object that this is about.
    #[serde(default)]
    pub generation: i64,
    /// Whether it can run there.
    #[serde(default)]
    pub ready: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Why an object cannot mean anything. Admission does not check all of it: an API server may be too old to.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs)] // Each says it itself.
pub enum GadgetError {
    #[error("spec.source must have one of builtIn and image")]
    Source,
    #[error(
        "spec.source.image {0:?} has no digest: write it as registry/repository@sha256:…, which `gadgetd module push` prints"
    )]
    NoDigest(String),
    #[error(
        "spec.keys is empty: give the public key that must have signed the module, or set spec.allowUnsigned"
    )]
    NoKeys,
    #[error(
        "spec.grants[{index}].resource {resource:?} is no plural of a kind; subresources cannot be granted"
    )]
    Resource { index: usize, resource: String },
    #[error("spec.grants[{index}].verbs has {verb:?}: there are Get, List, Create and Apply")]
    Verb { index: usize, verb: String },
    #[error("spec.outputModes has {0:?}: there are Status, Stream, File and ExternalResource")]
    OutputMode(String),
}

/// Where a module is to come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source<'a> {
    /// It is a part of gadgetd.
    BuiltIn(&'a str),
    /// An OCI artifact, with its digest.
    Image(&'a str),
}

impl GadgetSpec {
    /// Checks what an API server may have let through, and gives the source.
    pub fn source(&self) -> Result<Source<'_>, GadgetError> {
        for (index, grant) in self.grants.iter().enumerate() {
            if grant.resource.contains('/') {
                return Err(GadgetError::Resource { index, resource: grant.resource.clone() });
            }
            if let Some(GrantVerb::Other(verb)) =
                grant.verbs.iter().find(|v| matches!(v, GrantVerb::Other(_)))
            {
                return Err(GadgetError::Verb { index, verb: verb.clone() });
            }
        }
        if let Some(OutputMode::Other(mode)) =
            self.output_modes.iter().find(|m| matches!(m, OutputMode::Other(_)))
        {
            return Err(GadgetError::OutputMode(mode.clone()));
        }
        match (self.source.built_in.as_deref(), self.source.image.as_deref()) {
            (Some(name), None) => Ok(Source::BuiltIn(name)),
            (None, Some(image)) if !image.contains("@sha256:") => {
                Err(GadgetError::NoDigest(image.to_owned()))
            }
            (None, Some(_)) if self.keys.is_empty() && !self.allow_unsigned => Err(GadgetError::NoKeys),
            (None, Some(image)) => Ok(Source::Image(image)),
            _ => Err(GadgetError::Source),
        }
    }

    /// What it grants. A verb of another release grants nothing.
    pub fn grants(&self) -> Vec<Grant> {
        let names = |given: &[String]| {
            if given.iter().any(|name| name == ALL) { Names::Any } else { Names::These(given.to_vec()) }
        };
        let grant = |grant: &GadgetGrant| Grant {
            group: grant.group.clone(),
            plural: grant.resource.clone(),
            verbs: grant.verbs.iter().filter_map(GrantVerb::verb).collect(),
            namespaces: names(&grant.namespaces),
            names: names(&grant.names),
        };
        self.grants.iter().map(grant).collect()
    }

    /// How many calls a run may make.
    pub fn calls(&self) -> u32 {
        self.calls.unwrap_or(CALLS).min(10_000)
    }

    /// The output modes in which it may be used.
    pub fn output_modes(&self) -> Vec<OutputMode> {
        let all = || OutputMode::ALL.to_vec();
        if self.output_modes.is_empty() { all() } else { self.output_modes.clone() }
    }

    /// Whether another object needs the module loaded anew: what it may do changes without that.
    pub fn is_same_module(&self, other: &Self) -> bool {
        let keys = |spec: &Self| spec.keys.iter().cloned().collect::<BTreeSet<_>>();
        self.source == other.source
            && keys(self) == keys(other)
            && self.allow_unsigned == other.allow_unsigned
            && self.limits == other.limits
    }
}

impl GrantVerb {
    fn verb(&self) -> Option<Verb> {
        match self {
            Self::Get => Some(Verb::Get),
            Self::List => Some(Verb::List),
            Self::Create => Some(Verb::Create),
            Self::Apply => Some(Verb::Apply),
            Self::Other(_) => None,
        }
    }
}

impl From<Verb> for GrantVerb {
    fn from(verb: Verb) -> Self {
        match verb {
            Verb::Get => Self::Get,
            Verb::List => Self::List,
            Verb::Create => Self::Create,
            Verb::Apply => Self::Apply,
            Verb::Discover => Self::Other("Discover".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(image: &str) -> GadgetSpec {
        let source = GadgetSource { image: Some(image.into()), built_in: None };
        GadgetSpec { source, keys: vec!["key".into()], ..GadgetSpec::default() }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_the_field() {
        const PINNED: &str = "registry.example/count@sha256:00";
        let grant = |resource: &str, verb| GadgetGrant {
            resource: resource.into(),
            verbs: vec![verb],
            ..GadgetGrant::default()
        };
        let good = image(PINNED);
        assert_eq!(good.source(), Ok(Source::Image(PINNED)));
        let built_in = GadgetSource { built_in: Some("seccomp".into()), image: None };
        let built_in = GadgetSpec { source: built_in, ..GadgetSpec::default() };
        assert_eq!(built_in.source(), Ok(Source::BuiltIn("seccomp")));
        let both = GadgetSource { built_in: Some("oci".into()), ..good.source.clone() };
        let rows = [
            (GadgetSpec::default(), "one of builtIn and image"),
            (GadgetSpec { source: both, ..good.clone() }, "one of builtIn and image"),
            (image("registry.example/count:1"), "has no digest"),
            (GadgetSpec { keys: Vec::new(), ..good.clone() }, "spec.keys is empty"),
            (
                GadgetSpec { grants: vec![grant("pods/exec", GrantVerb::Create)], ..good.clone() },
                "spec.grants[0].resource \"pods/exec\"",
            ),
            (
                GadgetSpec { grants: vec![grant("pods", GrantVerb::Other("Delete".into()))], ..good.clone() },
                "spec.grants[0].verbs has \"Delete\"",
            ),
            (
                GadgetSpec { output_modes: vec![OutputMode::Other("Mail".into())], ..good.clone() },
                "spec.outputModes has \"Mail\"",
            ),
        ];
        for (spec, says) in rows {
            let text = spec.source().expect_err(says).to_string();
            assert!(text.contains(says), "no {says:?} in {text:?}");
        }
        let unsigned = GadgetSpec { keys: Vec::new(), allow_unsigned: true, ..good };
        assert_eq!(unsigned.source(), Ok(Source::Image(PINNED)));
    }

    #[test]
    fn nothing_is_granted_that_is_not_written() {
        let grant =
            GadgetGrant { resource: "pods".into(), verbs: vec![GrantVerb::Get], ..GadgetGrant::default() };
        let all = vec!["shop".to_owned(), "*".to_owned()];
        let spec = GadgetSpec {
            grants: vec![grant.clone(), GadgetGrant { namespaces: all, names: vec!["a".into()], ..grant }],
            ..GadgetSpec::default()
        };
        let [none, some] = <[Grant; 2]>::try_from(spec.grants()).unwrap();
        assert_eq!((none.namespaces, none.names), (Names::These(vec![]), Names::These(vec![])));
        assert_eq!((some.namespaces, some.names), (Names::Any, Names::These(vec!["a".into()])));
        assert_eq!((GadgetSpec::default().grants(), spec.calls()), (vec![], 64));
    }

    #[test]
    fn what_it_may_do_changes_without_loading_it_again() {
        let before = image("registry.example/count@sha256:00");
        let granted = GadgetSpec { grants: vec![GadgetGrant::default()], calls: Some(1), ..before.clone() };
        assert!(before.is_same_module(&granted));
        let limits = GadgetLimits { memory_mib: Some(128), ..GadgetLimits::default() };
        assert!(!before.is_same_module(&GadgetSpec { limits, ..before.clone() }));
        assert!(!before.is_same_module(&GadgetSpec { keys: vec!["other".into()], ..before.clone() }));
    }
}
