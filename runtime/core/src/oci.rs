//! Seccomp profiles as JSON, as the [OCI runtime specification] has them (`linux.seccomp`).
//!
//! [`parse`] reads a profile into the neutral [`Policy`]. The host uses it to check what a formatter
//! wrote, `gadgetd confine` to enforce what a user gives. A profile that asks for anything that is
//! not understood is refused, never read as something weaker.
//!
//! [OCI runtime specification]: https://github.com/opencontainers/runtime-spec/blob/main/config-linux.md#seccomp

use serde::Deserialize;
use thiserror::Error;

use crate::policy::{Action, Architecture, Argument, Comparison, Policy, PolicyError, Rule};

/// A profile as it is enforced: the policy, and what else the document asks of the filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// What happens to each call.
    pub policy: Policy,
    /// Flags for loading the filter.
    pub flags: Vec<Flag>,
}

/// A flag of `seccomp(2)` that a profile may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[allow(missing_docs)] // The kernel's names.
pub enum Flag {
    #[serde(rename = "SECCOMP_FILTER_FLAG_TSYNC")]
    Tsync,
    #[serde(rename = "SECCOMP_FILTER_FLAG_LOG")]
    Log,
    #[serde(rename = "SECCOMP_FILTER_FLAG_SPEC_ALLOW")]
    SpecAllow,
    #[serde(rename = "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV")]
    WaitKillableRecv,
}

/// Why a profile cannot be read.
#[derive(Debug, Error)]
pub enum ProfileError {
    /// It is no JSON, or a field does not have the type, name or value that the specification gives.
    #[error("{field}: {reason}")]
    Field {
        /// Path of the field, such as `syscalls[2].action`; `.` for the document as a whole.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It is well-formed, and no valid policy.
    #[error(transparent)]
    Policy(#[from] PolicyError),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    default_action: ActionName,
    default_errno_ret: Option<u16>,
    #[serde(default)]
    architectures: Vec<ArchitectureName>,
    #[serde(default)]
    flags: Vec<Flag>,
    listener_path: Option<String>,
    listener_metadata: Option<String>,
    #[serde(default)]
    syscalls: Vec<SyscallRule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SyscallRule {
    names: Vec<String>,
    action: ActionName,
    errno_ret: Option<u16>,
    args: Option<Vec<SyscallArgument>>,
    // What the spec does not name, and profiles in the field carry: a remark, and conditions of container engines. Only an engine can
    // decide those, so there must be none.
    #[serde(rename = "comment")]
    _comment: Option<String>,
    #[serde(rename = "includes")]
    _includes: Option<NoCondition>,
    #[serde(rename = "excludes")]
    _excludes: Option<NoCondition>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoCondition {}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SyscallArgument {
    index: u32,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: Comparison,
}

/// The specification's architectures.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
enum ArchitectureName {
    #[serde(rename = "SCMP_ARCH_X86_64")]
    X86_64,
    #[serde(rename = "SCMP_ARCH_X86")]
    X86,
    #[serde(rename = "SCMP_ARCH_X32")]
    X32,
    #[serde(rename = "SCMP_ARCH_AARCH64")]
    Aarch64,
    #[serde(rename = "SCMP_ARCH_ARM")]
    Arm,
    /// Those of machines on which gadgetd does not run: no call is made by them here.
    #[serde(
        rename = "SCMP_ARCH_MIPS",
        alias = "SCMP_ARCH_MIPS64",
        alias = "SCMP_ARCH_MIPS64N32",
        alias = "SCMP_ARCH_MIPSEL",
        alias = "SCMP_ARCH_MIPSEL64",
        alias = "SCMP_ARCH_MIPSEL64N32",
        alias = "SCMP_ARCH_PARISC",
        alias = "SCMP_ARCH_PARISC64",
        alias = "SCMP_ARCH_PPC",
        alias = "SCMP_ARCH_PPC64",
        alias = "SCMP_ARCH_PPC64LE",
        alias = "SCMP_ARCH_RISCV64",
        alias = "SCMP_ARCH_S390",
        alias = "SCMP_ARCH_S390X",
        alias = "SCMP_ARCH_LOONGARCH64",
        alias = "SCMP_ARCH_M68K",
        alias = "SCMP_ARCH_SH",
        alias = "SCMP_ARCH_SHEB"
    )]
    Foreign,
}

impl ArchitectureName {
    fn here(self) -> Option<Architecture> {
        Some(match self {
            Self::X86_64 => Architecture::X86_64,
            Self::X86 => Architecture::X86,
            Self::X32 => Architecture::X32,
            Self::Aarch64 => Architecture::Aarch64,
            Self::Arm => Architecture::Arm,
            Self::Foreign => return None,
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
enum ActionName {
    #[serde(rename = "SCMP_ACT_ALLOW")]
    Allow,
    #[serde(rename = "SCMP_ACT_ERRNO")]
    Errno,
    #[serde(rename = "SCMP_ACT_KILL_PROCESS")]
    KillProcess,
    #[serde(rename = "SCMP_ACT_KILL_THREAD", alias = "SCMP_ACT_KILL")]
    KillThread,
    #[serde(rename = "SCMP_ACT_TRAP")]
    Trap,
    #[serde(rename = "SCMP_ACT_LOG")]
    Log,
    #[serde(rename = "SCMP_ACT_TRACE")]
    Trace,
    #[serde(rename = "SCMP_ACT_NOTIFY")]
    Notify,
}

/// Reads an OCI seccomp profile.
///
/// # Errors
///
/// [`ProfileError`] names the field and what is wrong with it.
///
/// ```
/// let error = gadgetd_core::oci::parse(br#"{"defaultAction": "SCMP_ACT_ALLOWED"}"#).unwrap_err();
/// assert!(error.to_string().starts_with("defaultAction: unknown variant"));
/// ```
pub fn parse(json: &[u8]) -> Result<Profile, ProfileError> {
    // Keeping track of the path costs as much again, and only an error needs it.
    let document: Document = serde_json::from_slice(json).or_else(|_| with_path(json))?;

    if document.listener_path.is_some() || document.listener_metadata.is_some() {
        return Err(field("listenerPath", "a notification listener is not supported".into()));
    }
    let default_action = action(document.default_action, document.default_errno_ret, "defaultErrnoRet")?;
    let rules = document.syscalls.into_iter().enumerate().map(|(index, rule)| {
        let args = rule.args.unwrap_or_default().into_iter();
        let args =
            args.map(|a| Argument { index: a.index, op: a.op, value: a.value, value_two: a.value_two });
        Ok(Rule {
            names: rule.names,
            action: action(rule.action, rule.errno_ret, &format!("syscalls[{index}].errnoRet"))?,
            args: args.collect(),
        })
    });
    let architectures: Vec<_> =
        document.architectures.into_iter().filter_map(ArchitectureName::here).collect();
    let policy = Policy {
        default_action,
        // The specification leaves the list optional: then the native architecture alone counts.
        architectures: if architectures.is_empty() {
            vec![match crate::Machine::current() {
                crate::Machine::X86_64 => Architecture::X86_64,
                crate::Machine::Aarch64 => Architecture::Aarch64,
            }]
        } else {
            architectures
        },
        rules: rules.collect::<Result<_, ProfileError>>()?,
    };
    Ok(Profile { policy, flags: document.flags })
}

/// Reads the document once more, for an error that names the field.
fn with_path(json: &[u8]) -> Result<Document, ProfileError> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    let document = serde_path_to_error::deserialize(&mut reader)
        .map_err(|e| field(&e.path().to_string(), e.inner().to_string()))?;
    reader.end().map_err(|e| field(".", e.to_string()))?;
    Ok(document)
}

fn field(path: &str, reason: String) -> ProfileError {
    ProfileError::Field { field: path.to_owned(), reason }
}

fn action(name: ActionName, errno: Option<u16>, path: &str) -> Result<Action, ProfileError> {
    Ok(match name {
        ActionName::Errno => Action::Errno(errno),
        ActionName::Trace => Action::Trace(errno),
        _ if errno.is_some() => {
            return Err(field(path, "only SCMP_ACT_ERRNO and SCMP_ACT_TRACE have a return value".into()));
        }
        ActionName::Allow => Action::Allow,
        ActionName::KillProcess => Action::KillProcess,
        ActionName::KillThread => Action::KillThread,
        ActionName::Trap => Action::Trap,
        ActionName::Log => Action::Log,
        ActionName::Notify => Action::Notify,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_of_every_field_is_read() {
        let profile = parse(
            br#"{
              "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38,
              "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
              "flags": ["SECCOMP_FILTER_FLAG_LOG"],
              "syscalls": [
                {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"},
                {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 22, "comment": "no netlink",
                 "args": [{"index": 0, "value": 16, "valueTwo": 0, "op": "SCMP_CMP_EQ"}]}
              ]
            }"#,
        )
        .unwrap();
        let policy = profile.policy;
        assert_eq!(profile.flags, [Flag::Log]);
        assert_eq!(policy.default_action, Action::Errno(Some(38)));
        assert_eq!(policy.architectures, [Architecture::X86_64, Architecture::X86]);
        assert_eq!(policy.rules[0].names, ["read", "write"]);
        assert_eq!(policy.rules[1].action, Action::Errno(Some(22)));
        let argument = Argument { index: 0, op: Comparison::Equal, value: 16, value_two: 0 };
        assert_eq!(policy.rules[1].args, [argument]);
    }

    #[test]
    fn what_other_tools_write_and_runtimes_take_is_read() {
        let profile = parse(
            br#"{
              "defaultAction": "SCMP_ACT_ERRNO",
              "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_PPC64LE", "SCMP_ARCH_MIPSEL64N32"],
              "syscalls": [
                {"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": null, "comment": "", "includes": {}, "excludes": {}}
              ]
            }"#,
        );
        let policy = profile.unwrap().policy;
        assert_eq!(policy.architectures, [Architecture::X86_64]);
        assert_eq!(
            policy.rules,
            [Rule { names: vec!["read".into()], action: Action::Allow, args: Vec::new() }]
        );
    }

    #[test]
    fn the_field_at_fault_is_named() {
        let rows = [
            (
                r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls":
                    [{"names": ["read"], "action": "SCMP_ACT_LOG", "includes": {"caps": ["CAP_BPF"]}}]}"#,
                "syscalls[0].includes.caps",
            ),
            (r#"{"defaultAction": "SCMP_ACT_ALLOW", "archMap": []}"#, "archMap"),
            ("", "."),
            ("[]", "."),
            ("{}", "."),
            (r#"{"defaultAction": 1}"#, "defaultAction"),
            (r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscall": []}"#, "syscall"),
            (r#"{"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1}"#, "defaultErrnoRet"),
            (r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["x86"]}"#, "architectures[0]"),
            (
                r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "allow"}]}"#,
                "syscalls[0].action",
            ),
            (
                r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": "read", "action": "SCMP_ACT_LOG"}]}"#,
                "syscalls[0].names",
            ),
            (r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/x"}"#, "listenerPath"),
            (r#"{"defaultAction": "SCMP_ACT_ALLOW"} x"#, "."),
        ];
        for (json, want) in rows {
            match parse(json.as_bytes()).expect_err(json) {
                ProfileError::Field { field, .. } => assert_eq!(field, want, "{json}"),
                ProfileError::Policy(error) => panic!("{json}: {error}"),
            }
        }
    }
}
