//! A cluster with a node, and the program on it.

use std::{
    any::Any,
    ffi::OsStr,
    fs::File,
    io::{Read, Write as _},
    path::PathBuf,
    process::Stdio,
    sync::{
        Arc, Mutex, Once,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use anyhow::{Context as _, Result, bail, ensure};
use gadgetd_e2e::{User, eventually};
use gadgetd_kube::Trace;
use gadgetd_kube_tests::{Cluster, Files, LIMIT, Running, SYSTEM, World, make, names, settings};
use k8s_openapi::api::{apps::v1::DaemonSet, core::v1::Pod};
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use rustix::{
    process::{Pid, Signal, kill_process},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy},
    net::{TcpListener, TcpStream},
    process::{Child, Command},
    sync::RwLock,
    task::JoinHandle,
    time::timeout,
};

/// The program under test.
const PROGRAM: &str = env!("CARGO_BIN_EXE_kubectl-gadget");

/// Whoever records on all nodes must not see nodes of other tests come and go.
static NODES: RwLock<()> = RwLock::const_new(());

/// A node with a controller at work, and a namespace with the pod `cart-0` on it, whose containers are `app` and `log`.
pub(crate) struct Scene {
    pub(crate) cluster: Cluster,
    pub(crate) node: String,
    pub(crate) shop: String,
    pub(crate) world: World,
    running: Running,
    /// Held while the node is there.
    _nodes: Box<dyn Any + Send>,
}

/// A scene among others; `return`s where there is no API server.
macro_rules! scene {
    () => {
        match $crate::support::Scene::new(false).await? {
            Some(scene) => scene,
            None => return Ok(()),
        }
    };
    (alone) => {
        match $crate::support::Scene::new(true).await? {
            Some(scene) => scene,
            None => return Ok(()),
        }
    };
}
pub(crate) use scene;

impl Scene {
    pub(crate) async fn new(alone: bool) -> Result<Option<Self>> {
        let nodes: Box<dyn Any + Send> =
            if alone { Box::new(NODES.write().await) } else { Box::new(NODES.read().await) };
        let Some(cluster) = Cluster::shared().await? else { return Ok(None) };
        Self::on(cluster, nodes).await.map(Some)
    }

    /// One with an API server of its own.
    pub(crate) async fn own() -> Result<Option<Self>> {
        let Some(cluster) = Cluster::own().await? else { return Ok(None) };
        Self::on(cluster, Box::new(())).await.map(Some)
    }

    async fn on(cluster: Cluster, nodes: Box<dyn Any + Send>) -> Result<Self> {
        let (node, shop) = (names("node"), names("shop"));
        cluster.node(&node).await?;
        cluster.namespace(&shop).await?;
        runtime(&cluster, env!("CARGO_PKG_VERSION")).await?;
        runtime_pod(&cluster, &node, true).await?;
        let world = World::new(&node);
        let running = cluster.run(settings(&node), &world, &Files::default());
        let this = Self { cluster, node, shop, world, running, _nodes: nodes };
        this.pod("cart-0", &["app", "log"]).await?;
        Ok(this)
    }

    /// Makes a pod on the node, in the API and in the world.
    pub(crate) async fn pod(&self, name: &str, containers: &[&str]) -> Result<()> {
        self.world.pod(&self.shop, name, &[("tier", "web")], containers);
        let containers: Vec<_> =
            containers.iter().map(|name| json!({ "name": name, "image": "registry.example/x" })).collect();
        let pod = json!({
            "metadata": { "name": name, "labels": { "tier": "web" } },
            "spec": { "nodeName": self.node, "containers": containers },
        });
        make(&Api::<Pod>::namespaced(self.cluster.admin.clone(), &self.shop), pod).await?;
        Ok(())
    }

    /// Starts a container of the pod, which makes these calls.
    pub(crate) fn start(&self, container: &str, calls: &[u32]) -> String {
        let id = self.world.run(&self.shop, "cart-0", container);
        self.world.call(&id, calls);
        id
    }

    /// The program, as somebody who may do everything.
    pub(crate) fn cli(&self) -> Result<Cli> {
        Cli::of(&self.cluster, &User::admin())
    }

    /// The Traces of the namespace.
    pub(crate) async fn traces(&self) -> Result<Vec<Trace>> {
        let api = Api::<Trace>::namespaced(self.cluster.admin.clone(), &self.shop);
        Ok(api.list(&ListParams::default()).await?.items)
    }

    /// Waits until nothing is left of any recording.
    pub(crate) async fn nothing_left(&self) -> Result<()> {
        eventually("end of the recordings", LIMIT, async || {
            let traces = self.traces().await?;
            ensure!(traces.is_empty(), "{traces:?}");
            ensure!(self.world.recorded().is_empty(), "{:?}", self.world.recorded());
            Ok(())
        })
        .await
    }

    /// Takes the node away.
    pub(crate) async fn stop(self) -> Result<()> {
        let pods = Api::<Pod>::namespaced(self.cluster.admin.clone(), SYSTEM);
        let now = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
        pods.delete(&format!("gadgetd-{}", self.node), &now).await?;
        self.running.stop().await
    }
}

/// The `DaemonSet`, as far as the API server is concerned.
pub(crate) async fn runtime(cluster: &Cluster, version: &str) -> Result<()> {
    let labels = json!({ "app.kubernetes.io/name": "gadgetd", "app.kubernetes.io/component": "node" });
    let mut of_set = labels.clone();
    of_set["app.kubernetes.io/version"] = json!(version);
    let set = json!({
        "metadata": { "name": "gadgetd", "labels": of_set },
        "spec": {
            "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels },
                "spec": { "containers": [{ "name": "gadgetd", "image": "registry.example/gadgetd" }] },
            },
        },
    });
    make(&Api::<DaemonSet>::namespaced(cluster.admin.clone(), SYSTEM), set).await.map(drop)
}

/// Its pod on a node.
pub(crate) async fn runtime_pod(cluster: &Cluster, node: &str, ready: bool) -> Result<()> {
    let api = Api::<Pod>::namespaced(cluster.admin.clone(), SYSTEM);
    let name = format!("gadgetd-{node}");
    let pod = json!({
        "metadata": { "name": name, "labels": {
            "app.kubernetes.io/name": "gadgetd", "app.kubernetes.io/component": "node",
            "app.kubernetes.io/version": env!("CARGO_PKG_VERSION"),
        } },
        "spec": { "nodeName": node, "containers": [{ "name": "gadgetd", "image": "registry.example/gadgetd" }] },
    });
    make(&api, pod).await?;
    let is = if ready { "True" } else { "False" };
    let condition = json!({ "type": "Ready", "status": is, "message": "no BTF on this kernel" });
    let status = Patch::Merge(json!({ "status": { "conditions": [condition] } }));
    api.patch_status(&name, &PatchParams::default(), &status).await?;
    Ok(())
}

/// A way to the API server that loses one answer: that to whoever made the first Trace in a namespace. The server has
/// made it, and whoever asked is cut off.
pub(crate) struct Lossy {
    kubeconfig: PathBuf,
    task: JoinHandle<()>,
    _folder: TempDir,
}

impl Drop for Lossy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Lossy {
    pub(crate) async fn to(scene: &Scene) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (server, here) = (scene.cluster.server().url(), format!("https://{}", listener.local_addr()?));
        let folder = tempfile::tempdir()?;
        let kubeconfig = folder.path().join("kubeconfig");
        let direct = std::fs::read_to_string(scene.cluster.server().kubeconfig(&User::admin())?)?;
        std::fs::write(&kubeconfig, direct.replace(&server, &here))?;
        let traces = Api::<Trace>::namespaced(scene.cluster.admin.clone(), &scene.shop);
        let lost = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let address = server.trim_start_matches("https://").to_owned();
                tokio::spawn(pass(client, address, traces.clone(), lost.clone()));
            }
        });
        Ok(Self { kubeconfig, task, _folder: folder })
    }

    /// The program on this way.
    pub(crate) fn cli(&self) -> Cli {
        Cli::with(self.kubeconfig.clone())
    }
}

/// Passes a connection on, until an answer comes that is to be lost.
async fn pass(client: TcpStream, server: String, traces: Api<Trace>, lost: Arc<AtomicBool>) -> Result<()> {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = TcpStream::connect(server).await?.into_split();
    let up = async { copy(&mut from_client, &mut to_server).await.map(drop).map_err(anyhow::Error::from) };
    let down = async {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let n = from_server.read(&mut buffer).await?;
            let made =
                !lost.load(Ordering::SeqCst) && !traces.list(&ListParams::default()).await?.items.is_empty();
            if n == 0 || (made && !lost.swap(true, Ordering::SeqCst)) {
                return Ok(());
            }
            to_client.write_all(&buffer[..n]).await?;
        }
    };
    tokio::select! {
        ended = up => ended,
        ended = down => ended,
    }
}

/// The program for one user.
pub(crate) struct Cli {
    kubeconfig: PathBuf,
}

/// A process that has ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Cli {
    pub(crate) fn of(cluster: &Cluster, user: &User) -> Result<Self> {
        Ok(Self { kubeconfig: cluster.server().kubeconfig(user)? })
    }

    pub(crate) fn with(kubeconfig: PathBuf) -> Self {
        Self { kubeconfig }
    }

    fn environment(&self, command: &mut Command) {
        command.env("KUBECONFIG", &self.kubeconfig).env_remove("GADGETD_NAMESPACE").env("LC_ALL", "C");
        command.stdin(Stdio::null()).kill_on_drop(true);
    }

    /// Runs it to its end.
    pub(crate) async fn run<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<Finished> {
        self.start(arguments)?.finish().await
    }

    /// Starts it with its outputs captured.
    pub(crate) fn start<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Result<Started> {
        let mut command = Command::new(PROGRAM);
        command.args(arguments);
        self.environment(&mut command);
        started(command, Stdio::piped(), None)
    }

    /// Runs it to its end, with its standard output elsewhere.
    pub(crate) async fn run_into(
        &self,
        stdout: impl Into<Stdio>,
        arguments: impl IntoIterator<Item = &str>,
    ) -> Result<Finished> {
        self.start_into(stdout, arguments)?.finish().await
    }

    /// Starts it with its standard output elsewhere.
    pub(crate) fn start_into<'a>(
        &self,
        stdout: impl Into<Stdio>,
        arguments: impl IntoIterator<Item = &'a str>,
    ) -> Result<Started> {
        let mut command = Command::new(PROGRAM);
        command.args(arguments);
        self.environment(&mut command);
        started(command, stdout.into(), None)
    }

    /// Starts it on a terminal; its standard output is captured all the same.
    pub(crate) fn on_terminal(&self, arguments: &[&str]) -> Result<Started> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let name = ptsname(&master, Vec::new())?.into_string()?;
        tcsetwinsize(&master, Winsize { ws_row: 24, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 })?;
        // `setsid -c` makes the terminal the controlling one, and the program its foreground.
        let line = format!("exec setsid -c -w \"$@\" <{name} 2>{name}");
        let mut command = Command::new("sh");
        command.args(["-c", &line, "sh", PROGRAM]).args(arguments);
        self.environment(&mut command);
        command.env("TERM", "xterm");
        started(command, Stdio::piped(), Some(File::from(master)))
    }
}

fn started(mut command: Command, stdout: Stdio, terminal: Option<File>) -> Result<Started> {
    default_signals();
    command.stdout(stdout).stderr(Stdio::piped());
    let mut child = command.spawn().context("it does not start")?;
    let stdout = match child.stdout.take() {
        Some(stdout) => Text::of(File::from(stdout.into_owned_fd()?)),
        None => Text::of(std::io::empty()),
    };
    let stderr = match &terminal {
        Some(master) => Text::of(master.try_clone()?),
        None => Text::of(File::from(child.stderr.take().context("stderr")?.into_owned_fd()?)),
    };
    Ok(Started { child, stdout, stderr, terminal })
}

/// Gives what is started the signals as a shell on a terminal does. Under `nohup`, or in the background of a script,
/// some are ignored, and children inherit that.
fn default_signals() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM] {
            #[allow(unsafe_code)]
            // SAFETY: the default disposition runs no code of ours.
            unsafe {
                libc::signal(signal, libc::SIG_DFL)
            };
        }
    });
}

/// Text that grows while somebody writes it.
#[derive(Clone, Default)]
pub(crate) struct Text(Arc<Mutex<(String, bool)>>);

impl Text {
    fn of(mut source: impl Read + Send + 'static) -> Self {
        let text = Self::default();
        let grown = text.clone();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            loop {
                // A terminal that nobody has open any more gives EIO.
                let n = source.read(&mut buffer).unwrap_or(0);
                let mut state = grown.0.lock().expect("no reader panics");
                state.0.push_str(&String::from_utf8_lossy(&buffer[..n]));
                state.1 = n == 0;
                if n == 0 {
                    return;
                }
            }
        });
        text
    }

    pub(crate) fn now(&self) -> String {
        self.0.lock().expect("no reader panics").0.clone()
    }

    /// Waits until this is in the text.
    pub(crate) async fn until(&self, wanted: &str) -> Result<()> {
        eventually(wanted, LIMIT, async || {
            let state = self.0.lock().expect("no reader panics").clone();
            if state.0.contains(wanted) { Ok(()) } else { Err(state) }
        })
        .await
    }

    /// Waits until all of it is there.
    async fn ended(&self) -> Result<String> {
        eventually("end of the output", LIMIT, async || {
            let (text, ended) = self.0.lock().expect("no reader panics").clone();
            if ended { Ok(text) } else { Err(text) }
        })
        .await
    }
}

/// The program at work.
pub(crate) struct Started {
    child: Child,
    pub(crate) stdout: Text,
    /// What it says to people; on a terminal, the screen.
    pub(crate) stderr: Text,
    terminal: Option<File>,
}

impl Started {
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.child.id().and_then(|pid| Pid::from_raw(pid.try_into().ok()?));
        kill_process(pid.context("it has ended")?, signal)?;
        Ok(())
    }

    /// Types something.
    pub(crate) fn types(&mut self, text: &str) -> Result<()> {
        self.terminal.as_mut().context("a terminal")?.write_all(text.as_bytes())?;
        Ok(())
    }

    pub(crate) async fn finish(mut self) -> Result<Finished> {
        let Ok(status) = timeout(LIMIT, self.child.wait()).await else {
            bail!("it hangs; it said: {}", self.stderr.now())
        };
        let status = status?;
        drop(self.terminal.take());
        let stdout = self.stdout.ended().await?;
        Ok(Finished { code: status.code(), stdout, stderr: self.stderr.ended().await? })
    }
}

impl Finished {
    #[track_caller]
    pub(crate) fn code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }

    /// Checks what it told people.
    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "no {text:?} in: {self:?}");
        self
    }

    /// Checks that it failed without a result.
    #[track_caller]
    pub(crate) fn fails(self, text: &str) -> Self {
        let this = self.code(1).says(text);
        assert_eq!(this.stdout, "", "{this:?}");
        this
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// The names that the profile on standard output allows.
    #[track_caller]
    pub(crate) fn names(&self) -> Vec<String> {
        names_in(&self.json())
    }
}

/// The names that a profile allows.
#[track_caller]
pub(crate) fn names_in(profile: &Value) -> Vec<String> {
    let names = profile["syscalls"][0]["names"].as_array().unwrap_or_else(|| panic!("no names in {profile}"));
    names.iter().map(|name| name.as_str().expect("a name").to_owned()).collect()
}
