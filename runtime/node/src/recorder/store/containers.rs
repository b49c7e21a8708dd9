//! The way of a container into recordings: its cgroup appears, it is identified, and it is reconciled with the sessions.

use std::{collections::BTreeSet, time::Instant};

use gadgetd_containers::{Identity, identify};
use gadgetd_core::{CgroupSource, Enrolled};

use super::{Orphans, RecordingStore};
use crate::{
    chain,
    recorder::{container::TrackedContainer, info::Match, snapshot::Snapshot},
};

impl<S: CgroupSource> RecordingStore<S> {
    /// A slot was opened for a cgroup.
    pub(super) fn slot_opened(&mut self, enrolled: &Enrolled, now: Instant) -> Result<(), S::Error> {
        let cgroup = enrolled.cgroup;
        if self.slots.owner(cgroup).is_some() {
            return Ok(());
        }
        let Ok(kernel) = &mut self.slots.kernel else { return Ok(()) };
        let path = enrolled.path.clone().or_else(|| {
            let tree = kernel.hierarchy.tree("/");
            tree.into_iter().find(|(_, id)| *id == cgroup).map(|(path, _)| path)
        });
        let Some(identity) = path.as_deref().and_then(identify) else {
            return kernel.source.release(cgroup);
        };
        let id = self.track(&identity, now);
        let Some(container) = self.containers.get_mut(&id) else { return Ok(()) };
        if container.cgroup != identity.cgroup {
            // A process that may make cgroups in its container could pretend to be another container.
            tracing::warn!(
                cgroup = path,
                container = id,
                "is not recorded: the container has another cgroup"
            );
            return match &mut self.slots.kernel {
                Ok(kernel) => kernel.source.release(cgroup),
                Err(_) => Ok(()),
            };
        }
        if container.has_snapshot_of(cgroup) {
            // The slot was released since it was listed.
            return Ok(());
        }
        if path.as_ref() == Some(&container.cgroup) {
            container.cgroup_id = Some(cgroup);
        }
        container.slots.insert(cgroup);
        self.slots.assign(&id, [cgroup]);
        self.reconcile(&id)
    }

    /// Tracks a container that exists, and returns its id.
    pub(super) fn track(&mut self, identity: &Identity, now: Instant) -> String {
        let id = identity.id.clone();
        if !self.containers.contains_key(&id) {
            self.containers.insert(id.clone(), TrackedContainer::new(identity, self.next_sequence, now));
            self.next_sequence += 1;
            self.update_info(&id);
        }
        id
    }

    /// Updates what is known of a container, from its pod and its runtime.
    pub(super) fn update_info(&mut self, id: &str) {
        let Some(container) = self.containers.get_mut(id) else { return };
        let (info, node) = (&mut container.info, &self.settings.node);
        let uid = container.pod_uid.as_deref();
        if let Some(pod) = uid.and_then(|uid| self.pods.get(uid)) {
            info.update_from_pod(pod, id, node);
        }
        // A container that has a name by now and was not described before will not be described.
        let first = container.slots.is_empty() && container.persisted.is_none();
        if info.described || info.foreign || (info.name.is_some() && !first) {
            return;
        }
        match self.runtimes.describe(id) {
            Ok(Some(described)) => {
                info.update_from_runtime(described, uid, node);
                let uid = info.pod.as_ref().map(|p| p.uid.clone());
                if let Some(pod) = uid.and_then(|uid| self.pods.get(&uid)) {
                    info.update_from_pod(pod, id, node);
                }
            }
            Ok(None) => {}
            Err(error) => {
                tracing::debug!(container = id, error = chain(&error), "cannot read its description");
            }
        }
    }

    /// Adds a container to the sessions that select it, keeps its slot while a session may select it, or releases it.
    pub(super) fn reconcile(&mut self, id: &str) -> Result<(), S::Error> {
        let Some(container) = self.containers.get_mut(id) else { return Ok(()) };
        let mut joined = BTreeSet::new();
        container.candidate = false;
        for (session, file) in &self.sessions {
            if container.sessions.contains(session) || file.released.contains_key(id) {
                continue;
            }
            match container.info.matches(&file.selection) {
                Match::Yes => drop(joined.insert(session.clone())),
                Match::Unknown => container.candidate = true,
                Match::No => {}
            }
        }
        // A container that ended and left no recording cannot be recorded any more.
        if container.ended.is_some() && container.slots.is_empty() && container.snapshot.is_none() {
            joined.clear();
            container.sessions.clear();
            container.candidate = false;
        }
        container.sessions.extend(joined.iter().cloned());
        let wanted = !container.sessions.is_empty() || container.candidate;
        let orphan = self.orphans != Orphans::None && !container.info.foreign;
        let forget = container.ended.is_some() && !wanted && !orphan;
        let mut done = Ok(());
        if wanted {
            done = self.slots.enrol(id, container);
        } else if !orphan {
            // The journal comes first: after a crash, a slot without a file is found, and a file without a slot is not understood.
            container.persist(id, &self.journal);
            done = self.slots.release(container);
            if done.is_ok() {
                self.slots.count_lost(container.snapshot.take().as_ref().map_or(&[], Snapshot::losses));
            }
        }
        container.persist(id, &self.journal);
        if forget && done.is_ok() {
            self.containers.remove(id);
            return Ok(());
        }
        for session in &joined {
            tracing::info!(container = id, trace = session.trace, "records a container");
        }
        self.notify(&joined);
        done.and_then(|()| self.archive(id))
    }

    pub(super) fn reconcile_or_warn(&mut self, id: &str) {
        if let Err(error) = self.reconcile(id) {
            tracing::warn!(
                container = id,
                error = chain(&error),
                "cannot record, or stop recording, a container"
            );
        }
    }

    /// Reconciles every container. Returns the first failure, and goes on after it.
    pub(super) fn reconcile_all(&mut self) -> Result<(), S::Error> {
        let all: Vec<_> = self.containers.keys().cloned().collect();
        let mut outcome = Ok(());
        for id in all {
            let reconciled = self.reconcile(&id);
            outcome = outcome.and(reconciled);
        }
        if self.sessions.is_empty() && self.orphans == Orphans::None {
            // The next session finds the others again.
            self.containers.retain(|_, container| !container.slots.is_empty());
        }
        outcome
    }

    pub(super) fn reconcile_all_or_warn(&mut self) {
        if let Err(error) = self.reconcile_all() {
            tracing::warn!(error = chain(&error), "cannot give back a slot");
        }
    }
}
