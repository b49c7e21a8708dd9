use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::CStr,
    os::fd::{AsFd, BorrowedFd},
    path::PathBuf,
    time::Duration,
};

use aya::maps::MapError;
use gadgetd_containers::Hierarchy;
use gadgetd_core::{
    CgroupEvent, CgroupId, CgroupSource, Completeness, Enrolled, Entry, Loss, NewCgroups, Recorded,
    SyscallSource,
};
use gadgetd_ebpf_common::{EnrolNew, Event, Owner, PATH, Slot, event, flag};
use rustix::time::{ClockId, clock_gettime};

use crate::{
    LoadError, TracerError, kernel,
    object::{FILE, Object, Shared},
    pins::Pins,
    slot::{counted, losses, refused, syscalls, undecided},
};

/// How to load the tracer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracerOptions {
    /// How many containers can be recorded at once, 1 to [`TracerOptions::MAX_SLOTS`]. Each takes about 3 KiB of kernel
    /// memory, all of it taken when the tracer is loaded.
    pub slots: u32,
    /// A folder on a bpf file system in which to pin everything while something is recorded. The recording then goes on
    /// when the process is gone, and who next loads a tracer with the same folder goes on with it. `None`: a
    /// recording ends with its process.
    pub pin: Option<PathBuf>,
}

impl TracerOptions {
    /// The most slots that there can be.
    pub const MAX_SLOTS: u32 = 1 << 20;
}

impl Default for TracerOptions {
    fn default() -> Self {
        Self { slots: 8_192, pin: None }
    }
}

/// The eBPF program, loaded. Dropping it takes the program out of the kernel, unless something is recorded and
/// [pinned](TracerOptions::pin).
pub struct Tracer {
    object: Object,
    hierarchy: Hierarchy,
    slots: u32,
    /// Slots that were taken from their cgroups, while programs may still be writing to them.
    retired: Vec<u32>,
    /// Lost events that were told of; `None` before anything was told of what was taken over.
    lost_events: Option<u64>,
}

impl Tracer {
    /// Loads the eBPF program. Nothing is attached until something is enrolled.
    ///
    /// If something is recorded that an earlier process [pinned](TracerOptions::pin), goes on with that: what was enrolled
    /// is, with all that was recorded meanwhile, and the first of [`events`](CgroupSource::events) is
    /// [`CgroupEvent::Missed`]. What was pinned by another version of the program, or one with another number of slots, is
    /// removed.
    pub fn load(options: &TracerOptions) -> Result<Self, LoadError> {
        let slots = options.slots;
        if !(1..=TracerOptions::MAX_SLOTS).contains(&slots) {
            return Err(LoadError::Slots(slots));
        }
        kernel::check_rights()?;
        kernel::check_lockdown()?;
        let hierarchy = Hierarchy::find()?;
        let pins = options.pin.as_deref().map(|folder| Pins::claim(folder, slots, FILE)).transpose()?;
        match pins {
            Some(pins) if pins.hold_a_recording() => Self::adopt(pins, hierarchy, slots),
            pins => Self::begin(pins, hierarchy, slots),
        }
    }

    fn begin(pins: Option<Pins>, hierarchy: Hierarchy, slots: u32) -> Result<Self, LoadError> {
        let mut object = Object::load(slots, pins)?;
        for index in 0..slots {
            object.free.push(index, 0).map_err(|error| LoadError::Object(error.into()))?;
        }
        Ok(Self { object, hierarchy, slots, retired: Vec::new(), lost_events: Some(0) })
    }

    fn adopt(pins: Pins, hierarchy: Hierarchy, slots: u32) -> Result<Self, LoadError> {
        tracing::info!(folder = %pins.current().display(), "goes on with what an earlier process recorded");
        let object = Object::adopt(pins)?;
        let mut this = Self { object, hierarchy, slots, retired: Vec::new(), lost_events: None };
        this.mend().map_err(LoadError::Adoption)?;
        Ok(this)
    }

    /// Ends what an earlier process was in the middle of when it was killed: giving a slot back, or opening one.
    fn mend(&mut self) -> Result<(), TracerError> {
        // Cgroups of slots whose owner was taken away.
        let mut left = Vec::new();
        for entry in &self.object.cgroups {
            let (id, index) = entry.map_err(map("CGROUPS"))?;
            let owner = self.object.owners.get(&index, 0).map_err(map("OWNERS"))?.0;
            if self.slot_of(CgroupId(owner.cgroup))?.is_none_or(|(slot, _)| slot != index) {
                left.push(id);
            }
        }
        for id in &left {
            found(self.object.cgroups.remove(id).map(Some)).map_err(map("CGROUPS"))?;
        }
        if !left.is_empty() {
            self.object.invalidate()?;
        }

        // Slots that nobody owns and that are not free either. The kernel side goes on taking free ones (and gives back one
        // that it has no use for), so who is missing in the first look gets another.
        let mut missing: BTreeSet<_> = (0..self.slots).collect();
        for _ in 0..2 {
            for index in self.free()? {
                missing.remove(&index);
            }
            self.object.wait()?;
            for entry in &self.object.cgroups {
                missing.remove(&entry.map_err(map("CGROUPS"))?.1);
            }
            if missing.is_empty() {
                break;
            }
        }
        self.retired.extend(missing);
        self.reclaim()?;

        for enrolled in self.enrolled()? {
            let (index, owner) = self.owned(enrolled.cgroup)?;
            // A cgroup that is gone has none below it.
            let tree = if owner.flags & flag::TYING == 0 { Vec::new() } else { self.hierarchy.tree("/") };
            let Some((path, _)) = tree.into_iter().find(|(_, id)| *id == enrolled.cgroup) else { continue };
            let above = path.rsplit_once('/').map(|(above, _)| if above.is_empty() { "/" } else { above });
            let above = above.and_then(|above| self.hierarchy.id(above).ok().flatten());
            let before = above.map(|above| self.slot_of(above)).transpose()?.flatten();
            self.tie(enrolled.cgroup, &path, index, before.map(|(index, _)| index))?;
            self.change(index, |owner| owner.flags &= !flag::TYING)?;
        }
        self.detach_if_idle()
    }

    /// The slots that are free. Each is taken and put back: there is no other way to look at them.
    fn free(&mut self) -> Result<BTreeSet<u32>, TracerError> {
        let mut free = BTreeSet::new();
        for _ in 0..self.slots {
            let index = match self.object.free.pop(0) {
                Ok(index) => index,
                Err(MapError::ElementNotFound) => break,
                Err(error) => return Err(map("FREE")(error)),
            };
            self.object.free.push(index, 0).map_err(map("FREE"))?;
            // They are in a row: the first one comes again when all have been seen.
            if !free.insert(index) {
                break;
            }
        }
        Ok(free)
    }

    /// Whether the program is attached to the kernel: while something is enrolled, or new cgroups are to be.
    pub fn is_attached(&self) -> bool {
        self.object.is_attached()
    }

    /// The slot that a cgroup records into, and its owner.
    fn slot_of(&self, cgroup: CgroupId) -> Result<Option<(u32, Owner)>, TracerError> {
        let Some(index) = found(self.object.cgroups.get(&cgroup.0, 0).map(Some)).map_err(map("CGROUPS"))?
        else {
            return Ok(None);
        };
        let owner = self.object.owners.get(&index, 0).map_err(map("OWNERS"))?.0;
        Ok(Some((index, owner)))
    }

    /// The slot that a cgroup owns.
    fn owned(&self, cgroup: CgroupId) -> Result<(u32, Owner), TracerError> {
        let slot = self.slot_of(cgroup)?;
        slot.filter(|(_, owner)| owner.cgroup == cgroup.0).ok_or(TracerError::NotEnrolled(cgroup))
    }

    fn attach(&mut self) -> Result<(), TracerError> {
        if self.is_attached() { Ok(()) } else { self.object.attach() }
    }

    /// Detaches the program if there is nothing for it to do.
    fn detach_if_idle(&mut self) -> Result<(), TracerError> {
        let enrol_new = self.object.enrol_new.get(&0, 0).map_err(map("ENROL_NEW"))?.0.on != 0;
        if !enrol_new && self.object.cgroups.keys().next().is_none() {
            self.object.detach();
        }
        Ok(())
    }

    fn open(&mut self, cgroup: CgroupId, path: &str, flags: u64) -> Result<(), TracerError> {
        // The slot of a cgroup above, which this one and those below it record into so far.
        let before = self.slot_of(cgroup)?.map(|(index, _)| index);
        let index = self.take_slot()?;
        let flags = flags | flag::TYING;
        let owner = Owner { cgroup: cgroup.0, flags, path: kept(path), ..Owner::NONE };
        self.object.owners.set(index, Shared(owner), 0).map_err(map("OWNERS"))?;
        if let Err(error) = self.object.cgroups.insert(cgroup.0, index, 0) {
            self.give_back(index)?;
            return Err(map("CGROUPS")(error));
        }
        self.object.invalidate()?;
        self.tie(cgroup, path, index, before)?;
        self.change(index, |owner| owner.flags &= !flag::TYING)
    }

    /// Changes what only user space changes of a slot in use.
    fn change(&mut self, index: u32, change: impl FnOnce(&mut Owner)) -> Result<(), TracerError> {
        let mut owner = self.object.owners.get(&index, 0).map_err(map("OWNERS"))?.0;
        change(&mut owner);
        self.object.owners.set(index, Shared(owner), 0).map_err(map("OWNERS"))
    }

    /// Ties the cgroups below one to its slot. What is made from now on the kernel side ties itself; the last look finds
    /// nothing that was made in between.
    fn tie(&mut self, top: CgroupId, path: &str, index: u32, before: Option<u32>) -> Result<(), TracerError> {
        loop {
            let mut tied = false;
            for (_, cgroup) in self.hierarchy.tree(path) {
                let now = self.slot_of(cgroup)?.map(|(index, _)| index);
                if cgroup == top || now.is_some_and(|now| Some(now) != before) {
                    continue;
                }
                if self.object.cgroups.insert(cgroup.0, index, 0).is_ok() {
                    tied = true;
                } else {
                    self.change(index, |owner| owner.lost_children += 1)?;
                }
            }
            if !tied {
                return Ok(());
            }
            self.object.invalidate()?;
        }
    }

    /// Takes a slot's cgroups away from it.
    fn close(&mut self, index: u32, owner: CgroupId) -> Result<(), TracerError> {
        // The owner first: a slot without one is known for one that is being given back.
        let mut tied = vec![owner.0];
        while !tied.is_empty() {
            for id in tied {
                found(self.object.cgroups.remove(&id).map(Some)).map_err(map("CGROUPS"))?;
            }
            // A child cgroup that is being made at this moment may be tied once more.
            tied =
                self.object.cgroups.iter().flatten().filter(|(_, i)| *i == index).map(|(id, _)| id).collect();
        }
        self.object.invalidate()?;
        self.retired.push(index);
        // Waiting takes some 10 ms, so a few slots wait together. They are too few to be missed.
        if self.retired.len() >= self.slots as usize / 64 { self.reclaim() } else { Ok(()) }
    }

    /// Waits until no program can be using a retired slot, and makes them all free.
    fn reclaim(&mut self) -> Result<(), TracerError> {
        self.object.wait()?;
        while let Some(index) = self.retired.pop() {
            self.object.slots.set(index, Shared(Slot::EMPTY), 0).map_err(map("SLOTS"))?;
            self.give_back(index)?;
        }
        Ok(())
    }

    /// Takes a free slot.
    fn take_slot(&mut self) -> Result<u32, TracerError> {
        loop {
            match self.object.free.pop(0) {
                Ok(index) => return Ok(index),
                Err(MapError::ElementNotFound) if !self.retired.is_empty() => self.reclaim()?,
                Err(MapError::ElementNotFound) => return Err(TracerError::SlotsExhausted(self.slots)),
                Err(error) => return Err(map("FREE")(error)),
            }
        }
    }

    fn give_back(&mut self, index: u32) -> Result<(), TracerError> {
        self.object.owners.set(index, Shared(Owner::NONE), 0).map_err(map("OWNERS"))?;
        self.object.free.push(index, 0).map_err(map("FREE"))
    }
}

/// Readable while [`events`](CgroupSource::events) wait.
impl AsFd for Tracer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.object.events.as_fd()
    }
}

impl SyscallSource for Tracer {
    type Error = TracerError;
    type Subject = CgroupId;

    fn read(&self, cgroup: CgroupId) -> Result<Recorded, TracerError> {
        let (index, owner) = self.owned(cgroup)?;
        let slot = self.object.slots.get(&index, 0).map_err(map("SLOTS"))?.0;
        Ok(Recorded {
            syscalls: syscalls(&slot),
            refused: refused(&slot),
            completeness: Completeness {
                losses: losses(&owner, &slot).chain(self.losses()?).collect(),
                // Who was moved in had begun elsewhere.
                from_start: owner.flags & flag::FROM_START != 0 && undecided(&slot) == 0,
            },
            since_new: since(slot.last_new),
        })
    }
}

impl CgroupSource for Tracer {
    fn enrol(&mut self, cgroup: CgroupId, entry: Entry) -> Result<(), TracerError> {
        let application = match entry {
            Entry::Runtime => 0,
            Entry::Application => flag::ENTRY_APPLICATION,
        };
        match self.owned(cgroup) {
            Ok((index, _)) => {
                let set =
                    |owner: &mut Owner| owner.flags = owner.flags & !flag::ENTRY_APPLICATION | application;
                return self.change(index, set);
            }
            Err(TracerError::NotEnrolled(_)) => {}
            Err(error) => return Err(error),
        }
        let all = self.hierarchy.tree("/");
        let (path, _) = all.iter().find(|(_, id)| *id == cgroup).ok_or(TracerError::NoCgroup(cgroup))?;
        // First of all: a child cgroup that is made while this runs must not go unseen.
        self.attach()?;
        let opened = self.open(cgroup, path, application);
        if opened.is_err() {
            self.detach_if_idle()?;
        }
        opened
    }

    fn enrol_new(&mut self, new: NewCgroups<'_>) -> Result<(), TracerError> {
        let wanted = match new {
            NewCgroups::None => EnrolNew::NONE,
            NewCgroups::All => EnrolNew::ALL,
            NewCgroups::Below(path) => below(path),
        };
        if new != NewCgroups::None {
            // First: a cgroup that gets a slot before everything is attached would not be recorded from its start.
            self.attach()?;
        }
        // The kernel side must not see half a path.
        for value in [EnrolNew { on: 0, ..wanted }, wanted] {
            self.object.enrol_new.set(0, Shared(value), 0).map_err(map("ENROL_NEW"))?;
        }
        if new == NewCgroups::None { self.detach_if_idle() } else { Ok(()) }
    }

    fn enrolled(&self) -> Result<Vec<Enrolled>, TracerError> {
        let mut enrolled = BTreeMap::new();
        for entry in &self.object.cgroups {
            let (id, index) = entry.map_err(map("CGROUPS"))?;
            let owner = self.object.owners.get(&index, 0).map_err(map("OWNERS"))?.0;
            if owner.cgroup == id {
                let from_start = owner.flags & flag::FROM_START != 0;
                let cgroup = CgroupId(id);
                enrolled.insert(id, Enrolled { cgroup, path: path(&owner), from_start });
            }
        }
        Ok(enrolled.into_values().collect())
    }

    fn events(&mut self) -> Result<Vec<CgroupEvent>, TracerError> {
        let told = self.object.told().into_iter();
        let mut events: Vec<_> = told
            .filter_map(|Event { cgroup, kind }| match kind {
                event::OPENED => Some(CgroupEvent::Opened(CgroupId(cgroup))),
                event::ENDED => Some(CgroupEvent::Ended(CgroupId(cgroup))),
                _ => None,
            })
            .collect();
        // Last: what is lost while the buffer is being emptied is counted by now.
        let lost = self.object.losses.get(&0, 0).map_err(map("LOSSES"))?.0.events;
        if self.lost_events != Some(lost) {
            self.lost_events = Some(lost);
            events.push(CgroupEvent::Missed);
        }
        Ok(events)
    }

    fn losses(&self) -> Result<Vec<Loss>, TracerError> {
        let common = self.object.losses.get(&0, 0).map_err(map("LOSSES"))?.0;
        let slots = counted(common.slots_exhausted, Loss::SlotsExhausted);
        Ok(slots.into_iter().chain(counted(self.object.missed()?, Loss::MissedEvents)).collect())
    }

    fn release(&mut self, cgroup: CgroupId) -> Result<(), TracerError> {
        let (index, _) = self.owned(cgroup)?;
        self.close(index, cgroup)?;
        self.detach_if_idle()
    }
}

/// A path as the kernel side keeps it.
fn kept(path: &str) -> [u8; PATH] {
    let mut kept = [0; PATH];
    let length = path.len().min(PATH - 1);
    kept[..length].copy_from_slice(&path.as_bytes()[..length]);
    kept
}

/// The path of a slot's owner, unless it may have been cut off.
fn path(owner: &Owner) -> Option<String> {
    let path = CStr::from_bytes_until_nul(&owner.path).ok()?.to_str().ok()?;
    (!path.is_empty() && path.len() < PATH - 1).then(|| path.to_owned())
}

/// The cgroup with this path, and those below it. A path for which there is no room is cut off, and lets in others that begin alike.
fn below(path: &str) -> EnrolNew {
    let length = path.len().min(PATH - 1);
    let mut new = EnrolNew { length: length as u64, path: kept(path), ..EnrolNew::ALL };
    new.mask[..length].fill(0xff);
    new
}

/// The time since an instant of the kernel side's clock; `None` if there was none.
fn since(instant: u64) -> Option<Duration> {
    let now = Duration::try_from(clock_gettime(ClockId::Monotonic)).ok()?;
    (instant != 0).then(|| now.saturating_sub(Duration::from_nanos(instant)))
}

/// An element that is not there is no error.
fn found<T>(result: Result<Option<T>, MapError>) -> Result<Option<T>, MapError> {
    match result {
        Err(MapError::KeyNotFound) => Ok(None),
        other => other,
    }
}

fn map(name: &'static str) -> impl FnOnce(MapError) -> TracerError {
    move |source| TracerError::Map { name, source }
}
