//! The controller that every node runs: it reconciles the Traces of its node, and of all nodes.
//!
//! It does what [`crate::machine::plan`] says, one step at a time, and asks again after each. What it needs of the
//! node it reaches through [`Recorder`], [`Runner`] and [`FileSink`].
//!
//! **Who writes what.** Each node applies its own entries of `status.nodes` and `status.outputs` (server-side, as
//! field manager `gadgetd-<node>`), so nodes never overwrite each other. The rest of the status is a
//! summary that any node may write, as field manager `gadgetd`, and only onto the version of the object that it
//! was computed from.
//!
//! **Crashes.** The order of the steps is such that each can be repeated: an operation is taken before
//! it is carried out, and noted in the status after; the finalizer is set before the kernel side starts, and
//! removed after it was released; documents are in the status before what they were made from is released.

mod gadgets;
mod parts;
mod reconcile;

use std::{
    collections::{HashMap, HashSet},
    fmt::Debug,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::{FutureExt as _, StreamExt as _};
use gadgetd_core::kube::KubeError;
use kube::{
    Api, Client, ResourceExt as _,
    runtime::{
        Controller as KubeController,
        controller::{Action, Config},
        reflector::{ObjectRef, Store},
        utils::Backoff,
        watcher,
    },
};
use thiserror::Error;

pub use gadgets::run as run_gadgets;
pub use parts::{
    Document, FileSink, InstallError, Installed, Installer, ObjectTarget, Order, PartError, Product, Ran,
    Reason, Recorder, Run, RunError, Runner, Seen, Session, Written,
};

use crate::{Call, Trace, machine::Operation};

/// The longest name of a node: the API server takes field managers of 128 characters.
const NODE_MAX: usize = 120;

/// How long after the API server refused a step it is tried again.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);

/// How a controller works.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The name of this node.
    pub node: String,
    /// The runtime's own namespace, whose Traces may select any pod.
    pub system_namespace: String,
    /// How long another node may leave an operation alone before this one looks whether it exists.
    pub grace: Duration,
    /// How often the progress of a recording is looked at.
    pub progress: Duration,
    /// How long a call to the API server may take.
    pub deadline: Duration,
    /// How often is looked for what somebody left who is gone: recordings without their Trace, and what nodes said of
    /// Gadget objects.
    pub sweep: Duration,
    /// Counts what is done.
    pub observer: Arc<dyn Observer>,
}

/// Is told what a controller does.
pub trait Observer: Debug + Send + Sync + 'static {
    /// An operation was carried out, or refused, and that stands in the Trace.
    fn performed(&self, operation: &Operation, refused: bool);

    /// A gadget made a call to the cluster, or tried to.
    fn called(&self, gadget: &str, call: &Call);
}

/// Nobody wants to know.
impl Observer for () {
    fn performed(&self, _: &Operation, _: bool) {}

    fn called(&self, _: &str, _: &Call) {}
}

impl Settings {
    /// The usual ones.
    pub fn new(node: impl Into<String>, system_namespace: impl Into<String>) -> Self {
        Self {
            node: node.into(),
            system_namespace: system_namespace.into(),
            grace: Duration::from_secs(2),
            progress: Duration::from_secs(2),
            deadline: Duration::from_secs(15),
            sweep: Duration::from_mins(1),
            observer: Arc::new(()),
        }
    }
}

/// What a node brings in.
#[derive(Debug)]
pub struct Parts<R, U, F> {
    /// Records.
    pub recorder: R,
    /// Runs gadgets.
    pub runner: U,
    /// Writes files.
    pub files: F,
}

/// Why a controller cannot begin.
#[derive(Debug, Error)]
pub enum ControllerError {
    /// The name does not fit into what the API server takes.
    #[error("the name of this node has {0} characters; gadgetd can work for names of at most {NODE_MAX}")]
    NodeName(usize),
}

/// What every reconciliation shares.
struct Context<R, U, F> {
    client: Client,
    settings: Settings,
    parts: Parts<R, U, F>,
    /// Other nodes that somebody waits for, by the Trace's uid, and when to look whether they exist.
    waiting: Mutex<HashMap<String, HashMap<String, Instant>>>,
    /// The uids of the Traces that are looked at again and again, because something is recorded for them.
    recording: Mutex<HashSet<String>>,
}

impl<R, U, F> Context<R, U, F> {
    fn traces(&self, namespace: &str) -> Api<Trace> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// For a Trace somebody waits for these nodes, and for no others: how long until each is looked for, a while after this was
    /// first said of it.
    fn waits(&self, uid: &str, nodes: &[&str], grace: Duration) -> Vec<Duration> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if nodes.is_empty() {
            waiting.remove(uid);
            return Vec::new();
        }
        let of_trace = waiting.entry(uid.to_owned()).or_default();
        of_trace.retain(|node, _| nodes.contains(&node.as_str()));
        let now = Instant::now();
        let due = |node: &&str| *of_trace.entry((*node).to_owned()).or_insert(now + grace);
        nodes.iter().map(due).map(|due| due.saturating_duration_since(now)).collect()
    }

    /// A node exists, and may answer yet: it is looked for again after this time.
    fn waits_on(&self, uid: &str, node: &str, pause: Duration) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.entry(uid.to_owned()).or_default().insert(node.to_owned(), Instant::now() + pause);
    }

    /// Notes whether something is recorded for a Trace.
    fn records(&self, uid: &str, is: bool) {
        let mut recording = self.recording.lock().unwrap_or_else(PoisonError::into_inner);
        if is {
            recording.insert(uid.to_owned());
        } else {
            recording.remove(uid);
        }
    }

    /// For how many Traces something is recorded.
    fn recordings(&self) -> u32 {
        let recording = self.recording.lock().unwrap_or_else(PoisonError::into_inner);
        u32::try_from(recording.len()).unwrap_or(u32::MAX)
    }

    /// Forgets all but these Traces: kube says nothing of one that is gone.
    fn forget_others(&self, traces: &HashSet<String>) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).retain(|uid, _| traces.contains(uid));
        self.recording.lock().unwrap_or_else(PoisonError::into_inner).retain(|uid| traces.contains(uid));
    }
}

/// Runs the controller until `shutdown` resolves; reconciliations that are under way are finished.
pub async fn run<R: Recorder, U: Runner, F: FileSink>(
    client: Client,
    settings: Settings,
    parts: Parts<R, U, F>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ControllerError> {
    if settings.node.len() > NODE_MAX {
        return Err(ControllerError::NodeName(settings.node.len()));
    }
    let controller = KubeController::new(Api::<Trace>::all(client.clone()), watcher::Config::default());
    let store = controller.store();
    let events = parts.recorder.events();
    let known = store.clone();
    let touched = events.filter_map(move |uid| {
        let trace = known.find(|t| t.metadata.uid.as_deref() == Some(&uid));
        futures::future::ready(trace.map(|t| ObjectRef::from_obj(&*t)))
    });
    let context =
        Arc::new(Context { client, settings, parts, waiting: Mutex::default(), recording: Mutex::default() });
    let (stop, stopped) = tokio::sync::watch::channel(());
    let shutdown = shutdown.map(move |()| drop(stop)).shared();
    let reconciliations = controller
        .with_config(Config::default().concurrency(8))
        .trigger_backoff(Retry::default())
        .reconcile_on(touched)
        .graceful_shutdown_on(shutdown)
        .run(reconcile::reconcile, on_error, context.clone())
        .for_each(|outcome| async move {
            if let Err(error) = outcome {
                tracing::debug!(%error, "reconciliation");
            }
        });
    tokio::join!(reconciliations, sweep(&context, &store, stopped));
    Ok(())
}

#[allow(clippy::needless_pass_by_value)] // The signature is kube's.
fn on_error<R, U, F>(trace: Arc<Trace>, error: &reconcile::StepError, _: Arc<Context<R, U, F>>) -> Action {
    let name = format!("{}/{}", trace.namespace().unwrap_or_default(), trace.name_any());
    tracing::warn!(trace = name, %error, "a step failed, and will be tried again");
    let pause = match error {
        // It will be the same, unless somebody changes something.
        reconcile::StepError::Kube(KubeError::Invalid(_) | KubeError::Denied(_)) => REFUSED_PAUSE,
        _ => Duration::from_secs(1),
    };
    Action::requeue(pause)
}

/// Ends the recordings of Traces that went without this node's finalizer being waited for.
async fn sweep<R: Recorder, U, F>(
    context: &Context<R, U, F>,
    store: &Store<Trace>,
    mut stopped: tokio::sync::watch::Receiver<()>,
) {
    let pause = context.settings.sweep;
    tokio::select! {
        ready = store.wait_until_ready() => if ready.is_err() { return },
        _ = stopped.changed() => return,
    }
    loop {
        match context.parts.recorder.sessions().await {
            Ok(sessions) => {
                let traces: HashSet<_> = store.state().iter().filter_map(|t| t.uid()).collect();
                context.forget_others(&traces);
                for session in sessions.iter().filter(|s| !traces.contains(&s.trace)) {
                    tracing::info!(trace = session.trace, "ends a recording whose Trace is gone");
                    if let Err(error) = context.parts.recorder.stop(&session.trace, None).await {
                        tracing::warn!(trace = session.trace, %error, "could not end it");
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "could not look for recordings whose Trace is gone"),
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = stopped.changed() => return,
        }
    }
}

/// How long to wait before watching again after the watch broke: an outage of the API server should be over for us
/// soon after it is over.
#[derive(Debug, Default)]
struct Retry {
    failures: u32,
    last: Option<Instant>,
}

impl Iterator for Retry {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let now = Instant::now();
        let calm = self.last.is_none_or(|last| now.duration_since(last) > Duration::from_secs(30));
        self.failures = if calm { 0 } else { (self.failures + 1).min(4) };
        self.last = Some(now);
        Some(Duration::from_millis(250 << self.failures))
    }
}

impl Backoff for Retry {
    fn reset(&mut self) {
        *self = Self::default();
    }
}
