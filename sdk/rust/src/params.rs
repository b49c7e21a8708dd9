//! The parameters of a run. A module declares them in [`Module::describe`](crate::Module::describe);
//! the host checks what the user gave against that, fills in the defaults, and hands over typed values.

use std::cell::OnceCell;

pub use crate::bindings::imports::params::{Kind, Param, Spec, Value};

impl Spec {
    /// Any text.
    pub fn text(name: &str, help: &str) -> Self {
        Self::new(name, help, Kind::Text)
    }

    /// `true` or `false`.
    pub fn boolean(name: &str, help: &str) -> Self {
        Self::new(name, help, Kind::Boolean)
    }

    /// A whole number.
    pub fn integer(name: &str, help: &str) -> Self {
        Self::new(name, help, Kind::Integer)
    }

    /// Texts, separated by commas where a user writes them.
    pub fn text_list(name: &str, help: &str) -> Self {
        Self::new(name, help, Kind::TextList)
    }

    /// One of these words.
    pub fn choice(name: &str, help: &str, words: &[&str]) -> Self {
        Self::new(name, help, Kind::Choice(words.iter().copied().map(str::to_owned).collect()))
    }

    /// What the parameter is when the user does not give it. Without a default it then has no value.
    #[must_use]
    pub fn or(mut self, default: impl Into<Value>) -> Self {
        self.default = Some(default.into());
        self
    }

    fn new(name: &str, help: &str, kind: Kind) -> Self {
        Self { name: name.into(), help: help.into(), kind, default: None }
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.into())
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Boolean(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Integer(value)
    }
}

impl From<&[&str]> for Value {
    fn from(value: &[&str]) -> Self {
        Self::TextList(value.iter().copied().map(str::to_owned).collect())
    }
}

/// The parameters of this run that have a value.
///
/// Asking for one by another type than it was declared with is a mistake in the module, and panics.
#[derive(Debug)]
pub struct Params {
    all: OnceCell<Vec<Param>>,
}

impl Params {
    /// The parameters that the host holds, fetched when the first is asked for.
    #[cfg(target_arch = "wasm32")]
    pub(crate) fn of_this_run() -> Self {
        Self { all: OnceCell::new() }
    }

    /// Parameters with these values, for tests.
    pub fn new(all: Vec<Param>) -> Self {
        Self { all: all.into() }
    }

    /// The value of a text, or of a choice.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).map(|value| match value {
            Value::Text(text) => text.as_str(),
            _ => mismatch(name, "text"),
        })
    }

    /// The value of a boolean.
    pub fn boolean(&self, name: &str) -> Option<bool> {
        self.get(name).map(|value| match value {
            Value::Boolean(value) => *value,
            _ => mismatch(name, "a boolean"),
        })
    }

    /// The value of an integer.
    pub fn integer(&self, name: &str) -> Option<i64> {
        self.get(name).map(|value| match value {
            Value::Integer(value) => *value,
            _ => mismatch(name, "an integer"),
        })
    }

    /// The texts of a list; none where it has no value.
    pub fn text_list(&self, name: &str) -> &[String] {
        self.get(name).map_or(&[], |value| match value {
            Value::TextList(texts) => texts,
            _ => mismatch(name, "a list"),
        })
    }

    fn get(&self, name: &str) -> Option<&Value> {
        let all = self.all.get_or_init(crate::bindings::imports::params::all);
        all.iter().find(|param| param.name == name).map(|param| &param.value)
    }
}

fn mismatch(name: &str, wanted: &str) -> ! {
    panic!("parameter `{name}` is not declared as {wanted}")
}
