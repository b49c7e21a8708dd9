//! Commands: finding them as a shell does, and waiting for them while signals are passed on.

use std::{
    env,
    ffi::{OsStr, OsString},
    io,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::ExitStatus,
};

use anyhow::{Context, Result};
use rustix::{
    fs::{Access, AtFlags, CWD, accessat},
    io::Errno,
    process::Pid,
};
use thiserror::Error;
use tokio::process::Child;

use crate::signals::Signals;

/// Why a command can't be run.
#[derive(Debug, Error)]
pub(crate) enum NotRunnable {
    #[error("command not found: {0}")]
    NotFound(String),
    #[error("{0} is not executable; if it is a script, chmod +x it")]
    NotExecutable(String),
    #[error("{0} is a directory, not a command")]
    Directory(String),
}

impl NotRunnable {
    /// The exit code that shells and `env(1)` have for it.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::NotFound(_) => 127,
            Self::NotExecutable(_) | Self::Directory(_) => 126,
        }
    }
}

/// The file that a command names: looked up in `PATH`, unless there is a slash in it.
pub(crate) fn resolve(command: &OsStr) -> Result<PathBuf, NotRunnable> {
    let path = env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/local/bin:/usr/bin:/bin"));
    resolve_in(command, &path)
}

fn resolve_in(command: &OsStr, path: &OsStr) -> Result<PathBuf, NotRunnable> {
    let shown = command.to_string_lossy().into_owned();
    if command.as_encoded_bytes().contains(&b'/') {
        let file = PathBuf::from(command);
        return match runnable(&file) {
            Ok(()) => Ok(file),
            Err(io::ErrorKind::IsADirectory) => Err(NotRunnable::Directory(shown)),
            Err(io::ErrorKind::PermissionDenied) => Err(NotRunnable::NotExecutable(shown)),
            Err(_) => Err(NotRunnable::NotFound(shown)),
        };
    }
    let mut error = NotRunnable::NotFound(shown);
    // An empty name would find the directories themselves.
    for directory in env::split_paths(path).filter(|_| !command.is_empty()) {
        let file = directory.join(command);
        match runnable(&file) {
            Ok(()) => return Ok(file),
            Err(io::ErrorKind::PermissionDenied) => {
                error = NotRunnable::NotExecutable(file.display().to_string());
            }
            Err(_) => {}
        }
    }
    Err(error)
}

fn runnable(file: &Path) -> Result<(), io::ErrorKind> {
    if file.metadata().map_err(|e| e.kind())?.is_dir() {
        return Err(io::ErrorKind::IsADirectory);
    }
    accessat(CWD, file, Access::EXEC_OK, AtFlags::EACCESS).map_err(Errno::kind)
}

/// Why executing a file failed that looked runnable, for people.
pub(crate) fn explain_exec(file: &Path, error: &io::Error) -> String {
    let file = file.display();
    match error.raw_os_error() {
        Some(libc::ENOEXEC) => {
            format!("{file} is neither a program of this machine nor a script with a #! line")
        }
        Some(libc::ENOENT) => format!("{file} names an interpreter or a dynamic loader that does not exist"),
        _ => format!("cannot execute {file}: {error}"),
    }
}

/// Waits until a command ends, and passes signals on to it meanwhile.
pub(crate) async fn wait(child: &mut Child, signals: &mut Signals) -> Result<ExitStatus> {
    let pid = pid(child)?;
    loop {
        tokio::select! {
            status = child.wait() => return status.context("cannot wait for the command"),
            signal = signals.next() => {
                // It can only be gone, and then the wait is over.
                let _ = signal.forward(pid);
            }
        }
    }
}

/// The process id of a command that was not waited for yet.
pub(crate) fn pid(child: &Child) -> Result<Pid> {
    let pid = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
    pid.context("the command has ended already")
}

/// How a command ended, as the end of a sentence that begins with "command".
pub(crate) fn ending(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with {code}"),
        (None, Some(signal)) => {
            let name = signal_hook::low_level::signal_name(signal);
            let dumped = if status.core_dumped() { " (core dumped)" } else { "" };
            format!("was killed by {}{dumped}", name.map_or(format!("signal {signal}"), str::to_owned))
        }
        (None, None) => "ended".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn commands_are_found_as_a_shell_does() {
        let root = tempfile::tempdir().unwrap();
        let file = |name: &str, mode| {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path
        };
        let (_plain, good) = (file("one/tool", 0o644), file("two/tool", 0o755));
        let plain_only = file("one/data", 0o644);
        fs::create_dir(root.path().join("one/folder")).unwrap();
        let path =
            env::join_paths([root.path().join("none"), root.path().join("one"), root.path().join("two")]);
        let path = path.unwrap();
        let find = |command: &str| resolve_in(OsStr::new(command), &path);

        assert_eq!(find("tool").unwrap(), good);
        assert_eq!(find(good.to_str().unwrap()).unwrap(), good);
        for (command, code) in [
            ("nothing", 127),
            ("", 127),
            ("./nothing", 127),
            ("folder", 127),
            ("data", 126),
            (plain_only.to_str().unwrap(), 126),
            (root.path().to_str().unwrap(), 126),
        ] {
            assert_eq!(find(command).expect_err(command).exit_code(), code, "{command}");
        }
    }

    #[test]
    fn endings_are_told() {
        assert_eq!(ending(ExitStatus::from_raw(1 << 8)), "exited with 1");
        assert_eq!(ending(ExitStatus::from_raw(libc::SIGSEGV)), "was killed by SIGSEGV");
        assert_eq!(ending(ExitStatus::from_raw(libc::SIGABRT | 0x80)), "was killed by SIGABRT (core dumped)");
    }
}
