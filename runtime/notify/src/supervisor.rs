//! The supervisor: two processes, of which one answers for every call, and the other one waits for the end.
//!
//! They are processes and not threads, so that what is recorded goes on undisturbed when their maker is killed: when the last
//! descriptor of the listener closes, the kernel answers every call with `ENOSYS`, even the one by which a program ends. They are
//! forked from a process that may have threads, so they allocate nothing and take no lock: they make system calls and
//! write to shared memory.
//!
//! They are two because a signal can interrupt a call until the notification was received. So the process that answers
//! already waits in the `ioctl` that receives when a call is made, and not in `poll`. Before Linux 6.11 that `ioctl` does not
//! return when nobody is under the filter any more; `poll` does.
#![allow(unsafe_code)] // fork, ioctl(2) and what puts a process apart

use std::{
    io::{self, Read},
    mem::zeroed,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    os::unix::net::UnixStream,
    ptr,
    sync::atomic::Ordering::Relaxed,
};

use gadgetd_core::{Abi, Machine, syscall_number};
use rustix::{
    event::{PollFd, PollFlags, poll},
    time::Timespec,
};

use crate::{
    filter, kernel,
    shared::{ENDED, Mapping, Shared},
};

/// Starts the supervisor, and returns when it is ready. It waits for the listener that somebody sends into the socket, answers until nobody is under the
/// filter, and ends; then the socket is at its end. It also ends when nobody holds the socket, and no listener has come.
pub(crate) fn start(shared: &Mapping) -> io::Result<UnixStream> {
    let (ours, its) = UnixStream::pair()?;
    let supervisor = Supervisor {
        machine: Machine::current(),
        asks: Asks::new(Machine::current()),
        recording: false,
        last: None,
    };
    // SAFETY: as `fork`, but without the handlers of the C library: the child makes system calls and writes to shared memory, and
    // never returns. For each architecture the first argument is the flags, and the second one the stack.
    match unsafe { libc::syscall(libc::SYS_clone, libc::c_long::from(APART), 0, 0, 0, 0) } {
        -1 => Err(io::Error::last_os_error()),
        0 => supervisor.run(its.as_raw_fd(), shared),
        _ => {
            drop(its);
            // Once somebody is under the filter it is too late to fail: whoever waits for an answer holds the listener too.
            match (&ours).read_exact(&mut [0]) {
                Ok(()) => Ok(ours),
                Err(error) => Err(match shared.end.load(Relaxed) {
                    0 => error,
                    errno => io::Error::from_raw_os_error(errno),
                }),
            }
        }
    }
}

/// How the supervisor is forked. A tracer of gadgetd does not trace it: it would stop whoever answers at each of its calls, and
/// signals would interrupt many more calls in that time.
const APART: libc::c_int = libc::CLONE_UNTRACED | libc::SIGCHLD;

/// Numbers of the calls by which a program asks for what it can't have under a filter with a listener.
struct Asks {
    seccomp: [Option<u32>; Abi::ALL.len()],
    prctl: [Option<u32>; Abi::ALL.len()],
    execve: Option<u32>,
}

impl Asks {
    fn new(machine: Machine) -> Self {
        let of = |name| Abi::ALL.map(|abi| syscall_number(machine, abi, name));
        Self { seccomp: of("seccomp"), prctl: of("prctl"), execve: of("execve")[Abi::Native as usize] }
    }

    /// Whether the kernel will refuse this call, and would not without the filter: there can be one listener, and
    /// the strict mode only where there is no filter. A question whether there is such a thing is not refused: it comes without a filter.
    fn in_vain(&self, abi: Abi, number: u32, arguments: &[u64; 6]) -> bool {
        let [operation, flags, filter, ..] = arguments.map(|argument| argument & 0xffff_ffff);
        if Some(number) == self.seccomp[abi as usize] {
            let listens = flags & libc::SECCOMP_FILTER_FLAG_NEW_LISTENER != 0 && arguments[2] != 0;
            operation == u64::from(libc::SECCOMP_SET_MODE_FILTER) && listens
                || operation == u64::from(libc::SECCOMP_SET_MODE_STRICT) && flags == 0 && filter == 0
        } else {
            Some(number) == self.prctl[abi as usize]
                && operation == libc::PR_SET_SECCOMP as u64
                && flags == u64::from(libc::SECCOMP_MODE_STRICT)
        }
    }
}

struct Supervisor {
    machine: Machine,
    asks: Asks,
    /// Whether the command has begun: its launcher's `execve` was seen.
    recording: bool,
    /// The number of the last notification. The kernel counts them from some number on.
    last: Option<u64>,
}

impl Supervisor {
    fn run(mut self, socket: i32, shared: &Shared) -> ! {
        match self.serve(socket, shared) {
            Ok(Some(end)) => shared.end.store(end, Relaxed),
            Ok(None) => {}
            Err(error) => shared.end.store(error.raw_os_error().unwrap_or(libc::EIO), Relaxed),
        }
        // SAFETY: ends the process without running anything of its maker's.
        unsafe { libc::_exit(0) }
    }

    /// Returns what is to be noted as the end; `None` if whoever answered has noted it, or was killed.
    fn serve(&mut self, socket: i32, shared: &Shared) -> io::Result<Option<i32>> {
        withdraw(socket)?;
        let Some(listener) = filter::receive(SOCKET)? else { return Ok(Some(ENDED)) };
        wake_up_at_once(&listener);
        match divide()? {
            Half::Answers => loop {
                self.answer(listener.as_fd(), shared)?;
                if shared.end.load(Relaxed) != 0 {
                    return Ok(None);
                }
            },
            Half::Watches { answering, pid } => {
                let gone = PollFlags::HUP | PollFlags::ERR;
                let mut watched =
                    [PollFd::new(&listener, PollFlags::empty()), PollFd::new(&answering, PollFlags::IN)];
                poll(&mut watched, None)?;
                if !watched[0].revents().intersects(gone) {
                    return Ok(None);
                }
                // SAFETY: a child that was not waited for: nobody else has this number.
                unsafe { libc::kill(pid, libc::SIGKILL) };
                Ok(Some(ENDED))
            }
        }
    }

    /// Waits for one call, notes it, and lets it go on.
    fn answer(&mut self, listener: BorrowedFd<'_>, shared: &Shared) -> io::Result<()> {
        let mut buffer: kernel::Buffer = [0; _];
        let request = (&raw mut buffer).cast::<libc::seccomp_notif>();
        // SAFETY: the kernel writes one notification of its own size, for which there is room, into zeroed memory.
        if unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, request) } != 0 {
            let error = io::Error::last_os_error();
            return match error.raw_os_error() {
                Some(libc::EINTR) => Ok(()),
                // The caller was interrupted; or nobody is under the filter any more (since 6.11).
                Some(libc::ENOENT) => {
                    let mut ready = [PollFd::new(&listener, PollFlags::empty())];
                    poll(&mut ready, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
                    if !ready[0].revents().is_empty() {
                        shared.end.store(ENDED, Relaxed);
                    }
                    Ok(())
                }
                _ => Err(error),
            };
        }
        // SAFETY: the kernel has written it; newer fields come behind it.
        let libc::seccomp_notif { id, data, .. } = unsafe { ptr::read(request) };
        // Those in between were interrupted before they could be received. A process makes another call after one that was
        // interrupted, at least the one by which it ends.
        let missed = self.last.replace(id).map_or(0, |last| id.wrapping_sub(last).wrapping_sub(1));
        shared.interrupted.fetch_add(missed, Relaxed);
        self.note(&data, shared);
        if shared.hold.load(Relaxed) {
            return Ok(());
        }
        let mut buffer: kernel::Buffer = [0; _];
        let response = (&raw mut buffer).cast::<libc::seccomp_notif_resp>();
        // SAFETY: the kernel reads one response of its own size, all of which is there.
        let sent = unsafe {
            (*response).id = id;
            (*response).flags = CONTINUE;
            libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, response)
        };
        if sent == 0 {
            return Ok(());
        }
        match io::Error::last_os_error() {
            // The caller has died; or a signal has interrupted it, before 5.19.
            error if error.raw_os_error() == Some(libc::ENOENT) => {
                shared.interrupted.fetch_add(1, Relaxed);
                Ok(())
            }
            error => Err(error),
        }
    }

    fn note(&mut self, data: &libc::seccomp_data, shared: &Shared) {
        let call = kernel::call(self.machine, data.arch, data.nr.cast_unsigned());
        if !self.recording {
            // What the launcher does is not the command's. There is nobody else before its `execve` was let go on.
            self.recording = call.is_some_and(|(abi, n)| abi == Abi::Native && Some(n) == self.asks.execve);
            return;
        }
        shared.note(call);
        if call.is_some_and(|(abi, number)| self.asks.in_vain(abi, number, &data.args)) {
            shared.note_refused();
        }
    }
}

/// The socket and, from its arrival on, the listener are the only descriptors that the supervisor has of its maker's.
const SOCKET: i32 = 0;

/// Which of the two processes this is.
enum Half {
    Answers,
    /// Readable when the one that answers has ended.
    Watches {
        answering: OwnedFd,
        pid: libc::pid_t,
    },
}

/// Makes two processes of one. The one that answers ends with the other one, and leaves the socket to it.
fn divide() -> io::Result<Half> {
    let mut pidfd = -1;
    let flags = libc::CLONE_PIDFD | APART;
    // SAFETY: this process has one thread and no handler of `fork` that matters: as `fork`, but without taking the C library's locks.
    // For each architecture the third argument is where the descriptor goes. The child only makes system calls.
    unsafe {
        let watching = libc::getpid();
        match libc::syscall(libc::SYS_clone, libc::c_long::from(flags), 0, &raw mut pidfd, 0, 0) {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                if libc::getppid() != watching {
                    libc::_exit(0); // The other one has been killed in between.
                }
                libc::close(SOCKET);
                Ok(Half::Answers)
            }
            pid => {
                let pid = libc::pid_t::try_from(pid).map_err(|_| io::ErrorKind::InvalidData)?;
                Ok(Half::Watches { answering: OwnedFd::from_raw_fd(pidfd), pid })
            }
        }
    }
}

/// Puts the process apart from its maker: without its descriptors, whose ends others may wait for, without its terminal, and
/// with no signal but the ones that can't be blocked. Tells the maker that this is done.
fn withdraw(socket: i32) -> io::Result<()> {
    // SAFETY: all of these only change this process, which has one thread and uses no other descriptor; the name is a C string.
    unsafe {
        let mut all: libc::sigset_t = zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const all, ptr::null_mut());
        libc::prctl(libc::PR_SET_NAME, c"seccomp-notify".as_ptr());
        libc::setsid();
        libc::chdir(c"/".as_ptr());
        if socket != SOCKET && libc::dup2(socket, SOCKET) != SOCKET
            || libc::syscall(libc::SYS_close_range, SOCKET + 1, libc::c_uint::MAX, 0) != 0
        {
            return Err(io::Error::last_os_error());
        }
        if libc::write(SOCKET, [1_u8].as_ptr().cast(), 1) != 1 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Lets the kernel hand the CPU over where caller and supervisor wait for each other in turn anyway. Since 6.6; without it
/// calls take longer.
fn wake_up_at_once(listener: &OwnedFd) {
    /// `SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP` of linux/seccomp.h.
    const SYNC_WAKE_UP: libc::c_ulong = 1;
    // SAFETY: the argument is a number.
    unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS, SYNC_WAKE_UP) };
}

/// `SECCOMP_USER_NOTIF_FLAG_CONTINUE`, of the type that the answer has.
#[allow(clippy::cast_possible_truncation, reason = "it is 1")]
const CONTINUE: u32 = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32;
