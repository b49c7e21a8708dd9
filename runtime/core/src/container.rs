use std::fmt;

use serde::{Deserialize, Serialize};

/// What was recorded: a container, or a command in a cgroup of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Container {
    /// The container's id in its runtime; for a command, the name of its cgroup.
    pub id: String,
    /// The name people know it by: the container's name in its pod, or the command's.
    pub name: Option<String>,
    /// The pod it belongs to, on a cluster.
    pub pod: Option<Pod>,
    /// The image it was made from, as the pod names it.
    pub image: Option<String>,
    /// The digest of that image, `sha256:…`.
    pub image_digest: Option<String>,
    /// The OCI runtime that started it, such as `runc 1.1.5`; absent where none did.
    pub runtime: Option<String>,
    /// Its cgroup v2, as a path from the root of that hierarchy: `/kubepods/…`.
    pub cgroup: String,
}

/// The Kubernetes pod of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// The node it runs on.
    pub node: String,
}

impl fmt::Display for Container {
    /// The shortest text that tells a person which container is meant.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name.as_deref().unwrap_or(&self.id);
        match &self.pod {
            Some(pod) => write!(f, "{}/{}/{name}", pod.namespace, pod.name),
            None => f.write_str(name),
        }
    }
}
