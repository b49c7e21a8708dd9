//! What of seccomp user notification the kernel must have.
#![allow(unsafe_code)] // seccomp(2)

use std::{fs, io};

use gadgetd_core::{Abi, Machine};

use crate::NotifyError;

/// The first version whose listener tells that the last task under the filter has gone (`POLLHUP`). Letting a call go on
/// (`SECCOMP_USER_NOTIF_FLAG_CONTINUE`) is older: 5.5.
const OLDEST: (u32, u32) = (5, 9);

/// Room for a notification, or for the answer to one, of any kernel: today's have 80 and 24 bytes.
pub(crate) type Buffer = [u64; 64];

/// Checks that this kernel can do it.
pub(crate) fn check() -> Result<(), NotifyError> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned();
    if version(&release).is_some_and(|version| version < OLDEST) {
        return Err(NotifyError::Kernel(release));
    }
    let action = libc::SECCOMP_RET_USER_NOTIF;
    seccomp(libc::SECCOMP_GET_ACTION_AVAIL, 0, (&raw const action).cast()).map_err(unavailable)?;
    let mut sizes = libc::seccomp_notif_sizes { seccomp_notif: 0, seccomp_notif_resp: 0, seccomp_data: 0 };
    seccomp(libc::SECCOMP_GET_NOTIF_SIZES, 0, (&raw mut sizes).cast()).map_err(unavailable)?;
    let largest = sizes.seccomp_notif.max(sizes.seccomp_notif_resp);
    if usize::from(largest) > size_of::<Buffer>() { Err(NotifyError::Size(largest)) } else { Ok(()) }
}

fn unavailable(error: io::Error) -> NotifyError {
    match error.kind() {
        io::ErrorKind::PermissionDenied => NotifyError::Refused(error),
        _ => NotifyError::Unavailable(error),
    }
}

/// `seccomp(2)`. Makes no other call, allocates nothing and takes no lock.
pub(crate) fn seccomp(
    operation: libc::c_uint,
    flags: libc::c_ulong,
    argument: *const libc::c_void,
) -> io::Result<libc::c_long> {
    // SAFETY: every operation that is used here reads or writes one structure behind `argument`, which callers give.
    match unsafe { libc::syscall(libc::SYS_seccomp, operation, flags, argument) } {
        -1 => Err(io::Error::last_os_error()),
        result => Ok(result),
    }
}

/// Major and minor number of a release such as `6.1.0-18-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Bit that tells an x32 call from a native one (`__X32_SYSCALL_BIT` of the kernel's headers).
const X32_BIT: u32 = 0x4000_0000;

/// By which ABI a call was made, and its number in that ABI's table; `None` for an architecture that this machine does not have.
/// The architectures are the `AUDIT_ARCH_…` of linux/audit.h.
pub(crate) fn call(machine: Machine, architecture: u32, number: u32) -> Option<(Abi, u32)> {
    const X86_64: u32 = 0xc000_003e;
    const I386: u32 = 0x4000_0003;
    const AARCH64: u32 = 0xc000_00b7;
    const ARM: u32 = 0x4000_0028;
    Some(match (machine, architecture) {
        (Machine::X86_64, X86_64) if number >> 30 == 1 => (Abi::X32, number & !X32_BIT),
        (Machine::X86_64, X86_64) | (Machine::Aarch64, AARCH64) => (Abi::Native, number),
        (Machine::X86_64, I386) | (Machine::Aarch64, ARM) => (Abi::Compat, number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_understood() {
        for (release, numbers) in [
            ("5.8.18", Some((5, 8))),
            ("5.10.0-32-amd64", Some((5, 10))),
            ("6.1-rc3+", Some((6, 1))),
            ("7", None),
            ("", None),
        ] {
            assert_eq!(version(release), numbers, "{release}");
        }
        assert!(version("5.8.18") < Some(OLDEST) && version("5.10.0") > Some(OLDEST));
    }

    #[test]
    fn the_architecture_and_the_number_tell_the_abi() {
        for (machine, architecture, number, expected) in [
            (Machine::X86_64, 0xc000_003e, 39, Some((Abi::Native, 39))),
            (Machine::X86_64, 0xc000_003e, 0x4000_0027, Some((Abi::X32, 39))),
            (Machine::X86_64, 0xc000_003e, u32::MAX, Some((Abi::Native, u32::MAX))),
            (Machine::X86_64, 0x4000_0003, 20, Some((Abi::Compat, 20))),
            (Machine::X86_64, 0xc000_00b7, 20, None),
            (Machine::Aarch64, 0xc000_00b7, 0x4000_0027, Some((Abi::Native, 0x4000_0027))),
            (Machine::Aarch64, 0x4000_0028, 20, Some((Abi::Compat, 20))),
            (Machine::Aarch64, 0x4000_0003, 20, None),
        ] {
            assert_eq!(
                call(machine, architecture, number),
                expected,
                "{machine:?} {architecture:x} {number}"
            );
        }
    }
}
