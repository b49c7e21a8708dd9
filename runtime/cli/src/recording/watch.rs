//! A Trace as it changes, and what nodes do about an operation.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use futures::{StreamExt as _, stream::BoxStream};
use gadgetd_kube::{OPERATION, State, Trace, machine};
use kube::{
    Api, ResourceExt as _,
    runtime::{
        WatchStreamExt as _,
        utils::Backoff,
        watcher::{self, watch_object},
    },
};
use tokio::time::{MissedTickBehavior, interval};

use crate::{
    errors::{Needs, explained, is_forbidden},
    live::{EVERY, Live},
};

/// The time in which the other nodes have to begin after the first one.
const STRAGGLERS: Duration = Duration::from_secs(10);

/// The length of an outage after which the user is told.
const OUTAGE: Duration = Duration::from_secs(3);

/// How long a right must be missing to be missing: an API server that has just started knows nobody's.
const MISSING: Duration = Duration::from_secs(10);

/// How far an operation has come.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    /// Nobody has taken it.
    Untaken,
    /// These nodes have not carried it out yet.
    Missing(BTreeSet<String>),
    /// It is done.
    Done,
}

/// An operation that was carried out, as far as it was.
pub(crate) struct Settled {
    /// The object after it.
    pub trace: Trace,
    /// Nodes that did not answer.
    pub missing: BTreeSet<String>,
}

/// How long to wait before watching again after the watch broke: an outage should be over for us soon after it is over.
#[derive(Debug, Default)]
struct Retry {
    failures: u32,
}

impl Iterator for Retry {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.failures = (self.failures + 1).min(5);
        Some(Duration::from_millis(125 << self.failures))
    }
}

impl Backoff for Retry {
    fn reset(&mut self) {
        self.failures = 0;
    }
}

/// A Trace as it changes.
pub(crate) struct Watch {
    stream: BoxStream<'static, watcher::Result<Option<Trace>>>,
    /// The object as it was last seen.
    pub trace: Trace,
    /// Since when the API server does not answer, and whether that was told.
    failing: Option<(Instant, bool)>,
}

impl Watch {
    pub(super) fn new(api: Api<Trace>, trace: Trace) -> Self {
        let stream = watch_object(api, &trace.name_any()).backoff(Retry::default()).boxed();
        Self { stream, trace, failing: None }
    }

    /// Waits until something may have changed. Fails where the object is gone, or may not be seen.
    pub(crate) async fn next(&mut self, live: &Live) -> Result<()> {
        let name = || format!("{}/{}", self.trace.namespace().unwrap_or_default(), self.trace.name_any());
        match self.stream.next().await {
            Some(Ok(Some(trace))) => {
                if self.failing.take().is_some_and(|(_, told)| told) {
                    live.note("the API server answers again");
                }
                if trace.uid() == self.trace.uid() {
                    self.trace = trace;
                    return Ok(());
                }
                bail!("{} was deleted by somebody else, and with it what was recorded", name())
            }
            Some(Ok(None)) => bail!("{} was deleted by somebody else, and with it what was recorded", name()),
            Some(Err(error)) => {
                let (since, told) = self.failing.get_or_insert((Instant::now(), false));
                if let Some(error) = forbidden(&error).filter(|_| since.elapsed() > MISSING) {
                    let namespace = self.trace.namespace().unwrap_or_default();
                    return Err(explained(
                        error,
                        format_args!("watch {}", name()),
                        Needs::User(Some(&namespace)),
                    ));
                }
                if !*told && since.elapsed() > OUTAGE {
                    *told = true;
                    live.warn("the API server does not answer; the recording goes on meanwhile");
                }
                Ok(())
            }
            None => bail!("the watch of {} ended", name()),
        }
    }

    /// Waits until an operation was carried out. `after` is the number of the operation before it, `nodes` are those
    /// that should answer.
    pub(crate) async fn settle(
        &mut self,
        what: &str,
        after: u64,
        nodes: &BTreeSet<String>,
        patience: Duration,
        live: &Live,
    ) -> Result<Settled> {
        let begun = Instant::now();
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            match answer(&self.trace, after, nodes) {
                Answer::Done => return Ok(Settled { trace: self.trace.clone(), missing: BTreeSet::new() }),
                Answer::Untaken if begun.elapsed() > patience => bail!(
                    "no node has taken the recording on within {}: see whether the runtime works: kubectl gadget version",
                    humantime::format_duration(patience)
                ),
                Answer::Missing(missing) => {
                    // Where every node has answered, the summary is about to come: without it there is no error in it, either.
                    let some = !missing.is_empty() && nodes.len() > missing.len();
                    let limit = if some && what == "start" { patience.min(STRAGGLERS) } else { patience };
                    if begun.elapsed() > limit && some {
                        return Ok(Settled { trace: self.trace.clone(), missing });
                    }
                    if begun.elapsed() > limit {
                        let who = match missing.into_iter().collect::<Vec<_>>().join(", ") {
                            none if none.is_empty() => "any node".to_owned(),
                            names => format!("node {names}"),
                        };
                        bail!(
                            "no answer within {} from {who}: see whether the runtime works there: kubectl gadget version",
                            humantime::format_duration(limit)
                        );
                    }
                }
                Answer::Untaken => {}
            }
            tokio::select! {
                changed = self.next(live) => changed?,
                _ = ticks.tick() => live.show(what_it_does(what)),
            }
        }
    }

    /// The nodes that record.
    pub(crate) fn recording(&self) -> BTreeSet<String> {
        let nodes = self.trace.status.iter().flat_map(|s| &s.nodes);
        nodes.filter(|n| n.state == Some(State::Started)).map(|n| n.node.clone()).collect()
    }
}

fn what_it_does(operation: &str) -> &'static str {
    match operation {
        "start" => "starting the recording",
        _ => "making the result",
    }
}

/// The error of a watch that will not get better.
fn forbidden(error: &watcher::Error) -> Option<&kube::Error> {
    use watcher::Error as Watched;
    match error {
        Watched::InitialListFailed(error)
        | Watched::WatchStartFailed(error)
        | Watched::WatchFailed(error) => is_forbidden(error).then_some(error),
        _ => None,
    }
}

fn answer(trace: &Trace, after: u64, nodes: &BTreeSet<String>) -> Answer {
    if trace.annotations().contains_key(OPERATION) {
        return Answer::Untaken;
    }
    let Some(accepted) = machine::accepted(trace).filter(|accepted| accepted.id > after) else {
        return Answer::Untaken;
    };
    let done = |node: &&String| machine::node_status(trace, node).is_some_and(|e| e.operation >= accepted.id);
    let missing: BTreeSet<_> = nodes.iter().filter(|node| !done(node)).cloned().collect();
    // The summary comes after the entries that it sums up.
    let summed = trace.status.as_ref().and_then(|s| s.operation).is_some_and(|id| id >= accepted.id);
    if missing.is_empty() && summed { Answer::Done } else { Answer::Missing(missing) }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use gadgetd_kube::{ACCEPTED, NodeStatus, TraceSpec, TraceStatus};
    use serde_json::json;

    use super::*;

    pub(in crate::recording) fn trace(
        asked: bool,
        accepted: u64,
        nodes: &[(&str, u64)],
        summed: Option<u64>,
    ) -> Trace {
        let mut trace = Trace::new("t", TraceSpec::default());
        let mut annotations = BTreeMap::new();
        if asked {
            annotations.insert(OPERATION.to_owned(), "stop".to_owned());
        }
        if accepted > 0 {
            let value = json!({ "id": accepted, "operation": "stop", "start": 1 }).to_string();
            annotations.insert(ACCEPTED.to_owned(), value);
        }
        trace.metadata.annotations = Some(annotations);
        let node = |(node, operation): &(&str, u64)| NodeStatus {
            node: (*node).to_owned(),
            operation: *operation,
            ..NodeStatus::default()
        };
        let nodes = nodes.iter().map(node).collect();
        trace.status = Some(TraceStatus { nodes, operation: summed, ..TraceStatus::default() });
        trace
    }

    #[test]
    fn an_operation_is_done_when_every_node_has_carried_it_out_and_the_summary_says_so() {
        let nodes: BTreeSet<_> = ["a".to_owned(), "b".to_owned()].into();
        let missing = |names: &[&str]| Answer::Missing(names.iter().map(ToString::to_string).collect());
        for (trace, want) in [
            (trace(true, 1, &[("a", 1), ("b", 1)], Some(1)), Answer::Untaken),
            // As it was before the operation was asked for.
            (trace(false, 1, &[("a", 1), ("b", 1)], Some(1)), Answer::Untaken),
            (trace(false, 2, &[("a", 1), ("b", 1)], Some(1)), missing(&["a", "b"])),
            (trace(false, 2, &[("a", 2), ("b", 1)], Some(1)), missing(&["b"])),
            (trace(false, 2, &[("a", 2)], Some(2)), missing(&["b"])),
            (trace(false, 2, &[("a", 2), ("b", 2)], Some(1)), missing(&[])),
            (trace(false, 2, &[("a", 2), ("b", 2)], Some(2)), Answer::Done),
            (trace(false, 3, &[("a", 3), ("b", 3)], Some(3)), Answer::Done),
        ] {
            assert_eq!(answer(&trace, 1, &nodes), want, "{trace:?}");
        }
        assert_eq!(answer(&trace(false, 1, &[], None), 0, &BTreeSet::new()), missing(&[]));
        assert_eq!(answer(&trace(false, 1, &[("x", 1)], Some(1)), 0, &BTreeSet::new()), Answer::Done);
    }
}
