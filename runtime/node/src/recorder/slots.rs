//! The slots in the kernel, and the containers that they belong to.

use std::collections::{BTreeMap, BTreeSet};

use gadgetd_core::{CgroupId, CgroupSource, Entry, Loss, NewCgroups, Recorded};
use gadgetd_kube::controller::NodeError;

use super::{
    Kernel,
    container::TrackedContainer,
    snapshot::{Snapshot, merge_losses},
    unavailable,
};

pub(super) type Loader<S> = Box<dyn FnMut() -> Result<Kernel<S>, String>>;

/// The eBPF side of this node.
pub(super) struct Slots<S: CgroupSource> {
    pub(super) loader: Loader<S>,
    /// The loaded programs and cgroups, or why they could not be loaded.
    pub(super) kernel: Result<Kernel<S>, String>,
    /// The container of each slot.
    owners: BTreeMap<CgroupId, String>,
    /// Whether the kernel opens slots for new cgroups; `None`: it was not told yet.
    enrols_new: Option<bool>,
    /// The losses of containers that are forgotten.
    past_losses: Vec<Loss>,
}

impl<S: CgroupSource> Slots<S> {
    pub(super) fn new(loader: Loader<S>) -> Self {
        Self {
            loader,
            kernel: Err("the kernel side is not loaded yet".into()),
            owners: BTreeMap::new(),
            enrols_new: None,
            past_losses: Vec::new(),
        }
    }

    /// Loads the eBPF side (again).
    pub(super) fn load(&mut self) -> Result<(), String> {
        self.enrols_new = None;
        self.kernel = Ok((self.loader)()?);
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.owners.len()
    }

    pub(super) fn owner(&self, slot: CgroupId) -> Option<&String> {
        self.owners.get(&slot)
    }

    /// Notes that slots belong to a container.
    pub(super) fn assign(&mut self, id: &str, slots: impl IntoIterator<Item = CgroupId>) {
        self.owners.extend(slots.into_iter().map(|slot| (slot, id.to_owned())));
    }

    /// Forgets slots that are not among these.
    pub(super) fn retain(&mut self, present: &BTreeSet<CgroupId>) {
        self.owners.retain(|slot, _| present.contains(slot));
    }

    /// Makes the kernel open slots for new cgroups, or stop doing so.
    pub(super) fn set_enrol_new(&mut self, on: bool) -> Result<(), S::Error> {
        if let Ok(kernel) = &mut self.kernel
            && self.enrols_new != Some(on)
        {
            kernel.source.enrol_new(if on { NewCgroups::All } else { NewCgroups::None })?;
            self.enrols_new = Some(on);
        }
        Ok(())
    }

    /// Opens a slot for a container that has none.
    pub(super) fn enrol(&mut self, id: &str, container: &mut TrackedContainer) -> Result<(), S::Error> {
        let Ok(kernel) = &mut self.kernel else { return Ok(()) };
        if !container.slots.is_empty() || container.ended.is_some() {
            return Ok(());
        }
        let at = |kernel: &Kernel<S>, cgroup: &str| kernel.hierarchy.id(cgroup).ok().flatten();
        let Some(cgroup) = at(kernel, &container.cgroup) else { return Ok(()) };
        if let Err(error) = kernel.source.enrol(cgroup, Entry::Runtime) {
            // The cgroup may be gone by now: then the next scan finds that the container has ended.
            return if at(kernel, &container.cgroup) == Some(cgroup) { Err(error) } else { Ok(()) };
        }
        container.cgroup_id = Some(cgroup);
        container.slots.insert(cgroup);
        self.assign(id, [cgroup]);
        Ok(())
    }

    /// The recording of a container: its snapshot, and its slots.
    pub(super) fn read(&self, container: &TrackedContainer) -> Result<Vec<Recorded>, NodeError> {
        let kernel = self.kernel.as_ref().map_err(|text| NodeError::Unavailable(text.clone()))?;
        let snapshot = container.snapshot.as_ref().map(|s| Ok(s.recorded(kernel.source.losses()?)));
        let slots = container.unsaved_slots().map(|slot| kernel.source.read(slot));
        snapshot.into_iter().chain(slots).collect::<Result<_, _>>().map_err(unavailable)
    }

    /// A snapshot of a container whose cgroup is gone; `None` if it exists, or has no slot.
    pub(super) fn snapshot(&self, container: &TrackedContainer) -> Result<Option<Snapshot>, S::Error> {
        let Ok(kernel) = &self.kernel else { return Ok(None) };
        // A cgroup that exists may be populated again.
        if container.slots.is_empty() || !matches!(kernel.hierarchy.id(&container.cgroup), Ok(None)) {
            return Ok(None);
        }
        let unsaved = container.unsaved_slots().map(|slot| Ok((slot, kernel.source.read(slot)?)));
        Ok(Some(Snapshot::new(container.snapshot.as_ref(), unsaved.collect::<Result<_, S::Error>>()?)))
    }

    /// Releases the slots of a container.
    pub(super) fn release(&mut self, container: &mut TrackedContainer) -> Result<(), S::Error> {
        let Ok(kernel) = &mut self.kernel else { return Ok(()) };
        while let Some(slot) = container.slots.first().copied() {
            if !container.has_snapshot_of(slot)
                && let Ok(recorded) = kernel.source.read(slot)
            {
                self.past_losses =
                    merge_losses([std::mem::take(&mut self.past_losses), recorded.completeness.losses]);
            }
            kernel.source.release(slot)?;
            container.slots.remove(&slot);
            self.owners.remove(&slot);
        }
        Ok(())
    }

    /// Counts the losses of a recording that is forgotten.
    pub(super) fn count_lost(&mut self, losses: &[Loss]) {
        self.past_losses = merge_losses([std::mem::take(&mut self.past_losses), losses.to_vec()]);
    }

    /// The losses of these containers and of forgotten ones.
    pub(super) fn losses<'a>(&self, containers: impl Iterator<Item = &'a TrackedContainer>) -> Vec<Loss> {
        let present = containers.filter_map(|container| self.read(container).ok()).flatten();
        let present = present.map(|recorded| recorded.completeness.losses);
        merge_losses(std::iter::once(self.past_losses.clone()).chain(present))
    }
}
