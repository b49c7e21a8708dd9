//! Which slot a cgroup has, and bits of a slot.

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use gadgetd_ebpf_common::{Bitmap, Slot};

use crate::{
    atomic::{Shared, shared},
    maps::CGROUPS,
};

/// What [`slot_index`] gives for a cgroup without a slot.
pub const NO_SLOT: u32 = u32::MAX;

/// The slot that a cgroup records into. (Not an `Option`: the compiler would copy a payload that is not there from one
/// place on the stack to another, and before Linux 6.3 the verifier refuses to read what was never written.)
#[inline(always)]
pub fn slot_index(cgroup: u64) -> u32 {
    // SAFETY: a copy is taken at once.
    unsafe { CGROUPS.get(cgroup) }.map_or(NO_SLOT, |index| *index)
}

/// Word and bit of a call in a bitmap.
#[inline(always)]
pub fn position(number: u64) -> (usize, u64) {
    ((number >> 6) as usize & 15, 1 << (number & 63))
}

/// Sets a bit, and notes the time if it was not set.
#[inline(always)]
pub fn set(slot: *mut Slot, bitmap: *mut Bitmap, number: u64) {
    let (word, bit) = position(number);
    merge(slot, bitmap, word, bit);
}

/// Sets bits of a word, and notes the time if one of them was not set.
#[inline(always)]
pub fn merge(slot: *mut Slot, bitmap: *mut Bitmap, word: usize, bits: u64) {
    // SAFETY: `bitmap` is a part of the map's value, and `word` within it.
    let cell = unsafe { &*bitmap.cast::<Shared>().add(word) };
    // Tested first: a write takes the cache line from every other CPU.
    if bits & !cell.load() == 0 {
        return;
    }
    cell.set(bits);
    // SAFETY: a helper without preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    shared!((*slot).last_new).store(now);
}
