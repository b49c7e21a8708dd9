//! Records the containers of this node.
//!
//! One thread owns the kernel side and everything that is known of containers ([`book`]): whatever takes long there
//! (loading the program, waiting for running ones) keeps nobody else waiting, and no two requests meet. It is woken by
//! requests, by the kernel when a cgroup comes or goes, by the API server when a pod does, and now and then to look
//! at everything, in case one of them did not say so.

mod book;
mod held;
mod journal;
mod known;

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
    controller::{PartError, Recorder, Seen, Session},
    documents::Recording,
    machine::{Found, Selection},
};
use thiserror::Error;
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::{broadcast, mpsc, oneshot},
};

use self::book::Book;
pub use self::journal::JournalError;
use crate::pods::PodChange;

/// How a node records.
#[derive(Clone, Debug)]
pub struct RecorderSettings {
    /// The name of this node.
    pub node: String,
    /// Where it keeps what must survive this process, such as `/run/gadgetd`.
    pub state_dir: PathBuf,
    /// Where the root of the host's file system is mounted, below which container runtimes keep their state.
    pub host_root: PathBuf,
    /// How often everything is looked at.
    pub look: Duration,
    /// How long a container that ended waits to become known.
    pub patience: Duration,
    /// How long after the controller has seen every Trace it may take to claim what an earlier process recorded.
    pub adoption: Duration,
}

impl RecorderSettings {
    /// The usual ones.
    pub fn new(node: impl Into<String>) -> Self {
        Self {
            node: node.into(),
            state_dir: "/run/gadgetd".into(),
            host_root: "/".into(),
            look: Duration::from_secs(5),
            patience: Duration::from_mins(5),
            adoption: Duration::from_mins(1),
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
    /// What must survive the process cannot be kept.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// There is no thread for it.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
}

/// How a recorder is doing.
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
    /// How many that ended are held for their documents.
    pub ended: usize,
    /// How many slots are in use: by these, and by containers that may yet turn out to be meant.
    pub slots: usize,
}

type Request<S> = Box<dyn FnOnce(&mut Book<S>) + Send>;

/// The recorder of a node. Clones are the same one; it ends with the last of them, and leaves in the kernel what is pinned there.
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
    /// Begins: goes on with what an earlier process recorded.
    ///
    /// `load` loads the kernel side. Where that is impossible the recorder works all the same, and each start of a recording
    /// tries again and is refused with the reason. What an earlier process recorded is tried again with each look.
    pub fn start<E: std::error::Error>(
        settings: RecorderSettings,
        mut load: impl FnMut() -> Result<Kernel<S>, E> + Send + 'static,
    ) -> Result<Self, RecorderError> {
        let (requests, received) = mpsc::unbounded_channel();
        let (events, _) = broadcast::channel(1024);
        let journal = journal::Journal::open(&settings.state_dir)?;
        let kept = journal.load()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(RecorderError::Thread)?;
        let told = events.clone();
        let work = move || {
            let load = Box::new(move || load().map_err(|error| crate::chain(&error)));
            let look = settings.look;
            let mut book = Book::new(settings, journal, told, load);
            book.begin(kept, Instant::now());
            runtime.block_on(serve(&mut book, received, look));
        };
        thread::Builder::new().name("recorder".into()).spawn(work).map_err(RecorderError::Thread)?;
        Ok(Self { requests, events })
    }
}

impl<S: CgroupSource + 'static> NodeRecorder<S> {
    /// Tells of a change of the node's pods.
    pub fn pod(&self, change: PodChange) {
        // Where the recorder has ended, `ended` has said so.
        let _ = self.requests.send(Box::new(move |book| book.pod(change, Instant::now())));
    }

    /// How it is doing.
    pub async fn status(&self) -> Result<Status, PartError> {
        self.ask(|book| Ok(book.status())).await
    }

    /// What was lost since the process began, by kind.
    pub async fn losses(&self) -> Result<Vec<Loss>, PartError> {
        self.ask(|book| Ok(book.losses())).await
    }

    /// Gives back what an earlier process left here and nobody wants, before an orderly end. What is recorded goes on.
    pub async fn farewell(&self) -> Result<(), PartError> {
        self.ask(|book| {
            book.farewell();
            Ok(())
        })
        .await
    }

    /// Returns when it has ended, which it does not do while there is a handle, unless something is very wrong.
    pub async fn ended(&self) {
        self.requests.closed().await;
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Book<S>) -> Result<T, PartError> + Send + 'static,
    ) -> Result<T, PartError> {
        let gone = || PartError::Unavailable("the recorder of this node has ended".into());
        let (reply, answer) = oneshot::channel();
        let request: Request<S> = Box::new(move |book| {
            // Who asked may have gone away.
            let _ = reply.send(question(book));
        });
        self.requests.send(request).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

/// Answers requests until nobody can make any.
async fn serve<S: CgroupSource + AsFd>(
    book: &mut Book<S>,
    mut requests: mpsc::UnboundedReceiver<Request<S>>,
    look: Duration,
) {
    let mut events = None;
    let mut ticks = tokio::time::interval(look);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        if events.is_none() {
            events = book.source().and_then(watched);
        }
        let event = async {
            match &events {
                // First clear, then look: what comes in between is told once more.
                Some(events) => events.readable().await.map(|mut ready| ready.clear_ready()),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            event = event => match event {
                Ok(()) => book.events(Instant::now()),
                Err(error) => {
                    tracing::error!(%error, "cannot wait for events of the kernel");
                    return;
                }
            },
            request = requests.recv() => match request {
                Some(request) => request(book),
                None => return,
            },
            _ = ticks.tick() => book.look(Instant::now()),
        }
    }
}

/// The descriptor of a source, as something to wait for.
fn watched<S: AsFd>(source: &S) -> Option<AsyncFd<OwnedFd>> {
    let watched = source.as_fd().try_clone_to_owned().and_then(|fd| {
        // SAFETY: the descriptor is the registered value's own, and open while it lives.
        #[allow(unsafe_code)]
        let registered = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
        Ok(registered?)
    });
    watched.inspect_err(|error| tracing::error!(%error, "cannot wait for events of the kernel")).ok()
}

impl<S: CgroupSource + 'static> Recorder for NodeRecorder<S> {
    async fn find(&self, selection: &Selection) -> Result<Vec<Found>, PartError> {
        let selection = selection.clone();
        self.ask(move |book| book.find(&selection)).await
    }

    async fn start(&self, session: &Session, selection: &Selection) -> Result<(), PartError> {
        let (session, selection) = (session.clone(), selection.clone());
        self.ask(move |book| book.start(&session, &selection, Instant::now())).await
    }

    async fn seen(&self, session: &Session) -> Result<Seen, PartError> {
        let session = session.clone();
        self.ask(move |book| book.seen(&session)).await
    }

    async fn recordings(&self, session: &Session) -> Result<Vec<Recording>, PartError> {
        let session = session.clone();
        self.ask(move |book| book.recordings(&session)).await
    }

    async fn release(&self, session: &Session, container: &str) -> Result<(), PartError> {
        let (session, container) = (session.clone(), container.to_owned());
        self.ask(move |book| book.release(&session, &container)).await
    }

    async fn stop(&self, trace: &str, keep: Option<u64>) -> Result<(), PartError> {
        let trace = trace.to_owned();
        self.ask(move |book| book.stop(&trace, keep)).await
    }

    async fn sessions(&self) -> Result<Vec<Session>, PartError> {
        self.ask(|book| Ok(book.sessions(Instant::now()))).await
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
