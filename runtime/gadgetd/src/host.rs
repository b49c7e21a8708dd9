//! The host of the commands that people run.

use std::path::PathBuf;

use anyhow::{Context, Result};
use gadgetd_host::{Host, HostConfig};

/// Where compiled modules are kept.
const CACHE: &str = "/var/cache/gadgetd";

/// A host that keeps what it compiles, if this user may write where that is kept.
pub(crate) fn host() -> Result<Host> {
    let cached = HostConfig { cache_dir: Some(PathBuf::from(CACHE)), ..HostConfig::default() };
    let host = Host::new(cached).or_else(|error| {
        tracing::debug!("modules are compiled anew: {error}");
        Host::new(HostConfig::default())
    });
    host.context("cannot run gadgets")
}
