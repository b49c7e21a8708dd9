//! What a task's calls are to be recorded into, so that `sys_enter` need not look it up.
//!
//! The key is the address of the registers that a system call saves: `sys_enter` gets it as an argument, it is on the
//! task's own kernel stack, so no other living task has it, and it stays while the task lives. A new task may get the stack of
//! one that died: `fork` forgets what was known of it. Everything is forgotten at once when the generation changes:
//! when user space changed which cgroup has which slot, or a task changed its cgroup.
//!
//! Two tasks that share a line overwrite each other's entry, possibly at the same time. So the first word of an entry holds the
//! key combined with the second word: a mix of two entries fits neither key, in whichever order the words are seen.
//!
//! Two things must be seen in order: a look-up after the generation that it is stored with, and a new generation after
//! what made it necessary. Decision 009 has the argument.

use core::{arch::asm, ffi::c_void};

use gadgetd_ebpf_common::MACHINE_X86_64;

use crate::{
    atomic::Shared,
    kernel::{KERNEL, Task, known},
};

const BITS: u32 = 13;
const LINES: usize = 1 << BITS;

/// Slot number that stands for "this task's cgroup has no slot".
pub const UNRECORDED: u32 = u32::MAX;

#[repr(C, align(64))]
struct Aligned<T>(T);

/// Goes up whenever an entry may have become wrong.
static GENERATION: Aligned<Shared> = Aligned(Shared::new(1));

struct Entry {
    /// The key, exclusive-or `value`.
    check: Shared,
    /// The generation (upper half) and the slot.
    value: Shared,
}

static ENTRIES: Aligned<[Entry; LINES]> =
    Aligned([const { Entry { check: Shared::new(0), value: Shared::new(0) } }; LINES]);

/// A generation, as an entry has it.
#[derive(Clone, Copy)]
pub struct Generation(u64);

impl Generation {
    #[inline(always)]
    fn now() -> Self {
        Self(GENERATION.0.load() << 32)
    }
}

/// The generation of what will be looked up after this, for [`store`].
#[inline(always)]
pub fn generation(key: Key) -> Generation {
    let generation = Generation::now();
    // On x86 loads are in order. Elsewhere an operation on the line that `store` will write anyway puts them in order.
    if known(&KERNEL.machine) != MACHINE_X86_64 {
        key.entry().check.add_in_order(0);
    }
    generation
}

/// Makes every entry invalid that was looked up before what the caller, or user space, has changed.
#[inline(always)]
pub fn invalidate() {
    GENERATION.0.add_in_order(1);
}

/// What a task is known by here.
#[derive(Clone, Copy)]
pub struct Key(u64);

impl Key {
    /// From the address of a task's registers.
    ///
    /// The verifier knows that address for a pointer, with which nothing can be calculated. But the difference of two
    /// pointers is a number, and just as unique.
    #[inline(always)]
    pub fn new(registers: *const c_void) -> Self {
        let mut key = registers as u64;
        // SAFETY: a subtraction.
        unsafe { asm!("{key} -= {base}", key = inout(reg) key, base = in(reg) &raw const ENTRIES) };
        Self(key)
    }

    #[inline(always)]
    fn of(task: Task) -> Self {
        Self::new(task.registers())
    }

    #[inline(always)]
    fn entry(self) -> &'static Entry {
        // Stacks are a power of two apart: a multiplication spreads them over all lines.
        let line = self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - BITS);
        // SAFETY: `line` has BITS bits.
        unsafe { ENTRIES.0.get_unchecked(line as usize) }
    }
}

/// The slot of a task ([`UNRECORDED`]: none); `None` when it is not known.
#[inline(always)]
pub fn slot(key: Key) -> Option<u32> {
    let entry = key.entry();
    let value = entry.value.load();
    let current = entry.check.load() ^ value == key.0 && (value >> 32) << 32 == Generation::now().0;
    current.then_some(value as u32)
}

/// Keeps what was looked up.
#[inline(always)]
pub fn store(key: Key, generation: Generation, slot: u32) {
    let entry = key.entry();
    let value = generation.0 | u64::from(slot);
    entry.value.store(value);
    entry.check.store(key.0 ^ value);
}

/// Forgets what was known of the task that had this one's stack before.
#[inline(always)]
pub fn forget(task: Task) {
    Key::of(task).entry().check.store(0);
}
