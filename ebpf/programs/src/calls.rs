//! `sys_enter`: sets the bit of the call in the slot of the caller's cgroup. The kernel gets here only when seccomp has
//! let the call run.

use aya_ebpf::{
    EbpfContext,
    macros::{btf_tracepoint, tracepoint},
    programs::{BtfTracePointContext, TracePointContext},
};
use gadgetd_ebpf_common::{ABI_NATIVE, ABIS, Bitmap, CALLS, Slot, stage};

use crate::{
    atomic::{Shared, shared},
    cache::{self, Key},
    entrant::Entrant,
    kernel::{self, Registers, Task},
    lineage,
    maps::{CGROUPS, SLOTS},
    refused,
    slots::{position, set},
};

/// The hot path: nothing but loads. It knows the caller's slot, sees that the call is recorded already, and is
/// done; everything else is left to [`look_up`].
#[btf_tracepoint(function = "sys_enter")]
pub fn sys_enter(ctx: BtfTracePointContext) -> i32 {
    match cache::slot(Key::new(ctx.arg(0))) {
        Some(cache::UNRECORDED) => return 0,
        Some(index) if is_recorded(Registers(ctx.arg(0)), ctx.arg(1), index) => return 0,
        _ => {}
    }
    look_up(Registers(ctx.arg(0)), ctx.arg(1));
    0
}

/// The same, for kernels that run [`sys_enter`] with preemption enabled (decision 024). It costs more: an event has a copy of all
/// arguments, and no pointer to the registers.
#[tracepoint(category = "raw_syscalls", name = "sys_enter")]
pub fn sys_enter_event(ctx: TracePointContext) -> u32 {
    let registers = Registers(Task::current().registers());
    // SAFETY: the event's second word is the number.
    let number = unsafe { *ctx.as_ptr().cast::<u64>().add(1) };
    match cache::slot(Key::new(registers.0)) {
        Some(cache::UNRECORDED) => return 0,
        Some(index) if is_recorded(registers, number, index) => return 0,
        _ => {}
    }
    look_up(registers, number);
    0
}

/// Whether nothing is left to do for a native call: its bit is set in the slot, and no filter might refuse it. The bit comes
/// first: fewer values outlive the helper's call.
#[inline(always)]
fn is_recorded(registers: Registers, number: u64, index: u32) -> bool {
    if number >= u64::from(CALLS) {
        return false;
    }
    let Some(slot) = SLOTS.get_ptr(index) else { return false };
    // SAFETY: the map's value; bits are only ever set.
    let bitmap = unsafe { &raw const (*slot).application[ABI_NATIVE as usize] };
    let (word, bit) = position(number);
    // SAFETY: `word` is within the bitmap.
    let is_set = unsafe { (*bitmap.cast::<Shared>().add(word)).load() & bit != 0 };
    is_set && !kernel::is_compat(registers) && refused::lets_run(Task::current(), index)
}

/// Everything but the hot path: finds slot and phase, and records the call.
#[inline(never)]
fn look_up(registers: Registers, number: u64) -> u64 {
    let generation = cache::generation(Key::new(registers.0));
    let task = Task::current();
    // SAFETY: user space removes a cgroup only by its own will; a reused element means a slot for a moment too long.
    let Some(&index) = (unsafe { CGROUPS.get(kernel::current_cgroup_id()) }) else {
        cache::store(Key::new(registers.0), generation, cache::UNRECORDED);
        return 0;
    };
    let Some(slot) = SLOTS.get_ptr_mut(index) else { return 0 };
    refused::lets_run(task, index);
    let (abi, number) = kernel::abi(registers, number);
    match lineage::entrant(task, index, slot) {
        None => {
            cache::store(Key::new(registers.0), generation, index);
            record_application(slot, abi, number);
        }
        Some(entrant) => record_runtime(slot, entrant, abi, number, registers),
    }
    0
}

#[inline(always)]
pub fn record_application(slot: *mut Slot, abi: u32, number: u64) {
    if number >= u64::from(CALLS) {
        shared!((*slot).unknown_numbers).increment();
        return;
    }
    // SAFETY: the map's value.
    record(slot, unsafe { (&raw mut (*slot).application).cast() }, abi, number);
}

/// Records a call in one of a slot's bitmaps by ABI.
#[inline(always)]
pub fn record(slot: *mut Slot, bitmaps: *mut Bitmap, abi: u32, number: u64) {
    if abi as usize >= ABIS {
        return;
    }
    // SAFETY: `abi` is in range.
    set(slot, unsafe { bitmaps.add(abi as usize) }, number);
}

#[inline(always)]
fn record_runtime(slot: *mut Slot, entrant: &mut Entrant, abi: u32, number: u64, registers: Registers) {
    let marks = abi == ABI_NATIVE && entrant.passes_marker(number, registers);
    lineage::doubt(entrant, slot, abi, number);
    if marks {
        return;
    }
    if abi != ABI_NATIVE {
        if entrant.stage() != stage::NONE {
            shared!((*slot).foreign_runtime).increment();
        }
        return;
    }
    if number >= u64::from(CALLS) {
        if entrant.stage() != stage::NONE {
            shared!((*slot).unknown_numbers).increment();
        }
        return;
    }
    let (word, bit) = position(number);
    match entrant.stage() {
        stage::NONE => {}
        stage::ROOT => entrant.since_marker[word] |= bit,
        // SAFETY: the map's value.
        stage::PDEATHSIG => set(slot, unsafe { &raw mut (*slot).runtime[1] }, number),
        // SAFETY: the map's value.
        _ => set(slot, unsafe { &raw mut (*slot).runtime[2] }, number),
    }
}
