//! `undeploy`: removes the runtime, and everything that belongs to it.
//!
//! Recordings first, as long as there are nodes that can end them; what a node holds that cannot is given up.

use std::{
    collections::BTreeSet,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use gadgetd_kube::{Trace, finalizer_node};
use k8s_openapi::api::{
    apps::v1::DaemonSet,
    core::v1::{Namespace, Pod},
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, DynamicObject, ListParams},
};
use tokio::time::sleep;

use crate::{
    cli::{ClusterArgs, UndeployArgs},
    connection::{Connection, InTime as _},
    errors::{Explain as _, Needs, explained, is_not_found},
    live::{Live, count},
    manifests::{api, describe, is_ours, kind, manifests, name},
    note,
    recording::{AGAIN, Recording},
    runtime::{self, DAEMON_SET, SELECTOR, by_node},
};

/// How long nodes may take to end what they record.
const FAREWELL: Duration = Duration::from_secs(20);

pub(crate) async fn main(cluster: &ClusterArgs, args: &UndeployArgs) -> Result<ExitCode> {
    let connection = Connection::new(cluster).await?;
    let undeploy =
        Undeploy { connection: &connection, limit: args.timeout, begun: Instant::now(), live: Live::new() };
    let mut objects = manifests(&cluster.runtime_namespace, None)?;
    undeploy.elsewhere().await?;
    undeploy.recordings().await?;
    // The definitions go when nobody makes objects of them any more, the namespace when it is empty.
    objects.reverse();
    let order = |object: &DynamicObject| match kind(object) {
        "DaemonSet" => 0,
        "CustomResourceDefinition" => 1,
        "Namespace" => 3,
        _ => 2,
    };
    objects.sort_by_key(order);
    let mut removed = 0;
    for object in &objects {
        removed += usize::from(match kind(object) {
            "DaemonSet" => undeploy.daemon_set(object).await?,
            "Namespace" => undeploy.namespace(object).await?,
            _ => undeploy.remove(object).await?,
        });
    }
    note(match removed {
        0 => "the runtime is not deployed: there was nothing to remove",
        _ => "the runtime is removed",
    });
    Ok(ExitCode::SUCCESS)
}

struct Undeploy<'a> {
    connection: &'a Connection,
    limit: Duration,
    begun: Instant,
    live: Live,
}

impl Undeploy<'_> {
    /// Fails where it has taken too long. `see` is what to type to find out why.
    fn check(&self, waits_for: &str, see: &str) -> Result<()> {
        if self.begun.elapsed() > self.limit {
            let limit = humantime::format_duration(self.limit);
            bail!("{waits_for} is not gone after {limit}; see what holds it: {see}");
        }
        Ok(())
    }

    /// Refuses to take the definitions away from a runtime that is in another namespace.
    async fn elsewhere(&self) -> Result<()> {
        let Connection { client, system, .. } = self.connection;
        let (what, needs) = ("look for the runtime", Needs::Admin);
        let here = Api::<DaemonSet>::namespaced(client.clone(), system);
        if here.get_opt(DAEMON_SET).in_time().await.explain(what, needs)?.is_some() {
            return Ok(());
        }
        let sets = Api::<DaemonSet>::all(client.clone());
        let sets = sets.list(&ListParams::default().labels(SELECTOR)).in_time().await.explain(what, needs)?;
        if let Some(other) = sets.items.first() {
            let there = other.namespace().unwrap_or_default();
            bail!(
                "the runtime is not in namespace {system}, but there is DaemonSet {there}/{}: to remove that, add \
                 --runtime-namespace {there}",
                other.name_any()
            );
        }
        Ok(())
    }

    /// Deletes all recordings.
    async fn recordings(&self) -> Result<()> {
        let mut told = BTreeSet::new();
        loop {
            let left = self.traces().await?;
            if left.is_empty() {
                return Ok(());
            }
            self.live.show(format_args!("waiting for the end of {}", count(left.len() as u64, "recording")));
            let late = self.begun.elapsed() > FAREWELL.min(self.limit / 2);
            // Who has no pod that works cannot end anything.
            let pods = runtime::pods(self.connection).await?.unwrap_or_default();
            let works: BTreeSet<_> =
                by_node(&pods).into_iter().filter(|(_, on)| on.ready).map(|(node, _)| node).collect();
            for trace in &left {
                let recording = Recording::of(self.connection, trace);
                if trace.metadata.deletion_timestamp.is_none() {
                    recording.delete().await?;
                    continue;
                }
                for node in trace.finalizers().iter().filter_map(|f| finalizer_node(f)) {
                    if (late || !works.contains(node)) && told.insert(node.to_owned()) {
                        self.live.warn(format_args!(
                            "node {node} does not end its recordings: they are given up, and end there with its next boot"
                        ));
                    }
                }
                recording.give_up(trace, |node| late || !works.contains(node)).await?;
            }
            self.check("a recording", "kubectl describe traces.gadget.kinvolk.io --all-namespaces")?;
            sleep(AGAIN).await;
        }
    }

    async fn traces(&self) -> Result<Vec<Trace>> {
        match self.connection.all_traces().list(&ListParams::default()).in_time().await {
            Ok(traces) => Ok(traces.items),
            Err(error) if is_not_found(&error) => Ok(Vec::new()),
            Err(error) => Err(explained(&error, "list recordings", Needs::Admin)),
        }
    }

    /// Deletes an object and waits until it is gone; says whether it was there.
    async fn remove(&self, object: &DynamicObject) -> Result<bool> {
        let api = api(&self.connection.client, object)?;
        let called = object.metadata.name.as_deref().unwrap_or_default();
        let what = name(object);
        match api.delete(called, &DeleteParams::background()).in_time().await {
            Ok(_) => {}
            Err(error) if is_not_found(&error) => return Ok(false),
            Err(error) => return Err(explained(&error, format_args!("delete {what}"), Needs::Admin)),
        }
        while api
            .get_opt(called)
            .in_time()
            .await
            .explain(format_args!("read {what}"), Needs::Admin)?
            .is_some()
        {
            self.live.show(format_args!("waiting for the end of {what}"));
            self.check(&what, &describe(object))?;
            sleep(AGAIN).await;
        }
        self.live.note(format_args!("{what} deleted"));
        Ok(true)
    }

    /// Removes the `DaemonSet`, and waits for its pods: they work for Traces until they are gone. An earlier try may
    /// have left them alone.
    async fn daemon_set(&self, object: &DynamicObject) -> Result<bool> {
        let was_there = self.remove(object).await?;
        let mut told = BTreeSet::new();
        loop {
            let Some(pods) = runtime::pods(self.connection).await? else {
                bail!(
                    "cannot tell whether pods of the runtime are left in namespace {}: listing pods there takes an \
                     administrator's rights",
                    self.connection.system
                );
            };
            if pods.is_empty() {
                return Ok(was_there);
            }
            let ready = runtime::ready_nodes(self.connection).await?;
            for pod in &pods {
                self.end(pod, &ready, &mut told).await?;
            }
            self.live.show(format_args!("waiting for the end of {}", count(pods.len() as u64, "pod")));
            let see = format!("kubectl describe pods -n {} -l {SELECTOR}", self.connection.system);
            self.check(&format!("pod {}", pods[0].name_any()), &see)?;
            sleep(AGAIN).await;
        }
    }

    /// Ends a pod that nobody ends: on a node that does not work, there is nobody who could.
    async fn end(&self, pod: &Pod, ready: &BTreeSet<String>, told: &mut BTreeSet<String>) -> Result<()> {
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref());
        let lost = node.filter(|node| !ready.contains(*node));
        if lost.is_none() && pod.metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
        if let Some(node) = lost.filter(|node| told.insert((*node).clone())) {
            self.live.warn(format_args!(
                "node {node} is not ready: its pod is deleted by force, and what gadgetd pinned there stays until it boots"
            ));
        }
        let how = DeleteParams { grace_period_seconds: lost.map(|_| 0), ..DeleteParams::default() };
        let pods = Api::<Pod>::namespaced(self.connection.client.clone(), &self.connection.system);
        match pods.delete(&pod.name_any(), &how).in_time().await {
            Err(error) if !is_not_found(&error) => {
                Err(explained(&error, format_args!("delete pod {}", pod.name_any()), Needs::Admin))
            }
            _ => Ok(()),
        }
    }

    /// Removes the namespace, if `deploy` made it: in another there are things that are not ours.
    async fn namespace(&self, object: &DynamicObject) -> Result<bool> {
        let namespace = &self.connection.system;
        let namespaces = Api::<Namespace>::all(self.connection.client.clone());
        let found = namespaces.get_opt(namespace).in_time().await;
        let found = found.explain(format_args!("read {}", name(object)), Needs::Admin)?;
        if found.is_some_and(|found| !is_ours(&found)) {
            self.live
                .note(format_args!("namespace {namespace} stays: it was not made by kubectl gadget deploy"));
            return Ok(false);
        }
        self.remove(object).await
    }
}
