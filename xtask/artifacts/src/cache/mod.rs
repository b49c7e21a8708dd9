//! The cache of this project, outside of every clone, and where in it things are that `cargo xtask` fetches and builds and
//! that builds and tests use.

pub mod kube;
pub mod runtimes;
pub mod tools;

use std::{env, path::PathBuf};

/// Where this project keeps what is slow to make and the same for every clone: `$GADGETD_CACHE`, else
/// `gadgetd` in the user's cache folder. Never inside a clone.
pub fn root() -> PathBuf {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("GADGETD_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|cache| cache.join("gadgetd")))
        .or_else(|| set("HOME").map(|home| home.join(".cache/gadgetd")))
        .unwrap_or_else(|| PathBuf::from("/var/cache/gadgetd"))
}
