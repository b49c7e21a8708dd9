//! Starting a command under a filter that may forbid nearly everything.
//!
//! Between the filter and the program there is nothing but the `execve` itself. If that fails, the
//! child may not be allowed to tell anybody: not to write, not even to exit. So it leaves the
//! reason in memory that it shares with its parent.
#![allow(unsafe_code)] // fork, shared memory, seccomp(2) and execve(2)

use std::{
    env,
    ffi::{CString, OsString},
    io,
    os::unix::ffi::OsStrExt,
    path::Path,
    ptr,
    sync::atomic::{AtomicI32, Ordering},
};

use anyhow::{Context, Result};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use thiserror::Error;
use tokio::process::{Child, Command};

use super::filter::Filter;
use crate::command;

/// Why the command did not start.
#[derive(Debug, Error)]
pub(super) enum Failed {
    #[error("the kernel refused the filter: {0}")]
    Filter(io::Error),
    #[error("{reason}{hint}")]
    Exec { reason: String, hint: &'static str },
}

/// A command that was started, or that is about to fail.
pub(super) struct Running {
    pub child: Child,
    errno: Shared,
}

impl Running {
    /// After the child has ended: whether it ended because `execve` had failed.
    pub(super) fn failure(&self, file: &Path) -> Result<(), Failed> {
        match self.errno.get().load(Ordering::Relaxed) {
            0 => Ok(()),
            errno => {
                let error = io::Error::from_raw_os_error(errno);
                // Files that can be executed were looked for before: it is most likely the filter.
                let hint = match errno {
                    libc::EPERM | libc::EACCES | libc::ENOSYS => "; does the profile allow execve?",
                    _ => "",
                };
                Err(Failed::Exec { reason: command::explain_exec(file, &error), hint })
            }
        }
    }
}

/// Starts `file` with these arguments (the first is its name) under the filter.
pub(super) fn start(
    file: &Path,
    arguments: &[OsString],
    filter: &Filter,
    no_new_privileges: bool,
) -> Result<Running> {
    let errno = Shared::new().context("cannot get shared memory")?;
    let reported = errno.clone_pointer();
    let exec = Exec::new(file, arguments)?;
    let program = filter.program.clone();
    let flags = filter.flags;
    let load_and_execute = move || {
        if no_new_privileges {
            rustix::thread::set_no_new_privs(true)?;
        }
        let length = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
        // SAFETY: both calls have no preconditions. `SIG_DFL` lets a failing exit end in a fault that
        // kills, instead of in a handler of the Rust runtime.
        unsafe { libc::signal(libc::SIGSEGV, libc::SIG_DFL) };
        // SAFETY: `program` points to `length` valid instructions; the kernel copies them.
        let loaded = unsafe {
            libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program)
        };
        if loaded != 0 {
            return Err(io::Error::last_os_error());
        }
        let error = exec.execute();
        reported.get().store(error, Ordering::Relaxed);
        // SAFETY: ends the process without running anything of the parent's. Where the filter refuses
        // even that, libc goes on to an instruction that faults.
        unsafe { libc::_exit(127) }
    };
    let mut command = Command::new(file);
    // SAFETY: the closure makes system calls and writes to mapped memory; it neither allocates nor
    // takes locks, so it may run between `fork` and `execve`.
    unsafe { command.pre_exec(load_and_execute) };
    let child = command.spawn().map_err(Failed::Filter)?;
    Ok(Running { child, errno })
}

/// Everything that `execve` needs, made before the fork.
struct Exec {
    file: CString,
    _strings: Vec<CString>,
    arguments: Vec<*const libc::c_char>,
    environment: Vec<*const libc::c_char>,
}

// SAFETY: the pointers point into `_strings`, which is owned and never changed.
unsafe impl Send for Exec {}
// SAFETY: as above.
unsafe impl Sync for Exec {}

impl Exec {
    fn new(file: &Path, arguments: &[OsString]) -> Result<Self> {
        let c_string = |bytes: &[u8]| CString::new(bytes).context("a NUL byte in the command");
        let arguments = arguments.iter().map(|a| c_string(a.as_bytes()));
        let mut strings = arguments.collect::<Result<Vec<_>>>()?;
        let count = strings.len();
        for (name, value) in env::vars_os() {
            strings.push(c_string(&[name.as_bytes(), b"=", value.as_bytes()].concat())?);
        }
        let pointers =
            |strings: &[CString]| strings.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect::<Vec<_>>();
        Ok(Self {
            file: c_string(file.as_os_str().as_bytes())?,
            arguments: pointers(&strings[..count]),
            environment: pointers(&strings[count..]),
            _strings: strings,
        })
    }

    /// Executes the file, and returns the errno if that fails.
    fn execute(&self) -> i32 {
        // SAFETY: the file is a C string, and both lists are ended by a null pointer and live as long
        // as `self`.
        unsafe {
            libc::execve(self.file.as_ptr(), self.arguments.as_ptr(), self.environment.as_ptr());
            *libc::__errno_location()
        }
    }
}

/// An integer that parent and child share across `fork`.
struct Shared(Pointer);

#[derive(Clone, Copy)]
struct Pointer(ptr::NonNull<AtomicI32>);

// SAFETY: it points to an atomic.
unsafe impl Send for Pointer {}
// SAFETY: it points to an atomic.
unsafe impl Sync for Pointer {}

impl Pointer {
    fn get(&self) -> &AtomicI32 {
        // SAFETY: the mapping is zeroed (a valid atomic), aligned to a page, and unmapped by its owner only
        // when `Running` is dropped; the child's copy of this pointer refers to the child's own mapping.
        unsafe { self.0.as_ref() }
    }
}

impl Shared {
    fn new() -> io::Result<Self> {
        // SAFETY: a fresh anonymous mapping touches no memory in use.
        let page = unsafe {
            mmap_anonymous(
                ptr::null_mut(),
                size_of::<AtomicI32>(),
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
            )
        }?;
        let page = ptr::NonNull::new(page.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self(Pointer(page)))
    }

    fn clone_pointer(&self) -> Pointer {
        self.0
    }

    fn get(&self) -> &AtomicI32 {
        self.0.get()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this size; the closure that holds the other pointer runs in the child.
        let _ = unsafe { munmap(self.0.0.as_ptr().cast(), size_of::<AtomicI32>()) };
    }
}
