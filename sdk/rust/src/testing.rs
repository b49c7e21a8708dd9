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

use std::{cell::RefCell, fmt, marker::PhantomData};

pub use crate::log::{Field, Level};
use crate::{
    Abi, Capture, Completeness, Container, Description, Document, Error, Formatter, Gadget, Loss, Machine,
    Params, Phases, Pod, Policy, Reason, Run, Syscall, formatter, gadget, output,
    params::{Kind, Param, Value},
};

/// Starts the recording of a command of this name: on x86-64, from its first process on, nothing lost.
pub fn capture(name: &str) -> CaptureBuilder {
    let container = Container {
        id: format!("id-of-{name}"),
        name: Some(name.to_owned()),
        pod: None,
        image: None,
        image_digest: None,
        runtime: None,
        cgroup: format!("/{name}"),
    };
    let completeness = Completeness { losses: Vec::new(), from_start: true };
    CaptureBuilder { container, machine: Machine::X86_64, syscalls: Vec::new(), completeness }
}

/// Makes a [`Capture`] of plain data.
#[derive(Clone, Debug)]
pub struct CaptureBuilder {
    container: Container,
    machine: Machine,
    syscalls: Vec<Syscall>,
    completeness: Completeness,
}

impl CaptureBuilder {
    /// Adds a call. Its name is `None` where the kernel's tables have none.
    #[must_use]
    pub fn call<'a>(
        mut self,
        abi: Abi,
        number: u32,
        name: impl Into<Option<&'a str>>,
        phases: Phases,
    ) -> Self {
        let name = name.into().map(str::to_owned);
        self.syscalls.push(Syscall { abi, number, name, phases });
        self
    }

    /// The machine it was recorded on.
    #[must_use]
    pub fn machine(mut self, machine: Machine) -> Self {
        self.machine = machine;
        self
    }

    /// Makes it the container of a pod.
    #[must_use]
    pub fn pod(mut self, namespace: &str, name: &str) -> Self {
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        self.container.pod =
            Some(Pod { uid: format!("uid-of-{name}"), node: "node-1".into(), namespace, name });
        self
    }

    /// Whatever else there is to say of the container.
    #[must_use]
    pub fn container(mut self, change: impl FnOnce(&mut Container)) -> Self {
        change(&mut self.container);
        self
    }

    /// Something was lost.
    #[must_use]
    pub fn loss(mut self, loss: Loss) -> Self {
        self.completeness.losses.push(loss);
        self
    }

    /// The container already ran when the recording began.
    #[must_use]
    pub fn already_running(mut self) -> Self {
        self.completeness.from_start = false;
        self
    }

    /// The capture, its calls ordered as the host orders them.
    pub fn build(mut self) -> Capture {
        self.syscalls.sort_by_key(|call| (call.abi, call.number));
        Capture::new(self.container, self.machine, self.syscalls, self.completeness)
    }
}

/// Prepares a run of a gadget.
pub fn gadget<G: Gadget>() -> GadgetRun<G> {
    GadgetRun {
        reason: Reason::OnDemand,
        params: Vec::new(),
        formatter: None,
        formatter_params: Vec::new(),
        output_limit: u64::MAX,
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
    gadget: PhantomData<G>,
}

type Format = fn(&Params, &Policy, &[&Capture]) -> Result<Document, formatter::Error>;

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
        self.formatter = Some((F::describe, F::format));
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

    /// Runs the gadget.
    ///
    /// # Panics
    ///
    /// If a parameter is not declared, or its value is not of its type: the host does not let such a run begin.
    pub fn run(&self, captures: Vec<Capture>) -> Outcome {
        let params = params(&G::describe(), &self.params);
        let mut host = Host {
            formatter: self
                .formatter
                .map(|(describe, format)| (self::params(&describe(), &self.formatter_params), format)),
            room: self.output_limit,
            limit: self.output_limit,
            policies: Vec::new(),
            emitted: Vec::new(),
        };
        let outer = LOG.replace(Some(Vec::new()));
        let result = G::generate(&mut Run::new(self.reason, params, &mut host), captures);
        let log = LOG.replace(outer).unwrap_or_default();
        Outcome { result, policies: host.policies, emitted: host.emitted, log }
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
    /// The lines that the gadget and the formatter logged.
    pub log: Vec<Line>,
}

/// A document that was emitted.
#[derive(Debug)]
pub struct Emitted {
    /// The document.
    pub document: Document,
    /// The containers that it is about.
    pub about: Vec<String>,
}

/// A line that was logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// How bad it is.
    pub level: Level,
    /// What it says.
    pub message: String,
    /// What it says it of.
    pub fields: Vec<Field>,
}

impl fmt::Display for Line {
    /// `warn: message name=value`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        };
        write!(f, "{level}: {}", self.message)?;
        self.fields.iter().try_for_each(|field| write!(f, " {}={}", field.name, field.value))
    }
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

struct Host {
    formatter: Option<(Params, Format)>,
    room: u64,
    limit: u64,
    policies: Vec<Policy>,
    emitted: Vec<Emitted>,
}

impl gadget::Host for Host {
    fn format(&mut self, policy: &Policy, about: &[&Capture]) -> Result<Document, formatter::Error> {
        if let Some((params, format)) = &self.formatter {
            return format(params, policy, about);
        }
        self.policies.push(policy.clone());
        Ok(Document::new("text/plain", format!("policy {}\n", self.policies.len())))
    }

    fn emit(&mut self, document: &Document, about: &[&Capture]) -> Result<(), output::Error> {
        let size = document.body.len() as u64;
        self.room = self.room.checked_sub(size).ok_or(output::Error::TooLarge(self.limit))?;
        let about = about.iter().map(|capture| capture.container().to_string()).collect();
        self.emitted.push(Emitted { document: document.clone(), about });
        Ok(())
    }
}

thread_local! {
    // Some while a gadget runs on this thread.
    static LOG: RefCell<Option<Vec<Line>>> = const { RefCell::new(None) };
}

pub(crate) fn log(level: Level, message: &str, fields: Vec<Field>) {
    let line = Line { level, message: message.to_owned(), fields };
    LOG.with_borrow_mut(|log| match log {
        Some(lines) => lines.push(line),
        None => eprintln!("{line}"),
    });
}
