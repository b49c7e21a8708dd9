//! An API server with what the runtime installs, and Traces in it.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use gadgetd_core::kube::KubeApi;
use gadgetd_e2e::{ApiServer, Tier, User, assets, eventually};
use gadgetd_kube::{
    ACCEPTED, OPERATION, OPERATION_PARAMETER, Trace, TraceFilter, TraceSpec, TraceStatus,
    adapter::KubeAdapter,
    controller::{self, NodeServices, Settings},
    crds,
};
use gadgetd_node::HostRunner;
use k8s_openapi::{
    api::{
        core::v1::{Namespace, Node},
        rbac::v1::{ClusterRole, ClusterRoleBinding},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::{Patch, PatchParams, PostParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::{sync::oneshot, task::JoinHandle};

use crate::{Advisor, Files, Fuse, World};

/// How long a test waits for what must come.
pub const LIMIT: Duration = Duration::from_mins(2);

/// The runtime's own namespace.
pub const SYSTEM: &str = "gadget";

/// Who the runtime is, in these tests: somebody with the rights that it is shipped with, and no other.
const RUNTIME: &str = "gadgetd";

/// The roles that are shipped.
const ROLES: &str = include_str!("../../../deploy/base/rbac.yaml");

/// An API server with the runtime's definitions, namespace and rights.
pub struct Cluster {
    server: Server,
    /// May do everything.
    pub admin: Client,
    /// May do what the runtime may.
    pub runtime: Client,
}

enum Server {
    Shared(&'static ApiServer),
    Own(Box<ApiServer>),
}

impl std::ops::Deref for Server {
    type Target = ApiServer;

    fn deref(&self) -> &ApiServer {
        match self {
            Self::Shared(server) => server,
            Self::Own(server) => server,
        }
    }
}

impl Cluster {
    /// The one that the tests of a program share. `None` where there is none; it has been said why.
    pub async fn shared() -> Result<Option<Self>> {
        if assets(Tier::Api).is_none() {
            return Ok(None);
        }
        Self::with(Server::Shared(ApiServer::shared().await?)).await.map(Some)
    }

    /// One of its own.
    pub async fn own() -> Result<Option<Self>> {
        if assets(Tier::Api).is_none() {
            return Ok(None);
        }
        Self::with(Server::Own(Box::new(ApiServer::start().await?))).await.map(Some)
    }

    async fn with(server: Server) -> Result<Self> {
        // RUST_LOG=gadgetd_kube=debug shows what the controllers do.
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
        let admin = server.client(&User::admin()).await?;
        let runtime = server.client(&User::new(RUNTIME)).await?;
        let this = Self { server, admin, runtime };
        for crd in crds::crds() {
            this.install(&crd).await?;
        }
        this.namespace(SYSTEM).await?;
        this.grant().await?;
        Ok(this)
    }

    /// The server itself.
    pub fn server(&self) -> &ApiServer {
        &self.server
    }

    /// Installs a definition, and waits until its objects are served.
    pub async fn install(&self, crd: &CustomResourceDefinition) -> Result<()> {
        let api = Api::<CustomResourceDefinition>::all(self.admin.clone());
        let name = crd.name_any();
        api.patch(&name, &PatchParams::apply("tests").force(), &Patch::Apply(crd)).await?;
        eventually("served definition", LIMIT, async || {
            let found = api.get(&name).await?;
            let conditions = found.status.and_then(|s| s.conditions).unwrap_or_default();
            let established = conditions.iter().any(|c| c.type_ == "Established" && c.status == "True");
            ensure!(established, "{conditions:?}");
            Ok(())
        })
        .await?;
        // Established is not yet served.
        let version = crd.spec.versions.iter().find(|v| v.served).context("a served version")?;
        let path = format!("/apis/{}/{}/{}", crd.spec.group, version.name, crd.spec.names.plural);
        eventually("served objects", LIMIT, async || {
            let request = http::Request::get(&path).body(Vec::new())?;
            self.admin.request_text(request).await.map(drop).map_err(anyhow::Error::from)
        })
        .await
    }

    /// Makes a namespace, unless it is there.
    pub async fn namespace(&self, name: &str) -> Result<()> {
        let object = json!({ "metadata": { "name": name } });
        make(&Api::<Namespace>::all(self.admin.clone()), object).await.map(drop)
    }

    /// Makes a node, as far as the API server is concerned.
    pub async fn node(&self, name: &str) -> Result<()> {
        let object = json!({ "metadata": { "name": name } });
        make(&Api::<Node>::all(self.admin.clone()), object).await.map(drop)
    }

    /// Installs the roles that are shipped, and gives the runtime its own.
    async fn grant(&self) -> Result<()> {
        let roles = Api::<ClusterRole>::all(self.admin.clone());
        for document in serde_saphyr::from_multiple::<Value>(ROLES)? {
            if document["kind"] == "ClusterRole" {
                make(&roles, document).await?;
            }
        }
        let binding = json!({
            "metadata": { "name": RUNTIME },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": RUNTIME },
            "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": RUNTIME }],
        });
        make(&Api::<ClusterRoleBinding>::all(self.admin.clone()), binding).await?;
        let traces = Api::<Trace>::all(self.runtime.clone());
        eventually("rights of the runtime", LIMIT, async || {
            traces.list(&kube::api::ListParams::default()).await
        })
        .await
        .map(drop)
    }

    /// Starts the controller of a node.
    pub fn run(&self, settings: Settings, world: &World, files: &Files) -> Running {
        self.run_with(settings, world, files, &Fuse::default())
    }

    /// Starts the controller of a node that dies with the fuse.
    pub fn run_with(&self, settings: Settings, world: &World, files: &Files, fuse: &Fuse) -> Running {
        let client = fuse.client(&self.runtime);
        let (calls, deadline) = (client.clone(), settings.request_timeout);
        let connect = move |manager: &str| -> Arc<dyn KubeApi> {
            Arc::new(KubeAdapter::new(calls.clone(), manager, deadline))
        };
        let (recorder, files) = (world.with_fuse(fuse), files.with_fuse(fuse));
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let runner = Advisor::on(connect).await.expect("the modules that are built in");
            let parts = NodeServices { recorder, runner, files };
            let shutdown = async move { drop(stopped.await) };
            controller::run(client, settings, parts, shutdown).await.expect("a usable name of a node");
        });
        Running { task, stop }
    }

    /// Starts the controllers of a node with the real runner of gadgets: that of Traces, and that of Gadget objects.
    pub fn run_gadgets(
        &self,
        settings: Settings,
        world: &World,
        files: &Files,
        runner: HostRunner,
    ) -> Running {
        let client = self.runtime.clone();
        let (recorder, files) = (world.clone(), files.clone());
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let installer = Arc::new(runner.clone());
            let gadgets = controller::run_gadgets(
                client.clone(),
                settings.clone(),
                installer,
                std::future::pending::<()>(),
            );
            let parts = NodeServices { recorder, runner, files };
            let shutdown = async move { drop(stopped.await) };
            tokio::select! {
                ended = controller::run(client, settings, parts, shutdown) => {
                    ended.expect("a usable name of a node");
                }
                () = gadgets => unreachable!("nothing ends it"),
            }
        });
        Running { task, stop }
    }

    /// A Trace that is about to be made, in a namespace.
    pub fn trace(&self, namespace: &str, name: &str) -> Tracing {
        Tracing { api: Api::namespaced(self.admin.clone(), namespace), name: name.into() }
    }
}

/// Makes an object, unless there is one of that name.
pub async fn make<K>(api: &Api<K>, object: Value) -> Result<K>
where
    K: Resource + Clone + std::fmt::Debug + DeserializeOwned + Serialize,
{
    let object: K = serde_json::from_value(object)?;
    match api.create(&PostParams::default(), &object).await {
        Err(kube::Error::Api(status)) if status.is_already_exists() => {
            Ok(api.get(&object.name_any()).await?)
        }
        made => Ok(made?),
    }
}

/// Settings for tests: the usual ones, only impatient.
pub fn settings(node: &str) -> Settings {
    Settings {
        grace_period: Duration::from_millis(500),
        poll_interval: Duration::from_millis(100),
        cleanup_interval: Duration::from_millis(500),
        ..Settings::new(node, SYSTEM)
    }
}

/// A word that no other test of this program has: for a namespace, a node, a Trace.
pub fn names(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("{prefix}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A controller at work.
pub struct Running {
    task: JoinHandle<()>,
    stop: oneshot::Sender<()>,
}

impl Running {
    /// Ends it as a service is ended: it finishes what it is doing.
    pub async fn stop(self) -> Result<()> {
        drop(self.stop);
        tokio::time::timeout(LIMIT, self.task).await.context("the controller does not end")??;
        Ok(())
    }

    /// Ends it as a process is killed: at whatever it is doing.
    pub async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

/// A Trace, as a user works with it.
#[derive(Clone)]
pub struct Tracing {
    /// Traces of its namespace.
    pub api: Api<Trace>,
    /// Its name.
    pub name: String,
}

/// A spec for a node and a pod.
pub fn spec(node: &str, namespace: &str, pod: &str) -> TraceSpec {
    let filter = TraceFilter { namespace: namespace.into(), podname: pod.into(), ..TraceFilter::default() };
    TraceSpec { node: node.into(), gadget: "seccomp".into(), filter: Some(filter), ..TraceSpec::default() }
}

impl Tracing {
    /// The same Trace, for somebody else.
    #[must_use]
    pub fn for_user(&self, client: Client, namespace: &str) -> Self {
        Self { api: Api::namespaced(client, namespace), name: self.name.clone() }
    }

    /// Makes the object.
    pub async fn create(&self, spec: TraceSpec) -> Result<Trace> {
        Ok(self.api.create(&PostParams::default(), &Trace::new(&self.name, spec)).await?)
    }

    /// The object as it is.
    pub async fn get(&self) -> Result<Trace> {
        Ok(self.api.get(&self.name).await?)
    }

    /// `kubectl annotate`.
    pub async fn annotate(&self, operation: &str, parameters: &[(&str, &str)]) -> Result<()> {
        let mut annotations = json!({ OPERATION: operation });
        for (name, value) in parameters {
            annotations[format!("{OPERATION_PARAMETER}{name}")] = json!(value);
        }
        let patch = Patch::Merge(json!({ "metadata": { "annotations": annotations } }));
        self.api.patch(&self.name, &PatchParams::default(), &patch).await?;
        Ok(())
    }

    /// Asks for an operation, and waits until it was carried out or refused: everywhere, and in the summary.
    pub async fn operate(&self, operation: &str, parameters: &[(&str, &str)]) -> Result<TraceStatus> {
        self.annotate(operation, parameters).await?;
        self.done(operation).await
    }

    /// Waits until the operation that was asked for last was carried out or refused.
    pub async fn done(&self, operation: &str) -> Result<TraceStatus> {
        self.wait(operation, |trace, status| {
            let asked = trace.annotations().contains_key(OPERATION);
            let accepted =
                trace.annotations().get(ACCEPTED).and_then(|a| serde_json::from_str::<Value>(a).ok());
            let id = accepted.and_then(|a| a["id"].as_u64());
            !asked && id.is_some() && status.operation == id
        })
        .await
    }

    /// Waits until the object is as it should be.
    pub async fn wait(
        &self,
        what: &str,
        mut is: impl FnMut(&Trace, &TraceStatus) -> bool,
    ) -> Result<TraceStatus> {
        eventually(what, LIMIT, async || {
            let trace = self.get().await?;
            let status = trace.status.clone().unwrap_or_default();
            if is(&trace, &status) {
                return Ok(status);
            }
            bail!("{}", serde_json::to_string_pretty(&json!([trace.metadata.annotations, status]))?)
        })
        .await
    }

    /// Waits until no node holds it.
    pub async fn released(&self) -> Result<()> {
        self.wait("release", |trace, _| trace.finalizers().is_empty()).await.map(drop)
    }

    /// Deletes it, and waits until it is gone.
    pub async fn delete(&self) -> Result<()> {
        self.api.delete(&self.name, &kube::api::DeleteParams::default()).await?;
        self.gone().await
    }

    /// Waits until it is gone.
    pub async fn gone(&self) -> Result<()> {
        eventually("end of the Trace", LIMIT, async || match self.api.get_opt(&self.name).await? {
            None => Ok(()),
            Some(trace) => bail!("{:?}", trace.metadata),
        })
        .await
    }
}

/// Waits for something of the node.
pub async fn until(what: &str, mut is: impl FnMut() -> bool) -> Result<()> {
    eventually(what, LIMIT, async || if is() { Ok(()) } else { Err("not yet") }).await
}

/// The names in an OCI profile.
pub fn names_in(document: Option<&String>) -> Result<Vec<String>> {
    let document: Value = serde_json::from_str(document.context("a document")?)?;
    Ok(serde_json::from_value(document["syscalls"][0]["names"].clone())?)
}

/// Runs several futures at a time, and gives the first failure.
pub async fn all<F: Future<Output = Result<()>>>(
    at_once: usize,
    futures: impl IntoIterator<Item = F>,
) -> Result<()> {
    use futures::{StreamExt as _, TryStreamExt as _};
    futures::stream::iter(futures).map(Ok::<_, anyhow::Error>).try_for_each_concurrent(at_once, |f| f).await
}
