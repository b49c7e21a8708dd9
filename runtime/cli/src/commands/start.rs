//! How a recording begins: what has to be there, and what to say where it is not.

use std::{collections::BTreeSet, process::ExitCode, time::Duration};

use anyhow::{Result, anyhow, bail, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use tokio::time::timeout;

use crate::{
    connection::{Connection, InTime as _},
    errors::{Explain as _, Needs, is_forbidden},
    live::Live,
    note, output,
    recording::{Interrupted, Recording, Settled, Unmade, unless},
    runtime, signals,
    target::{Wanted, new_id, object, subject},
    warn,
};

/// How long the end of something may take that somebody is in a hurry to end.
const HURRY: Duration = Duration::from_secs(10);

/// Sees whether it can be recorded, and finds out where. Gives the nodes that should answer; none: that may not be seen.
pub(crate) async fn prepare(connection: &Connection, wanted: &mut Wanted) -> Result<BTreeSet<String>> {
    let runtime = runtime::installed(connection).await?;
    find_pod(connection, wanted).await?;
    let node = &wanted.spec.node;
    if let Err(problem) = runtime.check_node(node) {
        if !node.is_empty() && runtime::node_exists(connection, node).await? == Some(false) {
            bail!("there is no node {node}; see which there are: kubectl get nodes");
        }
        bail!("{problem}");
    }
    if !node.is_empty() {
        return Ok([node.clone()].into());
    }
    for (node, on) in runtime.not_ready() {
        let why = on.reason.as_deref().unwrap_or_default();
        warn(format_args!("the runtime is not ready on node {node} ({why}): pods there are not recorded"));
    }
    Ok(runtime.ready().unwrap_or_default())
}

/// Where one pod is meant and can be seen: its node, and whether it has the container.
async fn find_pod(connection: &Connection, wanted: &mut Wanted) -> Result<()> {
    let Some(filter) =
        wanted.spec.filter.as_ref().filter(|f| !f.podname.is_empty() && !f.namespace.is_empty())
    else {
        return Ok(());
    };
    let who = format!("{}/{}", filter.namespace, filter.podname);
    let pods = Api::<Pod>::namespaced(connection.client.clone(), &filter.namespace);
    let pod = match pods.get_opt(&filter.podname).in_time().await {
        Ok(Some(pod)) => pod,
        // It may come later, and the nodes say so. Or who may record it may not look at it: the nodes may.
        Ok(None) => return Ok(()),
        Err(error) if is_forbidden(&error) => return Ok(()),
        Err(error) => return Err(error).explain(format_args!("look for pod {who}"), Needs::User(None)),
    };
    let container = &filter.container_name;
    let names = containers(&pod);
    ensure!(
        container.is_empty() || names.contains(container),
        "pod {who} has no container {container}: it has {}; name one of them with -c, or none for all",
        names.join(", ")
    );
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    if let Some(phase @ ("Succeeded" | "Failed")) = phase {
        warn(format_args!(
            "pod {who} has ended ({phase}): unless it starts anew, there is nothing to record"
        ));
    }
    if pod.metadata.deletion_timestamp.is_some() {
        warn(format_args!("pod {who} is being deleted: what takes its name after it is recorded, too"));
    }
    let lives = lives(&pod);
    let stays = lives && !comes_back(&pod);
    let node = pod.spec.and_then(|spec| spec.node_name).unwrap_or_default();
    let asked = &mut wanted.spec.node;
    if asked.is_empty() {
        // Where the pod may come up elsewhere, all nodes look out for it.
        if stays {
            *asked = node;
        }
    } else {
        ensure!(
            !lives || node.is_empty() || node == *asked,
            "pod {who} is on node {node}, not on {asked}: leave --node out"
        );
    }
    Ok(())
}

/// Whether a pod has not come to its end.
fn lives(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    pod.metadata.deletion_timestamp.is_none() && !matches!(phase, Some("Succeeded" | "Failed"))
}

/// Whether another pod takes the name of this one when it ends, perhaps on another node.
fn comes_back(pod: &Pod) -> bool {
    let owners = pod.metadata.owner_references.iter().flatten();
    owners.into_iter().any(|owner| owner.controller == Some(true) && owner.kind == "StatefulSet")
}

/// The names of all containers of a pod.
fn containers(pod: &Pod) -> Vec<String> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let plain = spec.containers.iter().map(|c| c.name.clone());
    let init = spec.init_containers.iter().flatten().map(|c| c.name.clone());
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|c| c.name.clone());
    plain.chain(init).chain(ephemeral).collect()
}

/// Refuses a recording that no node would carry out, and tells what there is to say about one that is on.
pub(crate) fn check(settled: &Settled, wanted: &Wanted, live: &Live) -> Result<()> {
    let status = settled.trace.status.clone().unwrap_or_default();
    // One node may fail where others record: then it is on, and something is missing.
    let recording = status.state == Some(gadgetd_kube::State::Started);
    match status.operation_error {
        Some(error) if !recording => bail!("cannot record {}: {error}", subject(&wanted.spec)),
        Some(error) => live.warn(error),
        None => {}
    }
    if let Some(warning) = status.operation_warning {
        live.warn(warning);
    }
    for node in &settled.missing {
        live.warn(format_args!("node {node} has not answered yet: what runs there may be missing"));
    }
    Ok(())
}

/// Starts a recording that goes on when this command has ended, and prints its id. `stop` is what ends it.
pub(crate) async fn detached(
    connection: &Connection,
    wanted: &mut Wanted,
    patience: Duration,
    stop: &str,
) -> Result<ExitCode> {
    let id = started(connection, wanted, patience).await?;
    let how = format!("{stop} {id} -n {}", wanted.namespace);
    output::print(&format!("{id}\n")).map_err(|error| {
        anyhow!("the id cannot be written to standard output: {error}; end the recording with: {how}")
    })?;
    // Who may not look into all namespaces has to name it.
    if wanted.namespace != connection.context {
        note(format_args!("end it with: {how}"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Starts a recording; gives its id.
async fn started(connection: &Connection, wanted: &mut Wanted, patience: Duration) -> Result<String> {
    let nodes = prepare(connection, wanted).await?;
    let id = new_id();
    let live = Live::new();
    let mut signals = signals::Signals::receive()?;
    let outcome = match unless(Recording::create(connection, wanted, &id), signals.next()).await {
        Ok(created) => {
            let (recording, trace) = created.map_err(|unmade| told(unmade, wanted, &id))?;
            let mut watch = recording.watch(trace);
            let settled = unless(watch.settle("start", 0, &nodes, patience, &live), signals.next()).await;
            settled.map(|settled| settled.and_then(|settled| check(&settled, wanted, &live)))
        }
        Err(Interrupted) => Err(Interrupted),
    };
    drop(live);
    match outcome.unwrap_or_else(|Interrupted| Err(anyhow!("interrupted: nothing is recorded"))) {
        Ok(()) => Ok(id),
        Err(error) => {
            clean_up(&Recording::of(connection, &object(wanted, &id)), &id).await;
            Err(error)
        }
    }
}

/// What somebody should know about a Trace that nobody knows to be there.
fn told(Unmade { error, perhaps }: Unmade, wanted: &Wanted, id: &str) -> anyhow::Error {
    if !perhaps {
        return error;
    }
    let namespace = &wanted.namespace;
    anyhow!(
        "{error}; it may be recorded all the same: see kubectl gadget show {id} -n {namespace}, and if it is there, delete it: \
         kubectl gadget delete {id} -n {namespace}"
    )
}

/// Deletes a Trace at the end of a command. It should not hold up the end.
pub(crate) async fn clean_up(recording: &Recording, id: &str) {
    let problem = match timeout(HURRY, recording.delete()).await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error,
        Err(_) => anyhow!("the API server does not answer"),
    };
    warn(format_args!(
        "{problem:#}; the recording is left: kubectl gadget delete {id} -n {}",
        recording.namespace
    ));
}
