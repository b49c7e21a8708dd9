//! Runs gadgets and formatters natively, with captures of plain data: for tests and benchmarks.
//!
//! The code is the same that becomes the component; what the host does around it (checking
//! parameters against the description, filling in defaults, the cap on output) is done here.
//!
//! ```
//! use gadget_sdk::{Abi, Phases, testing};
//!
//! let capture = testing::capture("web")
//!     .call(Abi::Native, 0, "read", Phases::APPLICATION)
//!     .call(Abi::Native, 335, None, Phases::APPLICATION)
//!     .build();
//! assert_eq!(capture.syscalls().len(), 2);
//! ```

mod capture;
mod cluster;
mod host;
#[cfg(feature = "proptest")]
pub mod strategies;

use std::marker::PhantomData;

pub use self::{
    capture::{CaptureBuilder, capture},
    cluster::{KubeAnswer, KubeCall, kind},
    host::{Emitted, Judged, Made},
};
use self::{
    cluster::Script,
    host::{Format, Host},
};
pub use crate::log::{Field, Level, Line};
use crate::{
    Capture, Description, Document, Error, Formatter, Gadget, ObjectHead, Params, Policy, Reason, Run,
    Target, formatter, kube, log,
    params::{Kind, Param, Value},
};

/// Prepares a run of a gadget.
pub fn gadget<G: Gadget>() -> GadgetRun<G> {
    GadgetRun {
        reason: Reason::OnDemand,
        params: Vec::new(),
        formatter: None,
        formatter_params: Vec::new(),
        output_limit: u64::MAX,
        target: None,
        script: None,
        gadget: PhantomData,
    }
}

/// A prepared run of a gadget; it can be run again and again.
pub struct GadgetRun<G> {
    reason: Reason,
    params: Vec<(String, String)>,
    formatter: Option<(fn() -> Description, Format)>,
    formatter_params: Vec<(String, String)>,
    output_limit: u64,
    target: Option<Target>,
    script: Option<Script>,
    gadget: PhantomData<G>,
}

fn format_either<F: Formatter>(
    params: &Params,
    policy: &Policy,
    about: &[&Capture],
    object: Option<&ObjectHead>,
) -> Result<Document, formatter::Error> {
    match object {
        None => F::format(params, policy, about),
        Some(object) => F::format_object(params, policy, about, object),
    }
}

impl<G: Gadget> GadgetRun<G> {
    /// Why it runs; on demand, if nothing else is said.
    #[must_use]
    pub fn reason(mut self, reason: Reason) -> Self {
        self.reason = reason;
        self
    }

    /// Gives the gadget a parameter, as a user writes it: `("exclude", "ptrace,bpf")`.
    #[must_use]
    pub fn param(mut self, name: &str, value: &str) -> Self {
        self.params.push((name.into(), value.into()));
        self
    }

    /// Chooses the formatter. Without one the policies are not written down, and come back as
    /// [`Outcome::policies`].
    #[must_use]
    pub fn formatter<F: Formatter>(mut self) -> Self {
        self.formatter = Some((F::describe, format_either::<F>));
        self
    }

    /// Gives the formatter a parameter.
    #[must_use]
    pub fn formatter_param(mut self, name: &str, value: &str) -> Self {
        self.formatter_params.push((name.into(), value.into()));
        self
    }

    /// Refuses documents once they have more bytes together than this.
    #[must_use]
    pub fn output_limit(mut self, bytes: u64) -> Self {
        self.output_limit = bytes;
        self
    }

    /// Asks for an object instead of documents.
    #[must_use]
    pub fn target(mut self, namespace: &str, name: &str) -> Self {
        self.target = Some(Target { namespace: namespace.into(), name: name.into() });
        self
    }

    /// A cluster that answers as the script says. Without one there is no cluster. As on a real one that grants
    /// everything, calls that the gadget does not ask for in its description are denied.
    #[must_use]
    pub fn kube(mut self, script: impl Fn(&KubeCall) -> Result<KubeAnswer, kube::Error> + 'static) -> Self {
        self.script = Some(Box::new(script));
        self
    }

    /// Runs the gadget.
    ///
    /// # Panics
    ///
    /// If a parameter is not declared, or its value is not of its type: the host does not let such a run begin.
    pub fn run(&self, captures: Vec<Capture>) -> Outcome {
        let description = G::describe();
        let params = params(&description, &self.params);
        let formatter = self
            .formatter
            .map(|(describe, format)| (self::params(&describe(), &self.formatter_params), format));
        let (target, script) = (self.target.clone(), self.script.as_ref());
        let mut host = Host::new(description, formatter, self.output_limit, target, script);
        let (result, log) =
            log::collect(|| G::generate(&mut Run::new(self.reason, params, &mut host), captures));
        let Host { policies, emitted, made, verdicts, calls, .. } = host;
        Outcome { result, policies, emitted, made, verdicts, calls, log }
    }
}

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// What the gadget answered.
    pub result: Result<(), Error>,
    /// The policies that it had formatted; empty if a formatter was chosen.
    pub policies: Vec<Policy>,
    /// The documents that it emitted.
    pub emitted: Vec<Emitted>,
    /// The objects that it reported.
    pub made: Vec<Made>,
    /// What it said of what was recorded.
    pub verdicts: Vec<Judged>,
    /// The calls that it made to the cluster, denied ones among them.
    pub calls: Vec<KubeCall>,
    /// The lines that the gadget and the formatter logged.
    pub log: Vec<Line>,
}

/// Formats one policy, with parameters as a user writes them.
///
/// # Panics
///
/// If a parameter is not declared, or its value is not of its type: the host does not let such a run begin.
pub fn format<F: Formatter>(
    policy: &Policy,
    about: &[&Capture],
    given: &[(&str, &str)],
) -> Result<Document, formatter::Error> {
    F::format(&params(&F::describe(), given), policy, about)
}

/// Formats one policy as an object, with parameters as a user writes them.
///
/// # Panics
///
/// If a parameter is not declared, or its value is not of its type: the host does not let such a run begin.
pub fn format_object<F: Formatter>(
    policy: &Policy,
    about: &[&Capture],
    object: &ObjectHead,
    given: &[(&str, &str)],
) -> Result<Document, formatter::Error> {
    F::format_object(&params(&F::describe(), given), policy, about, object)
}

/// The parameters that the host would hand over: what was given, and the defaults.
///
/// # Panics
///
/// If a parameter is not declared, or its value is not of its type.
pub fn params<S: AsRef<str>>(description: &Description, given: &[(S, S)]) -> Params {
    for (name, _) in given {
        let declared = description.params.iter().any(|spec| spec.name == name.as_ref());
        assert!(declared, "{} has no parameter `{}`", description.name, name.as_ref());
    }
    let values = description.params.iter().filter_map(|spec| {
        let given = given.iter().find(|(name, _)| name.as_ref() == spec.name);
        let value = match given {
            Some((_, text)) => Some(parse(&spec.name, &spec.kind, text.as_ref())),
            None => spec.default.clone(),
        };
        value.map(|value| Param { name: spec.name.clone(), value })
    });
    Params::new(values.collect())
}

fn parse(name: &str, kind: &Kind, text: &str) -> Value {
    match kind {
        Kind::Choice(words) if !words.iter().any(|word| word == text) => {
            panic!("`{name}` is none of {words:?}: {text}")
        }
        Kind::Text | Kind::Choice(_) => Value::Text(text.to_owned()),
        Kind::Boolean => {
            Value::Boolean(text.parse().unwrap_or_else(|_| panic!("`{name}` is no boolean: {text}")))
        }
        Kind::Integer => {
            Value::Integer(text.parse().unwrap_or_else(|_| panic!("`{name}` is no integer: {text}")))
        }
        Kind::TextList => Value::TextList(text.split(',').map(str::to_owned).collect()),
    }
}
