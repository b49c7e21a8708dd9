//! `delete`: ends recordings without a result.

use std::{process::ExitCode, time::Instant};

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
    let begun = Instant::now();
    for (id, (recording, trace)) in found {
        recording.delete().await?;
        while let Some(left) = recording.get().await?.filter(|left| left.uid() == trace.uid()) {
            if args.force {
                recording.give_up(&left, |_| true).await?;
            }
            if begun.elapsed() > cluster.wait {
                bail!("{id} is deleted, but held by {}", held(&left));
            }
            sleep(AGAIN).await;
        }
        note(format_args!("{id} deleted"));
    }
    Ok(ExitCode::SUCCESS)
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
