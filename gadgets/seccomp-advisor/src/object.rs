//! The policy as an object of the cluster: a `SeccompProfile` of the Security Profiles Operator.
//!
//! Objects are made, never changed: a profile may be in force. Where a name is taken by something else, a number is put
//! behind it: `cart`, `cart-2`, …. So names that would be the same where profiles have no namespace (`a-b` of
//! namespace `c`, `b` of namespace `c-a`) are kept apart as well.

use gadget_sdk::{
    Capture, Document, Error, MadeObject, ObjectHead, Policy, Run, Target, formatter,
    kube::{self, Kind},
};
use serde_json::Value;

/// The API group of the object.
pub const GROUP: &str = "security-profiles-operator.x-k8s.io";
/// Its name in paths.
pub const PLURAL: &str = "seccompprofiles";

/// The versions that are known to mean what the formatter writes, the most wanted first.
const VERSIONS: [&str; 3] = ["v1", "v1beta1", "v1alpha1"];

/// How many names are tried that differ only in the number behind them.
const TRIES: u32 = 20;

/// The object that a run asks for: its kind as the cluster serves it, and where it goes.
pub(crate) struct Wanted {
    kind: Kind,
    target: Target,
}

impl Wanted {
    /// What the run asks for; `None`: documents.
    pub(crate) fn by(run: &mut Run<'_>) -> Result<Option<Self>, Error> {
        let Some(target) = run.target() else { return Ok(None) };
        let mut served = run.kube().discover(GROUP, PLURAL)?;
        let newest = |version: &&str| served.iter().position(|kind| kind.version == **version);
        if let Some(index) = VERSIONS.iter().find_map(newest) {
            return Ok(Some(Self { kind: served.swap_remove(index), target }));
        }
        Err(Error::Other(match served.first() {
            None => {
                "the cluster has no SeccompProfile objects: install the Security Profiles Operator".into()
            }
            Some(kind) => format!(
                "the cluster's SeccompProfile objects have version {}, which is not known",
                kind.version
            ),
        }))
    }

    /// Makes the object of one policy, and reports it.
    pub(crate) fn make(&self, run: &mut Run<'_>, policy: &Policy, capture: &Capture) -> Result<(), Error> {
        let namespace = self.kind.namespaced.then(|| self.target.namespace.clone());
        let base = match namespace {
            Some(_) => self.target.name.clone(),
            // With a character that no namespace has: `a-b` and `c` are not `a` and `b-c`.
            None => format!("{}.{}", self.target.namespace, self.target.name),
        };
        let mut head = ObjectHead {
            api_version: self.kind.api_version(),
            kind: self.kind.name.clone(),
            namespace: namespace.clone(),
            name: base.clone(),
            attempt: 0,
        };
        let mut number = 1;
        // What the API server had against the last way to write it.
        let mut objection = None;
        let made = loop {
            let Document { body, .. } = match (run.format_object(policy, &[capture], &head), objection) {
                (Err(formatter::Error::Unsupported(_)), Some(text)) => {
                    return Err(Error::Other(format!(
                        "the API server does not accept the SeccompProfile {}: {text}",
                        head.name
                    )));
                }
                (document, _) => document?,
            };
            objection = None;
            match run.kube().create(&self.kind, namespace.as_deref(), &body) {
                Ok(object) => break Some(object),
                // It was made all the same.
                Err(kube::Error::TooLarge(_)) => break None,
                Err(kube::Error::Conflict(_)) if number < TRIES => {
                    number += 1;
                    head.name = format!("{base}-{number}");
                }
                Err(kube::Error::Conflict(_)) => {
                    return Err(Error::Other(format!(
                        "{base} and {} names like it are taken: choose another",
                        TRIES - 1
                    )));
                }
                Err(kube::Error::Invalid(text)) => {
                    head.attempt += 1;
                    objection = Some(text);
                }
                Err(error) => return Err(error.into()),
            }
        };
        let usage = made.as_deref().and_then(installed).unwrap_or_else(|| usual(&head));
        let object = MadeObject { kind: self.kind.clone(), namespace, name: head.name, usage: Some(usage) };
        run.made(&object, &[capture])?;
        Ok(())
    }
}

/// Where the operator says that it has put the profile.
fn installed(object: &str) -> Option<String> {
    let object: Value = serde_json::from_str(object).ok()?;
    let path = object.pointer("/status/localhostProfile")?.as_str()?;
    (!path.is_empty()).then(|| path.to_owned())
}

/// Where the operator will put it.
fn usual(head: &ObjectHead) -> String {
    match &head.namespace {
        Some(namespace) => format!("operator/{namespace}/{}.json", head.name),
        None => format!("operator/{}.json", head.name),
    }
}
