//! The least there is: an eBPF program that does nothing, attached to `sys_enter`.
//!
//! What it costs is the price of having any program there at all; ours is measured against it.
#![allow(unsafe_code, reason = "bpf(2) has no safe binding for two instructions")]

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use anyhow::{Context, Result};
use aya_obj::btf::{Btf, BtfKind};

/// How a program is attached to the tracepoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// As a raw tracepoint program.
    RawTracepoint,
    /// As a BTF-typed one (`tp_btf`).
    BtfTracepoint,
}

/// A loaded program.
pub(crate) struct Empty {
    kind: Kind,
    program: OwnedFd,
}

/// `struct bpf_attr` for `BPF_PROG_LOAD`, up to the last field that is used here.
#[repr(C)]
#[derive(Default)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
    prog_btf_fd: u32,
    func_info_rec_size: u32,
    func_info: u64,
    func_info_cnt: u32,
    line_info_rec_size: u32,
    line_info: u64,
    line_info_cnt: u32,
    attach_btf_id: u32,
}

/// The same for `BPF_RAW_TRACEPOINT_OPEN`.
#[repr(C)]
struct Open {
    name: u64,
    prog_fd: u32,
    pad: u32,
}

impl Empty {
    /// Loads `return 0`.
    pub(crate) fn load(kind: Kind) -> Result<Self> {
        const BPF_PROG_LOAD: i64 = 5;
        const BPF_PROG_TYPE_RAW_TRACEPOINT: u32 = 17;
        const BPF_PROG_TYPE_TRACING: u32 = 26;
        const BPF_TRACE_RAW_TP: u32 = 23;
        // `r0 = 0; exit`
        let instructions: [u64; 2] = [0xb7, 0x95];
        let mut load = Load {
            prog_type: BPF_PROG_TYPE_RAW_TRACEPOINT,
            insn_cnt: 2,
            insns: instructions.as_ptr() as u64,
            license: c"GPL".as_ptr() as u64,
            ..Load::default()
        };
        if kind == Kind::BtfTracepoint {
            load.prog_type = BPF_PROG_TYPE_TRACING;
            load.expected_attach_type = BPF_TRACE_RAW_TP;
            let btf = Btf::from_sys_fs().context("cannot read the kernel's BTF")?;
            load.attach_btf_id = btf
                .id_by_type_name_kind("btf_trace_sys_enter", BtfKind::Typedef)
                .context("the kernel has no tracepoint sys_enter")?;
        }
        let program = bpf(BPF_PROG_LOAD, &load).context("the kernel refused an empty program")?;
        Ok(Self { kind, program })
    }

    /// Attached until what it returns is dropped.
    pub(crate) fn attach(&self) -> Result<OwnedFd> {
        const BPF_RAW_TRACEPOINT_OPEN: i64 = 17;
        let name = match self.kind {
            Kind::RawTracepoint => c"sys_enter".as_ptr() as u64,
            Kind::BtfTracepoint => 0,
        };
        let open = Open { name, prog_fd: self.program.as_raw_fd().unsigned_abs(), pad: 0 };
        bpf(BPF_RAW_TRACEPOINT_OPEN, &open).context("cannot attach an empty program")
    }
}

fn bpf<T>(command: i64, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: the attributes are laid out as the kernel's, what they point to lives, and both commands return a
    // descriptor.
    unsafe {
        let fd = libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>());
        match i32::try_from(fd) {
            Ok(fd) if fd >= 0 => Ok(OwnedFd::from_raw_fd(fd)),
            _ => Err(io::Error::last_os_error()),
        }
    }
}
