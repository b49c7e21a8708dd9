use std::{
    fs::File,
    io::{self, Write as _},
    path::Path,
};

use anyhow::{Context as _, Result};
use tar::{EntryType, Header};

/// A tar file whose entries have no owner but root and no time: equal contents are equal bytes.
pub struct Layer(tar::Builder<File>);

impl Layer {
    /// An empty one at `path`.
    pub fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self(tar::Builder::new(file)))
    }

    fn header(kind: EntryType, mode: u32, size: u64) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header
    }

    /// Adds a folder.
    pub fn folder(&mut self, path: &str, mode: u32) -> Result<()> {
        let mut header = Self::header(EntryType::Directory, mode, 0);
        Ok(self.0.append_data(&mut header, path, io::empty())?)
    }

    /// Adds a file.
    pub fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> Result<()> {
        let mut header = Self::header(EntryType::Regular, mode, content.len() as u64);
        Ok(self.0.append_data(&mut header, path, content)?)
    }

    /// Adds a copy of a file of this machine.
    pub fn copy(&mut self, path: &str, mode: u32, from: &Path) -> Result<()> {
        let mut file = File::open(from).with_context(|| format!("cannot read {}", from.display()))?;
        let mut header = Self::header(EntryType::Regular, mode, file.metadata()?.len());
        Ok(self.0.append_data(&mut header, path, &mut file)?)
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: &str, target: &str) -> Result<()> {
        let mut header = Self::header(EntryType::Symlink, 0o777, 0);
        Ok(self.0.append_link(&mut header, path, target)?)
    }

    /// Writes the end.
    pub fn finish(self) -> Result<()> {
        Ok(self.0.into_inner()?.flush()?)
    }
}
