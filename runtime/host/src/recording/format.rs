//! The file format of recordings.

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
    sync::Arc,
};

use gadgetd_core::Capture;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use thiserror::Error;

use super::captures;
use crate::{
    cluster::exchange::{KubeExchange, RECORDING_MAX_BYTES},
    contract::{
        gadget::Reason,
        log::{Level, LogLine},
        output::{Emitted, MadeObject, Target, Verdict},
    },
    text::{printable, size},
};

/// The version of the file format that this gadgetd writes, and the only one that it reads.
pub const FORMAT: u32 = 1;

/// A run: its inputs, and its outcome.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recording {
    pub(super) format: Format,
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
    /// The captures that the gadget read.
    #[serde(with = "captures")]
    pub captures: Arc<[Capture]>,
    /// The calls to the cluster, in order, each with what the gadget was answered.
    #[serde(default)]
    pub kube: Vec<KubeExchange>,
    /// Its outcome; none in a file that was written by hand and does not say yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Outcome>,
}

/// The identity of a module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// The reference by which it was asked for: the name of a built-in module, a file.
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

/// The outcome of a run.
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
    /// The gadget's verdicts, in that order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub verdicts: Vec<Verdict>,
    /// The lines that both modules logged.
    #[serde(default)]
    pub log: Vec<Line>,
}

/// How a run failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// The module at fault: `gadget` or `formatter`.
    pub module: String,
    /// The kind of [`Fault`](crate::Fault), in lower case, words joined by `-`.
    pub kind: String,
    /// The sentence for people, without the module that it begins with.
    pub message: String,
}

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// The module that wrote it: `gadget` or `formatter`.
    pub module: String,
    /// How important it is.
    pub level: Level,
    /// The message.
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
    #[error("has more than {}, the limit for a recording", size(RECORDING_MAX_BYTES))]
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
        /// The rule.
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
        file.take(RECORDING_MAX_BYTES as u64 + 1).read_to_end(&mut content).map_err(RecordingError::Read)?;
        Self::parse(&content)
    }

    /// Reads the content of a file. Unknown fields and values are refused.
    pub fn parse(content: &[u8]) -> Result<Self, RecordingError> {
        /// The field that tells a recording from other JSON, and its version.
        #[derive(Deserialize)]
        struct Head {
            format: Option<u64>,
        }

        if content.len() > RECORDING_MAX_BYTES {
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
            // Both hold text of the file.
            place: printable(error.path().to_string()),
            reason: printable(error.into_inner().to_string()),
        })
    }

    /// The content of a file: JSON for people that ends with a line feed.
    pub fn to_json(&self) -> Result<String, RecordingError> {
        let text = serde_json::to_string_pretty(self)
            .map_err(|error| RecordingError::Invalid { place: ".".into(), reason: error.to_string() })?;
        if text.len() < RECORDING_MAX_BYTES { Ok(text + "\n") } else { Err(RecordingError::TooLarge) }
    }
}

impl From<&LogLine> for Line {
    fn from(LogLine { module, level, message, fields }: &LogLine) -> Self {
        Self { module: role(module), level: *level, message: message.clone(), fields: fields.clone() }
    }
}

/// Of `gadget ./mine.wasm` the first word: where the file lies is another on every machine.
pub(super) fn role(label: &str) -> String {
    label.split(' ').next().unwrap_or_default().to_owned()
}

/// The number of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Format;

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
