//! The recordings of this node: which container is recorded for which session.
//!
//! Three sources report in any order: the kernel (which cgroups there are, and which have a slot), the API server (the pods),
//! and the container runtime. After each report the store reconciles the container ([`containers`]): it is added to each
//! session that selects it, keeps its slot while a session still might, or gives it back. Once a container has ended, its
//! recording moves from the kernel into the journal ([`ended`]). A periodic sweep finds what no event reported ([`sweep`]).

mod containers;
mod ended;
mod queries;
mod sweep;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Instant,
};

use gadgetd_containers::{Containers, StateDirectories};
use gadgetd_core::{CgroupEvent, CgroupSource};
use gadgetd_kube::{
    controller::{NodeError, Session},
    machine::Selection,
};
use tokio::sync::broadcast;

use super::{
    RecorderSettings,
    container::TrackedContainer,
    journal::{ContainerFile, Journal, JournalContents, SessionFile},
    slots::{Loader, Slots},
    snapshot::monotonic_ms,
    unavailable,
};
use crate::{
    chain,
    pods::{PodChange, Pods},
};

/// The sessions and containers of this node.
pub(super) struct RecordingStore<S: CgroupSource> {
    settings: RecorderSettings,
    journal: Journal,
    events: broadcast::Sender<String>,
    slots: Slots<S>,
    runtimes: Box<dyn Containers>,
    pods: Pods,
    sessions: BTreeMap<Session, SessionFile>,
    /// By id: containers that run, and ended ones that wait for their documents.
    containers: BTreeMap<String, TrackedContainer>,
    /// The sequence number of the next container.
    next_sequence: u64,
    orphans: Orphans,
    /// Whether the controller has seen every Trace.
    traces_listed: bool,
}

/// Slots of an earlier process that no session in the journal has. The journal may be lost, and a Trace about to claim them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Orphans {
    /// There are none.
    None,
    /// They stay until the controller has seen every Trace…
    Kept,
    /// …and then until this time.
    Until(Instant),
}

impl<S: CgroupSource> RecordingStore<S> {
    pub(super) fn new(
        settings: RecorderSettings,
        journal: Journal,
        events: broadcast::Sender<String>,
        loader: Loader<S>,
    ) -> Self {
        let runtimes = Box::new(StateDirectories::below(&settings.host_root));
        Self {
            settings,
            journal,
            events,
            slots: Slots::new(loader),
            runtimes,
            pods: Pods::default(),
            sessions: BTreeMap::new(),
            containers: BTreeMap::new(),
            next_sequence: 0,
            orphans: Orphans::None,
            traces_listed: false,
        }
    }

    /// Continues the recordings of the journal.
    pub(super) fn restore(&mut self, journal: JournalContents, now: Instant) {
        self.sessions.extend(journal.sessions.into_iter().map(|s| (s.session.clone(), s)));
        let merged = |c: &ContainerFile| Some((c.snapshot.as_ref()?.last_merged()?.to_owned(), c.sequence));
        let merged: BTreeMap<_, _> = journal.containers.iter().filter_map(merged).collect();
        for file in journal.containers {
            // A crash left the file of a container that was merged into a later one. A container that began after that one has the
            // id by chance.
            if merged.get(&file.id).is_some_and(|sequence| file.sequence < *sequence) {
                self.journal.remove_merged(&file.id);
                continue;
            }
            // The file of an ended container may be one step behind that of the session.
            let holds = |s: &&Session| {
                self.sessions.get(*s).is_some_and(|session| !session.released.contains_key(&file.id))
            };
            let sessions = file.sessions.iter().filter(holds).cloned().collect();
            self.next_sequence = self.next_sequence.max(file.sequence + 1);
            self.containers.insert(file.id.clone(), TrackedContainer::restored(file, sessions, now));
        }
        self.open(now);
    }

    /// Loads the eBPF side, and adopts the slots that are there.
    fn open(&mut self, now: Instant) {
        let adopted = self.slots.load().and_then(|()| self.adopt(now).map_err(|error| chain(&error)));
        match adopted {
            Ok(()) => tracing::info!(sessions = self.sessions.len(), slots = self.slots.len(), "can record"),
            Err(text) => {
                if self.slots.kernel.as_ref().err() != Some(&text) {
                    tracing::error!(reason = text, "this node cannot record");
                }
                self.slots.kernel = Err(text);
            }
        }
    }

    /// Takes over the slots of an earlier process.
    fn adopt(&mut self, now: Instant) -> Result<(), S::Error> {
        let Ok(kernel) = &self.slots.kernel else { return Ok(()) };
        let enrolled = kernel.source.enrolled()?;
        let present: BTreeSet<_> = enrolled.iter().map(|e| e.cgroup).collect();
        for (id, container) in &self.containers {
            self.slots.assign(id, container.slots.iter().copied());
        }
        if present.iter().any(|slot| self.slots.owner(*slot).is_none()) {
            self.orphans = Orphans::Kept;
        }
        self.update_enrol_new()?;
        self.scan(now)?;
        self.reconcile_all()
    }

    pub(super) fn source(&self) -> Option<&S> {
        self.slots.kernel.as_ref().ok().map(|kernel| &kernel.source)
    }

    /// Begins a session.
    pub(super) fn start(
        &mut self,
        session: &Session,
        selection: &Selection,
        now: Instant,
    ) -> Result<(), NodeError> {
        if self.slots.kernel.is_err() {
            self.open(now);
        }
        if let Err(reason) = &self.slots.kernel {
            return Err(NodeError::Refused(reason.clone()));
        }
        if self.sessions.contains_key(session) {
            return Ok(());
        }
        // Containers that ended before the session began are no part of it.
        let ended = self.containers.iter().filter(|(_, container)| container.is_archived());
        let file = SessionFile {
            session: session.clone(),
            selection: selection.clone(),
            released: ended.map(|(id, container)| (id.clone(), container.cgroup.clone())).collect(),
            released_count: 0,
            calls: BTreeSet::new(),
            last_new: None,
        };
        self.journal.save_session(&file).map_err(unavailable)?;
        self.sessions.insert(session.clone(), file);
        let begun = self.update_enrol_new().and_then(|()| self.scan(now)).and_then(|()| self.reconcile_all());
        begun.map_err(|error| {
            let text = chain(&error);
            if let Err(error) = self.end(|s| s == session) {
                tracing::warn!(%error, "cannot take back a recording that did not begin");
            }
            NodeError::Refused(text)
        })
    }

    /// Forgets a container that ended, as far as a session is concerned.
    pub(super) fn release(&mut self, session: &Session, id: &str) -> Result<(), NodeError> {
        let Some(container) = self.containers.get(id).filter(|c| c.sessions.contains(session)) else {
            return Ok(());
        };
        let Some(mut file) = self.sessions.get(session).cloned() else { return Ok(()) };
        for recorded in self.slots.read(container)? {
            file.calls.extend(recorded.syscalls.iter().map(|call| (call.abi, call.number)));
            file.last_new = file.last_new.max(recorded.since_new.map(monotonic_ms));
        }
        file.released.insert(id.to_owned(), container.cgroup.clone());
        file.released_count += container.instances();
        self.journal.save_session(&file).map_err(unavailable)?;
        self.sessions.insert(session.clone(), file);
        if let Some(container) = self.containers.get_mut(id) {
            container.sessions.remove(session);
        }
        self.reconcile(id).map_err(unavailable)
    }

    /// Ends every session of a Trace but `keep`.
    pub(super) fn stop(&mut self, trace: &str, keep: Option<u64>) -> Result<(), NodeError> {
        self.end(|session| session.trace == trace && keep != Some(session.number))
    }

    fn end(&mut self, which: impl Fn(&Session) -> bool) -> Result<(), NodeError> {
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
        self.reconcile_all().map_err(unavailable)?;
        self.update_enrol_new().map_err(unavailable)
    }

    /// The sessions. The controller asks for them once it has seen every Trace.
    pub(super) fn sessions(&mut self, now: Instant) -> Vec<Session> {
        self.traces_listed = true;
        if self.orphans == Orphans::Kept {
            self.orphans = Orphans::Until(now + self.settings.adoption_timeout);
        }
        self.sessions.keys().cloned().collect()
    }

    /// Handles a change of the pods.
    pub(super) fn pod_changed(&mut self, change: PodChange, now: Instant) {
        let changed = self.pods.apply_change(change, now);
        if changed.is_empty() {
            return;
        }
        let affected: Vec<_> = self
            .containers
            .iter()
            .filter(|(_, container)| {
                let uid = container.pod_uid.as_ref().or(container.info.pod.as_ref().map(|p| &p.uid));
                let pod = uid.and_then(|uid| self.pods.get(uid));
                pod.is_some_and(|pod| changed.contains(&pod.uid))
            })
            .map(|(id, _)| id.clone())
            .collect();
        for id in affected {
            self.update_info(&id);
            self.reconcile_or_warn(&id);
        }
    }

    /// Handles events of the kernel.
    pub(super) fn handle_events(&mut self, now: Instant) {
        if let Err(error) = self.try_handle_events(now) {
            tracing::warn!(error = chain(&error), "cannot follow the cgroups of this node");
        }
    }

    fn try_handle_events(&mut self, now: Instant) -> Result<(), S::Error> {
        let Ok(kernel) = &mut self.slots.kernel else { return Ok(()) };
        let events = kernel.source.events()?;
        if events.contains(&CgroupEvent::Missed) {
            return self.scan(now);
        }
        let mut opened = HashMap::new();
        if events.iter().any(|event| matches!(event, CgroupEvent::Opened(_))) {
            opened.extend(kernel.source.enrolled()?.into_iter().map(|e| (e.cgroup, e)));
        }
        for event in events {
            match event {
                CgroupEvent::Opened(cgroup) => {
                    // It may have been released meanwhile.
                    if let Some(enrolled) = opened.get(&cgroup) {
                        self.slot_opened(enrolled, now)?;
                    }
                }
                CgroupEvent::Ended(cgroup) => self.cgroup_ended(cgroup, now)?,
                CgroupEvent::Missed => {}
            }
        }
        Ok(())
    }

    /// Releases orphans at an orderly end, provided that the controller has seen every Trace and none records here. Otherwise nobody
    /// would remove what is pinned.
    pub(super) fn shut_down(&mut self) {
        if self.sessions.is_empty() && matches!(self.orphans, Orphans::Until(_)) {
            self.release_orphans();
        }
    }

    fn release_orphans(&mut self) {
        self.orphans = Orphans::None;
        if let Err(error) = self.update_enrol_new() {
            tracing::warn!(error = chain(&error), "cannot stop waiting for new cgroups");
        }
        self.reconcile_all_or_warn();
    }

    /// Tells the controller that something changed for these sessions.
    fn notify(&self, sessions: &BTreeSet<Session>) {
        for session in sessions {
            // It fails where no controller runs.
            let _ = self.events.send(session.trace.clone());
        }
    }

    /// Makes the kernel open slots for new cgroups exactly while a session may want them.
    fn update_enrol_new(&mut self) -> Result<(), S::Error> {
        self.slots.set_enrol_new(!self.sessions.is_empty() || self.orphans != Orphans::None)
    }
}

#[cfg(test)]
mod tests;
