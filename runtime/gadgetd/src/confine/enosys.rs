//! Calls that are newer than a profile: runc answers them with `ENOSYS`, so that a C library tries an older one.
//!
//! A profile can't name what its author did not know. So runc puts a few instructions before the program of libseccomp: a
//! number above every one that the profile names gets `ENOSYS`, unless the profile's default action lets it run anyway. (runc's
//! `libcontainer/seccomp/patchbpf`, since 1.0.0-rc93.) crun leaves such calls to the default action.

use gadgetd_core::policy::{Action, Architecture, Policy};
use libseccomp::{ScmpArch, ScmpSyscall};

use super::filter::arch;

/// Bit that tells an x32 call from a native one.
const X32_BIT: u32 = 0x4000_0000;

/// The instructions that runc would put before a filter's own.
pub(super) fn stub(policy: &Policy) -> Vec<libc::sock_filter> {
    if matches!(
        policy.default_action,
        Action::Allow | Action::Log | Action::Trace(_) | Action::Errno(Some(ENOSYS))
    ) {
        return Vec::new();
    }
    let mut architectures = policy.architectures.clone();
    architectures.push(if cfg!(target_arch = "aarch64") {
        Architecture::Aarch64
    } else {
        Architecture::X86_64
    });
    architectures.sort_unstable();
    architectures.dedup();
    architectures.into_iter().filter_map(|it| Some(block(it, last(policy, it)?))).flatten().collect()
}

const ENOSYS: u16 = 38;

/// The largest number that the profile names.
fn last(policy: &Policy, architecture: Architecture) -> Option<u32> {
    let names = policy.rules.iter().flat_map(|rule| &rule.names);
    let architecture: ScmpArch = arch(architecture);
    let calls = names.filter_map(|name| ScmpSyscall::from_name_by_arch(name, architecture).ok());
    // Those that the architecture lacks have negative numbers.
    calls.filter_map(|call| u32::try_from(libseccomp::RawSyscall::from(call)).ok()).max()
}

/// Answers numbers above one with `ENOSYS`, and leaves others to what follows.
fn block(architecture: Architecture, last: u32) -> [libc::sock_filter; 6] {
    /// Places in `struct seccomp_data`.
    const NUMBER: u32 = 0;
    const ARCHITECTURE: u32 = 4;
    // `AUDIT_ARCH_…` of linux/audit.h.
    let audit = match architecture {
        Architecture::X86_64 | Architecture::X32 => 0xc000_003e,
        Architecture::X86 => 0x4000_0003,
        Architecture::Aarch64 => 0xc000_00b7,
        Architecture::Arm => 0x4000_0028,
    };
    // x86-64 and x32 differ in one bit of the number. (`u32::MAX` is no call: -1 is what a tracer leaves of one that it drops.)
    let (last, end) = match architecture {
        Architecture::X32 => (last | X32_BIT, u32::MAX),
        Architecture::X86_64 => (last, X32_BIT),
        Architecture::X86 | Architecture::Aarch64 | Architecture::Arm => (last, u32::MAX),
    };
    let load = |from| instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, from, 0, 0);
    let jump = |test, with, yes, no| instruction(libc::BPF_JMP | test | libc::BPF_K, with, yes, no);
    [
        load(ARCHITECTURE),
        jump(libc::BPF_JEQ, audit, 0, 4),
        load(NUMBER),
        jump(libc::BPF_JGE, end, 2, 0),
        jump(libc::BPF_JGT, last, 0, 1),
        instruction(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | u32::from(ENOSYS), 0, 0),
    ]
}

fn instruction(code: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code: u16::try_from(code).unwrap_or_default(), jt, jf, k }
}
