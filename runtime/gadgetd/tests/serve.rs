//! `gadgetd serve` against a real API server and the real kernel. Only the kubelet and its container runtime are played:
//! pods are objects in the API, and containers are cgroups that are named as theirs, with real processes in them.

mod support;

use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use gadgetd_containers::Hierarchy;
use gadgetd_e2e::{User, eventually, free_ports};
use gadgetd_kube::{OutputMode, State, TraceFilter, TraceSpec, TraceStatus};
use gadgetd_kube_tests::{
    Cluster, LIMIT, SYSTEM, Tracing, make, names, names_in,
    spo::{GROUP, KIND, PLURAL, releases},
};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt as _,
    api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams},
};
use rustix::process::Signal;
use serde_json::{Value, json};
use support::{BpfFs, Running, TestCgroup, can_record, gadgetd, start};
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};

/// A node, as far as gadgetd sees it.
struct Node {
    cluster: Cluster,
    name: String,
    /// A namespace of the test's own.
    namespace: String,
    /// What is a node's root elsewhere: state, cache, profiles, bundles.
    root: TempDir,
    /// Where what is recorded outlives gadgetd.
    pins: BpfFs,
    /// Below which the kubelet would make its pods' cgroups.
    top: TestCgroup,
    port: u16,
    _only: MutexGuard<'static, ()>,
}

impl Drop for Node {
    fn drop(&mut self) {
        let Ok(hierarchy) = Hierarchy::find() else { return };
        let _ = fs::write(self.top.0.join("cgroup.kill"), "1");
        let top = self.top.0.strip_prefix(hierarchy.mount()).unwrap_or(&self.top.0);
        let below = hierarchy.tree(&format!("/{}", top.display()));
        // The last are the lowest; each waits until its processes have gone.
        for (cgroup, _) in below.into_iter().skip(1).rev() {
            drop(TestCgroup(hierarchy.directory(&cgroup)));
        }
    }
}

/// A pod of it.
struct PlayedPod {
    api: Api<Pod>,
    name: String,
    uid: String,
    statuses: BTreeMap<String, Value>,
}

/// What the cgroups of all containers of a test are below; the test's process follows.
const TOP: &str = "/serve-test-";

/// Removes what a test has left that was killed: its containers would have slots here.
fn sweep(hierarchy: &Hierarchy) {
    let dead = |cgroup: &String| {
        let process = cgroup.strip_prefix(TOP).and_then(|rest| rest.split('/').next());
        process.is_some_and(|process| !Path::new("/proc").join(process).exists())
    };
    let mut left: Vec<_> = hierarchy.tree("/").into_iter().map(|(cgroup, _)| cgroup).filter(dead).collect();
    // What is below comes first.
    left.sort_by(|a, b| b.cmp(a));
    for cgroup in left {
        drop(TestCgroup(hierarchy.directory(&cgroup)));
    }
}

impl Node {
    async fn new(cluster: Cluster) -> Result<Self> {
        // Nodes that share a kernel would see each other's containers.
        static ONLY: Mutex<()> = Mutex::const_new(());
        let only = ONLY.lock().await;
        let hierarchy = Hierarchy::find()?;
        sweep(&hierarchy);
        let top = hierarchy.directory(&format!("{TOP}{}", std::process::id()));
        let [port] = free_ports()?;
        let this = Self {
            cluster,
            name: names("node"),
            namespace: names("shop"),
            root: tempfile::tempdir()?,
            pins: BpfFs::mount(),
            top: TestCgroup::make(&top),
            port,
            _only: only,
        };
        this.cluster.namespace(&this.namespace).await?;
        this.cluster.node(&this.name).await?;
        Ok(this)
    }

    fn path(&self, below: &str) -> PathBuf {
        self.root.path().join(below)
    }

    /// `gadgetd serve` for this node.
    fn command(&self) -> Result<std::process::Command> {
        let mut command = gadgetd(["serve", "--log-format", "json"]);
        for (flag, folder) in
            [("state-dir", "state"), ("cache-dir", "cache"), ("seccomp-dir", "seccomp"), ("host-root", "")]
        {
            command.arg(format!("--{flag}={}", self.path(folder).display()));
        }
        command.arg(format!("--pin-dir={}", self.pins.path().join("gadgetd").display()));
        command.arg(format!("--listen=127.0.0.1:{}", self.port));
        command.env("NODE_NAME", &self.name).env("POD_NAMESPACE", SYSTEM);
        command.env("KUBECONFIG", self.cluster.server().kubeconfig(&User::new("gadgetd"))?);
        Ok(command)
    }

    /// Starts it, and waits until it is ready.
    async fn serve(&self) -> Result<Running> {
        let running = start(&mut self.command()?);
        self.ready(&running).await?;
        Ok(running)
    }

    async fn ready(&self, running: &Running) -> Result<()> {
        eventually("readiness", LIMIT, async || {
            let (status, body) = self.get("/readyz")?;
            ensure!(status == 200, "{body}\n{}", running.stderr.now());
            Ok(())
        })
        .await
    }

    /// What it answers over HTTP.
    fn get(&self, path: &str) -> Result<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("an answer")?;
        let status = head.split(' ').nth(1).context("a status")?.parse()?;
        Ok((status, body.to_owned()))
    }

    /// The value of a metric.
    fn metric(&self, name: &str) -> Result<u64> {
        let (_, text) = self.get("/metrics")?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(line.with_context(|| format!("no {name} in {text}"))?.parse()?)
    }

    /// The kubelet takes a pod on.
    async fn pod(&self, name: &str, labels: &[(&str, &str)], containers: &[&str]) -> Result<PlayedPod> {
        let api = Api::<Pod>::namespaced(self.cluster.admin.clone(), &self.namespace);
        let labels: BTreeMap<_, _> = labels.iter().copied().collect();
        let containers: Vec<_> =
            containers.iter().map(|name| json!({ "name": name, "image": "busybox" })).collect();
        let object = json!({
            "metadata": { "name": name, "labels": labels },
            "spec": { "nodeName": self.name, "containers": containers, "terminationGracePeriodSeconds": 0 },
        });
        let pod = make(&api, object).await?;
        let uid = pod.uid().context("a uid")?;
        Ok(PlayedPod { api, name: name.into(), uid, statuses: BTreeMap::new() })
    }

    /// The container runtime makes a container, and writes its bundle first.
    fn container(&self, pod: &PlayedPod, name: &str) -> Result<(String, TestCgroup)> {
        let annotations = json!({ "container-type": "container", "container-name": name });
        self.make(pod, &annotations)
    }

    fn make(&self, pod: &PlayedPod, annotations: &Value) -> Result<(String, TestCgroup)> {
        static MADE: AtomicU32 = AtomicU32::new(1);
        let id = format!("{:08x}{:056x}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let mut all = json!({
            "io.kubernetes.cri.sandbox-name": pod.name,
            "io.kubernetes.cri.sandbox-namespace": self.namespace,
            "io.kubernetes.cri.sandbox-uid": pod.uid,
        });
        for (key, value) in annotations.as_object().context("annotations")? {
            all[format!("io.kubernetes.cri.{key}")] = value.clone();
        }
        let bundle = self.path("run/containerd/io.containerd.runtime.v2.task/k8s.io").join(&id);
        fs::create_dir_all(&bundle)?;
        fs::write(bundle.join("config.json"), json!({ "annotations": all }).to_string())?;
        fs::write(bundle.join("runtime"), "")?;
        let cgroup = self.top.0.join(format!("kubepods/besteffort/pod{}/{id}", pod.uid));
        Ok((id, TestCgroup::make(&cgroup)))
    }

    /// The runtime removes the bundle of a container that ended; the cgroup goes with its handle.
    fn remove(&self, id: &str, cgroup: TestCgroup) -> Result<()> {
        drop(cgroup);
        let bundles = self.path("run/containerd/io.containerd.runtime.v2.task/k8s.io");
        Ok(fs::remove_dir_all(bundles.join(id))?)
    }

    fn spec(&self, pod: &str) -> TraceSpec {
        let filter =
            TraceFilter { namespace: self.namespace.clone(), podname: pod.into(), ..TraceFilter::default() };
        TraceSpec {
            node: self.name.clone(),
            gadget: "seccomp".into(),
            filter: Some(filter),
            ..TraceSpec::default()
        }
    }

    fn trace(&self) -> Tracing {
        self.cluster.trace(SYSTEM, &names("trace"))
    }

    /// Waits until nothing of a recording is left.
    async fn clean(&self) -> Result<()> {
        eventually("a clean node", LIMIT, async || {
            for metric in ["gadgetd_recordings", "gadgetd_slots_used"] {
                let left = self.metric(metric)?;
                ensure!(left == 0, "{metric} {left}");
            }
            for folder in [self.path("state"), self.pins.path().join("gadgetd")] {
                let left: Vec<_> = fs::read_dir(folder)?.collect();
                ensure!(left.is_empty(), "{left:?}");
            }
            Ok(())
        })
        .await
    }
}

impl PlayedPod {
    /// The kubelet tells the API server of a container.
    async fn tell(&mut self, name: &str, id: &str) -> Result<()> {
        let status = json!({
            "name": name, "image": "docker.io/library/busybox:latest",
            "imageID": "docker.io/library/busybox@sha256:0a0b", "ready": true, "restartCount": 0,
            "containerID": format!("containerd://{id}"),
        });
        self.statuses.insert(name.into(), status);
        let statuses: Vec<_> = self.statuses.values().collect();
        let patch = Patch::Merge(json!({ "status": { "containerStatuses": statuses } }));
        self.api.patch_status(&self.name, &PatchParams::default(), &patch).await?;
        Ok(())
    }

    async fn delete(&self) -> Result<()> {
        self.api.delete(&self.name, &DeleteParams::default().grace_period(0)).await?;
        Ok(())
    }
}

/// A node of a cluster that the tests share; `None`, said loudly, where there can be none.
async fn node() -> Result<Option<Node>> {
    if !can_record() {
        return Ok(None);
    }
    match Cluster::shared().await? {
        Some(cluster) => Node::new(cluster).await.map(Some),
        None => Ok(None),
    }
}

/// Waits until documents of so many ended containers are there.
async fn documented(trace: &Tracing, ended: usize) -> Result<TraceStatus> {
    trace
        .wait("documents of what ended", |_, status| {
            status.outputs.iter().map(|output| output.ended.len()).sum::<usize>() == ended
        })
        .await
}

/// Ends gadgetd as a kubelet does.
fn terminate(running: Running) {
    running.signal(Signal::TERM);
    running.finish().code(0);
}

/// A program for a container: `link` is a call that neither a shell nor the tools around make.
const LINKS: &str = "exec ln /proc/self/none /none";

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_is_gone_at_once_gets_its_profile() -> Result<()> {
    let Some(node) = node().await? else { return Ok(()) };
    let gadgetd = node.serve().await?;
    let trace = node.trace();
    trace.create(node.spec("cart-0")).await?;
    let status = trace.operate("start", &[]).await?;
    let warning = status.operation_warning.context("a warning")?;
    ensure!(warning.contains("not found"), "{warning}");

    let pod = node.pod("cart-0", &[], &["app"]).await?;
    let (pause, sandbox) = node.make(&pod, &json!({ "container-type": "sandbox" }))?;
    let holds = sandbox.start("exec sleep 1000");
    let (id, cgroup) = node.container(&pod, "app")?;
    // In here a missing file makes it fail, and end.
    let _ = cgroup.start(LINKS).child.wait()?;
    node.remove(&id, cgroup)?;
    drop(holds);
    node.remove(&pause, sandbox)?;
    pod.delete().await?;

    let status = documented(&trace, 1).await?;
    let [output] = &status.outputs[..] else { bail!("{:?}", status.outputs) };
    ensure!((&*output.pod, &*output.container) == ("cart-0", "app") && output.complete, "{output:?}");
    ensure!(output.instances == [id], "{output:?}");
    let names = names_in(output.output.as_ref())?;
    ensure!(names.iter().any(|name| name.starts_with("link")), "{names:?}");

    let status = trace.operate("stop", &[]).await?;
    ensure!(status.state == Some(State::Stopped) && status.output == output.output, "{status:?}");
    trace.released().await?;
    trace.delete().await?;
    node.clean().await?;
    terminate(gadgetd);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_runs_is_recorded_until_it_is_stopped() -> Result<()> {
    let Some(node) = node().await? else { return Ok(()) };
    let mut pod = node.pod("cart-0", &[("app", "cart")], &["app", "log"]).await?;
    let (id, cgroup) = node.container(&pod, "app")?;
    let mut app = cgroup.start("while read command; do $command; done");
    let (other, beside) = node.container(&pod, "log")?;
    let _log = beside.start("exec sleep 1000");
    pod.tell("app", &id).await?;
    pod.tell("log", &other).await?;
    let gadgetd = node.serve().await?;

    let trace = node.trace();
    let filter = TraceFilter {
        labels: [("app".to_owned(), "cart".to_owned())].into(),
        container_name: "app".into(),
        ..TraceFilter::default()
    };
    trace.create(TraceSpec { filter: Some(filter), ..node.spec("") }).await?;
    let status = trace.operate("start", &[]).await?;
    ensure!(status.operation_warning.is_none(), "{status:?}");
    // Until it is known that the other one is not meant, it has a slot too.
    eventually("slots of nobody are given back", LIMIT, async || {
        let used = node.metric("gadgetd_slots_used")?;
        ensure!(used == 1, "{used} slots are used");
        Ok(())
    })
    .await?;
    app.line("mkdir /proc/none");
    trace
        .wait("its calls", |_, s| s.progress.as_ref().is_some_and(|p| p.containers == 1 && p.syscalls > 5))
        .await?;
    let status = trace.operate("generate", &[]).await?;
    let names = names_in(status.output.as_ref())?;
    ensure!(names.iter().any(|name| name == "mkdir"), "{names:?}");
    ensure!(!names.iter().any(|name| name.starts_with("link")), "{names:?}");
    app.line("ln /proc/self/none /none");
    let before = status.progress.map_or(0, |p| p.syscalls);
    trace.wait("more calls", |_, s| s.progress.as_ref().is_some_and(|p| p.syscalls > before)).await?;
    let status = trace.operate("stop", &[]).await?;
    let names = names_in(status.output.as_ref())?;
    ensure!(names.iter().any(|name| name.starts_with("link")), "{names:?}");
    trace.delete().await?;
    node.clean().await?;
    terminate(gadgetd);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_goes_on_while_gadgetd_is_killed() -> Result<()> {
    let Some(node) = node().await? else { return Ok(()) };
    let gadgetd = node.serve().await?;
    let trace = node.trace();
    let mut spec = node.spec("cart-0");
    spec.parameters.insert("formatter".into(), "table".into());
    trace.create(spec).await?;
    trace.operate("start", &[]).await?;
    let mut pod = node.pod("cart-0", &[], &["app", "job"]).await?;
    let (id, cgroup) = node.container(&pod, "app")?;
    let mut app = cgroup.start("while read command; do $command; done");
    pod.tell("app", &id).await?;
    app.line("mkdir /proc/none");
    trace.wait("its calls", |_, s| s.progress.as_ref().is_some_and(|p| p.syscalls > 5)).await?;
    gadgetd.signal(Signal::KILL);
    gadgetd.finish().code(-9);

    // Nobody runs: the one that is recorded makes a new call, and another one comes and goes.
    app.line("ln /proc/self/none /none");
    app.line("echo done");
    app.stdout.until("done");
    let (short, job) = node.container(&pod, "job")?;
    let _ = job.start("exec rmdir /proc/none").child.wait()?;
    node.remove(&short, job)?;
    pod.tell("job", &short).await?;

    let gadgetd = node.serve().await?;
    documented(&trace, 1).await?;
    app.line("sync -f /proc");
    app.line("echo more");
    app.stdout.until("more");
    let status = trace.operate("stop", &[]).await?;
    ensure!(status.outputs.len() == 2, "{status:?}");
    for (name, calls) in [("app", vec!["mkdir", "link", "syncfs"]), ("job", vec!["rmdir"])] {
        let output = status.outputs.iter().find(|output| output.container == name).context("a document")?;
        let text = output.output.as_ref().context("a table")?;
        ensure!(output.complete && output.warning.is_none(), "{output:?}");
        ensure!(text.contains("recorded from its first process on; nothing was lost"), "{text}");
        for call in calls {
            ensure!(text.lines().any(|line| line.starts_with(call)), "no {call} in {text}");
        }
    }
    trace.delete().await?;
    node.clean().await?;
    terminate(gadgetd);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_goes_where_the_kubelet_finds_it() -> Result<()> {
    let Some(node) = node().await? else { return Ok(()) };
    let gadgetd = node.serve().await?;
    let trace = node.trace();
    let spec = TraceSpec { output_mode: OutputMode::File, output: "cart.json".into(), ..node.spec("cart-0") };
    trace.create(spec).await?;
    trace.operate("start", &[]).await?;
    let pod = node.pod("cart-0", &[], &["app"]).await?;
    let (id, cgroup) = node.container(&pod, "app")?;
    let _ = cgroup.start(LINKS).child.wait()?;
    node.remove(&id, cgroup)?;
    let status = documented(&trace, 1).await?;
    let profile = status.outputs[0].localhost_profile.as_ref().context("where it is")?;
    ensure!(profile == &format!("gadgetd/{SYSTEM}/cart.json"), "{profile}");
    let written = fs::read_to_string(node.path("seccomp").join(profile))?;
    ensure!(names_in(Some(&written))?.len() > 3, "{written}");
    trace.delete().await?;
    node.clean().await?;
    terminate(gadgetd);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_is_an_object_that_the_gadget_makes() -> Result<()> {
    let Some(node) = node().await? else { return Ok(()) };
    let release = releases()?.into_iter().rfind(|r| r.namespaced).context("a definition with namespaces")?;
    node.cluster.install(&release.crd).await?;
    let gadgetd = node.serve().await?;
    let trace = node.trace();
    let output_mode = OutputMode::ExternalResource;
    trace.create(TraceSpec { output_mode, output: "cart".into(), ..node.spec("cart-0") }).await?;
    trace.operate("start", &[]).await?;
    let pod = node.pod("cart-0", &[], &["app"]).await?;
    let (id, cgroup) = node.container(&pod, "app")?;
    let _ = cgroup.start(LINKS).child.wait()?;
    node.remove(&id, cgroup)?;
    let status = documented(&trace, 1).await?;
    ensure!(status.operation_error.is_none(), "{status:?}");
    let shop = &node.namespace;
    let output = &status.outputs[0];
    ensure!(output.resource == Some(format!("{shop}/cart")), "{output:?}");
    ensure!(output.localhost_profile == Some(format!("operator/{shop}/cart.json")), "{output:?}");
    let kind = ApiResource {
        group: GROUP.into(),
        version: release.version.into(),
        api_version: format!("{GROUP}/{}", release.version),
        kind: KIND.into(),
        plural: PLURAL.into(),
    };
    let profiles = Api::<DynamicObject>::namespaced_with(node.cluster.admin.clone(), shop, &kind);
    let profile = profiles.get("cart").await?;
    let names = profile.data["spec"]["syscalls"][0]["names"].as_array().context("names")?.clone();
    ensure!(names.iter().any(|name| name.as_str().is_some_and(|name| name.starts_with("link"))), "{names:?}");
    ensure!(
        profile.annotations()["seccomp.gadget.kinvolk.io/pod"] == format!("{shop}/cart-0"),
        "{profile:?}"
    );
    trace.delete().await?;
    node.clean().await?;
    gadgetd.signal(Signal::TERM);
    // Every call is in the audit, with the Trace that it was for.
    let finished = gadgetd.finish().code(0);
    let audit = finished.stderr.lines().filter(|line| line.contains("gadgetd::audit"));
    let audit: Vec<Value> = audit.map(serde_json::from_str).collect::<Result<_, _>>()?;
    let create = audit.iter().find(|line| line["verb"] == "create").context("a call")?;
    ensure!(create["allowed"] == true && create["result"] == "ok", "{create}");
    ensure!(create["span"]["trace"] == format!("{SYSTEM}/{}", trace.name), "{create}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_counts_and_how_it_is() -> Result<()> {
    let Some(node) = node().await? else { return Ok(()) };
    let gadgetd = node.serve().await?;
    ensure!(node.get("/healthz")? == (200, "ok\n".into()));
    ensure!(node.get("/readyz")? == (200, "[+]kernel ok\n[+]pods ok\n[+]traces ok\n".into()));
    ensure!(node.get("/else")?.0 == 404);
    let trace = node.trace();
    trace.create(node.spec("cart-0")).await?;
    trace.operate("start", &[]).await?;
    trace.operate("dance", &[]).await?;
    ensure!(node.metric("gadgetd_recordings")? == 1);
    ensure!(node.metric(r#"gadgetd_operations_total{operation="start",outcome="done"}"#)? == 1);
    ensure!(node.metric(r#"gadgetd_operations_total{operation="other",outcome="refused"}"#)? == 1);
    trace.delete().await?;
    node.clean().await?;
    gadgetd.signal(Signal::TERM);
    let finished = gadgetd.finish().code(0);
    for line in finished.stderr.lines() {
        let line: Value = serde_json::from_str(line).with_context(|| format!("no JSON: {line}"))?;
        ensure!(line["level"].is_string() && line["message"].is_string(), "{line}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_cannot_record_says_so_in_the_trace() -> Result<()> {
    let Some(node) = node().await? else { return Ok(()) };
    // A user without any rights, who may write where gadgetd keeps things.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    fs::set_permissions(node.root.path(), open)?;
    let command = node.command()?;
    let mut unprivileged = std::process::Command::new("setpriv");
    unprivileged.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"]);
    let kubeconfig = node.path("kubeconfig");
    fs::copy(node.cluster.server().kubeconfig(&User::new("gadgetd"))?, &kubeconfig)?;
    fs::set_permissions(&kubeconfig, std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    unprivileged.arg(command.get_program()).args(command.get_args());
    unprivileged.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
    unprivileged.env("KUBECONFIG", kubeconfig);
    let gadgetd = start(&mut unprivileged);
    eventually("a reason", LIMIT, async || {
        let (status, body) = node.get("/readyz")?;
        ensure!(
            status == 503 && body.contains("[-]kernel recording needs more rights"),
            "{body}\n{}",
            gadgetd.stderr.now()
        );
        ensure!(body.contains("[+]traces ok"), "{body}");
        Ok(())
    })
    .await?;
    let trace = node.trace();
    trace.create(node.spec("cart-0")).await?;
    let status = trace.operate("start", &[]).await?;
    let error = status.operation_error.context("an error")?;
    ensure!(error.contains("CAP_BPF") && status.state != Some(State::Started), "{error}");
    trace.delete().await?;
    terminate(gadgetd);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_api_server_it_waits_and_says_for_what() -> Result<()> {
    if !can_record() {
        return Ok(());
    }
    let Some(cluster) = Cluster::own().await? else { return Ok(()) };
    let node = Node::new(cluster).await?;
    node.cluster.server().stop();
    let gadgetd = start(&mut node.command()?);
    eventually("a reason", LIMIT, async || {
        let (status, body) = node.get("/readyz")?;
        ensure!(status == 503 && body.contains("[+]kernel ok"), "{body}");
        ensure!(body.contains("[-]pods the pods of this node cannot be watched"), "{body}");
        Ok(())
    })
    .await?;
    node.cluster.server().resume().await?;
    node.ready(&gadgetd).await?;
    // And in the middle of a recording.
    let trace = node.trace();
    trace.create(node.spec("cart-0")).await?;
    trace.operate("start", &[]).await?;
    let pod = node.pod("cart-0", &[], &["app"]).await?;
    node.cluster.server().stop();
    let (id, cgroup) = node.container(&pod, "app")?;
    let _ = cgroup.start(LINKS).child.wait()?;
    node.remove(&id, cgroup)?;
    node.cluster.server().resume().await?;
    documented(&trace, 1).await?;
    trace.delete().await?;
    node.clean().await?;
    terminate(gadgetd);
    Ok(())
}
