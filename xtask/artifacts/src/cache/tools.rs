//! Where the tools are that make modules in other languages than Rust, and programs for other systems.
//!
//! `cargo xtask setup` installs them, in the versions that the templates ask for and xtask does; the tests that build projects
//! use them.

use std::{env, ffi::OsString, path::PathBuf};

use super::root;

/// A virtual environment with componentize-py.
pub fn python() -> PathBuf {
    root().join("tools/python")
}

/// A folder of npm's with jco.
pub fn javascript() -> PathBuf {
    root().join("tools/javascript")
}

/// A virtual environment with zig, a C compiler and linker for many systems.
pub fn zig() -> PathBuf {
    root().join("tools/zig")
}

/// `PATH`, with the tools before everything else.
///
/// ```
/// let path = gadgetd_artifacts::cache::tools::path();
/// assert!(std::env::split_paths(&path).any(|folder| folder.ends_with("tools/python/bin")));
/// ```
pub fn path() -> OsString {
    let given = env::var_os("PATH").unwrap_or_default();
    let ours = [python().join("bin"), javascript().join("node_modules/.bin")];
    let all = ours.into_iter().chain(env::split_paths(&given));
    // What came out of a PATH, and names without a colon, fit into one.
    env::join_paths(all).unwrap_or(given)
}
