use std::time::Duration;

use crate::{Completeness, Loss, RefusedCall, Syscall};

/// The id of a cgroup v2: the inode number of its directory, and what the kernel's
/// `bpf_get_current_cgroup_id` gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CgroupId(pub u64);

/// What a process that is moved into an enrolled cgroup is taken for, until it execs there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// An OCI runtime (or another launcher) that prepares the container.
    Runtime,
    /// A running application that was moved there.
    Application,
}

/// A cgroup that has a slot of its own in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrolled {
    /// The cgroup.
    pub cgroup: CgroupId,
    /// Its path from the root of the v2 hierarchy, as it was when the slot was opened: a cgroup that is gone by
    /// now is known by it. `None` if it is longer than what is kept.
    pub path: Option<String>,
    /// Whether the slot was opened by the kernel side when the cgroup was made, so that nothing
    /// that happened in it can have been missed.
    pub from_start: bool,
}

/// Something that happened to cgroups, for who would otherwise have to look again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupEvent {
    /// The kernel side opened a slot for a new cgroup.
    Opened(CgroupId),
    /// A cgroup that owns a slot, with all those below it, lost its last process (it may get another), or was
    /// removed. One that never had a process ends when it is removed.
    Ended(CgroupId),
    /// Events were lost: look at everything.
    Missed,
}

/// What a recording held when it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The calls, each once, ordered by ABI and number.
    pub syscalls: Vec<Syscall>,
    /// Calls that a seccomp filter kept from running, each once with each answer, in order.
    pub refused: Vec<RefusedCall>,
    /// What may be missing from them.
    pub completeness: Completeness,
    /// Time since the last call that was new; `None` before the first.
    pub since_new: Option<Duration>,
}

/// Where recordings come from: the kernel, or a scripted fake in tests.
///
/// Reading never clears: two readers of one recording see the same truth.
pub trait SyscallSource {
    /// Why a request failed.
    type Error: std::error::Error + Send + Sync + 'static;

    /// What one recording is of: a cgroup; `()` where a source has only one recording.
    type Subject: Copy;

    /// What was recorded of it so far.
    fn read(&self, subject: Self::Subject) -> Result<Recorded, Self::Error>;
}

/// Cgroups that get a slot when they are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewCgroups<'p> {
    /// None.
    None,
    /// All.
    All,
    /// The one with this path from the root of the hierarchy, and those below it. Others may get one too, if the path
    /// is longer than the source can compare (for eBPF: 511 bytes).
    Below(&'p str),
}

/// A source that records cgroups, whoever started what is in them.
///
/// A cgroup that [is read](SyscallSource::read) may be gone already.
pub trait CgroupSource: SyscallSource<Subject = CgroupId> {
    /// Opens a slot for a cgroup that exists, and ties the cgroups below it to that slot. Enrolling
    /// a cgroup that has a slot already changes nothing but `entry`.
    fn enrol(&mut self, cgroup: CgroupId, entry: Entry) -> Result<(), Self::Error>;

    /// From now on opens a slot for these cgroups when they are made, before any process can be in them.
    fn enrol_new(&mut self, new: NewCgroups<'_>) -> Result<(), Self::Error>;

    /// Every cgroup that has a slot of its own.
    fn enrolled(&self) -> Result<Vec<Enrolled>, Self::Error>;

    /// What happened since the last call, oldest first. Does not wait.
    fn events(&mut self) -> Result<Vec<CgroupEvent>, Self::Error>;

    /// What was lost of the whole machine, and may be missing from any slot. It is in what
    /// [`read`](SyscallSource::read) gives; who keeps that for longer than the slot asks again here.
    fn losses(&self) -> Result<Vec<Loss>, Self::Error>;

    /// Gives the slot back and forgets what it held.
    fn release(&mut self, cgroup: CgroupId) -> Result<(), Self::Error>;
}
