//! containerd with its CRI plugin.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{Containers, Described, PodName, Role, StateError, digest, given, read, read_text};

/// Where the state of containerd is, in the distributions that do not leave it where it is by default too.
const STATES: [&str; 4] =
    ["run/containerd", "run/k3s/containerd", "var/snap/microk8s/common/run/containerd", "run/k0s/containerd"];

/// The bundles of containerd: `<state>/io.containerd.runtime.v2.task/k8s.io/<id>`.
#[derive(Clone, Debug)]
pub struct Containerd {
    bundles: Vec<PathBuf>,
}

/// The configuration of a bundle, as the OCI runtime specification has it.
#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

/// What the shim was told about the OCI runtime.
#[derive(Deserialize)]
struct Options {
    #[serde(default)]
    binary_name: String,
}

impl Containerd {
    /// That of a host, whose root is mounted at `root`.
    pub fn below(root: &Path) -> Self {
        let bundle = |state| root.join(state).join("io.containerd.runtime.v2.task/k8s.io");
        Self { bundles: STATES.into_iter().map(bundle).collect() }
    }
}

impl Containers for Containerd {
    fn describe(&self, id: &str) -> Result<Option<Described>, StateError> {
        for bundles in &self.bundles {
            let bundle = bundles.join(id);
            if let Some(config) = read::<Config>(&bundle.join("config.json"))? {
                return Ok(Some(described(&config.annotations, runtime(&bundle))));
            }
        }
        Ok(None)
    }
}

fn described(annotations: &BTreeMap<String, String>, runtime: Option<String>) -> Described {
    let given = |key: &str| given(annotations, &format!("io.kubernetes.cri.{key}"));
    let role = match given("container-type").as_deref() {
        Some("sandbox") => Role::Sandbox,
        _ => Role::Application,
    };
    let pod = given("sandbox-namespace").zip(given("sandbox-name"));
    let image = given("image-name");
    Described {
        role,
        pod: pod.map(|(namespace, name)| PodName { namespace, name, uid: given("sandbox-uid") }),
        name: given("container-name"),
        image_digest: image.as_deref().and_then(digest),
        image,
        runtime,
    }
}

/// The OCI runtime of a bundle: the shim for runc-like ones leaves its name there, or nothing if it is runc.
fn runtime(bundle: &Path) -> Option<String> {
    let options = read::<Options>(&bundle.join("options.json")).ok().flatten().map(|o| o.binary_name);
    let note = read_text(&bundle.join("runtime")).ok().flatten();
    let note = note.and_then(|text| String::from_utf8(text).ok());
    let binary = options.into_iter().chain(note).map(|text| text.trim().to_owned());
    let binary = binary.reduce(|one, other| if one.is_empty() { other } else { one })?;
    match Path::new(&binary).file_name() {
        Some(name) => Some(name.to_string_lossy().into_owned()),
        None => Some("runc".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{ID, UID, cart, host},
        *,
    };

    fn container() -> String {
        format!(
            r#"{{
              "ociVersion": "1.0.2-dev",
              "process": {{ "args": ["/bin/app"], "cwd": "/" }},
              "root": {{ "path": "rootfs" }},
              "annotations": {{
                "io.kubernetes.cri.container-name": "app",
                "io.kubernetes.cri.container-type": "container",
                "io.kubernetes.cri.image-name": "docker.io/library/busybox:1.36",
                "io.kubernetes.cri.sandbox-id": "aa",
                "io.kubernetes.cri.sandbox-name": "cart-0",
                "io.kubernetes.cri.sandbox-namespace": "shop",
                "io.kubernetes.cri.sandbox-uid": "{UID}"
              }},
              "linux": {{ "cgroupsPath": "/kubepods/besteffort/pod{UID}/{ID}" }}
            }}"#
        )
    }

    /// Names and texts.
    type Files<'a> = &'a [(&'a str, &'a str)];

    fn describe(state: &str, files: Files<'_>) -> Option<Described> {
        let at = format!("{state}/io.containerd.runtime.v2.task/k8s.io/{ID}");
        let files: Vec<_> = files.iter().map(|(name, text)| (format!("{at}/{name}"), *text)).collect();
        let files: Vec<_> = files.iter().map(|(path, text)| (path.as_str(), *text)).collect();
        Containerd::below(host(&files).path()).describe(ID).unwrap()
    }

    #[test]
    fn a_container_is_known_by_its_annotations() {
        let want = Described {
            role: Role::Application,
            pod: Some(cart()),
            name: Some("app".into()),
            image: Some("docker.io/library/busybox:1.36".into()),
            image_digest: None,
            runtime: None,
        };
        for state in STATES {
            assert_eq!(describe(state, &[("config.json", &container())]).as_ref(), Some(&want), "{state}");
        }
    }

    #[test]
    fn the_pause_container_is_a_sandbox() {
        let config = r#"{ "annotations": {
            "io.kubernetes.cri.container-type": "sandbox",
            "io.kubernetes.cri.sandbox-id": "aa",
            "io.kubernetes.cri.sandbox-name": "cart-0",
            "io.kubernetes.cri.sandbox-namespace": "shop"
        } }"#;
        let found = describe("run/containerd", &[("config.json", config)]).unwrap();
        assert_eq!((found.role, found.name), (Role::Sandbox, None));
        assert_eq!(found.pod, Some(PodName { uid: None, ..cart() }));
    }

    #[test]
    fn the_oci_runtime_is_what_the_shim_uses() {
        let config = container();
        let rows: [(Files<'_>, Option<&str>); 7] = [
            (&[], None),
            (&[("runtime", "")], Some("runc")),
            (&[("runtime", "/usr/bin/crun\n")], Some("crun")),
            (&[("options.json", r#"{"binary_name":"","root":""}"#), ("runtime", "")], Some("runc")),
            (&[("options.json", r#"{"binary_name":"/usr/local/bin/youki"}"#)], Some("youki")),
            (&[("options.json", r#"{"systemd_cgroup":true}"#), ("runtime", "crun")], Some("crun")),
            (&[("options.json", "broken"), ("runtime", "crun")], Some("crun")),
        ];
        for (files, want) in rows {
            let files: Vec<_> = files.iter().copied().chain([("config.json", config.as_str())]).collect();
            assert_eq!(describe("run/containerd", &files).unwrap().runtime.as_deref(), want, "{files:?}");
        }
    }

    #[test]
    fn what_is_no_pods_container_has_no_pod() {
        let found = describe("run/containerd", &[("config.json", r#"{ "ociVersion": "1.0.2" }"#)]);
        assert_eq!(found, Some(Described::default()));
    }
}
