//! The journal: what must survive the process. It has a file for each session and for each recorded container.
//!
//! The kernel keeps the calls; the journal says to which container and session they belong. The files are valid until the next
//! boot, whose id each contains. A file that cannot be parsed is skipped.

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

use super::{info::ContainerInfo, snapshot::Snapshot};
use crate::chain;

/// The format of the files.
const FORMAT_VERSION: u32 = 1;

/// Why the journal cannot be used.
#[derive(Debug, Error)]
pub enum JournalError {
    /// The folder cannot be used.
    #[error("cannot keep in {} what is recorded", .0.display())]
    Folder(PathBuf, #[source] io::Error),
    /// A file cannot be written or removed.
    #[error("cannot write {}", .0.display())]
    Write(PathBuf, #[source] io::Error),
}

/// A session, as the journal has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SessionFile {
    pub(super) session: Session,
    pub(super) selection: Selection,
    /// Containers that were released, or had ended before the session began, with their cgroups. They stay until the cgroup is gone.
    pub(super) released: BTreeMap<String, String>,
    /// How many containers were released in all.
    #[serde(rename = "gone")]
    pub(super) released_count: u32,
    /// The calls of released containers.
    pub(super) calls: BTreeSet<(Abi, u32)>,
    /// The time since boot, in milliseconds, of their last call that was new.
    pub(super) last_new: Option<u64>,
}

/// A recorded container, as the journal has it.
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
    /// Numbers containers in the order in which they appeared.
    pub(super) sequence: u64,
    pub(super) sessions: BTreeSet<Session>,
    pub(super) ended: bool,
    #[serde(rename = "known")]
    pub(super) info: ContainerInfo,
    /// Its recording, once that has left the kernel.
    #[serde(rename = "held")]
    pub(super) snapshot: Option<Snapshot>,
}

impl ContainerFile {
    pub(super) fn slots(&self) -> impl Iterator<Item = CgroupId> {
        self.slots.iter().copied().map(CgroupId)
    }
}

/// The content of a file.
#[derive(Serialize, Deserialize)]
struct Record<T> {
    version: u32,
    boot: String,
    #[serde(flatten)]
    entry: T,
}

/// Parsed first, to see whether the record can be used.
#[derive(Deserialize)]
struct Header {
    version: u32,
    boot: String,
}

/// The folder of the files.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    folder: Dir,
    boot: String,
}

/// Everything in the journal.
#[derive(Debug, Default)]
pub(super) struct JournalContents {
    pub(super) sessions: Vec<SessionFile>,
    pub(super) containers: Vec<ContainerFile>,
}

impl Journal {
    /// Opens the folder, and creates it if necessary.
    pub(super) fn open(path: &Path) -> Result<Self, JournalError> {
        let open = || {
            fs::create_dir_all(path)?;
            let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
            Ok((Dir::open_ambient_dir(path, ambient_authority())?, boot.trim().to_owned()))
        };
        let (folder, boot) = open().map_err(|e| JournalError::Folder(path.to_owned(), e))?;
        Ok(Self { path: path.to_owned(), folder, boot })
    }

    /// Reads everything.
    pub(super) fn load(&self) -> Result<JournalContents, JournalError> {
        let broken = |e| JournalError::Folder(self.path.clone(), e);
        let mut contents = JournalContents::default();
        for entry in self.folder.entries().map_err(broken)? {
            let name = entry.map_err(broken)?.file_name();
            let Some(name) = name.to_str().filter(|name| is_record(name)) else { continue };
            let parsed = if name.starts_with(SESSION_PREFIX) {
                self.read(name).map(|record| contents.sessions.extend(record))
            } else {
                self.read(name).map(|record| contents.containers.extend(record))
            };
            if let Err(why) = parsed {
                let file = self.path.join(name);
                tracing::warn!(file = %file.display(), why, "skips a file that cannot be understood");
            }
        }
        contents.containers.sort_by_key(|c| c.sequence);
        Ok(contents)
    }

    /// Reads one record; `None` if it was written before the last boot, in which case it is removed.
    fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, String> {
        let text = self.folder.read(name).map_err(|e| e.to_string())?;
        let header: Header = serde_json::from_slice(&text).map_err(|e| e.to_string())?;
        if header.version != FORMAT_VERSION {
            return Err(format!("it has format {}, this is {FORMAT_VERSION}", header.version));
        }
        if header.boot != self.boot {
            let removed = self.folder.remove_file(name);
            tracing::info!(file = name, ?removed, "forgets what was recorded before the machine was started");
            return Ok(None);
        }
        let record: Record<T> = serde_json::from_slice(&text).map_err(|e| e.to_string())?;
        Ok(Some(record.entry))
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

    /// Removes the file of a container that was merged into another. Returns whether it is gone.
    pub(super) fn remove_merged(&self, id: &str) -> bool {
        let removed = self.remove_container(id);
        if let Err(error) = &removed {
            let error = chain(error);
            tracing::warn!(container = id, error, "cannot remove what is kept of it elsewhere");
        }
        removed.is_ok()
    }

    fn save<T: Serialize>(&self, name: &str, entry: &T) -> Result<(), JournalError> {
        let record = Record { version: FORMAT_VERSION, boot: self.boot.clone(), entry };
        serde_json::to_vec(&record)
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

const SESSION_PREFIX: &str = "session-";
const CONTAINER_PREFIX: &str = "container-";
const EXTENSION: &str = ".json";

fn is_record(name: &str) -> bool {
    (name.starts_with(SESSION_PREFIX) || name.starts_with(CONTAINER_PREFIX)) && name.ends_with(EXTENSION)
}

fn session_name(session: &Session) -> String {
    format!("{SESSION_PREFIX}{}-{}{EXTENSION}", escape(&session.trace), session.number)
}

fn container_name(id: &str) -> String {
    format!("{CONTAINER_PREFIX}{}{EXTENSION}", escape(id))
}

/// Escapes a word for the name of a file. Uids and ids stay as they are, and different words stay different.
fn escape(word: &str) -> String {
    word.bytes().fold(String::new(), |mut name, byte| {
        if byte.is_ascii_alphanumeric() || byte == b'-' {
            name.push(char::from(byte));
        } else {
            let _ = write!(name, "%{byte:02x}");
        }
        name
    })
}
