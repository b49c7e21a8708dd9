//! gadgetd, deployed as it is shipped, records what people run on nodes; and what it writes can be enforced.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Output as Finished;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use gadgetd_e2e::images::Image;
use gadgetd_e2e::{Node, Runtime, Tier, User, assets, eventually};
use gadgetd_kube::{Output, OutputMode, State, TraceFilter, TraceSpec, TraceStatus};
use gadgetd_kube_tests::{SYSTEM, Tracing, make, names_in};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::{RwLock, RwLockReadGuard};

/// How long a kubelet may take for what a test waits for.
const LIMIT: Duration = Duration::from_mins(2);

/// Runs a program for as long as the container is wanted.
macro_rules! serving {
    ($script:literal) => {
        concat!("trap 'exit 0' TERM; ", $script, "; sleep 1000 & wait")
    };
}

/// Whoever records needs gadgetd; one test takes it away from the others.
static RUNTIME: RwLock<()> = RwLock::const_new(());

/// A namespace on the node that these tests share.
struct Scene {
    _there: Option<RwLockReadGuard<'static, ()>>,
    runtime: Runtime<'static>,
    admin: Client,
    namespace: &'static str,
}

impl Scene {
    /// `None`, said loudly, where there can be no node.
    async fn new(namespace: &'static str) -> Result<Option<Self>> {
        if assets(Tier::Node).is_none() {
            return Ok(None);
        }
        let there = RUNTIME.read().await;
        Ok(Some(Self { _there: Some(there), ..Self::alone(namespace).await? }))
    }

    /// For whoever holds [`RUNTIME`].
    async fn alone(namespace: &'static str) -> Result<Self> {
        let runtime = Runtime::shared().await?;
        let admin = runtime.node().api().client(&User::admin()).await?;
        make(&Api::<Namespace>::all(admin.clone()), json!({ "metadata": { "name": namespace } })).await?;
        let accounts = Api::<ServiceAccount>::namespaced(admin.clone(), namespace);
        eventually("account for the pods", LIMIT, async || accounts.get("default").await).await?;
        Ok(Self { _there: None, runtime, admin, namespace })
    }

    fn node(&self) -> &'static Node {
        self.runtime.node()
    }

    /// Makes an object of the namespace.
    fn apply(&self, kind: &str, version: &str, name: &str, spec: &Value) -> Result<()> {
        let metadata = json!({ "name": name, "namespace": self.namespace });
        let object = json!({ "apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec });
        self.node().apply(&object.to_string())
    }

    fn pod(&self, name: &str, spec: &Value) -> Result<()> {
        self.apply("Pod", "v1", name, spec)
    }

    fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.node().kubectl_output(&[&["--namespace", self.namespace], arguments].concat())
    }

    fn ready(&self, pod: &str) -> Result<()> {
        let waited = self.kubectl(&["wait", "--for=condition=Ready", &format!("pod/{pod}"), "--timeout=90s"]);
        waited.map(drop).with_context(|| {
            self.kubectl(&["describe", "pod", pod]).unwrap_or_else(|error| error.to_string())
        })
    }

    /// Runs a command in a pod.
    fn exec(&self, pod: &str, command: &[&str]) -> Result<Finished> {
        let mut kubectl = self.node().kubectl()?;
        kubectl.args(["--namespace", self.namespace, "exec", pod, "--"]).args(command);
        Ok(kubectl.output()?)
    }

    /// Deletes a pod, and waits until it is gone.
    fn delete(&self, pod: &str) -> Result<()> {
        self.kubectl(&["delete", "pod", pod, "--timeout=90s"]).map(drop)
    }

    /// Makes a Trace in a namespace, and starts it.
    async fn start_in(&self, namespace: &str, spec: TraceSpec) -> Result<Tracing> {
        let api = Api::namespaced(self.admin.clone(), namespace);
        let trace = Tracing { api, name: self.namespace.into() };
        trace.create(spec).await?;
        let status = trace.operate("start", &[]).await?;
        ensure!(status.state == Some(State::Started), "{status:?}\n{}", self.runtime.account());
        Ok(trace)
    }

    async fn start(&self, spec: TraceSpec) -> Result<Tracing> {
        self.start_in(self.namespace, spec).await
    }
}

/// Waits until so many containers that ended are in documents.
async fn documented(trace: &Tracing, ended: usize) -> Result<TraceStatus> {
    trace
        .wait("documents of what ended", |_, status| {
            // The summary comes after what it sums up.
            let summed = status.outputs.len() != 1 || status.output == status.outputs[0].output;
            summed && status.outputs.iter().map(|output| output.ended.len()).sum::<usize>() >= ended
        })
        .await
}

/// Waits until a recording has found containers.
async fn found(trace: &Tracing, containers: u32) -> Result<()> {
    let seen =
        |s: &TraceStatus| s.progress.as_ref().is_some_and(|p| p.containers >= containers && p.syscalls > 0);
    trace.wait("containers", |_, status| seen(status)).await.map(drop)
}

/// Ends a recording, and takes the Trace away.
async fn stop(trace: &Tracing) -> Result<TraceStatus> {
    let status = trace.operate("stop", &[]).await?;
    ensure!(status.state == Some(State::Stopped), "{status:?}");
    trace.released().await?;
    trace.delete().await?;
    Ok(status)
}

/// The document about a container, which must be complete.
fn output<'a>(status: &'a TraceStatus, container: &str) -> Result<&'a Output> {
    let output = status.outputs.iter().find(|output| output.container == container);
    let output = output.with_context(|| format!("there is no document of {container}: {status:?}"))?;
    ensure!(output.complete, "{output:?}");
    Ok(output)
}

/// Whether a document allows a call.
fn allows(document: Option<&String>, call: &str) -> Result<bool> {
    Ok(names_in(document)?.iter().any(|name| name == call))
}

fn container(name: &str, script: &str) -> Value {
    json!({
        "name": name,
        "image": Image::Busybox.reference(),
        "imagePullPolicy": "Never",
        "command": ["sh", "-c", script],
    })
}

/// What a user of the namespace may ask for: containers of one pod.
fn spec(pod: &str) -> TraceSpec {
    let filter = TraceFilter { podname: pod.into(), ..TraceFilter::default() };
    TraceSpec {
        node: Node::NAME.into(),
        gadget: "seccomp".into(),
        filter: Some(filter),
        ..TraceSpec::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_runs() -> Result<()> {
    let Some(scene) = Scene::new("runs").await? else { return Ok(()) };
    scene.pod("cart-0", &json!({ "containers": [container("app", serving!("true"))] }))?;
    scene.ready("cart-0")?;
    // In the runtime's own namespace a Trace may name any pod.
    let filter =
        TraceFilter { namespace: scene.namespace.into(), podname: "cart-0".into(), ..TraceFilter::default() };
    let trace = scene.start_in(SYSTEM, TraceSpec { filter: Some(filter), ..spec("") }).await?;

    ensure!(scene.exec("cart-0", &["mkdir", "/tmp/a"])?.status.success());
    let status = trace.operate("generate", &[]).await?;
    ensure!(status.operation_error.is_none(), "{status:?}");
    ensure!(
        allows(status.output.as_ref(), "mkdir")? && !allows(status.output.as_ref(), "rmdir")?,
        "{status:?}"
    );
    ensure!(scene.exec("cart-0", &["rmdir", "/tmp/a"])?.status.success());
    let status = stop(&trace).await?;
    ensure!(
        allows(status.output.as_ref(), "mkdir")? && allows(status.output.as_ref(), "rmdir")?,
        "{status:?}"
    );
    ensure!(output(&status, "app")?.output == status.output, "{status:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_with_two_containers() -> Result<()> {
    let Some(scene) = Scene::new("two").await? else { return Ok(()) };
    let trace = scene.start(spec("cart-0")).await?;
    let containers =
        [container("app", serving!("mkdir /tmp/a")), container("log", serving!("ln -s a /tmp/b"))];
    scene.pod("cart-0", &json!({ "containers": containers }))?;
    scene.ready("cart-0")?;
    found(&trace, 2).await?;

    // They come in any order; each has what it did and not what the other one did.
    let status = eventually("the calls of both", LIMIT, async || {
        let status = trace.operate("generate", &[]).await?;
        let (app, log) = (output(&status, "app")?, output(&status, "log")?);
        ensure!(
            allows(app.output.as_ref(), "mkdir")? && allows(log.output.as_ref(), "symlink")?,
            "{status:?}"
        );
        ensure!(
            !allows(app.output.as_ref(), "symlink")? && !allows(log.output.as_ref(), "mkdir")?,
            "{status:?}"
        );
        Ok(status)
    })
    .await?;
    ensure!(status.output.is_none() && status.outputs.len() == 2, "{status:?}");
    let warning = status.operation_warning.context("a warning that there are two")?;
    ensure!(warning.contains("two/cart-0/app, two/cart-0/log") && warning.contains("merge=pod"), "{warning}");

    let status = trace.operate("generate", &[("merge", "pod")]).await?;
    let union = status.output.as_ref();
    ensure!(allows(union, "mkdir")? && allows(union, "symlink")? && status.outputs.len() == 1, "{status:?}");
    stop(&trace).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_ends_in_under_a_second() -> Result<()> {
    let Some(scene) = Scene::new("quick").await? else { return Ok(()) };
    let filter = TraceFilter {
        labels: [("job-name".to_owned(), "quick".to_owned())].into(),
        ..TraceFilter::default()
    };
    let trace = scene.start(TraceSpec { filter: Some(filter), ..spec("") }).await?;
    let pod = json!({ "restartPolicy": "Never", "containers": [container("app", "mkdir /tmp/a")] });
    scene.apply("Job", "batch/v1", "quick", &json!({ "template": { "spec": pod } }))?;
    let status = documented(&trace, 1).await?;
    let output = output(&status, "app")?;
    ensure!(output.pod.starts_with("quick-") && output.ended == output.instances, "{output:?}");
    ensure!(allows(output.output.as_ref(), "mkdir")?, "{output:?}");
    stop(&trace).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_init_container() -> Result<()> {
    let Some(scene) = Scene::new("init").await? else { return Ok(()) };
    let trace = scene.start(spec("cart-0")).await?;
    let spec = json!({
        "initContainers": [container("prepare", "mkdir /tmp/a")],
        "containers": [container("app", serving!("ln -s a /tmp/b"))],
    });
    scene.pod("cart-0", &spec)?;
    scene.ready("cart-0")?;
    let status = eventually("the calls of both", LIMIT, async || {
        let status = trace.operate("generate", &[]).await?;
        ensure!(allows(output(&status, "app")?.output.as_ref(), "symlink")?, "{status:?}");
        output(&status, "prepare")?;
        Ok(status)
    })
    .await?;
    let (prepare, app) = (output(&status, "prepare")?, output(&status, "app")?);
    ensure!(allows(prepare.output.as_ref(), "mkdir")? && !allows(prepare.output.as_ref(), "symlink")?);
    ensure!(!allows(app.output.as_ref(), "mkdir")?, "{app:?}");
    ensure!(prepare.ended.len() == 1 && app.ended.is_empty(), "{status:?}");
    stop(&trace).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_crashes_again_and_again() -> Result<()> {
    let Some(scene) = Scene::new("crashes").await? else { return Ok(()) };
    let trace = scene.start(spec("cart-0")).await?;
    // The second time it takes another way.
    let mut app = container("app", "mkdir /data/a || ln -s a /data/b; exit 1");
    app["volumeMounts"] = json!([{ "name": "data", "mountPath": "/data" }]);
    scene.pod("cart-0", &json!({ "containers": [app], "volumes": [{ "name": "data", "emptyDir": {} }] }))?;
    let status = documented(&trace, 2).await?;
    let output = output(&status, "app")?;
    ensure!(status.outputs.len() == 1 && output.ended.len() >= 2, "{status:?}");
    ensure!(allows(output.output.as_ref(), "symlink")?, "{output:?}");
    ensure!(status.output == output.output, "{status:?}");
    stop(&trace).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_deleted_at_once() -> Result<()> {
    let Some(scene) = Scene::new("deleted").await? else { return Ok(()) };
    let trace = scene.start(spec("cart-0")).await?;
    scene.pod("cart-0", &json!({ "containers": [container("app", "mkdir /tmp/a; sleep 1000")] }))?;
    found(&trace, 1).await?;
    scene.kubectl(&["delete", "pod", "cart-0", "--force", "--grace-period=0"])?;
    let status = documented(&trace, 1).await?;
    let output = output(&status, "app")?;
    ensure!((&*output.namespace, &*output.pod) == (scene.namespace, "cart-0"), "{output:?}");
    ensure!(allows(output.output.as_ref(), "mkdir")?, "{output:?}");
    stop(&trace).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_is_a_file_that_pods_run_under() -> Result<()> {
    let Some(scene) = Scene::new("enforced").await? else { return Ok(()) };
    enforce(&scene, false).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_holds_with_privilege_escalation() -> Result<()> {
    let Some(scene) = Scene::new("escalation").await? else { return Ok(()) };
    enforce(&scene, true).await
}

/// Records a pod and commands in it; another one then runs under the profile, and can do as much and no more.
async fn enforce(scene: &Scene, escalation: bool) -> Result<()> {
    let pod = |seccomp: Value| {
        let mut app = container("app", serving!("touch /tmp/a && ls /tmp"));
        app["securityContext"] = json!({ "allowPrivilegeEscalation": escalation });
        json!({ "securityContext": { "seccompProfile": seccomp }, "containers": [app] })
    };
    let wanted = TraceSpec { output_mode: OutputMode::File, output: "cart.json".into(), ..spec("free") };
    let trace = scene.start(wanted).await?;
    scene.pod("free", &pod(json!({ "type": "Unconfined" })))?;
    scene.ready("free")?;
    for file in ["/tmp/b", "/tmp/c"] {
        ensure!(scene.exec("free", &["touch", file])?.status.success());
    }
    let status = stop(&trace).await?;
    let profile = output(&status, "app")?.localhost_profile.clone().context("where the profile is")?;
    ensure!(profile == format!("gadgetd/{}/cart.json", scene.namespace), "{profile}");
    let written = fs::read_to_string(scene.node().path("/var/lib/kubelet/seccomp").join(&profile))?;
    scene.delete("free")?;

    scene.pod("confined", &pod(json!({ "type": "Localhost", "localhostProfile": profile })))?;
    scene.ready("confined").with_context(|| written.clone())?;
    let touched = scene.exec("confined", &["touch", "/tmp/b"])?;
    ensure!(touched.status.success(), "{touched:?}\n{written}");
    let refused = scene.exec("confined", &["mkdir", "/tmp/c"])?;
    let message = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(!refused.status.success() && message.contains("Operation not permitted"), "{refused:?}");
    // A profile without what an end takes would keep it from ending.
    scene.delete("confined")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_goes_on_while_gadgetd_is_gone() -> Result<()> {
    if assets(Tier::Node).is_none() {
        return Ok(());
    }
    let _mine = RUNTIME.write().await;
    let scene = Scene::alone("gone").await?;
    let labels = [("app".to_owned(), "cart".to_owned())];
    let filter = TraceFilter { labels: labels.into(), ..TraceFilter::default() };
    let trace = scene.start(TraceSpec { filter: Some(filter), ..spec("") }).await?;
    let pod = |name: &str, spec: Value| {
        let metadata = json!({ "name": name, "namespace": scene.namespace, "labels": { "app": "cart" } });
        let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec });
        scene.node().apply(&pod.to_string())
    };
    pod("cart-0", json!({ "containers": [container("app", serving!("true"))] }))?;
    scene.ready("cart-0")?;
    found(&trace, 1).await?;

    scene.runtime.elsewhere(true).await?;
    ensure!(scene.exec("cart-0", &["mkdir", "/tmp/a"])?.status.success());
    // One comes and goes, and nobody sees it but the kernel.
    let brief = container("brief", "ln -s a /tmp/b");
    pod("cart-1", json!({ "restartPolicy": "Never", "containers": [brief] }))?;
    eventually("end of the other pod", LIMIT, async || {
        let phase = scene.kubectl(&["get", "pod", "cart-1", "--output=jsonpath={.status.phase}"])?;
        ensure!(phase == "Succeeded", "{phase}");
        Ok(())
    })
    .await?;
    scene.runtime.elsewhere(false).await?;

    let status = documented(&trace, 1).await?;
    ensure!(allows(output(&status, "brief")?.output.as_ref(), "symlink")?, "{status:?}");
    let status = stop(&trace).await?;
    let app = output(&status, "app")?;
    ensure!(allows(app.output.as_ref(), "mkdir")? && !allows(app.output.as_ref(), "symlink")?, "{app:?}");
    scene.runtime.idle().await
}

/// What is shipped for other distributions is what is tested here, with other folders of the host.
#[tokio::test(flavor = "multi_thread")]
async fn other_distributions_have_other_folders() -> Result<()> {
    let Some(scene) = Scene::new("distributions").await? else { return Ok(()) };
    // What kubectl makes of such a folder, the API server makes of the patch in it; and kubectl of 1.20 reads no folders.
    let patched = |patch: &str| -> Result<Value> {
        let how = [
            "--namespace",
            SYSTEM,
            "--type=strategic",
            "--dry-run=server",
            "--output=json",
            "--patch",
            patch,
        ];
        let text = scene.node().kubectl_output(&[&["patch", "daemonset", "gadgetd"], &how[..]].concat())?;
        Ok(serde_json::from_str::<Value>(&text)?["spec"]["template"]["spec"].take())
    };
    let pod = |distribution: &str| -> Result<Value> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/distributions");
        let text = fs::read_to_string(format!("{folder}/{distribution}/kustomization.yaml"))?;
        let overlay: Value = serde_saphyr::from_str(&text)?;
        ensure!(overlay["resources"] == json!(["../../base"]), "{overlay:#}");
        patched(overlay["patches"][0]["patch"].as_str().context("a patch")?)
    };
    let volumes = |pod: &Value| -> BTreeMap<String, String> {
        let path = |volume: &Value| {
            Some((volume["name"].as_str()?.into(), volume["hostPath"]["path"].as_str()?.into()))
        };
        pod["volumes"].as_array().into_iter().flatten().filter_map(path).collect()
    };
    let base = volumes(&patched("{}")?);
    let task = |state: &str| ("containerd".to_owned(), format!("{state}/io.containerd.runtime.v2.task"));
    let profiles = |kubelet: &str| ("seccomp".to_owned(), format!("{kubelet}/seccomp/gadgetd"));
    let microk8s = "/var/snap/microk8s/common";
    let rows = [
        ("k3s", vec![task("/run/k3s/containerd")]),
        ("k0s", vec![task("/run/k0s/containerd"), profiles("/var/lib/k0s/kubelet")]),
        (
            "microk8s",
            vec![
                task(&format!("{microk8s}/run/containerd")),
                profiles(&format!("{microk8s}/var/lib/kubelet")),
            ],
        ),
        ("docker", vec![("docker".to_owned(), "/var/lib/docker/containers".to_owned())]),
    ];
    for (distribution, others) in rows {
        let pod = pod(distribution)?;
        let mut want = base.clone();
        want.extend(others);
        ensure!(volumes(&pod) == want, "{distribution}: {pod:#}");
        let mounts = pod["containers"][0]["volumeMounts"].as_array().context("mounts")?;
        let mounted: BTreeSet<_> = mounts.iter().filter_map(|mount| mount["name"].as_str()).collect();
        ensure!(want.keys().map(String::as_str).eq(mounted), "{distribution}: {mounts:?}");
        // The profile that AppArmor has for containers lets nobody write there, which nothing else here would show.
        let writable = mounts.iter().filter(|mount| mount["readOnly"] != true);
        for path in writable.filter_map(|mount| mount["mountPath"].as_str()) {
            ensure!(!path.starts_with("/sys") && !path.starts_with("/proc"), "{distribution}: {path}");
        }
    }
    Ok(())
}
