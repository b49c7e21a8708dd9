//! The controller that every node runs: it reconciles the Traces of its node, and of all nodes.
//!
//! It does what [`crate::machine::plan()`] says, one step at a time, and asks again after each. What it needs of the
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
mod node;
mod reconcile;
mod schedule;

use std::{
    collections::HashSet,
    fmt::Debug,
    sync::Arc,
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
use tokio::time::timeout;

use self::schedule::Schedule;
pub use gadgets::run as run_gadgets;
pub use node::{
    Document, FileSink, InstallError, Installed, Installer, NodeError, ObjectTarget, Reason, Recorder,
    RecordingProgress, Run, RunError, RunOutcome, RunOutput, RunRequest, Runner, Session, WrittenObject,
};

use crate::{Call, Trace, adapter::kube_error, machine::Operation};

/// The longest name of a node: the API server takes field managers of 128 characters.
const NODE_NAME_MAX: usize = 120;

/// When to retry a step that the API server rejected.
const REJECTED_RETRY_AFTER: Duration = Duration::from_secs(5);

/// When to retry a step that failed otherwise.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How a controller works.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The name of this node.
    pub node: String,
    /// The runtime's own namespace, whose Traces may select any pod.
    pub system_namespace: String,
    /// How long another node may leave an operation alone before this one checks whether that node exists.
    pub grace_period: Duration,
    /// How often the progress of a recording is polled.
    pub poll_interval: Duration,
    /// How long a call to the API server may take.
    pub request_timeout: Duration,
    /// How often to clean up after deleted Traces and nodes.
    pub cleanup_interval: Duration,
    /// Counts operations and calls.
    pub observer: Arc<dyn Observer>,
}

/// Observes what a controller does.
pub trait Observer: Debug + Send + Sync + 'static {
    /// An operation was carried out, or refused, and that stands in the Trace.
    fn performed(&self, operation: &Operation, refused: bool);

    /// A gadget made a call to the cluster, or tried to.
    fn called(&self, gadget: &str, call: &Call);
}

/// Observes nothing.
impl Observer for () {
    fn performed(&self, _: &Operation, _: bool) {}

    fn called(&self, _: &str, _: &Call) {}
}

impl Settings {
    /// The defaults.
    pub fn new(node: impl Into<String>, system_namespace: impl Into<String>) -> Self {
        Self {
            node: node.into(),
            system_namespace: system_namespace.into(),
            grace_period: Duration::from_secs(2),
            poll_interval: Duration::from_secs(2),
            request_timeout: Duration::from_secs(15),
            cleanup_interval: Duration::from_mins(1),
            observer: Arc::new(()),
        }
    }
}

/// What the controller needs of its node.
#[derive(Debug)]
pub struct NodeServices<R, U, F> {
    /// Records system calls.
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
    #[error(
        "the name of this node has {0} characters; gadgetd can work for names of at most {NODE_NAME_MAX}"
    )]
    NodeName(usize),
}

/// What every reconciliation shares.
struct Context<R, U, F> {
    client: Client,
    settings: Settings,
    services: NodeServices<R, U, F>,
    schedule: Schedule,
}

/// Runs the controller until `shutdown` resolves; reconciliations that are under way are finished.
pub async fn run<R: Recorder, U: Runner, F: FileSink>(
    client: Client,
    settings: Settings,
    services: NodeServices<R, U, F>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ControllerError> {
    if settings.node.len() > NODE_NAME_MAX {
        return Err(ControllerError::NodeName(settings.node.len()));
    }
    let controller = KubeController::new(Api::<Trace>::all(client.clone()), watcher::Config::default());
    let store = controller.store();
    let events = services.recorder.events();
    let known = store.clone();
    let touched = events.filter_map(move |uid| {
        let trace = known.find(|t| t.metadata.uid.as_deref() == Some(&uid));
        futures::future::ready(trace.map(|t| ObjectRef::from_obj(&*t)))
    });
    let context = Arc::new(Context { client, settings, services, schedule: Schedule::default() });
    let (stop, stopped) = tokio::sync::watch::channel(());
    let shutdown = shutdown.map(move |()| drop(stop)).shared();
    let reconciliations = controller
        .with_config(Config::default().concurrency(8))
        .trigger_backoff(WatchBackoff::default())
        .reconcile_on(touched)
        .graceful_shutdown_on(shutdown)
        .run(reconcile::reconcile, on_error, context.clone())
        .for_each(|outcome| async move {
            if let Err(error) = outcome {
                tracing::debug!(%error, "reconciliation");
            }
        });
    tokio::join!(reconciliations, end_orphaned_recordings(&context, &store, stopped));
    Ok(())
}

#[allow(clippy::needless_pass_by_value)] // The signature is kube's.
fn on_error<R, U, F>(trace: Arc<Trace>, error: &reconcile::StepError, _: Arc<Context<R, U, F>>) -> Action {
    let name = format!("{}/{}", trace.namespace().unwrap_or_default(), trace.name_any());
    tracing::warn!(trace = name, %error, "a step failed, and will be tried again");
    let pause = match error {
        // The API server will reject it again unless something changes.
        reconcile::StepError::Kube(KubeError::Invalid(_) | KubeError::Denied(_)) => REJECTED_RETRY_AFTER,
        _ => RETRY_AFTER,
    };
    Action::requeue(pause)
}

/// The field manager of a node.
fn field_manager(node: &str) -> String {
    format!("gadgetd-{node}")
}

/// Waits for a call to the API server no longer than its deadline.
async fn call<T>(deadline: Duration, call: impl Future<Output = kube::Result<T>>) -> Result<T, KubeError> {
    match timeout(deadline, call).await {
        Ok(answer) => answer.map_err(|error| kube_error(&error)),
        Err(_) => Err(KubeError::Deadline(format!("it took longer than {deadline:?}"))),
    }
}

/// Ends the recordings of Traces that were deleted without waiting for the finalizer of this node.
async fn end_orphaned_recordings<R: Recorder, U, F>(
    context: &Context<R, U, F>,
    store: &Store<Trace>,
    mut stopped: tokio::sync::watch::Receiver<()>,
) {
    let pause = context.settings.cleanup_interval;
    tokio::select! {
        ready = store.wait_until_ready() => if ready.is_err() { return },
        _ = stopped.changed() => return,
    }
    loop {
        match context.services.recorder.sessions().await {
            Ok(sessions) => {
                let traces: HashSet<_> = store.state().iter().filter_map(|t| t.uid()).collect();
                context.schedule.retain(&traces);
                for session in sessions.iter().filter(|s| !traces.contains(&s.trace)) {
                    tracing::info!(trace = session.trace, "ends a recording whose Trace is gone");
                    if let Err(error) = context.services.recorder.stop(&session.trace, None).await {
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

/// How long to wait before watching again after the watch broke: short, so that an outage of the API server is over for this
/// node soon after it is over.
#[derive(Debug, Default)]
struct WatchBackoff {
    failures: u32,
    last: Option<Instant>,
}

impl Iterator for WatchBackoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let now = Instant::now();
        let calm = self.last.is_none_or(|last| now.duration_since(last) > Duration::from_secs(30));
        self.failures = if calm { 0 } else { (self.failures + 1).min(4) };
        self.last = Some(now);
        Some(Duration::from_millis(250 << self.failures))
    }
}

impl Backoff for WatchBackoff {
    fn reset(&mut self) {
        *self = Self::default();
    }
}
