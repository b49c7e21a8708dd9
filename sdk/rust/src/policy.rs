//! The neutral seccomp policy: the terms of the OCI runtime specification, and no file format.

use std::fmt;

pub use crate::bindings::imports::policy::{Action, Architecture, Argument, Comparison, Policy, Rule};

impl Action {
    /// libseccomp's name, which OCI profiles and `SeccompProfile` objects have too: `SCMP_ACT_…`.
    ///
    /// ```
    /// use gadget_sdk::Action;
    ///
    /// assert_eq!(Action::Errno(Some(38)).scmp_name(), "SCMP_ACT_ERRNO");
    /// assert_eq!(Action::Errno(Some(38)).number(), Some(38));
    /// assert_eq!(Action::from_scmp_name("SCMP_ACT_TRAP"), Some(Action::Trap));
    /// ```
    pub fn scmp_name(self) -> &'static str {
        match self {
            Self::Allow => "SCMP_ACT_ALLOW",
            Self::Errno(_) => "SCMP_ACT_ERRNO",
            Self::KillProcess => "SCMP_ACT_KILL_PROCESS",
            Self::KillThread => "SCMP_ACT_KILL_THREAD",
            Self::Trap => "SCMP_ACT_TRAP",
            Self::Log => "SCMP_ACT_LOG",
            Self::Trace(_) => "SCMP_ACT_TRACE",
            Self::Notify => "SCMP_ACT_NOTIFY",
        }
    }

    /// The action of this libseccomp name, without a number. `SCMP_ACT_KILL` is the older name of that which kills the
    /// thread.
    pub fn from_scmp_name(name: &str) -> Option<Self> {
        let all = [
            Self::Allow,
            Self::Errno(None),
            Self::KillProcess,
            Self::KillThread,
            Self::Trap,
            Self::Log,
            Self::Trace(None),
            Self::Notify,
        ];
        let name = if name == "SCMP_ACT_KILL" { Self::KillThread.scmp_name() } else { name };
        all.into_iter().find(|action| action.scmp_name() == name)
    }

    /// The same with this number, where it has one.
    #[must_use]
    pub fn with_number(self, number: Option<u16>) -> Self {
        match self {
            Self::Errno(_) => Self::Errno(number),
            Self::Trace(_) => Self::Trace(number),
            other => other,
        }
    }

    /// The number that goes with it, where one is given: an errno, or the message for a tracer. Profiles call both
    /// `errnoRet`.
    pub fn number(self) -> Option<u16> {
        match self {
            Self::Errno(number) | Self::Trace(number) => number,
            _ => None,
        }
    }

    /// Whether the call runs.
    pub fn allows(self) -> bool {
        matches!(self, Self::Allow | Self::Log)
    }
}

impl Architecture {
    /// 64-bit x86.
    pub const X86_64: Self = Self::X8664;

    /// Every one.
    pub const ALL: [Self; 5] = [Self::X86_64, Self::X86, Self::X32, Self::Aarch64, Self::Arm];

    /// libseccomp's name, which OCI profiles and `SeccompProfile` objects have too: `SCMP_ARCH_…`.
    pub fn scmp_name(self) -> &'static str {
        match self {
            Self::X86_64 => "SCMP_ARCH_X86_64",
            Self::X86 => "SCMP_ARCH_X86",
            Self::X32 => "SCMP_ARCH_X32",
            Self::Aarch64 => "SCMP_ARCH_AARCH64",
            Self::Arm => "SCMP_ARCH_ARM",
        }
    }
}

impl fmt::Display for Architecture {
    /// As systemd has it in `SystemCallArchitectures=`, and people say it: `x86-64`, `arm64`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Self::X86_64 => "x86-64",
            Self::X86 => "x86",
            Self::X32 => "x32",
            Self::Aarch64 => "arm64",
            Self::Arm => "arm",
        })
    }
}

impl Comparison {
    /// libseccomp's name, which OCI profiles and `SeccompProfile` objects have too: `SCMP_CMP_…`.
    pub fn scmp_name(self) -> &'static str {
        match self {
            Self::NotEqual => "SCMP_CMP_NE",
            Self::Less => "SCMP_CMP_LT",
            Self::LessOrEqual => "SCMP_CMP_LE",
            Self::Equal => "SCMP_CMP_EQ",
            Self::GreaterOrEqual => "SCMP_CMP_GE",
            Self::Greater => "SCMP_CMP_GT",
            Self::MaskedEqual => "SCMP_CMP_MASKED_EQ",
        }
    }
}

impl Rule {
    /// These calls may run, whatever their arguments.
    pub fn allow(names: Vec<String>) -> Self {
        Self { names, action: Action::Allow, args: Vec::new() }
    }
}
