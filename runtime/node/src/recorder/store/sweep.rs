//! The periodic sweep: finds what no event reported, and retries what failed.

use std::{
    collections::{BTreeSet, HashMap},
    time::Instant,
};

use gadgetd_containers::identify;
use gadgetd_core::{CgroupId, CgroupSource};

use super::{Orphans, RecordingStore};
use crate::{chain, recorder::container::TrackedContainer};

impl<S: CgroupSource> RecordingStore<S> {
    /// Scans cgroups and slots, retries what failed, and forgets what is over.
    pub(in crate::recorder) fn sweep(&mut self, now: Instant) {
        self.pods.prune(now);
        if matches!(self.orphans, Orphans::Until(end) if end <= now) {
            self.release_orphans();
        }
        if self.slots.kernel.is_err() && !self.sessions.is_empty() {
            // The recordings of an earlier process go on in the kernel. The reason may pass, as when that process is still ending.
            self.open(now);
        }
        if self.slots.kernel.is_err() || (self.sessions.is_empty() && self.slots.len() == 0) {
            return;
        }
        if let Err(error) = self.scan(now) {
            tracing::warn!(error = chain(&error), "cannot look at the cgroups of this node");
        }
        // These could not be released before, or their cgroup still existed when they ended.
        let idle = |c: &TrackedContainer| !c.slots.is_empty() && (c.sessions.is_empty() || c.ended.is_some());
        let idle: Vec<_> =
            self.containers.iter().filter(|(_, c)| idle(c)).map(|(id, _)| id.clone()).collect();
        for id in idle {
            self.reconcile_or_warn(&id);
        }
        self.drop_unidentified(now);
        self.prune_released();
    }

    /// Compares the store with the slots and the cgroups that exist.
    pub(super) fn scan(&mut self, now: Instant) -> Result<(), S::Error> {
        let Ok(kernel) = &self.slots.kernel else { return Ok(()) };
        // In this order, a cgroup with a slot is in the tree, or has ended.
        let enrolled = kernel.source.enrolled()?;
        let mut tree = kernel.hierarchy.tree("/");
        self.drop_lost_slots(&enrolled.iter().map(|e| e.cgroup).collect());
        for enrolled in enrolled {
            self.slot_opened(&enrolled, now)?;
        }
        // The cgroup of a container comes before one further down that pretends to be it.
        tree.sort_by_key(|(path, _)| path.matches('/').count());
        for (path, cgroup) in &tree {
            if self.sessions.is_empty() || self.slots.owner(*cgroup).is_some() {
                continue;
            }
            if let Some(identity) = identify(path).filter(|identity| identity.cgroup == *path) {
                let id = self.track(&identity, now);
                self.reconcile(&id)?;
            }
        }
        let alive: HashMap<_, _> = tree.iter().map(|(path, id)| (path.as_str(), *id)).collect();
        let all: Vec<_> = self.containers.keys().cloned().collect();
        for id in all {
            let Some(container) = self.containers.get_mut(&id) else { continue };
            match alive.get(container.cgroup.as_str()) {
                Some(cgroup) if container.cgroup_id.get_or_insert(*cgroup) == cgroup => {
                    self.check_ended(&id, now)?;
                }
                _ => self.container_ended(&id, now)?,
            }
        }
        Ok(())
    }

    /// Drops slots that no longer exist because somebody removed what was pinned.
    fn drop_lost_slots(&mut self, present: &BTreeSet<CgroupId>) {
        for (id, container) in &mut self.containers {
            let lost = container.unsaved_slots().any(|slot| !present.contains(&slot));
            container.slots.retain(|slot| present.contains(slot));
            if lost {
                tracing::warn!(container = id, "what was recorded of it is gone from the kernel");
            }
        }
        self.slots.retain(present);
    }

    /// Releases containers that nothing has identified in time.
    fn drop_unidentified(&mut self, now: Instant) {
        let timeout = self.settings.identify_timeout;
        let unknown = self.containers.iter().filter(|(_, c)| c.candidate && c.sessions.is_empty());
        let unknown: Vec<_> = unknown.map(|(id, _)| id.clone()).collect();
        for id in unknown {
            self.update_info(&id);
            self.reconcile_or_warn(&id);
            let Some(container) = self.containers.get_mut(&id).filter(|c| c.candidate) else { continue };
            // A container in a pod's cgroup is identified while it runs; any other has nothing to do with Kubernetes.
            let since = container.ended.or(container.pod_uid.is_none().then_some(container.first_seen));
            if since.is_some_and(|since| now.duration_since(since) > timeout) {
                tracing::warn!(
                    container = id,
                    cgroup = container.cgroup,
                    "is not recorded: neither the API server nor the container runtime's state told whose it is"
                );
                container.info.foreign = true;
                self.reconcile_or_warn(&id);
            }
        }
    }

    /// Drops released containers whose cgroup no longer exists.
    fn prune_released(&mut self) {
        let Ok(kernel) = &self.slots.kernel else { return };
        for session in self.sessions.values_mut() {
            let before = session.released.len();
            session.released.retain(|id, cgroup| {
                self.containers.contains_key(id) || kernel.hierarchy.id(cgroup).ok().flatten().is_some()
            });
            if session.released.len() < before
                && let Err(error) = self.journal.save_session(session)
            {
                tracing::warn!(error = chain(&error), "cannot keep what is recorded");
            }
        }
    }
}
