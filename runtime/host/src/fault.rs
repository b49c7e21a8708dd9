//! What can go wrong in a module, told apart.

use std::{sync::Arc, time::Duration};

use gadgetd_core::kube::KubeError;
use thiserror::Error;
use wasmtime::Trap;

use crate::{
    limits::{Refused, TABLE_ELEMENTS},
    state::State,
};

/// What a module did, or ran into. As a sentence it continues the name of the module.
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
    Beyond,
    /// It ran for longer than [`Limits::call`](crate::Limits::call).
    #[error("ran for more than {0:?}, the limit of one call")]
    Deadline(Duration),
    /// The run as a whole took longer than [`Limits::run`](crate::Limits::run).
    #[error("was stopped: the run took more than {0:?}")]
    RunDeadline(Duration),
    /// It wanted more than [`Limits::memory`](crate::Limits::memory).
    #[error("needs more memory than the {} it may have", bytes(*.0))]
    Memory(usize),
    /// It wanted a larger table than modules may have.
    #[error("needs a table of more than the {0} elements it may have")]
    Table(usize),
    /// It passed more to the host in one call than the host takes.
    #[error("passed more than {} to the host in one call", bytes(*.0))]
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
    #[error("emits more than {}, the limit of a run", bytes(*.0))]
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
    /// Which module: `gadget seccomp`, `formatter ./mine.wasm`.
    pub module: Arc<str>,
    /// What happened.
    pub fault: Fault,
}

/// The guest's time is up.
#[derive(Debug, Error)]
#[error("the deadline of the call has passed")]
pub(crate) struct Overrun;

/// The guest did what it must not; ends it.
#[derive(Debug, Error)]
#[error("{0}")]
pub(crate) struct Breach(pub(crate) String);

/// A size for people.
pub(crate) fn bytes(n: usize) -> String {
    match n {
        n if n >= 1 << 20 && n.is_multiple_of(1 << 20) => format!("{} MiB", n >> 20),
        n if n >= 1 << 10 && n.is_multiple_of(1 << 10) => format!("{} KiB", n >> 10),
        n => format!("{n} bytes"),
    }
}

impl Fault {
    /// The name of its kind, for programs: in lower case, words joined by `-`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Panicked { .. } => "panicked",
            Self::Trapped(_) => "trapped",
            Self::Stack => "stack",
            Self::Beyond => "beyond-memory",
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

    /// Why a call into a guest failed. `state` tells what went before.
    pub(crate) fn of(error: &wasmtime::Error, state: &State) -> Self {
        if error.is::<Overrun>() {
            return Self::Deadline(state.limits.call);
        }
        if let Some(breach) = error.downcast_ref::<Breach>() {
            return Self::Contract(breach.to_string());
        }
        match state.grants.refused {
            Some(Refused::Memory) => return Self::Memory(state.limits.memory),
            Some(Refused::Table) => return Self::Table(TABLE_ELEMENTS),
            None => {}
        }
        match error.downcast_ref::<Trap>() {
            Some(Trap::UnreachableCodeReached) => {
                Self::Panicked { message: state.log.last_error().map(ToOwned::to_owned) }
            }
            Some(Trap::StackOverflow) => Self::Stack,
            Some(Trap::MemoryOutOfBounds) => Self::Beyond,
            Some(trap) => Self::Trapped(trap.to_string().replace("wasm trap: ", "")),
            None => {
                let text = format!("{:#}", error.root_cause());
                if text.contains("hostcalls has been exhausted") {
                    Self::Argument(state.limits.argument())
                } else {
                    Self::Contract(text)
                }
            }
        }
    }
}
