//! Records the containers of this node.
//!
//! One thread owns the kernel side and everything that is known of containers ([`store`]), so slow work there (loading the
//! program, waiting for running ones) blocks nobody else, and requests do not run concurrently. It wakes for requests, for
//! events of the kernel about cgroups, for pod changes, and for a periodic sweep in case an event was missed.

mod container;
mod info;
mod journal;
mod slots;
mod snapshot;
mod store;

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use futures::Stream;
use gadgetd_containers::Hierarchy;
use gadgetd_core::{CgroupSource, Loss};
use gadgetd_kube::{
    controller::{NodeError, Recorder, RecordingProgress, Session},
    documents::Recording,
    machine::{FoundPod, Selection},
};
use thiserror::Error;
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::{broadcast, mpsc, oneshot},
};

pub use self::journal::JournalError;
use self::store::RecordingStore;
use crate::{chain, pods::PodChange};

/// How a node records.
#[derive(Clone, Debug)]
pub struct RecorderSettings {
    /// The name of this node.
    pub node: String,
    /// The folder for what must survive this process, such as `/run/gadgetd`.
    pub state_dir: PathBuf,
    /// Where the root of the host's file system is mounted, below which container runtimes keep their state.
    pub host_root: PathBuf,
    /// How often to sweep all cgroups and slots.
    pub sweep_interval: Duration,
    /// How long to keep the recording of an ended container that nothing has identified.
    pub identify_timeout: Duration,
    /// How long the controller has, after it has seen every Trace, to claim recordings of an earlier process.
    pub adoption_timeout: Duration,
}

impl RecorderSettings {
    /// The defaults.
    pub fn new(node: impl Into<String>) -> Self {
        Self {
            node: node.into(),
            state_dir: "/run/gadgetd".into(),
            host_root: "/".into(),
            sweep_interval: Duration::from_secs(5),
            identify_timeout: Duration::from_mins(5),
            adoption_timeout: Duration::from_mins(1),
        }
    }
}

/// The kernel's side of a node.
#[derive(Debug)]
pub struct Kernel<S> {
    /// Where recordings come from. Its descriptor is readable while events wait.
    pub source: S,
    /// The cgroups.
    pub hierarchy: Hierarchy,
}

/// Why a node cannot begin to record.
#[derive(Debug, Error)]
pub enum RecorderError {
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// No thread can be started.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
}

/// The state of a recorder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Whether the kernel side is loaded; if not, why.
    pub kernel: Result<(), String>,
    /// Whether the pods of the node are known; if not, why.
    pub pods: Result<(), String>,
    /// Whether the controller has seen every Trace.
    pub traces: bool,
    /// How many sessions are recorded.
    pub sessions: usize,
    /// How many containers are recorded that run.
    pub running: usize,
    /// How many ended containers wait for their documents.
    pub ended: usize,
    /// How many slots are in use: by these, and by containers that may yet turn out to be selected.
    pub slots: usize,
}

type Request<S> = Box<dyn FnOnce(&mut RecordingStore<S>) + Send>;

/// A handle on the recorder of a node. The recorder ends with its last handle, and leaves in the kernel what is pinned there.
pub struct NodeRecorder<S: CgroupSource> {
    requests: mpsc::UnboundedSender<Request<S>>,
    events: broadcast::Sender<String>,
}

impl<S: CgroupSource> Clone for NodeRecorder<S> {
    fn clone(&self) -> Self {
        Self { requests: self.requests.clone(), events: self.events.clone() }
    }
}

impl<S: CgroupSource + AsFd + 'static> NodeRecorder<S> {
    /// Starts a recorder, which continues the recordings of an earlier process.
    ///
    /// `load` loads the eBPF side. If that fails, the recorder runs without it: each start of a recording tries again, and is refused
    /// with the reason. The recordings of an earlier process are retried with each sweep.
    pub fn start<E: std::error::Error>(
        settings: RecorderSettings,
        mut load: impl FnMut() -> Result<Kernel<S>, E> + Send + 'static,
    ) -> Result<Self, RecorderError> {
        let (requests, received) = mpsc::unbounded_channel();
        let (events, _) = broadcast::channel(1024);
        let journal = journal::Journal::open(&settings.state_dir)?;
        let contents = journal.load()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(RecorderError::Thread)?;
        let notifications = events.clone();
        let work = move || {
            let load = Box::new(move || load().map_err(|error| chain(&error)));
            let sweep_interval = settings.sweep_interval;
            let mut store = RecordingStore::new(settings, journal, notifications, load);
            store.restore(contents, Instant::now());
            runtime.block_on(serve(&mut store, received, sweep_interval));
        };
        thread::Builder::new().name("recorder".into()).spawn(work).map_err(RecorderError::Thread)?;
        Ok(Self { requests, events })
    }
}

impl<S: CgroupSource + 'static> NodeRecorder<S> {
    /// Reports a change of the pods of this node.
    pub fn pod_changed(&self, change: PodChange) {
        // It fails once the recorder has ended, which `ended` reports.
        let _ = self.requests.send(Box::new(move |store| store.pod_changed(change, Instant::now())));
    }

    /// The state of the recorder.
    pub async fn status(&self) -> Result<Status, NodeError> {
        self.ask(|store| Ok(store.status())).await
    }

    /// The losses since this process started, by kind.
    pub async fn losses(&self) -> Result<Vec<Loss>, NodeError> {
        self.ask(|store| Ok(store.losses())).await
    }

    /// Releases what an earlier process left in the kernel and no Trace claims, before an orderly end. Active recordings go on.
    pub async fn shut_down(&self) -> Result<(), NodeError> {
        self.ask(|store| {
            store.shut_down();
            Ok(())
        })
        .await
    }

    /// Returns once the recorder has ended. While there is a handle, only a serious failure ends it.
    pub async fn ended(&self) {
        self.requests.closed().await;
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut RecordingStore<S>) -> Result<T, NodeError> + Send + 'static,
    ) -> Result<T, NodeError> {
        let ended = || NodeError::Unavailable("the recorder of this node has ended".into());
        let (reply, answer) = oneshot::channel();
        let request: Request<S> = Box::new(move |store| {
            // The caller may be gone.
            let _ = reply.send(question(store));
        });
        self.requests.send(request).map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }
}

/// Serves requests and events until there is no handle left.
async fn serve<S: CgroupSource + AsFd>(
    store: &mut RecordingStore<S>,
    mut requests: mpsc::UnboundedReceiver<Request<S>>,
    sweep_interval: Duration,
) {
    let mut events = None;
    let mut ticks = tokio::time::interval(sweep_interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        if events.is_none() {
            events = store.source().and_then(readable);
        }
        let event = async {
            match &events {
                // Readiness is cleared before the events are read: an event in between wakes this loop again.
                Some(events) => events.readable().await.map(|mut ready| ready.clear_ready()),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            event = event => match event {
                Ok(()) => store.handle_events(Instant::now()),
                Err(error) => {
                    tracing::error!(%error, "cannot wait for events of the kernel");
                    return;
                }
            },
            request = requests.recv() => match request {
                Some(request) => request(store),
                None => return,
            },
            _ = ticks.tick() => store.sweep(Instant::now()),
        }
    }
}

/// The descriptor of a source, to wait until it is readable.
fn readable<S: AsFd>(source: &S) -> Option<AsyncFd<OwnedFd>> {
    let readable = source.as_fd().try_clone_to_owned().and_then(|fd| {
        // SAFETY: the descriptor is the registered value's own, and open while it lives.
        #[allow(unsafe_code)]
        let registered = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
        Ok(registered?)
    });
    readable.inspect_err(|error| tracing::error!(%error, "cannot wait for events of the kernel")).ok()
}

fn unavailable(error: impl std::error::Error) -> NodeError {
    NodeError::Unavailable(chain(&error))
}

impl<S: CgroupSource + 'static> Recorder for NodeRecorder<S> {
    async fn find(&self, selection: &Selection) -> Result<Vec<FoundPod>, NodeError> {
        let selection = selection.clone();
        self.ask(move |store| store.find(&selection)).await
    }

    async fn start(&self, session: &Session, selection: &Selection) -> Result<(), NodeError> {
        let (session, selection) = (session.clone(), selection.clone());
        self.ask(move |store| store.start(&session, &selection, Instant::now())).await
    }

    async fn progress(&self, session: &Session) -> Result<RecordingProgress, NodeError> {
        let session = session.clone();
        self.ask(move |store| store.progress(&session)).await
    }

    async fn recordings(&self, session: &Session) -> Result<Vec<Recording>, NodeError> {
        let session = session.clone();
        self.ask(move |store| store.recordings(&session)).await
    }

    async fn release(&self, session: &Session, container: &str) -> Result<(), NodeError> {
        let (session, container) = (session.clone(), container.to_owned());
        self.ask(move |store| store.release(&session, &container)).await
    }

    async fn stop(&self, trace: &str, keep: Option<u64>) -> Result<(), NodeError> {
        let trace = trace.to_owned();
        self.ask(move |store| store.stop(&trace, keep)).await
    }

    async fn sessions(&self) -> Result<Vec<Session>, NodeError> {
        self.ask(|store| Ok(store.sessions(Instant::now()))).await
    }

    fn events(&self) -> impl Stream<Item = String> + Send + 'static {
        futures::stream::unfold(self.events.subscribe(), |mut receiver| async move {
            loop {
                match receiver.recv().await {
                    Ok(trace) => return Some((trace, receiver)),
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            }
        })
    }
}
