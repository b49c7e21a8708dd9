//! The API server that tests get is a real one, and goes with them.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use gadgetd_e2e::{ApiServer, Tier, User, assets, eventually};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DynamicObject, ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::GroupVersionKind;
use kube::{Api, Client, Config, Error};
use serde_json::json;

const LIMIT: Duration = Duration::from_mins(2);

fn status(error: &Error) -> u16 {
    match error {
        Error::Api(status) => status.code,
        other => panic!("not an answer of the API server: {other:?}"),
    }
}

async fn make<K>(api: &Api<K>, object: serde_json::Value) -> Result<K>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned + serde::Serialize,
{
    Ok(api.create(&PostParams::default(), &serde_json::from_value(object)?).await?)
}

#[tokio::test]
async fn users_may_do_what_their_roles_say_and_nothing_else() -> Result<()> {
    if assets(Tier::Api).is_none() {
        return Ok(());
    }
    let server = ApiServer::shared().await?;
    let admin = server.client(&User::admin()).await?;
    make(&Api::<Namespace>::all(admin.clone()), json!({"metadata": {"name": "shop"}})).await?;
    let role = json!({
        "metadata": {"name": "clerk"},
        "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create", "get"]}],
    });
    make(&Api::<Role>::namespaced(admin.clone(), "shop"), role).await?;
    let binding = json!({
        "metadata": {"name": "clerks"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "clerk"},
        "subjects": [
            {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "ada"},
            {"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "tills"},
        ],
    });
    make(&Api::<RoleBinding>::namespaced(admin, "shop"), binding).await?;

    for user in [User::new("ada"), User::new("grace").in_group("tills")] {
        let client = server.client(&user).await?;
        let shop = Api::<ConfigMap>::namespaced(client.clone(), "shop");
        let map = json!({"metadata": {"name": user.name()}});
        eventually("right to write", LIMIT, async || make(&shop, map.clone()).await).await?;
        shop.get(user.name()).await?;
        assert_eq!(status(&shop.list(&ListParams::default()).await.expect_err("may not list")), 403);
        let elsewhere = Api::<ConfigMap>::default_namespaced(client);
        assert_eq!(status(&elsewhere.get(user.name()).await.expect_err("may not read elsewhere")), 403);
    }
    let stranger = Api::<ConfigMap>::namespaced(server.client(&User::new("eve")).await?, "shop");
    assert_eq!(status(&stranger.get("ada").await.expect_err("has no role")), 403);
    Ok(())
}

#[tokio::test]
async fn a_service_account_is_itself() -> Result<()> {
    if assets(Tier::Api).is_none() {
        return Ok(());
    }
    let server = ApiServer::shared().await?;
    let admin = server.client(&User::admin()).await?;
    let account = json!({"metadata": {"name": "reader"}});
    make(&Api::<ServiceAccount>::default_namespaced(admin.clone()), account).await?;
    let binding = json!({
        "metadata": {"name": "reader"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:kube-scheduler"},
        "subjects": [{"kind": "ServiceAccount", "namespace": "default", "name": "reader"}],
    });
    make(&Api::<ClusterRoleBinding>::all(admin), binding).await?;

    let file = Kubeconfig::read_from(server.service_account_kubeconfig("default", "reader").await?)?;
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
    let client = Client::try_from(config)?;
    let nodes = Api::<Node>::all(client.clone());
    eventually("right to list", LIMIT, async || nodes.list(&ListParams::default()).await).await?;
    let maps = Api::<ConfigMap>::default_namespaced(client);
    assert_eq!(status(&maps.list(&ListParams::default()).await.expect_err("has no right")), 403);
    Ok(())
}

/// Built with the reflect2 that Kubernetes 1.20 vendors, the API server would die of this.
#[tokio::test]
async fn labelled_custom_resources_are_stored() -> Result<()> {
    if assets(Tier::Api).is_none() {
        return Ok(());
    }
    let server = ApiServer::shared().await?;
    let admin = server.client(&User::admin()).await?;
    make(
        &Api::<CustomResourceDefinition>::all(admin.clone()),
        json!({
            "metadata": {"name": "probes.e2e.example"},
            "spec": {
                "group": "e2e.example",
                "scope": "Namespaced",
                "names": {"kind": "Probe", "plural": "probes"},
                "versions": [{
                    "name": "v1", "served": true, "storage": true,
                    "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
                }],
            },
        }),
    )
    .await?;
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("e2e.example", "v1", "Probe"));
    let probes = Api::<DynamicObject>::default_namespaced_with(admin, &kind);
    let probe = json!({
        "apiVersion": "e2e.example/v1", "kind": "Probe",
        "metadata": {"name": "one", "labels": {"a": "b"}}, "spec": {"x": 1},
    });
    let made = eventually("custom resource", LIMIT, async || make(&probes, probe.clone()).await);
    assert_eq!(made.await?.data["spec"]["x"], 1);
    assert_eq!(probes.list(&ListParams::default().labels("a=b")).await?.items.len(), 1);
    Ok(())
}

#[tokio::test]
async fn an_outage_loses_nothing() -> Result<()> {
    if assets(Tier::Api).is_none() {
        return Ok(());
    }
    let server = ApiServer::start().await?;
    let maps = Api::<ConfigMap>::default_namespaced(server.client(&User::admin()).await?);
    make(&maps, json!({"metadata": {"name": "kept"}})).await?;
    server.stop();
    let refused = maps.get("kept").await.expect_err("nobody answers");
    assert!(!matches!(refused, Error::Api(_)), "{refused:?}");
    server.resume().await?;
    // The same client, on the same port.
    maps.get("kept").await?;
    Ok(())
}

#[tokio::test]
async fn it_ends_with_the_process_that_holds_it() -> Result<()> {
    if assets(Tier::Api).is_none() {
        return Ok(());
    }
    let mut holder =
        Command::new(env!("CARGO_BIN_EXE_gadgetd-e2e")).arg("api").stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    let stdout = holder.stdout.take().context("a pipe")?;
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line)?;
    let kubeconfig =
        line.trim().strip_prefix("export KUBECONFIG=").context("it says where it is")?.to_owned();
    let folder = std::path::Path::new(&kubeconfig).ancestors().nth(2).context("a folder")?.to_owned();
    let argument = folder.display().to_string();
    assert!(!processes_with(&argument).is_empty());

    holder.kill()?;
    holder.wait()?;
    eventually("end of everything", LIMIT, async || {
        let left = processes_with(&argument);
        ensure!(left.is_empty(), "left: {left:?}");
        ensure!(!folder.exists(), "left: {}", folder.display());
        Ok(())
    })
    .await
}

/// Command lines of the processes that have `argument` in theirs.
fn processes_with(argument: &str) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| std::fs::read(entry.ok()?.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(argument))
        .collect()
}
