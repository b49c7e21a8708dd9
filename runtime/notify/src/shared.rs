//! What the supervisor writes and its maker reads: memory that two processes share.
#![allow(unsafe_code)] // mmap(2)

use std::{
    io,
    ops::Deref,
    ptr::{self, NonNull},
    sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use gadgetd_core::{Abi, Completeness, Loss, Phases, Recorded, Syscall};
use rustix::{
    mm::{MapFlags, ProtFlags, mmap_anonymous, munmap},
    time::{ClockId, clock_gettime},
};

/// Numbers that are kept by ABI, as the eBPF recorder does; one at or above is counted as unknown.
const CALLS: u32 = 1024;

/// A recording. All zero is an empty one.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Shared {
    /// A bit for each call that was made, by ABI.
    made: [[AtomicU64; CALLS as usize / 64]; Abi::ALL.len()],
    unknown_numbers: AtomicU64,
    /// Calls of `seccomp` that the kernel refuses because of the filter that records.
    refused: AtomicU64,
    /// Calls that a signal has interrupted before they were carried out.
    pub interrupted: AtomicU64,
    /// When a bit was last set, in nanoseconds of the monotonic clock.
    last_new: AtomicU64,
    /// Why the filter could not be loaded or its listener not be sent: an errno.
    pub load_error: AtomicI32,
    /// Why the supervisor ended: 0 if it runs or was killed, [`ENDED`], or an errno.
    pub end: AtomicI32,
    /// From now on no call is let go on: who makes one can be killed and do nothing else.
    pub hold: AtomicBool,
}

/// In [`Shared::end`]: nobody is under the filter any more.
pub(crate) const ENDED: i32 = -1;

impl Shared {
    /// Notes a call. Makes no system call, allocates nothing and takes no lock.
    pub(crate) fn note(&self, call: Option<(Abi, u32)>) {
        let Some((abi, number)) = call.filter(|(_, number)| *number < CALLS) else {
            self.unknown_numbers.fetch_add(1, Relaxed);
            return;
        };
        let (word, bit) = (&self.made[abi as usize][number as usize / 64], 1 << (number % 64));
        // One process writes.
        if word.load(Relaxed) & bit == 0 {
            word.fetch_or(bit, Relaxed);
            self.last_new.store(now(), Relaxed);
        }
    }

    pub(crate) fn note_refused(&self) {
        self.refused.fetch_add(1, Relaxed);
    }

    pub(crate) fn recorded(&self) -> Recorded {
        let mut syscalls = Vec::new();
        for (abi, words) in Abi::ALL.into_iter().zip(&self.made) {
            let made = |number: &u32| words[*number as usize / 64].load(Relaxed) & 1 << (number % 64) != 0;
            let call = |number| Syscall { abi, number, phases: Phases::APPLICATION };
            syscalls.extend((0..CALLS).filter(made).map(call));
        }
        let counted = |count: &AtomicU64, loss: fn(u64) -> Loss| match count.load(Relaxed) {
            0 => None,
            count => Some(loss(count)),
        };
        let losses = [
            counted(&self.unknown_numbers, Loss::UnknownNumbers),
            counted(&self.refused, Loss::SeccompRefused),
        ];
        let last_new = self.last_new.load(Relaxed);
        Recorded {
            syscalls,
            // The command's own filters are asked as well, and theirs is the stricter answer: the supervisor is not told of it.
            refused: Vec::new(),
            completeness: Completeness { losses: losses.into_iter().flatten().collect(), from_start: true },
            since_new: (last_new != 0).then(|| Duration::from_nanos(now().saturating_sub(last_new))),
        }
    }
}

fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    // It begins at the start of the machine, and is positive.
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

/// A [`Shared`] of this process and those that it forks.
#[derive(Debug)]
pub(crate) struct Mapping(NonNull<Shared>);

// SAFETY: it points to atomics, in a mapping that lives as long as this.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: a fresh anonymous mapping touches no memory in use.
        let mapped = unsafe {
            mmap_anonymous(
                ptr::null_mut(),
                size_of::<Shared>(),
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
            )
        }?;
        Ok(Self(NonNull::new(mapped.cast()).ok_or(io::ErrorKind::OutOfMemory)?))
    }
}

impl Deref for Mapping {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        // SAFETY: the mapping has this size, is aligned to a page, was zeroed (a valid `Shared`), and lives as long as `self`.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this size, and nobody in this process refers to it any more.
        let _ = unsafe { munmap(self.0.as_ptr().cast(), size_of::<Shared>()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_is_recorded() {
        let shared = Mapping::new().unwrap();
        assert_eq!(shared.recorded().since_new, None);
        let calls =
            [(Abi::Native, 0), (Abi::Native, 63), (Abi::Native, 64), (Abi::Compat, 1023), (Abi::X32, 520)];
        for call in calls.into_iter().chain(calls) {
            shared.note(Some(call));
        }
        for unknown in [Some((Abi::Native, CALLS)), Some((Abi::Native, u32::MAX)), None] {
            shared.note(unknown);
        }
        shared.note_refused();
        let Recorded { syscalls, completeness, since_new, .. } = shared.recorded();
        assert_eq!(syscalls.iter().map(|call| (call.abi, call.number)).collect::<Vec<_>>(), calls);
        assert_eq!(completeness.losses, [Loss::UnknownNumbers(3), Loss::SeccompRefused(1)]);
        assert!(since_new.is_some());
    }
}
