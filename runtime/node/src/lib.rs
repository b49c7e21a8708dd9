//! What the controller of a node works with: one adapter for each trait of [`gadgetd_kube::controller`].
//!
//! The controller decides what is to be done about a Trace and knows no eBPF, WebAssembly or file system. Here stands
//! how a node does it: which containers are recorded for which Trace ([`NodeRecorder`]), how a gadget runs on what was
//! recorded and makes objects of it ([`HostRunner`]), and where files go ([`SeccompFiles`]). `gadgetd serve` puts the pieces together.
//!
//! ```no_run
//! use std::path::Path;
//!
//! use gadgetd_kube::controller::{FileSink, NodeError};
//! use gadgetd_node::SeccompFiles;
//!
//! # async fn example() -> Result<(), NodeError> {
//! let files = SeccompFiles::below(Path::new("/var/lib/kubelet/seccomp"));
//! let profile = files.write("shop", "cart-0.json", "{}").await?;
//! assert_eq!(profile, "gadgetd/shop/cart-0.json"); // what a pod has as its localhostProfile
//! # Ok(())
//! # }
//! ```

mod files;
mod gadgets;
mod origin;
mod pods;
mod recorder;
mod runner;

pub use files::SeccompFiles;
pub use pods::{Instance, PodChange, PodRecord, watch};
pub use recorder::{JournalError, Kernel, NodeRecorder, RecorderError, RecorderSettings, Status};
pub use runner::{HostRunner, RunnerError};

use std::error::Error;

/// An error with everything that led to it, in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
