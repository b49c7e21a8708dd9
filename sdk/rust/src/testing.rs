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

#[cfg(feature = "proptest")]
pub mod strategies;

use std::{cell::RefCell, fmt, marker::PhantomData};

pub use crate::log::{Field, Level};
use crate::{
    Abi, Capture, Completeness, Container, Description, Document, Error, Formatter, Gadget, Loss, Machine,
    MadeObject, ObjectHead, Params, Phases, Pod, Policy, Reason, Refusal, RefusedCall, Run, Syscall, Target,
    Verdict, formatter, gadget, kube,
    module::Verb,
    output,
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
    let (syscalls, refused) = (Vec::new(), Vec::new());
    CaptureBuilder { container, machine: Machine::X86_64, syscalls, refused, completeness }
}

/// Makes a [`Capture`] of plain data.
#[derive(Clone, Debug)]
pub struct CaptureBuilder {
    container: Container,
    machine: Machine,
    syscalls: Vec<Syscall>,
    refused: Vec<RefusedCall>,
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

    /// Adds a call that a seccomp filter refused. Its name is `None` where the kernel's tables have none.
    #[must_use]
    pub fn refused<'a>(
        mut self,
        abi: Abi,
        number: u32,
        name: impl Into<Option<&'a str>>,
        answer: Refusal,
    ) -> Self {
        let name = name.into().map(str::to_owned);
        self.refused.push(RefusedCall { abi, number, name, answer });
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
        self.refused.sort_by_key(|call| (call.abi, call.number));
        Capture::new(self.container, self.machine, self.syscalls, self.refused, self.completeness)
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

type Format = fn(&Params, &Policy, &[&Capture], Option<&ObjectHead>) -> Result<Document, formatter::Error>;
type Script = Box<dyn Fn(&KubeCall) -> Result<KubeAnswer, kube::Error>>;

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
        let mut host = Host {
            formatter: self
                .formatter
                .map(|(describe, format)| (self::params(&describe(), &self.formatter_params), format)),
            room: self.output_limit,
            limit: self.output_limit,
            policies: Vec::new(),
            emitted: Vec::new(),
            target: self.target.clone(),
            script: self.script.as_ref(),
            description,
            calls: Vec::new(),
            written: Vec::new(),
            made: Vec::new(),
            verdicts: Vec::new(),
        };
        let outer = LOG.replace(Some(Vec::new()));
        let result = G::generate(&mut Run::new(self.reason, params, &mut host), captures);
        let log = LOG.replace(outer).unwrap_or_default();
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

/// A document that was emitted.
#[derive(Debug)]
pub struct Emitted {
    /// The document.
    pub document: Document,
    /// The containers that it is about.
    pub about: Vec<String>,
}

/// An object that was reported to hold the result.
#[derive(Debug)]
pub struct Made {
    /// The object.
    pub object: MadeObject,
    /// The containers that it is about.
    pub about: Vec<String>,
}

/// What was said of recordings.
#[derive(Debug, PartialEq, Eq)]
pub struct Judged {
    /// Whether they are as they should be.
    pub verdict: Verdict,
    /// The containers that it is about.
    pub about: Vec<String>,
}

/// A call to the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // As in `kube::Kube`.
pub enum KubeCall {
    Discover { group: String, plural: String },
    Get { kind: kube::Kind, namespace: Option<String>, name: String },
    List { kind: kube::Kind, namespace: Option<String>, labels: String },
    Create { kind: kube::Kind, namespace: Option<String>, object: String },
    Apply { kind: kube::Kind, namespace: Option<String>, object: String },
}

/// What a scripted cluster answers: of the kind that the call asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum KubeAnswer {
    Kinds(Vec<kube::Kind>),
    Object(String),
    Objects(Vec<String>),
}

/// A kind of object, such as `("apps", "v1", "deployments", "Deployment", true)`.
pub fn kind(group: &str, version: &str, plural: &str, name: &str, namespaced: bool) -> kube::Kind {
    kube::Kind {
        group: group.into(),
        version: version.into(),
        plural: plural.into(),
        name: name.into(),
        namespaced,
    }
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

struct Host<'a> {
    formatter: Option<(Params, Format)>,
    room: u64,
    limit: u64,
    policies: Vec<Policy>,
    emitted: Vec<Emitted>,
    target: Option<Target>,
    script: Option<&'a Script>,
    description: Description,
    calls: Vec<KubeCall>,
    /// What was made or applied: group, plural, namespace, name.
    written: Vec<Written>,
    made: Vec<Made>,
    verdicts: Vec<Judged>,
}

type Written = (String, String, Option<String>, String);

impl Host<'_> {
    fn ask(
        &mut self,
        verb: Option<Verb>,
        group: &str,
        plural: &str,
        call: KubeCall,
    ) -> Result<KubeAnswer, kube::Error> {
        let asked = self.description.capabilities.iter().any(|c| {
            c.group == group && c.plural == plural && verb.is_none_or(|verb| c.verbs.contains(&verb))
        });
        let answer = match self.script {
            None => Err(kube::Error::Unavailable("there is no cluster here".into())),
            Some(_) if !asked => {
                Err(kube::Error::Denied(format!("the module does not ask for it: {call:?}")))
            }
            Some(script) => script(&call),
        };
        self.calls.push(call);
        answer
    }

    fn object(&mut self, verb: Verb, kind: &kube::Kind, call: KubeCall) -> Result<String, kube::Error> {
        match self.ask(Some(verb), &kind.group, &kind.plural, call)? {
            KubeAnswer::Object(object) => Ok(object),
            other => panic!("the script answers with {other:?} where one object is asked for"),
        }
    }

    /// What a call that writes answers.
    fn write(
        &mut self,
        verb: Verb,
        kind: &kube::Kind,
        namespace: Option<&str>,
        object: &str,
    ) -> Result<String, kube::Error> {
        let (owned, text) = (namespace.map(str::to_owned), object.to_owned());
        let call = match verb {
            Verb::Create => KubeCall::Create { kind: kind.clone(), namespace: owned.clone(), object: text },
            _ => KubeCall::Apply { kind: kind.clone(), namespace: owned.clone(), object: text },
        };
        let answer = self.object(verb, kind, call);
        // One whose answer is too large is there all the same.
        if let Ok(_) | Err(kube::Error::TooLarge(_)) = answer {
            let object: serde_json::Value = serde_json::from_str(object).expect("a written object is JSON");
            let name = object.pointer("/metadata/name").and_then(|name| name.as_str());
            let name = name.expect("a written object has a name").to_owned();
            self.written.push((kind.group.clone(), kind.plural.clone(), owned, name));
        }
        answer
    }
}

fn containers(about: &[&Capture]) -> Vec<String> {
    about.iter().map(|capture| capture.container().to_string()).collect()
}

impl gadget::Host for Host<'_> {
    fn format(
        &mut self,
        policy: &Policy,
        about: &[&Capture],
        object: Option<&ObjectHead>,
    ) -> Result<Document, formatter::Error> {
        if let Some((params, format)) = &self.formatter {
            return format(params, policy, about, object);
        }
        self.policies.push(policy.clone());
        let Some(ObjectHead { api_version, kind, namespace, name, attempt }) = object else {
            return Ok(Document::new("text/plain", format!("policy {}\n", self.policies.len())));
        };
        let object = serde_json::json!({
            "apiVersion": api_version,
            "kind": kind,
            "metadata": { "namespace": namespace, "name": name },
            "spec": { "policy": self.policies.len(), "attempt": attempt },
        });
        Ok(Document::new("application/json", object.to_string()))
    }

    fn target(&mut self) -> Option<Target> {
        self.target.clone()
    }

    fn emit(&mut self, document: &Document, about: &[&Capture]) -> Result<(), output::Error> {
        let size = document.body.len() as u64;
        self.room = self.room.checked_sub(size).ok_or(output::Error::TooLarge(self.limit))?;
        self.emitted.push(Emitted { document: document.clone(), about: containers(about) });
        Ok(())
    }

    fn made(&mut self, object: &MadeObject, about: &[&Capture]) -> Result<(), output::Error> {
        let MadeObject { kind, namespace, name, .. } = object;
        let written = (kind.group.clone(), kind.plural.clone(), namespace.clone(), name.clone());
        if !self.written.contains(&written) {
            return Err(output::Error::Rejected(format!("the run did not make {name}")));
        }
        self.made.push(Made { object: object.clone(), about: containers(about) });
        Ok(())
    }

    fn judge(&mut self, verdict: &Verdict, about: &[&Capture]) -> Result<(), output::Error> {
        self.verdicts.push(Judged { verdict: verdict.clone(), about: containers(about) });
        Ok(())
    }

    fn discover(&mut self, group: &str, plural: &str) -> Result<Vec<kube::Kind>, kube::Error> {
        let call = KubeCall::Discover { group: group.into(), plural: plural.into() };
        match self.ask(None, group, plural, call)? {
            KubeAnswer::Kinds(kinds) => Ok(kinds),
            other => panic!("the script answers with {other:?} where kinds are asked for"),
        }
    }

    fn get(&mut self, kind: &kube::Kind, namespace: Option<&str>, name: &str) -> Result<String, kube::Error> {
        let namespace = namespace.map(str::to_owned);
        self.object(Verb::Get, kind, KubeCall::Get { kind: kind.clone(), namespace, name: name.into() })
    }

    fn list(
        &mut self,
        kind: &kube::Kind,
        namespace: Option<&str>,
        labels: &str,
    ) -> Result<Vec<String>, kube::Error> {
        let namespace = namespace.map(str::to_owned);
        let call = KubeCall::List { kind: kind.clone(), namespace, labels: labels.into() };
        match self.ask(Some(Verb::List), &kind.group, &kind.plural, call)? {
            KubeAnswer::Objects(objects) => Ok(objects),
            other => panic!("the script answers with {other:?} where several objects are asked for"),
        }
    }

    fn create(
        &mut self,
        kind: &kube::Kind,
        namespace: Option<&str>,
        object: &str,
    ) -> Result<String, kube::Error> {
        self.write(Verb::Create, kind, namespace, object)
    }

    fn apply(
        &mut self,
        kind: &kube::Kind,
        namespace: Option<&str>,
        object: &str,
    ) -> Result<String, kube::Error> {
        self.write(Verb::Apply, kind, namespace, object)
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
