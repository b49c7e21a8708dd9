//! The parameters of a run. A module declares them in [`Module::describe`](crate::Module::describe);
//! the host checks what the user gave against that, fills in the defaults, and hands over typed values.
//!
//! A struct is all it takes: its fields are the parameters, its doc comments the help.
//!
//! ```
//! use gadget_sdk::{
//!     Capture, Choice, Description, Document, Error, Gadget, Module, Parameters, Run, testing,
//! };
//!
//! #[derive(Parameters)]
//! struct Options {
//!     /// What to call them.
//!     #[param(default = "calls")]
//!     unit: String,
//!     /// How often to say it (`--param times=3`).
//!     #[param(default = 1)]
//!     times: i64,
//!     /// Which of them; all, if nothing is said.
//!     only: Vec<String>,
//!     /// How it is said.
//!     #[param(default = Tone::Calm, name = "tone-of-voice")]
//!     tone: Tone,
//!     /// What to say at the end.
//!     last_words: Option<String>,
//! }
//!
//! #[derive(Choice)]
//! enum Tone {
//!     Calm,
//!     VeryLoud, // `very-loud`
//! }
//!
//! struct Say;
//!
//! impl Module for Say {
//!     fn describe() -> Description {
//!         Description::new("say", env!("CARGO_PKG_VERSION"), "Says something.").params::<Options>()
//!     }
//! }
//!
//! impl Gadget for Say {
//!     fn generate(run: &mut Run<'_>, _: Vec<Capture>) -> Result<(), Error> {
//!         let Options { unit, times, only, tone, last_words } = run.params().read();
//!         let end = match tone {
//!             Tone::Calm => ".",
//!             Tone::VeryLoud => "!",
//!         };
//!         let text = format!("{times} times {} {unit}{end} {}", only.join(" "), last_words.unwrap_or_default());
//!         Ok(run.emit(&Document::new("text/plain", text), &[])?)
//!     }
//! }
//!
//! let run = testing::gadget::<Say>().param("tone-of-voice", "very-loud").param("only", "read,write").run(vec![]);
//! assert_eq!(run.emitted[0].document.body, "1 times read write calls! ");
//! ```

use std::cell::OnceCell;

pub use gadget_sdk_derive::{Choice, Parameters};

pub use crate::bindings::imports::params::{Kind, Param, Spec, Value};

/// What a module can be told, as a struct; derive it.
///
/// A field is a parameter of its name, with `-` for `_`. Its type is a [`Parameter`] (`String`, `bool`, `i64`,
/// `Vec<String>`, or an enum that derives [`Choice`]), or an `Option` of one. The first paragraph of its doc comment is the
/// help that users read. Above it may stand
///
/// - `#[param(default = …)]`: what it is when the user gives none; a text, a list of texts, or any expression;
/// - `#[param(default)]`: the default of its type;
/// - `#[param(name = "…")]`: another name.
///
/// What has no default may be left out: an `Option` is then `None`, a `bool` false and a list empty. Texts, numbers and
/// choices have to say which.
///
/// ```compile_fail
/// #[derive(gadget_sdk::Parameters)]
/// struct Options {
///     /// How many.
///     number: i64, // a parameter of type `i64` needs a default
/// }
/// ```
///
/// See the [module](self) for all of it in use.
pub trait Parameters: Sized {
    /// How they are declared: see [`Description::params`](crate::Description::params).
    fn specs() -> Vec<Spec>;

    /// What they are in this run: see [`Params::read`].
    fn read(params: &Params) -> Self;
}

/// One of several words, as an enum; derive it.
///
/// A variant is the word that its name is in lower case, with `-` before each capital letter in it;
/// `#[param(name = "…")]` above it gives another.
///
/// ```
/// use gadget_sdk::Choice;
///
/// #[derive(Choice)]
/// enum Version {
///     V1,
///     #[param(name = "v1beta1")]
///     V1Beta1,
/// }
///
/// assert_eq!(Version::WORDS, ["v1", "v1beta1"]);
/// assert_eq!(Version::from_word("v1beta1").map(|version| version.word()), Some("v1beta1"));
/// ```
pub trait Choice: Sized {
    /// Every word.
    const WORDS: &'static [&'static str];

    /// The word of this one.
    fn word(&self) -> &'static str;

    /// The one of this word.
    fn from_word(word: &str) -> Option<Self>;
}

/// What can be the type of a parameter.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the type of a parameter",
    label = "not a type of a parameter",
    note = "there are `String`, `bool`, `i64`, `Vec<String>` and enums with `#[derive(Choice)]`"
)]
pub trait Parameter: Sized {
    /// What the contract calls it.
    fn kind() -> Kind;

    /// As the contract hands it over.
    fn into_value(self) -> Value;

    /// From what the contract hands over; `None` where that is of another type.
    fn from_value(value: &Value) -> Option<Self>;

    /// How a parameter of this type is declared.
    fn spec(name: &str, help: &str, default: Option<Self>) -> Spec {
        let default = default.map(Self::into_value);
        Spec { default, ..Spec::new(name, help, Self::kind()) }
    }
}

/// A parameter that needs no default.
#[diagnostic::on_unimplemented(
    message = "a parameter of type `{Self}` needs a default, or is none",
    label = "it has no default",
    note = "write `#[param(default = …)]`, or make it an `Option`",
    note = "parameters are `String`, `bool`, `i64`, `Vec<String>` and enums with `#[derive(Choice)]`"
)]
pub trait Optional: Sized {
    /// How it is declared.
    fn spec(name: &str, help: &str) -> Spec;

    /// What it is in this run.
    fn read(params: &Params, name: &str) -> Self;
}

impl<T: Parameter> Optional for Option<T> {
    fn spec(name: &str, help: &str) -> Spec {
        T::spec(name, help, None)
    }

    fn read(params: &Params, name: &str) -> Self {
        params.value(name)
    }
}

impl Optional for bool {
    fn spec(name: &str, help: &str) -> Spec {
        <Self as Parameter>::spec(name, help, Some(false))
    }

    fn read(params: &Params, name: &str) -> Self {
        params.value(name).unwrap_or_default()
    }
}

impl Optional for Vec<String> {
    fn spec(name: &str, help: &str) -> Spec {
        <Self as Parameter>::spec(name, help, None)
    }

    fn read(params: &Params, name: &str) -> Self {
        params.value(name).unwrap_or_default()
    }
}

/// A type that one kind of value is.
macro_rules! parameters {
    ($($type:ty: $kind:ident),+) => { $(
        impl Parameter for $type {
            fn kind() -> Kind {
                Kind::$kind
            }

            fn into_value(self) -> Value {
                Value::$kind(self)
            }

            fn from_value(value: &Value) -> Option<Self> {
                match value {
                    Value::$kind(value) => Some(value.clone()),
                    _ => None,
                }
            }
        }
    )+ };
}

parameters!(String: Text, bool: Boolean, i64: Integer, Vec<String>: TextList);

impl<T: Choice> Parameter for T {
    fn kind() -> Kind {
        Kind::Choice(T::WORDS.iter().copied().map(str::to_owned).collect())
    }

    fn into_value(self) -> Value {
        Value::Text(self.word().to_owned())
    }

    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Text(word) => T::from_word(word),
            _ => None,
        }
    }
}

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

    /// All of them, as the struct that declares them.
    pub fn read<T: Parameters>(&self) -> T {
        T::read(self)
    }

    /// The value of one, by its type.
    pub fn value<T: Parameter>(&self, name: &str) -> Option<T> {
        self.get(name)
            .map(|value| T::from_value(value).unwrap_or_else(|| mismatch(name, &format!("{:?}", T::kind()))))
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
