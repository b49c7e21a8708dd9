//! A `u64` that other CPUs and user space change at the same time. The compiler has no atomic operations for this
//! target; the machine has (since kernel 5.12).

use core::{arch::asm, cell::UnsafeCell, ptr};

/// A shared value, aligned as every one in a map is.
#[repr(transparent)]
pub struct Shared(UnsafeCell<u64>);

// SAFETY: every access is one instruction on an aligned word.
unsafe impl Sync for Shared {}

impl Shared {
    pub const fn new(value: u64) -> Self {
        Self(UnsafeCell::new(value))
    }

    /// A field of a map's value.
    ///
    /// # Safety
    /// `value` must point into the value of a map.
    #[inline(always)]
    pub unsafe fn from_ptr<'a>(value: *mut u64) -> &'a Self {
        // SAFETY: the same layout, and maps live as long as the program.
        unsafe { &*value.cast() }
    }

    #[inline(always)]
    pub fn load(&self) -> u64 {
        // SAFETY: valid and aligned.
        unsafe { ptr::read_volatile(self.0.get()) }
    }

    #[inline(always)]
    pub fn store(&self, value: u64) {
        // SAFETY: valid and aligned.
        unsafe { ptr::write_volatile(self.0.get(), value) }
    }

    #[inline(always)]
    pub fn increment(&self) {
        // SAFETY: valid and aligned.
        unsafe { asm!("lock *(u64 *)({at} + 0) += {one}", at = in(reg) self.0.get(), one = in(reg) 1_u64) }
    }

    /// Adds, and keeps everything that this CPU reads and writes before apart from everything after: of the operations
    /// that older kernels know, only those that return what was there do so on every machine. (The others, and plain loads and
    /// stores, may be seen in any order on arm64.)
    #[inline(always)]
    pub fn add_in_order(&self, number: u64) {
        // SAFETY: valid and aligned.
        unsafe {
            asm!("{number} = atomic_fetch_add((u64 *)({at} + 0), {number})",
                at = in(reg) self.0.get(), number = inout(reg) number => _);
        }
    }

    /// Clears bits.
    #[inline(always)]
    pub fn clear(&self, bits: u64) {
        // SAFETY: valid and aligned.
        unsafe { asm!("lock *(u64 *)({at} + 0) &= {bits}", at = in(reg) self.0.get(), bits = in(reg) !bits) }
    }

    /// Sets bits.
    #[inline(always)]
    pub fn set(&self, bits: u64) {
        // SAFETY: valid and aligned.
        unsafe { asm!("lock *(u64 *)({at} + 0) |= {bits}", at = in(reg) self.0.get(), bits = in(reg) bits) }
    }
}

/// A counter or bitmap word in the value of a map, by its raw place.
macro_rules! shared {
    ($place:expr) => {
        // SAFETY: used on places in the values of maps only.
        unsafe { $crate::atomic::Shared::from_ptr(&raw mut $place) }
    };
}
pub(crate) use shared;
