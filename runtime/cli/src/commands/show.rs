//! `show`: what has come of a recording so far, and what comes.

use std::{collections::BTreeSet, process::ExitCode};

use anyhow::Result;
use gadgetd_kube::{State, Trace};
use k8s_openapi::jiff::Timestamp;
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval};

use super::stop::operate;
use crate::{
    cli::{ClusterArgs, ShowArgs},
    connection::Connection,
    documents::{deliver, element, outputs, results},
    live::{self, EVERY, Live},
    note, output,
    recording::Recording,
    signals::Signals,
    table::{self, id},
    target::subject,
    warn,
};

pub(crate) async fn main(cluster: &ClusterArgs, args: &ShowArgs) -> Result<ExitCode> {
    let connection = Connection::new(cluster).await?;
    let (recording, mut trace) = Recording::find(&connection, &args.id).await?;
    if args.follow {
        return follow(&recording, trace).await;
    }
    let mut missing = BTreeSet::new();
    if args.generate {
        let settled = operate("generate", &recording, trace, cluster.wait).await?;
        (trace, missing) = (settled.trace, settled.missing);
    }
    if args.audit {
        return audit(&trace);
    }
    if let Some(format) = args.output {
        output::to_stdout(&table::trace(&trace, format, Timestamp::now())?)?;
        return Ok(ExitCode::SUCCESS);
    }
    tell(&trace);
    let results = results(&trace);
    if results.text.is_none() && !args.generate {
        note(format_args!(
            "there are no documents yet; to make them of what was recorded so far, add --generate"
        ));
        return Ok(ExitCode::SUCCESS);
    }
    deliver(&results, &missing, None)
}

/// Prints the calls to the cluster that were made for each document.
fn audit(trace: &Trace) -> Result<ExitCode> {
    let outputs = outputs(trace);
    if outputs.iter().all(|o| o.calls.is_empty()) {
        note("the gadget made no call to the cluster");
        return Ok(ExitCode::SUCCESS);
    }
    output::to_stdout(&table::calls(&outputs))?;
    let more: u64 = outputs.iter().map(|o| o.more_calls).sum();
    if more > 0 {
        note(format_args!("{more} more are in the logs of the nodes, at target gadgetd::audit"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Says how it goes.
fn tell(trace: &Trace) {
    let status = trace.status.clone().unwrap_or_default();
    let state =
        status.state.map_or_else(|| "not started".to_owned(), |state| state.to_string().to_lowercase());
    let progress = status.progress.unwrap_or_default();
    note(format_args!(
        "{}: {}, {state}; {}, {}",
        id(trace),
        subject(&trace.spec),
        live::count(progress.containers.into(), "container"),
        live::count(progress.syscalls.into(), "distinct call"),
    ));
    if let Some(error) = status.operation_error {
        warn(error);
    }
    if let Some(warning) = status.operation_warning.filter(|_| status.outputs.is_empty()) {
        warn(warning);
    }
}

/// Prints each document as it is made, until the recording ends or somebody has seen enough.
async fn follow(recording: &Recording, trace: Trace) -> Result<ExitCode> {
    let mut signals = Signals::receive()?;
    let live = Live::new();
    tell(&trace);
    let mut watch = recording.watch(trace);
    let mut printed = BTreeSet::new();
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        let mut new = outputs(&watch.trace);
        new.retain(|o| printed.insert((o.node.clone(), o.id.clone(), o.sequence)));
        new.sort_by_key(|o| (o.time.as_ref().map(|time| time.0), o.sequence));
        let mut lines = String::new();
        for output in &new {
            let mut element = element(output);
            element["time"] = json!(output.time);
            lines.extend([element.to_string().as_str(), "\n"]);
        }
        if !lines.is_empty() {
            output::to_stdout(&lines)?;
        }
        let status = watch.trace.status.as_ref();
        if matches!(status.and_then(|s| s.state.as_ref()), Some(State::Stopped | State::Completed)) {
            return Ok(ExitCode::SUCCESS);
        }
        tokio::select! {
            biased;
            () = signals.next() => return Ok(ExitCode::SUCCESS),
            changed = watch.next(&live) => changed?,
            _ = ticks.tick() => {
                let progress = watch.trace.status.as_ref().and_then(|s| s.progress.as_ref());
                live.show(live::recording(progress, Timestamp::now()));
            }
        }
    }
}
