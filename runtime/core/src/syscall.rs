use std::fmt;

use serde::{Deserialize, Serialize};
use syscalls::{aarch64, arm, x86, x86_64};

use crate::{Abi, Machine, x32_table};

/// In which part of a container's life a call was made. A call may belong to both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Phases {
    /// Made by the OCI runtime while it prepared the container, under the container's filter: a
    /// profile without it keeps the container from starting.
    pub runtime: bool,
    /// Made by the container's own program.
    pub application: bool,
}

impl Phases {
    /// The runtime phase alone.
    pub const RUNTIME: Self = Self { runtime: true, application: false };
    /// The application phase alone.
    pub const APPLICATION: Self = Self { runtime: false, application: true };
    /// Both phases.
    pub const BOTH: Self = Self { runtime: true, application: true };
}

/// One system call that a container made at least once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Syscall {
    /// The ABI by which it was made.
    pub abi: Abi,
    /// Its number in that ABI's table (for x32: without bit 30).
    pub number: u32,
    /// When it was made.
    pub phases: Phases,
}

impl Syscall {
    /// The kernel's name of the call, or `None` where the tables do not know the number.
    ///
    /// The tables are those of the `syscalls` crate; the numbers that only x32 has (512 and up)
    /// come from the kernel's own header.
    pub fn name(&self, machine: Machine) -> Option<&'static str> {
        let number = usize::try_from(self.number).ok()?;
        let name = match (machine, self.abi) {
            (Machine::X86_64, Abi::X32) if self.number >= x32_table::FIRST => {
                let index = number - usize::try_from(x32_table::FIRST).ok()?;
                x32_table::NAMES.get(index).copied()
            }
            (Machine::X86_64, Abi::Native | Abi::X32) => x86_64::Sysno::new(number).map(|n| n.name()),
            (Machine::X86_64, Abi::Compat) => x86::Sysno::new(number).map(|n| n.name()),
            (Machine::Aarch64, Abi::Native) => aarch64::Sysno::new(number).map(|n| n.name()),
            (Machine::Aarch64, Abi::Compat) => arm::Sysno::new(number).map(|n| n.name()).or_else(|| {
                let private = ARM_PRIVATE.iter().find(|(number, _)| *number == self.number);
                private.map(|(_, name)| *name)
            }),
            (Machine::Aarch64, Abi::X32) => None,
        };
        // Where the crate's name is not the kernel's, no filter would know it.
        match name {
            Some("r#break") => Some("break"),
            Some("fstatat") => Some("newfstatat"),
            name => name,
        }
    }
}

/// The number that a call of this name has in the tables, the inverse of [`Syscall::name`].
///
/// Where two numbers have the name it is the higher one: x32 has a number of its own for what it does differently
/// from the native ABI, whose numbers it shares otherwise.
///
/// ```
/// use gadgetd_core::{Abi, Machine, syscall_number};
///
/// assert_eq!(syscall_number(Machine::X86_64, Abi::Native, "execve"), Some(59));
/// assert_eq!(syscall_number(Machine::X86_64, Abi::Compat, "execve"), Some(11));
/// ```
pub fn syscall_number(machine: Machine, abi: Abi, name: &str) -> Option<u32> {
    let phases = Phases::default();
    let private = ARM_PRIVATE.iter().map(|(number, _)| *number);
    let mut all = (0..NUMBERS).chain(private).rev();
    all.find(|&number| Syscall { abi, number, phases }.name(machine) == Some(name))
}

/// The calls of 32-bit Arm that are in no table: `arch/arm/include/uapi/asm/unistd.h` has their numbers, libseccomp the same names.
const ARM_PRIVATE: [(u32, &str); 6] = [
    (0xf_0001, "breakpoint"),
    (0xf_0002, "cacheflush"),
    (0xf_0003, "usr26"),
    (0xf_0004, "usr32"),
    (0xf_0005, "set_tls"),
    (0xf_0006, "get_tls"),
];

/// More numbers than any table has.
const NUMBERS: u32 = 1024;

impl fmt::Display for Phases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.runtime, self.application) {
            (true, true) => "runtime, application",
            (true, false) => "runtime",
            (false, true) => "application",
            (false, false) => "none",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(machine: Machine, abi: Abi, number: u32) -> Option<&'static str> {
        Syscall { abi, number, phases: Phases::APPLICATION }.name(machine)
    }

    #[test]
    fn one_number_has_a_name_per_abi() {
        assert_eq!(name(Machine::X86_64, Abi::Native, 11), Some("munmap"));
        assert_eq!(name(Machine::X86_64, Abi::Compat, 11), Some("execve"));
        assert_eq!(name(Machine::X86_64, Abi::X32, 11), Some("munmap"));
        assert_eq!(name(Machine::Aarch64, Abi::Native, 63), Some("read"));
        assert_eq!(name(Machine::Aarch64, Abi::Compat, 3), Some("read"));
    }

    #[test]
    fn calls_of_arms_own_have_names() {
        assert_eq!(name(Machine::Aarch64, Abi::Compat, 0xf_0005), Some("set_tls"));
        assert_eq!(syscall_number(Machine::Aarch64, Abi::Compat, "cacheflush"), Some(0xf_0002));
        assert_eq!(name(Machine::Aarch64, Abi::Native, 0xf_0005), None);
        assert_eq!(name(Machine::X86_64, Abi::Compat, 0xf_0005), None);
        assert_eq!(name(Machine::Aarch64, Abi::Compat, 0xf_0007), None);
    }

    #[test]
    fn names_are_the_kernels() {
        assert_eq!(name(Machine::Aarch64, Abi::Native, 79), Some("newfstatat"));
        assert_eq!(name(Machine::X86_64, Abi::Compat, 17), Some("break"));
        let machines = [Machine::X86_64, Machine::Aarch64].into_iter();
        let all = machines.flat_map(|machine| Abi::ALL.map(|abi| (machine, abi)));
        for name in all.flat_map(|(machine, abi)| (0..1000).filter_map(move |n| name(machine, abi, n))) {
            assert!(
                name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'),
                "{name}"
            );
        }
    }

    #[test]
    fn a_name_leads_back_to_its_number() {
        for machine in [Machine::X86_64, Machine::Aarch64] {
            for abi in Abi::ALL {
                for n in 0..2 * NUMBERS {
                    let Some(called) = name(machine, abi, n) else { continue };
                    let number = syscall_number(machine, abi, called).expect(called);
                    assert_eq!(name(machine, abi, number), Some(called), "{machine:?} {abi}");
                    assert!(
                        number == n || abi == Abi::X32 && number >= x32_table::FIRST,
                        "{abi} {called} {n}"
                    );
                }
                assert_eq!(syscall_number(machine, abi, "opne"), None);
            }
        }
    }

    #[test]
    fn x32_has_numbers_of_its_own() {
        assert_eq!(name(Machine::X86_64, Abi::X32, 520), Some("execve"));
        assert_eq!(name(Machine::X86_64, Abi::X32, 547), Some("pwritev2"));
        assert_eq!(name(Machine::X86_64, Abi::X32, 548), None);
        assert_eq!(name(Machine::X86_64, Abi::Native, 520), None);
    }

    #[test]
    fn unknown_numbers_have_no_name() {
        for abi in Abi::ALL {
            assert_eq!(name(Machine::X86_64, abi, 1000), None);
            assert_eq!(name(Machine::X86_64, abi, u32::MAX), None);
            assert_eq!(name(Machine::Aarch64, abi, 1000), None);
        }
    }
}
