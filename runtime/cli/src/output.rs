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
pub(crate) fn write(file: Option<&Path>, result: &str) -> Result<bool> {
    if let Some(file) = file {
        match to_file(file, result) {
            Ok(()) => return Ok(true),
            Err(error) => {
                warn(format_args!(
                    "cannot write {}: {error}; the result goes to standard output",
                    file.display()
                ));
                to_stdout(result)?;
                return Ok(false);
            }
        }
    }
    to_stdout(result)?;
    Ok(true)
}

/// Writes to standard output. Whoever reads it may have had enough.
pub(crate) fn to_stdout(result: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(result.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        _ => Ok(()),
    }
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
