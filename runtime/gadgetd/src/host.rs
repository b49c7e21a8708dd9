//! The host of the commands that people run.

use std::path::PathBuf;

use anyhow::{Context, Result};
use gadgetd_host::{Host, HostConfig};

use crate::registry::RegistryArgs;

/// Where compiled modules are kept.
const CACHE: &str = "/var/cache/gadgetd";

/// A host that keeps what it fetches and compiles, if this user may write where that is kept.
pub(crate) fn host(registry: &RegistryArgs) -> Result<Host> {
    let cache_dir = PathBuf::from(CACHE);
    let registry = registry.client(Some(cache_dir.join("artifacts")))?;
    let plain = HostConfig { registry: Some(registry), ..HostConfig::default() };
    let cached = HostConfig { cache_dir: Some(cache_dir), ..plain.clone() };
    let host = Host::new(cached).or_else(|error| {
        tracing::debug!("modules are compiled anew: {error}");
        Host::new(plain)
    });
    host.context("cannot run gadgets")
}
