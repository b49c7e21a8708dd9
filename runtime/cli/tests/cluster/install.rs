//! `deploy`, `version`, `undeploy`: on a cluster that has nothing. What the controllers of a cluster would do is played.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use gadgetd_e2e::{ApiServer, Tier, User, assets, eventually};
use gadgetd_kube::{Trace, TraceSpec, finalizer};
use gadgetd_kube_tests::{LIMIT, SYSTEM, make};
use k8s_openapi::{
    api::{
        apps::v1::DaemonSet,
        core::v1::{Namespace, Node, Pod},
        rbac::v1::{ClusterRole, ClusterRoleBinding},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::support::Cli;

/// Does for the `DaemonSet` and for the namespace what a cluster's controllers do, until it is dropped.
struct Controllers(tokio::task::JoinHandle<()>);

impl Drop for Controllers {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Controllers {
    /// For one node, whose pod becomes ready or not.
    fn start(client: Client, system: &'static str, ready: bool) -> Self {
        Self(tokio::spawn(async move {
            loop {
                // What fails now is tried again.
                let _ = daemon_set(&client, system, ready).await;
                let _ = namespace(&client, system).await;
                sleep(Duration::from_millis(50)).await;
            }
        }))
    }
}

async fn daemon_set(client: &Client, system: &str, ready: bool) -> Result<()> {
    let sets = Api::<DaemonSet>::namespaced(client.clone(), system);
    let pods = Api::<Pod>::namespaced(client.clone(), system);
    let now = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    let Some(set) = sets.get_opt("gadgetd").await? else {
        pods.delete("gadgetd-1", &now).await?;
        return Ok(());
    };
    let template = set.spec.as_ref().context("a spec")?.template.clone();
    let spec = template.spec.context("a template")?;
    let pod = json!({
        "metadata": { "name": "gadgetd-1", "labels": template.metadata.context("labels")?.labels },
        "spec": { "nodeName": "n1", "containers": [{ "name": "gadgetd", "image": spec.containers[0].image }] },
    });
    make(&pods, pod).await?;
    let state = json!({ "waiting": { "reason": "ImagePullBackOff", "message": "no such image" } });
    let container = json!({
        "name": "gadgetd", "image": "x", "imageID": "", "ready": false, "restartCount": 0, "state": state,
    });
    let is = if ready { "True" } else { "False" };
    let status = json!({ "status": {
        "conditions": [{ "type": "Ready", "status": is }],
        "containerStatuses": if ready { json!([]) } else { json!([container]) },
    } });
    pods.patch_status("gadgetd-1", &PatchParams::default(), &Patch::Merge(status)).await?;
    let status = json!({ "status": {
        "observedGeneration": set.metadata.generation, "desiredNumberScheduled": 1, "currentNumberScheduled": 1,
        "updatedNumberScheduled": 1, "numberMisscheduled": 0, "numberReady": i32::from(ready),
    } });
    sets.patch_status("gadgetd", &PatchParams::default(), &Patch::Merge(status)).await?;
    Ok(())
}

/// Lets a namespace go that is being deleted.
async fn namespace(client: &Client, system: &str) -> Result<()> {
    let namespaces = Api::<Namespace>::all(client.clone());
    let Some(mut found) =
        namespaces.get_opt(system).await?.filter(|n| n.metadata.deletion_timestamp.is_some())
    else {
        return Ok(());
    };
    found.spec = Some(k8s_openapi::api::core::v1::NamespaceSpec { finalizers: Some(Vec::new()) });
    namespaces.replace_subresource("finalize", system, &PostParams::default(), &found).await?;
    Ok(())
}

/// A node that is there, and works or not.
async fn node(client: &Client, name: &str, ready: bool) -> Result<()> {
    let nodes = Api::<Node>::all(client.clone());
    make(&nodes, json!({ "metadata": { "name": name } })).await?;
    let is = if ready { "True" } else { "Unknown" };
    let status = Patch::Merge(json!({ "status": { "conditions": [{ "type": "Ready", "status": is }] } }));
    nodes.patch_status(name, &PatchParams::default(), &status).await?;
    Ok(())
}

/// A pod of the runtime on a node that is down: whoever deletes it does not see it go.
async fn lost_pod(client: &Client, system: &str) -> Result<()> {
    node(client, "n2", false).await?;
    let pods = Api::<Pod>::namespaced(client.clone(), system);
    let labels = json!({ "app.kubernetes.io/name": "gadgetd", "app.kubernetes.io/component": "node" });
    let pod = json!({
        "metadata": { "name": "gadgetd-2", "labels": labels },
        "spec": { "nodeName": "n2", "containers": [{ "name": "gadgetd", "image": "x" }] },
    });
    make(&pods, pod).await?;
    let deleted = pods.delete("gadgetd-2", &DeleteParams::default()).await?;
    ensure!(deleted.is_left(), "the pod is gone");
    Ok(())
}

/// An API server that has no gadgetd yet, and its administrator; `None`, said loudly, where there can be none.
async fn empty_cluster() -> Result<Option<(ApiServer, Client, Cli)>> {
    if assets(Tier::Api).is_none() {
        return Ok(None);
    }
    let server = ApiServer::start().await?;
    let admin = server.client(&User::admin()).await?;
    let cli = Cli::with(server.kubeconfig(&User::admin())?);
    Ok(Some((server, admin, cli)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_of_somebody_else_is_used_as_it_is_and_stays() -> Result<()> {
    const THEIRS: &str = "monitoring";
    let Some((_server, admin, cli)) = empty_cluster().await? else { return Ok(()) };
    node(&admin, "n1", true).await?;
    let namespaces = Api::<Namespace>::all(admin.clone());
    let labels = json!({ "pod-security.kubernetes.io/enforce": "baseline" });
    for name in [THEIRS, SYSTEM] {
        make(&namespaces, json!({ "metadata": { "name": name, "labels": labels } })).await?;
    }
    let before = namespaces.get(THEIRS).await?.metadata.labels;

    // Another runtime has a namespace of the same name.
    cli.run(["undeploy"]).await?.code(0).says("namespace gadget stays").says("there was nothing to remove");
    let _controllers = Controllers::start(admin.clone(), THEIRS, true);
    let there = ["--runtime-namespace", THEIRS];
    let deployed = cli.run(["deploy"].iter().chain(&there)).await?.code(0).says("ready on 1 node");
    deployed.says("it is used as it is").says("kubectl label --overwrite namespace monitoring pod-security");
    assert_eq!(namespaces.get(THEIRS).await?.metadata.labels, before);
    cli.run(["undeploy"]).await?.fails("DaemonSet monitoring/gadgetd").says("--runtime-namespace monitoring");

    // An earlier try has left a pod of a node that is down.
    let sets = Api::<DaemonSet>::namespaced(admin.clone(), THEIRS);
    sets.delete("gadgetd", &DeleteParams::default()).await?;
    lost_pod(&admin, THEIRS).await?;
    let undeployed = cli.run(["undeploy"].iter().chain(&there)).await?.code(0).says("the runtime is removed");
    undeployed.says("node n2 is not ready").says("namespace monitoring stays");
    let pods = Api::<Pod>::namespaced(admin.clone(), THEIRS).list(&ListParams::default()).await?;
    assert_eq!(names(&pods.items), [""; 0]);
    for name in [THEIRS, SYSTEM] {
        assert_eq!(namespaces.get(name).await?.metadata.deletion_timestamp, None, "{name}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_runtime_comes_works_and_goes() -> Result<()> {
    let Some((server, admin, cli)) = empty_cluster().await? else { return Ok(()) };
    node(&admin, "n1", true).await?;

    // Nothing is there.
    let run = ["run", "seccomp", "-n", "default", "-p", "x"];
    cli.run(run).await?.fails("the runtime is not deployed").says("kubectl gadget deploy");
    cli.run(["list"]).await?.fails("the runtime is not deployed").says("kubectl gadget deploy");
    cli.run(["stop", "x"]).await?.fails("the runtime is not deployed");
    let version = cli.run(["version"]).await?.code(0);
    assert!(version.stdout.contains("not deployed"), "{version:?}");
    cli.run(["undeploy"]).await?.code(0).says("there was nothing to remove");

    // What would be applied.
    let printed = cli.run(["deploy", "--dry-run", "--image", "registry.example/gadgetd:x"]).await?.code(0);
    let documents: Vec<Value> = serde_saphyr::from_multiple(&printed.stdout)?;
    assert!(documents.iter().any(|d| d["kind"] == "DaemonSet"), "{printed:?}");
    ensure!(
        Api::<Namespace>::all(admin.clone()).get_opt(SYSTEM).await?.is_none(),
        "a dry run made something"
    );

    // A node that does not get it.
    let controllers = Controllers::start(admin.clone(), SYSTEM, false);
    let deploy = ["deploy", "--image", "registry.example/gadgetd:x", "--timeout", "2s"];
    cli.run(deploy).await?.fails("n1: ImagePullBackOff: no such image").says("get pods");
    cli.run(run).await?.fails("ready on no node").says("ImagePullBackOff");
    drop(controllers);

    // The same again, and it does. Whoever does it twice has it once.
    let controllers = Controllers::start(admin.clone(), SYSTEM, true);
    for _ in 0..2 {
        cli.run(["deploy", "--image", "registry.example/gadgetd:y"]).await?.code(0).says("ready on 1 node");
    }
    let version = cli.run(["version", "-o", "json"]).await?.code(0).json();
    let node = &version["runtime"]["nodes"]["n1"];
    assert_eq!(node["ready"], true, "{version}");
    assert_eq!(version["runtime"]["version"], env!("CARGO_PKG_VERSION"));
    cli.run(["list"]).await?.code(0).says("nothing is being recorded");
    let profile = ["seccomp-advisor", "start", "-n", "default", "-p", "x", "-m", "seccomp-profile"];
    cli.run(profile).await?.fails("does not know SeccompProfiles").says("-m terminal");

    // Who may not, may not.
    let nobody = Cli::with(server.kubeconfig(&User::new("nobody"))?);
    nobody.run(["deploy"]).await?.fails("cannot apply namespace gadget").says("administrator");
    nobody.run(["undeploy"]).await?.fails("administrator");
    let version = nobody.run(["version"]).await?.code(0);
    assert!(version.stdout.contains("not yours to see"), "{version:?}");

    // One that is too old.
    let sets = Api::<DaemonSet>::namespaced(admin.clone(), SYSTEM);
    let old = json!({ "metadata": { "labels": { "app.kubernetes.io/version": "0.0.9" } } });
    sets.patch("gadgetd", &PatchParams::default(), &Patch::Merge(old)).await?;
    cli.run(run).await?.fails("the runtime is too old").says("kubectl gadget deploy");

    // Recordings that somebody left: of a node that is gone, and of one whose runtime does not answer.
    let traces = Api::<Trace>::namespaced(admin.clone(), "default");
    for (name, node) in [("of-gone", "gone"), ("of-n1", "n1")] {
        let mut trace = Trace::new(name, TraceSpec { gadget: "seccomp".into(), ..TraceSpec::default() });
        trace.metadata.finalizers = Some(vec![finalizer(node)]);
        traces.create(&PostParams::default(), &trace).await?;
    }
    lost_pod(&admin, SYSTEM).await?;
    let undeploy = cli.run(["undeploy", "--timeout", "30s"]).await?.code(0).says("the runtime is removed");
    undeploy.says("node gone does not end its recordings").says("node n2 is not ready");
    drop(controllers);
    let gone = async {
        let left: Vec<String> = [
            names(&Api::<Namespace>::all(admin.clone()).list(&ListParams::default()).await?.items),
            names(
                &Api::<CustomResourceDefinition>::all(admin.clone())
                    .list(&ListParams::default())
                    .await?
                    .items,
            ),
            names(&Api::<ClusterRole>::all(admin.clone()).list(&ListParams::default()).await?.items),
            names(&Api::<ClusterRoleBinding>::all(admin.clone()).list(&ListParams::default()).await?.items),
        ]
        .concat();
        let ours: Vec<_> = left.into_iter().filter(|name| name.contains("gadget")).collect();
        if ours.is_empty() { Ok(()) } else { bail!("{ours:?} are left") }
    };
    gone.await?;
    eventually("end of the definitions", LIMIT, async || {
        let answer = admin.list_api_group_resources("gadget.kinvolk.io/v1alpha1").await;
        if answer.is_err() { Ok(()) } else { Err("it is served") }
    })
    .await?;
    let version = cli.run(["version"]).await?.code(0);
    assert!(version.stdout.contains("not deployed"), "{version:?}");
    Ok(())
}

fn names<K: kube::Resource>(items: &[K]) -> Vec<String> {
    items.iter().map(kube::ResourceExt::name_any).collect()
}
