//! A task that came into a container's cgroup from outside, as those of an OCI runtime do that prepares the container, and the
//! calls that mark how far it has come.

use core::ptr;

use gadgetd_ebpf_common::{WORDS, stage};

use crate::kernel::{KERNEL, Registers, known};

/// Such a task, and how far it has come. Everything in `u64`s: values are copied whole.
#[repr(C)]
pub struct Entrant {
    /// The cgroup that owns the slot of the container that it prepares.
    pub cgroup: u64,
    /// One of [`stage`].
    pub stage: u64,
    /// 1: it loaded a filter for every thread of its process.
    pub filters_all_threads: u64,
    /// The number of its family in the slot.
    pub family: u64,
    /// 1: another entrant forked it.
    pub forked: u64,
    /// 1: it is certain that its family prepares the container: a marker was passed that nobody else passes.
    pub certain: u64,
    /// Calls since the last marker, while at [`stage::ROOT`]. Whether they matter is known only when it execs: most
    /// runtimes reach a tighter stage before.
    pub since_marker: [u64; WORDS],
}

impl Entrant {
    /// One that has just come into a cgroup.
    #[inline(always)]
    pub fn new(cgroup: u64, stage: u32, family: u64) -> Self {
        Self {
            cgroup,
            stage: u64::from(stage),
            filters_all_threads: 0,
            family,
            forked: 0,
            certain: 0,
            since_marker: [0; WORDS],
        }
    }

    #[inline(always)]
    pub fn stage(&self) -> u32 {
        self.stage as u32
    }

    #[inline(always)]
    pub fn forget_calls(&mut self) {
        for word in &mut self.since_marker {
            // SAFETY: a reference. (Volatile: a call of `memset` would be a loop.)
            unsafe { ptr::write_volatile(word, 0) };
        }
    }

    /// Looks whether a native call is a marker, and if so takes the step. A marker is itself made before what it marks, so it need not
    /// be kept, unless the stage was reached before.
    #[inline(always)]
    pub fn passes_marker(&mut self, number: u64, registers: Registers) -> bool {
        /// `linux/prctl.h`, `linux/seccomp.h`, `linux/keyctl.h`.
        const PR_GET_PDEATHSIG: u32 = 2;
        const PR_SET_SECCOMP: u32 = 22;
        const SECCOMP_MODE_FILTER: u64 = 2;
        const SECCOMP_SET_MODE_FILTER: u32 = 1;
        const SECCOMP_FILTER_FLAG_TSYNC: u64 = 1;
        const KEYCTL_JOIN_SESSION_KEYRING: u32 = 1;

        let first = registers.argument::<0>() as u32;
        if number == known(&KERNEL.markers.pivot_root) {
            self.certain = 1;
        }
        let reached = if number == known(&KERNEL.markers.pivot_root)
            || number == known(&KERNEL.markers.chroot)
            || number == known(&KERNEL.markers.setns)
        {
            stage::ROOT
        } else if number == known(&KERNEL.markers.keyctl)
            && first == KEYCTL_JOIN_SESSION_KEYRING
            && self.stage() == stage::ROOT
        {
            self.certain = 1;
            stage::ROOT
        } else if number == known(&KERNEL.markers.prctl) && first == PR_GET_PDEATHSIG {
            self.certain = 1;
            stage::PDEATHSIG
        } else if number == known(&KERNEL.markers.prctl) && first == PR_SET_SECCOMP {
            // libseccomp makes such calls without a program, to see what the kernel knows.
            let loads = registers.argument::<1>() == SECCOMP_MODE_FILTER && registers.argument::<2>() != 0;
            if loads { stage::FILTER } else { stage::NONE }
        } else if number == known(&KERNEL.markers.seccomp)
            && first == SECCOMP_SET_MODE_FILTER
            && registers.argument::<2>() != 0
        {
            if registers.argument::<1>() & SECCOMP_FILTER_FLAG_TSYNC != 0 && self.stage() < stage::FILTER {
                self.filters_all_threads = 1;
            }
            stage::FILTER
        } else {
            stage::NONE
        };

        if reached == stage::ROOT && self.stage() == stage::ROOT {
            // Entered further: what came before is of no interest.
            self.forget_calls();
            return true;
        }
        if reached <= self.stage() {
            return false;
        }
        self.stage = u64::from(reached);
        true
    }
}
