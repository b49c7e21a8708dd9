//! A recording: a Trace on the API server, and what nodes do about it.

use std::{
    collections::BTreeSet,
    future::Future,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow, bail};
use futures::{StreamExt as _, stream::BoxStream};
use gadgetd_kube::{
    OPERATION, State, Trace, finalizer_node,
    machine::{self, Operation},
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    runtime::{
        WatchStreamExt as _,
        utils::Backoff,
        watcher::{self, watch_object},
    },
};
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::{
    connection::{Connection, InTime as _},
    errors::{Explain as _, Needs, explained, is_forbidden, is_not_found, is_unreachable},
    live::{EVERY, Live},
    target::{ID, Wanted, object, subject},
};

/// How long the other nodes may take to begin once the first has.
const STRAGGLERS: Duration = Duration::from_secs(10);

/// How long to wait before something is tried again.
pub(crate) const AGAIN: Duration = Duration::from_millis(300);

/// How long an outage lasts before somebody is told.
const OUTAGE: Duration = Duration::from_secs(3);

/// How long a right must be missing to be missing: an API server that has just started knows nobody's.
const MISSING: Duration = Duration::from_secs(10);

/// A Trace that is there.
#[derive(Clone)]
pub(crate) struct Recording {
    api: Api<Trace>,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// A Trace that could not be made, as far as that is known.
#[derive(Debug)]
pub(crate) struct Unmade {
    pub error: anyhow::Error,
    /// Whether there may be one all the same: only the answer is missing.
    pub perhaps: bool,
}

impl Unmade {
    /// By somebody who did not want to wait for the answer.
    pub(crate) fn interrupted() -> Self {
        Self { error: anyhow!("interrupted: nothing was recorded"), perhaps: true }
    }
}

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

impl Recording {
    /// Makes the Trace; it starts as soon as a node sees it.
    pub(crate) async fn create(
        connection: &Connection,
        wanted: &Wanted,
        id: &str,
    ) -> Result<(Self, Trace), Unmade> {
        let this = Self::of(connection, &object(wanted, id));
        let namespace = &this.namespace;
        let error = match this.api.create(&PostParams::default(), &object(wanted, id)).in_time().await {
            Ok(trace) => return Ok((this, trace)),
            Err(error) => error,
        };
        let explanation = match &error {
            kube::Error::Api(status) if status.details.as_ref().is_some_and(|d| d.kind == "namespaces") => {
                anyhow!(
                    "there is no namespace {namespace}: see `kubectl get namespaces`, and name one with -n"
                )
            }
            error => {
                let what = format_args!(
                    "record {}: a Trace in namespace {namespace} cannot be made",
                    subject(&wanted.spec)
                );
                explained(error, what, Needs::User(Some(namespace)))
            }
        };
        Err(Unmade { error: explanation, perhaps: is_unreachable(&error) })
    }

    /// The one that a Trace is.
    pub(crate) fn of(connection: &Connection, trace: &Trace) -> Self {
        let namespace = trace.namespace().unwrap_or_default();
        Self { api: connection.traces(&namespace), namespace, name: trace.name_any() }
    }

    /// Finds one by its id, or by the name of its Trace, with or without the namespace.
    pub(crate) async fn find(connection: &Connection, id: &str) -> Result<(Self, Trace)> {
        let mut looked =
            Looked { named: connection.namespace_given || id.contains('/'), ..Looked::default() };
        if let Some((namespace, name)) = id.split_once('/') {
            if let Some(trace) = by_name(connection, namespace, name, &mut looked).await? {
                return Ok((Self::of(connection, &trace), trace));
            }
        } else if let Some(trace) = by_id(connection, id, &mut looked).await? {
            return Ok((Self::of(connection, &trace), trace));
        } else {
            for namespace in namespaces(connection) {
                if let Some(trace) = by_name(connection, namespace, id, &mut looked).await? {
                    return Ok((Self::of(connection, &trace), trace));
                }
            }
        }
        Err(looked.in_vain(id))
    }

    /// Asks for an operation, unless somebody has; gives the number of the operation before it. Where the API server
    /// cannot be reached, it tries for a while.
    pub(crate) async fn ask(&self, operation: &str, trace: &Trace, patience: Duration) -> Result<u64> {
        let begun = Instant::now();
        let what = || format!("{operation} {}/{}", self.namespace, self.name);
        let needs = Needs::User(Some(&self.namespace));
        let mut trace = trace.clone();
        loop {
            if let Some(before) = asked(&trace, operation) {
                return Ok(before);
            }
            // On this version alone: a second stop would be one too many.
            let patch = Patch::Merge(json!({ "metadata": {
                "annotations": { OPERATION: operation },
                "resourceVersion": trace.resource_version(),
            } }));
            match self.api.patch(&self.name, &PatchParams::default(), &patch).in_time().await {
                Ok(_) => return Ok(machine::accepted(&trace).map_or(0, |accepted| accepted.id)),
                Err(kube::Error::Api(status)) if status.is_conflict() => {}
                Err(error) if is_unreachable(&error) && begun.elapsed() < patience => sleep(AGAIN).await,
                Err(error) => return Err(explained(&error, what(), needs)),
            }
            match self.api.get(&self.name).in_time().await {
                Ok(now) => trace = now,
                Err(error) if is_unreachable(&error) && begun.elapsed() < patience => {}
                Err(error) => return Err(explained(&error, what(), needs)),
            }
        }
    }

    /// Deletes it. Nodes that record for it see to that themselves.
    pub(crate) async fn delete(&self) -> Result<()> {
        match self.api.delete(&self.name, &DeleteParams::default()).in_time().await {
            Err(error) if !is_not_found(&error) => {
                let what = format_args!("delete {}/{}", self.namespace, self.name);
                Err(explained(&error, what, Needs::User(Some(&self.namespace))))
            }
            _ => Ok(()),
        }
    }

    /// The object as it is; `None`: it is gone.
    pub(crate) async fn get(&self) -> Result<Option<Trace>> {
        let what = format_args!("read {}/{}", self.namespace, self.name);
        self.api.get_opt(&self.name).in_time().await.explain(what, Needs::User(Some(&self.namespace)))
    }

    /// Takes the finalizers of nodes away, of those that `given_up` names: what they record for it ends when they see
    /// that it is gone.
    pub(crate) async fn give_up(&self, trace: &Trace, given_up: impl Fn(&str) -> bool) -> Result<()> {
        let keep = |f: &&String| finalizer_node(f).is_none_or(|node| !given_up(node));
        let rest: Vec<_> = trace.finalizers().iter().filter(keep).collect();
        if rest.len() == trace.finalizers().len() {
            return Ok(());
        }
        let patch =
            json!({ "metadata": { "finalizers": rest, "resourceVersion": trace.resource_version() } });
        match self.api.patch(&self.name, &PatchParams::default(), &Patch::Merge(patch)).in_time().await {
            // Somebody changed it, or it is gone: whoever wants to tries again.
            Err(kube::Error::Api(status)) if status.code == 409 || status.code == 404 => Ok(()),
            answer => {
                let what = format_args!("give up {}/{}", self.namespace, self.name);
                answer.map(drop).explain(what, Needs::User(Some(&self.namespace)))
            }
        }
    }

    /// Watches it from a state of it that is known.
    pub(crate) fn watch(&self, trace: Trace) -> Watch {
        let stream = watch_object(self.api.clone(), &self.name).backoff(Retry::default()).boxed();
        Watch { stream, trace, failing: None }
    }
}

/// Whether an operation is asked for already, or was taken as the last; then the number of the one before it.
fn asked(trace: &Trace, operation: &str) -> Option<u64> {
    let accepted = machine::accepted(trace);
    match trace.annotations().get(OPERATION) {
        Some(asked) => (asked == operation).then(|| accepted.map_or(0, |accepted| accepted.id)),
        // To generate twice is to generate twice.
        None if operation == "stop" => accepted
            .filter(|accepted| accepted.operation == Operation::Stop)
            .map(|accepted| accepted.id.saturating_sub(1)),
        None => None,
    }
}

/// Where something was looked for.
#[derive(Debug, Default)]
struct Looked {
    /// Whether somebody named the namespace. Otherwise, one that may not be seen is passed over.
    named: bool,
    /// Whether all namespaces could be seen at once.
    everywhere: bool,
    /// The namespaces in which it is not.
    seen: BTreeSet<String>,
    /// Those that may not be seen.
    hidden: BTreeSet<String>,
}

impl Looked {
    /// Takes down what was found in a namespace; `None`: nothing, or it may not be seen.
    fn found<T>(&mut self, namespace: &str, found: kube::Result<T>) -> kube::Result<Option<T>> {
        match found {
            Err(error) if is_forbidden(&error) && !self.named => {
                self.hidden.insert(namespace.to_owned());
                Ok(None)
            }
            found => {
                self.seen.insert(namespace.to_owned());
                found.map(Some)
            }
        }
    }

    /// It was not found.
    fn in_vain(&self, id: &str) -> anyhow::Error {
        let names = |all: &BTreeSet<String>| {
            let all: Vec<_> = all.iter().map(|name| format!("namespace {name}")).collect();
            all.join(", ")
        };
        let seen = if self.everywhere { "any namespace".to_owned() } else { names(&self.seen) };
        if self.hidden.is_empty() {
            return anyhow!(
                "there is no recording {id} in {seen}; see which there are: kubectl gadget list. In another namespace, name it with \
                 -n"
            );
        }
        let hidden = names(&self.hidden);
        let seen = if seen.is_empty() { seen } else { format!(" in {seen}") };
        anyhow!(
            "there is no recording {id} that you may see{seen}; in {hidden} you may see none: name the namespace that it is in \
             with -n"
        )
    }
}

/// The namespaces in which recordings are looked for that may be anywhere, where not all namespaces may be seen.
fn namespaces(connection: &Connection) -> Vec<&str> {
    let mut namespaces = vec![connection.namespace.as_str()];
    if !connection.namespace_given && connection.namespace != connection.system {
        namespaces.push(&connection.system);
    }
    namespaces
}

async fn by_id(connection: &Connection, id: &str, looked: &mut Looked) -> Result<Option<Trace>> {
    // What cannot be the value of a label is no id.
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if id.is_empty() || id.len() > 63 || !id.chars().all(plain) {
        return Ok(None);
    }
    let with_id = ListParams::default().labels(&format!("{ID}={id}"));
    if !connection.namespace_given {
        match connection.all_traces().list(&with_id).in_time().await {
            Ok(found) => {
                looked.everywhere = true;
                return one(found.items, id);
            }
            Err(error) if is_forbidden(&error) => {}
            Err(error) => return Err(unlisted(&error, None)),
        }
    }
    for namespace in namespaces(connection) {
        let found = looked.found(namespace, connection.traces(namespace).list(&with_id).in_time().await);
        let found = found.map_err(|error| unlisted(&error, Some(namespace)))?;
        if let Some(trace) = one(found.map(|list| list.items).unwrap_or_default(), id)? {
            return Ok(Some(trace));
        }
    }
    Ok(None)
}

fn one(mut found: Vec<Trace>, id: &str) -> Result<Option<Trace>> {
    if found.len() > 1 {
        let names: Vec<_> =
            found.iter().map(|t| format!("{}/{}", t.namespace().unwrap_or_default(), t.name_any())).collect();
        bail!("{id} is the id of several Traces: name the one that you mean, of {}", names.join(", "));
    }
    Ok(found.pop())
}

async fn by_name(
    connection: &Connection,
    namespace: &str,
    name: &str,
    looked: &mut Looked,
) -> Result<Option<Trace>> {
    // A name that cannot be one would be a path of its own.
    if !gadgetd_kube::names::is_subdomain(name) {
        return Ok(None);
    }
    let found = looked.found(namespace, connection.traces(namespace).get_opt(name).in_time().await);
    let found = found.explain(format_args!("read {namespace}/{name}"), Needs::User(Some(namespace)))?;
    Ok(found.flatten())
}

/// An error for a list of Traces that was not to be had.
pub(crate) fn unlisted(error: &kube::Error, namespace: Option<&str>) -> anyhow::Error {
    if is_not_found(error) {
        return anyhow!(
            "the runtime is not deployed: the cluster does not know Traces; type: kubectl gadget deploy"
        );
    }
    explained(error, "list recordings", Needs::User(namespace))
}

/// Somebody did not want to wait.
#[derive(Debug)]
pub(crate) struct Interrupted;

/// Waits for something, unless a second thought comes first.
pub(crate) async fn unless<T>(
    what: impl Future<Output = T>,
    interrupt: impl Future<Output = ()>,
) -> Result<T, Interrupted> {
    tokio::select! {
        biased;
        () = interrupt => Err(Interrupted),
        done = what => Ok(done),
    }
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
    let done = |node: &&String| machine::entry(trace, node).is_some_and(|e| e.operation >= accepted.id);
    let missing: BTreeSet<_> = nodes.iter().filter(|node| !done(node)).cloned().collect();
    // The summary comes after the entries that it sums up.
    let summed = trace.status.as_ref().and_then(|s| s.operation).is_some_and(|id| id >= accepted.id);
    if missing.is_empty() && summed { Answer::Done } else { Answer::Missing(missing) }
}

#[cfg(test)]
mod tests {
    use gadgetd_kube::{ACCEPTED, NodeStatus, TraceSpec, TraceStatus};

    use super::*;

    fn trace(asked: bool, accepted: u64, nodes: &[(&str, u64)], summed: Option<u64>) -> Trace {
        let mut trace = Trace::new("t", TraceSpec::default());
        let mut annotations = std::collections::BTreeMap::new();
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
    fn nobody_stops_twice() {
        assert_eq!(asked(&trace(false, 0, &[], None), "stop"), None);
        assert_eq!(asked(&trace(true, 0, &[], None), "stop"), Some(0));
        assert_eq!(asked(&trace(true, 4, &[], None), "stop"), Some(4));
        assert_eq!(asked(&trace(false, 4, &[], None), "stop"), Some(3));
        assert_eq!(asked(&trace(false, 4, &[], None), "generate"), None);
        assert_eq!(asked(&trace(true, 4, &[], None), "generate"), None);
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
