//! etcd and kube-apiserver.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::json;
use tokio::sync::OnceCell;

use crate::pki::{Pki, by_certificate};
use crate::process::{Daemon, Guardian, Launcher};
use crate::{Tier, eventually};

const READY: Duration = Duration::from_mins(1);

/// Who asks, as the API server will know them.
#[derive(Clone, Debug)]
pub struct User {
    name: String,
    group: Option<String>,
}

impl User {
    /// The name by which role bindings know this user.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// May do everything.
    pub fn admin() -> Self {
        Self { name: "admin".into(), group: Some("system:masters".into()) }
    }

    /// May do what role bindings say of `name`, and nothing else.
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), group: None }
    }

    /// The same, as a member of `group`.
    #[must_use]
    pub fn in_group(self, group: &str) -> Self {
        Self { group: Some(group.into()), ..self }
    }
}

/// A real etcd and kube-apiserver, in a folder of their own; both end when this is dropped.
///
/// Nobody does the controller manager's work: no deletion of a namespace completes, no garbage is collected, no
/// service account appears by itself, and the roles `view`, `edit` and `admin`, which are aggregated from others,
/// stay empty. Roles and bindings count a moment after they are stored: see [`eventually`].
pub struct ApiServer {
    // In the order in which they have to go.
    daemons: Mutex<Daemons>,
    guardian: Arc<Guardian>,
    pki: Pki,
    setup: Setup,
}

#[derive(Default)]
struct Daemons {
    server: Option<Daemon>,
    etcd: Option<Daemon>,
}

/// What differs between an API server of its own and that of a [`Node`](crate::Node).
pub(crate) struct Setup {
    pub(crate) folder: PathBuf,
    pub(crate) assets: PathBuf,
    pub(crate) launcher: Launcher,
    pub(crate) address: Ipv4Addr,
    pub(crate) port: u16,
    /// Client and peer port.
    pub(crate) etcd: (u16, u16),
    /// Whether kubelets and controllers take part: pods then need service accounts.
    pub(crate) node: bool,
}

/// The range of service addresses; the first is the API server's own.
pub(crate) const SERVICES: &str = "10.96.0.0/24";
pub(crate) const SERVICE_ADDRESS: &str = "10.96.0.1";

impl ApiServer {
    /// Starts both in a temporary folder, on free ports of the loopback interface, and waits until they are ready.
    ///
    /// # Errors
    /// Where the programs are missing (see [`assets`](crate::assets)), or do not become ready: with the end of their log.
    pub async fn start() -> Result<Self> {
        let assets = Tier::Api.find().with_context(|| format!("run: {}", Tier::Api.remedy()))?;
        let memory = Path::new("/dev/shm");
        // etcd waits for the disk at every write.
        let base = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let folder = tempfile::Builder::new().prefix("gadgetd-api-").tempdir_in(base)?.keep();
        let guardian = Guardian::of_folder(&folder)?;
        let ports = free_ports::<3>()?;
        let setup = Setup {
            folder,
            assets,
            launcher: Launcher::default(),
            address: Ipv4Addr::LOCALHOST,
            port: ports[0],
            etcd: (ports[1], ports[2]),
            node: false,
        };
        Self::launch(setup, guardian).await
    }

    /// The one that the tests of a program share: each of them should keep to a namespace of its own. It ends
    /// with the program.
    pub async fn shared() -> Result<&'static Self> {
        static SHARED: OnceCell<ApiServer> = OnceCell::const_new();
        SHARED.get_or_try_init(Self::start).await
    }

    pub(crate) async fn launch(setup: Setup, guardian: Arc<Guardian>) -> Result<Self> {
        let pki = Pki::new(&setup.folder.join("pki"))?;
        let this = Self { daemons: Mutex::default(), guardian, pki, setup };
        let etcd = this.daemon("etcd", &mut this.etcd_command())?;
        this.daemons().etcd = Some(etcd);
        this.resume().await?;
        Ok(this)
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("https://{}:{}", self.setup.address, self.setup.port)
    }

    /// A client for one user. Clients belong to the runtime they are made in: every test makes its own.
    pub async fn client(&self, user: &User) -> Result<Client> {
        client(&self.kubeconfig(user)?).await
    }

    /// A kubeconfig file for one user, who is known by a client certificate.
    pub fn kubeconfig(&self, user: &User) -> Result<PathBuf> {
        let full = user.group.iter().fold(user.name.clone(), |name, group| format!("{name}-of-{group}"));
        let file = format!("user-{}", full.replace(|c: char| !c.is_ascii_alphanumeric(), "-"));
        let pair = self.pki.pair(&file, &user.name, user.group.as_deref(), &[])?;
        self.pki.kubeconfig(&file, &self.url(), &by_certificate(&pair))
    }

    /// A kubeconfig file for a service account that exists, with a token as its pods get one.
    pub async fn service_account_kubeconfig(&self, namespace: &str, name: &str) -> Result<PathBuf> {
        let accounts = Api::<ServiceAccount>::namespaced(self.client(&User::admin()).await?, namespace);
        // API servers of this age insist on an audience.
        let spec = TokenRequestSpec { audiences: vec![ISSUER.into()], ..Default::default() };
        let request = TokenRequest { spec, ..Default::default() };
        let token = accounts.create_token_request(name, &PostParams::default(), &request).await?;
        let token = token.status.context("the answer has no token")?.token;
        self.pki.kubeconfig(&format!("account-{namespace}-{name}"), &self.url(), &json!({"token": token}))
    }

    /// An outage: the API server ends at once, in the middle of whatever it does. What it has stored stays.
    pub fn stop(&self) {
        self.daemons().server = None;
    }

    /// Ends the outage; returns when it answers again.
    pub async fn resume(&self) -> Result<()> {
        let server = self.daemon("kube-apiserver", &mut self.server_command()?)?;
        self.daemons().server = Some(server);
        let client = self.client(&User::admin()).await?;
        let request = http_get("/readyz")?;
        let ready = eventually("API server", READY, async || {
            self.check()?;
            client.request_text(request.clone()).await.map(drop).map_err(anyhow::Error::from)
        });
        ready.await.with_context(|| format!("logs in {}", self.setup.folder.display()))
    }

    fn check(&self) -> Result<()> {
        let mut daemons = self.daemons();
        if let Some(etcd) = &mut daemons.etcd {
            etcd.check().context("etcd")?;
        }
        daemons.server.as_mut().map_or(Ok(()), Daemon::check).context("kube-apiserver")
    }

    pub(crate) fn pki(&self) -> &Pki {
        &self.pki
    }

    fn daemons(&self) -> MutexGuard<'_, Daemons> {
        self.daemons.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn daemon(&self, name: &str, command: &mut Command) -> Result<Daemon> {
        Daemon::start(&self.guardian, &self.setup.folder.join(format!("{name}.log")), command)
    }

    fn etcd_command(&self) -> Command {
        let (client, peer) = self.setup.etcd;
        let mut command = self.setup.launcher.command(self.setup.assets.join("etcd"));
        for (flag, value) in [
            ("data-dir", self.setup.folder.join("etcd").display().to_string()),
            ("listen-client-urls", format!("http://127.0.0.1:{client}")),
            ("advertise-client-urls", format!("http://127.0.0.1:{client}")),
            ("listen-peer-urls", format!("http://127.0.0.1:{peer}")),
            ("initial-advertise-peer-urls", format!("http://127.0.0.1:{peer}")),
            ("initial-cluster", format!("default=http://127.0.0.1:{peer}")),
            ("log-level", "warn".into()),
        ] {
            command.arg(format!("--{flag}={value}"));
        }
        command
    }

    fn server_command(&self) -> Result<Command> {
        let Setup { address, port, node, etcd: (etcd, _), .. } = &self.setup;
        let serving = self.pki.pair(
            "apiserver",
            "kube-apiserver",
            None,
            &[&address.to_string(), SERVICE_ADDRESS, "127.0.0.1", "localhost", "kubernetes.default.svc"],
        )?;
        let mut command = self.setup.launcher.command(self.setup.assets.join("kube-apiserver"));
        for (flag, value) in [
            ("etcd-servers", format!("http://127.0.0.1:{etcd}")),
            ("bind-address", address.to_string()),
            ("secure-port", port.to_string()),
            ("advertise-address", address.to_string()),
            ("service-cluster-ip-range", SERVICES.into()),
            ("allow-privileged", "true".into()),
            ("authorization-mode", if *node { "Node,RBAC" } else { "RBAC" }.into()),
            ("service-account-issuer", ISSUER.into()),
            ("api-audiences", ISSUER.into()),
            ("profiling", "false".into()),
        ] {
            command.arg(format!("--{flag}={value}"));
        }
        for (flag, file) in [
            ("cert-dir", &self.setup.folder),
            ("client-ca-file", &self.pki.file("ca.crt")),
            ("tls-cert-file", &serving.certificate),
            ("tls-private-key-file", &serving.key),
            ("service-account-key-file", &self.pki.file("accounts.pub")),
            ("service-account-signing-key-file", &self.pki.file("accounts.key")),
        ] {
            command.arg(format!("--{flag}={}", file.display()));
        }
        if *node {
            let kubelet = self.pki.pair("to-kubelet", "kube-apiserver", Some("system:masters"), &[])?;
            command.arg("--enable-admission-plugins=NodeRestriction");
            command.arg("--kubelet-preferred-address-types=InternalIP");
            command.arg(format!("--kubelet-certificate-authority={}", self.pki.file("ca.crt").display()));
            command.arg(format!("--kubelet-client-certificate={}", kubelet.certificate.display()));
            command.arg(format!("--kubelet-client-key={}", kubelet.key.display()));
        } else {
            // Nobody makes the accounts that pods would have to have.
            command.arg("--disable-admission-plugins=ServiceAccount");
        }
        Ok(command)
    }
}

const ISSUER: &str = "https://kubernetes.default.svc";

/// A client that is whom the kubeconfig says.
pub(crate) async fn client(kubeconfig: &Path) -> Result<Client> {
    let file = Kubeconfig::read_from(kubeconfig)?;
    Ok(Client::try_from(Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?)?)
}

fn http_get(path: &str) -> Result<http::Request<Vec<u8>>> {
    Ok(http::Request::get(path).body(Vec::new())?)
}

/// Ports that were free a moment ago: none of those that the kernel gives to connections, which may take one in between.
pub fn free_ports<const N: usize>() -> Result<[u16; N]> {
    const FIRST: u64 = 20_000;
    const END: u64 = 30_000;
    let mut ports = [0; N];
    let mut held = Vec::new();
    let mut tries = 0..1_000;
    while held.len() < N {
        tries.next().context("no port is free between 20000 and 30000")?;
        let port = u16::try_from(FIRST + RandomState::new().hash_one(held.len()) % (END - FIRST))?;
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            ports[held.len()] = port;
            held.push(listener);
        }
    }
    Ok(ports)
}
