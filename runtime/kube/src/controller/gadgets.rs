//! Gadget objects on this node: installs the module of each, and writes the outcome into its status.

mod status;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt as _, TryStreamExt as _};
use kube::{
    Client, ResourceExt as _,
    runtime::{WatchStreamExt as _, watcher},
};
use tokio::{
    task::{self, JoinSet},
    time::{Instant, sleep_until},
};

use self::status::StatusWriter;
use super::{
    Settings,
    node::{InstallError, Installer},
};
use crate::Gadget;

/// Modules that are fetched and compiled at the same time.
const INSTALLS_MAX: usize = 2;

/// When to retry an installation that failed and may succeed later.
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// One object.
struct Tracked {
    object: Arc<Gadget>,
    /// The generation whose installation began last.
    observed_generation: Option<i64>,
    installing: bool,
    changed_at: Instant,
    retry_at: Option<Instant>,
    /// When to check whether the nodes that are not ready still exist.
    recheck_at: Option<Instant>,
}

impl Tracked {
    fn schedule_recheck(&mut self, status: &StatusWriter) {
        match status.recheck_after(&self.object) {
            Some(pause) => {
                self.recheck_at.get_or_insert_with(|| Instant::now() + pause);
            }
            None => self.recheck_at = None,
        }
    }
}

/// Watches the objects until `shutdown` resolves.
pub async fn run<I: Installer>(
    client: Client,
    settings: Settings,
    installer: Arc<I>,
    shutdown: impl Future<Output = ()> + Send,
) {
    let status = Arc::new(StatusWriter::new(client, settings));
    let mut events = watcher(status.api.clone(), watcher::Config::default()).default_backoff().boxed();
    let mut objects = BTreeMap::<String, Tracked>::new();
    let mut listing = None;
    let (mut installs, mut names) = (JoinSet::new(), HashMap::new());
    let mut rechecks = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        start_installs(&mut objects, &mut installs, &mut names, &installer, &status);
        // A retry that finds no room waits for the end of another installation.
        let room = installs.len() < INSTALLS_MAX;
        let times = |k: &Tracked| {
            [k.retry_at.filter(|_| room && !k.installing), k.recheck_at].into_iter().flatten().min()
        };
        let next = objects.values().filter_map(times).min();
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
                for tracked in objects.values_mut().filter(|k| k.recheck_at.is_some_and(|at| at <= now)) {
                    tracked.recheck_at = None;
                    let (status, object) = (status.clone(), tracked.object.clone());
                    rechecks.spawn(async move { (object.name_any(), status.remove_gone_nodes(&object).await) });
                }
            }
            Some(checked) = rechecks.join_next(), if !rechecks.is_empty() => {
                let Ok((name, true)) = checked else { continue };
                if let Some(tracked) = objects.get_mut(&name) {
                    tracked.schedule_recheck(&status);
                }
            }
            Some(done) = installs.join_next_with_id(), if !installs.is_empty() => {
                let (id, retry) = done.unwrap_or_else(|error| (error.id(), true));
                let name = names.remove(&id);
                if let Some(tracked) = name.and_then(|name: String| objects.get_mut(&name)) {
                    tracked.installing = false;
                    tracked.retry_at = retry.then(|| Instant::now() + RETRY_AFTER);
                }
            }
            event = events.try_next() => match event {
                Ok(Some(watcher::Event::Init)) => listing = Some(BTreeSet::new()),
                Ok(Some(watcher::Event::InitApply(object))) => {
                    if let Some(names) = &mut listing {
                        names.insert(object.name_any());
                    }
                    observe(&mut objects, object, &*installer).schedule_recheck(&status);
                }
                Ok(Some(watcher::Event::InitDone)) => {
                    if let Some(names) = listing.take() {
                        objects.retain(|name, _| names.contains(name));
                        installer.retain(&names);
                    }
                }
                Ok(Some(watcher::Event::Apply(object))) => {
                    let tracked = observe(&mut objects, object, &*installer);
                    if tracked.observed_generation == tracked.object.metadata.generation && !tracked.installing {
                        status.refresh_if_writer(&tracked.object).await;
                    }
                    tracked.schedule_recheck(&status);
                }
                Ok(Some(watcher::Event::Delete(object))) => {
                    objects.remove(&object.name_any());
                    installer.remove(&object.name_any());
                }
                Ok(None) => break,
                Err(error) => tracing::debug!(%error, "cannot watch Gadget objects; tries again"),
            },
        }
    }
    // A compilation that is under way goes on; nobody waits for it.
    installs.abort_all();
}

/// Takes note of an object and of what it grants.
fn observe<'a>(
    objects: &'a mut BTreeMap<String, Tracked>,
    object: Gadget,
    installer: &impl Installer,
) -> &'a mut Tracked {
    // A change of the grants does not wait for the module.
    installer.grant(&object.name_any(), &object.spec);
    let object = Arc::new(object);
    let entry = objects.entry(object.name_any());
    let of_another = |tracked: &Tracked| tracked.object.metadata.uid != object.metadata.uid;
    let entry = entry.and_modify(|tracked| {
        if of_another(tracked) {
            tracked.observed_generation = None;
        }
        if tracked.object.metadata.generation != object.metadata.generation {
            tracked.changed_at = Instant::now();
        }
        tracked.object = object.clone();
    });
    entry.or_insert_with(|| Tracked {
        object: object.clone(),
        observed_generation: None,
        installing: false,
        changed_at: Instant::now(),
        retry_at: None,
        recheck_at: None,
    })
}

/// Starts the installations that are due, at most [`INSTALLS_MAX`] at a time.
fn start_installs<I: Installer>(
    objects: &mut BTreeMap<String, Tracked>,
    installs: &mut JoinSet<bool>,
    names: &mut HashMap<task::Id, String>,
    installer: &Arc<I>,
    status: &Arc<StatusWriter>,
) {
    let now = Instant::now();
    let is_due = |tracked: &Tracked| {
        let due = tracked.observed_generation != tracked.object.metadata.generation
            || tracked.retry_at.is_some_and(|at| at <= now);
        due && !tracked.installing
    };
    let mut due: Vec<_> = objects.iter_mut().filter(|(_, tracked)| is_due(tracked)).collect();
    // The longest wait comes first, so that no name has an advantage.
    due.sort_by_key(|(_, tracked)| tracked.retry_at.unwrap_or(tracked.changed_at));
    for (name, tracked) in due.into_iter().take(INSTALLS_MAX.saturating_sub(installs.len())) {
        (tracked.installing, tracked.retry_at) = (true, None);
        tracked.observed_generation = tracked.object.metadata.generation;
        let (gadget, object) = (name.clone(), tracked.object.clone());
        let (installer, status) = (installer.clone(), status.clone());
        let task = installs.spawn(async move {
            let outcome = installer.install(&gadget, &object.spec).await;
            match &outcome {
                Ok(module) => {
                    tracing::info!(gadget, digest = module.digest, "has the module of a Gadget object");
                }
                Err(error) => {
                    tracing::warn!(gadget, %error, "cannot run the module of a Gadget object");
                }
            }
            let reported = status.report(&object, &outcome).await;
            reported.is_err() || matches!(outcome, Err(InstallError::Unavailable(_)))
        });
        // A task that panics must not keep its object waiting forever.
        names.insert(task.id(), name.clone());
    }
}
