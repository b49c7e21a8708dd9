//! What the program must know of the running kernel and machine, and what it needs of them.

use std::{
    fs::{self, File},
    io,
    os::fd::AsFd as _,
    path::Path,
};

use gadgetd_core::Machine;
use gadgetd_ebpf_common::{Kernel, MACHINE_AARCH64, MACHINE_X86_64, Markers, Offsets};
use rustix::{
    fs::{Mode, OFlags, openat},
    mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen},
    system::uname,
    thread::{CapabilitySet, capabilities},
};
use syscalls::{aarch64, x86_64};

use crate::{
    LoadError,
    btf::{Btf, BtfError},
};

const BTF: &str = "/sys/kernel/btf/vmlinux";
/// Names the mode that is in force in brackets (`kernel_lockdown(7)`). Nothing is there where securityfs is not mounted.
const LOCKDOWN: &str = "/sys/kernel/security/lockdown";

/// The newest thing that the program uses, by the name that the kernel's BTF has for it.
struct Newest {
    /// The value of `enum bpf_func_id`.
    helper: &'static str,
    /// What cannot be done without it.
    feature: &'static str,
    /// The first release of Linux that has it.
    since: &'static str,
}

fn newest(machine: Machine) -> Newest {
    match machine {
        // Commit dd6e10fbd9fb.
        Machine::X86_64 => {
            Newest { helper: "BPF_FUNC_task_pt_regs", feature: "eBPF helper bpf_task_pt_regs", since: "5.15" }
        }
        // Commit 1902472b4fa9. The compiler for eBPF has no mark of its own in BTF; this helper came with it.
        Machine::Aarch64 => Newest {
            helper: "BPF_FUNC_copy_from_user_task",
            feature: "atomic operations of eBPF on arm64",
            since: "5.18",
        },
    }
}

/// Refuses a kernel that lets nobody read its memory, not even an eBPF program: the verifier would only say that it does
/// not know the helper.
pub(crate) fn check_lockdown() -> Result<(), LoadError> {
    let locked = fs::read_to_string(LOCKDOWN).is_ok_and(|modes| modes.contains("[confidentiality]"));
    if locked { Err(LoadError::Lockdown) } else { Ok(()) }
}

/// Checks the rights of this process. The kernel's own answer would be `EPERM`, whatever is missing.
pub(crate) fn check_rights() -> Result<(), LoadError> {
    let Ok(sets) = capabilities(None) else { return Ok(()) };
    let has = |one| sets.effective.contains(one);
    if has(CapabilitySet::SYS_ADMIN) {
        return Ok(());
    }
    let needed = [(CapabilitySet::BPF, "CAP_BPF"), (CapabilitySet::PERFMON, "CAP_PERFMON")];
    let missing: Vec<_> = needed.iter().filter(|(one, _)| !has(*one)).map(|(_, name)| *name).collect();
    if missing.is_empty() { Ok(()) } else { Err(LoadError::Capabilities(missing)) }
}

/// Facts about the running kernel.
pub(crate) struct Running {
    /// For the programs.
    pub(crate) kernel: Kernel,
    /// Whether programs on tracepoints run with preemption enabled. They are then skipped while a task on the same CPU was preempted
    /// inside them.
    pub(crate) preempts: bool,
}

/// Reads the kernel's BTF, which must have these tracepoints.
pub(crate) fn inspect(tracepoints: &[&'static str]) -> Result<Running, LoadError> {
    let path = Path::new(BTF);
    let data = fs::read(path).map_err(|source| LoadError::NoBtf { path: path.into(), source })?;
    let broken = |source: BtfError| LoadError::Btf { path: path.into(), source: source.into() };
    let btf = Btf::parse(&data).map_err(broken)?;
    let machine = Machine::current();
    let Newest { helper, feature, since } = newest(machine);
    if !btf.has_enumerator("bpf_func_id", helper) {
        let release = uname().release().to_string_lossy().into_owned();
        return Err(LoadError::TooOld { release, feature, since });
    }
    for tracepoint in tracepoints {
        if !btf.has_typedef(&format!("btf_trace_{tracepoint}")) {
            return Err(LoadError::MissingTracepoint(tracepoint));
        }
    }
    let kernel = Kernel {
        machine: match machine {
            Machine::X86_64 => MACHINE_X86_64,
            Machine::Aarch64 => MACHINE_AARCH64,
        },
        offsets: offsets(machine, |structure, field| {
            btf.offset(structure, field).map_err(|_| LoadError::MissingField { structure, field })
        })?,
        markers: markers(machine),
    };
    // It came with the change that enabled preemption there (Linux 7.2).
    Ok(Running { kernel, preempts: btf.has_function("trace_call_bpf_faultable") })
}

/// The kernel's number for a trace event (`category/name`). It is in tracefs alone, which need not be mounted if this process may mount it.
pub(crate) fn trace_event(event: &str) -> io::Result<u64> {
    let file = format!("events/{event}/id");
    let mounted = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"]
        .into_iter()
        .find_map(|mounted| fs::read_to_string(Path::new(mounted).join(&file)).ok());
    let text = mounted.map_or_else(|| read_from_tracefs(&file), Ok)?;
    text.trim().parse().map_err(io::Error::other)
}

/// Reads a file of tracefs, mounted where nobody else sees it.
fn read_from_tracefs(file: &str) -> io::Result<String> {
    let tracefs = fsopen("tracefs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(tracefs.as_fd())?;
    let root = fsmount(tracefs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_RDONLY)?;
    io::read_to_string(File::from(openat(root, file, OFlags::CLOEXEC, Mode::empty())?))
}

fn offsets(
    machine: Machine,
    at: impl Fn(&'static str, &'static str) -> Result<u64, LoadError>,
) -> Result<Offsets, LoadError> {
    Ok(Offsets {
        task_cgroups: at("task_struct", "cgroups")?,
        task_group_leader: at("task_struct", "group_leader")?,
        task_status: match machine {
            Machine::X86_64 => at("task_struct", "thread_info.status")?,
            Machine::Aarch64 => 0,
        },
        task_seccomp_mode: at("task_struct", "seccomp.mode")?,
        task_exit_code: at("task_struct", "exit_code")?,
        css_set_dfl_cgrp: at("css_set", "dfl_cgrp")?,
        cgroup_kn: at("cgroup", "kn")?,
        cgroup_root: at("cgroup", "root")?,
        cgroup_parent: at("cgroup", "self.parent")?,
        css_cgroup: at("cgroup_subsys_state", "cgroup")?,
        kernfs_id: at("kernfs_node", "id")?,
        root_hierarchy_id: at("cgroup_root", "hierarchy_id")?,
        binprm_filename: at("linux_binprm", "filename")?,
        task_nsproxy: at("task_struct", "nsproxy")?,
        nsproxy_mnt_ns: at("nsproxy", "mnt_ns")?,
    })
}

fn markers(machine: Machine) -> Markers {
    macro_rules! numbers {
        ($table:path) => {{
            use $table as Sysno;
            Markers {
                pivot_root: Sysno::pivot_root as u64,
                chroot: Sysno::chroot as u64,
                setns: Sysno::setns as u64,
                keyctl: Sysno::keyctl as u64,
                prctl: Sysno::prctl as u64,
                seccomp: Sysno::seccomp as u64,
            }
        }};
    }
    match machine {
        Machine::X86_64 => numbers!(x86_64::Sysno),
        Machine::Aarch64 => numbers!(aarch64::Sysno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_field_is_named() {
        let error = offsets(Machine::X86_64, |structure, field| {
            if field == "dfl_cgrp" { Err(LoadError::MissingField { structure, field }) } else { Ok(8) }
        });
        let error = error.expect_err("the field is not there");
        assert!(error.to_string().contains("struct css_set has no field dfl_cgrp"), "{error}");
    }
}
