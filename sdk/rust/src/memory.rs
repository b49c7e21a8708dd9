//! The memory of a component.
//!
//! A run allocates some hundred short strings, gives them back, and ends. The standard library's allocator takes
//! longer for that than the run's own work, and asks the host for memory twice before it begins. This one begins with
//! memory that is a part of the component, untouched until it is used.
#![allow(unsafe_code)] // Memory is handed over as addresses.

use core::{alloc::Layout, arch::wasm32, mem::MaybeUninit, ptr::NonNull};

use talc::{
    base::{Talc, binning::Binning},
    cell::TalcSyncCell,
    source::Source,
    wasm::WasmBinning,
};

const PAGE: usize = 64 << 10;
/// What a module has to begin with, in bytes: enough for a container with all calls there are.
const FIRST: usize = 256 << 10;
/// What is asked of the host at a time, in pages, if more is not needed.
const STEP: usize = 16;

static mut MEMORY: [MaybeUninit<u8>; FIRST] = [MaybeUninit::uninit(); FIRST];

#[global_allocator]
static ALLOCATOR: TalcSyncCell<Pages, WasmBinning> =
    TalcSyncCell::new_wasm(Pages { first_is_taken: false, end: None });

/// Where the allocator gets its memory from.
#[derive(Debug)]
struct Pages {
    first_is_taken: bool,
    /// The end of the pages that the host gave last.
    end: Option<NonNull<u8>>,
}

// SAFETY: nothing is allocated in here.
unsafe impl Source for Pages {
    fn acquire<B: Binning>(talc: &mut Talc<Self, B>, layout: Layout) -> Result<(), ()> {
        if !talc.source.first_is_taken {
            talc.source.first_is_taken = true;
            // SAFETY: only this line names the memory, and it runs once.
            let heap = unsafe { talc.claim((&raw mut MEMORY).cast(), FIRST) };
            return heap.map(drop).ok_or(());
        }
        let needed = (layout.size() + layout.align()) / PAGE + 1;
        let (pages, base) = grow(needed.max(STEP)).or_else(|| grow(needed)).ok_or(())?;
        let size = pages * PAGE;
        talc.source.end = match talc.source.end {
            // SAFETY: the host has just given the pages, and they follow those that it gave before.
            Some(end) if end.as_ptr() == base => Some(unsafe { talc.extend(end, base.wrapping_add(size)) }),
            // SAFETY: the host has just given the pages.
            _ => unsafe { talc.claim(base, size) },
        };
        talc.source.end.map(drop).ok_or(())
    }
}

/// That many pages, and where they begin.
fn grow(pages: usize) -> Option<(usize, *mut u8)> {
    let before = wasm32::memory_grow(0, pages);
    (before != usize::MAX).then(|| (pages, core::ptr::without_provenance_mut(before * PAGE)))
}
