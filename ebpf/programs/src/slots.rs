//! Bits of a slot.

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use gadgetd_ebpf_common::{Bitmap, Slot};

use crate::atomic::{Shared, shared};

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
