//! Gadget `seccomp`: from recorded system calls to a seccomp policy, one for each container.
//!
//! The policy refuses everything (`default-action`) but one list of names: what was recorded, what
//! `include` adds, [`ALWAYS`], [`VDSO`], and for a container [`START`], less what `exclude` takes away. A name
//! stands for the call in every architecture of the policy; a call that a 32-bit program made
//! carries the name that the 32-bit table has for it.
//!
//! A filter may have refused calls while they were recorded, such as the default profile of a container engine. Those that it
//! answered with `ENOSYS` are answered so by the policy too: the program knows how to do without them, but might take any other
//! answer for a failure (`clone3`, of glibc's threads). Others are told of, and are allowed only with `include-refused`.
//!
//! Where the run asks for an object of the cluster, the policy becomes a `SeccompProfile`: see [`object`].
//!
//! A recording without a single call that can be named is an error: the policy it would give
//! forbids everything, which nobody means. With several recordings the others still get theirs.
//!
//! ```
//! use gadget_sdk::{Abi, Phases, testing};
//! use seccomp_advisor::SeccompAdvisor;
//!
//! let capture = testing::capture("web").call(Abi::Native, 0, "read", Phases::APPLICATION).build();
//! let run = testing::gadget::<SeccompAdvisor>().param("exclude", "exit").run(vec![capture]);
//! assert_eq!(run.policies[0].rules[0].names, [
//!     "clock_getres", "clock_gettime", "execve", "exit_group", "getcpu", "gettimeofday", "read", "restart_syscall",
//!     "rt_sigreturn", "time"
//! ]);
//! ```

pub mod object;

use std::collections::BTreeSet;

use gadget_sdk::{
    Abi, Action, Architecture, Capture, Choice, Description, Error, Gadget, Machine, Module, Parameters,
    Params, Phases, Policy, Refusal, Rule, Run, Syscall, log, module::Verb,
};

pub use syscall_knowledge::{ALWAYS, ALWAYS_COMPAT, START, VDSO};

use crate::object::Wanted;

gadget_sdk::export_gadget!(SeccompAdvisor);

/// As if the kernel did not have the call.
const MISSING: Action = Action::Errno(Some(38));

/// The largest errno that a filter can return: the kernel's `MAX_ERRNO`.
const ERRNO_MAX: i64 = 4095;

/// The gadget.
pub struct SeccompAdvisor;

/// The parameters, as they are given.
#[derive(Parameters)]
struct Given {
    /// What happens to a call that the policy does not allow.
    #[param(default = DefaultAction::Errno)]
    default_action: DefaultAction,
    /// The errno (1 to 4095) that such a call returns; without it, the runtime's choice: EPERM.
    default_errno: Option<i64>,
    /// All that the machine can run, or those that were seen besides the native one.
    #[param(default = Architectures::Compatible)]
    architectures: Architectures,
    /// Calls to allow, recorded or not.
    include: Vec<String>,
    /// Calls not to allow, recorded or not.
    exclude: Vec<String>,
    /// Allow also what the program attempted and a seccomp filter refused while it was recorded.
    include_refused: bool,
    /// Calls of the container's whole life, or only of its own program.
    #[param(default = Phase::All)]
    phase: Phase,
}

#[derive(Choice)]
enum DefaultAction {
    Errno,
    KillProcess,
    KillThread,
    Trap,
    Log,
}

#[derive(Choice, PartialEq)]
enum Architectures {
    Compatible,
    Observed,
}

#[derive(Choice)]
enum Phase {
    All,
    Application,
}

impl Module for SeccompAdvisor {
    fn describe() -> Description {
        let summary = "Makes a seccomp policy that allows what a container was seen to do.";
        Description::new("seccomp", env!("CARGO_PKG_VERSION"), summary).params::<Given>().capability(
            object::GROUP,
            object::PLURAL,
            &[Verb::Create],
        )
    }
}

impl Gadget for SeccompAdvisor {
    fn generate(run: &mut Run<'_>, captures: Vec<Capture>) -> Result<(), Error> {
        let options = Options::read(run.params())?;
        if captures.is_empty() {
            return Err(Error::Empty("no container was recorded".into()));
        }
        let wanted = Wanted::by(run)?;
        let count = captures.len();
        let mut empty = Vec::new();
        for capture in captures {
            let Some(policy) = options.policy(&capture)? else {
                empty.push(capture.container().to_string());
                continue;
            };
            if let Some(wanted) = &wanted {
                wanted.make(run, &policy, &capture)?;
            } else {
                let document = run.format(&policy, &[&capture])?;
                run.emit(&document, &[&capture])?;
            }
        }
        if empty.len() == count {
            let (containers, phase) = (empty.join(", "), options.phase());
            return Err(Error::Empty(format!(
                "no call of {containers} was recorded{phase} that a policy can name"
            )));
        }
        for container in &empty {
            let message =
                format!("no policy: no call was recorded{} that a policy can name", options.phase());
            log::warn(&message, &[("container", container)]);
        }
        Ok(())
    }
}

/// The parameters, understood.
struct Options {
    default_action: Action,
    observed_architectures: bool,
    include: Vec<String>,
    exclude: Vec<String>,
    include_refused: bool,
    phases: Phases,
}

impl Options {
    fn read(params: &Params) -> Result<Self, Error> {
        let given: Given = params.read();
        let errno = given.default_errno.map(|errno| match u16::try_from(errno) {
            Ok(value) if (1..=ERRNO_MAX).contains(&errno) => Ok(value),
            _ => invalid(format!("default-errno: {errno} is no errno; they are 1 to {ERRNO_MAX}")),
        });
        let errno = errno.transpose()?;
        let default_action = match given.default_action {
            DefaultAction::Errno => Action::Errno(errno),
            other if errno.is_some() => {
                let other = other.word();
                return invalid(format!("default-errno: goes with default-action=errno, not with {other}"));
            }
            DefaultAction::KillProcess => Action::KillProcess,
            DefaultAction::KillThread => Action::KillThread,
            DefaultAction::Trap => Action::Trap,
            DefaultAction::Log => Action::Log,
        };
        let include = names("include", &given.include)?;
        let exclude = names("exclude", &given.exclude)?;
        if let Some(both) = include.iter().find(|name| exclude.contains(name)) {
            return invalid(format!("include: {both} stands in exclude too"));
        }
        for name in exclude.iter().filter(|name| is_needed(name)) {
            log::warn("a container may not start or end without this call", &[("excluded", name)]);
        }
        Ok(Self {
            default_action,
            observed_architectures: given.architectures == Architectures::Observed,
            include,
            exclude,
            include_refused: given.include_refused,
            phases: match given.phase {
                Phase::Application => Phases::APPLICATION,
                Phase::All => Phases::all(),
            },
        })
    }

    /// Where calls were looked for, as a part of a sentence.
    fn phase(&self) -> &'static str {
        if self.phases == Phases::all() { "" } else { " in the application phase" }
    }

    /// The policy for one container, or `None` where nothing was recorded that a policy could name.
    fn policy(&self, capture: &Capture) -> Result<Option<Policy>, Error> {
        let calls = || capture.syscalls().iter().filter(|call| call.phases.intersects(self.phases));
        let mut names: BTreeSet<&str> = calls().filter_map(|call| call.name.as_deref()).collect();
        warn_of_gaps(capture, calls().filter(|call| call.name.is_none()));
        if names.is_empty() {
            return Ok(None);
        }
        for name in self.exclude.iter().filter(|name| !names.contains(name.as_str())) {
            if !is_needed(name) {
                let container = capture.container().to_string();
                log::warn("excluded, but was not recorded", &[("name", name), ("container", &container)]);
            }
        }
        names.extend(ALWAYS);
        names.extend(VDSO);
        if calls().any(|call| call.abi == Abi::Compat) {
            names.extend(ALWAYS_COMPAT);
        }
        if self.phases.contains(Phases::RUNTIME) && calls().any(|call| call.phases.contains(Phases::RUNTIME))
        {
            names.extend(START);
        }
        names.extend(self.include.iter().map(String::as_str));
        let missing = self.refused(capture, &mut names);
        for name in &self.exclude {
            names.remove(name.as_str());
        }
        if names.is_empty() {
            return invalid(format!("exclude: leaves nothing to allow for {}", capture.container()));
        }
        let mut rules = vec![Rule::allow(names.into_iter().map(str::to_owned).collect())];
        if !missing.is_empty() {
            rules.push(Rule { names: missing, action: MISSING, args: Vec::new() });
        }
        Ok(Some(Policy {
            default_action: self.default_action,
            architectures: self.architectures(capture.machine(), |abi| calls().any(|call| call.abi == abi)),
            rules,
        }))
    }

    /// Decides on the calls that a filter refused, and are not allowed already: allows them if that is wanted, or tells of them. Returns
    /// those that the program does without when they are missing.
    fn refused<'a>(&'a self, capture: &'a Capture, names: &mut BTreeSet<&'a str>) -> Vec<String> {
        let refused: Vec<_> = capture
            .refused()
            .iter()
            .filter_map(|call| Some((call.name.as_deref()?, call)))
            .filter(|(name, _)| !names.contains(name) && !self.exclude.iter().any(|other| other == name))
            .collect();
        if self.include_refused {
            names.extend(refused.into_iter().map(|(name, _)| name));
            return Vec::new();
        }
        let (missing, others): (Vec<_>, Vec<_>) =
            refused.into_iter().partition(|(_, call)| call.answer == Refusal::MISSING);
        if !others.is_empty() {
            let calls: Vec<_> = others.iter().map(|(_, call)| call.to_string()).collect();
            let container = capture.container().to_string();
            log::warn(
                "attempted, and refused by the seccomp filter in force; not allowed without include-refused=true",
                &[("calls", &calls.join(", ")), ("container", &container)],
            );
        }
        if self.default_action == MISSING {
            return Vec::new();
        }
        let missing: BTreeSet<_> = missing.into_iter().map(|(name, _)| name.to_owned()).collect();
        missing.into_iter().collect()
    }

    fn architectures(&self, machine: Machine, observed: impl Fn(Abi) -> bool) -> Vec<Architecture> {
        let all = machine.architectures();
        let wanted = |abi| !self.observed_architectures || abi == Abi::Native || observed(abi);
        all.iter().filter(|(abi, _)| wanted(*abi)).map(|(_, architecture)| *architecture).collect()
    }
}

/// Whether a start or an end may fail without the call.
fn is_needed(name: &str) -> bool {
    ALWAYS.contains(&name) || START.contains(&name)
}

/// What the policy cannot allow, because the recording does not know it.
fn warn_of_gaps<'a>(capture: &Capture, nameless: impl Iterator<Item = &'a Syscall>) {
    for call in nameless {
        let container = capture.container().to_string();
        let (abi, number) = (call.abi.to_string(), call.number.to_string());
        log::warn(
            "a call without a name cannot be allowed",
            &[("abi", &abi), ("number", &number), ("container", &container)],
        );
    }
    for loss in &capture.completeness().losses {
        let container = capture.container().to_string();
        log::warn("the recording is incomplete", &[("lost", &loss.to_string()), ("container", &container)]);
    }
}

/// A list of names of system calls. There is no table here to know them by: the shape has to do.
fn names(parameter: &str, given: &[String]) -> Result<Vec<String>, Error> {
    let names = given.iter().map(|name| name.trim());
    let names: Vec<_> = names.filter(|name| !name.is_empty()).map(str::to_owned).collect();
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    match names.iter().find(|name| !name.bytes().all(fits)) {
        Some(odd) => invalid(format!("{parameter}: {odd:?} cannot be the name of a system call")),
        None => Ok(names),
    }
}

fn invalid<T>(why: String) -> Result<T, Error> {
    Err(Error::InvalidParameter(why))
}
