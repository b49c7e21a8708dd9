//! Queries of the controller: they change nothing.

use std::time::Duration;

use gadgetd_core::{Capture, CgroupSource, Container, Loss, Machine, Recorded};
use gadgetd_kube::{
    controller::{NodeError, RecordingProgress, Session},
    documents::Recording,
    machine::{FoundPod, Selection},
};

use super::RecordingStore;
use crate::recorder::{
    Status,
    container::TrackedContainer,
    info::{ContainerInfo, Match},
    snapshot::{merge, monotonic},
};

impl<S: CgroupSource> RecordingStore<S> {
    /// The pods that a selection finds.
    pub(in crate::recorder) fn find(&self, selection: &Selection) -> Result<Vec<FoundPod>, NodeError> {
        self.pods.listed().map_err(NodeError::Unavailable)?;
        let any_container = Selection { container: None, ..selection.clone() };
        let mut found: Vec<_> = self
            .pods
            .present()
            .filter(|pod| {
                let mut info = ContainerInfo { name: Some(String::new()), ..ContainerInfo::default() };
                info.update_from_pod(pod, "", &self.settings.node);
                info.matches(&any_container) == Match::Yes
            })
            .map(|pod| FoundPod {
                namespace: pod.namespace.clone(),
                pod: pod.name.clone(),
                containers: pod.containers.clone(),
            })
            .collect();
        found.sort_by(|a, b| (&a.namespace, &a.pod).cmp(&(&b.namespace, &b.pod)));
        Ok(found)
    }

    /// How far a session has come.
    pub(in crate::recorder) fn progress(&self, session: &Session) -> Result<RecordingProgress, NodeError> {
        let Some(file) = self.sessions.get(session) else { return Ok(RecordingProgress::default()) };
        let mut calls = file.calls.clone();
        let now = monotonic();
        let mut since_new = file.last_new.map(|last| now.saturating_sub(Duration::from_millis(last)));
        let mut containers = file.released_count;
        let mut ended = Vec::new();
        for (id, container) in self.members(session) {
            containers += container.instances();
            for recorded in self.slots.read(container)? {
                calls.extend(recorded.syscalls.iter().map(|call| (call.abi, call.number)));
                since_new = since_new.into_iter().chain(recorded.since_new).min();
            }
            if container.ended.is_some() {
                ended.push(id.clone());
            }
        }
        let syscalls = u32::try_from(calls.len()).unwrap_or(u32::MAX);
        Ok(RecordingProgress { containers, syscalls, since_new, ended })
    }

    /// The recordings of a session, in the order in which the containers appeared.
    pub(in crate::recorder) fn recordings(&self, session: &Session) -> Result<Vec<Recording>, NodeError> {
        let Some(file) = self.sessions.get(session) else { return Ok(Vec::new()) };
        let mut recordings = Vec::new();
        for (id, container) in self.members(session) {
            let info = &container.info;
            recordings.push(Recording {
                capture: capture(info.container(id, &container.cgroup), self.slots.read(container)?),
                ended: container.ended.is_some(),
                alone: file.selection.container.is_some() || info.siblings == Some(1),
                owner: info.owner.clone(),
                earlier: container.instances() - 1,
            });
        }
        Ok(recordings)
    }

    /// The containers of a session, in the order in which they appeared.
    fn members(&self, session: &Session) -> Vec<(&String, &TrackedContainer)> {
        let mut members: Vec<_> =
            self.containers.iter().filter(|(_, c)| c.sessions.contains(session)).collect();
        members.sort_by_key(|(_, container)| container.sequence);
        members
    }

    pub(in crate::recorder) fn status(&self) -> Status {
        let recorded = || self.containers.values().filter(|c| !c.sessions.is_empty());
        let ended = recorded().filter(|c| c.ended.is_some()).count();
        let pods = match self.pods.problem() {
            Some(problem) => Err(format!("the pods of this node cannot be watched: {problem}")),
            None => self.pods.listed(),
        };
        Status {
            kernel: self.slots.kernel.as_ref().map(|_| ()).map_err(Clone::clone),
            pods,
            traces: self.traces_listed,
            sessions: self.sessions.len(),
            running: recorded().count() - ended,
            ended,
            slots: self.slots.len(),
        }
    }

    /// The losses of all recordings, present and past.
    pub(in crate::recorder) fn losses(&self) -> Vec<Loss> {
        self.slots.losses(self.containers.values())
    }
}

/// The recordings of one container, as one capture.
fn capture(container: Container, recorded: Vec<Recorded>) -> Capture {
    let Recorded { syscalls, refused, completeness, .. } = merge(recorded);
    Capture { container, machine: Machine::current(), syscalls, refused, completeness }
}
