//! What container runtimes keep on disk about their containers.
//!
//! A runtime writes a container's configuration before it makes the container's cgroup, and removes it after the container
//! has ended. So whoever looks as soon as a cgroup appears learns who it is, however short it lives, and without asking
//! anybody who could be slow.

mod containerd;
mod crio;
mod docker;

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;
use thiserror::Error;

pub use self::{containerd::Containerd, crio::Crio, docker::Docker};

/// The largest file that is read: a configuration has some 20 KiB, a large one 200.
const FILE_MAX: u64 = 8 << 20;

/// Why what a runtime wrote could not be understood.
#[derive(Debug, Error)]
pub enum StateError {
    /// It could not be read.
    #[error("cannot read {}", .0.display())]
    Read(PathBuf, #[source] io::Error),
    /// It is not what it should be.
    #[error("{} is not what its runtime writes", .0.display())]
    Parse(PathBuf, #[source] serde_json::Error),
}

/// What a container is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// It runs a program of its pod.
    #[default]
    Application,
    /// It holds the pod's namespaces (the "pause" container); nobody's program runs in it.
    Sandbox,
}

/// The pod of a container, as its runtime was told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid; of a static pod, the hash that the kubelet uses for one.
    pub uid: Option<String>,
}

/// What a runtime says about one of its containers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Described {
    /// What it is for.
    pub role: Role,
    /// Its pod; `None` if it belongs to none.
    pub pod: Option<PodName>,
    /// Its name in its pod.
    pub name: Option<String>,
    /// The image, as the pod names it.
    pub image: Option<String>,
    /// The digest of that image, `sha256:…`.
    pub image_digest: Option<String>,
    /// The OCI runtime that runs it, such as `runc`.
    pub runtime: Option<String>,
}

/// Who knows containers by their ids.
pub trait Containers {
    /// What is known of a container; `None` if it is not one of theirs.
    fn describe(&self, id: &str) -> Result<Option<Described>, StateError>;
}

/// All runtimes whose state is understood, where they keep it.
pub struct StateDirectories(Vec<Box<dyn Containers + Send>>);

impl StateDirectories {
    /// Those below `root`: the root of the host's file system, wherever it is mounted.
    pub fn below(root: &Path) -> Self {
        Self(vec![
            Box::new(Containerd::below(root)),
            Box::new(Crio::below(root)),
            Box::new(Docker::below(root)),
        ])
    }
}

impl Containers for StateDirectories {
    fn describe(&self, id: &str) -> Result<Option<Described>, StateError> {
        // An id becomes part of a path. What `identify` takes for one is never anything else.
        if id.is_empty() || !id.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Ok(None);
        }
        self.0.iter().find_map(|runtime| runtime.describe(id).transpose()).transpose()
    }
}

/// The digest in a reference to an image: `name@sha256:…`, or an id `sha256:…`.
fn digest(reference: &str) -> Option<String> {
    let digest = reference.rsplit_once('@').map_or(reference, |(_, digest)| digest);
    digest.starts_with("sha256:").then(|| digest.to_owned())
}

/// What people write in annotations and labels: empty is as good as absent.
fn given(map: &BTreeMap<String, String>, key: &str) -> Option<String> {
    map.get(key).filter(|value| !value.is_empty()).cloned()
}

/// Reads a JSON file; `None` if there is none.
fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StateError> {
    let Some(text) = read_text(path)? else { return Ok(None) };
    serde_json::from_slice(&text).map(Some).map_err(|e| StateError::Parse(path.to_owned(), e))
}

fn read_text(path: &Path) -> Result<Option<Vec<u8>>, StateError> {
    let mut text = Vec::new();
    match File::open(path).and_then(|file| file.take(FILE_MAX).read_to_end(&mut text)) {
        Ok(_) => Ok(Some(text)),
        // The folder, or the file, or what should be a folder is none.
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(StateError::Read(path.to_owned(), e)),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs;

    use super::*;

    pub(crate) const ID: &str = "3f4c0b1a9d8e7f60514233221100ffeeddccbbaa99887766554433221100abcd";
    pub(crate) const UID: &str = "6a2b7a5e-4b0e-4ab3-a4a2-f2cbd2b9d1c5";

    /// A host's file system with these files.
    pub(crate) fn host(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    pub(crate) fn cart() -> PodName {
        PodName { namespace: "shop".into(), name: "cart-0".into(), uid: Some(UID.into()) }
    }

    #[test]
    fn the_runtime_that_has_the_container_answers() {
        let config = r#"{ "Config": { "Labels": { "io.kubernetes.container.name": "app" } } }"#;
        let root = host(&[(&format!("var/lib/docker/containers/{ID}/config.v2.json"), config)]);
        let all = StateDirectories::below(root.path());
        assert_eq!(all.describe(ID).unwrap().unwrap().name.as_deref(), Some("app"));
        assert_eq!(all.describe(&ID.replace('3', "4")).unwrap(), None);
        for hostile in ["..", "", "../../etc", "a/b"] {
            assert_eq!(all.describe(hostile).unwrap(), None, "{hostile}");
        }
    }

    #[test]
    fn what_is_not_understood_is_named() {
        let at = format!("run/containerd/io.containerd.runtime.v2.task/k8s.io/{ID}/config.json");
        for text in ["", "{", "7", r#"{ "annotations": { "a": 1 } }"#] {
            let root = host(&[(&at, text)]);
            let error = StateDirectories::below(root.path()).describe(ID).expect_err(text);
            assert!(error.to_string().contains("config.json is not what its runtime writes"), "{error}");
        }
    }

    #[test]
    fn digests() {
        let sha = "sha256:0a".to_owned();
        for (reference, want) in [
            ("docker.io/library/nginx@sha256:0a", Some(&sha)),
            ("docker-pullable://nginx@sha256:0a", Some(&sha)),
            ("sha256:0a", Some(&sha)),
            ("nginx:1.25", None),
            ("", None),
        ] {
            assert_eq!(digest(reference).as_ref(), want, "{reference}");
        }
    }
}
