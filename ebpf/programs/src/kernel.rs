//! Typed access to the kernel's structures: a base pointer that the verifier trusts, and an offset that the loader
//! took from the running kernel's BTF.

use core::{ffi::c_void, ptr};

use aya_ebpf::{
    bindings::task_struct,
    helpers::generated::{bpf_get_current_cgroup_id, bpf_get_current_task_btf, bpf_task_pt_regs},
};
use gadgetd_ebpf_common::{
    ABI_COMPAT, ABI_NATIVE, ABI_X32, ARM_PRIVATE, ARM_PRIVATE_COUNT, CALLS, Kernel, MACHINE_AARCH64,
    MACHINE_X86_64, Markers, Offsets, X32_BIT,
};

/// Filled in by the loader before the program is verified.
#[unsafe(no_mangle)]
pub static KERNEL: Kernel = Kernel {
    machine: 0,
    offsets: Offsets {
        task_cgroups: 0,
        task_group_leader: 0,
        task_status: 0,
        task_seccomp_mode: 0,
        task_exit_code: 0,
        css_set_dfl_cgrp: 0,
        cgroup_kn: 0,
        cgroup_root: 0,
        cgroup_parent: 0,
        css_cgroup: 0,
        kernfs_id: 0,
        root_hierarchy_id: 0,
        binprm_filename: 0,
        task_nsproxy: 0,
        nsproxy_mnt_ns: 0,
    },
    markers: Markers { pivot_root: 0, chroot: 0, setns: 0, keyctl: 0, prctl: 0, seccomp: 0 },
};

/// A value of [`KERNEL`]. Volatile: the compiler must not take the zeros above for the truth.
#[inline(always)]
pub fn known(value: &'static u64) -> u64 {
    // SAFETY: a reference is valid.
    unsafe { ptr::read_volatile(value) }
}

/// Reads a field of a kernel structure.
///
/// # Safety
/// `base` must be a pointer that the verifier knows the type of, or follow from one by such reads. (A pointer
/// that turns out to be null or stale reads as zero.)
#[inline(always)]
unsafe fn field<T: Copy>(base: *const c_void, offset: u64) -> T {
    // SAFETY: by the contract above the kernel catches a bad address.
    unsafe { ptr::read_volatile(base.byte_add(offset as usize).cast()) }
}

/// A `task_struct`.
#[derive(Clone, Copy)]
pub struct Task(pub *mut task_struct);

impl Task {
    /// The task that runs.
    #[inline(always)]
    pub fn current() -> Self {
        // SAFETY: no preconditions.
        Self(unsafe { bpf_get_current_task_btf() })
    }

    /// The task whose id its whole process has.
    #[inline(always)]
    pub fn leader(self) -> Self {
        // SAFETY: a task's field.
        Self(unsafe { field(self.0.cast(), known(&KERNEL.offsets.task_group_leader)) })
    }

    /// The id of its cgroup v2.
    #[inline(always)]
    pub fn cgroup_id(self) -> u64 {
        // SAFETY: fields that every task has.
        unsafe {
            let css_set = field(self.0.cast(), known(&KERNEL.offsets.task_cgroups));
            Cgroup(field(css_set, known(&KERNEL.offsets.css_set_dfl_cgrp))).id()
        }
    }

    /// Where the registers of its system calls are: an address that no other living task has.
    #[inline(always)]
    pub fn registers(self) -> *const c_void {
        // SAFETY: the task is alive.
        unsafe { bpf_task_pt_regs(self.0) as *const c_void }
    }

    /// The address of its mount namespace. It tells namespaces apart as long as somebody is in them.
    #[inline(always)]
    pub fn mount_namespace(self) -> u64 {
        // SAFETY: fields of a task that lives; one that is ending has no namespaces, which reads as zero.
        unsafe {
            let namespaces = field(self.0.cast(), known(&KERNEL.offsets.task_nsproxy));
            field(namespaces, known(&KERNEL.offsets.nsproxy_mnt_ns))
        }
    }

    /// Whether it runs under a seccomp filter.
    #[inline(always)]
    pub fn is_filtered(self) -> bool {
        /// `SECCOMP_MODE_FILTER` of linux/seccomp.h.
        const FILTER: u32 = 2;
        // SAFETY: a task's field.
        let mode: u32 = unsafe { field(self.0.cast(), known(&KERNEL.offsets.task_seccomp_mode)) };
        mode == FILTER
    }

    /// The signal that it ends by, while it ends.
    #[inline(always)]
    pub fn exit_signal(self) -> u32 {
        // SAFETY: a task's field.
        let code: u32 = unsafe { field(self.0.cast(), known(&KERNEL.offsets.task_exit_code)) };
        code & 0x7f
    }

    /// Whether it is in a 32-bit call (x86-64 only). Exact: the entry paths set it, whatever the code segment and the
    /// registers are.
    #[inline(always)]
    fn in_compat_call(self) -> bool {
        /// `TS_COMPAT` of `asm/thread_info.h`.
        const TS_COMPAT: u32 = 2;
        // SAFETY: a task's field.
        let status: u32 = unsafe { field(self.0.cast(), known(&KERNEL.offsets.task_status)) };
        status & TS_COMPAT != 0
    }
}

impl PartialEq for Task {
    #[inline(always)]
    fn eq(&self, other: &Self) -> bool {
        self.0 as u64 == other.0 as u64
    }
}

/// The id of the running task's cgroup v2. (For the verifier much less work than [`Task::cgroup_id`].)
#[inline(always)]
pub fn current_cgroup_id() -> u64 {
    // SAFETY: no preconditions.
    unsafe { bpf_get_current_cgroup_id() }
}

/// A `cgroup`.
#[derive(Clone, Copy)]
pub struct Cgroup(pub *const c_void);

impl Cgroup {
    /// Its id, unique in its hierarchy and never used again.
    #[inline(always)]
    pub fn id(self) -> u64 {
        // SAFETY: a cgroup's fields.
        unsafe { field(field(self.0, known(&KERNEL.offsets.cgroup_kn)), known(&KERNEL.offsets.kernfs_id)) }
    }

    /// The id of the cgroup above it.
    #[inline(always)]
    pub fn parent_id(self) -> u64 {
        // SAFETY: a cgroup's fields.
        unsafe {
            let css = field(self.0, known(&KERNEL.offsets.cgroup_parent));
            Self(field(css, known(&KERNEL.offsets.css_cgroup))).id()
        }
    }

    /// Whether it is of the v2 hierarchy. Ids of others would be taken for ids of this one.
    #[inline(always)]
    pub fn is_v2(self) -> bool {
        // SAFETY: a cgroup's fields.
        let hierarchy: u32 = unsafe {
            field(field(self.0, known(&KERNEL.offsets.cgroup_root)), known(&KERNEL.offsets.root_hierarchy_id))
        };
        hierarchy == 0
    }
}

/// A `linux_binprm`: a program that is being started.
#[derive(Clone, Copy)]
pub struct Binprm(pub *const c_void);

impl Binprm {
    /// The address of its file name.
    #[inline(always)]
    pub fn filename(self) -> *const c_void {
        // SAFETY: a binprm's field.
        unsafe { field(self.0, known(&KERNEL.offsets.binprm_filename)) }
    }
}

/// The `pt_regs` of a system call. Its layout is part of the kernel's ABI.
#[derive(Clone, Copy)]
pub struct Registers(pub *const c_void);

impl Registers {
    #[inline(always)]
    fn are_aarch32(self) -> bool {
        const PSTATE: u64 = 264;
        const MODE32: u64 = 0x10;
        // SAFETY: a register.
        unsafe { field::<u64>(self.0, PSTATE) & MODE32 != 0 }
    }

    /// The number of the system call that a task is in.
    #[inline(always)]
    pub fn number(self) -> u64 {
        /// `orig_ax`.
        const X86: u64 = 120;
        /// `syscallno`.
        const ARM: u64 = 280;
        if known(&KERNEL.machine) == MACHINE_X86_64 {
            // SAFETY: a register.
            unsafe { field(self.0, X86) }
        } else {
            // SAFETY: a register.
            unsafe { field::<u32>(self.0, ARM) }.into()
        }
    }

    /// The value of the result's register if seccomp has undone the call, to send a signal instead.
    #[inline(always)]
    pub fn undone(self) -> u64 {
        /// `orig_x0`.
        const ARM: u64 = 272;
        if known(&KERNEL.machine) == MACHINE_X86_64 {
            self.number()
        } else {
            // SAFETY: a register.
            unsafe { field(self.0, ARM) }
        }
    }

    /// A system call's argument: the first (0), second or third. Of a native call.
    #[inline(always)]
    pub fn argument<const N: usize>(self) -> u64 {
        const X86: [u64; 3] = [112, 104, 96];
        const ARM: [u64; 3] = [0, 8, 16];
        if known(&KERNEL.machine) == MACHINE_X86_64 {
            // SAFETY: a register.
            unsafe { field(self.0, const { X86[N] }) }
        } else {
            // SAFETY: a register.
            unsafe { field(self.0, const { ARM[N] }) }
        }
    }
}

/// Whether the running task makes a call of the machine's 32-bit ABI.
#[inline(always)]
pub fn is_compat(registers: Registers) -> bool {
    if known(&KERNEL.machine) == MACHINE_AARCH64 {
        registers.are_aarch32()
    } else {
        Task::current().in_compat_call()
    }
}

/// By which ABI the running task makes its call, and the call's place in that ABI's bitmap: its number, but for
/// [`ARM_PRIVATE`].
#[inline(always)]
pub fn abi(registers: Registers, number: u64) -> (u32, u64) {
    let number = number & 0xffff_ffff;
    if is_compat(registers) {
        let private = number.wrapping_sub(u64::from(ARM_PRIVATE));
        if known(&KERNEL.machine) == MACHINE_AARCH64 && private < u64::from(ARM_PRIVATE_COUNT) {
            (ABI_COMPAT, u64::from(CALLS - ARM_PRIVATE_COUNT) + private)
        } else {
            (ABI_COMPAT, number)
        }
    } else if known(&KERNEL.machine) == MACHINE_X86_64 && number >> 30 == 1 {
        (ABI_X32, number & !u64::from(X32_BIT))
    } else {
        (ABI_NATIVE, number)
    }
}
