//! `params`: what a module can be told, what the user said, and what of it the module gets.

use std::{collections::BTreeMap, fmt, sync::Arc};

use thiserror::Error;

use crate::{
    bindings::params::{self as wit, Host},
    module::{Formatter, Gadget},
    state::State,
    store::nearest,
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

/// The parameters of a run, checked and completed with defaults.
#[derive(Clone, Debug, Default)]
pub struct Params {
    pub(crate) gadget: Arc<[wit::Param]>,
    pub(crate) formatter: Arc<[wit::Param]>,
    /// As the user gave them.
    pub(crate) given: Arc<[String]>,
}

/// Why the user's parameters cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ParamError {
    /// It has no `=`.
    #[error("{0:?} is not of the form NAME=VALUE")]
    Form(String),
    /// Neither module declares it.
    #[error(
        "there is no parameter {name:?}{}; there are: {}",
        nearest.as_ref().map(|n| format!(" (did you mean {n:?}?)")).unwrap_or_default(),
        if known.is_empty() { "none".to_owned() } else { known.join(", ") }
    )]
    Unknown {
        /// What was given.
        name: String,
        /// The known name that looks most like it.
        nearest: Option<String>,
        /// Every name that both modules declare.
        known: Vec<String>,
    },
    /// It stands twice.
    #[error("parameter {0} is given twice")]
    Twice(String),
    /// Its value is not of its type.
    #[error("parameter {name} cannot be {value:?}: it takes {accepted}")]
    Value {
        /// The parameter.
        name: String,
        /// What was given.
        value: String,
        /// What would be accepted.
        accepted: String,
    },
}

impl Params {
    /// Hands each of the user's `NAME=VALUE` to the module that declares the name (both, if both do), as a value of
    /// the declared type, and fills in defaults.
    pub fn resolve<T: AsRef<str>>(
        gadget: &Gadget,
        formatter: &Formatter,
        given: impl IntoIterator<Item = T>,
    ) -> Result<Self, ParamError> {
        Self::for_specs(&gadget.description().params, &formatter.description().params, given)
    }

    fn for_specs<T: AsRef<str>>(
        gadget: &[Spec],
        formatter: &[Spec],
        given: impl IntoIterator<Item = T>,
    ) -> Result<Self, ParamError> {
        let known = || gadget.iter().chain(formatter).map(|spec| spec.name.as_str());
        let mut values = BTreeMap::new();
        let given: Arc<[String]> = given.into_iter().map(|text| text.as_ref().to_owned()).collect();
        for text in &*given {
            let (name, value) = text.split_once('=').ok_or_else(|| ParamError::Form(text.to_owned()))?;
            if !known().any(|k| k == name) {
                let mut known: Vec<String> = known().map(ToOwned::to_owned).collect();
                known.sort_unstable();
                known.dedup();
                let nearest = nearest(name, known.iter().map(String::as_str));
                return Err(ParamError::Unknown { name: name.to_owned(), nearest, known });
            }
            if values.insert(name.to_owned(), value.to_owned()).is_some() {
                return Err(ParamError::Twice(name.to_owned()));
            }
        }
        Ok(Self { gadget: for_module(gadget, &values)?, formatter: for_module(formatter, &values)?, given })
    }
}

fn for_module(specs: &[Spec], values: &BTreeMap<String, String>) -> Result<Arc<[wit::Param]>, ParamError> {
    let mut params = Vec::new();
    for spec in specs {
        let value = match values.get(&spec.name) {
            Some(text) => Some(spec.parse(text)?),
            None => spec.default.clone(),
        };
        if let Some(value) = value {
            params.push(wit::Param { name: spec.name.clone(), value: value.into() });
        }
    }
    Ok(params.into())
}

impl Spec {
    fn parse(&self, text: &str) -> Result<Value, ParamError> {
        let value = match &self.kind {
            Kind::Text => Some(Value::Text(text.to_owned())),
            Kind::Boolean => text.parse().ok().map(Value::Boolean),
            Kind::Integer => text.parse().ok().map(Value::Integer),
            Kind::TextList if text.trim().is_empty() => Some(Value::TextList(Vec::new())),
            Kind::TextList => {
                let items: Vec<_> = text.split(',').map(|item| item.trim().to_owned()).collect();
                (!items.iter().any(String::is_empty)).then_some(Value::TextList(items))
            }
            Kind::Choice(words) => {
                words.iter().any(|word| word == text).then(|| Value::Text(text.to_owned()))
            }
        };
        value.ok_or_else(|| ParamError::Value {
            name: self.name.clone(),
            value: text.to_owned(),
            accepted: self.kind.to_string(),
        })
    }
}

impl Kind {
    /// Whether this value can be one of this kind.
    pub(crate) fn has(&self, value: &Value) -> bool {
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
    /// What a user may write.
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

impl Host for State {
    fn all(&mut self) -> wasmtime::Result<Vec<wit::Param>> {
        self.running("params.all")?;
        Ok(self.params.to_vec())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, kind: Kind, default: Option<Value>) -> Spec {
        Spec { name: name.into(), help: "Helps.".into(), kind, default }
    }

    fn resolve(given: &[&str]) -> Result<Params, ParamError> {
        let phase = Kind::Choice(vec!["all".into(), "application".into()]);
        let gadget = [
            spec("include", Kind::TextList, None),
            spec("phase", phase, Some(Value::Text("all".into()))),
            spec("errno", Kind::Integer, None),
            spec("verbose", Kind::Boolean, Some(Value::Boolean(false))),
        ];
        let formatter = [spec("compact", Kind::Boolean, None), spec("verbose", Kind::Text, None)];
        Params::for_specs(&gadget, &formatter, given)
    }

    fn texts(params: &[wit::Param]) -> Vec<String> {
        params.iter().map(|p| format!("{}={:?}", p.name, Value::from(p.value.clone()))).collect()
    }

    #[test]
    fn each_module_gets_what_it_declares() {
        let params = resolve(&["include=a, b", "compact=true", "verbose=true", "errno=-1"]).unwrap();
        let gadget = [
            r#"include=TextList(["a", "b"])"#,
            r#"phase=Text("all")"#,
            "errno=Integer(-1)",
            "verbose=Boolean(true)",
        ];
        assert_eq!(texts(&params.gadget), gadget);
        assert_eq!(texts(&params.formatter), ["compact=Boolean(true)", r#"verbose=Text("true")"#]);
    }

    #[test]
    fn what_is_not_given_has_its_default_or_no_value() {
        let params = resolve(&["include="]).unwrap();
        let gadget = ["include=TextList([])", r#"phase=Text("all")"#, "verbose=Boolean(false)"];
        assert_eq!(texts(&params.gadget), gadget);
        assert!(params.formatter.is_empty());
    }

    #[test]
    fn errors_say_what_would_be_right() {
        let rows = [
            ("compact", r#""compact" is not of the form NAME=VALUE"#),
            (
                "inclde=x",
                r#"there is no parameter "inclde" (did you mean "include"?); there are: compact, errno, include, phase, verbose"#,
            ),
            ("phase=runtime", r#"parameter phase cannot be "runtime": it takes all or application"#),
            ("compact=yes", r#"parameter compact cannot be "yes": it takes true or false"#),
            ("errno=1.5", r#"parameter errno cannot be "1.5": it takes a whole number"#),
            ("include=a,,b", r#"parameter include cannot be "a,,b": it takes texts, separated by commas"#),
        ];
        for (given, want) in rows {
            assert_eq!(resolve(&[given]).expect_err(given).to_string(), want);
        }
        assert_eq!(resolve(&["errno=1", "errno=2"]).unwrap_err(), ParamError::Twice("errno".into()));
    }
}
