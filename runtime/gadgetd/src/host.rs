//! The host of the commands that people run.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use gadgetd_host::{Host, HostConfig};

use crate::registry::RegistryArgs;

/// Where compiled modules are kept.
const CACHE: &str = "/var/cache/gadgetd";

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
