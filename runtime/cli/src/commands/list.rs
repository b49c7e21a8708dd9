//! `list`: the recordings that there are.

use std::process::ExitCode;

use anyhow::Result;
use clap::error::ErrorKind;
use gadgetd_kube::Trace;
use k8s_openapi::jiff::Timestamp;
use kube::{ResourceExt as _, api::ListParams};

use crate::{
    cli::{ClusterArgs, ListArgs, misused},
    connection::{Connection, InTime as _},
    errors::is_forbidden,
    note, output,
    recording::unlisted,
    table,
};

/// Prints the recordings, of one gadget where one is given.
pub(crate) async fn main(cluster: &ClusterArgs, args: &ListArgs, gadget: Option<&str>) -> Result<ExitCode> {
    if args.all_namespaces && cluster.namespace.is_some() {
        misused(ErrorKind::ArgumentConflict, "--all-namespaces and --namespace exclude each other: give one");
    }
    let connection = Connection::new(cluster).await?;
    let mut traces = all(&connection, args.all_namespaces).await?;
    traces.retain(|trace| gadget.is_none_or(|gadget| trace.spec.gadget == gadget));
    traces.sort_by_key(|trace| {
        (trace.metadata.creation_timestamp.as_ref().map(|time| time.0), trace.name_any())
    });
    if traces.is_empty() && args.output.is_none() {
        note("nothing is being recorded");
        return Ok(ExitCode::SUCCESS);
    }
    output::to_stdout(&table::traces(&traces, args.output, Timestamp::now())?)?;
    Ok(ExitCode::SUCCESS)
}

/// The Traces of the namespace that was given, else all that may be seen.
async fn all(connection: &Connection, everywhere: bool) -> Result<Vec<Trace>> {
    if !connection.namespace_given {
        match connection.all_traces().list(&ListParams::default()).in_time().await {
            Ok(traces) => return Ok(traces.items),
            Err(error) if is_forbidden(&error) && !everywhere => {}
            Err(error) => return Err(unlisted(&error, None)),
        }
    }
    let namespace = connection.namespace.as_str();
    match connection.traces(namespace).list(&ListParams::default()).in_time().await {
        Ok(traces) => Ok(traces.items),
        // Nobody asked for this namespace: a right to another is as good.
        Err(error) => Err(unlisted(&error, connection.namespace_given.then_some(namespace))),
    }
}
