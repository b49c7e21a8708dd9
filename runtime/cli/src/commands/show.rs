//! `show`: what has come of a recording so far, and what comes.

use std::{collections::BTreeSet, io, process::ExitCode};

use anyhow::{Context as _, Result};
use gadgetd_kube::{Output, State, Trace};
use k8s_openapi::jiff::Timestamp;
use serde_json::json;
use tokio::{
    pin,
    time::{MissedTickBehavior, interval},
};

use super::stop::operate;
use crate::{
    cli::{ClusterArgs, ShowArgs},
    connection::Connection,
    documents::{Undelivered, deliver, element, is_made, outputs, remarks, results, status},
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
    match deliver(&results, &missing, None) {
        // Whoever reads it has had enough, and can have it again.
        Err(Undelivered::Unwritten(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            Ok(ExitCode::SUCCESS)
        }
        delivered => Ok(delivered?),
    }
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
    for problem in problems(trace) {
        warn(problem);
    }
}

/// What people should look into. What a warning says of documents, the documents say themselves.
fn problems(trace: &Trace) -> Vec<String> {
    let status = trace.status.clone().unwrap_or_default();
    let warning = status.operation_warning.filter(|_| status.outputs.is_empty());
    status.operation_error.into_iter().chain(warning).collect()
}

/// Prints each document as it is made, until the recording ends or somebody has seen enough.
async fn follow(recording: &Recording, trace: Trace) -> Result<ExitCode> {
    let mut signals = Signals::receive()?;
    let live = Live::new();
    tell(&trace);
    let mut said = problems(&trace);
    let mut watch = recording.watch(trace);
    let mut followed = Followed::default();
    let unread = output::unread();
    pin!(unread);
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        match output::print(&followed.lines(&watch.trace, &live)) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(ExitCode::SUCCESS),
            written => written.context("cannot write to standard output")?,
        }
        let problems = problems(&watch.trace);
        for problem in problems.iter().filter(|problem| !said.contains(problem)) {
            live.warn(problem);
        }
        said = problems;
        let state = watch.trace.status.as_ref().and_then(|s| s.state.as_ref());
        if matches!(state, Some(State::Stopped | State::Completed)) {
            return followed.ended(&watch.trace);
        }
        tokio::select! {
            biased;
            () = signals.next() => return Ok(status(!followed.incomplete, followed.objected)),
            () = &mut unread => return Ok(ExitCode::SUCCESS),
            changed = watch.next(&live) => changed?,
            _ = ticks.tick() => {
                let progress = watch.trace.status.as_ref().and_then(|s| s.progress.as_ref());
                live.show(live::recording(progress, Timestamp::now()));
            }
        }
    }
}

/// What was printed of a recording, and how it was.
#[derive(Default)]
struct Followed {
    /// Node, id and number of each.
    printed: BTreeSet<(String, String, u64)>,
    /// Whether there was a document among them.
    document: bool,
    /// Whether one was incomplete.
    incomplete: bool,
    /// Whether the gadget objected to what one says.
    objected: bool,
}

impl Followed {
    /// The documents that are new, each in a line; what there is to say beside them is told.
    fn lines(&mut self, trace: &Trace, live: &Live) -> String {
        let mut new = outputs(trace);
        new.retain(|o| self.printed.insert((o.node.clone(), o.id.clone(), o.sequence)));
        new.sort_by_key(|o| (o.time.as_ref().map(|time| time.0), o.sequence));
        let remarks = remarks(&new);
        self.document |= new.iter().any(is_made);
        self.incomplete |= !remarks.lost.is_empty();
        self.objected |= !remarks.objections.is_empty();
        live.aside(|| remarks.tell());
        let written = |output: &Output| {
            let mut element = element(output);
            element["time"] = json!(output.time);
            format!("{element}\n")
        };
        new.iter().map(written).collect()
    }

    /// How a recording ended of which this was printed.
    fn ended(&self, trace: &Trace) -> Result<ExitCode> {
        if !self.document {
            return Err(results(trace).without_text().into());
        }
        // Where there is something, an error is that something else is missing.
        let whole = trace.status.as_ref().is_none_or(|s| s.operation_error.is_none());
        Ok(status(whole && !self.incomplete, self.objected))
    }
}
