//! `run`: records, and prints what came of it.

use std::{
    collections::BTreeSet,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};
use clap::error::ErrorKind;
use gadgetd_kube::{State, Trace};
use k8s_openapi::jiff::Timestamp;
use tokio::time::{MissedTickBehavior, interval};

use super::{
    start::{check, clean_up, detached, prepare},
    stop::hand_over,
};
use crate::{
    cli::{ClusterArgs, RunArgs, misused},
    connection::Connection,
    live::{self, EVERY, Live},
    note, output,
    recording::{Interrupted, Recording, Settled, Unmade, unless},
    signals::Signals,
    target::{self, Place, Wanted, new_id, object, subject},
};

/// How a recording ended.
enum End {
    /// With this.
    Done(Box<Settled>),
    /// Without a result, which may still be had: the Trace stays.
    Kept(anyhow::Error),
}

pub(crate) async fn main(cluster: &ClusterArgs, args: &RunArgs) -> Result<ExitCode> {
    let wanted = |place: Place<'_>| {
        target::of_run(args, place)
            .unwrap_or_else(|error| misused(ErrorKind::ValueValidation, &error.to_string()))
    };
    // Wrong usage is wrong whatever the cluster.
    let given = cluster.namespace.as_deref();
    let system = cluster.runtime_namespace.as_str();
    wanted(Place { namespace: given.unwrap_or("default"), given: given.is_some(), system });
    let connection = Connection::new(cluster).await?;
    let mut wanted = wanted(connection.place());
    if args.detach {
        return detached(&connection, &mut wanted, cluster.wait, "kubectl gadget stop").await;
    }
    if let Some(file) = &args.output {
        output::probe(file)?;
    }
    let nodes = prepare(&connection, &mut wanted).await?;
    let id = new_id();
    let mut signals = Signals::receive()?;
    let recording = Recording::of(&connection, &object(&wanted, &id));
    let created = unless(Recording::create(&connection, &wanted, &id), signals.next()).await;
    let trace = match created.unwrap_or_else(|Interrupted| Err(Unmade::interrupted())) {
        Ok((_, trace)) => trace,
        Err(Unmade { error, perhaps }) => {
            if perhaps {
                clean_up(&recording, &id).await;
            }
            return Err(error);
        }
    };
    let attended = Attended {
        recording: &recording,
        wanted: &wanted,
        id: &id,
        nodes: &nodes,
        patience: cluster.wait,
        timeout: args.timeout,
    };
    let outcome = match attended.record(trace, &mut signals).await {
        Ok(End::Done(settled)) => hand_over(&recording, &id, &settled, args.output.as_deref())?,
        Ok(End::Kept(error)) => {
            note(format_args!(
                "the recording is kept; try to end it later: kubectl gadget stop {id} -n {}",
                recording.namespace
            ));
            return Err(error);
        }
        Err(error) => Err(error),
    };
    // Whoever insists ends it without this, too.
    if unless(clean_up(&recording, &id), signals.next()).await.is_err() {
        note(format_args!(
            "interrupted: if it is still there, delete it: kubectl gadget delete {id} -n {}",
            recording.namespace
        ));
    }
    outcome
}

/// A recording that somebody waits for.
struct Attended<'a> {
    recording: &'a Recording,
    wanted: &'a Wanted,
    id: &'a str,
    nodes: &'a BTreeSet<String>,
    patience: Duration,
    timeout: Option<Duration>,
}

impl Attended<'_> {
    /// From the start to the end.
    async fn record(&self, trace: Trace, signals: &mut Signals) -> Result<End> {
        let live = Live::new();
        let mut watch = self.recording.watch(trace);
        let settled =
            unless(watch.settle("start", 0, self.nodes, self.patience, &live), signals.next()).await;
        let settled = settled.map_err(|Interrupted| anyhow!("interrupted: nothing was recorded"))??;
        check(&settled, self.wanted, &live)?;
        live.note(format_args!(
            "recording {} (id {}); {}",
            subject(&self.wanted.spec),
            self.id,
            self.how_it_ends()
        ));

        let begun = Instant::now();
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut said = settled.trace.status.and_then(|s| s.operation_error);
        loop {
            let status = watch.trace.status.as_ref();
            // Nodes end it themselves at its timeout; if they do not, they are told to.
            let late = self.timeout.is_some_and(|limit| begun.elapsed() > limit + self.patience);
            if status.is_some_and(|s| s.state != Some(State::Started)) || late {
                break;
            }
            let error = status.and_then(|s| s.operation_error.clone());
            if let Some(error) = error.as_ref().filter(|error| said.as_ref() != Some(error)) {
                live.warn(error);
            }
            said = error;
            tokio::select! {
                biased;
                () = signals.next() => break,
                changed = watch.next(&live) => changed?,
                _ = ticks.tick() => {
                    let progress = watch.trace.status.as_ref().and_then(|s| s.progress.as_ref());
                    live.show(live::recording(progress, Timestamp::now()));
                }
            }
        }

        let nodes = watch.recording();
        if nodes.is_empty() {
            return Ok(End::Done(Box::new(Settled { trace: watch.trace, missing: BTreeSet::new() })));
        }
        let stop = async {
            live.show("making the result");
            let after = self.recording.ask("stop", &watch.trace, self.patience).await?;
            watch.settle("stop", after, &nodes, self.patience, &live).await
        };
        Ok(match unless(stop, signals.next()).await {
            Ok(Ok(settled)) => End::Done(Box::new(settled)),
            Ok(Err(error)) => End::Kept(error),
            Err(Interrupted) => return Err(anyhow!("interrupted: there is no result")),
        })
    }

    fn how_it_ends(&self) -> String {
        match self.timeout {
            Some(limit) => format!("it ends after {}, or with Ctrl-C", humantime::format_duration(limit)),
            None => "end it with Ctrl-C".to_owned(),
        }
    }
}
