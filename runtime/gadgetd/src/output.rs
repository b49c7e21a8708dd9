//! Where results go.

use std::{
    ffi::OsString,
    fs,
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use cap_std::{
    ambient_authority,
    fs::{Dir, OpenOptions},
};

use gadgetd_host::replace;

use crate::note;

/// Where the result went.
pub(crate) enum Written {
    AsAsked,
    /// To standard output, because the file could not be written.
    Elsewhere,
}

/// Tries whether a file can be written, without changing it: the only way to know is to do it.
pub(crate) fn probe(file: &Path) -> io::Result<()> {
    let Place::File { folder, name, .. } = Place::of(file)? else { return Ok(()) };
    let draft = format!(".{}.{}", name.display(), std::process::id());
    folder.open_with(&draft, OpenOptions::new().write(true).create_new(true))?;
    folder.remove_file(&draft)
}

/// Writes a result to a file, or to standard output where none is given. If the file can't be written, the result is
/// not lost: it goes to standard output.
pub(crate) fn write(file: Option<&Path>, result: &str) -> Result<Written> {
    if let Some(file) = file {
        match to_file(file, result.as_bytes()) {
            Ok(()) => return Ok(Written::AsAsked),
            Err(error) => {
                note(&format!(
                    "cannot write {}: {error}; the result goes to standard output",
                    file.display()
                ));
                to_stdout(result)?;
                return Ok(Written::Elsewhere);
            }
        }
    }
    to_stdout(result)?;
    Ok(Written::AsAsked)
}

/// Writes to standard output.
pub(crate) fn to_stdout(result: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(result.as_bytes())
        .and_then(|()| stdout.flush())
        .context("cannot write to standard output")
}

/// Where a file that a user names really is.
enum Place {
    /// A device or a pipe: it can't be replaced, only written to.
    Device(PathBuf),
    File {
        folder: Dir,
        name: OsString,
        /// The mode of the file that it replaces.
        mode: Option<u32>,
    },
}

impl Place {
    fn of(file: &Path) -> io::Result<Self> {
        // A link stays a link: what it leads to is replaced.
        let target = file.canonicalize().unwrap_or_else(|_| file.to_owned());
        let mode = match fs::metadata(&target) {
            Ok(found) if found.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
            Ok(found) if !found.is_file() => return Ok(Self::Device(target)),
            Ok(found) => Some(found.permissions().mode()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(e),
        };
        let name = target.file_name().ok_or(io::ErrorKind::InvalidFilename)?.to_owned();
        let folder = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let folder = Dir::open_ambient_dir(folder, ambient_authority())?;
        Ok(Self::File { folder, name, mode })
    }
}

/// Replaces a file as a whole, or writes to what cannot be replaced.
pub(crate) fn to_file(file: &Path, result: &[u8]) -> io::Result<()> {
    put(file, result, None)
}

/// The same for a file that nobody else is to read.
pub(crate) fn to_private_file(file: &Path, result: &str) -> io::Result<()> {
    put(file, result.as_bytes(), Some(0o600))
}

fn put(file: &Path, result: &[u8], wanted: Option<u32>) -> io::Result<()> {
    let (folder, name, mode) = match Place::of(file)? {
        Place::Device(path) => return fs::write(path, result),
        Place::File { folder, name, mode } => (folder, name, mode),
    };
    replace(&folder, &name, wanted.or(mode), result)
}

#[cfg(test)]
mod tests {
    use std::{fs::Permissions, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn files_are_replaced_whole() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("profile.json");
        probe(&file).unwrap();
        assert!(!file.exists());
        to_file(&file, b"one").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        let link = root.path().join("link");
        symlink("profile.json", &link).unwrap();
        to_file(&link, b"two").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "two");
        assert!(link.is_symlink());
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 2, "a draft was left behind");
    }

    #[test]
    fn private_files_are_closed_to_others() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("recording.json");
        let mode = || fs::metadata(&file).unwrap().permissions().mode() & 0o777;
        to_private_file(&file, "one").unwrap();
        assert_eq!(mode(), 0o600);
        fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        to_private_file(&file, "two").unwrap();
        assert_eq!((mode(), &*fs::read_to_string(&file).unwrap()), (0o600, "two"));
    }

    #[test]
    fn what_is_no_file_is_not_replaced() {
        to_file(Path::new("/dev/null"), b"x").unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
        let root = tempfile::tempdir().unwrap();
        for bad in [
            root.path().to_owned(),
            root.path().join("none/profile.json"),
            "/proc/profile.json".into(),
            "".into(),
        ] {
            to_file(&bad, b"x").expect_err(&bad.display().to_string());
            probe(&bad).expect_err(&bad.display().to_string());
        }
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }
}
