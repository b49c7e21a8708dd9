//! `delete`: ends recordings without a result.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use gadgetd_kube::{Trace, finalizer_node};
use kube::ResourceExt as _;
use tokio::time::sleep;

use crate::{
    cli::{ClusterArgs, DeleteArgs},
    connection::Connection,
    note,
    recording::{AGAIN, Recording},
};

pub(crate) async fn main(cluster: &ClusterArgs, args: &DeleteArgs) -> Result<ExitCode> {
    let connection = Connection::new(cluster).await?;
    // All of them are looked for before the first goes.
    let mut found = Vec::new();
    for id in &args.ids {
        found.push((id, Recording::find(&connection, id).await?));
    }
    // What one of them waits for is no reason to keep the others.
    let mut problems = Vec::new();
    let mut deleted = Vec::new();
    for (id, (recording, trace)) in found {
        match recording.delete().await {
            Ok(()) => deleted.push((id, recording, trace)),
            Err(error) => problems.push(error.to_string()),
        }
    }
    let begun = Instant::now();
    for (id, recording, trace) in deleted {
        match gone(&recording, &trace, args.force, begun, cluster.wait).await {
            Ok(None) => note(format_args!("{id} deleted")),
            Ok(Some(left)) => problems.push(format!("{id} is deleted, but held by {}", held(&left))),
            Err(error) => problems.push(error.to_string()),
        }
    }
    if !problems.is_empty() {
        bail!("{}", problems.join("; "));
    }
    Ok(ExitCode::SUCCESS)
}

/// Waits until a Trace is gone; gives it where it is still there in the end.
async fn gone(
    recording: &Recording,
    trace: &Trace,
    force: bool,
    begun: Instant,
    patience: Duration,
) -> Result<Option<Trace>> {
    while let Some(left) = recording.get().await?.filter(|left| left.uid() == trace.uid()) {
        if force {
            recording.give_up(&left, |_| true).await?;
        }
        if begun.elapsed() > patience {
            return Ok(Some(left));
        }
        sleep(AGAIN).await;
    }
    Ok(None)
}

/// Who holds it, and what to do about that.
fn held(trace: &Trace) -> String {
    let nodes: Vec<_> = trace.finalizers().iter().filter_map(|f| finalizer_node(f)).collect();
    if nodes.is_empty() {
        return format!("the finalizers {}", trace.finalizers().join(", "));
    }
    format!(
        "node {}, which does not answer; it goes when that node is back, or at once with --force",
        nodes.join(", ")
    )
}
