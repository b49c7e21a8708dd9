//! bpf(2) on descriptors of programs and links, and where they are pinned.
//!
//! aya does the same only for what it has loaded itself: for a pinned program it asks the kernel for the program's BTF, which
//! takes `CAP_SYS_ADMIN`, and gadgetd on a node of a cluster does not have it.
#![allow(unsafe_code, reason = "bpf(2) has no other binding for descriptors")]

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

/// Commands of bpf(2) (`linux/bpf.h`).
const BPF_OBJ_PIN: libc::c_int = 6;
const BPF_OBJ_GET: libc::c_int = 7;
const BPF_PROG_TEST_RUN: libc::c_int = 10;
const BPF_RAW_TRACEPOINT_OPEN: libc::c_int = 17;

/// `union bpf_attr` of the commands on pins, up to the last field that is used here. The kernel takes the others for zero.
#[repr(C)]
struct Pin {
    path: u64,
    descriptor: u32,
    flags: u32,
}

/// The same for opening a tracepoint.
#[repr(C)]
struct Open {
    name: u64,
    program: u32,
    padding: u32,
}

/// The same for running a program.
#[repr(C)]
struct Run {
    program: u32,
    result: u32,
}

/// Pins a map, a program or a link at a path on a bpf file system: it then lives as long as the path.
pub(crate) fn pin(descriptor: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attributes = Pin { path: path.as_ptr() as u64, descriptor: number(descriptor), flags: 0 };
    bpf(BPF_OBJ_PIN, &mut attributes).map(drop)
}

/// Opens what is pinned at a path.
pub(crate) fn get(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let opened = bpf(BPF_OBJ_GET, &mut Pin { path: path.as_ptr() as u64, descriptor: 0, flags: 0 })?;
    // SAFETY: a new descriptor, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(opened) })
}

/// Attaches a program to the tracepoint that it was loaded for. It is detached when the link is neither open nor pinned.
pub(crate) fn attach(program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let link = bpf(BPF_RAW_TRACEPOINT_OPEN, &mut Open { name: 0, program: number(program), padding: 0 })?;
    // SAFETY: a new descriptor, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(link) })
}

/// Runs a raw tracepoint program that has no use for its arguments.
pub(crate) fn run(program: BorrowedFd<'_>) -> io::Result<()> {
    bpf(BPF_PROG_TEST_RUN, &mut Run { program: number(program), result: 0 }).map(drop)
}

fn number(descriptor: BorrowedFd<'_>) -> u32 {
    descriptor.as_raw_fd().cast_unsigned()
}

fn bpf<T>(command: libc::c_int, attributes: &mut T) -> io::Result<libc::c_int> {
    // SAFETY: attributes of a command that only uses the descriptors and strings in them, and the size that they have.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    libc::c_int::try_from(result).map_err(io::Error::other)
}
