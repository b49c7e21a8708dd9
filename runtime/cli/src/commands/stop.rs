//! `stop`: ends a recording, and prints what came of it.

use std::{collections::BTreeSet, path::Path, process::ExitCode, time::Duration};

use anyhow::{Result, anyhow, bail};
use gadgetd_kube::{OPERATION, State, Trace};
use kube::ResourceExt as _;

use crate::{
    cli::{ClusterArgs, StopArgs},
    connection::Connection,
    documents::{Undelivered, deliver, results},
    live::Live,
    note, output,
    recording::{Recording, Settled},
};

pub(crate) async fn main(cluster: &ClusterArgs, args: &StopArgs) -> Result<ExitCode> {
    let connection = Connection::new(cluster).await?;
    if let Some(file) = &args.output {
        output::probe(file)?;
    }
    let (recording, trace) = Recording::find(&connection, &args.id).await?;
    let settled = end(&recording, trace, cluster.wait).await?;
    let outcome = hand_over(&recording, &args.id, &settled, args.output.as_deref())?;
    note(format_args!(
        "the recording is kept until: kubectl gadget delete {} -n {}",
        args.id, recording.namespace
    ));
    outcome
}

/// Prints what a recording came to. Fails where that could not be written, and the Trace has the only copy; within, what
/// else the command ends with.
pub(crate) fn hand_over(
    recording: &Recording,
    id: &str,
    settled: &Settled,
    file: Option<&Path>,
) -> Result<Result<ExitCode>> {
    match deliver(&results(&settled.trace), &settled.missing, file) {
        Err(error @ Undelivered::Unwritten(_)) => Err(anyhow!(
            "{error}; the recording is kept, and has it: kubectl gadget show {id} -n {}",
            recording.namespace
        )),
        outcome => Ok(outcome.map_err(Into::into)),
    }
}

/// Ends a recording, unless it has ended; gives what it came to.
pub(crate) async fn end(recording: &Recording, trace: Trace, patience: Duration) -> Result<Settled> {
    let state = trace.status.as_ref().and_then(|s| s.state.clone());
    match state {
        Some(State::Started) => operate("stop", recording, trace, patience).await,
        // A start that no node has carried out.
        _ if trace.annotations().contains_key(OPERATION) => operate("stop", recording, trace, patience).await,
        Some(_) => Ok(Settled { trace, missing: BTreeSet::new() }),
        None => {
            let error = trace.status.and_then(|s| s.operation_error);
            let why = error.map(|error| format!(": {error}")).unwrap_or_default();
            bail!("{}/{} was not started{why}", recording.namespace, recording.name)
        }
    }
}

/// Asks for an operation, and waits until it is carried out.
pub(crate) async fn operate(
    operation: &str,
    recording: &Recording,
    trace: Trace,
    patience: Duration,
) -> Result<Settled> {
    let live = Live::new();
    let mut watch = recording.watch(trace);
    let nodes = watch.recording();
    let after = recording.ask(operation, &watch.trace, patience).await?;
    watch.settle(operation, after, &nodes, patience, &live).await
}
