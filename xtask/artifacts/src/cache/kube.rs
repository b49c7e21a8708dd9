//! Where the Kubernetes binaries that the cluster tests start are found.
//!
//! Two sides share this: `cargo xtask kube-assets` puts the binaries there, the tests start them. In order:
//! the folder that `KUBEBUILDER_ASSETS` names (the convention of controller tests), a folder of `PATH` that has
//! them all, and the cache, which `cargo xtask kube-assets` fills.
//!
//! ```
//! use gadgetd_artifacts::cache::kube::Tier;
//!
//! match Tier::Api.find() {
//!     Some(folder) => println!("an API server is at {}", folder.join("kube-apiserver").display()),
//!     None => println!("none here: {}", Tier::Api.remedy()),
//! }
//! ```

use std::{
    env,
    path::{Path, PathBuf},
};

use super::root;

/// The release of Kubernetes that [`Tier::remedy`] builds: the one of Debian 12.
pub const VERSION: &str = "1.20.2";

/// How much of Kubernetes a test needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// An API server and its store.
    Api,
    /// A whole node that runs pods.
    Node,
}

impl Tier {
    /// The programs that a folder must have to serve this tier.
    pub fn programs(self) -> &'static [&'static str] {
        match self {
            Self::Api => &["etcd", "kube-apiserver"],
            Self::Node => &[
                "etcd",
                "kube-apiserver",
                "kube-controller-manager",
                "kube-scheduler",
                "kubelet",
                "kube-proxy",
                "kubectl",
                "containerd",
                "containerd-shim-runc-v2",
                "ctr",
            ],
        }
    }

    /// The command that fills the cache for this tier.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Api => "cargo xtask kube-assets",
            Self::Node => "cargo xtask kube-assets --node",
        }
    }

    /// The first folder that has all programs of this tier, or `None`: then [`Tier::remedy`] is the command to run.
    pub fn find(self) -> Option<PathBuf> {
        let named = env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from);
        let path = env::var_os("PATH").unwrap_or_default();
        let mut folders = named.into_iter().chain(env::split_paths(&path)).chain([bin()]);
        folders.find(|folder| self.complete(folder))
    }

    /// Whether `folder` has every program of this tier.
    pub fn complete(self, folder: &Path) -> bool {
        self.programs().iter().all(|program| folder.join(program).is_file())
    }
}

/// The part of the [cache](super::root) that belongs to this release of Kubernetes.
pub fn folder() -> PathBuf {
    root().join("kube").join(VERSION)
}

/// The folder of the [cache](super::root) that has the programs.
pub fn bin() -> PathBuf {
    folder().join("bin")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_counts_only_when_nothing_is_missing() {
        let folder = env::temp_dir().join(format!("gadgetd-artifacts-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("etcd"), "").unwrap();
        let half = Tier::Api.complete(&folder);
        std::fs::write(folder.join("kube-apiserver"), "").unwrap();
        let whole = Tier::Api.complete(&folder);
        let node = Tier::Node.complete(&folder);
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!((half, whole, node), (false, true, false));
    }
}
