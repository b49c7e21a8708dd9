//! CRI-O.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{Containers, Described, PodName, Role, StateError, digest, given, read};

/// The containers of CRI-O: `/run/containers/storage/overlay-containers/<id>/userdata`.
#[derive(Clone, Debug)]
pub struct Crio {
    containers: PathBuf,
}

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

impl Crio {
    /// That of a host, whose root is mounted at `root`.
    pub fn below(root: &Path) -> Self {
        Self { containers: root.join("run/containers/storage/overlay-containers") }
    }
}

impl Containers for Crio {
    fn describe(&self, id: &str) -> Result<Option<Described>, StateError> {
        let config = self.containers.join(id).join("userdata/config.json");
        Ok(read::<Config>(&config)?.map(|config| described(&config.annotations)))
    }
}

fn described(annotations: &BTreeMap<String, String>) -> Described {
    let given = |key: &str| given(annotations, key);
    let role = match given("io.kubernetes.cri-o.ContainerType").as_deref() {
        Some("sandbox") => Role::Sandbox,
        _ => Role::Application,
    };
    let pod = given("io.kubernetes.pod.namespace").zip(given("io.kubernetes.pod.name"));
    let uid = || given("io.kubernetes.pod.uid");
    // Podman keeps its containers in the same place; they have no such annotations.
    let pod = pod.map(|(namespace, name)| PodName { namespace, name, uid: uid() });
    Described {
        role,
        pod,
        name: given("io.kubernetes.container.name").filter(|_| role == Role::Application),
        image: given("io.kubernetes.cri-o.ImageName"),
        image_digest: given("io.kubernetes.cri-o.ImageRef").as_deref().and_then(digest),
        runtime: given("io.kubernetes.cri-o.RuntimeHandler"),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{ID, UID, cart, host},
        *,
    };

    fn describe(config: &str) -> Option<Described> {
        let at = format!("run/containers/storage/overlay-containers/{ID}/userdata/config.json");
        Crio::below(host(&[(&at, config)]).path()).describe(ID).unwrap()
    }

    #[test]
    fn a_container_is_known_by_its_annotations() {
        let config = format!(
            r#"{{
              "ociVersion": "1.0.2-dev",
              "annotations": {{
                "io.container.manager": "cri-o",
                "io.kubernetes.container.name": "app",
                "io.kubernetes.cri-o.ContainerType": "container",
                "io.kubernetes.cri-o.Image": "12ab",
                "io.kubernetes.cri-o.ImageName": "docker.io/library/nginx:latest",
                "io.kubernetes.cri-o.ImageRef": "docker.io/library/nginx@sha256:34cd",
                "io.kubernetes.cri-o.RuntimeHandler": "crun",
                "io.kubernetes.pod.name": "cart-0",
                "io.kubernetes.pod.namespace": "shop",
                "io.kubernetes.pod.uid": "{UID}"
              }}
            }}"#
        );
        let want = Described {
            role: Role::Application,
            pod: Some(cart()),
            name: Some("app".into()),
            image: Some("docker.io/library/nginx:latest".into()),
            image_digest: Some("sha256:34cd".into()),
            runtime: Some("crun".into()),
        };
        assert_eq!(describe(&config), Some(want));
    }

    #[test]
    fn the_infrastructure_container_is_a_sandbox() {
        let config = r#"{ "annotations": {
            "io.kubernetes.container.name": "POD",
            "io.kubernetes.cri-o.ContainerType": "sandbox",
            "io.kubernetes.cri-o.RuntimeHandler": "",
            "io.kubernetes.pod.name": "cart-0",
            "io.kubernetes.pod.namespace": "shop"
        } }"#;
        let found = describe(config).unwrap();
        assert_eq!((found.role, found.name, found.runtime), (Role::Sandbox, None, None));
    }

    #[test]
    fn a_container_of_podman_has_no_pod() {
        let config = r#"{ "annotations": { "io.container.manager": "libpod" } }"#;
        assert_eq!(describe(config), Some(Described::default()));
    }
}
