//! Calls to the cluster and their answers, refusals of the host among them, as a recording holds them.

use std::fmt;

use gadgetd_core::kube::{Call, KubeError, Resource, Verb};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use serde_json::Value;

/// How large the file of a recording may be, in bytes, and all exchanges in it together.
pub const RECORDING_MAX_BYTES: usize = 64 << 20;

/// A call, and its answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KubeExchange {
    /// The call.
    pub call: KubeRequest,
    /// The answer; none: the run ended before one came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<KubeAnswer>,
}

/// A call, as a gadget makes it.
///
/// Objects are JSON. A text stands where what the gadget wrote is none, or would not come back as it was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[allow(missing_docs)] // As in the contract.
pub enum KubeRequest {
    Discover {
        #[serde(default)]
        group: String,
        plural: String,
    },
    Get {
        kind: Resource,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        namespace: Option<String>,
        name: String,
    },
    List {
        kind: Resource,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        namespace: Option<String>,
        #[serde(default)]
        labels: String,
    },
    Create {
        kind: Resource,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        namespace: Option<String>,
        object: Value,
    },
    Apply {
        kind: Resource,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        namespace: Option<String>,
        object: Value,
    },
}

/// An answer to a gadget, of the kind that the call asks for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KubeAnswer {
    /// To `discover`: the versions that are served.
    Kinds(Vec<Resource>),
    /// To `get`, `create` and `apply`.
    Object(Value),
    /// To `list`.
    Objects(Vec<Value>),
    /// To any.
    Error(KubeError),
}

impl KubeRequest {
    /// The call, as a person would say it.
    pub fn call(&self) -> Call<'_> {
        match self {
            Self::Discover { group, plural } => {
                Call { verb: Verb::Discover, group, plural, namespace: None, name: None }
            }
            Self::Get { kind, namespace, name } => {
                call_about(Verb::Get, kind, namespace.as_deref(), Some(name))
            }
            Self::List { kind, namespace, .. } => call_about(Verb::List, kind, namespace.as_deref(), None),
            Self::Create { kind, namespace, object } => {
                call_about(Verb::Create, kind, namespace.as_deref(), name(object))
            }
            Self::Apply { kind, namespace, object } => {
                call_about(Verb::Apply, kind, namespace.as_deref(), name(object))
            }
        }
    }

    /// Whether this can be an answer to it.
    fn fits(&self, answer: &KubeAnswer) -> bool {
        match answer {
            KubeAnswer::Error(_) => true,
            KubeAnswer::Kinds(_) => matches!(self, Self::Discover { .. }),
            KubeAnswer::Objects(_) => matches!(self, Self::List { .. }),
            KubeAnswer::Object(_) => !matches!(self, Self::Discover { .. } | Self::List { .. }),
        }
    }
}

fn name(object: &Value) -> Option<&str> {
    object.pointer("/metadata/name").and_then(Value::as_str)
}

impl fmt::Display for KubeRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.call().fmt(f)
    }
}

impl<'de> Deserialize<'de> for KubeExchange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct File {
            call: KubeRequest,
            #[serde(default)]
            answer: Option<KubeAnswer>,
        }
        let File { call, answer } = File::deserialize(deserializer)?;
        match &answer {
            Some(answer) if !call.fits(answer) => {
                Err(D::Error::custom(format!("that is no answer to {}", call.call().verb)))
            }
            _ => Ok(Self { call, answer }),
        }
    }
}

/// A call about the objects of a kind.
pub(crate) fn call_about<'a>(
    verb: Verb,
    kind: &'a Resource,
    namespace: Option<&'a str>,
    name: Option<&'a str>,
) -> Call<'a> {
    Call { verb, group: &kind.group, plural: &kind.plural, namespace, name }
}

/// An object as a gadget wrote it, for a file.
pub(crate) fn written_object(text: &str) -> Value {
    json_or_text(text, |value| {
        serde_json::from_str::<Value>(&value.to_string()).is_ok_and(|again| again == *value)
    })
}

/// An answer as a gadget got it, for a file: [`answer_text`] gives the very same text.
pub(crate) fn exact_answer(text: &str) -> Value {
    json_or_text(text, |value| {
        let again = value.to_string();
        again == text
    })
}

/// The text of an answer from a file.
pub(crate) fn answer_text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        value => value.to_string(),
    }
}

/// JSON if it is an object or array that comes back as it was, else the text.
fn json_or_text(text: &str, comes_back: impl Fn(&Value) -> bool) -> Value {
    match serde_json::from_str(text) {
        // A text in a file stands for one that is no JSON.
        Ok(value @ (Value::Object(_) | Value::Array(_))) if comes_back(&value) => value,
        _ => Value::String(text.to_owned()),
    }
}
