//! Recordings of runs: the inputs and the outcome of a run, as a file.
//!
//! [`Host::record`](crate::Host::record) makes one; [`Host::replay`](crate::Host::replay) runs modules on its inputs,
//! offline and on any machine, and [`Difference::between`] compares the outcomes. The file is JSON, meant to be
//! read and written by people too: `docs/reference/recording.md` describes it.
//!
//! ```
//! use gadgetd_host::recording::Recording;
//!
//! let recording = Recording::parse(
//!     br#"{ "format": 1, "captures": [{ "container": { "name": "web" }, "syscalls": [{ "calls": "read write" }] }] }"#,
//! )?;
//! assert_eq!(recording.captures[0].syscalls.len(), 2);
//! # Ok::<_, gadgetd_host::recording::RecordingError>(())
//! ```

mod captures;
mod compare;
mod format;
pub(crate) mod replay;

pub use self::{
    compare::Difference,
    format::{FORMAT, Failure, Identity, Line, Outcome, Recording, RecordingError},
};
pub use crate::cluster::exchange::{KubeAnswer, KubeExchange, KubeRequest, RECORDING_MAX_BYTES};

#[cfg(test)]
mod tests;
