//! Containers that have ended: their recordings move from the kernel into the journal, and wait there for documents.
//!
//! Of a container that keeps restarting, the oldest recordings are merged, so their number is bounded.

use std::{collections::BTreeMap, fs, time::Instant};

use gadgetd_core::{CgroupId, CgroupSource};

use super::RecordingStore;
use crate::recorder::{Kernel, container::TrackedContainer, journal::Journal};

/// Recordings of ended containers of one name that are not merged.
pub(super) const ARCHIVED_PER_NAME_MAX: usize = 8;

impl<S: CgroupSource> RecordingStore<S> {
    /// A cgroup with a slot lost its last process, or was removed.
    pub(super) fn cgroup_ended(&mut self, cgroup: CgroupId, now: Instant) -> Result<(), S::Error> {
        let Some(id) = self.slots.owner(cgroup).cloned() else { return Ok(()) };
        let Some(container) = self.containers.get_mut(&id).filter(|c| c.cgroup_id == Some(cgroup)) else {
            return Ok(());
        };
        container.has_run = true;
        let there =
            |kernel: &Kernel<S>| kernel.hierarchy.id(&container.cgroup).ok().flatten() == Some(cgroup);
        if self.slots.kernel.as_ref().is_ok_and(there) {
            self.check_ended(&id, now)
        } else {
            self.container_ended(&id, now)
        }
    }

    /// A container has ended.
    pub(super) fn container_ended(&mut self, id: &str, now: Instant) -> Result<(), S::Error> {
        self.update_info(id);
        let Some(container) = self.containers.get_mut(id) else { return Ok(()) };
        if container.ended.is_some() {
            return Ok(());
        }
        container.ended = Some(now);
        let sessions = container.sessions.clone();
        tracing::debug!(container = id, recorded = !sessions.is_empty(), "a container has ended");
        let reconciled = self.reconcile(id);
        self.notify(&sessions);
        reconciled
    }

    /// Checks whether a container whose cgroup exists has ended. Some runtimes leave the cgroup until the container is removed, and
    /// an empty cgroup may be populated again.
    pub(super) fn check_ended(&mut self, id: &str, now: Instant) -> Result<(), S::Error> {
        let (Ok(kernel), Some(container)) = (&self.slots.kernel, self.containers.get_mut(id)) else {
            return Ok(());
        };
        if container.slots.is_empty() {
            return Ok(());
        }
        let events = kernel.hierarchy.directory(&container.cgroup).join("cgroup.events");
        let Ok(events) = fs::read_to_string(events) else { return Ok(()) };
        if events.lines().any(|line| line == "populated 1") {
            container.has_run = true;
            container.ended = None;
            return Ok(());
        }
        // A container in which nothing has run yet has not started.
        let called = |slot: &CgroupId| kernel.source.read(*slot).is_ok_and(|r| !r.syscalls.is_empty());
        if container.has_run || container.slots.iter().any(called) {
            self.container_ended(id, now)
        } else {
            Ok(())
        }
    }

    /// Moves the recording of an ended container from the kernel into the journal, so that the number of slots bounds the running
    /// containers, not the ended ones.
    pub(super) fn archive(&mut self, id: &str) -> Result<(), S::Error> {
        let Some(container) = self.containers.get_mut(id) else { return Ok(()) };
        if container.ended.is_none() || container.sessions.is_empty() {
            return Ok(());
        }
        let Some(snapshot) = self.slots.snapshot(container)? else { return Ok(()) };
        let before = container.snapshot.replace(snapshot);
        if !container.persist(id, &self.journal) {
            // The recording stays in the kernel until the journal has it.
            container.snapshot = before;
            return Ok(());
        }
        self.slots.release(container)?;
        container.persist(id, &self.journal);
        compact(&mut self.containers, &self.journal, id);
        Ok(())
    }
}

/// Merges the oldest recordings of ended containers of one name and the same sessions, if there are more than
/// [`ARCHIVED_PER_NAME_MAX`]. Documents are about all of them anyway.
fn compact(containers: &mut BTreeMap<String, TrackedContainer>, journal: &Journal, id: &str) {
    let Some(last) = containers.get(id).filter(|c| c.is_archived()) else { return };
    let alike = |c: &TrackedContainer| {
        c.is_archived() && c.sessions == last.sessions && c.info.is_namesake(&last.info)
    };
    let alike = containers.iter().filter(|(_, c)| alike(c));
    let mut alike: Vec<_> = alike.map(|(id, c)| (c.sequence, id.clone())).collect();
    alike.sort_unstable();
    for pair in alike.windows(2).take(alike.len().saturating_sub(ARCHIVED_PER_NAME_MAX)) {
        let [(_, oldest), (_, next)] = pair else { return };
        let earlier = containers.get(oldest).and_then(|c| c.snapshot.clone());
        let Some((container, earlier)) = containers.get_mut(next).zip(earlier) else { return };
        let before = container.snapshot.take();
        container.snapshot = before.as_ref().map(|own| own.merged_with(oldest, &earlier));
        // A crash from here on leaves a file that is also in another: the next start removes it.
        if !(container.persist(next, journal) && journal.remove_merged(oldest)) {
            container.snapshot = before;
            container.persist(next, journal);
            return;
        }
        containers.remove(oldest);
    }
}
