//! The host of the commands that people run.

#[cfg(feature = "registry")]
use std::path::Path;
use std::path::PathBuf;

use anyhow::{Context, Result};
use gadgetd_host::{Host, HostConfig};

#[cfg(feature = "registry")]
use crate::registry::RegistryArgs;

/// Where compiled modules are kept.
const CACHE: &str = "/var/cache/gadgetd";

#[cfg(feature = "registry")]
/// A host that keeps what it fetches and compiles, if this user may write where that is kept.
pub(crate) fn host(registry: &RegistryArgs) -> Result<Host> {
    let registry = registry.client(Some(Path::new(CACHE).join("artifacts")))?;
    cached(HostConfig { registry: Some(registry), ..HostConfig::default() })
}

/// The same for modules that are here: it fetches nothing.
pub(crate) fn offline() -> Result<Host> {
    cached(HostConfig::default())
}

fn cached(plain: HostConfig) -> Result<Host> {
    let cached = HostConfig { cache_dir: Some(PathBuf::from(CACHE)), ..plain.clone() };
    let host = Host::new(cached).or_else(|error| {
        tracing::debug!("modules are compiled anew: {error}");
        Host::new(plain)
    });
    host.context("cannot run gadgets")
}
