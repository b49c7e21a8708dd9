//! The parameters of a run: the user's, checked against the declarations of both modules.

use std::{collections::BTreeMap, sync::Arc};

use thiserror::Error;

use crate::{
    bindings::params as wit,
    contract::params::{Kind, Spec, Value},
    modules::loaded::{Formatter, Gadget},
    text::nearest,
};

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
        /// The text that was given.
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
        /// The text that was given.
        value: String,
        /// A description of the values that it accepts.
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
            Some(text) => Some(parse(spec, text)?),
            None => spec.default.clone(),
        };
        if let Some(value) = value {
            params.push(wit::Param { name: spec.name.clone(), value: value.into() });
        }
    }
    Ok(params.into())
}

fn parse(spec: &Spec, text: &str) -> Result<Value, ParamError> {
    let value = match &spec.kind {
        Kind::Text => Some(Value::Text(text.to_owned())),
        Kind::Boolean => text.parse().ok().map(Value::Boolean),
        Kind::Integer => text.parse().ok().map(Value::Integer),
        Kind::TextList if text.trim().is_empty() => Some(Value::TextList(Vec::new())),
        Kind::TextList => {
            let items: Vec<_> = text.split(',').map(|item| item.trim().to_owned()).collect();
            (!items.iter().any(String::is_empty)).then_some(Value::TextList(items))
        }
        Kind::Choice(words) => words.iter().any(|word| word == text).then(|| Value::Text(text.to_owned())),
    };
    value.ok_or_else(|| ParamError::Value {
        name: spec.name.clone(),
        value: text.to_owned(),
        accepted: spec.kind.to_string(),
    })
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
