//! Recordings of runs: everything that a run had and gave, as a file.
//!
//! [`Host::record`](crate::Host::record) makes one; [`Host::replay`](crate::Host::replay) runs modules on what it holds,
//! offline and on any machine, and [`Difference::between`] says what came out otherwise. The file is JSON, meant to be
//! read and written by people too: `docs/reference/recording.md` describes it.
//!
//! ```
//! use gadgetd_host::recording::Recording;
//!
//! let recording = Recording::parse(
//!     br#"{ "format": 1, "captures": [{ "container": { "name": "web" }, "syscalls": [{ "calls": "read write" }] }] }"#,
//! )?;
//! assert_eq!(recording.captures[0].syscalls.len(), 2);
//! # Ok::<_, gadgetd_host::recording::RecordingError>(())
//! ```

mod captures;
mod compare;
mod kube;

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
    sync::Arc,
};

use gadgetd_core::Capture;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use thiserror::Error;

pub(crate) use self::kube::{exact, stored, told};
pub use self::{
    compare::Difference,
    kube::{KubeAnswer, KubeExchange, KubeRequest},
};
use crate::{
    fault::bytes,
    gadget::Reason,
    log::{Level, LogLine, printable},
    output::{Emitted, MadeObject, Target, Verdict},
};

/// The version of the file format that this gadgetd writes, and the only one that it reads.
pub const FORMAT: u32 = 1;
/// How large the file of a recording may be, in bytes.
pub const BYTES_MAX: usize = 64 << 20;

/// A run: what it had, and what it gave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recording {
    format: Format,
    /// The version of the contract, `gadget:framework`, of the host that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contract: Option<String>,
    /// The gadget that ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gadget: Option<Identity>,
    /// The formatter that was chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub formatter: Option<Identity>,
    /// The parameters as the user gave them: `NAME=VALUE`.
    #[serde(default)]
    pub params: Vec<String>,
    /// Why the gadget ran.
    #[serde(default)]
    pub reason: Reason,
    /// The object that was asked for; none: documents were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// What the gadget saw.
    #[serde(with = "captures")]
    pub captures: Arc<[Capture]>,
    /// The calls to the cluster, in order, each with what the gadget was answered.
    #[serde(default)]
    pub kube: Vec<KubeExchange>,
    /// What came of it; none in a file that was written by hand and does not say yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Outcome>,
}

/// Which module it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// What was asked for: the name of a built-in module, a file.
    pub module: String,
    /// Its own name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The digest of its bytes, `sha256:…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

/// What came of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// Why it failed; none: it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Failure>,
    /// The documents, in the order in which they were emitted.
    #[serde(default)]
    pub documents: Vec<Emitted>,
    /// The objects that were reported, in that order.
    #[serde(default)]
    pub objects: Vec<MadeObject>,
    /// What the gadget said of what was recorded, in that order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub verdicts: Vec<Verdict>,
    /// What both modules logged.
    #[serde(default)]
    pub log: Vec<Line>,
}

/// How a run failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// Whose fault it was: `gadget` or `formatter`.
    pub module: String,
    /// Which kind of [`Fault`](crate::Fault), in lower case, words joined by `-`.
    pub kind: String,
    /// The sentence for people, without the module that it begins with.
    pub message: String,
}

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// Who wrote it: `gadget` or `formatter`.
    pub module: String,
    /// How important it is.
    pub level: Level,
    /// What it says.
    pub message: String,
    /// Details: names and values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<(String, String)>,
}

/// Why a recording cannot be read or written.
#[derive(Debug, Error)]
pub enum RecordingError {
    /// The file cannot be read.
    #[error("cannot be read")]
    Read(#[source] io::Error),
    /// It is larger than recordings are.
    #[error("has more than {}, the limit for a recording", bytes(BYTES_MAX))]
    TooLarge,
    /// It is something else.
    #[error("is no recording: {0}")]
    Foreign(String),
    /// It is of a version that is not known here.
    #[error("is a recording of format {0}; this gadgetd reads format {FORMAT}")]
    Format(u64),
    /// It breaks a rule of the format.
    #[error("is no valid recording: {}{reason}", if place == "." { String::new() } else { format!("{place}: ") })]
    Invalid {
        /// Where: `captures[0].syscalls`.
        place: String,
        /// Which rule.
        reason: String,
    },
    /// The run made more calls to the cluster than a recording holds.
    #[error("cannot be made: the run made more calls to the cluster, or larger ones, than a recording holds")]
    Overflow,
}

impl Recording {
    /// A recording that holds captures and nothing else yet: what a file that is written by hand says at least.
    pub fn of(captures: impl Into<Arc<[Capture]>>) -> Self {
        Self {
            format: Format,
            contract: None,
            gadget: None,
            formatter: None,
            params: Vec::new(),
            reason: Reason::default(),
            target: None,
            captures: captures.into(),
            kube: Vec::new(),
            result: None,
        }
    }

    /// Reads a file. Of one that is too large no more than the limit is read.
    pub fn read(path: &Path) -> Result<Self, RecordingError> {
        let file = File::open(path).map_err(RecordingError::Read)?;
        if !file.metadata().map_err(RecordingError::Read)?.is_file() {
            return Err(RecordingError::Read(io::Error::other("it is no regular file")));
        }
        let mut content = Vec::new();
        file.take(BYTES_MAX as u64 + 1).read_to_end(&mut content).map_err(RecordingError::Read)?;
        Self::parse(&content)
    }

    /// Reads what a file holds. What is not understood is refused, never left out.
    pub fn parse(content: &[u8]) -> Result<Self, RecordingError> {
        /// What tells a recording from other JSON, and its version.
        #[derive(Deserialize)]
        struct Head {
            format: Option<u64>,
        }

        if content.len() > BYTES_MAX {
            return Err(RecordingError::TooLarge);
        }
        if !content.trim_ascii_start().starts_with(b"{") {
            return Err(RecordingError::Foreign("it is no JSON object".into()));
        }
        let foreign = |error: serde_json::Error| RecordingError::Foreign(printable(error.to_string()));
        let Head { format } = serde_json::from_slice(content).map_err(foreign)?;
        match format {
            Some(format) if format == u64::from(FORMAT) => {}
            Some(other) => return Err(RecordingError::Format(other)),
            None => return Err(RecordingError::Foreign("it has no `format`".into())),
        }
        let mut reader = serde_json::Deserializer::from_slice(content);
        serde_path_to_error::deserialize(&mut reader).map_err(|error| RecordingError::Invalid {
            // Somebody else's words stand in both.
            place: printable(error.path().to_string()),
            reason: printable(error.into_inner().to_string()),
        })
    }

    /// What a file holds: JSON for people, that ends with a line feed.
    pub fn to_json(&self) -> Result<String, RecordingError> {
        let text = serde_json::to_string_pretty(self)
            .map_err(|error| RecordingError::Invalid { place: ".".into(), reason: error.to_string() })?;
        if text.len() < BYTES_MAX { Ok(text + "\n") } else { Err(RecordingError::TooLarge) }
    }
}

impl From<&LogLine> for Line {
    fn from(LogLine { module, level, message, fields }: &LogLine) -> Self {
        Self { module: role(module), level: *level, message: message.clone(), fields: fields.clone() }
    }
}

/// Of `gadget ./mine.wasm` the first word: where the file lies is another on every machine.
pub(crate) fn role(label: &str) -> String {
    label.split(' ').next().unwrap_or_default().to_owned()
}

/// The number of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Format;

impl Serialize for Format {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(FORMAT)
    }
}

impl<'de> Deserialize<'de> for Format {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u32::deserialize(deserializer)? {
            FORMAT => Ok(Self),
            other => Err(D::Error::custom(format!("format {other} is not known"))),
        }
    }
}

/// Long texts, as arrays of their lines: so that people can read them, and version control can compare them.
pub(crate) mod lines {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a text, or an array of its lines")]
    enum Text {
        Whole(String),
        Lines(Vec<String>),
    }

    pub(crate) fn serialize<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
        if text.contains('\n') {
            serializer.collect_seq(text.split('\n'))
        } else {
            text.serialize(serializer)
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
        Ok(match Text::deserialize(deserializer)? {
            Text::Whole(text) => text,
            Text::Lines(lines) => lines.join("\n"),
        })
    }
}

#[cfg(test)]
mod tests;
