//! Starts what the cluster tests need: a real API server, a real node that runs pods, and the images it runs.
//!
//! [`ApiServer`] is etcd and kube-apiserver on free ports of the loopback interface, with TLS and RBAC; no root is
//! needed. [`Node`] is a whole cluster of one node in mount and network namespaces of its own: default paths and
//! ports inside, nothing of it outside. [`Runtime`] is gadgetd on it, [`Shell`] a person who follows a script. The programs come from the [cache](gadgetd_artifacts::cache), the images from
//! [`images`]; nothing is ever pulled.
//!
//! Whatever was started ends with its handle, with the process that holds it, and at the latest with the next start.
//!
//! ```no_run
//! use gadgetd_e2e::{ApiServer, User};
//! use k8s_openapi::api::core::v1::Namespace;
//! use kube::Api;
//!
//! # async fn example() -> anyhow::Result<()> {
//! let server = ApiServer::start().await?;
//! let client = server.client(&User::admin()).await?;
//! assert!(Api::<Namespace>::all(client).get_opt("kube-system").await?.is_some());
//! # Ok(())
//! # }
//! ```
//!
//! Errors are `anyhow`'s: all that a test does with one is to show it to a person.

mod api_server;
pub mod images;
mod node;
mod pki;
mod process;
mod runtime;
mod shell;
mod wait;

pub use api_server::{ApiServer, User, free_ports};
pub use gadgetd_artifacts::cache::kube::Tier;
pub use node::Node;
pub use runtime::Runtime;
pub use shell::Shell;
pub use wait::eventually;

use std::path::PathBuf;

/// The folder with the programs of `tier`.
///
/// A test that gets `None` has to return: what is missing has been said on stderr.
///
/// # Panics
/// Where the environment has `CI=true`: there a test that cannot run has failed.
pub fn assets(tier: Tier) -> Option<PathBuf> {
    let root = rustix::process::geteuid().is_root();
    let problem = match tier.find() {
        Some(_) if tier == Tier::Node && !root => {
            "starting a node takes root: run the test with sudo -E".into()
        }
        Some(folder) => return Some(folder),
        None => format!("no Kubernetes programs here; this makes them: {}", tier.remedy()),
    };
    assert!(std::env::var("CI").as_deref() != Ok("true"), "cannot run: {problem}");
    eprintln!("SKIPPED: {problem}");
    None
}
