//! What of the runtime is in the cluster.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};
use k8s_openapi::api::{
    apps::v1::DaemonSet,
    core::v1::{Node, Pod},
};
use kube::{Api, ResourceExt, api::ListParams};
use semver::{Comparator, Op, Version};
use serde::Serialize;

use crate::{
    connection::{Connection, InTime as _},
    errors::{Explain as _, Needs, is_forbidden, is_not_found},
};

/// The name of the `DaemonSet`.
pub(crate) const DAEMON_SET: &str = "gadgetd";

/// The pods of the `DaemonSet`.
pub(crate) const SELECTOR: &str = "app.kubernetes.io/name=gadgetd,app.kubernetes.io/component=node";

/// The label that has the version.
const VERSION: &str = "app.kubernetes.io/version";

/// This command's version.
pub(crate) const CLIENT: &str = env!("CARGO_PKG_VERSION");

/// What to type where something is missing.
const DEPLOY: &str = "kubectl gadget deploy";

/// The runtime in a cluster, as far as this user may see it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Runtime {
    /// Its namespace.
    pub namespace: String,
    /// What the `DaemonSet` says it is.
    pub version: Option<String>,
    /// Its pods by node. `None`: they may not be seen.
    pub nodes: Option<BTreeMap<String, OnNode>>,
}

/// The runtime on one node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OnNode {
    /// The name of the pod.
    pub pod: String,
    /// What it is.
    pub version: Option<String>,
    /// Its image.
    pub image: String,
    /// Whether it works.
    pub ready: bool,
    /// Why it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What was found.
#[derive(Clone, Debug)]
pub(crate) enum Found {
    /// Something, perhaps not all of it.
    Installed(Runtime),
    /// Nothing; this is missing.
    Missing(&'static str),
}

/// Looks what there is. What this user may not see is taken to be there.
pub(crate) async fn look(connection: &Connection) -> Result<Found> {
    let client = &connection.client;
    match client.list_api_group_resources("gadget.kinvolk.io/v1alpha1").in_time().await {
        Err(error) if is_not_found(&error) => return Ok(Found::Missing("the cluster does not know Traces")),
        Err(error) if is_forbidden(&error) => {}
        answer => drop(answer.explain("ask the cluster what it knows", Needs::User(None))?),
    }
    let mut runtime = Runtime { namespace: connection.system.clone(), ..Runtime::default() };
    let sets = Api::<DaemonSet>::namespaced(client.clone(), &connection.system);
    match sets.get(DAEMON_SET).in_time().await {
        Ok(set) => runtime.version = set.labels().get(VERSION).cloned(),
        Err(error) if is_not_found(&error) => return Ok(Found::Missing("there is no DaemonSet gadgetd")),
        Err(error) if is_forbidden(&error) => {}
        Err(error) => return Err(error).explain("look for the runtime", Needs::User(None)),
    }
    runtime.nodes = pods(connection).await?.map(|pods| by_node(&pods));
    Ok(Found::Installed(runtime))
}

/// The pods of the runtime; `None` where they may not be seen.
pub(crate) async fn pods(connection: &Connection) -> Result<Option<Vec<Pod>>> {
    let pods = Api::<Pod>::namespaced(connection.client.clone(), &connection.system);
    match pods.list(&ListParams::default().labels(SELECTOR)).in_time().await {
        Ok(pods) => Ok(Some(pods.items)),
        Err(error) if is_forbidden(&error) => Ok(None),
        Err(error) => Err(error).explain("look for the runtime's pods", Needs::User(None)),
    }
}

/// The runtime, or an error that says what is missing and what to do.
pub(crate) async fn installed(connection: &Connection) -> Result<Runtime> {
    match look(connection).await? {
        Found::Missing(what) => bail!(
            "the runtime is not deployed: {what} (namespace {}); type: {DEPLOY}. If it runs in another namespace, name that \
             with --runtime-namespace",
            connection.system
        ),
        Found::Installed(runtime) => {
            runtime.check_version(CLIENT)?;
            Ok(runtime)
        }
    }
}

/// Each node's pod; where a new one takes the place of an old one, the one that works.
pub(crate) fn by_node(pods: &[Pod]) -> BTreeMap<String, OnNode> {
    let mut nodes = BTreeMap::<String, OnNode>::new();
    for pod in pods {
        let Some(node) = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()) else { continue };
        let found = on_node(pod);
        match nodes.get(&node) {
            Some(before) if before.ready && !found.ready => {}
            _ => drop(nodes.insert(node, found)),
        }
    }
    nodes
}

fn on_node(pod: &Pod) -> OnNode {
    let conditions = pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
    let ready = conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True");
    let ready = ready && pod.metadata.deletion_timestamp.is_none();
    let image = pod.spec.iter().flat_map(|spec| &spec.containers).find_map(|c| c.image.clone());
    OnNode {
        pod: pod.name_any(),
        version: pod.labels().get(VERSION).cloned(),
        image: image.unwrap_or_default(),
        ready,
        reason: (!ready).then(|| reason(pod)),
    }
}

/// Why a pod is not ready, in the words of whoever knows most about it.
pub(crate) fn reason(pod: &Pod) -> String {
    if pod.metadata.deletion_timestamp.is_some() {
        return "it is being deleted".into();
    }
    let join = |reason: Option<&str>, message: Option<&str>| {
        let parts = [reason, message].into_iter().flatten().filter(|word| !word.is_empty());
        parts.collect::<Vec<_>>().join(": ")
    };
    let status = pod.status.as_ref();
    for container in status.iter().flat_map(|s| s.container_statuses.iter().flatten()) {
        let ended = |state: &k8s_openapi::api::core::v1::ContainerState| {
            state.terminated.as_ref().map(|t| {
                let code = format!("exit code {}", t.exit_code);
                join(Some(t.reason.as_deref().unwrap_or(&code)), t.message.as_deref())
            })
        };
        let waiting = container.state.as_ref().and_then(|s| s.waiting.as_ref());
        let now = waiting.map(|w| join(w.reason.as_deref(), w.message.as_deref()));
        let now = now.or_else(|| container.state.as_ref().and_then(ended));
        let before = container.last_state.as_ref().and_then(ended);
        let all = [now, before.map(|b| format!("it ended before, {b}"))];
        let all: Vec<_> = all.into_iter().flatten().filter(|text| !text.is_empty()).collect();
        if !all.is_empty() {
            return all.join("; ");
        }
    }
    let conditions = status.iter().flat_map(|s| s.conditions.iter().flatten());
    let failing = conditions.into_iter().find(|c| c.status == "False" && c.message.is_some());
    match failing {
        Some(c) => join(c.reason.as_deref(), c.message.as_deref()),
        None => "it is not ready yet".into(),
    }
}

impl Runtime {
    /// Refuses a runtime that does not know what this command asks for.
    ///
    /// Before 1.0, a minor version may know less than the next; what is newer than this command knows what it asks for.
    fn check_version(&self, client: &str) -> Result<()> {
        let Some(version) = &self.version else { return Ok(()) };
        let (Ok(runtime), Ok(client)) = (Version::parse(version), Version::parse(client)) else {
            return Ok(());
        };
        let oldest = Comparator {
            op: Op::GreaterEq,
            major: client.major,
            minor: (client.major == 0).then_some(client.minor),
            patch: (client.major == 0).then_some(0),
            pre: semver::Prerelease::EMPTY,
        };
        // A pre-release counts as the release that it comes before.
        let release = Version::new(runtime.major, runtime.minor, runtime.patch);
        if !oldest.matches(&release) {
            bail!(
                "the runtime is too old: it is version {version}, this command {client}; bring it up to date: {DEPLOY}, or use \
                 the kubectl-gadget of that version"
            );
        }
        Ok(())
    }

    /// The nodes on which it works; `None` where that may not be seen.
    pub(crate) fn ready(&self) -> Option<BTreeSet<String>> {
        let nodes = self.nodes.as_ref()?;
        Some(nodes.iter().filter(|(_, on)| on.ready).map(|(node, _)| node.clone()).collect())
    }

    /// Those on which it should, and does not.
    pub(crate) fn not_ready(&self) -> Vec<(&str, &OnNode)> {
        let nodes = self.nodes.iter().flatten().filter(|(_, on)| !on.ready);
        nodes.map(|(node, on)| (node.as_str(), on)).collect()
    }

    /// Sees whether it works on a node, or on any.
    pub(crate) fn check_node(&self, node: &str) -> Result<(), String> {
        let Some(nodes) = &self.nodes else { return Ok(()) };
        let namespace = &self.namespace;
        match nodes.get(node) {
            _ if node.is_empty() && nodes.values().any(|on| on.ready) => Ok(()),
            _ if node.is_empty() && nodes.is_empty() => Err(format!(
                "the runtime runs on no node; see why: kubectl -n {namespace} describe daemonset {DAEMON_SET}"
            )),
            _ if node.is_empty() => {
                let why: Vec<_> = nodes
                    .iter()
                    .map(|(node, on)| format!("{node}: {}", on.reason.as_deref().unwrap_or_default()))
                    .collect();
                Err(format!(
                    "the runtime is ready on no node ({}); see: kubectl -n {namespace} get pods",
                    why.join("; ")
                ))
            }
            Some(on) if on.ready => Ok(()),
            Some(on) => Err(format!(
                "the runtime is not ready on node {node} ({}); see: kubectl -n {namespace} logs {}",
                on.reason.as_deref().unwrap_or_default(),
                on.pod
            )),
            None => Err(format!(
                "the runtime does not run on node {node}; see which nodes it is for: kubectl -n {namespace} describe \
                 daemonset {DAEMON_SET}"
            )),
        }
    }
}

/// The nodes that work.
pub(crate) async fn ready_nodes(connection: &Connection) -> Result<BTreeSet<String>> {
    let nodes = Api::<Node>::all(connection.client.clone()).list(&ListParams::default()).in_time().await;
    let nodes = nodes.explain("list the nodes", Needs::Admin)?.items;
    Ok(nodes.iter().filter(|node| is_ready(node)).map(ResourceExt::name_any).collect())
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|s| s.conditions.iter().flatten());
    conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True")
}

/// Whether a node exists; `None` where that may not be seen.
pub(crate) async fn node_exists(connection: &Connection, node: &str) -> Result<Option<bool>> {
    match Api::<Node>::all(connection.client.clone()).get_opt(node).in_time().await {
        Ok(found) => Ok(Some(found.is_some())),
        Err(error) if is_forbidden(&error) => Ok(None),
        Err(error) => Err(error).explain(format_args!("look for node {node}"), Needs::User(None)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(node: &str, status: &serde_json::Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": { "name": format!("gadgetd-{node}"), "labels": { VERSION: "0.1.0" } },
            "spec": { "nodeName": node, "containers": [{ "name": "gadgetd", "image": "i:1" }] },
            "status": status,
        }))
        .unwrap()
    }

    fn ready() -> serde_json::Value {
        json!({ "conditions": [{ "type": "Ready", "status": "True" }] })
    }

    fn runtime(pods: &[Pod]) -> Runtime {
        Runtime { namespace: "gadget".into(), version: Some("0.1.0".into()), nodes: Some(by_node(pods)) }
    }

    #[test]
    fn an_old_runtime_is_refused_a_newer_one_is_not() {
        for (runtime, client, fine) in [
            ("0.1.0", "0.1.0", true),
            ("0.1.0", "0.1.9", true),
            ("0.2.0", "0.1.0", true),
            ("0.1.9", "0.2.0", false),
            ("0.2.0-rc.1", "0.2.0", true),
            ("1.0.0", "0.2.0", true),
            ("1.0.0", "1.5.0", true),
            ("0.9.0", "1.0.0", false),
            ("main", "1.0.0", true),
        ] {
            let found = Runtime { version: Some(runtime.into()), ..Runtime::default() }.check_version(client);
            assert_eq!(found.is_ok(), fine, "{runtime} {client}: {found:?}");
            assert!(fine || found.unwrap_err().to_string().contains(DEPLOY));
        }
    }

    #[test]
    fn a_node_without_the_runtime_is_named_with_what_to_do() {
        let waiting = json!({ "containerStatuses": [{
            "name": "gadgetd", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "waiting": { "reason": "ImagePullBackOff", "message": "no such image" } },
        }] });
        let found = runtime(&[pod("n1", &ready()), pod("n2", &waiting)]);
        assert_eq!(found.check_node(""), Ok(()));
        assert_eq!(found.check_node("n1"), Ok(()));
        let said = found.check_node("n2").unwrap_err();
        assert!(
            said.contains("n2 (ImagePullBackOff: no such image)") && said.contains("logs gadgetd-n2"),
            "{said}"
        );
        assert!(found.check_node("n3").unwrap_err().contains("does not run on node n3"));
        assert_eq!(found.ready().unwrap().into_iter().collect::<Vec<_>>(), ["n1"]);
        assert_eq!(found.not_ready().len(), 1);
        assert!(runtime(&[]).check_node("").unwrap_err().contains("runs on no node"));
        let crashing = json!({ "containerStatuses": [{
            "name": "gadgetd", "image": "", "imageID": "", "ready": false, "restartCount": 3,
            "state": { "waiting": { "reason": "CrashLoopBackOff" } },
            "lastState": { "terminated": { "exitCode": 1, "message": "no BTF" } },
        }] });
        let said = runtime(&[pod("n1", &crashing)]).check_node("").unwrap_err();
        assert!(said.contains("n1: CrashLoopBackOff; it ended before, exit code 1: no BTF"), "{said}");
        // What may not be seen is taken to be there.
        assert_eq!(Runtime::default().check_node("n9"), Ok(()));
    }

    #[test]
    fn a_pod_that_works_counts_before_the_one_that_takes_its_place() {
        let pods = [pod("n1", &ready()), pod("n1", &json!({}))];
        assert!(by_node(&pods)["n1"].ready);
        let pods = [pod("n1", &json!({})), pod("n1", &ready())];
        assert!(by_node(&pods)["n1"].ready);
    }
}
