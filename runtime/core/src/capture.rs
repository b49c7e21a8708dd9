use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Container, Machine, Syscall};

/// What one container was seen to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Capture {
    /// Who.
    pub container: Container,
    /// The machine whose tables name the calls.
    pub machine: Machine,
    /// The calls, each once, ordered by ABI and number.
    pub syscalls: Vec<Syscall>,
    /// What may be missing from them.
    pub completeness: Completeness,
}

/// What a recording lost, and how it began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Completeness {
    /// Every kind of loss that happened; empty when nothing was lost.
    pub losses: Vec<Loss>,
    /// Whether the recording was on before the container's first process. If not, the calls that
    /// it made to start are missing: normal for a container that already ran, and no loss.
    pub from_start: bool,
}

impl Completeness {
    /// Whether nothing was lost.
    pub fn is_complete(&self) -> bool {
        self.losses.is_empty()
    }
}

/// One way in which calls can be missing from a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "count")]
pub enum Loss {
    /// Calls with a number that is beyond every table the kernel side keeps.
    UnknownNumbers(u64),
    /// Calls by the OCI runtime in another ABI than the machine's own, which no filter set is kept for.
    ForeignRuntimeCalls(u64),
    /// New cgroups for which no slot was free: whole containers may be missing.
    SlotsExhausted(u64),
    /// Cgroups made inside the container that could not be tied to it.
    ChildCgroups(u64),
    /// Processes whose phase could not be kept: their calls all count as the application's.
    Phases(u64),
    /// Events that the kernel did not hand to the program.
    MissedEvents(u64),
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownNumbers(n) => write!(f, "{n} calls with a number that no table has"),
            Self::ForeignRuntimeCalls(n) => write!(f, "{n} calls of the OCI runtime in a foreign ABI"),
            Self::SlotsExhausted(n) => write!(f, "{n} new cgroups for which no slot was free"),
            Self::ChildCgroups(n) => {
                write!(f, "{n} cgroups made inside the container that could not be followed")
            }
            Self::Phases(n) => write!(f, "{n} processes whose phase could not be kept"),
            Self::MissedEvents(n) => write!(f, "{n} events that the kernel did not deliver"),
        }
    }
}
