//! Docker, as the kubelet uses it through cri-dockerd.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{Containers, Described, PodName, Role, StateError, digest, given, read};

/// The containers of Docker: `/var/lib/docker/containers/<id>`.
#[derive(Clone, Debug)]
pub struct Docker {
    containers: PathBuf,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Container {
    config: Config,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Config {
    image: String,
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct HostConfig {
    runtime: String,
}

impl Docker {
    /// That of a host, whose root is mounted at `root`.
    pub fn below(root: &Path) -> Self {
        Self { containers: root.join("var/lib/docker/containers") }
    }
}

impl Containers for Docker {
    fn describe(&self, id: &str) -> Result<Option<Described>, StateError> {
        let folder = self.containers.join(id);
        let Some(container) = read::<Container>(&folder.join("config.v2.json"))? else { return Ok(None) };
        let host = read::<HostConfig>(&folder.join("hostconfig.json")).ok().flatten().unwrap_or_default();
        Ok(Some(described(&container.config, host)))
    }
}

fn described(config: &Config, host: HostConfig) -> Described {
    let labels = config.labels.as_ref();
    let given = |key: &str| labels.and_then(|labels| given(labels, key));
    let role = match given("io.kubernetes.docker.type").as_deref() {
        Some("podsandbox") => Role::Sandbox,
        _ => Role::Application,
    };
    let pod = given("io.kubernetes.pod.namespace").zip(given("io.kubernetes.pod.name"));
    let uid = || given("io.kubernetes.pod.uid");
    // The kubelet names the image by its id, which says nothing to people.
    let image = Some(&config.image).filter(|image| !image.is_empty() && !image.starts_with("sha256:"));
    Described {
        role,
        pod: pod.map(|(namespace, name)| PodName { namespace, name, uid: uid() }),
        name: given("io.kubernetes.container.name").filter(|_| role == Role::Application),
        image: image.cloned(),
        image_digest: digest(&config.image),
        runtime: Some(host.runtime).filter(|runtime| !runtime.is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{ID, UID, cart, host},
        *,
    };

    fn describe(config: &str, host_config: &str) -> Option<Described> {
        let at = format!("var/lib/docker/containers/{ID}");
        let files = [
            (format!("{at}/config.v2.json"), config.to_owned()),
            (format!("{at}/hostconfig.json"), host_config.to_owned()),
        ];
        let files: Vec<_> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        Docker::below(host(&files).path()).describe(ID).unwrap()
    }

    #[test]
    fn a_container_is_known_by_its_labels() {
        let config = format!(
            r#"{{
              "StreamConfig": {{}},
              "State": {{ "Running": true, "Pid": 4711 }},
              "ID": "{ID}",
              "Image": "sha256:77",
              "Name": "/k8s_app_cart-0_shop_{UID}_0",
              "Config": {{
                "Image": "nginx@sha256:34cd",
                "Labels": {{
                  "io.kubernetes.container.name": "app",
                  "io.kubernetes.docker.type": "container",
                  "io.kubernetes.pod.name": "cart-0",
                  "io.kubernetes.pod.namespace": "shop",
                  "io.kubernetes.pod.uid": "{UID}",
                  "io.kubernetes.sandbox.id": "aa"
                }}
              }}
            }}"#
        );
        let want = Described {
            role: Role::Application,
            pod: Some(cart()),
            name: Some("app".into()),
            image: Some("nginx@sha256:34cd".into()),
            image_digest: Some("sha256:34cd".into()),
            runtime: Some("runc".into()),
        };
        assert_eq!(describe(&config, r#"{ "Runtime": "runc", "CgroupParent": "/kubepods" }"#), Some(want));
    }

    #[test]
    fn the_pause_container_is_a_sandbox() {
        let config = r#"{ "Config": { "Image": "sha256:77", "Labels": {
            "io.kubernetes.container.name": "POD",
            "io.kubernetes.docker.type": "podsandbox",
            "io.kubernetes.pod.name": "cart-0",
            "io.kubernetes.pod.namespace": "shop"
        } } }"#;
        let found = describe(config, "").unwrap();
        assert_eq!((found.role, found.name, found.image), (Role::Sandbox, None, None));
    }

    #[test]
    fn a_container_that_somebody_ran_by_hand_has_no_pod() {
        let found = describe(r#"{ "Config": { "Image": "nginx", "Labels": null } }"#, "{}").unwrap();
        assert_eq!((found.pod, found.name, found.image.as_deref()), (None, None, Some("nginx")));
    }
}
