//! Files of which nobody sees half.

use std::{
    ffi::OsStr,
    fs,
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    sync::atomic::{AtomicU32, Ordering},
};

use cap_std::fs::{Dir, OpenOptions, Permissions};

/// Replaces a file as a whole: nobody ever sees half of it, and what was there stays if this fails. `mode` is that of the
/// new file, where it is not to be the usual one.
pub fn replace(folder: &Dir, name: &OsStr, mode: Option<u32>, body: &[u8]) -> io::Result<()> {
    static WRITTEN: AtomicU32 = AtomicU32::new(0);
    let number = WRITTEN.fetch_add(1, Ordering::Relaxed);
    let draft = format!(".{}.{}.{number}", name.display(), std::process::id());
    let written = write_draft(folder, &draft, mode, body).and_then(|()| folder.rename(&draft, folder, name));
    if written.is_err() {
        // The reason is what matters.
        let _ = folder.remove_file(&draft);
    }
    written
}

fn write_draft(folder: &Dir, draft: &str, mode: Option<u32>, body: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    let mut file = match folder.open_with(draft, &options) {
        // In a container every process is the first: one that was killed has left it.
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            folder.remove_file(draft)?;
            folder.open_with(draft, &options)?
        }
        opened => opened?,
    };
    if let Some(mode) = mode {
        file.set_permissions(Permissions::from_std(fs::Permissions::from_mode(mode)))?;
    }
    file.write_all(body)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use cap_std::ambient_authority;

    use super::*;

    #[test]
    fn what_a_killed_process_left_is_in_nobodys_way() {
        let base = tempfile::tempdir().unwrap();
        let folder = Dir::open_ambient_dir(base.path(), ambient_authority()).unwrap();
        let (draft, mode) = (".x.1.0", Some(0o600));
        folder.write(draft, "half").unwrap();
        write_draft(&folder, draft, mode, b"whole").unwrap();
        assert_eq!(folder.read_to_string(draft).unwrap(), "whole");
        assert_eq!(fs::metadata(base.path().join(draft)).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
