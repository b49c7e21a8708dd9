//! A slot, as the kernel side fills it, in the terms of the domain.

use gadgetd_core::{Abi, Loss, Machine, Phases, Refusal, RefusedCall, Syscall};
use gadgetd_ebpf_common::{ABIS, ARM_PRIVATE, ARM_PRIVATE_COUNT, Bitmap, CALLS, Owner, Slot, refusal, stage};

/// The calls of a slot, by ABI and number.
pub(crate) fn syscalls(slot: &Slot) -> Vec<Syscall> {
    let runtime = under_filter(slot);
    let mut calls = Vec::new();
    // Of whom it is not known whether they are the application: a profile without their calls might break it.
    let pending = if undecided(slot) == 0 { [Bitmap::default(); ABIS] } else { slot.pending };
    for ((abi, certain), pending) in Abi::ALL.into_iter().zip(&slot.application).zip(&pending) {
        let application: Bitmap = std::array::from_fn(|word| certain[word] | pending[word]);
        let runtime = if abi == Abi::Native { &runtime } else { &Bitmap::default() };
        for number in 0..CALLS {
            let phases = Phases { runtime: has(runtime, number), application: has(&application, number) };
            if phases.runtime || phases.application {
                calls.push(Syscall { abi, number: called(Machine::current(), abi, number), phases });
            }
        }
    }
    calls
}

/// The calls of a slot that a filter kept from running.
pub(crate) fn refused(slot: &Slot) -> Vec<RefusedCall> {
    // Which of several errnos a call got is not kept.
    let one = slot.errnos.is_power_of_two() && slot.errnos >> 63 == 0;
    let errno = one.then(|| slot.errnos.ilog2()).and_then(|errno| u16::try_from(errno).ok());
    let answers = [
        (refusal::ENOSYS, Refusal::MISSING),
        (refusal::ERRNO, Refusal::Errno(errno)),
        (refusal::SIGNAL, Refusal::Signal),
    ];
    let mut calls = Vec::new();
    for (index, answer) in answers {
        for (abi, bitmap) in Abi::ALL.into_iter().zip(&slot.refused[index as usize]) {
            let numbers = (0..CALLS).filter(|number| has(bitmap, *number));
            calls.extend(numbers.map(|number| {
                let number = called(Machine::current(), abi, number);
                RefusedCall { abi, number, answer }
            }));
        }
    }
    calls.sort_unstable();
    calls
}

/// The number of the call that has this place in its ABI's bitmap.
fn called(machine: Machine, abi: Abi, place: u32) -> u32 {
    let first = CALLS - ARM_PRIVATE_COUNT;
    let private = machine == Machine::Aarch64 && abi == Abi::Compat && place >= first;
    if private { ARM_PRIVATE + (place - first) } else { place }
}

/// The families of a slot of which it is not certain what they are; bit `number % 64`.
pub(crate) fn undecided(slot: &Slot) -> u64 {
    // One task of a family may set the first bit while another, on another CPU, sets the second and clears the first.
    slot.undecided & !slot.resolved
}

/// What was lost of a slot itself.
pub(crate) fn losses(owner: &Owner, slot: &Slot) -> impl Iterator<Item = Loss> {
    let all = [
        counted(slot.unknown_numbers, Loss::UnknownNumbers),
        counted(slot.foreign_runtime, Loss::ForeignRuntimeCalls),
        counted(slot.lost_children + owner.lost_children, Loss::ChildCgroups),
        counted(slot.lost_phases, Loss::Phases),
        counted(slot.lost_refusals, Loss::Refusals),
        counted(slot.departed, Loss::Departures),
        counted(undecided(slot).count_ones().into(), Loss::Undecided),
    ];
    all.into_iter().flatten()
}

/// A loss, if there was one.
pub(crate) fn counted(count: u64, loss: impl FnOnce(u64) -> Loss) -> Option<Loss> {
    (count != 0).then(|| loss(count))
}

/// What a filter would have to allow for the OCI runtime to start the container, and sessions in it.
fn under_filter(slot: &Slot) -> Bitmap {
    let [root, pdeathsig, filter] = &slot.runtime;
    const { assert!(stage::ROOT == 1 && stage::PDEATHSIG == 2 && stage::FILTER == 3) };
    // Where a filter was loaded, what ran under it is known exactly. Else runc's marker gives a little too much.
    let tightest = if filter.iter().any(|word| *word != 0) { filter } else { pdeathsig };
    std::array::from_fn(|word| root[word] | tightest[word])
}

fn has(bitmap: &Bitmap, number: u32) -> bool {
    bitmap[number as usize / 64] & (1 << (number % 64)) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arms_own_calls_keep_their_numbers() {
        for (machine, abi, place, number) in [
            (Machine::Aarch64, Abi::Compat, 1013, 0xf_0005),
            (Machine::Aarch64, Abi::Compat, 1007, 1007),
            (Machine::Aarch64, Abi::Native, 1013, 1013),
            (Machine::X86_64, Abi::Compat, 1013, 1013),
        ] {
            assert_eq!(called(machine, abi, place), number, "{machine:?} {abi}");
        }
        let call = Syscall {
            abi: Abi::Compat,
            number: called(Machine::Aarch64, Abi::Compat, 1013),
            phases: Phases::APPLICATION,
        };
        assert_eq!(call.name(Machine::Aarch64), Some("set_tls"));
    }

    #[test]
    fn a_late_doubt_does_not_count() {
        let slot = Slot { undecided: 0b110, resolved: 0b010, ..Slot::EMPTY };
        assert_eq!(undecided(&slot), 0b100);
    }
}
