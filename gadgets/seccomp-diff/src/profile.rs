//! What is compared with: the container engine's default profile, or one that is given.

use std::collections::BTreeSet;

use gadget_sdk::{Abi, Action, Architecture, Machine, Syscall};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::Value;
use syscall_knowledge::{
    ENGINE, Engine, architectures, depends_on_arguments, engine, is_said_to_be_missing, on, profile,
};

/// The word for the engine's default.
pub(crate) const RUNTIME_DEFAULT: &str = "runtime-default";

/// `ENOSYS`: what a kernel answers that does not have a call.
const ENOSYS: u16 = 38;

/// What becomes of a call.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Allowed,
    /// It depends, and on what.
    Maybe(String),
    /// It is not allowed, and why.
    Refused(String),
}

/// A profile.
#[derive(Debug)]
pub(crate) enum Profile {
    /// The engine's default, for a container with these capabilities besides the usual ones.
    Engine(Vec<String>),
    Given(Given),
}

/// A profile that was given.
#[derive(Debug)]
pub(crate) struct Given {
    default: Action,
    /// Those that it names; the native one is always among those that are meant.
    architectures: Vec<Architecture>,
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    names: Vec<String>,
    action: Action,
    /// Whether it depends on arguments.
    conditional: bool,
}

impl Profile {
    /// What `against` says.
    pub(crate) fn given(against: &str, capabilities: &[String]) -> Result<Self, String> {
        let against = against.trim();
        if against == RUNTIME_DEFAULT {
            if let Some(odd) = capabilities.iter().find(|c| !c.starts_with("CAP_")) {
                return Err(format!("capabilities: {odd:?} is none; they are written as CAP_SYS_ADMIN"));
            }
            return Ok(Self::Engine(capabilities.to_vec()));
        }
        if !capabilities.is_empty() {
            return Err(format!(
                "capabilities: goes with against={RUNTIME_DEFAULT}: a profile has its own rules"
            ));
        }
        if !against.starts_with('{') {
            return Err(format!(
                "against: it is neither {RUNTIME_DEFAULT} nor a seccomp profile in JSON; one in a file is given as \
                 against=@profile.json"
            ));
        }
        let given =
            Given::parse(against).map_err(|why| format!("against: it is no seccomp profile: {why}"))?;
        Ok(Self::Given(given))
    }

    /// As people call it.
    pub(crate) fn label(&self) -> String {
        match self {
            Self::Engine(_) => format!("the default profile of {ENGINE}"),
            Self::Given(_) => "the given profile".into(),
        }
    }

    /// What becomes of a call that was made.
    pub(crate) fn answer(&self, machine: Machine, call: &Syscall) -> Answer {
        let Some(name) = call.name.as_deref() else {
            return match self {
                Self::Given(Given { default, .. }) if default.allows() => Answer::Allowed,
                _ => Answer::Refused("it has no name that a profile could allow".into()),
            };
        };
        match self {
            Self::Engine(capabilities) => by_default(name, capabilities),
            Self::Given(given) => given.answer(machine, call.abi, name),
        }
    }

    /// The names of what it allows, at least with some arguments, of what the machine has; `None`: whatever it does not
    /// name.
    pub(crate) fn allowed(&self, machine: Machine) -> Option<BTreeSet<&str>> {
        let names: BTreeSet<&str> = match self {
            Self::Engine(capabilities) => {
                let allows = |name: &&str| match by_default(name, capabilities) {
                    Answer::Allowed => true,
                    Answer::Maybe(_) => depends_on_arguments(name),
                    Answer::Refused(_) => false,
                };
                profile().filter(allows).collect()
            }
            Self::Given(given) if given.default.allows() => return None,
            Self::Given(given) => {
                let rules = given.rules.iter().filter(|rule| rule.action.allows());
                rules.flat_map(|rule| &rule.names).map(String::as_str).collect()
            }
        };
        let architecture = |(_, it): &(Abi, Architecture)| on::named(&it.to_string());
        let here = machine.architectures().iter().map(architecture).fold(0, |all, bit| all | bit);
        // The engine's is for every machine there is, and names what only others have; who makes one means what it says.
        let unknown = matches!(self, Self::Given(_));
        let exists = |name: &&str| architectures(name).map_or(unknown, |bits| bits & here != 0);
        Some(names.into_iter().filter(exists).collect())
    }
}

/// What the engine's default says to a container with these capabilities besides the usual ones.
fn by_default(name: &str, capabilities: &[String]) -> Answer {
    match engine(name) {
        Engine::With(capability) if capabilities.iter().any(|given| given == capability) => Answer::Allowed,
        _ if is_said_to_be_missing(name) => said_to_be_missing(),
        Engine::Allowed if depends_on_arguments(name) => {
            Answer::Maybe("allowed only with some arguments".into())
        }
        Engine::Allowed => Answer::Allowed,
        Engine::With(capability) => Answer::Refused(format!("takes {capability}")),
        Engine::Refused => Answer::Refused("not in the profile".into()),
    }
}

fn said_to_be_missing() -> Answer {
    Answer::Maybe("answered as if the kernel did not have it (ENOSYS): programs then do without".into())
}

impl Given {
    /// As an OCI runtime reads it, or as an object of the Security Profiles Operator has it.
    fn parse(json: &str) -> Result<Self, String> {
        let mut document: Value = serde_json::from_str(json).map_err(|error| error.to_string())?;
        if document.get("kind").and_then(Value::as_str) == Some("SeccompProfile") {
            document = document.get_mut("spec").map(Value::take).ok_or("the SeccompProfile has no spec")?;
        }
        let document = Document::deserialize(document).map_err(|error| error.to_string())?;
        let default = action(&document.default_action, document.default_errno_ret.as_ref())?;
        let architectures = document.architectures.unwrap_or_default().into_iter();
        // One that no machine of ours has is about none of our calls.
        let known = |name: String| Architecture::ALL.into_iter().find(|it| it.scmp_name() == name);
        let rules = document.syscalls.unwrap_or_default().into_iter().map(|rule| {
            let action = action(&rule.action, rule.errno_ret.as_ref())?;
            let conditional = rule.args.is_some_and(|args| !args.is_empty());
            Ok(Rule { names: rule.names, action, conditional })
        });
        Ok(Self {
            default,
            architectures: architectures.filter_map(known).collect(),
            rules: rules.collect::<Result<_, String>>()?,
        })
    }

    fn answer(&self, machine: Machine, abi: Abi, name: &str) -> Answer {
        let architecture = machine.architectures().iter().find(|(of, _)| *of == abi).map(|(_, it)| *it);
        if abi != Abi::Native && !architecture.is_some_and(|it| self.architectures.contains(&it)) {
            let what = architecture.map_or_else(|| abi.to_string(), |it| it.to_string());
            return Answer::Refused(format!("the profile is not about {what}"));
        }
        let rules: Vec<_> = self.rules.iter().filter(|rule| rule.names.iter().any(|n| n == name)).collect();
        let mut answers: Vec<Action> = rules.iter().map(|rule| rule.action).collect();
        // Where each rule has a condition, none of them may hold.
        if rules.iter().all(|rule| rule.conditional) {
            answers.push(self.default);
        }
        if answers.iter().all(|answer| answer.allows()) {
            return Answer::Allowed;
        }
        if answers.iter().any(|answer| answer.allows()) {
            return Answer::Maybe("allowed only with some arguments".into());
        }
        if answers.iter().any(|answer| matches!(answer, Action::Trace(_) | Action::Notify)) {
            return Answer::Maybe("left to a tracer or an agent".into());
        }
        // A profile whose default is ENOSYS does not mean a call by it.
        if !rules.is_empty() && answers.iter().all(|answer| answer.number() == Some(ENOSYS)) {
            return said_to_be_missing();
        }
        Answer::Refused(match (rules.first(), self.default) {
            (None, Action::Errno(_)) => "not in the profile".into(),
            (None, default) => format!("not in the profile: {}", default.scmp_name()),
            (Some(rule), _) => format!("a rule says {}", rule.action.scmp_name()),
        })
    }
}

fn action(name: &str, number: Option<&Value>) -> Result<Action, String> {
    let action = Action::from_scmp_name(name).ok_or_else(|| format!("{name:?} is no action"))?;
    // Some releases of the operator have it as a text.
    let number = number.map(|value| match value {
        Value::String(text) => text.parse().ok(),
        other => other.as_u64().and_then(|number| u16::try_from(number).ok()),
    });
    match number {
        Some(None) => Err("errnoRet: it is no errno".into()),
        Some(number) => Ok(action.with_number(number)),
        None => Ok(action),
    }
}

/// `linux.seccomp`. What is not known could mean anything, and is refused.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    default_action: String,
    default_errno_ret: Option<Value>,
    architectures: Option<Vec<String>>,
    syscalls: Option<Vec<Syscalls>>,
    #[serde(rename = "flags")]
    _flags: Option<IgnoredAny>,
    #[serde(rename = "listenerPath")]
    _listener_path: Option<IgnoredAny>,
    #[serde(rename = "listenerMetadata")]
    _listener_metadata: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Syscalls {
    names: Vec<String>,
    action: String,
    errno_ret: Option<Value>,
    args: Option<Vec<IgnoredAny>>,
    #[serde(rename = "comment")]
    _comment: Option<IgnoredAny>,
    #[serde(rename = "includes")]
    _includes: Option<NoCondition>,
    #[serde(rename = "excludes")]
    _excludes: Option<NoCondition>,
}

/// Only a container engine can decide its conditions.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoCondition {}
