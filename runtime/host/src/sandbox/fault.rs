//! Faults: how a module can fail.

use std::{sync::Arc, time::Duration};

use gadgetd_core::kube::KubeError;
use thiserror::Error;
use wasmtime::Trap;

use super::limits::{DeniedGrowth, Limits, TABLE_ELEMENTS_MAX};
use crate::text::size;

/// A failure of a module. As a sentence it continues the name of the module.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// It stopped itself, as a Rust panic does.
    #[error("panicked{}", message.as_ref().map(|m| format!(": {m}")).unwrap_or_default())]
    Panicked {
        /// The last error that it logged, which in the SDK is the panic's message.
        message: Option<String>,
    },
    /// The engine stopped it.
    #[error("trapped: {0}")]
    Trapped(String),
    /// Its call stack is used up.
    #[error("ran out of stack: it recurses too deep")]
    Stack,
    /// It read or wrote where it has no memory. A Rust guest does so when its own stack is used up, which is at the bottom of
    /// its memory; one in C needs no more than a wrong pointer.
    #[error("reached beyond its memory: it recurses too deep, or follows a wrong pointer")]
    OutOfBounds,
    /// It ran for longer than [`Limits::call`](crate::Limits::call).
    #[error("ran for more than {0:?}, the limit of one call")]
    Deadline(Duration),
    /// The run as a whole took longer than [`Limits::run`](crate::Limits::run).
    #[error("was stopped: the run took more than {0:?}")]
    RunDeadline(Duration),
    /// It wanted more than [`Limits::memory`](crate::Limits::memory).
    #[error("needs more memory than the {} it may have", size(*.0))]
    Memory(usize),
    /// It wanted a larger table than modules may have.
    #[error("needs a table of more than the {0} elements it may have")]
    Table(usize),
    /// It passed more to the host in one call than the host takes.
    #[error("passed more than {} to the host in one call", size(*.0))]
    Argument(usize),
    /// It did something that the contract forbids.
    #[error("broke the contract: {0}")]
    Contract(String),
    /// A gadget found nothing to make a result from.
    #[error("has nothing to make a result from: {0}")]
    Empty(String),
    /// It cannot use the value of a parameter.
    #[error("does not accept a parameter: {0}")]
    InvalidParameter(String),
    /// A formatter cannot say what the policy says.
    #[error("cannot write the policy: {0}")]
    Unsupported(String),
    /// The host refused its policy or document.
    #[error("made something that the host refuses: {0}")]
    Rejected(String),
    /// It emitted more than [`Limits::output`](crate::Limits::output).
    #[error("emits more than {}, the limit of a run", size(*.0))]
    Output(usize),
    /// The cluster's answer.
    #[error("cannot do its work on the cluster: {0}")]
    Kube(KubeError),
    /// Its own words.
    #[error("failed: {0}")]
    Failed(String),
}

/// A fault with its module.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{module} {fault}")]
pub struct ModuleFault {
    /// The module: `gadget seccomp`, `formatter ./mine.wasm`.
    pub module: Arc<str>,
    /// Its failure.
    pub fault: Fault,
}

/// Ends a guest whose time is up.
#[derive(Debug, Error)]
#[error("the deadline of the call has passed")]
pub(crate) struct CallDeadlineExceeded;

/// Ends a guest that did what the contract forbids.
#[derive(Debug, Error)]
#[error("{0}")]
pub(crate) struct ContractViolation(String);

impl ContractViolation {
    /// The guest called this function while it described itself.
    pub(crate) fn in_describe(function: &str) -> Self {
        Self(format!("`describe` must not call `{function}`"))
    }
}

impl Fault {
    /// The name of its kind, for programs: in lower case, words joined by `-`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Panicked { .. } => "panicked",
            Self::Trapped(_) => "trapped",
            Self::Stack => "stack",
            Self::OutOfBounds => "beyond-memory",
            Self::Deadline(_) => "deadline",
            Self::RunDeadline(_) => "run-deadline",
            Self::Memory(_) => "memory",
            Self::Table(_) => "table",
            Self::Argument(_) => "argument",
            Self::Contract(_) => "contract",
            Self::Empty(_) => "empty",
            Self::InvalidParameter(_) => "invalid-parameter",
            Self::Unsupported(_) => "unsupported",
            Self::Rejected(_) => "rejected",
            Self::Output(_) => "output",
            Self::Kube(_) => "kube",
            Self::Failed(_) => "failed",
        }
    }

    /// Why a call into a guest failed: `denied` and `last_error` tell what went before.
    pub(crate) fn of_call(
        error: &wasmtime::Error,
        limits: &Limits,
        denied: Option<DeniedGrowth>,
        last_error: Option<&str>,
    ) -> Self {
        if error.is::<CallDeadlineExceeded>() {
            return Self::Deadline(limits.call);
        }
        if let Some(violation) = error.downcast_ref::<ContractViolation>() {
            return Self::Contract(violation.to_string());
        }
        match denied {
            Some(DeniedGrowth::Memory) => return Self::Memory(limits.memory),
            Some(DeniedGrowth::Table) => return Self::Table(TABLE_ELEMENTS_MAX),
            None => {}
        }
        match error.downcast_ref::<Trap>() {
            Some(Trap::UnreachableCodeReached) => {
                Self::Panicked { message: last_error.map(ToOwned::to_owned) }
            }
            Some(Trap::StackOverflow) => Self::Stack,
            Some(Trap::MemoryOutOfBounds) => Self::OutOfBounds,
            Some(trap) => Self::Trapped(trap.to_string().replace("wasm trap: ", "")),
            None if is_hostcall_fuel_exhausted(error) => Self::Argument(limits.hostcall_max_bytes()),
            None => Self::Contract(format!("{:#}", error.root_cause())),
        }
    }
}

/// Whether the guest passed more to the host than the store's fuel for host calls allows. The error's type is private to
/// wasmtime, so that it cannot be downcast to; its derived `Debug` is the type's name.
fn is_hostcall_fuel_exhausted(error: &wasmtime::Error) -> bool {
    format!("{:?}", error.root_cause()) == "HostcallFuelExhausted"
}
