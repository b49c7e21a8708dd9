//! `gadget`: why a gadget runs, and what it says when it fails.

use serde::{Deserialize, Serialize};
use wasmtime::component::{Resource, TypedFunc};

use crate::{
    bindings::{
        Capture,
        gadget::{Error, Reason as WitReason},
        output,
    },
    sandbox::fault::Fault,
    text::printable,
};

/// `generate`, as it is exported.
pub(crate) type Generate = TypedFunc<(WitReason, Vec<Resource<Capture>>), (Result<(), Error>,)>;

/// Why a gadget runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// Somebody asked for the result.
    #[default]
    OnDemand,
    /// A container ended.
    ContainerEnded,
}

impl From<Reason> for WitReason {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::OnDemand => Self::OnDemand,
            Reason::ContainerEnded => Self::ContainerEnded,
        }
    }
}

/// A gadget's error, as its fault.
impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        match error {
            Error::Empty(text) => Self::Empty(printable(text)),
            Error::InvalidParameter(text) => Self::InvalidParameter(printable(text)),
            Error::Format(error) => error.into(),
            Error::Output(output::Error::TooLarge(limit)) => {
                Self::Output(usize::try_from(limit).unwrap_or(usize::MAX))
            }
            Error::Output(output::Error::Rejected(text)) => Self::Rejected(printable(text)),
            Error::Kube(error) => Self::Kube(error.into()),
            Error::Other(text) => Self::Failed(printable(text)),
        }
    }
}
