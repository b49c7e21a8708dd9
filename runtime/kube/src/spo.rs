//! From a seccomp policy to a `SeccompProfile` of the Security Profiles Operator.
//!
//! The operator's releases serve different versions of the object, in different scopes:
//!
//! | release | served | scope | difference |
//! |---|---|---|---|
//! | 0.3 | v1alpha1 | namespaced | `errnoRet` is a string |
//! | 0.4 – 0.8.0 | v1beta1 | namespaced | the same; later the action `SCMP_ACT_NOTIFY` |
//! | 0.8.1 – 0.8.4 | v1beta1 | namespaced | `errnoRet` is an integer |
//! | 0.9 – 0.10 | v1beta1 | cluster | |
//! | 1.0 | v1, v1beta1 | cluster | names and architectures are sets |
//!
//! (From the definitions that the releases ship.) A policy that the object cannot express is refused, never
//! written as something weaker.

use gadgetd_core::policy::{Action, Architecture, Argument, Comparison, Policy, Rule};
use serde_json::{Map, Value, json};
use thiserror::Error;

/// The API group of the object.
pub const GROUP: &str = "security-profiles-operator.x-k8s.io";
/// Its kind.
pub const KIND: &str = "SeccompProfile";
/// Its name in paths.
pub const PLURAL: &str = "seccompprofiles";

/// A version of the object that this release can write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// The oldest, of SPO 0.3.
    V1Alpha1,
    /// Of SPO 0.4 to 1.0.
    V1Beta1,
    /// Of SPO 1.0.
    V1,
}

/// How `errnoRet` is written. Two releases that serve v1beta1 differ, and nothing but their schema says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrnoStyle {
    /// As a string.
    Text,
    /// As an integer.
    Integer,
}

/// Why a policy cannot be written as a `SeccompProfile`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SpoError {
    /// The default action has a value that the object has no field for.
    #[error("a SeccompProfile has no field for the default errno {0}; leave it out, and it is EPERM")]
    DefaultErrno(u16),
    /// An action that this version does not know.
    #[error("a SeccompProfile of version {version} does not know the action {action}")]
    Action {
        /// The version.
        version: &'static str,
        /// The action.
        action: &'static str,
    },
    /// An argument's value is beyond what the object's signed field holds.
    #[error("a SeccompProfile cannot hold the value {0:#x} of an argument: bit 63 is set")]
    Value(u64),
}

impl Version {
    /// The versions, the most wanted first.
    pub const ALL: [Self; 3] = [Self::V1, Self::V1Beta1, Self::V1Alpha1];

    /// The name, as in `apiVersion`.
    pub fn name(self) -> &'static str {
        match self {
            Self::V1Alpha1 => "v1alpha1",
            Self::V1Beta1 => "v1beta1",
            Self::V1 => "v1",
        }
    }

    /// How this version writes `errnoRet`: the likeliest way first.
    pub fn errno_styles(self) -> &'static [ErrnoStyle] {
        match self {
            Self::V1Alpha1 => &[ErrnoStyle::Text],
            Self::V1Beta1 => &[ErrnoStyle::Integer, ErrnoStyle::Text],
            Self::V1 => &[ErrnoStyle::Integer],
        }
    }
}

/// The `spec` of the object.
///
/// ```
/// use gadgetd_core::policy::{Action, Architecture, Policy, Rule};
/// use gadgetd_kube::spo::{ErrnoStyle, Version, spec};
///
/// let rule = Rule { names: vec!["read".into()], action: Action::Allow, args: vec![] };
/// let policy = Policy {
///     default_action: Action::Errno(None),
///     architectures: vec![Architecture::X86_64],
///     rules: vec![rule],
/// };
/// let spec = spec(&policy, Version::V1, ErrnoStyle::Integer).unwrap();
/// assert_eq!(spec["syscalls"][0]["names"][0], "read");
/// ```
pub fn spec(policy: &Policy, version: Version, errno: ErrnoStyle) -> Result<Value, SpoError> {
    // EPERM is what the runtime takes where nothing is said.
    const EPERM: u16 = 1;
    if let Action::Errno(Some(value)) | Action::Trace(Some(value)) = policy.default_action
        && (value != EPERM || matches!(policy.default_action, Action::Trace(_)))
    {
        return Err(SpoError::DefaultErrno(value));
    }
    let rules: Result<Vec<_>, _> = policy.rules.iter().map(|r| rule(r, version, errno)).collect();
    Ok(json!({
        "defaultAction": action(policy.default_action, version)?,
        "architectures": policy.architectures.iter().map(|a| architecture(*a)).collect::<Vec<_>>(),
        "syscalls": rules?,
    }))
}

fn rule(rule: &Rule, version: Version, errno: ErrnoStyle) -> Result<Value, SpoError> {
    let mut object = Map::new();
    object.insert("names".into(), json!(rule.names));
    object.insert("action".into(), json!(action(rule.action, version)?));
    if let Action::Errno(Some(value)) | Action::Trace(Some(value)) = rule.action {
        let value = match errno {
            ErrnoStyle::Text => json!(value.to_string()),
            ErrnoStyle::Integer => json!(value),
        };
        object.insert("errnoRet".into(), value);
    }
    if !rule.args.is_empty() {
        let args: Result<Vec<_>, _> = rule.args.iter().map(argument).collect();
        object.insert("args".into(), Value::Array(args?));
    }
    Ok(Value::Object(object))
}

fn argument(argument: &Argument) -> Result<Value, SpoError> {
    let signed = |value: u64| i64::try_from(value).map_err(|_| SpoError::Value(value));
    let op = match argument.op {
        Comparison::NotEqual => "SCMP_CMP_NE",
        Comparison::Less => "SCMP_CMP_LT",
        Comparison::LessOrEqual => "SCMP_CMP_LE",
        Comparison::Equal => "SCMP_CMP_EQ",
        Comparison::GreaterOrEqual => "SCMP_CMP_GE",
        Comparison::Greater => "SCMP_CMP_GT",
        Comparison::MaskedEqual => "SCMP_CMP_MASKED_EQ",
    };
    let mut object = json!({ "index": argument.index, "op": op, "value": signed(argument.value)? });
    if argument.op == Comparison::MaskedEqual {
        object["valueTwo"] = json!(signed(argument.value_two)?);
    }
    Ok(object)
}

fn action(action: Action, version: Version) -> Result<&'static str, SpoError> {
    Ok(match action {
        Action::Allow => "SCMP_ACT_ALLOW",
        Action::Errno(_) => "SCMP_ACT_ERRNO",
        Action::KillProcess => "SCMP_ACT_KILL_PROCESS",
        Action::KillThread => "SCMP_ACT_KILL_THREAD",
        Action::Trap => "SCMP_ACT_TRAP",
        Action::Log => "SCMP_ACT_LOG",
        Action::Trace(_) => "SCMP_ACT_TRACE",
        // It needs a listener besides, which the neutral policy cannot name.
        Action::Notify => {
            return Err(SpoError::Action { version: version.name(), action: "SCMP_ACT_NOTIFY" });
        }
    })
}

fn architecture(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::X86_64 => "SCMP_ARCH_X86_64",
        Architecture::X86 => "SCMP_ARCH_X86",
        Architecture::X32 => "SCMP_ARCH_X32",
        Architecture::Aarch64 => "SCMP_ARCH_AARCH64",
        Architecture::Arm => "SCMP_ARCH_ARM",
    }
}

/// What to write as `localhostProfile` to use a profile, once the operator has installed it.
///
/// ```
/// use gadgetd_kube::spo::localhost_profile;
///
/// assert_eq!(localhost_profile(Some("shop"), "cart"), "operator/shop/cart.json");
/// assert_eq!(localhost_profile(None, "shop-cart"), "operator/shop-cart.json");
/// ```
pub fn localhost_profile(namespace: Option<&str>, name: &str) -> String {
    match namespace {
        Some(namespace) => format!("operator/{namespace}/{name}.json"),
        None => format!("operator/{name}.json"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(default_action: Action, action: Action, args: Vec<Argument>) -> Policy {
        let rule = Rule { names: vec!["socket".into()], action, args };
        Policy {
            default_action,
            architectures: vec![Architecture::X86_64, Architecture::X32],
            rules: vec![rule],
        }
    }

    #[test]
    fn a_profile_has_what_the_policy_has() {
        let argument = Argument { index: 1, op: Comparison::MaskedEqual, value: 0xff, value_two: 3 };
        let policy = policy(Action::Errno(None), Action::Errno(Some(97)), vec![argument]);
        for (version, style, errno) in [
            (Version::V1Alpha1, ErrnoStyle::Text, json!("97")),
            (Version::V1Beta1, ErrnoStyle::Integer, json!(97)),
            (Version::V1, ErrnoStyle::Integer, json!(97)),
        ] {
            let want = json!({
                "defaultAction": "SCMP_ACT_ERRNO",
                "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X32"],
                "syscalls": [{
                    "names": ["socket"],
                    "action": "SCMP_ACT_ERRNO",
                    "errnoRet": errno,
                    "args": [{"index": 1, "op": "SCMP_CMP_MASKED_EQ", "value": 255, "valueTwo": 3}],
                }],
            });
            assert_eq!(spec(&policy, version, style), Ok(want), "{version:?}");
        }
    }

    #[test]
    fn what_a_profile_cannot_say_is_refused() {
        let high = Argument { index: 0, op: Comparison::Equal, value: 1 << 63, value_two: 0 };
        let notify = SpoError::Action { version: "v1", action: "SCMP_ACT_NOTIFY" };
        let rows = [
            (policy(Action::Errno(Some(38)), Action::Allow, vec![]), Some(SpoError::DefaultErrno(38))),
            (policy(Action::Trace(Some(1)), Action::Allow, vec![]), Some(SpoError::DefaultErrno(1))),
            // EPERM is what it means anyway.
            (policy(Action::Errno(Some(1)), Action::Allow, vec![]), None),
            (policy(Action::Errno(None), Action::Allow, vec![high]), Some(SpoError::Value(1 << 63))),
            (policy(Action::Errno(None), Action::Notify, vec![]), Some(notify.clone())),
            (policy(Action::Notify, Action::Allow, vec![]), Some(notify)),
        ];
        for (policy, want) in rows {
            assert_eq!(spec(&policy, Version::V1, ErrnoStyle::Integer).err(), want, "{policy:?}");
        }
    }
}
