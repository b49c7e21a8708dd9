//! Memory layouts that the eBPF program (`ebpf/programs`) and user space (`runtime/tracer`) share.
//!
//! Both sides are compiled from this one file, so a change of layout can't be seen by one side
//! only. Everything is `repr(C)` of plain integers, with no padding.
//!
//! ```
//! use gadgetd_ebpf_common::{ABIS, CALLS, Slot, WORDS};
//!
//! assert_eq!(core::mem::size_of::<Slot>() % 8, 0);
//! assert_eq!(CALLS as usize, WORDS * 64);
//! assert_eq!(ABIS, 3);
//! ```
#![no_std]

/// System call numbers that a bitmap has room for; a number at or above is counted as unknown.
///
/// The largest in use is 547 (x32); the native tables are at about 470.
pub const CALLS: u32 = 1024;

/// 64-bit words in a bitmap.
pub const WORDS: usize = 16;

/// One bit per system call number.
pub type Bitmap = [u64; WORDS];

/// ABIs that have a bitmap of their own.
pub const ABIS: usize = 3;

/// Index of the bitmap of native calls.
pub const ABI_NATIVE: u32 = 0;
/// Index of the bitmap of 32-bit calls.
pub const ABI_COMPAT: u32 = 1;
/// Index of the bitmap of x32 calls.
pub const ABI_X32: u32 = 2;

/// Bit that tells an x32 call from a native one.
pub const X32_BIT: u32 = 0x4000_0000;

/// The first number of Arm's own 32-bit calls, which are in no table: `asm/unistd.h` calls it `__ARM_NR_BASE`. A bitmap has them in
/// its last [`ARM_PRIVATE_COUNT`] bits.
pub const ARM_PRIVATE: u32 = 0xf_0000;
/// How many of them there is room for; six are in use.
pub const ARM_PRIVATE_COUNT: u32 = 16;

/// How far a thread of an OCI runtime has come in preparing a container. Each stage is a point from
/// which on a filter may be in force; a higher stage is a tighter bound.
pub mod stage {
    /// No marker yet: these calls are not kept.
    pub const NONE: u32 = 0;
    /// It has entered the container's file system or namespaces: `pivot_root`, `chroot`, `setns`.
    pub const ROOT: u32 = 1;
    /// runc's marker, shortly before the earliest point at which it loads a filter:
    /// `prctl(PR_GET_PDEATHSIG)`.
    pub const PDEATHSIG: u32 = 2;
    /// The filter itself was loaded.
    pub const FILTER: u32 = 3;
}

/// Stages that calls are kept for: [`stage::ROOT`] to [`stage::FILTER`].
pub const STAGES: usize = 3;

/// How seccomp may answer a call that it does not let run; the index of a bitmap in [`Slot::refused`].
pub mod refusal {
    /// With `ENOSYS`, as a kernel does that does not have the call.
    pub const ENOSYS: u32 = 0;
    /// With another errno.
    pub const ERRNO: u32 = 1;
    /// With `SIGSYS`, by which a program without a handler ends.
    pub const SIGNAL: u32 = 2;
}

/// Values of [`refusal`].
pub const REFUSALS: usize = 3;

/// Room for a cgroup's path with the zero that ends it. Those of Kubernetes have up to 300 bytes.
pub const PATH: usize = 512;

/// Who a slot belongs to. Written by whoever opens the slot, before any cgroup is tied to it;
/// afterwards only user space changes it, and neither the cgroup nor the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Owner {
    /// Id of the cgroup that owns the slot; 0: free.
    pub cgroup: u64,
    /// [`flag`] bits.
    pub flags: u64,
    /// Cgroups below that were there before, and for which there was no room: user space counts them here.
    pub lost_children: u64,
    /// The cgroup's path from the root of its hierarchy, ended by a zero. It is the only thing that tells who a
    /// cgroup was that is gone. A path that was too long is cut off, and has the length that fits.
    pub path: [u8; PATH],
}

impl Owner {
    /// Nobody.
    pub const NONE: Self = Self { cgroup: 0, flags: 0, lost_children: 0, path: [0; PATH] };
}

/// Bits of [`Owner::flags`].
pub mod flag {
    /// Opened by the kernel side, at the cgroup's creation.
    pub const FROM_START: u64 = 1;
    /// Tasks that are moved in count as the application, not as a runtime that prepares it.
    pub const ENTRY_APPLICATION: u64 = 2;
    /// User space is still tying the cgroups below to the slot. One that is found so was left by a process that was killed.
    pub const TYING: u64 = 4;
}

/// What was recorded of one container. Only the kernel side writes it, except that user space
/// clears it while no cgroup is tied to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Slot {
    /// `CLOCK_MONOTONIC` of the last bit set, in nanoseconds; 0: none yet.
    pub last_new: u64,
    /// Calls whose number is beyond [`CALLS`].
    pub unknown_numbers: u64,
    /// Calls that the OCI runtime made, from [`stage::ROOT`] on, by another ABI than the native one.
    pub foreign_runtime: u64,
    /// Child cgroups that could not be tied to this slot.
    pub lost_children: u64,
    /// Tasks whose phase could not be stored; they count as the application.
    pub lost_phases: u64,
    /// The application's mount namespace (the address of the kernel's structure): that of the last program that an
    /// OCI runtime started. Who enters with the same has joined the container before.
    pub mount_namespace: u64,
    /// Calls of the application, by ABI.
    pub application: [Bitmap; ABIS],
    /// Calls of the OCI runtime (native ABI), by the stage its thread had reached (less one).
    ///
    /// At [`stage::ROOT`] only the calls of threads that went on to `execve` without reaching a
    /// higher stage are here: what they did since their last marker.
    pub runtime: [Bitmap; STAGES],
    /// Calls that a seccomp filter kept from running, of the application and of the OCI runtime from [`stage::ROOT`] on, by
    /// [`refusal`] and ABI. Another time the call may have run.
    pub refused: [[Bitmap; ABIS]; REFUSALS],
    /// The errnos of [`refusal::ERRNO`]: a bit for each below 63, and bit 63 for all above.
    pub errnos: u64,
    /// Tasks under a filter of which could not be kept what they do: calls of theirs that a filter refused may be missing.
    pub lost_refusals: u64,
    /// Processes of the application that were moved to a cgroup outside, where their calls are not recorded.
    pub departed: u64,
    /// The number of the last family: a process that came into the cgroup from outside, and what it forks.
    pub families: u64,
    /// Families of which it is certain what they are; bit `number % 64`.
    pub resolved: u64,
    /// Families of which it is not known yet whether they prepare the container or are its application, and which made calls;
    /// bit `number % 64`.
    pub undecided: u64,
    /// Calls of those, by ABI. They are the application's if it never becomes known.
    pub pending: [Bitmap; ABIS],
}

impl Slot {
    /// A slot in which nothing was recorded.
    pub const EMPTY: Self = Self {
        last_new: 0,
        unknown_numbers: 0,
        foreign_runtime: 0,
        lost_children: 0,
        lost_phases: 0,
        mount_namespace: 0,
        application: [[0; WORDS]; ABIS],
        runtime: [[0; WORDS]; STAGES],
        refused: [[[0; WORDS]; ABIS]; REFUSALS],
        errnos: 0,
        lost_refusals: 0,
        departed: 0,
        families: 0,
        resolved: 0,
        undecided: 0,
        pending: [[0; WORDS]; ABIS],
    };
}

/// Losses that belong to no slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Losses {
    /// New cgroups for which no slot was free.
    pub slots_exhausted: u64,
    /// [`Event`]s for which there was no room.
    pub events: u64,
}

/// Which new cgroups get a slot of their own. User space changes the rest only while `on` is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct EnrolNew {
    /// 0: none.
    pub on: u64,
    /// Length in bytes of the path that a cgroup must have, or be below; 0: any has it. Less than [`PATH`].
    pub length: u64,
    /// That path.
    pub path: [u8; PATH],
    /// 0xff where the path has bytes.
    pub mask: [u8; PATH],
}

impl EnrolNew {
    /// No cgroup.
    pub const NONE: Self = Self { on: 0, length: 0, path: [0; PATH], mask: [0; PATH] };
    /// Every cgroup.
    pub const ALL: Self = Self { on: 1, ..Self::NONE };
}

/// What happened to a cgroup that owns a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Event {
    /// The cgroup's id.
    pub cgroup: u64,
    /// One of [`event`].
    pub kind: u64,
}

/// Values of [`Event::kind`].
pub mod event {
    /// The kernel side opened the slot, for a new cgroup.
    pub const OPENED: u64 = 1;
    /// The cgroup and those below it lost the last process, or the cgroup was removed.
    pub const ENDED: u64 = 2;
}

/// [`Kernel::machine`]: 64-bit x86.
pub const MACHINE_X86_64: u64 = 1;
/// [`Kernel::machine`]: 64-bit Arm.
pub const MACHINE_AARCH64: u64 = 2;

/// What the program must know of the machine and the kernel it runs on. The loader fills it in, and
/// it is constant from then on: the verifier removes what does not apply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Kernel {
    /// [`MACHINE_X86_64`] or [`MACHINE_AARCH64`].
    pub machine: u64,
    /// Where things are in kernel structures.
    pub offsets: Offsets,
    /// Numbers of the system calls that mark a stage.
    pub markers: Markers,
}

/// Byte offsets of the kernel's fields, from its BTF.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Offsets {
    /// `task_struct.cgroups`
    pub task_cgroups: u64,
    /// `task_struct.group_leader`
    pub task_group_leader: u64,
    /// `task_struct.thread_info.status` (0 where there is none: only x86-64 has it)
    pub task_status: u64,
    /// `task_struct.seccomp.mode`
    pub task_seccomp_mode: u64,
    /// `task_struct.exit_code`
    pub task_exit_code: u64,
    /// `css_set.dfl_cgrp`
    pub css_set_dfl_cgrp: u64,
    /// `cgroup.kn`
    pub cgroup_kn: u64,
    /// `cgroup.root`
    pub cgroup_root: u64,
    /// `cgroup.self.parent`
    pub cgroup_parent: u64,
    /// `cgroup_subsys_state.cgroup`
    pub css_cgroup: u64,
    /// `kernfs_node.id`
    pub kernfs_id: u64,
    /// `cgroup_root.hierarchy_id`
    pub root_hierarchy_id: u64,
    /// `linux_binprm.filename`
    pub binprm_filename: u64,
    /// `task_struct.nsproxy`
    pub task_nsproxy: u64,
    /// `nsproxy.mnt_ns`
    pub nsproxy_mnt_ns: u64,
}

/// Numbers, in the native table, of the calls that tell how far an OCI runtime has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Markers {
    /// Enters the container's file system.
    pub pivot_root: u64,
    /// The same, where `pivot_root` is impossible.
    pub chroot: u64,
    /// Enters a namespace of a container that runs already.
    pub setns: u64,
    /// Joins a session keyring: the last thing runc does before it may load a filter in an `exec` session.
    pub keyctl: u64,
    /// `PR_GET_PDEATHSIG` and `PR_SET_SECCOMP`.
    pub prctl: u64,
    /// `SECCOMP_SET_MODE_FILTER`.
    pub seccomp: u64,
}
