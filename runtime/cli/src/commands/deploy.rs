//! `deploy`: installs the runtime, and waits until it works.

use std::{collections::BTreeMap, process::ExitCode, time::Instant};

use anyhow::{Context as _, Result, bail};
use k8s_openapi::{
    api::{apps::v1::DaemonSet, core::v1::Namespace},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, ResourceExt as _,
    api::{Patch, PatchParams},
};
use tokio::time::sleep;

use crate::{
    cli::{ClusterArgs, DeployArgs},
    connection::{Connection, InTime as _},
    errors::{Explain as _, Needs},
    live::{Live, count},
    manifests::{api, is_ours, kind, manifests, name},
    note, output,
    recording::AGAIN,
    runtime::{self, DAEMON_SET, OnNode, by_node},
    table::yaml,
    warn,
};

/// The label of a namespace that says which pods it takes.
const POD_SECURITY: &str = "pod-security.kubernetes.io/enforce";

/// Who writes what is installed, as the API server knows it.
const MANAGER: &str = "kubectl-gadget";

pub(crate) async fn main(cluster: &ClusterArgs, args: &DeployArgs) -> Result<ExitCode> {
    let objects = manifests(&cluster.runtime_namespace, args.image.as_deref())?;
    if args.dry_run {
        let documents = objects.iter().map(yaml).collect::<Result<Vec<_>>>()?;
        output::to_stdout(&documents.join("---\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let connection = Connection::new(cluster).await?;
    let begun = Instant::now();
    for object in &objects {
        if kind(object) == "Namespace" && is_used_as_it_is(&connection).await? {
            continue;
        }
        let of_object = object.metadata.name.as_deref();
        let of_object = of_object.with_context(|| format!("the manifest {} has no name", name(object)))?;
        let how = PatchParams::apply(MANAGER).force();
        let applied =
            api(&connection.client, object)?.patch(of_object, &how, &Patch::Apply(object)).in_time().await;
        applied.explain(format_args!("apply {}", name(object)), Needs::Admin)?;
        if kind(object) == "CustomResourceDefinition" {
            established(&connection, of_object, args, begun).await?;
        }
        note(format_args!("{} applied", name(object)));
    }
    let nodes = rolled_out(&connection, args, begun).await?;
    note(format_args!("the runtime is ready on {}", count(nodes, "node")));
    Ok(ExitCode::SUCCESS)
}

/// Whether the namespace is there and was not made by `deploy`: then what else is in it goes by its labels, which are
/// not ours to change.
async fn is_used_as_it_is(connection: &Connection) -> Result<bool> {
    let name = &connection.system;
    let namespaces = Api::<Namespace>::all(connection.client.clone());
    let found = namespaces
        .get_opt(name)
        .in_time()
        .await
        .explain(format_args!("apply namespace {name}"), Needs::Admin)?;
    let Some(found) = found.filter(|found| !is_ours(found)) else { return Ok(false) };
    note(format_args!("namespace {name} was there before: it is used as it is, and undeploy will leave it"));
    if let Some(problem) = pod_security(&found) {
        warn(format_args!(
            "namespace {name} {problem}: allow them with kubectl label --overwrite namespace {name} {POD_SECURITY}=privileged"
        ));
    }
    Ok(true)
}

/// What a namespace has against the runtime's pods.
fn pod_security(namespace: &Namespace) -> Option<String> {
    match namespace.labels().get(POD_SECURITY).map(String::as_str) {
        Some("privileged") => None,
        Some(level) => Some(format!("refuses the runtime's pods ({POD_SECURITY}={level})")),
        None => Some(format!("may refuse the runtime's pods (it has no {POD_SECURITY})")),
    }
}

/// Waits until objects of a new kind can be made.
async fn established(connection: &Connection, name: &str, args: &DeployArgs, begun: Instant) -> Result<()> {
    let definitions = Api::<CustomResourceDefinition>::all(connection.client.clone());
    loop {
        let found =
            definitions.get(name).in_time().await.explain(format_args!("read {name}"), Needs::Admin)?;
        let conditions = found.status.and_then(|s| s.conditions).unwrap_or_default();
        if conditions.iter().any(|c| c.type_ == "Established" && c.status == "True") {
            return Ok(());
        }
        if begun.elapsed() > args.timeout {
            let refused = conditions.into_iter().filter(|c| c.status == "False").filter_map(|c| c.message);
            bail!("the API server does not serve {name}: {}", refused.collect::<Vec<_>>().join("; "));
        }
        sleep(AGAIN).await;
    }
}

/// How far the nodes have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rollout {
    wanted: i32,
    ready: i32,
    done: bool,
}

/// How far; `None` where nobody has looked at this version of the `DaemonSet` yet.
fn rollout(set: &DaemonSet) -> Option<Rollout> {
    let status = set.status.as_ref()?;
    if status.observed_generation < set.metadata.generation {
        return None;
    }
    let wanted = status.desired_number_scheduled;
    let updated = status.updated_number_scheduled.unwrap_or(0);
    let ready = status.number_ready.min(updated);
    Some(Rollout { wanted, ready, done: wanted > 0 && updated == wanted && status.number_ready == wanted })
}

/// Waits until every node is ready; gives how many those are.
async fn rolled_out(connection: &Connection, args: &DeployArgs, begun: Instant) -> Result<u64> {
    let live = Live::new();
    let sets = Api::<DaemonSet>::namespaced(connection.client.clone(), &connection.system);
    let mut said = None;
    loop {
        let set = sets.get(DAEMON_SET).in_time().await.explain("see how far the nodes are", Needs::Admin)?;
        let rollout = rollout(&set);
        match rollout {
            Some(Rollout { done: true, wanted, .. }) => return Ok(u64::try_from(wanted).unwrap_or(0)),
            Some(Rollout { wanted: 0, .. }) => bail!(
                "the runtime is installed, but no node of the cluster is one that it is for: it takes {}",
                selector(&set)
            ),
            _ => {}
        }
        let text = rollout.map_or_else(
            || "waiting for the cluster to begin".to_owned(),
            |r| format!("waiting for nodes: {} of {} ready", r.ready, r.wanted),
        );
        live.show(&text);
        if !live.is_visible() && said.as_ref() != Some(&text) {
            note(&text);
            said = Some(text.clone());
        }
        if begun.elapsed() > args.timeout {
            let pods = runtime::pods(connection).await?.unwrap_or_default();
            bail!(
                "after {} the runtime is not ready everywhere ({text}){}; see: kubectl -n {} get pods --output wide",
                humantime::format_duration(args.timeout),
                problems(&by_node(&pods)),
                connection.system
            );
        }
        sleep(AGAIN).await;
    }
}

/// What keeps nodes from being ready.
fn problems(nodes: &BTreeMap<String, OnNode>) -> String {
    let not_ready = nodes.iter().filter_map(|(node, on)| Some(format!("; {node}: {}", on.reason.as_ref()?)));
    not_ready.collect()
}

/// Which nodes the `DaemonSet` is for.
fn selector(set: &DaemonSet) -> String {
    let labels =
        set.spec.as_ref().and_then(|s| s.template.spec.as_ref()).and_then(|s| s.node_selector.clone());
    crate::target::selector(&labels.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(status: &serde_json::Value) -> DaemonSet {
        serde_json::from_value(json!({ "metadata": { "generation": 2 }, "status": status })).unwrap()
    }

    fn status(observed: i64, wanted: i32, updated: i32, ready: i32) -> serde_json::Value {
        json!({
            "observedGeneration": observed, "desiredNumberScheduled": wanted, "updatedNumberScheduled": updated,
            "numberReady": ready, "currentNumberScheduled": wanted, "numberMisscheduled": 0,
        })
    }

    #[test]
    fn a_namespace_that_takes_the_pods_has_the_label() {
        let namespace = |labels: serde_json::Value| {
            pod_security(&serde_json::from_value(json!({ "metadata": { "labels": labels } })).unwrap())
        };
        assert_eq!(namespace(json!({ POD_SECURITY: "privileged" })), None);
        assert!(namespace(json!({ POD_SECURITY: "baseline" })).unwrap().starts_with("refuses"));
        assert!(namespace(json!({})).unwrap().starts_with("may refuse"));
    }

    #[test]
    fn nodes_are_ready_when_they_run_what_was_applied() {
        assert_eq!(rollout(&set(&json!(null))), None);
        assert_eq!(rollout(&set(&status(1, 3, 3, 3))), None);
        let some = |wanted, ready, done| Some(Rollout { wanted, ready, done });
        assert_eq!(rollout(&set(&status(2, 3, 1, 3))), some(3, 1, false));
        assert_eq!(rollout(&set(&status(2, 3, 3, 2))), some(3, 2, false));
        assert_eq!(rollout(&set(&status(2, 3, 3, 3))), some(3, 3, true));
        assert_eq!(rollout(&set(&status(2, 0, 0, 0))), some(0, 0, false));
    }
}
