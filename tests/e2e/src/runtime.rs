//! gadgetd on a node, as it is shipped: its image, and the manifests of `deploy`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::process::run;
use crate::{Node, eventually, shell};

/// How long what must come may take.
const LIMIT: Duration = Duration::from_mins(2);

/// A gadgetd that runs on a node.
#[derive(Clone, Copy)]
pub struct Runtime<'a> {
    node: &'a Node,
}

impl<'a> Runtime<'a> {
    /// The namespace that it runs in.
    pub const NAMESPACE: &'static str = "gadget";

    /// Puts the image where the node's container runtime finds it; nothing is pulled. It is the archive that `GADGETD_IMAGE` names, of a
    /// release for instance, or has the gadgetd that `GADGETD_BIN` names, else the one of the build that runs.
    pub fn load_image(node: &Node) -> Result<()> {
        if let Some(archive) = std::env::var_os("GADGETD_IMAGE") {
            return node.import(Path::new(&archive));
        }
        let program = match std::env::var_os("GADGETD_BIN") {
            Some(path) => PathBuf::from(path),
            None => shell::built()?.join("gadgetd"),
        };
        ensure!(program.is_file(), "{} is missing: `cargo xtask build` makes it", program.display());
        let folder = tempfile::tempdir()?;
        let archive = folder.path().join("gadgetd.tar");
        gadgetd_image::gadgetd(&program, &archive)?;
        node.import(&archive)
    }

    /// Loads the image, applies the manifests, and waits until gadgetd is ready.
    pub fn deploy(node: &'a Node) -> Result<Self> {
        Self::load_image(node)?;
        let mut apply = vec!["apply".to_owned()];
        let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/base");
        apply.extend(resources(&base)?.into_iter().map(|file| format!("--filename={}", file.display())));
        node.kubectl_output(&apply.iter().map(String::as_str).collect::<Vec<_>>())?;
        let this = Self::of(node);
        let rollout = ["rollout", "status", "daemonset/gadgetd", "--namespace", Self::NAMESPACE];
        if let Err(error) = node.kubectl_output(&[&rollout[..], &["--timeout=90s"]].concat()) {
            bail!("gadgetd does not become ready: {error:#}\n{}", this.account());
        }
        Ok(this)
    }

    /// One on the node that the tests of a program share.
    pub async fn shared() -> Result<Runtime<'static>> {
        static SHARED: OnceCell<Runtime<'static>> = OnceCell::const_new();
        SHARED.get_or_try_init(async || Runtime::deploy(Node::shared().await?)).await.copied()
    }

    /// One that somebody else deployed, or is about to.
    pub fn of(node: &'a Node) -> Self {
        Self { node }
    }

    /// Its node.
    pub fn node(&self) -> &'a Node {
        self.node
    }

    /// What Kubernetes and gadgetd itself have to say about it, for people.
    pub fn account(&self) -> String {
        let tell = |arguments: &[&str]| match self.node.kubectl_output(arguments) {
            Ok(text) => text,
            Err(error) => format!("{error:#}\n"),
        };
        let pods = ["describe", "pods", "--namespace", Self::NAMESPACE];
        let log = ["logs", "daemonset/gadgetd", "--namespace", Self::NAMESPACE, "--tail=60"];
        tell(&pods) + &tell(&log)
    }

    /// What it answers at a path such as `/metrics`, asked from its node.
    pub fn get(&self, path: &str) -> Result<String> {
        let address = ["get", "pods", "--namespace", Self::NAMESPACE];
        let address = [&address[..], &["--output=jsonpath={.items[0].status.podIP}"]].concat();
        let address = self.node.kubectl_output(&address)?;
        let url = format!("http://{address}:8080{path}");
        let answer = run(self.node.command("curl").args(["--silent", "--show-error", "--fail", &url]))?;
        Ok(String::from_utf8(answer)?)
    }

    /// The value of a metric.
    pub fn metric(&self, name: &str) -> Result<u64> {
        let text = self.get("/metrics")?;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(value.with_context(|| format!("no {name} in {text}"))?.parse()?)
    }

    /// Takes it off its node, as a drain does, or puts it back; waits until it is gone, or ready.
    pub async fn elsewhere(&self, elsewhere: bool) -> Result<()> {
        let label = if elsewhere { json!("elsewhere") } else { Value::Null };
        let spec = json!({ "nodeSelector": { "e2e": label } });
        let patch = json!({ "spec": { "template": { "spec": spec } } }).to_string();
        let inside = ["--namespace", Self::NAMESPACE];
        let kubectl = |arguments: &[&str]| self.node.kubectl_output(&[&inside[..], arguments].concat());
        kubectl(&["patch", "daemonset", "gadgetd", "--patch", &patch])?;
        if !elsewhere {
            return kubectl(&["rollout", "status", "daemonset/gadgetd", "--timeout=90s"]).map(drop);
        }
        eventually("node without gadgetd", LIMIT, async || {
            let pods = kubectl(&["get", "pods", "--output=name"])?;
            ensure!(pods.is_empty(), "{pods}");
            Ok(())
        })
        .await
    }

    /// Waits until nothing is recorded, neither in the kernel nor on disk.
    pub async fn idle(&self) -> Result<()> {
        eventually("idle gadgetd", LIMIT, async || {
            for metric in ["gadgetd_recordings", "gadgetd_slots_used"] {
                let left = self.metric(metric)?;
                ensure!(left == 0, "{metric} {left}");
            }
            let journal: Vec<_> = fs::read_dir(self.node.path("/run/gadgetd"))?
                .filter_map(|entry| Some(entry.ok()?.file_name()))
                .collect();
            ensure!(journal.is_empty(), "{journal:?}");
            Ok(())
        })
        .await
    }
}

/// The files that a kustomization is made of. The kubectl of a cluster as old as ours reads none that has folders.
fn resources(folder: &Path) -> Result<Vec<PathBuf>> {
    let text = fs::read_to_string(folder.join("kustomization.yaml"))?;
    let kustomization: Value = serde_saphyr::from_str(&text)?;
    let mut files = Vec::new();
    for resource in kustomization["resources"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let path = folder.join(resource);
        if path.is_dir() {
            files.extend(resources(&path)?);
        } else {
            files.push(path);
        }
    }
    ensure!(!files.is_empty(), "{} names no files", folder.display());
    Ok(files)
}
