use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Abi, Machine, Phases, Syscall};

/// A system call that a seccomp filter kept from running at least once. Another time it may have run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RefusedCall {
    /// The ABI by which it was made.
    pub abi: Abi,
    /// Its number in that ABI's table (for x32: without bit 30).
    pub number: u32,
    /// What the filter answered.
    pub answer: Refusal,
}

/// How a seccomp filter keeps a call from running.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// The call fails with this errno, 1 to 4095. `None`: with one that is not `ENOSYS`, and was not kept, because the
    /// container's filters answer calls with several.
    Errno(Option<u16>),
    /// The thread gets `SIGSYS`, or is killed.
    Signal,
}

impl Refusal {
    /// As a kernel answers that does not have the call: `ENOSYS`. Programs then do without it.
    pub const MISSING: Self = Self::Errno(Some(38));
}

impl RefusedCall {
    /// The kernel's name of the call; see [`Syscall::name`].
    pub fn name(&self, machine: Machine) -> Option<&'static str> {
        Syscall { abi: self.abi, number: self.number, phases: Phases::default() }.name(machine)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Errno(Some(1)) => f.write_str("EPERM"),
            Self::Errno(Some(38)) => f.write_str("ENOSYS"),
            Self::Errno(Some(errno)) => write!(f, "errno {errno}"),
            Self::Errno(None) => f.write_str("an errno"),
            Self::Signal => f.write_str("SIGSYS"),
        }
    }
}
