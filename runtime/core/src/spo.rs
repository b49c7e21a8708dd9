//! `SeccompProfile` objects of the [Security Profiles Operator], as far as they say what a policy says.
//!
//! [`parse`] reads one into the neutral [`Policy`]: the host uses it to check what a formatter wrote. As with
//! [`oci`], an object that asks for anything that is not understood is refused, never read as something
//! weaker: a `baseProfileName` would allow more, `disabled` would allow everything.
//!
//! [Security Profiles Operator]: https://github.com/kubernetes-sigs/security-profiles-operator

use serde_json::Value;
use thiserror::Error;

use crate::{
    oci::{self, ProfileError},
    policy::Policy,
};

/// The API group of the object.
pub const GROUP: &str = "security-profiles-operator.x-k8s.io";
/// Its kind.
pub const KIND: &str = "SeccompProfile";
/// Its name in paths.
pub const PLURAL: &str = "seccompprofiles";

/// Why an object cannot be read.
#[derive(Debug, Error)]
pub enum SpoError {
    /// It is an object of another kind.
    #[error("it is no {KIND} of group {GROUP}")]
    Kind,
    /// It has a field that is not understood.
    #[error("{0}: unknown field")]
    Field(String),
    /// Its `spec` is no profile.
    #[error("spec.{0}")]
    Spec(#[from] ProfileError),
}

/// Reads a `SeccompProfile`, in any of the versions that releases serve.
///
/// ```
/// use gadgetd_core::{policy::Action, spo};
///
/// let policy = spo::parse(serde_json::json!({
///     "apiVersion": "security-profiles-operator.x-k8s.io/v1beta1",
///     "kind": "SeccompProfile",
///     "metadata": { "name": "cart" },
///     "spec": {
///         "defaultAction": "SCMP_ACT_ERRNO",
///         "syscalls": [{ "names": ["read"], "action": "SCMP_ACT_ALLOW" }],
///     },
/// }))?;
/// assert_eq!(policy.rules[0].action, Action::Allow);
/// # Ok::<(), spo::SpoError>(())
/// ```
pub fn parse(mut object: Value) -> Result<Policy, SpoError> {
    let group = object["apiVersion"].as_str().and_then(|v| v.split_once('/')).map(|(group, _)| group);
    if group != Some(GROUP) || object["kind"] != KIND {
        return Err(SpoError::Kind);
    }
    let known = ["apiVersion", "kind", "metadata", "spec"];
    if let Some((unknown, _)) =
        object.as_object().into_iter().flatten().find(|(k, _)| !known.contains(&k.as_str()))
    {
        return Err(SpoError::Field(unknown.clone()));
    }
    let mut spec = object["spec"].take();
    // All else is as the OCI specification has it, where these two are known.
    if let Some(unknown) = ["defaultErrnoRet", "flags"].into_iter().find(|field| spec.get(field).is_some()) {
        return Err(SpoError::Field(format!("spec.{unknown}")));
    }
    for rule in spec.get_mut("syscalls").and_then(Value::as_array_mut).into_iter().flatten() {
        // Older versions have a number here that is written as text.
        if let Some(number) = rule.get("errnoRet").and_then(Value::as_str).and_then(|t| t.parse::<u16>().ok())
        {
            rule["errnoRet"] = number.into();
        }
    }
    Ok(oci::parse(spec.to_string().as_bytes())?.policy)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::policy::{Action, Architecture, Argument, Comparison};

    fn object(version: &str, spec: &Value) -> Value {
        json!({
            "apiVersion": format!("{GROUP}/{version}"),
            "kind": KIND,
            "metadata": { "namespace": "shop", "name": "cart" },
            "spec": spec,
        })
    }

    #[test]
    fn every_version_says_the_same() {
        for (version, errno) in [("v1alpha1", json!("97")), ("v1beta1", json!(97)), ("v1", json!(97))] {
            let argument = json!({"index": 1, "op": "SCMP_CMP_MASKED_EQ", "value": 255, "valueTwo": 3});
            let spec = json!({
                "defaultAction": "SCMP_ACT_ERRNO",
                "architectures": ["SCMP_ARCH_X86_64"],
                "syscalls": [{"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno, "args": [argument]}],
            });
            let policy = parse(object(version, &spec)).unwrap();
            assert_eq!(policy.default_action, Action::Errno(None));
            assert_eq!(policy.architectures, [Architecture::X86_64]);
            let [rule] = policy.rules.as_slice() else { panic!("{policy:?}") };
            assert_eq!((rule.names[0].as_str(), rule.action), ("socket", Action::Errno(Some(97))));
            let want = Argument { index: 1, op: Comparison::MaskedEqual, value: 255, value_two: 3 };
            assert_eq!(rule.args, [want]);
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let spec = || json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": []});
        let with = |field: &str, value: Value| {
            let mut spec = spec();
            spec[field] = value;
            object("v1", &spec)
        };
        let mut other_kind = object("v1", &spec());
        other_kind["kind"] = json!("SelinuxProfile");
        let mut other_group = object("v1", &spec());
        other_group["apiVersion"] = json!("v1");
        let mut more = object("v1", &spec());
        more["status"] = json!({});
        let rows = [
            (other_kind, "it is no SeccompProfile of group"),
            (other_group, "it is no SeccompProfile of group"),
            (json!([]), "it is no SeccompProfile of group"),
            (more, "status: unknown field"),
            (with("baseProfileName", json!("runc")), "spec.baseProfileName: unknown field"),
            (with("disabled", json!(true)), "spec.disabled: unknown field"),
            (with("state", json!("Disabled")), "spec.state: unknown field"),
            (with("flags", json!([])), "spec.flags: unknown field"),
            (with("defaultErrnoRet", json!(38)), "spec.defaultErrnoRet: unknown field"),
            (
                with("syscalls", json!([{"names": ["a"], "action": "SCMP_ACT_ERRNO", "errnoRet": "x"}])),
                "spec.syscalls",
            ),
            (object("v1", &json!(null)), "spec."),
        ];
        for (object, want) in rows {
            let error = parse(object.clone()).expect_err(&object.to_string()).to_string();
            assert!(error.starts_with(want), "{error:?} does not begin with {want:?}");
        }
    }
}
