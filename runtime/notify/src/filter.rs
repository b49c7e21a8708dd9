//! The filter that a recorded command runs under: the kernel asks before every call, on every ABI.
#![allow(unsafe_code)] // seccomp(2), sendmsg(2), getrandom(2)

use std::{
    io,
    mem::zeroed,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    ptr,
};

use libseccomp::{ScmpAction, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use rustix::fs::{MemfdFlags, SeekFrom, memfd_create, seek};

use crate::{NotifyError, kernel::seccomp};

/// The filter, ready to be loaded.
///
/// Whoever is under it can make no call that the supervisor does not answer, and the supervisor can answer none before it has
/// the listener. So one call is let through: the `sendmsg` that hands the listener over. It is known by its sixth
/// argument, which `sendmsg` does not have, and which is a random number of 64 bits that is in no memory any more once the
/// command has been executed.
#[derive(Debug)]
pub(crate) struct Filter {
    program: Vec<libc::sock_filter>,
    pass: u64,
}

impl Filter {
    pub(crate) fn new() -> Result<Self, NotifyError> {
        let pass = random().map_err(|e| NotifyError::Io("get a random number", e))?;
        let mut context = ScmpFilterContext::new(ScmpAction::Notify)?;
        // Every ABI but the native one: to libseccomp those are foreign architectures.
        context.set_act_badarch(ScmpAction::Notify)?;
        let handover = ScmpArgCompare::new(5, ScmpCompareOp::Equal, pass);
        context.add_rule_conditional(ScmpAction::Allow, ScmpSyscall::from_name("sendmsg")?, &[handover])?;
        let program = export(&context).map_err(|e| NotifyError::Io("get the filter from libseccomp", e))?;
        Ok(Self { program, pass })
    }

    /// Loads the filter for the calling thread, and sends its listener into a socket. Allocates nothing and takes no lock: it runs
    /// between `fork` and `execve`.
    pub(crate) fn load(&self, supervisor: BorrowedFd<'_>) -> io::Result<()> {
        let length = u16::try_from(self.program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let program = libc::sock_fprog { len: length, filter: self.program.as_ptr().cast_mut() };
        let load = |flags| seccomp(libc::SECCOMP_SET_MODE_FILTER, flags, (&raw const program).cast());
        // With it a signal does not interrupt a call that the supervisor is about to answer. Since 5.19.
        let killable = libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
        let listener = match load(libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | killable) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                load(libc::SECCOMP_FILTER_FLAG_NEW_LISTENER)?
            }
            loaded => loaded?,
        };
        let listener = i32::try_from(listener).map_err(|_| io::ErrorKind::InvalidData)?;
        // Closed by `execve`: each call from here on but this one waits for the supervisor.
        self.hand_over(listener, supervisor.as_raw_fd())
    }

    fn hand_over(&self, listener: i32, socket: i32) -> io::Result<()> {
        let (mut byte, mut control) = (0_u8, Control::default());
        let mut data = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
        let message = control.message(&mut data);
        // SAFETY: the control buffer is large enough and aligned for one header with one descriptor behind it. `sendmsg` with
        // a valid message; that it has arguments too many is for the filter.
        let sent = unsafe {
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(DESCRIPTOR) as _;
            ptr::write_unaligned(libc::CMSG_DATA(header).cast(), listener);
            libc::syscall(libc::SYS_sendmsg, socket, &raw const message, 0, 0, 0, self.pass)
        };
        if sent == 1 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

/// Receives the listener; `None` if nobody will send one any more. Allocates nothing and takes no lock.
pub(crate) fn receive(socket: i32) -> io::Result<Option<OwnedFd>> {
    let (mut byte, mut control) = (0_u8, Control::default());
    let mut data = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let mut message = control.message(&mut data);
    // SAFETY: a valid message with room for the data and for one descriptor.
    match unsafe { libc::recvmsg(socket, &raw mut message, libc::MSG_CMSG_CLOEXEC) } {
        0 => return Ok(None),
        1 => {}
        _ => return Err(io::Error::last_os_error()),
    }
    // SAFETY: the kernel has written the headers, and for `SCM_RIGHTS` a descriptor that is ours now.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        if header.is_null() || (*header).cmsg_type != libc::SCM_RIGHTS {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let listener = ptr::read_unaligned(libc::CMSG_DATA(header).cast::<i32>());
        Ok(Some(OwnedFd::from_raw_fd(listener)))
    }
}

/// Size of a descriptor.
#[allow(clippy::cast_possible_truncation, reason = "it is 4")]
const DESCRIPTOR: u32 = size_of::<i32>() as u32;

/// Room for a header and a descriptor, aligned as the header must be.
#[derive(Default)]
struct Control([usize; 4]);

impl Control {
    fn message(&mut self, data: &mut libc::iovec) -> libc::msghdr {
        // SAFETY: all zero is a valid message: without a name, data or control.
        let mut message: libc::msghdr = unsafe { zeroed() };
        message.msg_iov = data;
        message.msg_iovlen = 1;
        message.msg_control = self.0.as_mut_ptr().cast();
        // SAFETY: it calculates.
        message.msg_controllen = unsafe { libc::CMSG_SPACE(DESCRIPTOR) } as _;
        message
    }
}

fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    // SAFETY: room for 8 bytes; that few come at once or not at all.
    match unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) } {
        8 => Ok(u64::from_ne_bytes(bytes)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The BPF program of a filter. libseccomp could load it too; but it allocates while it does, which a
/// process between `fork` and `execve` must not.
pub fn export(context: &ScmpFilterContext) -> io::Result<Vec<libc::sock_filter>> {
    let file = memfd_create("seccomp", MemfdFlags::CLOEXEC)?;
    context.export_bpf(&file).map_err(io::Error::other)?;
    seek(&file, SeekFrom::Start(0))?;
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match rustix::io::read(&file, &mut buffer)? {
            0 => break,
            n => bytes.extend_from_slice(&buffer[..n]),
        }
    }
    // `struct sock_filter` of linux/filter.h.
    Ok(bytes
        .chunks_exact(8)
        .map(|b| libc::sock_filter {
            code: u16::from_ne_bytes([b[0], b[1]]),
            jt: b[2],
            jf: b[3],
            k: u32::from_ne_bytes([b[4], b[5], b[6], b[7]]),
        })
        .collect())
}
