//! A container that the recorder tracks, and its file in the journal.

use std::{collections::BTreeSet, time::Instant};

use gadgetd_containers::Identity;
use gadgetd_core::CgroupId;
use gadgetd_kube::controller::Session;

use super::{
    info::ContainerInfo,
    journal::{ContainerFile, Journal},
    snapshot::Snapshot,
};
use crate::chain;

/// A container that is recorded, or may turn out to be selected.
pub(super) struct TrackedContainer {
    /// The path of its cgroup; it may have made others below.
    pub(super) cgroup: String,
    /// The id of that cgroup, once it is known.
    pub(super) cgroup_id: Option<CgroupId>,
    /// The uid of its pod, from the path of the cgroup.
    pub(super) pod_uid: Option<String>,
    /// Its slots: that of its own cgroup, and those of cgroups that its runtime made below.
    pub(super) slots: BTreeSet<CgroupId>,
    /// Numbers containers in the order in which they appeared.
    pub(super) sequence: u64,
    /// The sessions that record it.
    pub(super) sessions: BTreeSet<Session>,
    /// Whether a session may select it once more is known.
    pub(super) candidate: bool,
    pub(super) first_seen: Instant,
    pub(super) ended: Option<Instant>,
    /// Whether it has had a process.
    pub(super) has_run: bool,
    pub(super) info: ContainerInfo,
    /// What was recorded and has left the kernel.
    pub(super) snapshot: Option<Snapshot>,
    /// Its file in the journal, as last written.
    pub(super) persisted: Option<ContainerFile>,
}

impl TrackedContainer {
    pub(super) fn new(identity: &Identity, sequence: u64, now: Instant) -> Self {
        Self {
            cgroup: identity.cgroup.clone(),
            cgroup_id: None,
            pod_uid: identity.pod_uid.clone(),
            slots: BTreeSet::new(),
            sequence,
            sessions: BTreeSet::new(),
            candidate: false,
            first_seen: now,
            ended: None,
            has_run: false,
            info: ContainerInfo::default(),
            snapshot: None,
            persisted: None,
        }
    }

    /// A container that an earlier process recorded, and these sessions still do.
    pub(super) fn restored(file: ContainerFile, sessions: BTreeSet<Session>, now: Instant) -> Self {
        Self {
            cgroup: file.cgroup.clone(),
            cgroup_id: None,
            pod_uid: file.pod_uid.clone(),
            slots: file.slots().collect(),
            sequence: file.sequence,
            sessions,
            candidate: false,
            first_seen: now,
            ended: file.ended.then_some(now),
            has_run: false,
            info: file.info.clone(),
            snapshot: file.snapshot.clone(),
            persisted: Some(file),
        }
    }

    /// The file that the journal should have; `None` for a container that no session records.
    fn file(&self, id: &str) -> Option<ContainerFile> {
        (!self.sessions.is_empty()).then(|| ContainerFile {
            id: id.to_owned(),
            cgroup: self.cgroup.clone(),
            pod_uid: self.pod_uid.clone(),
            slots: self.slots.iter().map(|slot| slot.0).collect(),
            sequence: self.sequence,
            sessions: self.sessions.clone(),
            ended: self.ended.is_some(),
            info: self.info.clone(),
            snapshot: self.snapshot.clone(),
        })
    }

    /// Whether its recording has left the kernel.
    pub(super) fn is_archived(&self) -> bool {
        self.snapshot.is_some() && self.slots.is_empty()
    }

    /// How many containers are in its recording: itself, and those merged into it.
    pub(super) fn instances(&self) -> u32 {
        1 + self.snapshot.as_ref().map_or(0, Snapshot::earlier)
    }

    /// Whether the snapshot has the recording of a slot.
    pub(super) fn has_snapshot_of(&self, slot: CgroupId) -> bool {
        self.snapshot.as_ref().is_some_and(|snapshot| snapshot.covers(slot))
    }

    /// The slots that are not in the snapshot yet.
    pub(super) fn unsaved_slots(&self) -> impl Iterator<Item = CgroupId> {
        self.slots.iter().copied().filter(|slot| !self.has_snapshot_of(*slot))
    }

    /// Brings the journal up to date. Returns whether it is.
    pub(super) fn persist(&mut self, id: &str, journal: &Journal) -> bool {
        let file = self.file(id);
        if file == self.persisted {
            return true;
        }
        let saved = match &file {
            Some(file) => journal.save_container(file),
            None => journal.remove_container(id),
        };
        match saved {
            Ok(()) => self.persisted = file,
            // The next change retries; until then a crash would lose the recording.
            Err(error) => {
                tracing::error!(container = id, error = chain(&error), "cannot keep what is recorded");
                return false;
            }
        }
        true
    }
}
