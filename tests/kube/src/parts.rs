//! A scripted node.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::Stream;
use gadgetd_core::{
    Abi, Capture, Completeness, Container, Loss, Machine, Phases, Pod, Syscall, kube::KubeApi,
};
use gadgetd_host::{Host, HostConfig, SECCOMP_PROFILE};
use gadgetd_kube::{
    OutputMode,
    controller::{
        Document, FileSink, NodeError, Recorder, RecordingProgress, Run, RunError, RunOutcome, RunOutput,
        Runner, Session,
    },
    documents::Recording,
    machine::{Availability, FoundPod, Gadget, Selection},
};
use gadgetd_node::{HostRunner, RunnerError};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::json;
use tokio::sync::{OnceCell, broadcast};

use crate::Fuse;

/// A node: its pods, and what the kernel remembers of their containers. Clones are the same node.
///
/// It outlives the controllers that work with it, as the kernel outlives a process that was killed.
#[derive(Clone)]
pub struct World {
    state: Arc<Mutex<State>>,
    events: broadcast::Sender<String>,
    fuse: Fuse,
}

#[derive(Default)]
struct State {
    node: String,
    pods: Vec<PodState>,
    containers: Vec<ContainerState>,
    sessions: BTreeMap<Session, Recorded>,
    broken: Option<NodeError>,
    refusal: Option<String>,
    started: u32,
}

struct PodState {
    namespace: String,
    name: String,
    labels: BTreeMap<String, String>,
    containers: Vec<String>,
}

struct ContainerState {
    pod: Pod,
    labels: BTreeMap<String, String>,
    siblings: usize,
    name: String,
    id: String,
    calls: BTreeSet<u32>,
    lost: Option<Loss>,
    ended: bool,
    owner: Option<OwnerReference>,
}

struct Recorded {
    selection: Selection,
    /// Indices of containers, and whether they began after the recording.
    containers: Vec<(usize, bool)>,
    released: BTreeSet<String>,
}

impl World {
    /// An empty node.
    pub fn new(node: &str) -> Self {
        let state = State { node: node.into(), ..State::default() };
        let (events, _) = broadcast::channel(1024);
        Self { state: Arc::new(Mutex::new(state)), events, fuse: Fuse::default() }
    }

    /// The same node, to a controller that dies with the fuse.
    #[must_use]
    pub fn with_fuse(&self, fuse: &Fuse) -> Self {
        Self { fuse: fuse.clone(), ..self.clone() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a pod (if it is not there) whose containers can then run.
    pub fn pod(&self, namespace: &str, name: &str, labels: &[(&str, &str)], containers: &[&str]) {
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let containers = containers.iter().map(ToString::to_string).collect();
        self.state().pods.push(PodState {
            namespace: namespace.into(),
            name: name.into(),
            labels,
            containers,
        });
    }

    /// Deletes a pod; what was recorded of it stays.
    pub fn delete(&self, namespace: &str, name: &str) {
        let mut state = self.state();
        state.pods.retain(|p| p.namespace != namespace || p.name != name);
        drop(state);
        self.end_where(|c| c.pod.namespace == namespace && c.pod.name == name);
    }

    /// Starts a container of a pod that is there, and gives its id.
    pub fn run(&self, namespace: &str, pod: &str, name: &str) -> String {
        let mut state = self.state();
        let found =
            state.pods.iter().find(|p| p.namespace == namespace && p.name == pod).expect("such a pod");
        let (labels, siblings) = (found.labels.clone(), found.containers.len());
        let index = state.containers.len();
        let id = format!("{pod}-{name}-{index}");
        let of_pod = Pod {
            namespace: namespace.into(),
            name: pod.into(),
            uid: format!("uid-of-{pod}"),
            node: state.node.clone(),
        };
        state.containers.push(ContainerState {
            pod: of_pod,
            labels,
            siblings,
            name: name.into(),
            id: id.clone(),
            calls: BTreeSet::new(),
            lost: None,
            ended: false,
            owner: None,
        });
        let mut touched = Vec::new();
        let State { containers, sessions, .. } = &mut *state;
        for (session, recorded) in sessions {
            if fits(&recorded.selection, &containers[index]) {
                recorded.containers.push((index, true));
                touched.push(session.trace.clone());
            }
        }
        drop(state);
        self.tell(touched);
        id
    }

    /// Lets a container make calls, by their numbers on x86-64.
    pub fn call(&self, id: &str, calls: &[u32]) {
        self.change(id, |container| container.calls.extend(calls));
    }

    /// Loses something of a container.
    pub fn lose(&self, id: &str, loss: Loss) {
        self.change(id, |container| container.lost = Some(loss));
    }

    /// Says what controls a container's pod.
    pub fn own(&self, id: &str, owner: &OwnerReference) {
        self.change(id, |container| container.owner = Some(owner.clone()));
    }

    fn change(&self, id: &str, change: impl FnOnce(&mut ContainerState)) {
        let mut state = self.state();
        change(state.containers.iter_mut().find(|c| c.id == id).expect("such a container"));
    }

    /// Ends a container.
    pub fn end(&self, id: &str) {
        self.end_where(|c| c.id == id);
    }

    fn end_where(&self, which: impl Fn(&ContainerState) -> bool) {
        let mut state = self.state();
        let State { containers, sessions, .. } = &mut *state;
        let mut touched = Vec::new();
        for (index, container) in containers.iter_mut().enumerate().filter(|(_, c)| which(c)) {
            container.ended = true;
            let with = sessions.iter().filter(|(_, r)| r.containers.iter().any(|(i, _)| *i == index));
            touched.extend(with.map(|(session, _)| session.trace.clone()));
        }
        drop(state);
        self.tell(touched);
    }

    fn tell(&self, traces: Vec<String>) {
        for trace in traces {
            // Nobody listens where no controller runs.
            let _ = self.events.send(trace);
        }
    }

    /// From now on every request fails in this way; `None`: no longer.
    pub fn break_down(&self, how: Option<NodeError>) {
        self.state().broken = how;
    }

    /// From now on no recording starts, for this reason; `None`: they do.
    pub fn refuse_to_start(&self, reason: Option<&str>) {
        self.state().refusal = reason.map(str::to_owned);
    }

    /// The recordings that are on.
    pub fn recorded(&self) -> Vec<Session> {
        self.state().sessions.keys().cloned().collect()
    }

    /// How many containers a Trace's recordings hold, those that ended among them.
    pub fn held(&self, trace: &str) -> usize {
        let state = self.state();
        let of_trace = state.sessions.iter().filter(|(s, _)| s.trace == trace);
        of_trace.map(|(_, r)| r.containers.len() - r.released.len()).sum()
    }

    /// How often a recording that was not on yet was started.
    pub fn started(&self) -> u32 {
        self.state().started
    }

    /// Answers a request as long as nothing is broken, and the fuse holds before and after.
    async fn answer<T>(&self, answer: impl FnOnce(&mut State) -> T + Send) -> Result<T, NodeError>
    where
        T: Send,
    {
        self.fuse.burn().await;
        let answer = {
            let mut state = self.state();
            match &state.broken {
                Some(error) => Err(error.clone()),
                None => Ok(answer(&mut state)),
            }
        };
        self.fuse.burn().await;
        answer
    }
}

fn fits(selection: &Selection, container: &ContainerState) -> bool {
    let pod = &container.pod;
    selection.container.as_ref().is_none_or(|c| *c == container.name)
        && fits_pod(selection, &pod.namespace, &pod.name, &container.labels)
}

fn fits_pod(selection: &Selection, namespace: &str, name: &str, labels: &BTreeMap<String, String>) -> bool {
    selection.namespace.as_ref().is_none_or(|n| n == namespace)
        && selection.pod.as_ref().is_none_or(|p| p == name)
        && selection.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
}

impl Recorder for World {
    async fn find(&self, selection: &Selection) -> Result<Vec<FoundPod>, NodeError> {
        self.answer(|state| {
            let pods = state.pods.iter().filter(|p| fits_pod(selection, &p.namespace, &p.name, &p.labels));
            pods.map(|p| FoundPod {
                namespace: p.namespace.clone(),
                pod: p.name.clone(),
                containers: p.containers.clone(),
            })
            .collect()
        })
        .await
    }

    async fn start(&self, session: &Session, selection: &Selection) -> Result<(), NodeError> {
        self.answer(|state| {
            if state.sessions.contains_key(session) {
                return Ok(());
            }
            if let Some(refusal) = &state.refusal {
                return Err(NodeError::Refused(refusal.clone()));
            }
            state.started += 1;
            let running = state.containers.iter().enumerate();
            let running = running.filter(|(_, c)| !c.ended && fits(selection, c)).map(|(i, _)| (i, false));
            let containers = running.collect();
            let recorded = Recorded { selection: selection.clone(), containers, released: BTreeSet::new() };
            state.sessions.insert(session.clone(), recorded);
            Ok(())
        })
        .await?
    }

    async fn progress(&self, session: &Session) -> Result<RecordingProgress, NodeError> {
        self.answer(|state| {
            let Some(recorded) = state.sessions.get(session) else { return RecordingProgress::default() };
            let all: Vec<_> = recorded.containers.iter().map(|(i, _)| &state.containers[*i]).collect();
            let calls: BTreeSet<_> = all.iter().flat_map(|c| &c.calls).collect();
            let held = |c: &&&ContainerState| c.ended && !recorded.released.contains(&c.id);
            RecordingProgress {
                containers: u32::try_from(all.len()).unwrap_or(u32::MAX),
                syscalls: u32::try_from(calls.len()).unwrap_or(u32::MAX),
                since_new: (!calls.is_empty()).then_some(Duration::from_secs(1)),
                ended: all.iter().filter(held).map(|c| c.id.clone()).collect(),
            }
        })
        .await
    }

    async fn recordings(&self, session: &Session) -> Result<Vec<Recording>, NodeError> {
        self.answer(|state| {
            let Some(recorded) = state.sessions.get(session) else { return Vec::new() };
            let all = recorded.containers.iter().map(|(i, from_start)| (&state.containers[*i], *from_start));
            let held = all.filter(|(c, _)| !recorded.released.contains(&c.id));
            let single = recorded.selection.container.is_some();
            held.map(|(c, from_start)| recording(c, from_start, single)).collect()
        })
        .await
    }

    async fn release(&self, session: &Session, container: &str) -> Result<(), NodeError> {
        self.answer(|state| {
            if let Some(recorded) = state.sessions.get_mut(session) {
                recorded.released.insert(container.to_owned());
            }
        })
        .await
    }

    async fn stop(&self, trace: &str, keep: Option<u64>) -> Result<(), NodeError> {
        self.answer(|state| state.sessions.retain(|s, _| s.trace != trace || keep == Some(s.number))).await
    }

    async fn sessions(&self) -> Result<Vec<Session>, NodeError> {
        self.answer(|state| state.sessions.keys().cloned().collect()).await
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

fn recording(container: &ContainerState, from_start: bool, single: bool) -> Recording {
    let call = |number: &u32| Syscall { abi: Abi::Native, number: *number, phases: Phases::APPLICATION };
    let capture = Capture {
        container: Container {
            id: container.id.clone(),
            name: Some(container.name.clone()),
            pod: Some(container.pod.clone()),
            cgroup: format!("/kubepods/{}/{}", container.pod.uid, container.id),
            ..Container::default()
        },
        machine: Machine::X86_64,
        syscalls: container.calls.iter().map(call).collect(),
        refused: Vec::new(),
        completeness: Completeness { losses: container.lost.into_iter().collect(), from_start },
    };
    let alone = single || container.siblings == 1;
    Recording { capture, ended: container.ended, earlier: 0, alone, owner: container.owner.clone() }
}

/// A gadget `seccomp` whose documents are OCI profiles of what was recorded and nothing else (or, with formatter
/// `table`, lists of names), and a gadget `diff` that knows only output mode Status. Objects are made by the real
/// gadget, the component in its host: what it does to the outside are calls to the API server.
pub struct Advisor {
    /// Makes the objects.
    pub objects: HostRunner,
}

impl Advisor {
    /// With the modules that are built in, on the cluster that `connect` reaches.
    pub async fn on(
        connect: impl Fn(&str) -> Arc<dyn KubeApi> + Send + Sync + 'static,
    ) -> Result<Self, RunnerError> {
        // Compiling them takes longer than most tests.
        static MODULES: OnceCell<HostRunner> = OnceCell::const_new();
        let modules = MODULES.get_or_try_init(async || {
            let nowhere = |_: &str| -> Arc<dyn KubeApi> { unreachable!("it is put on a cluster first") };
            HostRunner::new(Host::new(HostConfig::default())?, nowhere).await
        });
        Ok(Self { objects: modules.await?.on(connect) })
    }
}

impl Runner for Advisor {
    async fn gadgets(&self) -> Vec<Gadget> {
        let gadget = |name: &str, modes: &[OutputMode]| Gadget {
            name: name.into(),
            output_modes: modes.to_vec(),
            availability: Availability::Available,
        };
        vec![gadget("diff", &[OutputMode::Status]), gadget("seccomp", OutputMode::ALL)]
    }

    async fn run(&self, run: Run<'_>) -> RunOutcome {
        if run.request.target.is_some() {
            return self.objects.run(run).await;
        }
        advise(&run).into()
    }
}

fn advise(run: &Run<'_>) -> Result<RunOutput, RunError> {
    let names: BTreeSet<_> =
        run.capture.syscalls.iter().filter_map(|s| s.name(run.capture.machine)).collect();
    if let Some(unknown) = run.parameters.keys().find(|key| *key != "default-action") {
        return Err(RunError::Failed(format!("unknown parameter {unknown}")));
    }
    if names.is_empty() {
        return Err(RunError::Empty);
    }
    let names: Vec<_> = names.into_iter().collect();
    match run.formatter {
        None | Some("oci") => {
            let profile = json!({
                "defaultAction": "SCMP_ACT_ERRNO",
                "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
                "syscalls": [{ "names": names, "action": "SCMP_ACT_ALLOW" }],
            });
            Ok(document(SECCOMP_PROFILE, profile.to_string()))
        }
        Some("table") => Ok(document("text/plain", names.join("\n"))),
        Some(other) => Err(RunError::Failed(format!("unknown formatter {other}: there are oci and table"))),
    }
}

fn document(media_type: &str, body: String) -> RunOutput {
    RunOutput::Document(Document { media_type: media_type.into(), body })
}

/// Files of a node. Clones are the same files.
#[derive(Clone, Default)]
pub struct Files {
    files: Arc<Mutex<BTreeMap<String, String>>>,
    fuse: Fuse,
}

impl Files {
    /// The same files, to a controller that dies with the fuse.
    #[must_use]
    pub fn with_fuse(&self, fuse: &Fuse) -> Self {
        Self { fuse: fuse.clone(), ..self.clone() }
    }

    /// Every file, by its path.
    pub fn all(&self) -> BTreeMap<String, String> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl FileSink for Files {
    async fn write(&self, namespace: &str, name: &str, body: &str) -> Result<String, NodeError> {
        self.fuse.burn().await;
        let path = format!("gadget/{namespace}/{name}");
        self.files.lock().unwrap_or_else(PoisonError::into_inner).insert(path.clone(), body.to_owned());
        self.fuse.burn().await;
        Ok(path)
    }
}
