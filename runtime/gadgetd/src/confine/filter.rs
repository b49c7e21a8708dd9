//! From a profile to a BPF program, the way runc and crun go through libseccomp.

use std::{collections::HashSet, io, sync::LazyLock};

use gadgetd_core::{
    Abi, Machine, Phases, Syscall,
    oci::{Flag, Profile},
    policy::{Action, Architecture, Argument, Comparison},
};
use libseccomp::{
    ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall, error::SeccompError,
};
use thiserror::Error;

use super::enosys;
use crate::cli::OciRuntime;

/// A filter that is ready to be loaded.
#[derive(Debug)]
pub(super) struct Filter {
    /// The BPF program.
    pub program: Vec<libc::sock_filter>,
    /// Flags of `seccomp(2)`.
    pub flags: libc::c_ulong,
    /// Names of calls that exist, and that this libseccomp does not know: runtimes skip them.
    pub skipped: Vec<String>,
    /// Names that no table of calls has; skipped too.
    pub misspelt: Vec<String>,
}

/// Why no filter can be made of a profile.
#[derive(Debug, Error)]
pub(super) enum Error {
    /// Nothing stands on the other side of such an action here.
    #[error("{field}: the action `{action}` needs {what}, and there is none here")]
    Unsupported { field: String, action: &'static str, what: &'static str },
    #[error("{field}: libseccomp refuses it")]
    Refused {
        field: String,
        #[source]
        source: SeccompError,
    },
    #[error("libseccomp failed")]
    Seccomp(#[from] SeccompError),
    #[error("cannot get the filter from libseccomp")]
    Export(#[source] io::Error),
}

/// `EPERM`: what runtimes return where a profile gives no errno.
const DEFAULT_ERRNO: u16 = 1;

impl Filter {
    pub(super) fn new(profile: &Profile, runtime: OciRuntime) -> Result<Self, Error> {
        let policy = &profile.policy;
        let default = action(policy.default_action, "defaultAction")?;
        let mut context = ScmpFilterContext::new(default)?;
        // The native architecture is always there, whatever the profile lists.
        for (index, architecture) in policy.architectures.iter().enumerate() {
            let field = || format!("architectures[{index}]");
            context
                .add_arch(arch(*architecture))
                .map_err(|source| Error::Refused { field: field(), source })?;
        }
        let (mut skipped, mut misspelt) = (Vec::new(), Vec::new());
        for (index, rule) in policy.rules.iter().enumerate() {
            let action = action(rule.action, &format!("syscalls[{index}].action"))?;
            if action == default {
                continue; // libseccomp takes no such rule, and it would change nothing.
            }
            for name in &rule.names {
                let Ok(call) = ScmpSyscall::from_name(name) else {
                    if NAMES.contains(name.as_str()) { &mut skipped } else { &mut misspelt }
                        .push(name.clone());
                    continue;
                };
                for conditions in conditions(&rule.args) {
                    context.add_rule_conditional(action, call, &conditions).map_err(|source| {
                        Error::Refused { field: format!("syscalls[{index}].names: {name}"), source }
                    })?;
                }
            }
        }
        let mut program = match runtime {
            OciRuntime::Runc => enosys::stub(policy),
            OciRuntime::Crun => Vec::new(),
        };
        program.extend(gadgetd_notify::export(&context).map_err(Error::Export)?);
        Ok(Self { program, flags: flags(&profile.flags), skipped, misspelt })
    }
}

/// Every name in every table of calls that gadgetd has.
static NAMES: LazyLock<HashSet<&'static str>> = LazyLock::new(|| {
    // The tables, and Arm's own calls, which are in none.
    let numbers = (0..1024).chain(0xf_0000..0xf_0010);
    let calls = Abi::ALL.into_iter().flat_map(|abi| numbers.clone().map(move |number| (abi, number)));
    let calls = calls.map(|(abi, number)| Syscall { abi, number, phases: Phases::APPLICATION });
    calls.flat_map(|c| [c.name(Machine::X86_64), c.name(Machine::Aarch64)]).flatten().collect()
});

/// The rules that a list of conditions stands for. All must hold; but where one argument is named
/// twice, each stands for itself, as in runc and crun.
fn conditions(args: &[Argument]) -> Vec<Vec<ScmpArgCompare>> {
    let mut seen = HashSet::new();
    let compared = args.iter().map(|a| match a.op {
        Comparison::NotEqual => ScmpArgCompare::new(a.index, ScmpCompareOp::NotEqual, a.value),
        Comparison::Less => ScmpArgCompare::new(a.index, ScmpCompareOp::Less, a.value),
        Comparison::LessOrEqual => ScmpArgCompare::new(a.index, ScmpCompareOp::LessOrEqual, a.value),
        Comparison::Equal => ScmpArgCompare::new(a.index, ScmpCompareOp::Equal, a.value),
        Comparison::GreaterOrEqual => ScmpArgCompare::new(a.index, ScmpCompareOp::GreaterEqual, a.value),
        Comparison::Greater => ScmpArgCompare::new(a.index, ScmpCompareOp::Greater, a.value),
        Comparison::MaskedEqual => {
            ScmpArgCompare::new(a.index, ScmpCompareOp::MaskedEqual(a.value), a.value_two)
        }
    });
    if args.iter().all(|a| seen.insert(a.index)) {
        vec![compared.collect()]
    } else {
        compared.map(|condition| vec![condition]).collect()
    }
}

fn action(action: Action, field: &str) -> Result<ScmpAction, Error> {
    let unsupported = |action, what| Err(Error::Unsupported { field: field.to_owned(), action, what });
    Ok(match action {
        Action::Allow => ScmpAction::Allow,
        Action::Errno(errno) => ScmpAction::Errno(errno.unwrap_or(DEFAULT_ERRNO).into()),
        Action::KillProcess => ScmpAction::KillProcess,
        Action::KillThread => ScmpAction::KillThread,
        Action::Trap => ScmpAction::Trap,
        Action::Log => ScmpAction::Log,
        Action::Trace(_) => return unsupported("SCMP_ACT_TRACE", "a tracer that decides"),
        Action::Notify => return unsupported("SCMP_ACT_NOTIFY", "an agent that decides"),
    })
}

pub(super) fn arch(architecture: Architecture) -> ScmpArch {
    match architecture {
        Architecture::X86_64 => ScmpArch::X8664,
        Architecture::X86 => ScmpArch::X86,
        Architecture::X32 => ScmpArch::X32,
        Architecture::Aarch64 => ScmpArch::Aarch64,
        Architecture::Arm => ScmpArch::Arm,
    }
}

fn flags(flags: &[Flag]) -> libc::c_ulong {
    let bits = flags.iter().map(|flag| match flag {
        Flag::Tsync => libc::SECCOMP_FILTER_FLAG_TSYNC,
        Flag::Log => libc::SECCOMP_FILTER_FLAG_LOG,
        Flag::SpecAllow => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
        // It is about the listener of SCMP_ACT_NOTIFY; without one it says nothing.
        Flag::WaitKillableRecv => 0,
    });
    bits.fold(0, |all, bit| all | bit)
}

#[cfg(test)]
mod tests {
    use gadgetd_core::oci;

    use super::*;

    fn filter(json: &str) -> Result<Filter, Error> {
        Filter::new(&oci::parse(json.as_bytes()).expect(json), OciRuntime::Runc)
    }

    #[test]
    fn unknown_names_are_skipped_and_told_apart() {
        let json = r#"{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
            "syscalls": [{"names": ["read", "waitpid", "opne"], "action": "SCMP_ACT_ALLOW"}]}"#;
        let filter = filter(json).unwrap();
        assert_eq!(filter.misspelt, ["opne"]);
        assert!(filter.skipped.is_empty(), "`waitpid` is a call of i386: {:?}", filter.skipped);
        assert!(!filter.program.is_empty());
    }

    #[test]
    fn the_field_that_is_not_supported_is_named() {
        for (json, field) in [
            (r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#, "defaultAction"),
            (
                r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                {"names": ["read"], "action": "SCMP_ACT_LOG"}, {"names": ["write"], "action": "SCMP_ACT_TRACE"}]}"#,
                "syscalls[1].action",
            ),
        ] {
            let error = filter(json).expect_err(json).to_string();
            assert!(error.starts_with(field), "{error}");
        }
    }

    #[test]
    fn an_argument_named_twice_makes_two_rules() {
        let args = |indexes: &[u32]| {
            let args =
                indexes.iter().map(|i| Argument { index: *i, op: Comparison::Equal, value: 1, value_two: 0 });
            conditions(&args.collect::<Vec<_>>()).iter().map(Vec::len).collect::<Vec<_>>()
        };
        assert_eq!(args(&[]), [0]);
        assert_eq!(args(&[0, 1]), [2]);
        assert_eq!(args(&[0, 1, 0]), [1, 1, 1]);
    }
}
