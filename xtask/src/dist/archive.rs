//! Archives in which equal contents are equal bytes.

use std::{fs::File, io, path::Path};

use anyhow::{Context as _, Result};
use flate2::{Compression, GzBuilder};
use gadgetd_artifacts::target::Target;
use gadgetd_image::Layer;

/// What an archive of a program is called.
pub(super) fn name(program: &str, version: &str, target: Target) -> String {
    format!("{program}-{version}-{}-{}.tar.gz", target.os(), target.architecture())
}

/// A file of an archive: its name there, its mode and where it comes from.
pub(super) type Entry<'a> = (String, u32, &'a Path);

/// Writes a packed tar file. It has no times and no owner but root.
pub(super) fn write(to: &Path, entries: &[Entry<'_>]) -> Result<()> {
    let folder = to.parent().context("an archive is in a folder")?;
    let plain = tempfile::NamedTempFile::new_in(folder)?;
    let mut files = Layer::create(plain.path())?;
    for (name, mode, from) in entries {
        files.copy(name, *mode, from)?;
    }
    files.finish()?;
    pack(plain.path(), to)
}

/// Packs a file. The header has neither a time nor a name.
pub(super) fn pack(from: &Path, to: &Path) -> Result<()> {
    let write = || -> io::Result<()> {
        let mut packed = GzBuilder::new().mtime(0).write(File::create(to)?, Compression::best());
        io::copy(&mut File::open(from)?, &mut packed)?;
        packed.finish()?.sync_all()
    };
    write().with_context(|| format!("cannot pack {} into {}", from.display(), to.display()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_packed_twice_is_the_same_twice() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let at = |name: &str| folder.path().join(name);
        fs::write(at("a"), "one")?;
        let one = at("a");
        for name in ["x.tar.gz", "y.tar.gz"] {
            write(&at(name), &[("it/a".to_owned(), 0o644, &one)])?;
            // Its time is not in the archive.
            File::open(at("a"))?.set_modified(std::time::SystemTime::UNIX_EPOCH)?;
        }
        assert_eq!(fs::read(at("x.tar.gz"))?, fs::read(at("y.tar.gz"))?);
        Ok(())
    }
}
