//! Is a task the container's application, or an OCI runtime that prepares the container?
//!
//! A task that enters a recorded cgroup from outside is an entrant, and so is everything it forks, until it calls
//! `exec` there: what it starts is the application. Names are never looked at.

use core::ffi::c_void;

use aya_ebpf::{
    EbpfContext,
    helpers::generated::bpf_probe_read_kernel_str,
    macros::{btf_tracepoint, tracepoint},
    programs::{BtfTracePointContext, TracePointContext},
};
use gadgetd_ebpf_common::{Slot, WORDS, flag, stage};

use crate::{
    atomic::shared,
    cache,
    entrant::Entrant,
    kernel::{self, Binprm, Cgroup, Task},
    maps::{CGROUPS, ENTRANTS, FILTERED, OWNERS, SLOTS},
    refused, slots,
};

/// The running task's entry as an entrant of a slot, if it is one.
#[inline(always)]
pub fn entrant(task: Task, index: u32, slot: *mut Slot) -> Option<&'static mut Entrant> {
    let owner = OWNERS.get(index)?.cgroup;
    if let Some(own) = ENTRANTS.get(task)
        && own.cgroup == owner
    {
        if own.stage() < stage::FILTER && leader_filters_all(task, owner) {
            own.stage = u64::from(stage::FILTER);
        }
        return Some(own);
    }
    // A move into the cgroup is reported for the leader only; its other threads came along.
    let leader = ENTRANTS.get(task.leader())?;
    if leader.cgroup != owner {
        return None;
    }
    let stage = if leader.filters_all_threads == 0 { stage::NONE } else { stage::FILTER };
    begin(task, owner, stage, slot)
}

#[inline(always)]
fn leader_filters_all(task: Task, owner: u64) -> bool {
    ENTRANTS
        .get(task.leader())
        .is_some_and(|leader| leader.cgroup == owner && leader.filters_all_threads != 0)
}

/// Makes a task an entrant.
#[inline(always)]
fn begin(task: Task, owner: u64, stage: u32, slot: *mut Slot) -> Option<&'static mut Entrant> {
    let entrant = ENTRANTS.create(task, None);
    match entrant {
        Some(entrant) => {
            entrant.cgroup = owner;
            entrant.stage = u64::from(stage);
            entrant.filters_all_threads = 0;
            entrant.forget_calls();
            Some(entrant)
        }
        None => {
            shared!((*slot).lost_phases).increment();
            None
        }
    }
}

/// The slot that a cgroup records into.
#[inline(always)]
fn slot_of(cgroup: u64) -> Option<u32> {
    // SAFETY: a copy is taken at once.
    unsafe { CGROUPS.get(cgroup) }.copied()
}

/// A task came into the slot's cgroups from outside.
#[inline(always)]
fn enter(task: Task, index: u32) {
    let (Some(owner), Some(slot)) = (OWNERS.get(index), SLOTS.get_ptr_mut(index)) else { return };
    if owner.flags & flag::ENTRY_APPLICATION == 0 {
        // `crun exec` joins the container's namespaces first, and enters its cgroup then.
        // SAFETY: the map's value.
        let joined = unsafe { (*slot).mount_namespace };
        let stage = if joined != 0 && joined == task.mount_namespace() { stage::ROOT } else { stage::NONE };
        begin(task, owner.cgroup, stage, slot);
    }
}

/// A child inherits what its parent is; one that starts in another cgroup (`CLONE_INTO_CGROUP`) enters it.
#[btf_tracepoint(function = "sched_process_fork")]
pub fn fork(ctx: BtfTracePointContext) -> i32 {
    let (parent, child) = (Task(ctx.arg(0)), Task(ctx.arg(1)));
    cache::forget(child);
    let cgroup = child.cgroup_id();
    let Some(index) = slot_of(cgroup) else { return 0 };
    refused::fork(child, index);
    let origin = kernel::current_cgroup_id();
    if origin != cgroup && slot_of(origin) != Some(index) {
        enter(child, index);
        return 0;
    }
    let Some(slot) = SLOTS.get_ptr_mut(index) else { return 0 };
    let Some(entrant) = entrant(parent, index, slot) else { return 0 };
    if ENTRANTS.create(child, Some(entrant)).is_none() {
        shared!((*slot).lost_phases).increment();
    }
    0
}

/// What an entrant starts is the application.
#[btf_tracepoint(function = "sched_process_exec")]
pub fn exec(ctx: BtfTracePointContext) -> i32 {
    executes(Task(ctx.arg(0)), Binprm(ctx.arg(2)).filename());
    0
}

/// The same, where the kernel would skip [`exec`] for some, as it would `sys_enter`.
#[tracepoint(category = "sched", name = "sched_process_exec")]
pub fn exec_event(ctx: TracePointContext) -> u32 {
    // SAFETY: the event's third word says where in the event the file name is (the lower half), and how long it is.
    let filename = unsafe {
        let at = ctx.as_ptr().cast::<u32>().add(2).read() & 0xffff;
        ctx.as_ptr().byte_add(at as usize)
    };
    executes(Task::current(), filename);
    0
}

#[inline(always)]
fn executes(task: Task, filename: *const c_void) {
    let Some(entrant) = ENTRANTS.get(task) else { return };
    if entrant.stage() == stage::NONE && is_own_copy(filename) {
        return;
    }
    if let Some(index) = slot_of(kernel::current_cgroup_id())
        && let (Some(owner), Some(slot)) = (OWNERS.get(index), SLOTS.get_ptr_mut(index))
        && owner.cgroup == entrant.cgroup
    {
        // SAFETY: the map's value.
        unsafe { (*slot).mount_namespace = task.mount_namespace() };
        if entrant.stage() == stage::ROOT {
            for word in 0..WORDS {
                // SAFETY: the map's value.
                slots::merge(slot, unsafe { &raw mut (*slot).runtime[0] }, word, entrant.since_marker[word]);
            }
        }
    }
    ENTRANTS.delete(task);
}

/// Whether a runtime starts a copy of itself, through a descriptor or `/proc/self`, rather than a program by its
/// name: runc does, before it has entered anything.
#[inline(always)]
fn is_own_copy(filename: *const c_void) -> bool {
    let mut name = [0u8; 20];
    let at: *mut c_void = name.as_mut_ptr().cast();
    // SAFETY: the buffer has the length that is given.
    if unsafe { bpf_probe_read_kernel_str(at, name.len() as u32, filename) } < 0 {
        return false;
    }
    if starts_with(&name, b"/dev/fd/") {
        // `/dev/fd/3/program` is a program by its name, in an open folder.
        return !name[8..].contains(&b'/');
    }
    starts_with(&name, b"/proc/self/") || starts_with(&name, b"/proc/thread-self/")
}

#[inline(always)]
fn starts_with<const N: usize>(name: &[u8; 20], prefix: &[u8; N]) -> bool {
    let mut different = 0;
    for (a, b) in name.iter().zip(prefix) {
        different |= a ^ b;
    }
    different == 0
}

/// A task was moved to another cgroup (with all its threads, if it leads them).
#[btf_tracepoint(function = "cgroup_attach_task")]
pub fn attach(ctx: BtfTracePointContext) -> i32 {
    let (cgroup, task) = (Cgroup(ctx.arg(0)), Task(ctx.arg(2)));
    if cgroup.is_v2() {
        // Of calls that it makes elsewhere nothing is noted.
        FILTERED.delete(task);
        moved(task, slot_of(cgroup.id()));
        // Last: what its threads look up from now on must find what was just stored.
        cache::invalidate();
    }
    0
}

#[inline(always)]
fn moved(task: Task, index: Option<u32>) {
    let owner = index.and_then(|index| OWNERS.get(index)).map_or(0, |owner| owner.cgroup);
    if let Some(entrant) = ENTRANTS.get(task) {
        if entrant.cgroup == owner {
            return;
        }
        ENTRANTS.delete(task);
    }
    if let Some(index) = index
        && !is_inside(task, index)
    {
        enter(task, index);
    }
}

/// Whether a task that was just moved to one of the slot's cgroups came from another one of them: the container
/// moves its own processes about.
#[inline(always)]
fn is_inside(task: Task, index: u32) -> bool {
    if cache::last_slot(task) == Some(index) {
        return true;
    }
    Task::current() != task && slot_of(kernel::current_cgroup_id()) == Some(index)
}
