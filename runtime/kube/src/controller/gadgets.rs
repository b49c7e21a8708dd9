//! Gadget objects on one node: has the module of each at hand, and says in its status whether it is.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt as _, TryStreamExt as _};
use gadgetd_core::kube::KubeError;
use k8s_openapi::{
    api::core::v1::Node,
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};
use kube::{
    Api, Client, Resource as _, ResourceExt as _,
    api::{Patch, PatchParams},
    runtime::{WatchStreamExt as _, watcher},
};
use serde_json::{Value, json};
use tokio::{
    task::{self, JoinSet},
    time::{Instant, sleep_until, timeout},
};

use super::{
    Settings,
    parts::{InstallError, Installed, Installer},
    reconcile::manager,
};
use crate::{Gadget, GadgetNode, GadgetStatus, adapter::sorted};

/// How many modules are fetched and compiled at the same time.
const AT_ONCE: usize = 2;

/// How long after a failure that may pass it is tried again.
const AGAIN: Duration = Duration::from_secs(30);

/// How often a status is computed anew because somebody else changed it meanwhile.
const ATTEMPTS: usize = 8;

/// What is known of one object.
struct Known {
    object: Arc<Gadget>,
    /// The generation that was installed last, or is about to be.
    taken: Option<i64>,
    busy: bool,
    /// When it was changed.
    changed: Instant,
    again: Option<Instant>,
    /// When to look whether the nodes that are waited for are still there.
    sweep: Option<Instant>,
}

/// Watches the objects until `shutdown` resolves.
pub async fn run<I: Installer>(
    client: Client,
    settings: Settings,
    installer: Arc<I>,
    shutdown: impl Future<Output = ()> + Send,
) {
    let status = Status { api: Api::all(client.clone()), cluster: Api::all(client), settings };
    let status = Arc::new(status);
    let mut events = watcher(status.api.clone(), watcher::Config::default()).default_backoff().boxed();
    let mut known = BTreeMap::<String, Known>::new();
    let mut listing = None;
    let (mut work, mut works) = (JoinSet::new(), HashMap::new());
    let mut sweeps = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        begin(&mut known, &mut work, &mut works, &installer, &status);
        // Without room for another one, the end of one of them is what to wait for.
        let room = work.len() < AT_ONCE;
        let times = |k: &Known| [k.again.filter(|_| room && !k.busy), k.sweep].into_iter().flatten().min();
        let next = known.values().filter_map(times).min();
        let pause = async {
            match next {
                Some(time) => sleep_until(time).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = &mut shutdown => break,
            () = pause => {
                let now = Instant::now();
                for known in known.values_mut().filter(|k| k.sweep.is_some_and(|at| at <= now)) {
                    known.sweep = None;
                    let (status, object) = (status.clone(), known.object.clone());
                    sweeps.spawn(async move { (object.name_any(), status.sweep(&object).await) });
                }
            }
            Some(swept) = sweeps.join_next(), if !sweeps.is_empty() => {
                let Ok((name, true)) = swept else { continue };
                if let Some(known) = known.get_mut(&name) {
                    status.wait_for(known);
                }
            }
            Some(done) = work.join_next_with_id(), if !work.is_empty() => {
                let (id, again) = done.unwrap_or_else(|error| (error.id(), true));
                let name = works.remove(&id);
                if let Some(known) = name.and_then(|name: String| known.get_mut(&name)) {
                    known.busy = false;
                    known.again = again.then(|| Instant::now() + AGAIN);
                }
            }
            event = events.try_next() => match event {
                Ok(Some(watcher::Event::Init)) => listing = Some(BTreeSet::new()),
                Ok(Some(watcher::Event::InitApply(object))) => {
                    if let Some(names) = &mut listing {
                        names.insert(object.name_any());
                    }
                    status.wait_for(learn(&mut known, object, &*installer));
                }
                Ok(Some(watcher::Event::InitDone)) => {
                    if let Some(names) = listing.take() {
                        known.retain(|name, _| names.contains(name));
                        installer.retain(&names);
                    }
                }
                Ok(Some(watcher::Event::Apply(object))) => {
                    let known = learn(&mut known, object, &*installer);
                    if known.taken == known.object.metadata.generation && !known.busy {
                        status.keep(&known.object).await;
                    }
                    status.wait_for(known);
                }
                Ok(Some(watcher::Event::Delete(object))) => {
                    known.remove(&object.name_any());
                    installer.remove(&object.name_any());
                }
                Ok(None) => break,
                Err(error) => tracing::debug!(%error, "cannot watch Gadget objects; tries again"),
            },
        }
    }
    // What is being compiled is compiled; nobody waits for it.
    work.abort_all();
}

fn learn<'a>(
    known: &'a mut BTreeMap<String, Known>,
    object: Gadget,
    installer: &impl Installer,
) -> &'a mut Known {
    // What it may do does not wait for what it is.
    installer.grant(&object.name_any(), &object.spec);
    let object = Arc::new(object);
    let entry = known.entry(object.name_any());
    let of_another = |known: &Known| known.object.metadata.uid != object.metadata.uid;
    let entry = entry.and_modify(|known| {
        if of_another(known) {
            known.taken = None;
        }
        if known.object.metadata.generation != object.metadata.generation {
            known.changed = Instant::now();
        }
        known.object = object.clone();
    });
    entry.or_insert_with(|| Known {
        object: object.clone(),
        taken: None,
        busy: false,
        changed: Instant::now(),
        again: None,
        sweep: None,
    })
}

/// Begins with what is due, as much as may run at once.
fn begin<I: Installer>(
    known: &mut BTreeMap<String, Known>,
    work: &mut JoinSet<bool>,
    works: &mut HashMap<task::Id, String>,
    installer: &Arc<I>,
    status: &Arc<Status>,
) {
    let now = Instant::now();
    let is_due = |known: &Known| {
        let due = known.taken != known.object.metadata.generation || known.again.is_some_and(|at| at <= now);
        due && !known.busy
    };
    let mut due: Vec<_> = known.iter_mut().filter(|(_, known)| is_due(known)).collect();
    // Who waits longest, so that no name is better than another.
    due.sort_by_key(|(_, known)| known.again.unwrap_or(known.changed));
    for (name, known) in due.into_iter().take(AT_ONCE.saturating_sub(work.len())) {
        (known.busy, known.again, known.taken) = (true, None, known.object.metadata.generation);
        let (gadget, object) = (name.clone(), known.object.clone());
        let (installer, status) = (installer.clone(), status.clone());
        let task = work.spawn(async move {
            let outcome = installer.install(&gadget, &object.spec).await;
            match &outcome {
                Ok(module) => {
                    tracing::info!(gadget, digest = module.digest, "has the module of a Gadget object");
                }
                Err(error) => {
                    tracing::warn!(gadget, %error, "cannot run the module of a Gadget object");
                }
            }
            let told = status.tell(&object, &outcome).await;
            told.is_err() || matches!(outcome, Err(InstallError::Unavailable(_)))
        });
        // One that panics must not keep its object waiting for ever.
        works.insert(task.id(), name.clone());
    }
}

/// The status of Gadget objects.
struct Status {
    api: Api<Gadget>,
    cluster: Api<Node>,
    settings: Settings,
}

impl Status {
    /// Writes what came of an object on this node.
    async fn tell(
        &self,
        object: &Gadget,
        outcome: &Result<Installed, InstallError>,
    ) -> Result<(), KubeError> {
        let entry = GadgetNode {
            node: self.settings.node.clone(),
            generation: object.metadata.generation.unwrap_or_default(),
            ready: outcome.is_ok(),
            reason: outcome.as_ref().err().map(ToString::to_string),
        };
        let status = json!({ "nodes": [entry] });
        let mut after = self.apply(object, &manager(&self.settings.node), None, status).await?;
        for _ in 0..ATTEMPTS {
            let wanted = summary(&after, outcome.as_ref().ok(), Timestamp::now());
            match self.summarise(&after, wanted).await {
                Err(KubeError::Conflict(_)) => after = self.call(self.api.get(&object.name_any())).await?,
                answer => return answer,
            }
        }
        Ok(())
    }

    /// The nodes that have looked at what the object says now.
    fn current(object: &Gadget) -> impl Iterator<Item = &str> {
        let nodes = object.status.iter().flat_map(|status| &status.nodes);
        nodes.filter(|n| Some(n.generation) == object.metadata.generation).map(|n| n.node.as_str())
    }

    /// Whether this node keeps the summary: the first of those that are up to date does.
    fn is_keeper(&self, object: &Gadget) -> bool {
        Self::current(object).min() == Some(&self.settings.node)
    }

    /// The others that keep the object from being ready.
    fn missing<'a>(&self, object: &'a Gadget) -> impl Iterator<Item = &'a str> {
        let nodes = object.status.iter().flat_map(|status| &status.nodes);
        let missing = nodes.filter(|n| !n.ready || Some(n.generation) != object.metadata.generation);
        missing.map(|n| n.node.as_str()).filter(|node| *node != self.settings.node)
    }

    /// Looks in a while whether those are still there that keep the object from being ready: after the nodes whose names
    /// come first, which mostly have settled it then.
    fn wait_for(&self, known: &mut Known) {
        let object = &known.object;
        if !Self::current(object).any(|node| node == self.settings.node)
            || self.missing(object).next().is_none()
        {
            known.sweep = None;
            return;
        }
        let before = Self::current(object).filter(|node| *node < self.settings.node.as_str()).count();
        let pause =
            self.settings.sweep.saturating_mul(u32::try_from(before).unwrap_or(u32::MAX).saturating_add(1));
        known.sweep.get_or_insert_with(|| Instant::now() + pause);
    }

    /// Takes out what nodes have said that are gone, for whom everybody would wait. Whether there is anybody left to wait
    /// for.
    async fn sweep(&self, object: &Gadget) -> bool {
        let mut left = false;
        for node in self.missing(object) {
            match self.is_gone(object, node).await {
                Ok(gone) => left |= !gone,
                Err(KubeError::NotFound(_)) => {}
                Err(error) => {
                    tracing::warn!(gadget = object.name_any(), node, %error, "cannot tell whether a node is gone");
                    left = true;
                }
            }
        }
        // The one that keeps the summary may be one of them.
        if let Ok(after) = self.call(self.api.get(&object.name_any())).await {
            self.settle(&after).await;
        }
        left
    }

    /// Whether a node is gone; what it said is then gone too.
    async fn is_gone(&self, object: &Gadget, node: &str) -> Result<bool, KubeError> {
        match self.call(self.cluster.get_metadata(node)).await {
            Ok(_) => Ok(false),
            Err(KubeError::NotFound(_)) => {
                self.apply(object, &manager(node), None, json!({})).await.map(|_| true)
            }
            Err(error) => Err(error),
        }
    }

    /// Keeps the summary true when another node has told of itself: one node does it for all.
    async fn keep(&self, object: &Gadget) {
        if self.is_keeper(object) {
            self.settle(object).await;
        }
    }

    /// Makes the summary what it should be.
    async fn settle(&self, object: &Gadget) {
        let wanted = summary(object, None, Timestamp::now());
        match self.summarise(object, wanted).await {
            // Whoever changed it leads to another event.
            Ok(()) | Err(KubeError::Conflict(_) | KubeError::NotFound(_)) => {}
            Err(error) => {
                tracing::warn!(gadget = object.name_any(), %error, "cannot write the status of a Gadget");
            }
        }
    }

    async fn summarise(&self, object: &Gadget, wanted: GadgetStatus) -> Result<(), KubeError> {
        let mut found = object.status.clone().unwrap_or_default();
        found.nodes.clear();
        if found == wanted {
            return Ok(());
        }
        let wanted = serde_json::to_value(wanted).map_err(|error| KubeError::Invalid(error.to_string()))?;
        self.apply(object, "gadgetd", object.resource_version(), wanted).await.map(drop)
    }

    async fn apply(
        &self,
        object: &Gadget,
        manager: &str,
        version: Option<String>,
        status: Value,
    ) -> Result<Gadget, KubeError> {
        let name = object.name_any();
        let mut patch = json!({
            "apiVersion": Gadget::api_version(&()),
            "kind": Gadget::kind(&()),
            "metadata": { "name": name, "uid": object.metadata.uid },
            "status": status,
        });
        if let Some(version) = version {
            patch["metadata"]["resourceVersion"] = json!(version);
        }
        let params = PatchParams::apply(manager).force();
        self.call(self.api.patch_status(&name, &params, &Patch::Apply(patch))).await
    }

    async fn call<T>(&self, call: impl Future<Output = kube::Result<T>>) -> Result<T, KubeError> {
        let deadline = self.settings.deadline;
        match timeout(deadline, call).await {
            Ok(answer) => answer.map_err(|error| sorted(&error)),
            Err(_) => Err(KubeError::Deadline(format!("it took longer than {deadline:?}"))),
        }
    }
}

/// What a status says beside the entries of the nodes. What the module is stays as it was found where nobody brings news of
/// it.
fn summary(object: &Gadget, installed: Option<&Installed>, now: Timestamp) -> GadgetStatus {
    let found = object.status.clone().unwrap_or_default();
    let generation = object.metadata.generation.unwrap_or_default();
    let condition = ready(&found, generation, now);
    match installed {
        Some(Installed { role, version, summary, digest, verified_by, parameters, asks }) => {
            let some = |text: &String| Some(text.clone());
            GadgetStatus {
                role: some(role),
                version: some(version),
                summary: some(summary),
                digest: some(digest),
                verified_by: some(verified_by),
                parameters: parameters.clone(),
                asks: asks.clone(),
                nodes: Vec::new(),
                conditions: vec![condition],
            }
        }
        None => GadgetStatus { nodes: Vec::new(), conditions: vec![condition], ..found },
    }
}

fn ready(found: &GadgetStatus, generation: i64, now: Timestamp) -> Condition {
    let current = || found.nodes.iter().filter(|n| n.generation == generation);
    let failed: Vec<_> = current().filter(|n| !n.ready).collect();
    let behind = found.nodes.iter().filter(|n| n.generation != generation).count();
    let (status, reason, message) = match failed.as_slice() {
        [] if behind > 0 => ("Unknown", "Installing", format!("{} still to look at it", nodes(behind))),
        [] => ("True", "Installed", format!("it can run on {}", nodes(current().count()))),
        [first, ..] => {
            let why = first.reason.as_deref().unwrap_or("no reason is known");
            (
                "False",
                "NotInstalled",
                format!("it cannot run on {}: {}: {why}", nodes(failed.len()), first.node),
            )
        }
    };
    let before = found.conditions.iter().find(|c| c.type_ == "Ready");
    let since = before.filter(|c| c.status == status).map(|c| c.last_transition_time.clone());
    Condition {
        type_: "Ready".to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation: Some(generation),
        last_transition_time: since
            .unwrap_or_else(|| Time(Timestamp::from_second(now.as_second()).unwrap_or(now))),
    }
}

fn nodes(count: usize) -> String {
    if count == 1 { "1 node".to_owned() } else { format!("{count} nodes") }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node, the generation that it looked at, and why it cannot run it.
    type Row = (&'static str, i64, Option<&'static str>);

    fn status(nodes: &[Row]) -> GadgetStatus {
        let node = |(node, generation, reason): &Row| GadgetNode {
            node: (*node).into(),
            generation: *generation,
            ready: reason.is_none(),
            reason: reason.map(str::to_owned),
        };
        GadgetStatus { nodes: nodes.iter().map(node).collect(), ..GadgetStatus::default() }
    }

    #[test]
    fn it_is_ready_when_it_is_everywhere() {
        let rows: [(&[Row], &str, &str); 4] = [
            (&[("a", 2, None), ("b", 2, None)], "True", "it can run on 2 nodes"),
            (&[("a", 2, None), ("b", 1, None)], "Unknown", "1 node still to look at it"),
            (&[("a", 2, Some("no key")), ("b", 1, None)], "False", "it cannot run on 1 node: a: no key"),
            (&[("a", 2, None), ("b", 1, Some("old news"))], "Unknown", "1 node still to look at it"),
        ];
        for (nodes, want, message) in rows {
            let found = ready(&status(nodes), 2, Timestamp::UNIX_EPOCH);
            assert_eq!((found.status.as_str(), found.message.as_str()), (want, message));
        }
    }

    #[test]
    fn the_time_of_a_condition_is_that_of_its_change() {
        let mut found = status(&[("a", 1, None)]);
        found.conditions.push(ready(&found, 1, Timestamp::UNIX_EPOCH));
        let later = Timestamp::from_second(60).unwrap();
        assert_eq!(ready(&found, 1, later).last_transition_time.0, Timestamp::UNIX_EPOCH);
        found.nodes[0].ready = false;
        assert_eq!(ready(&found, 1, later).last_transition_time.0, later);
    }
}
