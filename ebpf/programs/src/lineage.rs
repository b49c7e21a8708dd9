//! Is a task the container's application, or an OCI runtime that prepares the container?
//!
//! A task that enters a recorded cgroup from outside is an *entrant*, and so is everything it forks: a *family*. Names are
//! never looked at. What is certain decides:
//!
//! - The task that entered executes a program: that program is the application.
//! - A task of the family passes a marker of OCI runtimes: the family prepares the container. What the family then executes is the
//!   application; what it had executed before is a hook.
//! - Neither happens: the family may be a process that ran already and was moved into the container. Its calls are pending
//!   until the recording is read; then they are the application's, and the doubt is counted.
//!
//! The task storage of an application's tasks says which container they belong to. So one that leaves is noticed.

use core::ffi::c_void;

use aya_ebpf::{
    EbpfContext,
    helpers::generated::bpf_probe_read_kernel_str,
    macros::{btf_tracepoint, tracepoint},
    programs::{BtfTracePointContext, TracePointContext},
};
use gadgetd_ebpf_common::{ABIS, CALLS, Slot, WORDS, flag, stage};

use crate::{
    atomic::shared,
    cache, calls,
    entrant::Entrant,
    kernel::{self, Binprm, Cgroup, Task},
    maps::{CGROUPS, ENTRANTS, FILTERED, MEMBERS, OWNERS, SLOTS},
    refused,
    slots::{self, NO_SLOT, slot_index},
};

/// The running task's entry as an entrant of a slot, if it is one; else it is the application.
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
    if is_member(task, owner) {
        return None;
    }
    // A move into the cgroup is reported for the leader only; its other threads come along.
    let leader = task.leader();
    let known = is_member(leader, owner);
    // It is reported after it happened. So who is not known yet is just coming in, if nobody was there before the recording began.
    if !known
        && OWNERS.get(index)?.flags & flag::FROM_START != 0
        && ENTRANTS.get(leader).is_none_or(|leader| leader.cgroup != owner)
    {
        enter(leader, index);
    }
    if let Some(process) = ENTRANTS.get(leader)
        && process.cgroup == owner
    {
        if leader.0 == task.0 {
            return Some(process);
        }
        let stage = if process.filters_all_threads == 0 { stage::NONE } else { stage::FILTER };
        let &mut Entrant { family, forked, certain, .. } = process;
        return begin(task, Entrant { forked, certain, ..Entrant::new(owner, stage, family) }, slot);
    }
    join(task, owner, !known, slot);
    None
}

#[inline(always)]
fn leader_filters_all(task: Task, owner: u64) -> bool {
    ENTRANTS
        .get(task.leader())
        .is_some_and(|leader| leader.cgroup == owner && leader.filters_all_threads != 0)
}

/// Whether a task is the application of the container that owns a slot.
#[inline(always)]
fn is_member(task: Task, owner: u64) -> bool {
    MEMBERS.get(task).is_some_and(|member| member.cgroup == owner)
}

/// Makes a task the application.
#[inline(always)]
fn join(task: Task, owner: u64, found: bool, slot: *mut Slot) {
    match MEMBERS.create(task, None) {
        Some(member) => {
            member.cgroup = owner;
            member.outside = 0;
            member.found = u64::from(found);
        }
        None if is_member(task, owner) => {}
        None => shared!((*slot).lost_phases).increment(),
    }
}

/// Makes a task an entrant.
#[inline(always)]
fn begin(task: Task, mut initial: Entrant, slot: *mut Slot) -> Option<&'static mut Entrant> {
    // Both the task and who moves it come here, maybe at the same time: who is first has decided the family.
    if let Some(entrant) = ENTRANTS.create(task, Some(&mut initial)) {
        if entrant.cgroup != initial.cgroup {
            *entrant = initial; // It was another container's.
        }
        return Some(entrant);
    }
    let other = ENTRANTS.get(task).filter(|entrant| entrant.cgroup == initial.cgroup);
    if other.is_none() {
        shared!((*slot).lost_phases).increment();
    }
    other
}

/// The bit of a family in a slot.
#[inline(always)]
fn bit(family: u64) -> u64 {
    1 << (family & 63)
}

/// Keeps a call of an entrant for as long as it is not known what its family is.
#[inline(always)]
pub fn doubt(entrant: &Entrant, slot: *mut Slot, abi: u32, number: u64) {
    let family = bit(entrant.family);
    if shared!((*slot).resolved).load() & family != 0 {
        return;
    }
    if entrant.certain != 0 {
        resolve(entrant.family, slot);
        return;
    }
    shared!((*slot).undecided).set(family);
    if number < u64::from(CALLS) {
        // SAFETY: the map's value.
        calls::record(slot, unsafe { (&raw mut (*slot).pending).cast() }, abi, number);
    }
}

/// It is certain what a family is, so its calls until now are not the application's.
#[inline(always)]
fn resolve(family: u64, slot: *mut Slot) {
    let family = bit(family);
    shared!((*slot).resolved).set(family);
    let undecided = shared!((*slot).undecided);
    undecided.clear(family);
    // Calls of several families can't be told apart: those of one that stays undecided must not go with the others'.
    if undecided.load() != 0 {
        return;
    }
    for abi in 0..ABIS {
        for word in 0..WORDS {
            shared!((*slot).pending[abi][word]).store(0);
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
    if owner.flags & flag::ENTRY_APPLICATION != 0 {
        return join(task, owner.cgroup, false, slot);
    }
    let families = shared!((*slot).families);
    families.increment();
    // Two that enter at the same instant may get one number: then both are undecided until both are certain.
    let family = families.load();
    shared!((*slot).resolved).clear(bit(family));
    // `crun exec` joins the container's namespaces first, and enters its cgroup then.
    let certain = has_joined(task, slot);
    let stage = if certain { stage::ROOT } else { stage::NONE };
    begin(task, Entrant { certain: u64::from(certain), ..Entrant::new(owner.cgroup, stage, family) }, slot);
}

/// Whether a task is in the mount namespace of the container's application.
#[inline(always)]
fn has_joined(task: Task, slot: *mut Slot) -> bool {
    // SAFETY: the map's value.
    let application = unsafe { (*slot).mount_namespace };
    application != 0 && application == task.mount_namespace()
}

/// A child inherits what its parent is; one that starts in another cgroup (`CLONE_INTO_CGROUP`) enters it, and leaves its parent's.
#[btf_tracepoint(function = "sched_process_fork")]
pub fn fork(ctx: BtfTracePointContext) -> i32 {
    let (parent, child) = (Task(ctx.arg(0)), Task(ctx.arg(1)));
    cache::forget(child);
    let (cgroup, origin) = (child.cgroup_id(), kernel::current_cgroup_id());
    let index = slot_index(cgroup);
    let from = if origin == cgroup { index } else { slot_index(origin) };
    if from != index && from != NO_SLOT {
        depart_at_birth(parent, from);
    }
    if index == NO_SLOT {
        return 0;
    }
    refused::fork(child, index);
    if from != index {
        enter(child, index);
        return 0;
    }
    let (Some(owner), Some(slot)) = (OWNERS.get(index), SLOTS.get_ptr_mut(index)) else { return 0 };
    match entrant(parent, index, slot) {
        Some(entrant) => match ENTRANTS.create(child, Some(entrant)) {
            Some(entrant) if child.leader().0 == child.0 => entrant.forked = 1,
            Some(_) => {} // A thread is what its process is.
            None => shared!((*slot).lost_phases).increment(),
        },
        None => join(child, owner.cgroup, false, slot),
    }
    0
}

/// A child of the application starts its life outside.
#[inline(always)]
fn depart_at_birth(parent: Task, from: u32) {
    if let (Some(owner), Some(slot)) = (OWNERS.get(from), SLOTS.get_ptr_mut(from))
        && is_member(parent, owner.cgroup)
    {
        shared!((*slot).departed).increment();
    }
}

/// What an entrant executes is the application, if it is certain that it is no hook.
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
        if entrant.forked != 0
            && entrant.certain == 0
            && entrant.stage() < stage::FILTER
            && !has_joined(task, slot)
        {
            // A hook, or a program that a process executes which was moved in.
            return;
        }
        resolve(entrant.family, slot);
        // SAFETY: the map's value.
        unsafe { (*slot).mount_namespace = task.mount_namespace() };
        if entrant.stage() == stage::ROOT {
            for word in 0..WORDS {
                // SAFETY: the map's value.
                slots::merge(slot, unsafe { &raw mut (*slot).runtime[0] }, word, entrant.since_marker[word]);
            }
        }
        join(task, owner.cgroup, false, slot);
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
    if let Some(member) = MEMBERS.get(task) {
        if member.cgroup == owner {
            if member.found == 0 || Task::current() == task || index.is_some_and(|i| is_moved_inside(task, i))
            {
                // About in the container, or back in it.
                member.outside = 0;
                return;
            }
            // It was found before its move was reported.
            member.cgroup = 0;
        } else if member.outside == 0 && member.cgroup != 0 {
            member.outside = 1;
            depart(member.cgroup);
        }
    }
    if let Some(index) = index
        && !is_moved_inside(task, index)
    {
        enter(task, index);
    }
}

/// A process of the application was moved to a cgroup outside.
#[inline(always)]
fn depart(cgroup: u64) {
    if let Some(index) = slot_of(cgroup)
        && let (Some(owner), Some(slot)) = (OWNERS.get(index), SLOTS.get_ptr_mut(index))
        && owner.cgroup == cgroup
    {
        shared!((*slot).departed).increment();
    }
}

/// Whether another process of the container moved a task to one of the slot's cgroups: the container moves its own processes about. (A task
/// that was there before the recording began, and has made no call since, is nobody's yet.)
#[inline(always)]
fn is_moved_inside(task: Task, index: u32) -> bool {
    Task::current() != task && slot_of(kernel::current_cgroup_id()) == Some(index)
}
