//! What must survive the process: a file for each session and for each container that is recorded.
//!
//! The kernel keeps the calls; here stands whose they are. The files are of use only until the machine is started anew, so
//! each says in which life of it it was written. A file that cannot be understood costs what it stood for, and nothing else.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
};

use cap_std::{ambient_authority, fs::Dir};
use gadgetd_core::{Abi, CgroupId};
use gadgetd_host::replace;
use gadgetd_kube::{controller::Session, machine::Selection};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use thiserror::Error;

use super::{held::Held, known::Known};

/// The format of the files.
const VERSION: u32 = 1;

/// Why something could not be kept.
#[derive(Debug, Error)]
pub enum JournalError {
    /// The folder cannot be used.
    #[error("cannot keep in {} what is recorded", .0.display())]
    Folder(PathBuf, #[source] io::Error),
    /// A file cannot be written or removed.
    #[error("cannot write {}", .0.display())]
    Write(PathBuf, #[source] io::Error),
}

/// A session, as it is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SessionFile {
    pub(super) session: Session,
    pub(super) selection: Selection,
    /// Containers that were released, or had ended before it began, as long as they could be met again, and their cgroups.
    pub(super) released: BTreeMap<String, String>,
    /// How many were released in all.
    pub(super) gone: u32,
    /// What those called.
    pub(super) calls: BTreeSet<(Abi, u32)>,
    /// The time since boot, in milliseconds, of their last call that was new.
    pub(super) last_new: Option<u64>,
}

/// A container that is recorded for somebody, as it is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ContainerFile {
    pub(super) id: String,
    /// Its own cgroup.
    pub(super) cgroup: String,
    /// The uid of its pod in the cgroup's path.
    pub(super) pod_uid: Option<String>,
    /// The cgroups that have a slot for it.
    pub(super) slots: BTreeSet<u64>,
    /// Its place in the order of appearance.
    pub(super) sequence: u64,
    pub(super) sessions: BTreeSet<Session>,
    pub(super) ended: bool,
    pub(super) known: Known,
    /// What was recorded of it, once that is not in the kernel any more.
    pub(super) held: Option<Held>,
}

impl ContainerFile {
    pub(super) fn slots(&self) -> impl Iterator<Item = CgroupId> {
        self.slots.iter().copied().map(CgroupId)
    }
}

/// What a file holds beside what it is about.
#[derive(Serialize, Deserialize)]
struct Page<T> {
    version: u32,
    boot: String,
    #[serde(flatten)]
    entry: T,
}

/// Only this much is read of a page before it is known to be one of ours.
#[derive(Deserialize)]
struct Head {
    version: u32,
    boot: String,
}

/// The folder.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    folder: Dir,
    boot: String,
}

/// What was found in it.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) sessions: Vec<SessionFile>,
    pub(super) containers: Vec<ContainerFile>,
}

impl Journal {
    /// Opens the folder, and makes it if it is not there.
    pub(super) fn open(path: &Path) -> Result<Self, JournalError> {
        let open = || {
            fs::create_dir_all(path)?;
            let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
            Ok((Dir::open_ambient_dir(path, ambient_authority())?, boot.trim().to_owned()))
        };
        let (folder, boot) = open().map_err(|e| JournalError::Folder(path.to_owned(), e))?;
        Ok(Self { path: path.to_owned(), folder, boot })
    }

    /// Everything that is in it.
    pub(super) fn load(&self) -> Result<Kept, JournalError> {
        let broken = |e| JournalError::Folder(self.path.clone(), e);
        let mut kept = Kept::default();
        for entry in self.folder.entries().map_err(broken)? {
            let name = entry.map_err(broken)?.file_name();
            let Some(name) = name.to_str().filter(|name| is_page(name)) else { continue };
            let understood = if name.starts_with(SESSION) {
                self.read(name).map(|page| kept.sessions.extend(page))
            } else {
                self.read(name).map(|page| kept.containers.extend(page))
            };
            if let Err(why) = understood {
                let file = self.path.join(name);
                tracing::warn!(file = %file.display(), why, "skips a file that cannot be understood");
            }
        }
        kept.containers.sort_by_key(|c| c.sequence);
        Ok(kept)
    }

    /// One page; `None` if it was of another life of the machine, and is gone now.
    fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, String> {
        let text = self.folder.read(name).map_err(|e| e.to_string())?;
        let head: Head = serde_json::from_slice(&text).map_err(|e| e.to_string())?;
        if head.version != VERSION {
            return Err(format!("it has format {}, this is {VERSION}", head.version));
        }
        if head.boot != self.boot {
            let removed = self.folder.remove_file(name);
            tracing::info!(file = name, ?removed, "forgets what was recorded before the machine was started");
            return Ok(None);
        }
        let page: Page<T> = serde_json::from_slice(&text).map_err(|e| e.to_string())?;
        Ok(Some(page.entry))
    }

    pub(super) fn save_session(&self, session: &SessionFile) -> Result<(), JournalError> {
        self.save(&session_name(&session.session), session)
    }

    pub(super) fn save_container(&self, container: &ContainerFile) -> Result<(), JournalError> {
        self.save(&container_name(&container.id), container)
    }

    pub(super) fn remove_session(&self, session: &Session) -> Result<(), JournalError> {
        self.remove(&session_name(session))
    }

    pub(super) fn remove_container(&self, id: &str) -> Result<(), JournalError> {
        self.remove(&container_name(id))
    }

    fn save<T: Serialize>(&self, name: &str, entry: &T) -> Result<(), JournalError> {
        let page = Page { version: VERSION, boot: self.boot.clone(), entry };
        serde_json::to_vec(&page)
            .map_err(io::Error::from)
            .and_then(|text| replace(&self.folder, OsStr::new(name), Some(0o600), &text))
            .map_err(|e| JournalError::Write(self.path.join(name), e))
    }

    fn remove(&self, name: &str) -> Result<(), JournalError> {
        match self.folder.remove_file(name) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(JournalError::Write(self.path.join(name), e))
            }
            _ => Ok(()),
        }
    }
}

const SESSION: &str = "session-";
const CONTAINER: &str = "container-";
const END: &str = ".json";

fn is_page(name: &str) -> bool {
    (name.starts_with(SESSION) || name.starts_with(CONTAINER)) && name.ends_with(END)
}

fn session_name(session: &Session) -> String {
    format!("{SESSION}{}-{}{END}", plain(&session.trace), session.number)
}

fn container_name(id: &str) -> String {
    format!("{CONTAINER}{}{END}", plain(id))
}

/// A word as a part of a file's name. Uids and ids are so already; another word stays another.
fn plain(word: &str) -> String {
    word.bytes().fold(String::new(), |mut name, byte| {
        if byte.is_ascii_alphanumeric() || byte == b'-' {
            name.push(char::from(byte));
        } else {
            let _ = write!(name, "%{byte:02x}");
        }
        name
    })
}
