//! Compiled components, kept as files.
//!
//! Loading one runs whatever machine code is in it, so a file is used only if nobody else can have written it: the
//! folder and the file belong to root or to us, and nobody else may write to them. A file also carries a checksum
//! over itself and what it was made from, so that one that was damaged, or that is another's under a wrong name, is
//! not used either. Then the component is compiled again and the file replaced.

use std::{
    fs::File,
    hash::{DefaultHasher, Hash, Hasher},
    io::{self, Read, Write},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{self, AtFlags, CWD, FileType, Mode, OFlags, Stat},
    process,
};
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use wasmtime::{Engine, component::Component};

use super::digest::Digest;

/// The most files in the cache. The oldest are removed first.
const CACHED_FILES_MAX: usize = 64;

/// Why a folder cannot hold compiled components.
#[derive(Debug, Error)]
pub enum CacheError {
    /// It cannot be made or opened.
    #[error("cannot use {} for compiled modules", dir.display())]
    Open {
        /// The folder.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody else could put machine code there.
    #[error(
        "{} must belong to root or the user that runs gadgetd, and be writable by nobody else: \
         machine code is loaded from it",
        dir.display()
    )]
    Unsafe {
        /// The folder.
        dir: PathBuf,
    },
}

/// The folder. It stays open, so whatever is done to its path later changes nothing.
pub(crate) struct Cache {
    dir: OwnedFd,
    path: PathBuf,
    engine: u64,
}

impl Cache {
    /// Opens the folder, and makes it if it does not exist.
    pub(crate) fn open(path: &Path, engine: &Engine) -> Result<Self, CacheError> {
        let failed = |source: io::Error| CacheError::Open { dir: path.to_owned(), source };
        if !path.exists() {
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent).map_err(failed)?;
            }
            match fs::mkdirat(CWD, path, Mode::RWXU) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                Err(error) => return Err(failed(error.into())),
            }
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = fs::openat(CWD, path, flags, Mode::empty()).map_err(|e| failed(e.into()))?;
        if !is_ours(&fs::fstat(&dir).map_err(|e| failed(e.into()))?) {
            return Err(CacheError::Unsafe { dir: path.to_owned() });
        }
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Ok(Self { dir, path: path.to_owned(), engine: hasher.finish() })
    }

    /// The compiled component with this digest, if there is a sound one.
    pub(crate) fn load(&self, engine: &Engine, digest: &Digest) -> Option<Component> {
        let name = self.name(digest);
        let content = match self.read(&name) {
            Ok(content) => content?,
            Err(reason) => {
                tracing::warn!("not using {}: {reason}", self.path.join(&name).display());
                return None;
            }
        };
        let (checksum, code) = content.split_at_checked(size_of::<[u8; 32]>())?;
        if checksum != self.checksum(digest, code) {
            tracing::warn!("{} is damaged: compiling again", self.path.join(&name).display());
            return None;
        }
        #[allow(unsafe_code)] // Loading machine code is what the cache is for.
        // SAFETY: the file was written by `save` below, from a component that this engine (or one with the same
        // hash) compiled: only root and we can write to it and to its folder, and the checksum says that it is
        // whole, made from this component, and for this engine.
        let component = unsafe { Component::deserialize(engine, code) };
        component.inspect_err(|error| tracing::debug!("{name} does not fit this engine: {error:#}")).ok()
    }

    /// Keeps a compiled component. That it cannot be kept is no reason to fail.
    pub(crate) fn save(&self, digest: &Digest, component: &Component) {
        let saved = component.serialize().map_err(io::Error::other).and_then(|code| {
            self.write(&self.name(digest), &[&self.checksum(digest, &code), &code])?;
            self.prune()
        });
        if let Err(error) = saved {
            tracing::warn!("cannot keep a compiled module in {}: {error}", self.path.display());
        }
    }

    fn name(&self, digest: &Digest) -> String {
        format!("{}-{:016x}.cwasm", digest.hex(), self.engine)
    }

    fn checksum(&self, digest: &Digest, code: &[u8]) -> [u8; 32] {
        let hasher = Sha256::new_with_prefix(digest.0).chain_update(self.engine.to_le_bytes());
        hasher.chain_update(code).finalize().into()
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, String> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = match fs::openat(&self.dir, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        let stat = fs::fstat(&file).map_err(|e| e.to_string())?;
        let folder = fs::fstat(&self.dir).map_err(|e| e.to_string())?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile
            || !is_ours(&stat)
            || !is_ours(&folder)
        {
            return Err("others could have written it".to_owned());
        }
        let mut content = Vec::new();
        File::from(file).read_to_end(&mut content).map_err(|e| e.to_string())?;
        Ok(Some(content))
    }

    /// The file appears whole or not at all.
    fn write(&self, name: &str, parts: &[&[u8]]) -> io::Result<()> {
        let temporary = format!(".{name}.{}", std::process::id());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let _ = fs::unlinkat(&self.dir, &temporary, AtFlags::empty());
        let mut file = File::from(fs::openat(&self.dir, &temporary, flags, Mode::RUSR | Mode::WUSR)?);
        let written = parts.iter().try_for_each(|part| file.write_all(part)).and_then(|()| file.sync_all());
        let renamed = written.and_then(|()| Ok(fs::renameat(&self.dir, &temporary, &self.dir, name)?));
        if renamed.is_err() {
            let _ = fs::unlinkat(&self.dir, &temporary, AtFlags::empty());
        }
        renamed
    }

    fn prune(&self) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::Dir::read_from(&self.dir)? {
            let name = entry?.file_name().to_owned();
            if name.to_bytes().ends_with(b".cwasm") {
                let stat = fs::statat(&self.dir, &name, AtFlags::SYMLINK_NOFOLLOW)?;
                files.push((stat.st_mtime, stat.st_mtime_nsec, name));
            }
        }
        files.sort_unstable();
        for (.., name) in files.iter().rev().skip(CACHED_FILES_MAX) {
            fs::unlinkat(&self.dir, name, AtFlags::empty())?;
        }
        Ok(())
    }
}

/// Whether only root and we can change what this describes.
fn is_ours(stat: &Stat) -> bool {
    let owner = stat.st_uid;
    (owner == 0 || owner == process::geteuid().as_raw())
        && !Mode::from_raw_mode(stat.st_mode).intersects(Mode::WGRP | Mode::WOTH)
}
