//! Calls that the kernel skips `sys_enter` for.
//!
//! Since Linux 7.2 or so, the kernel may preempt a task inside that program, and skips the program for every other task on the
//! same CPU until the first one goes on. It tells how often, but not for whom. So a second program on the same tracepoint, which runs
//! after `sys_enter`, finds out whether `sys_enter` ran for this call: each call leaves a mark, and the second program takes it
//! away. A call is lost only if the kernel skips both.
//!
//! Tasks that share a line overwrite each other's mark. What was overwritten counts as not skipped: a call is then at worst reported
//! as lost although it was not, never the other way round.

use gadgetd_ebpf_common::Losses;

use crate::{
    atomic::{Shared, shared},
    cache::{Key, LINES},
    kernel::{KERNEL, known},
    maps::LOSSES,
};

/// Keys are aligned, so their lowest bit is free.
const SEEN: u64 = 1;

/// A task's key: its last call is over. The key and [`SEEN`]: `sys_enter` ran for a call, and the second program has not yet.
static MARKS: [Shared; LINES] = [const { Shared::new(0) }; LINES];

#[inline(always)]
fn mark(key: Key) -> &'static Shared {
    // SAFETY: a line is below LINES.
    unsafe { MARKS.get_unchecked(key.line()) }
}

/// `sys_enter` runs for a task's call.
#[inline(always)]
pub fn see(key: Key) {
    if known(&KERNEL.preemptible) != 0 {
        mark(key).store(key.number() | SEEN);
    }
}

/// Whether the kernel skipped `sys_enter` for the call of a task for which the second program runs.
#[inline(always)]
pub fn was_skipped(key: Key) -> bool {
    let mark = mark(key);
    let last = mark.load();
    if last == key.number() {
        if let Some(losses) = LOSSES.get_ptr_mut(0) {
            let losses: *mut Losses = losses;
            shared!((*losses).made_up_for).increment();
        }
        return true;
    }
    mark.store(key.number());
    false
}

/// A task begins: it has made no call.
#[inline(always)]
pub fn begin(key: Key) {
    if known(&KERNEL.preemptible) != 0 {
        mark(key).store(key.number());
    }
}
