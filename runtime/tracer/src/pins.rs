//! Where a recording stays when the process that began it is gone: a folder on a bpf file system.
//!
//! One process at a time holds that folder, by a lock that the kernel takes back when the process ends, however it ends. In
//! it is nothing, or while something is recorded one folder with everything that another process needs to go on. Its name
//! tells what must be the same for that: the eBPF object, how it was sized, and what user space makes of it. It is filled
//! under another name and then renamed, and goes the same way: whoever finds it finds it whole.

use std::{
    error::Error,
    fs::{self, DirBuilder},
    io,
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::fs::DirBuilderExt,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, FlockOperation, Mode, OFlags, Stat},
    process::geteuid,
};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// Goes up when user space makes something else of what is in the maps, and the eBPF object did not change with it.
const FORMAT: u32 = 1;

/// What the names of all our folders begin with. Nothing else is ever touched.
const PREFIX: &str = "recorder-";
/// While it is filled.
const NEW: &str = "recorder-new";
/// While it is emptied.
const OLD: &str = "recorder-old";

/// What statfs(2) tells of a bpf file system (`linux/magic.h`).
const BPF_FS_MAGIC: i64 = 0xcafe_4a11;

/// Why a recording cannot be kept for, or taken over by, another process.
#[derive(Debug, Error)]
pub enum PinsError {
    /// The folder is not on a bpf file system.
    #[error(
        "{} is not on a bpf file system, which keeps what is recorded when gadgetd is gone: mount one with \
         `mount -t bpf bpf /sys/fs/bpf` (and the host's into a container), or name a folder on one",
        folder.display()
    )]
    NoBpfFileSystem {
        /// The folder.
        folder: PathBuf,
    },
    /// Another process holds it.
    #[error(
        "another gadgetd that runs on this machine records with what it pinned in {}: end it, or name another folder",
        folder.display()
    )]
    InUse {
        /// The folder.
        folder: PathBuf,
    },
    /// Somebody else could put eBPF programs there.
    #[error(
        "{} must belong to root or the user that runs gadgetd, and be writable by nobody else: what is pinned there is \
         taken over",
        folder.display()
    )]
    Unsafe {
        /// The folder.
        folder: PathBuf,
    },
    /// It cannot be made, opened or changed.
    #[error("cannot use {} for what is to outlive gadgetd", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Something cannot be pinned.
    #[error("cannot pin {}", pin.display())]
    Pin {
        /// Where it was to be.
        pin: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// What is pinned cannot be taken over.
    #[error(
        "cannot go on with what an earlier gadgetd recorded, because of {}: to lose that and begin anew, remove {}",
        pin.display(),
        folder.display()
    )]
    Unreadable {
        /// What is the matter.
        pin: PathBuf,
        /// The folder that it is in.
        folder: PathBuf,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
}

/// The folder, as long as this process holds it.
pub(crate) struct Pins {
    folder: PathBuf,
    /// The name of the folder in it that this process can go on with.
    name: String,
    _lock: OwnedFd,
}

impl Pins {
    /// Takes the folder for this process, makes it if it is not there, and removes what can be of no use to it.
    pub(crate) fn claim(folder: &Path, slots: u32, object: &[u8]) -> Result<Self, PinsError> {
        let failed = |source| PinsError::Folder { folder: folder.to_owned(), source };
        let no_bpffs = || PinsError::NoBpfFileSystem { folder: folder.to_owned() };

        let absolute = std::path::absolute(folder).map_err(failed)?;
        // Before anything is made.
        let there = absolute.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
        if rustix::fs::statfs(there).map_err(|e| failed(e.into()))?.f_type != BPF_FS_MAGIC {
            return Err(no_bpffs());
        }
        DirBuilder::new().recursive(true).mode(0o700).create(&absolute).map_err(failed)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || rustix::fs::openat(CWD, &absolute, flags, Mode::empty());
        let lock = open().map_err(|e| failed(e.into()))?;
        if !is_ours(&rustix::fs::fstat(&lock).map_err(|e| failed(e.into()))?) {
            return Err(PinsError::Unsafe { folder: folder.to_owned() });
        }
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(PinsError::InUse { folder: folder.to_owned() });
            }
            Err(error) => return Err(failed(error.into())),
        }

        let digest = Sha256::digest(object);
        let digest = digest.iter().take(8).fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
        let name = format!("{PREFIX}{FORMAT}-{digest}-{slots}");
        let pins = Self { folder: absolute, name, _lock: lock };
        pins.clear(Some(&pins.name)).map_err(failed)?;
        Ok(pins)
    }

    /// Whether there is a recording to go on with.
    pub(crate) fn hold_a_recording(&self) -> bool {
        self.current().exists()
    }

    /// Opens one of the things that are needed to go on.
    pub(crate) fn get(&self, name: &str) -> Result<OwnedFd, PinsError> {
        crate::bpf::get(&self.current().join(name)).map_err(|source| self.unreadable(name, source))
    }

    /// The error that one of these things cannot be used.
    pub(crate) fn unreadable(
        &self,
        name: &str,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> PinsError {
        let folder = self.current();
        PinsError::Unreadable { pin: folder.join(name), folder, source: source.into() }
    }

    /// Keeps all these things, by name, or none.
    pub(crate) fn keep<'a>(
        &self,
        all: impl IntoIterator<Item = (String, BorrowedFd<'a>)>,
    ) -> Result<(), PinsError> {
        self.clear(None).map_err(|source| self.failed(source))?;
        let new = self.folder.join(NEW);
        let keep = || {
            DirBuilder::new().mode(0o700).create(&new).map_err(|source| self.failed(source))?;
            for (name, descriptor) in all {
                let pin = new.join(name);
                crate::bpf::pin(descriptor, &pin).map_err(|source| PinsError::Pin { pin, source })?;
            }
            fs::rename(&new, self.current()).map_err(|source| self.failed(source))
        };
        keep().inspect_err(|_| {
            // Whatever is left is removed before the next attempt, and at the next start.
            let _ = fs::remove_dir_all(&new);
        })
    }

    /// Gives up what is kept.
    pub(crate) fn forget(&self) -> Result<(), PinsError> {
        let old = self.folder.join(OLD);
        let forget = || {
            match fs::rename(self.current(), &old) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                renamed => renamed?,
            }
            fs::remove_dir_all(&old)
        };
        forget().map_err(|source| self.failed(source))
    }

    /// Removes all our folders but this.
    fn clear(&self, but: Option<&str>) -> io::Result<()> {
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let ours = name.to_str().filter(|name| name.starts_with(PREFIX) && Some(*name) != but);
            let Some(name) = ours else { continue };
            if name != NEW && name != OLD {
                tracing::warn!(
                    folder = %entry.path().display(),
                    "removes what another version of gadgetd recorded, or one with another number of slots: it cannot \
                     go on with that"
                );
            }
            fs::remove_dir_all(entry.path())?;
        }
        Ok(())
    }

    /// Where a recording is that this process can go on with.
    pub(crate) fn current(&self) -> PathBuf {
        self.folder.join(&self.name)
    }

    fn failed(&self, source: io::Error) -> PinsError {
        PinsError::Folder { folder: self.folder.clone(), source }
    }
}

/// Whether only root and we can change what this describes.
fn is_ours(stat: &Stat) -> bool {
    let owner = stat.st_uid;
    (owner == 0 || owner == geteuid().as_raw())
        && !Mode::from_raw_mode(stat.st_mode).intersects(Mode::WGRP | Mode::WOTH)
}
