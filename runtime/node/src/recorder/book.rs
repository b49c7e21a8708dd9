//! Which container is recorded for whom.
//!
//! Everything here is decided from three sources that tell their parts in any order: the kernel (which cgroups there are,
//! and which have a slot), the API server (the pods), and the container's runtime. A container that some session may
//! want keeps its slot until it is known whether it does.
//!
//! What was recorded of a container that is gone goes from its slots into the journal, and waits there for its documents. One
//! that is restarted again and again has a bounded number of such recordings: the oldest are put together.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    error::Error,
    fs,
    time::{Duration, Instant},
};

use gadgetd_containers::{Containers, Identity, StateDirectories, identify};
use gadgetd_core::{
    Capture, CgroupEvent, CgroupId, CgroupSource, Completeness, Container, Enrolled, Entry, Loss, Machine,
    Recorded,
};
use gadgetd_kube::{
    controller::{PartError, Seen, Session},
    documents::Recording,
    machine::{Found, Selection},
};
use tokio::sync::broadcast;

use super::{
    Kernel, RecorderSettings, Status,
    held::{Held, clock, instant, together},
    journal::{ContainerFile, Journal, Kept, SessionFile},
    known::{Fit, Known},
};
use crate::{
    chain,
    pods::{PodChange, Pods},
};

/// How many recordings of ended containers of one name are kept apart.
const ENDED_MAX: usize = 8;

/// Everything that a node knows of its recordings.
pub(super) struct Book<S: CgroupSource> {
    settings: RecorderSettings,
    journal: Journal,
    events: broadcast::Sender<String>,
    load: Load<S>,
    /// The kernel side; if it could not be loaded, why.
    kernel: Result<Kernel<S>, String>,
    runtimes: Box<dyn Containers>,
    pods: Pods,
    sessions: BTreeMap<Session, SessionFile>,
    /// Containers that run, and those that ended and are held, by id.
    containers: BTreeMap<String, Tracked>,
    /// Whose the slots are.
    slots: BTreeMap<CgroupId, String>,
    /// The place in the order of appearance for the next container.
    sequence: u64,
    orphans: Orphans,
    /// Whether the kernel side was told to open slots for new cgroups.
    awaits: Option<bool>,
    /// What was lost of containers that are forgotten.
    lost: Vec<Loss>,
    /// Whether the controller has seen every Trace.
    traces: bool,
}

pub(super) type Load<S> = Box<dyn FnMut() -> Result<Kernel<S>, String>>;

/// What becomes of slots that an earlier process opened, and that no session in the journal has: the journal may be
/// lost, and a Trace about to say whose they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Orphans {
    /// There are none.
    None,
    /// They are kept until the controller has seen every Trace…
    Kept,
    /// …and for a time after.
    Until(Instant),
}

/// A container.
struct Tracked {
    /// Its own cgroup; it may have made others below.
    cgroup: String,
    own: Option<CgroupId>,
    /// The uid of its pod in the cgroup's path.
    pod_uid: Option<String>,
    /// The cgroups that have a slot for it: its own, and those that its runtime made below.
    slots: BTreeSet<CgroupId>,
    sequence: u64,
    /// Who records it.
    sessions: BTreeSet<Session>,
    /// Whether some session may want it, once more is known.
    candidate: bool,
    since: Instant,
    ended: Option<Instant>,
    /// Whether a process was seen in it.
    ran: bool,
    known: Known,
    /// What was recorded of it and is not in a slot any more.
    held: Option<Held>,
    /// What the journal has of it.
    kept: Option<ContainerFile>,
}

impl Tracked {
    fn new(identity: &Identity, sequence: u64, now: Instant) -> Self {
        Self {
            cgroup: identity.cgroup.clone(),
            own: None,
            pod_uid: identity.pod_uid.clone(),
            slots: BTreeSet::new(),
            sequence,
            sessions: BTreeSet::new(),
            candidate: false,
            since: now,
            ended: None,
            ran: false,
            known: Known::default(),
            held: None,
            kept: None,
        }
    }

    /// What the journal should have of it: nothing, if it is nobody's.
    fn file(&self, id: &str) -> Option<ContainerFile> {
        (!self.sessions.is_empty()).then(|| ContainerFile {
            id: id.to_owned(),
            cgroup: self.cgroup.clone(),
            pod_uid: self.pod_uid.clone(),
            slots: self.slots.iter().map(|slot| slot.0).collect(),
            sequence: self.sequence,
            sessions: self.sessions.clone(),
            ended: self.ended.is_some(),
            known: self.known.clone(),
            held: self.held.clone(),
        })
    }

    /// Whether all that was recorded of it is out of the kernel.
    fn is_aside(&self) -> bool {
        self.held.is_some() && self.slots.is_empty()
    }

    /// How many containers it stands for.
    fn count(&self) -> u32 {
        1 + self.held.as_ref().map_or(0, Held::earlier)
    }
}

impl<S: CgroupSource> Book<S> {
    pub(super) fn new(
        settings: RecorderSettings,
        journal: Journal,
        events: broadcast::Sender<String>,
        load: Load<S>,
    ) -> Self {
        let runtimes = Box::new(StateDirectories::below(&settings.host_root));
        Self {
            settings,
            journal,
            events,
            load,
            kernel: Err("the kernel side is not loaded yet".into()),
            runtimes,
            pods: Pods::default(),
            sessions: BTreeMap::new(),
            containers: BTreeMap::new(),
            slots: BTreeMap::new(),
            sequence: 0,
            orphans: Orphans::None,
            awaits: None,
            lost: Vec::new(),
            traces: false,
        }
    }

    /// Goes on with what the journal has.
    pub(super) fn begin(&mut self, kept: Kept, now: Instant) {
        self.sessions.extend(kept.sessions.into_iter().map(|s| (s.session.clone(), s)));
        let absorbed = |c: &ContainerFile| Some((c.held.as_ref()?.absorbed()?.to_owned(), c.sequence));
        let absorbed: BTreeMap<_, _> = kept.containers.iter().filter_map(absorbed).collect();
        for file in kept.containers {
            // Of a container that began later under the same id nothing is in another's file.
            if absorbed.get(&file.id).is_some_and(|sequence| file.sequence < *sequence) {
                self.forget_file(&file.id);
                continue;
            }
            // Of those that ended their file may be a step behind the session's.
            let wants = |s: &&Session| {
                self.sessions.get(*s).is_some_and(|kept| !kept.released.contains_key(&file.id))
            };
            let sessions = file.sessions.iter().filter(wants).cloned().collect();
            self.sequence = self.sequence.max(file.sequence + 1);
            let tracked = Tracked {
                cgroup: file.cgroup.clone(),
                own: None,
                pod_uid: file.pod_uid.clone(),
                slots: file.slots().collect(),
                sequence: file.sequence,
                sessions,
                candidate: false,
                since: now,
                ended: file.ended.then_some(now),
                ran: false,
                known: file.known.clone(),
                held: file.held.clone(),
                kept: Some(file),
            };
            let id = tracked.kept.as_ref().map(|k| k.id.clone()).unwrap_or_default();
            self.containers.insert(id, tracked);
        }
        self.open(now);
    }

    /// Loads the kernel side, and ties what it has to what is known.
    fn open(&mut self, now: Instant) {
        self.awaits = None;
        let adopted = (self.load)().and_then(|kernel| {
            self.kernel = Ok(kernel);
            self.adopt(now).map_err(|error| chain(&error))
        });
        match adopted {
            Ok(()) => tracing::info!(sessions = self.sessions.len(), slots = self.slots.len(), "can record"),
            Err(text) => {
                if self.kernel.as_ref().err() != Some(&text) {
                    tracing::error!(reason = text, "this node cannot record");
                }
                self.kernel = Err(text);
            }
        }
    }

    fn adopt(&mut self, now: Instant) -> Result<(), S::Error> {
        let Ok(kernel) = &self.kernel else { return Ok(()) };
        let enrolled = kernel.source.enrolled()?;
        let there: BTreeSet<_> = enrolled.iter().map(|e| e.cgroup).collect();
        for (id, container) in &self.containers {
            self.slots.extend(container.slots.iter().map(|slot| (*slot, id.clone())));
        }
        if there.iter().any(|slot| !self.slots.contains_key(slot)) {
            self.orphans = Orphans::Kept;
        }
        self.await_new()?;
        self.survey(now)?;
        self.settle_all()
    }

    pub(super) fn source(&self) -> Option<&S> {
        self.kernel.as_ref().ok().map(|kernel| &kernel.source)
    }

    // --- what the controller asks ---

    pub(super) fn find(&self, selection: &Selection) -> Result<Vec<Found>, PartError> {
        self.pods.known().map_err(PartError::Unavailable)?;
        let whatever = Selection { container: None, ..selection.clone() };
        let mut found: Vec<_> = self
            .pods
            .present()
            .filter(|pod| {
                let mut known = Known { name: Some(String::new()), ..Known::default() };
                known.learn_pod(pod, "", &self.settings.node);
                known.fit(&whatever) == Fit::Yes
            })
            .map(|pod| Found {
                namespace: pod.namespace.clone(),
                pod: pod.name.clone(),
                containers: pod.containers.clone(),
            })
            .collect();
        found.sort_by(|a, b| (&a.namespace, &a.pod).cmp(&(&b.namespace, &b.pod)));
        Ok(found)
    }

    pub(super) fn start(
        &mut self,
        session: &Session,
        selection: &Selection,
        now: Instant,
    ) -> Result<(), PartError> {
        if self.kernel.is_err() {
            self.open(now);
        }
        if let Err(reason) = &self.kernel {
            return Err(PartError::Refused(reason.clone()));
        }
        if self.sessions.contains_key(session) {
            return Ok(());
        }
        // What ended before, and is held for others, is no part of it.
        let over = self.containers.iter().filter(|(_, container)| container.is_aside());
        let kept = SessionFile {
            session: session.clone(),
            selection: selection.clone(),
            released: over.map(|(id, container)| (id.clone(), container.cgroup.clone())).collect(),
            gone: 0,
            calls: BTreeSet::new(),
            last_new: None,
        };
        self.journal.save_session(&kept).map_err(unavailable)?;
        self.sessions.insert(session.clone(), kept);
        let begun = self.await_new().and_then(|()| self.survey(now)).and_then(|()| self.settle_all());
        begun.map_err(|error| {
            let text = chain(&error);
            if let Err(error) = self.end(|s| s == session) {
                tracing::warn!(%error, "cannot take back a recording that did not begin");
            }
            PartError::Refused(text)
        })
    }

    pub(super) fn seen(&self, session: &Session) -> Result<Seen, PartError> {
        let Some(kept) = self.sessions.get(session) else { return Ok(Seen::default()) };
        let mut calls = kept.calls.clone();
        let now = clock();
        let mut since_new = kept.last_new.map(|last| now.saturating_sub(Duration::from_millis(last)));
        let mut containers = kept.gone;
        let mut ended = Vec::new();
        for (id, container) in self.members(session) {
            containers += container.count();
            for recorded in self.read(container)? {
                calls.extend(recorded.syscalls.iter().map(|call| (call.abi, call.number)));
                since_new = since_new.into_iter().chain(recorded.since_new).min();
            }
            if container.ended.is_some() {
                ended.push(id.clone());
            }
        }
        let syscalls = u32::try_from(calls.len()).unwrap_or(u32::MAX);
        Ok(Seen { containers, syscalls, since_new, ended })
    }

    pub(super) fn recordings(&self, session: &Session) -> Result<Vec<Recording>, PartError> {
        let Some(kept) = self.sessions.get(session) else { return Ok(Vec::new()) };
        let mut recordings = Vec::new();
        for (id, container) in self.members(session) {
            let known = &container.known;
            recordings.push(Recording {
                capture: capture(known.container(id, &container.cgroup), self.read(container)?),
                ended: container.ended.is_some(),
                alone: kept.selection.container.is_some() || known.siblings == Some(1),
                owner: known.owner.clone(),
                earlier: container.count() - 1,
            });
        }
        Ok(recordings)
    }

    /// The containers of a session, in the order in which they appeared.
    fn members(&self, session: &Session) -> Vec<(&String, &Tracked)> {
        let mut members: Vec<_> =
            self.containers.iter().filter(|(_, c)| c.sessions.contains(session)).collect();
        members.sort_by_key(|(_, container)| container.sequence);
        members
    }

    /// What was recorded of a container: what is held of it, and what its slots hold.
    fn read(&self, container: &Tracked) -> Result<Vec<Recorded>, PartError> {
        let kernel = self.kernel.as_ref().map_err(|text| PartError::Unavailable(text.clone()))?;
        let held = container.held.as_ref();
        let aside = held.map(|held| Ok(held.recorded(kernel.source.losses()?)));
        let slots = container.slots.iter().filter(|slot| !held.is_some_and(|held| held.has(**slot)));
        let slots = slots.map(|slot| kernel.source.read(*slot));
        aside.into_iter().chain(slots).collect::<Result<_, _>>().map_err(unavailable)
    }

    pub(super) fn release(&mut self, session: &Session, id: &str) -> Result<(), PartError> {
        let Some(container) = self.containers.get(id).filter(|c| c.sessions.contains(session)) else {
            return Ok(());
        };
        let Some(mut kept) = self.sessions.get(session).cloned() else { return Ok(()) };
        for recorded in self.read(container)? {
            kept.calls.extend(recorded.syscalls.iter().map(|call| (call.abi, call.number)));
            kept.last_new = kept.last_new.max(recorded.since_new.map(instant));
        }
        kept.released.insert(id.to_owned(), container.cgroup.clone());
        kept.gone += container.count();
        self.journal.save_session(&kept).map_err(unavailable)?;
        self.sessions.insert(session.clone(), kept);
        if let Some(container) = self.containers.get_mut(id) {
            container.sessions.remove(session);
        }
        self.settle(id).map_err(unavailable)
    }

    pub(super) fn stop(&mut self, trace: &str, keep: Option<u64>) -> Result<(), PartError> {
        self.end(|session| session.trace == trace && keep != Some(session.number))
    }

    fn end(&mut self, which: impl Fn(&Session) -> bool) -> Result<(), PartError> {
        let ending: Vec<_> = self.sessions.keys().filter(|s| which(s)).cloned().collect();
        if ending.is_empty() {
            return Ok(());
        }
        for session in ending {
            self.journal.remove_session(&session).map_err(unavailable)?;
            self.sessions.remove(&session);
            for container in self.containers.values_mut() {
                container.sessions.remove(&session);
            }
        }
        self.settle_all().map_err(unavailable)?;
        self.await_new().map_err(unavailable)
    }

    /// The sessions. The controller asks for them once it has seen every Trace.
    pub(super) fn sessions(&mut self, now: Instant) -> Vec<Session> {
        self.traces = true;
        if self.orphans == Orphans::Kept {
            self.orphans = Orphans::Until(now + self.settings.adoption);
        }
        self.sessions.keys().cloned().collect()
    }

    pub(super) fn status(&self) -> Status {
        let recorded = || self.containers.values().filter(|c| !c.sessions.is_empty());
        let ended = recorded().filter(|c| c.ended.is_some()).count();
        let pods = match self.pods.problem() {
            Some(problem) => Err(format!("the pods of this node cannot be watched: {problem}")),
            None => self.pods.known(),
        };
        Status {
            kernel: self.kernel.as_ref().map(|_| ()).map_err(Clone::clone),
            pods,
            traces: self.traces,
            sessions: self.sessions.len(),
            running: recorded().count() - ended,
            ended,
            slots: self.slots.len(),
        }
    }

    /// What was lost, of what is recorded now and of what was.
    pub(super) fn losses(&self) -> Vec<Loss> {
        let present = self.containers.values().filter_map(|c| self.read(c).ok()).flatten();
        let present = present.map(|recorded| recorded.completeness.losses);
        total(std::iter::once(self.lost.clone()).chain(present))
    }

    // --- what others tell ---

    /// Takes notice of a change of the pods.
    pub(super) fn pod(&mut self, change: PodChange, now: Instant) {
        let changed = self.pods.change(change, now);
        if changed.is_empty() {
            return;
        }
        let concerned: Vec<_> = self
            .containers
            .iter()
            .filter(|(_, container)| {
                let uid = container.pod_uid.as_ref().or(container.known.pod.as_ref().map(|p| &p.uid));
                let pod = uid.and_then(|uid| self.pods.get(uid));
                pod.is_some_and(|pod| changed.contains(&pod.uid))
            })
            .map(|(id, _)| id.clone())
            .collect();
        for id in concerned {
            self.learn(&id);
            self.settle_or_say(&id);
        }
    }

    /// Takes notice of what the kernel tells.
    pub(super) fn events(&mut self, now: Instant) {
        if let Err(error) = self.take_events(now) {
            tracing::warn!(error = chain(&error), "cannot follow the cgroups of this node");
        }
    }

    fn take_events(&mut self, now: Instant) -> Result<(), S::Error> {
        let Ok(kernel) = &mut self.kernel else { return Ok(()) };
        let events = kernel.source.events()?;
        if events.contains(&CgroupEvent::Missed) {
            return self.survey(now);
        }
        let mut opened = HashMap::new();
        if events.iter().any(|event| matches!(event, CgroupEvent::Opened(_))) {
            opened.extend(kernel.source.enrolled()?.into_iter().map(|e| (e.cgroup, e)));
        }
        for event in events {
            match event {
                CgroupEvent::Opened(cgroup) => {
                    // Unless it was released meanwhile.
                    if let Some(enrolled) = opened.get(&cgroup) {
                        self.opened(enrolled, now)?;
                    }
                }
                CgroupEvent::Ended(cgroup) => self.ended(cgroup, now)?,
                CgroupEvent::Missed => {}
            }
        }
        Ok(())
    }

    /// Looks at everything.
    pub(super) fn look(&mut self, now: Instant) {
        self.pods.forget(now);
        if matches!(self.orphans, Orphans::Until(end) if end <= now) {
            self.give_back_orphans();
        }
        if self.kernel.is_err() && !self.sessions.is_empty() {
            // What an earlier process began goes on in the kernel. The reason may pass, as when that process is still ending.
            self.open(now);
        }
        if self.kernel.is_err() || (self.sessions.is_empty() && self.slots.is_empty()) {
            return;
        }
        if let Err(error) = self.survey(now) {
            tracing::warn!(error = chain(&error), "cannot look at the cgroups of this node");
        }
        // What could not be given back before, or was still there when it ended.
        let idle = |c: &Tracked| !c.slots.is_empty() && (c.sessions.is_empty() || c.ended.is_some());
        let idle: Vec<_> =
            self.containers.iter().filter(|(_, c)| idle(c)).map(|(id, _)| id.clone()).collect();
        for id in idle {
            self.settle_or_say(&id);
        }
        self.give_up(now);
        self.prune();
    }

    /// What is to be done before an orderly end. Every Trace was seen and none records here: the next process, if there ever
    /// is one, has nothing to go on with, and nobody else would remove what is pinned.
    pub(super) fn farewell(&mut self) {
        if self.sessions.is_empty() && matches!(self.orphans, Orphans::Until(_)) {
            self.give_back_orphans();
        }
    }

    fn give_back_orphans(&mut self) {
        self.orphans = Orphans::None;
        if let Err(error) = self.await_new() {
            tracing::warn!(error = chain(&error), "cannot stop waiting for new cgroups");
        }
        self.settle_all_or_say();
    }

    /// Makes known what is there: every slot and every container.
    fn survey(&mut self, now: Instant) -> Result<(), S::Error> {
        let Ok(kernel) = &self.kernel else { return Ok(()) };
        // In this order: what has a slot is then in the tree, or has ended.
        let enrolled = kernel.source.enrolled()?;
        let mut tree = kernel.hierarchy.tree("/");
        self.miss(&enrolled.iter().map(|e| e.cgroup).collect());
        for enrolled in enrolled {
            self.opened(&enrolled, now)?;
        }
        // A container's own cgroup comes before one below that pretends to be it.
        tree.sort_by_key(|(path, _)| path.matches('/').count());
        for (path, cgroup) in &tree {
            if self.sessions.is_empty() || self.slots.contains_key(cgroup) {
                continue;
            }
            if let Some(identity) = identify(path).filter(|identity| identity.cgroup == *path) {
                let id = self.meet(&identity, now);
                self.settle(&id)?;
            }
        }
        let alive: HashMap<_, _> = tree.iter().map(|(path, id)| (path.as_str(), *id)).collect();
        let all: Vec<_> = self.containers.keys().cloned().collect();
        for id in all {
            let Some(container) = self.containers.get_mut(&id) else { continue };
            match alive.get(container.cgroup.as_str()) {
                Some(cgroup) if container.own.get_or_insert(*cgroup) == cgroup => self.look_into(&id, now)?,
                _ => self.end_of(&id, now)?,
            }
        }
        Ok(())
    }

    /// Takes notice of slots that are no longer there: somebody removed what was pinned.
    fn miss(&mut self, there: &BTreeSet<CgroupId>) {
        for (id, container) in &mut self.containers {
            let held = |slot: &CgroupId| container.held.as_ref().is_some_and(|held| held.has(*slot));
            let lost = container.slots.iter().any(|slot| !there.contains(slot) && !held(slot));
            container.slots.retain(|slot| there.contains(slot));
            if lost {
                tracing::warn!(container = id, "what was recorded of it is gone from the kernel");
            }
        }
        self.slots.retain(|slot, _| there.contains(slot));
    }

    /// Sees whether a container whose cgroup is there has ended. Some runtimes leave the cgroup until somebody removes the
    /// container; and what is empty may be filled again.
    fn look_into(&mut self, id: &str, now: Instant) -> Result<(), S::Error> {
        let (Ok(kernel), Some(container)) = (&self.kernel, self.containers.get_mut(id)) else {
            return Ok(());
        };
        if container.slots.is_empty() {
            return Ok(());
        }
        let events = kernel.hierarchy.directory(&container.cgroup).join("cgroup.events");
        let Ok(events) = fs::read_to_string(events) else { return Ok(()) };
        if events.lines().any(|line| line == "populated 1") {
            container.ran = true;
            container.ended = None;
            return Ok(());
        }
        // One that nothing has run in yet is about to.
        let called = |slot: &CgroupId| kernel.source.read(*slot).is_ok_and(|r| !r.syscalls.is_empty());
        if container.ran || container.slots.iter().any(called) { self.end_of(id, now) } else { Ok(()) }
    }

    // --- containers ---

    /// A cgroup has a slot.
    fn opened(&mut self, enrolled: &Enrolled, now: Instant) -> Result<(), S::Error> {
        let cgroup = enrolled.cgroup;
        if self.slots.contains_key(&cgroup) {
            return Ok(());
        }
        let Ok(kernel) = &mut self.kernel else { return Ok(()) };
        let path = enrolled.path.clone().or_else(|| {
            let tree = kernel.hierarchy.tree("/");
            tree.into_iter().find(|(_, id)| *id == cgroup).map(|(path, _)| path)
        });
        let Some(identity) = path.as_deref().and_then(identify) else {
            return kernel.source.release(cgroup);
        };
        let id = self.meet(&identity, now);
        let Some(container) = self.containers.get_mut(&id) else { return Ok(()) };
        if container.cgroup != identity.cgroup {
            // Whoever may make cgroups in one container could pretend to be another.
            tracing::warn!(
                cgroup = path,
                container = id,
                "is not recorded: the container has another cgroup"
            );
            return match &mut self.kernel {
                Ok(kernel) => kernel.source.release(cgroup),
                Err(_) => Ok(()),
            };
        }
        if container.held.as_ref().is_some_and(|held| held.has(cgroup)) {
            // It was given back since somebody looked.
            return Ok(());
        }
        if path.as_ref() == Some(&container.cgroup) {
            container.own = Some(cgroup);
        }
        container.slots.insert(cgroup);
        self.slots.insert(cgroup, id.clone());
        self.settle(&id)
    }

    /// A container is there; gives its id.
    fn meet(&mut self, identity: &Identity, now: Instant) -> String {
        let id = identity.id.clone();
        if !self.containers.contains_key(&id) {
            self.containers.insert(id.clone(), Tracked::new(identity, self.sequence, now));
            self.sequence += 1;
            self.learn(&id);
        }
        id
    }

    /// A cgroup with a slot lost its last process, or was removed.
    fn ended(&mut self, cgroup: CgroupId, now: Instant) -> Result<(), S::Error> {
        let Some(id) = self.slots.get(&cgroup).cloned() else { return Ok(()) };
        let Some(container) = self.containers.get_mut(&id).filter(|c| c.own == Some(cgroup)) else {
            return Ok(());
        };
        container.ran = true;
        let there =
            |kernel: &Kernel<S>| kernel.hierarchy.id(&container.cgroup).ok().flatten() == Some(cgroup);
        if self.kernel.as_ref().is_ok_and(there) { self.look_into(&id, now) } else { self.end_of(&id, now) }
    }

    /// A container has ended.
    fn end_of(&mut self, id: &str, now: Instant) -> Result<(), S::Error> {
        self.learn(id);
        let Some(container) = self.containers.get_mut(id) else { return Ok(()) };
        if container.ended.is_some() {
            return Ok(());
        }
        container.ended = Some(now);
        let sessions = container.sessions.clone();
        tracing::debug!(container = id, recorded = !sessions.is_empty(), "a container has ended");
        let settled = self.settle(id);
        self.tell(&sessions);
        settled
    }

    /// Learns what there is to learn about a container.
    fn learn(&mut self, id: &str) {
        let Some(container) = self.containers.get_mut(id) else { return };
        let (known, node) = (&mut container.known, &self.settings.node);
        let uid = container.pod_uid.as_deref();
        if let Some(pod) = uid.and_then(|uid| self.pods.get(uid)) {
            known.learn_pod(pod, id, node);
        }
        // What has a name by now and was not described before will not be.
        let first = container.slots.is_empty() && container.kept.is_none();
        if known.described || known.foreign || (known.name.is_some() && !first) {
            return;
        }
        match self.runtimes.describe(id) {
            Ok(Some(described)) => {
                known.learn_runtime(described, uid, node);
                let uid = known.pod.as_ref().map(|p| p.uid.clone());
                if let Some(pod) = uid.and_then(|uid| self.pods.get(&uid)) {
                    known.learn_pod(pod, id, node);
                }
            }
            Ok(None) => {}
            Err(error) => {
                tracing::debug!(container = id, error = chain(&error), "cannot read its description");
            }
        }
    }

    /// Brings a container to where it belongs, as far as is known: to sessions, or away.
    fn settle(&mut self, id: &str) -> Result<(), S::Error> {
        let Some(container) = self.containers.get_mut(id) else { return Ok(()) };
        let mut joined = BTreeSet::new();
        container.candidate = false;
        for (session, kept) in &self.sessions {
            if container.sessions.contains(session) || kept.released.contains_key(id) {
                continue;
            }
            match container.known.fit(&kept.selection) {
                Fit::Yes => drop(joined.insert(session.clone())),
                Fit::Perhaps => container.candidate = true,
                Fit::No => {}
            }
        }
        // What is gone and left nothing cannot be recorded any more.
        if container.ended.is_some() && container.slots.is_empty() && container.held.is_none() {
            joined.clear();
            container.sessions.clear();
            container.candidate = false;
        }
        container.sessions.extend(joined.iter().cloned());
        let wanted = !container.sessions.is_empty() || container.candidate;
        let orphan = self.orphans != Orphans::None && !container.known.foreign;
        let forget = container.ended.is_some() && !wanted && !orphan;
        let mut done = Ok(());
        if wanted {
            done = self.enrol(id);
        } else if !orphan {
            // The journal first: a slot that is nobody's is found, a file whose slot is gone is a puzzle.
            self.keep(id);
            done = self.release_slots(id);
            if done.is_ok() {
                let held = self.containers.get_mut(id).and_then(|container| container.held.take());
                self.count_lost(held.as_ref().map_or(&[], Held::losses));
            }
        }
        if forget && done.is_ok() {
            self.keep(id);
            self.containers.remove(id);
            return Ok(());
        }
        self.keep(id);
        for session in &joined {
            tracing::info!(container = id, trace = session.trace, "records a container");
        }
        self.tell(&joined);
        done.and_then(|()| self.set_aside(id))
    }

    /// Takes what was recorded of a container that is gone out of the kernel: the number of slots bounds how many can run at
    /// once, and not how many end while something is recorded.
    fn set_aside(&mut self, id: &str) -> Result<(), S::Error> {
        let (Ok(kernel), Some(container)) = (&self.kernel, self.containers.get_mut(id)) else {
            return Ok(());
        };
        let recorded = container.ended.is_some() && !container.sessions.is_empty();
        if !recorded || container.slots.is_empty() {
            return Ok(());
        }
        // What is there may be filled again.
        if !matches!(kernel.hierarchy.id(&container.cgroup), Ok(None)) {
            return Ok(());
        }
        let before = container.held.take();
        let fresh = container.slots.iter().filter(|slot| !before.as_ref().is_some_and(|b| b.has(**slot)));
        let fresh = fresh.map(|slot| Ok((*slot, kernel.source.read(*slot)?))).collect();
        match fresh {
            Ok(fresh) => container.held = Some(Held::new(before.as_ref(), fresh)),
            Err(error) => {
                container.held = before;
                return Err(error);
            }
        }
        if !self.keep(id) {
            // It stays in the kernel until the journal has it.
            if let Some(container) = self.containers.get_mut(id) {
                container.held = before;
            }
            return Ok(());
        }
        self.release_slots(id)?;
        self.keep(id);
        self.fold(id);
        Ok(())
    }

    /// Puts the oldest recordings of ended containers of one name together, if there are too many: of the same containers that
    /// documents are about together, and for the same sessions.
    fn fold(&mut self, id: &str) {
        let Some(last) = self.containers.get(id).filter(|c| c.is_aside()) else { return };
        let alike =
            |c: &Tracked| c.is_aside() && c.sessions == last.sessions && c.known.is_namesake(&last.known);
        let mut alike: Vec<_> = self
            .containers
            .iter()
            .filter(|(_, c)| alike(c))
            .map(|(id, c)| (c.sequence, id.clone()))
            .collect();
        alike.sort_unstable();
        for pair in alike.windows(2).take(alike.len().saturating_sub(ENDED_MAX)) {
            let [(_, oldest), (_, next)] = pair else { return };
            let earlier = self.containers.get(oldest).and_then(|c| c.held.clone());
            let Some((container, earlier)) = self.containers.get_mut(next).zip(earlier) else { return };
            let before = container.held.take();
            container.held = before.as_ref().map(|own| own.with(oldest, &earlier));
            // A crash from here on leaves the file of one that is in the other's: the next start removes it.
            if !(self.keep(next) && self.forget_file(oldest)) {
                if let Some(container) = self.containers.get_mut(next) {
                    container.held = before;
                }
                self.keep(next);
                return;
            }
            self.containers.remove(oldest);
        }
    }

    fn settle_or_say(&mut self, id: &str) {
        if let Err(error) = self.settle(id) {
            tracing::warn!(
                container = id,
                error = chain(&error),
                "cannot record, or stop recording, a container"
            );
        }
    }

    /// Settles every container; gives the first failure, and goes on after it.
    fn settle_all(&mut self) -> Result<(), S::Error> {
        let all: Vec<_> = self.containers.keys().cloned().collect();
        let mut outcome = Ok(());
        for id in all {
            let settled = self.settle(&id);
            outcome = outcome.and(settled);
        }
        if self.sessions.is_empty() && self.orphans == Orphans::None {
            // Whoever is not recorded is looked at again when there is somebody to record for.
            self.containers.retain(|_, container| !container.slots.is_empty());
        }
        outcome
    }

    fn settle_all_or_say(&mut self) {
        if let Err(error) = self.settle_all() {
            tracing::warn!(error = chain(&error), "cannot give back a slot");
        }
    }

    /// Sees to it that a container has a slot.
    fn enrol(&mut self, id: &str) -> Result<(), S::Error> {
        let (Ok(kernel), Some(container)) = (&mut self.kernel, self.containers.get_mut(id)) else {
            return Ok(());
        };
        if !container.slots.is_empty() || container.ended.is_some() {
            return Ok(());
        }
        let at = |kernel: &Kernel<S>, cgroup: &str| kernel.hierarchy.id(cgroup).ok().flatten();
        let Some(cgroup) = at(kernel, &container.cgroup) else { return Ok(()) };
        if let Err(error) = kernel.source.enrol(cgroup, Entry::Runtime) {
            // It may have gone meanwhile: then the next look finds that it has ended.
            return if at(kernel, &container.cgroup) == Some(cgroup) { Err(error) } else { Ok(()) };
        }
        container.own = Some(cgroup);
        container.slots.insert(cgroup);
        self.slots.insert(cgroup, id.to_owned());
        Ok(())
    }

    fn release_slots(&mut self, id: &str) -> Result<(), S::Error> {
        let (Ok(kernel), Some(container)) = (&mut self.kernel, self.containers.get_mut(id)) else {
            return Ok(());
        };
        while let Some(slot) = container.slots.first().copied() {
            let held = container.held.as_ref().is_some_and(|held| held.has(slot));
            if !held && let Ok(recorded) = kernel.source.read(slot) {
                self.lost = total([std::mem::take(&mut self.lost), recorded.completeness.losses]);
            }
            kernel.source.release(slot)?;
            container.slots.remove(&slot);
            self.slots.remove(&slot);
        }
        Ok(())
    }

    /// Brings the journal up to date about a container. Whether it is.
    fn keep(&mut self, id: &str) -> bool {
        let Some(container) = self.containers.get_mut(id) else { return true };
        let file = container.file(id);
        if file == container.kept {
            return true;
        }
        let kept = match &file {
            Some(file) => self.journal.save_container(file),
            None => self.journal.remove_container(id),
        };
        match kept {
            Ok(()) => container.kept = file,
            // It is tried again with the next change; until then a crash would lose it.
            Err(error) => {
                tracing::error!(container = id, error = chain(&error), "cannot keep what is recorded");
                return false;
            }
        }
        true
    }

    /// Removes the file of a container that is kept elsewhere. Whether it is gone.
    fn forget_file(&self, id: &str) -> bool {
        let removed = self.journal.remove_container(id);
        if let Err(error) = &removed {
            let error = chain(error);
            tracing::warn!(container = id, error, "cannot remove what is kept of it elsewhere");
        }
        removed.is_ok()
    }

    /// Counts what was lost of something that is forgotten.
    fn count_lost(&mut self, losses: &[Loss]) {
        self.lost = total([std::mem::take(&mut self.lost), losses.to_vec()]);
    }

    fn tell(&self, sessions: &BTreeSet<Session>) {
        for session in sessions {
            // Nobody listens where no controller runs.
            let _ = self.events.send(session.trace.clone());
        }
    }

    /// Has the kernel side open slots for new cgroups exactly as long as somebody may want them.
    fn await_new(&mut self) -> Result<(), S::Error> {
        let on = !self.sessions.is_empty() || self.orphans != Orphans::None;
        if let Ok(kernel) = &mut self.kernel
            && self.awaits != Some(on)
        {
            kernel.source.enrol_new(on)?;
            self.awaits = Some(on);
        }
        Ok(())
    }

    /// Gives up containers that do not become known.
    fn give_up(&mut self, now: Instant) {
        let patience = self.settings.patience;
        let unknown = self.containers.iter().filter(|(_, c)| c.candidate && c.sessions.is_empty());
        let unknown: Vec<_> = unknown.map(|(id, _)| id.clone()).collect();
        for id in unknown {
            self.learn(&id);
            self.settle_or_say(&id);
            let Some(container) = self.containers.get_mut(&id).filter(|c| c.candidate) else { continue };
            // One that runs in a pod's cgroup becomes known; any other is nothing of Kubernetes.
            let since = container.ended.or(container.pod_uid.is_none().then_some(container.since));
            if since.is_some_and(|since| now.duration_since(since) > patience) {
                tracing::warn!(
                    container = id,
                    cgroup = container.cgroup,
                    "is not recorded: neither the API server nor the container runtime's state told whose it is"
                );
                container.known.foreign = true;
                self.settle_or_say(&id);
            }
        }
    }

    /// Forgets which containers were released that cannot be met again.
    fn prune(&mut self) {
        let Ok(kernel) = &self.kernel else { return };
        for kept in self.sessions.values_mut() {
            let before = kept.released.len();
            kept.released.retain(|id, cgroup| {
                self.containers.contains_key(id) || kernel.hierarchy.id(cgroup).ok().flatten().is_some()
            });
            if kept.released.len() < before
                && let Err(error) = self.journal.save_session(kept)
            {
                tracing::warn!(error = chain(&error), "cannot keep what is recorded");
            }
        }
    }
}

/// What was recorded of one container, as one recording.
fn capture(container: Container, recorded: Vec<Recorded>) -> Capture {
    let Recorded { syscalls, refused, completeness, .. } = together(recorded);
    Capture { container, machine: Machine::current(), syscalls, refused, completeness }
}

/// Losses, each kind once.
fn total(all: impl IntoIterator<Item = Vec<Loss>>) -> Vec<Loss> {
    let one = |losses| Recorded {
        syscalls: Vec::new(),
        refused: Vec::new(),
        completeness: Completeness { losses, from_start: true },
        since_new: None,
    };
    together(all.into_iter().map(one)).completeness.losses
}

fn unavailable(error: impl Error) -> PartError {
    PartError::Unavailable(chain(&error))
}

#[cfg(test)]
mod tests;
