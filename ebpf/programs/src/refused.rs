//! `sys_exit`: a call that comes back and never came to `sys_enter` was answered by seccomp.
//!
//! The kernel asks seccomp before it gets to `sys_enter`, so nothing is seen there of a call that a filter refuses. `sys_exit` is
//! reached in both cases. So for tasks under a filter `sys_enter` leaves a note, and `sys_exit` takes it away.

use aya_ebpf::{
    EbpfContext,
    macros::{btf_tracepoint, tracepoint},
    programs::{BtfTracePointContext, TracePointContext},
};
use gadgetd_ebpf_common::{ABIS, Bitmap, CALLS, MACHINE_X86_64, REFUSALS, refusal, stage};

use crate::{
    atomic::shared,
    cache::{self, Key},
    calls,
    kernel::{self, KERNEL, Registers, Task, known},
    lineage,
    maps::{CGROUPS, FILTERED, SLOTS},
    slots::set,
};

/// `SIGSYS` of asm/signal.h.
const SIGSYS: u32 = 31;

/// Notes that the running task's call runs, if the task is under a filter. (The result is for callers that go on in a condition.)
#[inline(always)]
pub fn lets_run(task: Task, index: u32) -> bool {
    if task.is_filtered() {
        note(index);
    }
    true
}

#[inline(never)]
fn note(index: u32) -> u64 {
    match FILTERED.create(Task::current(), None) {
        Some(runs) => *runs = 1,
        None => lose(index),
    }
    0
}

#[inline(always)]
fn lose(index: u32) {
    if let Some(slot) = SLOTS.get_ptr_mut(index) {
        shared!((*slot).lost_refusals).increment();
    }
}

/// A new task under a filter: it may be refused its first call.
#[inline(always)]
pub fn fork(child: Task, index: u32) {
    if !child.is_filtered() {
        return;
    }
    match FILTERED.create(child, None) {
        // On x86 a new task comes to `sys_exit` out of the call that made it; on arm64 it does not.
        Some(runs) => *runs = u64::from(known(&KERNEL.machine) == MACHINE_X86_64),
        None => lose(index),
    }
}

/// For nearly every call: nothing but loads.
#[btf_tracepoint(function = "sys_exit")]
pub fn sys_exit(ctx: BtfTracePointContext) -> i32 {
    comes_back(Registers(ctx.arg(0)), ctx.arg(1));
    0
}

/// The same, where the kernel would skip [`sys_exit`] for some, as it would `sys_enter`.
#[tracepoint(category = "raw_syscalls", name = "sys_exit")]
pub fn sys_exit_event(ctx: TracePointContext) -> u32 {
    // SAFETY: the event's third word is the result.
    let result = unsafe { *ctx.as_ptr().cast::<u64>().add(2) };
    comes_back(Registers(Task::current().registers()), result);
    0
}

#[inline(always)]
fn comes_back(registers: Registers, result: u64) {
    if Task::current().is_filtered() && cache::slot(Key::new(registers.0)) != Some(cache::UNRECORDED) {
        of_filtered(registers, result);
    }
}

#[inline(never)]
fn of_filtered(registers: Registers, result: u64) -> u64 {
    let task = Task::current();
    // SAFETY: as in `calls`.
    let Some(&index) = (unsafe { CGROUPS.get(kernel::current_cgroup_id()) }) else { return 0 };
    match FILTERED.get(task) {
        Some(runs) if *runs != 0 => *runs = 0,
        Some(_) => refused(task, index, registers, result),
        // The filter is new, or the recording: this call may have run.
        None => {
            if FILTERED.create(task, None).is_none() {
                lose(index);
            }
        }
    }
    0
}

/// The kernel ends a thread without `sys_exit` where the filter says so for the thread alone.
#[btf_tracepoint(function = "sched_process_exit")]
pub fn exit(ctx: BtfTracePointContext) -> i32 {
    let task = Task(ctx.arg(0));
    if task.exit_signal() != SIGSYS || FILTERED.get(task).is_none_or(|runs| *runs != 0) {
        return 0;
    }
    // SAFETY: as in `calls`.
    if let Some(&index) = unsafe { CGROUPS.get(kernel::current_cgroup_id()) } {
        let registers = Registers(task.registers());
        refused(task, index, registers, registers.undone());
    }
    0
}

#[inline(always)]
fn refused(task: Task, index: u32, registers: Registers, result: u64) {
    /// `MAX_ERRNO` of linux/err.h.
    const MAX_ERRNO: u64 = 4095;
    const ENOSYS: u64 = 38;

    let Some(slot) = SLOTS.get_ptr_mut(index) else { return };
    let entrant = lineage::entrant(task, index, slot);
    if entrant.as_ref().is_some_and(|entrant| entrant.stage() == stage::NONE) {
        return;
    }
    let (abi, number) = kernel::abi(registers, registers.number());
    let errno = result.wrapping_neg();
    let how = match errno {
        ENOSYS => refusal::ENOSYS,
        1..=MAX_ERRNO => {
            shared!((*slot).errnos).set(1 << if errno < 63 { errno } else { 63 });
            refusal::ERRNO
        }
        _ if result == registers.undone() => refusal::SIGNAL,
        // A supervisor has made it, in the task's place.
        _ if entrant.is_none() => return calls::record_application(slot, abi, number),
        _ => return,
    };
    let place = how as usize * ABIS + abi as usize;
    if number < u64::from(CALLS) && place < REFUSALS * ABIS {
        // SAFETY: the map's value, and `place` is in range.
        let bitmap = unsafe { (&raw mut (*slot).refused).cast::<Bitmap>().add(place) };
        set(slot, bitmap, number);
    }
}
