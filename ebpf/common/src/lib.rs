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

/// How far an OCI runtime has come in preparing a container. Each stage is a point from which on
/// a filter may be in force; a higher stage is a tighter bound.
pub mod stage {
    /// No marker yet: these calls are not kept.
    pub const NONE: u32 = 0;
    /// It has entered the container's file system (`pivot_root`, `chroot`, or `setns`).
    pub const ROOT: u32 = 1;
    /// runc's marker, shortly before the earliest point at which it loads a filter:
    /// `prctl(PR_GET_PDEATHSIG)`.
    pub const PDEATHSIG: u32 = 2;
    /// The filter itself was loaded.
    pub const FILTER: u32 = 3;
}

/// Stages that calls are kept for: [`stage::ROOT`] to [`stage::FILTER`].
pub const STAGES: usize = 3;

/// What was recorded of one container.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Slot {
    /// Id of the cgroup that owns the slot; 0: free.
    pub cgroup: u64,
    /// `CLOCK_MONOTONIC` of the last bit set, in nanoseconds; 0: none yet.
    pub last_new: u64,
    /// Tasks of this container that are in the runtime phase. While 0, no phase is looked up.
    pub preparing: u64,
    /// Calls whose number is beyond [`CALLS`].
    pub unknown_numbers: u64,
    /// Calls in the runtime phase by another ABI than the native one.
    pub foreign_runtime: u64,
    /// Child cgroups that could not be tied to this slot.
    pub lost_children: u64,
    /// Tasks whose phase could not be stored; they count as the application.
    pub lost_phases: u64,
    /// [`flag`] bits.
    pub flags: u64,
    /// Calls of the application, by ABI.
    pub application: [[u64; WORDS]; ABIS],
    /// Calls of the OCI runtime (native ABI), by the highest stage its thread had reached.
    pub runtime: [[u64; WORDS]; STAGES],
}

/// Bits of [`Slot::flags`].
pub mod flag {
    /// Opened by the kernel side, at the cgroup's creation.
    pub const FROM_START: u64 = 1;
    /// Tasks that are moved in count as the application (see `Entry::Application`).
    pub const ENTRY_APPLICATION: u64 = 2;
}

/// Losses that belong to no slot.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct Losses {
    /// New cgroups for which no slot was free.
    pub slots_exhausted: u64,
}
