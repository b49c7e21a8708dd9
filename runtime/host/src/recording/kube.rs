//! Calls to the cluster in a file: what a gadget asked, and what it was answered, refusals of the host among it.

use std::fmt;

use gadgetd_core::kube::{Call, KubeError, Resource, Verb};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use serde_json::Value;

use crate::kube::about;

/// A call, and its answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KubeExchange {
    /// What the gadget asked.
    pub call: KubeRequest,
    /// What it was answered; none: the run ended before an answer came.
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

/// What a gadget is answered: of the kind that the call asks for.
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
            Self::Get { kind, namespace, name } => about(Verb::Get, kind, namespace.as_deref(), Some(name)),
            Self::List { kind, namespace, .. } => about(Verb::List, kind, namespace.as_deref(), None),
            Self::Create { kind, namespace, object } => {
                about(Verb::Create, kind, namespace.as_deref(), name(object))
            }
            Self::Apply { kind, namespace, object } => {
                about(Verb::Apply, kind, namespace.as_deref(), name(object))
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

/// An object as a gadget wrote it, for a file.
pub(crate) fn stored(text: &str) -> Value {
    keep(text, |value| serde_json::from_str::<Value>(&value.to_string()).is_ok_and(|again| again == *value))
}

/// An answer as a gadget got it, for a file: [`told`] gives the very same text.
pub(crate) fn exact(text: &str) -> Value {
    keep(text, |value| {
        let again = value.to_string();
        again == text
    })
}

/// The text of an answer from a file.
pub(crate) fn told(value: Value) -> String {
    match value {
        Value::String(text) => text,
        value => value.to_string(),
    }
}

fn keep(text: &str, comes_back: impl Fn(&Value) -> bool) -> Value {
    match serde_json::from_str(text) {
        // A text in a file is what is no JSON.
        Ok(value @ (Value::Object(_) | Value::Array(_))) if comes_back(&value) => value,
        _ => Value::String(text.to_owned()),
    }
}
