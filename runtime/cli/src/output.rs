//! Where results go.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use crate::warn;

/// Refuses early what could not be written later: an hour of recording is worth more than a typo.
pub(crate) fn probe(file: &Path) -> Result<()> {
    if file.is_dir() {
        bail!("cannot write {}: it is a folder", file.display());
    }
    let folder = folder(file);
    if !folder.is_dir() {
        bail!("cannot write {}: there is no folder {}", file.display(), folder.display());
    }
    Ok(())
}

/// Writes a result to a file, or to standard output where none is given. Says whether it went where it should: if
/// the file cannot be written, the result is not lost, but goes to standard output.
pub(crate) fn write(file: Option<&Path>, result: &str) -> io::Result<bool> {
    let Some(file) = file else { return print(result).map(|()| true) };
    let Err(error) = to_file(file, result) else { return Ok(true) };
    warn(format_args!("cannot write {}: {error}; the result goes to standard output", file.display()));
    print(result).map(|()| false)
}

/// Writes to standard output what can be had again. Whoever reads it may have had enough.
pub(crate) fn to_stdout(text: &str) -> Result<()> {
    match print(text) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to standard output"),
    }
}

/// Writes to standard output. Fails, too, where nobody reads it any more.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
}

/// Waits until nobody reads standard output any more. Where that cannot be told, as with a file, for ever.
pub(crate) async fn unread() {
    #[cfg(unix)]
    if let Ok(pipe) = pipe()
        && pipe.ready(tokio::io::Interest::ERROR).await.is_ok()
    {
        return;
    }
    std::future::pending::<()>().await;
}

/// Standard output, to be waited for. It stays one that blocks, as whoever writes to it expects.
#[cfg(unix)]
fn pipe() -> io::Result<tokio::net::unix::pipe::Sender> {
    use std::os::fd::AsFd as _;
    let stdout = io::stdout().as_fd().try_clone_to_owned()?;
    tokio::net::unix::pipe::Sender::from_owned_fd_unchecked(stdout)
}

fn folder(file: &Path) -> &Path {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Replaces a file as a whole, or writes to what cannot be replaced: a device, a pipe.
fn to_file(file: &Path, result: &str) -> io::Result<()> {
    // A link stays a link: what it leads to is replaced.
    let target: PathBuf = file.canonicalize().unwrap_or_else(|_| file.to_owned());
    let before = fs::metadata(&target).ok();
    if before.as_ref().is_some_and(|found| !found.is_file()) {
        return fs::write(target, result);
    }
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    let mode = {
        use std::os::unix::fs::PermissionsExt as _;
        fs::Permissions::from_mode(0o666)
    };
    #[cfg(unix)]
    builder.permissions(mode);
    let mut draft = builder.prefix(".kubectl-gadget-").tempfile_in(folder(&target))?;
    draft.write_all(result.as_bytes())?;
    draft.as_file().sync_all()?;
    if let Some(before) = before {
        fs::set_permissions(draft.path(), before.permissions())?;
    }
    draft.persist(&target).map(drop).map_err(|error| error.error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("profile.json");
        probe(&file).unwrap();
        to_file(&file, "one").unwrap();
        to_file(&file, "two").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "two");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "a draft was left behind");
        probe(folder.path()).unwrap_err();
        probe(&folder.path().join("none/profile.json")).unwrap_err();
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_file_is_not_replaced() {
        to_file(Path::new("/dev/null"), "x").unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }
}
