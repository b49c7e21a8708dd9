//! The neutral seccomp policy: what gadgets produce and formatters write down.
//!
//! It has the terms of the OCI runtime specification (and so of libseccomp), without any file
//! format. [`Policy::validate`] is run by the host on every policy that leaves a gadget.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A seccomp policy: what happens to each system call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What happens to a call that no rule matches.
    pub default_action: Action,
    /// The architectures whose calls the rules are about; any other is killed.
    pub architectures: Vec<Architecture>,
    /// The rules.
    pub rules: Vec<Rule>,
}

/// What the kernel does with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// Runs it.
    Allow,
    /// Refuses it with this errno; `None` leaves the choice to the runtime, which takes `EPERM`.
    Errno(Option<u16>),
    /// Ends the process.
    KillProcess,
    /// Ends the thread.
    KillThread,
    /// Sends `SIGSYS`.
    Trap,
    /// Runs it and logs it.
    Log,
    /// Asks a tracer, with this message number.
    Trace(Option<u16>),
    /// Asks the agent behind the filter's notification descriptor.
    Notify,
}

/// A seccomp architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[allow(missing_docs)] // The names are the documentation: libseccomp's, without `SCMP_ARCH_`.
pub enum Architecture {
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
}

/// One rule: these calls, if their arguments fit, get this action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Kernel names of system calls.
    pub names: Vec<String>,
    /// What happens to them.
    pub action: Action,
    /// Conditions on arguments, all of which must hold; none: any arguments.
    pub args: Vec<Argument>,
}

/// A condition on one argument of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Argument {
    /// Which argument, 0 to 5.
    pub index: u32,
    /// How it is compared.
    pub op: Comparison,
    /// With what; for [`Comparison::MaskedEqual`], the mask.
    pub value: u64,
    /// For [`Comparison::MaskedEqual`], what the masked argument must equal; otherwise 0.
    pub value_two: u64,
}

/// How an argument is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[allow(missing_docs)] // libseccomp's names.
pub enum Comparison {
    #[serde(rename = "SCMP_CMP_NE")]
    NotEqual,
    #[serde(rename = "SCMP_CMP_LT")]
    Less,
    #[serde(rename = "SCMP_CMP_LE")]
    LessOrEqual,
    #[serde(rename = "SCMP_CMP_EQ")]
    Equal,
    #[serde(rename = "SCMP_CMP_GE")]
    GreaterOrEqual,
    #[serde(rename = "SCMP_CMP_GT")]
    Greater,
    #[serde(rename = "SCMP_CMP_MASKED_EQ")]
    MaskedEqual,
}

/// What a policy means: the default action, the architectures, and what happens to each name under which conditions.
pub type Canonical<'a> = (Action, BTreeSet<Architecture>, BTreeSet<(&'a str, &'a [Argument], Action)>);

/// Why a policy is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PolicyError {
    /// Nothing can be allowed by it.
    #[error("the policy has no rules")]
    NoRules,
    /// It would apply to no program.
    #[error("the policy names no architecture")]
    NoArchitectures,
    /// An architecture stands twice.
    #[error("architecture {0:?} stands twice in the policy")]
    DuplicateArchitecture(Architecture),
    /// A rule without a call.
    #[error("rule {0} names no system call")]
    NoNames(usize),
    /// A name that cannot be a system call's: empty, too long, or with other characters than `a-z 0-9 _`.
    #[error("rule {rule} has {name:?}, which cannot be the name of a system call")]
    Name {
        /// Index of the rule.
        rule: usize,
        /// The name, cut to 64 characters.
        name: String,
    },
    /// A call that stands in two rules (or twice in one) under the same conditions.
    #[error("system call {0} stands twice in the policy")]
    DuplicateName(String),
    /// An argument number that no call has.
    #[error("rule {rule} has a condition on argument {index}; arguments are 0 to 5")]
    ArgumentIndex {
        /// Index of the rule.
        rule: usize,
        /// The argument.
        index: u32,
    },
    /// An errno that the kernel would not return.
    #[error("errno {0} is beyond the kernel's largest, 4095")]
    Errno(u16),
}

/// The longest name of a system call that is accepted, in bytes. The kernel's longest has 23.
const NAME_MAX: usize = 64;

impl Policy {
    /// Checks what every policy must hold before it may leave the host: it has rules and
    /// architectures, and no empty, impossible or doubled name.
    pub fn validate(&self) -> Result<(), PolicyError> {
        if self.rules.is_empty() {
            return Err(PolicyError::NoRules);
        }
        if self.architectures.is_empty() {
            return Err(PolicyError::NoArchitectures);
        }
        let mut architectures = BTreeSet::new();
        if let Some(twice) = self.architectures.iter().find(|a| !architectures.insert(**a)) {
            return Err(PolicyError::DuplicateArchitecture(*twice));
        }
        self.default_action.validate()?;
        for (index, rule) in self.rules.iter().enumerate() {
            rule.action.validate()?;
            if rule.names.is_empty() {
                return Err(PolicyError::NoNames(index));
            }
            if let Some(bad) = rule.args.iter().find(|a| a.index > 5) {
                return Err(PolicyError::ArgumentIndex { rule: index, index: bad.index });
            }
            for name in &rule.names {
                let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
                if name.is_empty() || name.len() > NAME_MAX || !name.bytes().all(fits) {
                    let name = name.chars().take(NAME_MAX).collect();
                    return Err(PolicyError::Name { rule: index, name });
                }
            }
        }
        // One list of names in ascending order, as gadgets make it, holds none twice. Anything else is worth a set.
        let ascends = |rule: &Rule| rule.names.is_sorted_by(|a, b| a < b);
        if matches!(self.rules.as_slice(), [rule] if ascends(rule)) {
            return Ok(());
        }
        let mut seen = BTreeSet::new();
        let mut names =
            self.rules.iter().flat_map(|rule| rule.names.iter().map(move |name| (name, &rule.args)));
        match names.find(|name| !seen.insert(*name)) {
            Some((twice, _)) => Err(PolicyError::DuplicateName(twice.clone())),
            None => Ok(()),
        }
    }

    /// The same policy in one canonical order, for comparing what two documents mean.
    ///
    /// Rules are split by name, so two documents that group the same decisions differently are equal.
    pub fn canonical(&self) -> Canonical<'_> {
        let rules = self.rules.iter();
        let rules = rules.flat_map(|r| r.names.iter().map(|n| (n.as_str(), r.args.as_slice(), r.action)));
        (self.default_action, self.architectures.iter().copied().collect(), rules.collect())
    }
}

impl Action {
    fn validate(self) -> Result<(), PolicyError> {
        match self {
            Self::Errno(Some(errno)) if errno > 4095 => Err(PolicyError::Errno(errno)),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allow => f.write_str("allow"),
            Self::Errno(None) => f.write_str("refuse"),
            Self::Errno(Some(errno)) => write!(f, "refuse with errno {errno}"),
            Self::KillProcess => f.write_str("kill the process"),
            Self::KillThread => f.write_str("kill the thread"),
            Self::Trap => f.write_str("send SIGSYS"),
            Self::Log => f.write_str("log"),
            Self::Trace(_) => f.write_str("ask the tracer"),
            Self::Notify => f.write_str("ask the agent"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(names: &[&str]) -> Policy {
        let names = names.iter().map(ToString::to_string).collect();
        Policy {
            default_action: Action::Errno(None),
            architectures: vec![Architecture::X86_64],
            rules: vec![Rule { names, action: Action::Allow, args: vec![] }],
        }
    }

    #[test]
    fn a_plain_policy_holds() {
        assert_eq!(policy(&["read", "write", "_llseek", "fadvise64_64"]).validate(), Ok(()));
    }

    #[test]
    fn each_fault_is_named() {
        let change = |f: &dyn Fn(&mut Policy)| {
            let mut p = policy(&["read"]);
            f(&mut p);
            p.validate().expect_err("must be refused")
        };
        assert_eq!(change(&|p| p.rules.clear()), PolicyError::NoRules);
        assert_eq!(change(&|p| p.architectures.clear()), PolicyError::NoArchitectures);
        assert_eq!(
            change(&|p| p.architectures.push(Architecture::X86_64)),
            PolicyError::DuplicateArchitecture(Architecture::X86_64)
        );
        assert_eq!(change(&|p| p.rules[0].names.clear()), PolicyError::NoNames(0));
        assert_eq!(
            change(&|p| p.rules[0].names.push("read".into())),
            PolicyError::DuplicateName("read".into())
        );
        for bad in ["", "Read", "read\n", "re ad", "réad", &"a".repeat(65)] {
            let error = change(&|p| p.rules[0].names.push(bad.into()));
            assert!(matches!(error, PolicyError::Name { rule: 0, .. }), "{bad:?}: {error}");
        }
        let argument = Argument { index: 6, op: Comparison::Equal, value: 0, value_two: 0 };
        assert_eq!(
            change(&|p| p.rules[0].args.push(argument)),
            PolicyError::ArgumentIndex { rule: 0, index: 6 }
        );
        assert_eq!(change(&|p| p.default_action = Action::Errno(Some(4096))), PolicyError::Errno(4096));
    }

    #[test]
    fn one_call_may_have_several_conditions() {
        let mut p = policy(&["personality"]);
        let with = |value| Argument { index: 0, op: Comparison::Equal, value, value_two: 0 };
        p.rules[0].args.push(with(0));
        p.rules.push(Rule { args: vec![with(8)], ..p.rules[0].clone() });
        assert_eq!(p.validate(), Ok(()));
        p.rules.push(p.rules[1].clone());
        assert_eq!(p.validate(), Err(PolicyError::DuplicateName("personality".into())));
    }

    #[test]
    fn grouping_does_not_change_the_meaning() {
        let one = policy(&["read", "write"]);
        let mut two = policy(&["write"]);
        two.rules.push(Rule { names: vec!["read".into()], ..two.rules[0].clone() });
        assert_eq!(one.canonical(), two.canonical());
    }
}
