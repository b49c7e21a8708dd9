//! Where the OCI runtimes of several Debian releases are.
//!
//! `cargo xtask runtimes` puts those of other releases than this machine's into the cache, the tests run them.

use std::path::PathBuf;

use super::root;

/// Debian releases, by the names that tests have for them, and where their packages come from: the first that has them.
/// The lists of `sid` can be ahead of its files or behind them; `testing` follows it by days.
pub const RELEASES: &[(&str, &[&str])] = &[("trixie", &["trixie"]), ("newest", &["sid", "testing"])];

/// The folder with what came of a release of [`RELEASES`].
pub fn folder(release: &str) -> PathBuf {
    root().join("runtimes").join(release)
}

/// A file that says why a release could not be fetched. It is there only if so.
pub fn failure(release: &str) -> PathBuf {
    folder(release).join("failure")
}

/// `runc` or `crun` of a release, which need not be there.
///
/// ```
/// let crun = gadgetd_artifacts::cache::runtimes::program("trixie", "crun");
/// assert!(crun.ends_with("runtimes/trixie/bin/crun"));
/// ```
pub fn program(release: &str, name: &str) -> PathBuf {
    folder(release).join("bin").join(name)
}
