//! bpf(2) on descriptors of programs and links, and where they are pinned.
//!
//! aya does the same only for what it has loaded itself: for a pinned program it asks the kernel for the program's BTF, which
//! takes `CAP_SYS_ADMIN`, and gadgetd on a node of a cluster does not have it.
#![allow(unsafe_code, reason = "bpf(2) has no other binding for descriptors")]

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

/// Commands of bpf(2) (`linux/bpf.h`).
const BPF_MAP_CREATE: libc::c_int = 0;
const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;
const BPF_OBJ_PIN: libc::c_int = 6;
const BPF_OBJ_GET: libc::c_int = 7;
const BPF_PROG_TEST_RUN: libc::c_int = 10;
const BPF_RAW_TRACEPOINT_OPEN: libc::c_int = 17;
const BPF_LINK_CREATE: libc::c_int = 28;

/// How a program is linked to a perf event.
const BPF_PERF_EVENT: u32 = 41;

/// Types of maps.
const BPF_MAP_TYPE_ARRAY: u32 = 2;
const BPF_MAP_TYPE_ARRAY_OF_MAPS: u32 = 12;

/// `union bpf_attr` for making a map.
#[repr(C)]
struct Create {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map: u32,
}

/// The same for changing an element.
#[repr(C)]
struct Update {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

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

/// The same for making a link.
#[repr(C)]
struct Link {
    program: u32,
    target: u32,
    kind: u32,
    flags: u32,
}

/// `struct perf_event_attr`, as large as its first version was.
#[repr(C)]
struct PerfEvent {
    kind: u32,
    size: u32,
    config: u64,
    rest: [u64; 6],
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

/// Opens the trace event with this number, to attach a program to.
pub(crate) fn open_event(event: u64) -> io::Result<OwnedFd> {
    const PERF_TYPE_TRACEPOINT: u32 = 2;
    const PERF_ATTR_SIZE_VER0: u32 = 64;
    const PERF_FLAG_FD_CLOEXEC: libc::c_ulong = 8;
    const { assert!(size_of::<PerfEvent>() == PERF_ATTR_SIZE_VER0 as usize) };
    let attributes =
        PerfEvent { kind: PERF_TYPE_TRACEPOINT, size: PERF_ATTR_SIZE_VER0, config: event, rest: [0; 6] };
    // The event has to be one of some CPU; its programs run on all of them.
    let (everybody, here, no_group) = (-1, rustix::thread::sched_getcpu(), -1);
    // SAFETY: attributes of the size that they say.
    let opened = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attributes,
            everybody,
            here,
            no_group,
            PERF_FLAG_FD_CLOEXEC,
        )
    };
    if opened < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(libc::c_int::try_from(opened).map_err(io::Error::other)?) })
}

/// Attaches a program to an open event, on every CPU.
pub(crate) fn attach_to_event(program: BorrowedFd<'_>, event: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut link = Link { program: number(program), target: number(event), kind: BPF_PERF_EVENT, flags: 0 };
    let link = bpf(BPF_LINK_CREATE, &mut link)?;
    // SAFETY: a new descriptor, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(link) })
}

/// Runs a raw tracepoint program that has no use for its arguments.
pub(crate) fn run(program: BorrowedFd<'_>) -> io::Result<()> {
    bpf(BPF_PROG_TEST_RUN, &mut Run { program: number(program), result: 0 }).map(drop)
}

/// Waits for eBPF programs that run.
///
/// The kernel has no command for that, but a change of a map of maps returns only when every program that may have seen
/// the old state has ended (commit 1ae80cf31938). `membarrier(2)` would wait for the same, and refuses to where CPUs run
/// without a timer tick (`nohz_full=`).
pub(crate) struct GracePeriod {
    outer: OwnedFd,
    inner: OwnedFd,
}

impl GracePeriod {
    /// Makes the maps.
    pub(crate) fn new() -> io::Result<Self> {
        let array = |map_type, inner_map| {
            let mut attributes =
                Create { map_type, key_size: 4, value_size: 4, max_entries: 1, map_flags: 0, inner_map };
            let map = bpf(BPF_MAP_CREATE, &mut attributes)?;
            // SAFETY: a new descriptor, and nobody else's.
            Ok::<_, io::Error>(unsafe { OwnedFd::from_raw_fd(map) })
        };
        let inner = array(BPF_MAP_TYPE_ARRAY, 0)?;
        Ok(Self { outer: array(BPF_MAP_TYPE_ARRAY_OF_MAPS, number(inner.as_fd()))?, inner })
    }

    /// Returns when every program that ran at the time of the call has ended.
    pub(crate) fn wait(&self) -> io::Result<()> {
        let (key, value) = (0_u32, number(self.inner.as_fd()));
        let mut attributes = Update {
            map: number(self.outer.as_fd()),
            padding: 0,
            key: (&raw const key) as u64,
            value: (&raw const value) as u64,
            flags: 0,
        };
        bpf(BPF_MAP_UPDATE_ELEM, &mut attributes).map(drop)
    }
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
