#![allow(unsafe_code)] // pre_exec

use std::{
    io,
    os::{
        fd::{AsFd, AsRawFd, RawFd},
        unix::{net::UnixStream, process::CommandExt},
    },
    process::Command,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use gadgetd_core::{Recorded, SyscallSource};
use rustix::thread::{CapabilitySet, capabilities, set_no_new_privs};

use crate::{
    NotifyError,
    filter::Filter,
    kernel,
    shared::{ENDED, Mapping},
    supervisor,
};

/// A recorder of one command. Its supervisor is a child process of this one, and outlives it if the command does.
#[derive(Debug)]
pub struct Notify {
    shared: Arc<Mapping>,
    filter: Arc<Filter>,
    /// At its end when the supervisor is.
    supervisor: Arc<UnixStream>,
    no_new_privileges: bool,
}

/// How it is with what is recorded.
#[derive(Debug)]
pub enum State {
    /// Something runs under the filter, or will; or the supervisor was killed, if it [has ended](Notify::as_raw_fd).
    Running,
    /// Nothing that was recorded runs any more.
    Ended,
    /// The supervisor has failed.
    Failed(io::Error),
}

impl Notify {
    /// Checks that the kernel can do it, and starts the supervisor.
    pub fn new() -> Result<Self, NotifyError> {
        kernel::check()?;
        let filter = Arc::new(Filter::new()?);
        let shared = Arc::new(Mapping::new().map_err(|e| NotifyError::Io("share memory", e))?);
        let supervisor =
            supervisor::start(&shared).map_err(|e| NotifyError::Io("start the process that answers", e))?;
        Ok(Self { shared, filter, supervisor: Arc::new(supervisor), no_new_privileges: must_give_up() })
    }

    /// Whether the command can gain no privileges: the kernel takes a filter from nobody else who has not `CAP_SYS_ADMIN`.
    pub fn no_new_privileges(&self) -> bool {
        self.no_new_privileges
    }

    /// Has a command recorded from its first call on, once it is spawned. Only one can be.
    pub fn record(&self, command: &mut Command) {
        let (shared, filter, supervisor) =
            (self.shared.clone(), self.filter.clone(), self.supervisor.clone());
        let no_new_privileges = self.no_new_privileges;
        let load = move || {
            // A process under the filter whose supervisor has failed can't even exit. Its last resort is an instruction that
            // faults; a handler of the Rust runtime's would make calls, and return to it for ever.
            // SAFETY: no preconditions.
            unsafe { libc::signal(libc::SIGSEGV, libc::SIG_DFL) };
            let load = || {
                if no_new_privileges {
                    set_no_new_privs(true)?;
                }
                filter.load(supervisor.as_fd())
            };
            load().inspect_err(|error| {
                shared.load_error.store(error.raw_os_error().unwrap_or(libc::EIO), Relaxed);
            })
        };
        // SAFETY: the closure makes system calls and writes to mapped memory; it neither allocates nor takes locks, so it may run
        // between `fork` and `execve`.
        unsafe { command.pre_exec(load) };
    }

    /// After a command could not be spawned: why, if it was because of the filter.
    pub fn load_error(&self) -> Option<NotifyError> {
        match self.shared.load_error.load(Relaxed) {
            0 => None,
            libc::EBUSY => Some(NotifyError::Listener),
            errno => Some(NotifyError::Refused(io::Error::from_raw_os_error(errno))),
        }
    }

    /// How it is with what is recorded.
    pub fn state(&self) -> State {
        match self.shared.end.load(Relaxed) {
            0 => State::Running,
            ENDED => State::Ended,
            errno => State::Failed(io::Error::from_raw_os_error(errno)),
        }
    }

    /// How many calls a signal has interrupted, by its handler or by ending the caller, before they were carried out. A call
    /// whose handler has not `SA_RESTART` has failed with `EINTR`, which it might not have done without a recorder.
    pub fn interrupted(&self) -> u64 {
        self.shared.interrupted.load(Relaxed)
    }

    /// From now on no call is let go on: whoever makes one waits for ever, and can be killed while nobody starts anything.
    pub fn hold(&self) {
        self.shared.hold.store(true, Relaxed);
    }

    /// Whether calls are [held](Self::hold).
    pub fn is_held(&self) -> bool {
        self.shared.hold.load(Relaxed)
    }
}

impl SyscallSource for Notify {
    type Error = NotifyError;
    type Subject = ();

    fn read(&self, (): ()) -> Result<Recorded, NotifyError> {
        Ok(self.shared.recorded())
    }
}

/// Readable, at its end, when the supervisor has ended or was killed.
impl AsRawFd for Notify {
    fn as_raw_fd(&self) -> RawFd {
        self.supervisor.as_raw_fd()
    }
}

/// Whether the kernel takes a filter only from a process that can't gain privileges any more.
fn must_give_up() -> bool {
    !capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN))
}
