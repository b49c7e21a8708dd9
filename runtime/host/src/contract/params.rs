//! `params`: what a module can be told, and the values that it gets in a run.

use std::{fmt, sync::Arc};

use wasmtime::component::HasData;

use crate::{
    bindings::params::{self as wit, Host},
    sandbox::fault::ContractViolation,
};

/// The type of a parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// `true` or `false`.
    Boolean,
    /// A whole number of 64 bits.
    Integer,
    /// Texts, separated by commas; an empty text is an empty list.
    TextList,
    /// One of these words.
    Choice(Vec<String>),
}

/// The value of a parameter. A choice is a text.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // As the kinds.
pub enum Value {
    Text(String),
    Boolean(bool),
    Integer(i64),
    TextList(Vec<String>),
}

/// A parameter that a module declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Lower case, words joined by `-`.
    pub name: String,
    /// One sentence for people.
    pub help: String,
    /// Its type.
    pub kind: Kind,
    /// The value that it has when the user gives none.
    pub default: Option<Value>,
}

impl Kind {
    /// Whether this value can be one of this kind.
    pub(crate) fn accepts(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::Text, Value::Text(_))
            | (Self::Boolean, Value::Boolean(_))
            | (Self::Integer, Value::Integer(_))
            | (Self::TextList, Value::TextList(_)) => true,
            (Self::Choice(words), Value::Text(word)) => words.contains(word),
            _ => false,
        }
    }
}

impl fmt::Display for Kind {
    /// The values that a user may write.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text => f.write_str("any text"),
            Self::Boolean => f.write_str("true or false"),
            Self::Integer => f.write_str("a whole number"),
            Self::TextList => f.write_str("texts, separated by commas"),
            Self::Choice(words) => match words.as_slice() {
                [] => f.write_str("nothing"),
                [one] => f.write_str(one),
                [many @ .., last] => write!(f, "{} or {last}", many.join(", ")),
            },
        }
    }
}

impl fmt::Display for Value {
    /// As a user would write it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Boolean(value) => value.fmt(f),
            Self::Integer(value) => value.fmt(f),
            Self::TextList(items) => f.write_str(&items.join(",")),
        }
    }
}

/// The context: the values of a module's parameters in a run. There are none while the module describes itself.
#[derive(Clone)]
pub(crate) struct ParamsContext(pub(crate) Option<Arc<[wit::Param]>>);

impl HasData for ParamsContext {
    type Data<'a> = &'a mut Self;
}

impl Host for ParamsContext {
    fn all(&mut self) -> wasmtime::Result<Vec<wit::Param>> {
        let values = self.0.as_ref().ok_or_else(|| ContractViolation::in_describe("params.all"))?;
        Ok(values.to_vec())
    }
}

impl From<wit::Spec> for Spec {
    fn from(wit::Spec { name, help, kind, default }: wit::Spec) -> Self {
        let kind = match kind {
            wit::Kind::Text => Kind::Text,
            wit::Kind::Boolean => Kind::Boolean,
            wit::Kind::Integer => Kind::Integer,
            wit::Kind::TextList => Kind::TextList,
            wit::Kind::Choice(words) => Kind::Choice(words),
        };
        Self { name, help, kind, default: default.map(Into::into) }
    }
}

impl From<wit::Value> for Value {
    fn from(value: wit::Value) -> Self {
        match value {
            wit::Value::Text(text) => Self::Text(text),
            wit::Value::Boolean(value) => Self::Boolean(value),
            wit::Value::Integer(value) => Self::Integer(value),
            wit::Value::TextList(items) => Self::TextList(items),
        }
    }
}

impl From<Value> for wit::Value {
    fn from(value: Value) -> Self {
        match value {
            Value::Text(text) => Self::Text(text),
            Value::Boolean(value) => Self::Boolean(value),
            Value::Integer(value) => Self::Integer(value),
            Value::TextList(items) => Self::TextList(items),
        }
    }
}
