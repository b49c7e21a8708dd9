//! A whole cluster of one node.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Seek as _, Write as _};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{self as core, ServiceAccount};
use kube::Api;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::api_server::{ApiServer, SERVICE_ADDRESS, SERVICES, Setup, User};
use crate::images::{self, Image};
use crate::pki::by_certificate;
use crate::process::{Daemon, Guardian, Launcher, run};
use crate::{Tier, eventually};

/// The link between the machine and the node, from the range that is set aside for benchmarks: it is in no network.
const LINK: &str = "gadgetd-e2e";
const HOST: &str = "198.18.77.1";
const ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 18, 77, 2);
const LINK_PREFIX: u8 = 30;

const BRIDGE: &str = "cni0";
const PODS: &str = "10.244.0.0/24";
const PODS_GATEWAY: &str = "10.244.0.1";

const READY: Duration = Duration::from_secs(90);

/// A cluster of one node that runs pods: etcd, kube-apiserver, controller manager, scheduler, containerd, kubelet,
/// kube-proxy.
///
/// It lives in a mount and a network namespace: the paths, ports and addresses inside are the usual ones
/// (`/var/lib/kubelet`, `/run/containerd/containerd.sock`), and collide with nothing outside. Its process ids and
/// cgroups are the machine's: the pods' cgroups are in `/kubepods`, as on any node with the cgroupfs driver. Pods reach
/// each other, the node and the API server, nothing else; there is no cluster DNS.
///
/// One machine has one at a time; a second start waits.
pub struct Node {
    // In the order in which they have to go.
    daemons: Vec<Daemon>,
    api: ApiServer,
    holder: Daemon,
    _guardian: Arc<Guardian>,
    launcher: Launcher,
    assets: PathBuf,
    state: PathBuf,
}

impl Node {
    /// The name of the node, in Kubernetes and in the project's examples.
    pub const NAME: &'static str = "demo-node";

    /// Starts everything, imports the pause and busybox images, and waits until the node is ready for pods.
    ///
    /// # Errors
    /// Where programs are missing, this is not root, another kubelet runs here, or something does not become ready: with
    /// the end of its log.
    pub async fn start() -> Result<Self> {
        ensure!(rustix::process::geteuid().is_root(), "starting a node takes root");
        let assets = Tier::Node.find().with_context(|| format!("run: {}", Tier::Node.remedy()))?;
        let images =
            tokio::task::spawn_blocking(|| [Image::Pause, Image::Busybox].map(images::build)).await?;

        let cache = gadgetd_artifacts::cache::root();
        fs::create_dir_all(&cache)?;
        let state = cache.join("node");
        for hidden in ["/run", "/var/lib", "/var/log"] {
            ensure!(
                !state.starts_with(hidden),
                "{} is hidden in the node; set GADGETD_CACHE",
                state.display()
            );
        }
        let lock = File::create(cache.join("node.lock"))?;
        if lock.try_lock().is_err() {
            eprintln!("waiting for another node on this machine");
            let waiting = lock.try_clone()?;
            tokio::task::spawn_blocking(move || waiting.lock()).await??;
        }
        let down = include_str!("../scripts/node-down.sh");
        // What a run that crashed has left, together with its guardian.
        drop(Guardian::new(down, &state, Stdio::null())?);
        let guardian = Guardian::new(down, &state, lock)?;
        fs::create_dir_all(&state)?;
        let holder = namespaces(&guardian, &state).await?;
        let launcher = Launcher { prefix: enter(&holder) };
        furnish(&launcher, &state, &holder)?;

        let log = |name: &str| state.join(format!("{name}.log"));
        let mut daemons = Vec::new();
        let mut daemon = |name: &str, arguments: &[String]| -> Result<()> {
            let mut command = launcher.command(assets.join(name));
            // containerd looks its shim up, the shim runc.
            command.env("PATH", path(&assets)?).args(arguments);
            daemons.push(Daemon::start(&guardian, &log(name), &mut command)?);
            Ok(())
        };

        fs::write(state.join("containerd.toml"), containerd_config(&state))?;
        write_json(&state.join("cni/10-e2e.conflist"), &cni_config())?;
        daemon("containerd", &[format!("--config={}", state.join("containerd.toml").display())])?;

        let setup = Setup {
            folder: state.clone(),
            assets: assets.clone(),
            launcher: launcher.clone(),
            address: ADDRESS,
            port: 6443,
            etcd: (2379, 2380),
            node: true,
        };
        let api = ApiServer::launch(setup, Arc::clone(&guardian)).await?;

        for (name, arguments) in components(&api, &state)? {
            daemon(name, &arguments)?;
        }
        let mut node = Self { daemons, api, holder, _guardian: guardian, launcher, assets, state };
        eventually("containerd", READY, async || node.check().and_then(|()| node.ctr(&["version"]))).await?;
        for image in images {
            node.import(&image?)?;
        }
        node.ready()
            .await
            .with_context(|| format!("the node is not ready; logs in {}", node.state.display()))?;
        Ok(node)
    }

    /// The one that the tests of a program share; it ends with the program.
    pub async fn shared() -> Result<&'static Self> {
        static SHARED: OnceCell<Node> = OnceCell::const_new();
        SHARED.get_or_try_init(Self::start).await
    }

    /// Its API server.
    pub fn api(&self) -> &ApiServer {
        &self.api
    }

    /// The kubectl of the cluster's own version, as its administrator.
    pub fn kubectl(&self) -> Result<Command> {
        let mut command = Command::new(self.assets.join("kubectl"));
        command.env("KUBECONFIG", self.kubeconfig()?);
        Ok(command)
    }

    /// The kubeconfig of the cluster's administrator.
    pub(crate) fn kubeconfig(&self) -> Result<PathBuf> {
        self.api.kubeconfig(&User::admin())
    }

    /// A `PATH` with the cluster's programs, then those of a folder, then the machine's.
    pub(crate) fn programs(&self, folder: &Path) -> Result<OsString> {
        let path = path(&self.assets)?;
        let mut folders: Vec<_> = std::env::split_paths(&path).collect();
        folders.insert(1, folder.to_owned());
        Ok(std::env::join_paths(folders)?)
    }

    /// What kubectl writes to stdout.
    ///
    /// # Errors
    /// Where it fails: with what it writes to stderr.
    pub fn kubectl_output(&self, arguments: &[&str]) -> Result<String> {
        Ok(String::from_utf8(run(self.kubectl()?.args(arguments))?)?)
    }

    /// Applies a manifest (YAML or JSON).
    pub fn apply(&self, manifest: &str) -> Result<()> {
        let mut file = tempfile::tempfile()?;
        file.write_all(manifest.as_bytes())?;
        file.rewind()?;
        run(self.kubectl()?.arg("apply").stdin(file).args(["--filename", "-"])).map(drop)
    }

    /// A command that will run on the node: with its paths and its network.
    pub fn command(&self, program: impl Into<OsString>) -> Command {
        self.launcher.command(program)
    }

    /// A path of the node, as it is seen from here.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        Path::new(&format!("/proc/{}/root", self.holder.pid())).join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Loads an image archive (docker or OCI layout) into the node's container runtime.
    pub fn import(&self, archive: &Path) -> Result<()> {
        let file = File::open(archive).with_context(|| format!("cannot open {}", archive.display()))?;
        let mut command = self.ctr_command(&["images", "import", "-"]);
        run(command.stdin(file)).with_context(|| format!("cannot import {}", archive.display()))?;
        Ok(())
    }

    fn ctr_command(&self, arguments: &[&str]) -> Command {
        let mut command = self.launcher.command(self.assets.join("ctr"));
        command.args(["--namespace", "k8s.io"]).args(arguments);
        command
    }

    fn ctr(&self, arguments: &[&str]) -> Result<Vec<u8>> {
        run(&mut self.ctr_command(arguments))
    }

    fn check(&mut self) -> Result<()> {
        self.daemons.iter_mut().try_for_each(Daemon::check)
    }

    async fn ready(&mut self) -> Result<()> {
        let client = self.api.client(&User::admin()).await?;
        let nodes = Api::<core::Node>::all(client.clone());
        let accounts = Api::<ServiceAccount>::default_namespaced(client);
        let service = format!("exec 3<>/dev/tcp/{SERVICE_ADDRESS}/443");
        eventually("node", READY, async || {
            self.check()?;
            let status = nodes.get(Self::NAME).await?.status.unwrap_or_default();
            let ready = status.conditions.unwrap_or_default().into_iter().find(|it| it.type_ == "Ready");
            let ready = ready.context("the node has no condition yet")?;
            ensure!(ready.status == "True", "{}", ready.message.unwrap_or_default());
            ensure!(accounts.get("default").await?.secrets.is_some(), "the default account has no token yet");
            run(self.command("timeout").args(["1", "bash", "-c", &service]))
                .context("no route to the API service")
        })
        .await
        .map(drop)
    }
}

/// A process that keeps the namespaces open, in the cgroup of all that belongs to the node.
async fn namespaces(guardian: &Arc<Guardian>, state: &Path) -> Result<Daemon> {
    let cgroups = unified();
    let pods = cgroups.join("kubepods");
    let events = fs::read_to_string(pods.join("cgroup.events")).unwrap_or_default();
    ensure!(!events.contains("populated 1"), "{} has processes: another kubelet runs here", pods.display());
    let own = cgroups.join(LINK);
    fs::create_dir_all(&own)?;
    fs::write(state.join("owns-kubepods"), "")?;
    let mut command = Command::new("bash");
    command
        .args([
            "-c",
            "echo $$ >$0/cgroup.procs && exec unshare --mount --net --propagation slave sleep infinity",
        ])
        .arg(own);
    let mut holder = Daemon::start(guardian, &state.join("holder.log"), &mut command)?;
    let network = PathBuf::from(format!("/proc/{}/ns/net", holder.pid()));
    let mounts = PathBuf::from(format!("/proc/{}/ns/mnt", holder.pid()));
    eventually("namespaces", Duration::from_secs(10), async || {
        holder.check()?;
        for (theirs, ours) in [(&network, "/proc/self/ns/net"), (&mounts, "/proc/self/ns/mnt")] {
            ensure!(fs::read_link(theirs)? != fs::read_link(ours)?, "not there yet");
        }
        let program = fs::read_link(format!("/proc/{}/exe", holder.pid()))?;
        ensure!(program.ends_with("sleep"), "not there yet");
        Ok(())
    })
    .await?;
    Ok(holder)
}

/// The words that make a command run in the node's namespaces and cgroup.
fn enter(holder: &Daemon) -> Vec<OsString> {
    let script = format!(
        "echo $$ >{}/cgroup.procs && exec nsenter --target {} --mount --net -- \"$0\" \"$@\"",
        unified().join(LINK).display(),
        holder.pid()
    );
    ["bash", "-c", &script].map(OsString::from).into()
}

fn furnish(launcher: &Launcher, state: &Path, holder: &Daemon) -> Result<()> {
    let pid = holder.pid().to_string();
    let host = format!("{HOST}/{LINK_PREFIX}");
    run(
        Command::new("ip").args(["link", "add", LINK, "type", "veth", "peer", "name", "eth0", "netns", &pid])
    )?;
    run(Command::new("ip").args(["address", "add", &host, "dev", LINK]))?;
    run(Command::new("ip").args(["link", "set", LINK, "up"]))?;
    let (_, prefix) = PODS.split_once('/').expect("a range has a prefix");
    run(launcher
        .command("bash")
        .args(["-c", include_str!("../scripts/node-inside.sh"), "node-inside"])
        .arg(state)
        .args([&format!("{ADDRESS}/{LINK_PREFIX}"), BRIDGE, &format!("{PODS_GATEWAY}/{prefix}"), SERVICES]))?;
    // A look-up of a name fails at once: nobody answers there.
    fs::write(state.join("resolv.conf"), format!("nameserver {ADDRESS}\n"))?;
    fs::create_dir_all(state.join("lib/kubelet/seccomp"))?;
    fs::create_dir_all(state.join("cni"))?;
    Ok(())
}

/// The components that are clients of the API server, with their arguments.
fn components(api: &ApiServer, state: &Path) -> Result<Vec<(&'static str, Vec<String>)>> {
    let pki = api.pki();
    let kubeconfig = |file: &str, user: &str, group: Option<&str>, hosts: &[&str]| -> Result<String> {
        let pair = pki.pair(file, user, group, hosts)?;
        Ok(pki.kubeconfig(file, &api.url(), &by_certificate(&pair))?.display().to_string())
    };
    let manager = kubeconfig("controller-manager", "system:kube-controller-manager", None, &[])?;
    let scheduler = kubeconfig("scheduler", "system:kube-scheduler", None, &[])?;
    let proxy = kubeconfig("proxy", "system:kube-proxy", None, &[])?;
    let address = ADDRESS.to_string();
    let user = format!("system:node:{}", Node::NAME);
    let kubelet = kubeconfig("kubelet", &user, Some("system:nodes"), &[&address, Node::NAME])?;

    let pki_file = |name: &str| pki.file(name).display().to_string();
    write_json(
        &state.join("proxy.json"),
        &json!({
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "iptables",
            "clusterCIDR": PODS,
            "hostnameOverride": Node::NAME,
            "bindAddress": address,
            "clientConnection": {"kubeconfig": proxy},
            // Nothing of the machine's connection tracking is touched.
            "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        }),
    )?;
    write_json(
        &state.join("kubelet.json"),
        &json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "anonymous": {"enabled": false},
                "webhook": {"enabled": true},
                "x509": {"clientCAFile": pki_file("ca.crt")},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": pki_file("kubelet.crt"),
            "tlsPrivateKeyFile": pki_file("kubelet.key"),
            "address": address,
            "cgroupDriver": "cgroupfs",
            "failSwapOn": false,
            // How soon a node is ready, and how soon a deleted pod is gone.
            "nodeStatusUpdateFrequency": "1s",
            "syncFrequency": "5s",
            "resolvConf": state.join("resolv.conf"),
            // The machine's disk is others' business.
            "imageGCHighThresholdPercent": 100,
            "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        }),
    )?;

    let flags =
        |flags: &[(&str, &str)]| flags.iter().map(|(flag, value)| format!("--{flag}={value}")).collect();
    let config = |name: &str| state.join(name).display().to_string();
    Ok(vec![
        (
            "kube-controller-manager",
            flags(&[
                ("kubeconfig", &manager),
                ("leader-elect", "false"),
                ("use-service-account-credentials", "true"),
                ("bind-address", "127.0.0.1"),
                ("port", "0"),
                ("cert-dir", &config("certificates")),
                ("service-account-private-key-file", &pki_file("accounts.key")),
                ("root-ca-file", &pki_file("ca.crt")),
                ("cluster-signing-cert-file", &pki_file("ca.crt")),
                ("cluster-signing-key-file", &pki_file("ca.key")),
            ]),
        ),
        (
            "kube-scheduler",
            flags(&[
                ("kubeconfig", &scheduler),
                ("leader-elect", "false"),
                ("bind-address", "127.0.0.1"),
                ("port", "0"),
                ("cert-dir", &config("certificates")),
            ]),
        ),
        ("kube-proxy", flags(&[("config", &config("proxy.json"))])),
        (
            "kubelet",
            flags(&[
                ("config", &config("kubelet.json")),
                ("kubeconfig", &kubelet),
                ("hostname-override", Node::NAME),
                ("node-ip", &address),
                ("container-runtime", "remote"),
                ("container-runtime-endpoint", "unix:///run/containerd/containerd.sock"),
            ]),
        ),
    ])
}

fn containerd_config(state: &Path) -> String {
    // Without CAP_SYS_RESOURCE, which some machines lack, runc could not set a pod's negative score.
    format!(
        r#"version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  disable_apparmor = true
  restrict_oom_score_adj = true
  stream_server_address = "127.0.0.1"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/usr/lib/cni"
  conf_dir = "{cni}"
"#,
        pause = Image::Pause.reference(),
        cni = state.join("cni").display(),
    )
}

fn cni_config() -> Value {
    json!({
        "cniVersion": "0.4.0",
        "name": "e2e",
        "plugins": [
            {
                "type": "bridge",
                "bridge": BRIDGE,
                "isDefaultGateway": true,
                "hairpinMode": true,
                "ipam": {"type": "host-local", "ranges": [[{"subnet": PODS, "gateway": PODS_GATEWAY}]]},
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    })
}

/// The root of the cgroup v2 hierarchy, on hybrid machines beside the others.
fn unified() -> PathBuf {
    let hybrid = PathBuf::from("/sys/fs/cgroup/unified");
    if hybrid.is_dir() { hybrid } else { "/sys/fs/cgroup".into() }
}

fn path(assets: &Path) -> Result<OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let sbin = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    Ok(std::env::join_paths([assets.to_owned()].into_iter().chain(std::env::split_paths(&path)).chain(sbin))?)
}

fn write_json(path: &Path, value: &Value) -> Result<()> {
    fs::write(path, serde_json::to_vec_pretty(value)?)
        .with_context(|| format!("cannot write {}", path.display()))
}
