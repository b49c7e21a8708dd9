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
use kube::{
    ResourceExt as _,
    api::{DeleteParams, DynamicObject, ListParams},
};
use tokio::time::sleep;

use crate::{
    cli::{ClusterArgs, UndeployArgs},
    connection::Connection,
    errors::{Explain as _, Needs, explained, is_not_found},
    live::{Live, count},
    manifests::{api, kind, manifests, name},
    note,
    recording::{AGAIN, Recording},
    runtime::{self, by_node},
};

/// How long nodes may take to end what they record.
const FAREWELL: Duration = Duration::from_secs(20);

pub(crate) async fn main(cluster: &ClusterArgs, args: &UndeployArgs) -> Result<ExitCode> {
    let connection = Connection::new(cluster).await?;
    let undeploy =
        Undeploy { connection: &connection, limit: args.timeout, begun: Instant::now(), live: Live::new() };
    let mut objects = manifests(&cluster.runtime_namespace, None)?;
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
        removed += usize::from(undeploy.remove(object).await?);
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
    fn check(&self, waits_for: &str) -> Result<()> {
        if self.begun.elapsed() > self.limit {
            let limit = humantime::format_duration(self.limit);
            bail!("{waits_for} is not gone after {limit}; see what holds it: kubectl describe {waits_for}");
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
            self.check("traces.gadget.kinvolk.io --all-namespaces")?;
            sleep(AGAIN).await;
        }
    }

    async fn traces(&self) -> Result<Vec<Trace>> {
        match self.connection.all_traces().list(&ListParams::default()).await {
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
        match api.delete(called, &DeleteParams::background()).await {
            Ok(_) => {}
            Err(error) if is_not_found(&error) => return Ok(false),
            Err(error) => return Err(explained(&error, format_args!("delete {what}"), Needs::Admin)),
        }
        loop {
            let mut left =
                api.get_opt(called).await.explain(format_args!("read {what}"), Needs::Admin)?.is_some();
            if kind(object) == "DaemonSet" && !left {
                // Its pods still work for Traces.
                left = runtime::pods(self.connection).await?.is_some_and(|pods| !pods.is_empty());
            }
            if !left {
                self.live.note(format_args!("{what} deleted"));
                return Ok(true);
            }
            self.live.show(format_args!("waiting for the end of {what}"));
            self.check(&what)?;
            sleep(AGAIN).await;
        }
    }
}
