use std::{fs, io};

use procfs::{FromRead, ProcError, process::Status};

use crate::Error;

/// The process that a thread belongs to, by its id; `None` if there is no such thread any more.
///
/// The names of processes are bytes of their own choice, and procfs reads this file only if they are UTF-8.
pub fn process_of(thread: i32) -> Result<Option<i32>, Error> {
    let failed = |e: ProcError| Error::Proc(thread, e);
    let text = match fs::read(format!("/proc/{thread}/status")) {
        Ok(text) => text,
        Err(e) if is_gone(&e) => return Ok(None),
        Err(e) => return Err(failed(e.into())),
    };
    let status = Status::from_read(String::from_utf8_lossy(&text).as_bytes()).map_err(failed)?;
    Ok(Some(status.tgid))
}

/// Whether `/proc` or a cgroup's file says by this error that a process does not exist.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    [rustix::io::Errno::NOENT, rustix::io::Errno::SRCH].iter().any(|gone| code == Some(gone.raw_os_error()))
}
