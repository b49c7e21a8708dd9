//! `formatter`: what the gadget imports and the formatter exports; the host stands between the two.
//!
//! The formatter runs in a store of its own, with limits of its own. The policy is checked before it sees it, and the
//! document after: a profile must say what the policy said, or the gadget gets an error instead.

use std::sync::Arc;

use gadgetd_core::{Capture as Recording, Policy, oci};
use wasmtime::{
    Store,
    component::{Resource, TypedFunc},
};

use crate::{
    bindings::{
        formatter::{Document as WitDocument, Error, Host},
        params::Param,
        policy::Policy as WitPolicy,
    },
    captures::{self, Capture},
    fault::Fault,
    limits::Limits,
    log::{Log, printable},
    module::Module,
    output::{Document, SECCOMP_PROFILE, check},
    state::State,
};

/// `format`, as it is exported. The policy is shared, so that it is still there to be compared afterwards.
pub(crate) type Format = TypedFunc<(Arc<WitPolicy>, Vec<Resource<Capture>>), (Result<WitDocument, Error>,)>;

/// The formatter of one run. It is instantiated when the gadget first calls it, and then stays.
pub(crate) struct Session {
    module: Arc<Module>,
    params: Arc<[Param]>,
    instance: Option<Instance>,
    /// What ended it: a module that trapped cannot be entered again.
    ended: Option<Fault>,
    /// How the last call failed, if it did.
    pub(crate) fault: Option<Fault>,
    /// The last document that it wrote and that passed the checks.
    pub(crate) last: Option<Document>,
}

struct Instance {
    store: Store<State>,
    format: Option<Format>,
}

impl Session {
    pub(crate) fn new(module: Arc<Module>, params: Arc<[Param]>) -> Self {
        Self { module, params, instance: None, ended: None, fault: None, last: None }
    }

    /// The formatter, as people know it.
    pub(crate) fn label(&self) -> &Arc<str> {
        &self.module.label
    }

    /// Moves what the formatter logged to the end of `log`.
    pub(crate) fn drain_log(&mut self, log: &mut Log) {
        if let Some(instance) = &mut self.instance {
            let own = &mut instance.store.data_mut().log;
            log.lines.append(&mut own.lines);
            log.dropped += std::mem::take(&mut own.dropped);
        }
    }

    async fn format(
        &mut self,
        policy: Policy,
        about: Vec<Resource<Capture>>,
        captures: &Arc<[Recording]>,
        limits: &Arc<Limits>,
    ) -> Result<Document, Error> {
        self.fault = None;
        // A gadget that makes a bad policy is at fault itself.
        policy.validate().map_err(|error| Error::Rejected(error.to_string()))?;
        let policy = Arc::new(WitPolicy::from(policy));
        let (fault, error) = match self.call(Arc::clone(&policy), about, captures, limits).await {
            Ok(Ok(document)) => {
                let document = Document::from(document);
                let policy = Arc::unwrap_or_clone(policy).into();
                match check_written(&document, &policy, limits) {
                    Ok(()) => {
                        self.last = Some(document.clone());
                        return Ok(document);
                    }
                    Err(fault) => {
                        let error = Error::Rejected(format!("{} {fault}", self.label()));
                        (fault, error)
                    }
                }
            }
            Ok(Err(error)) => (Fault::of_formatter(error.clone()), error),
            Err(fault) => {
                let error = Error::Failed(format!("{} {fault}", self.label()));
                (fault, error)
            }
        };
        self.fault = Some(fault);
        Err(error)
    }

    /// The formatter's answer, or what ended it.
    async fn call(
        &mut self,
        policy: Arc<WitPolicy>,
        about: Vec<Resource<Capture>>,
        captures: &Arc<[Recording]>,
        limits: &Arc<Limits>,
    ) -> Result<Result<WitDocument, Error>, Fault> {
        if let Some(fault) = &self.ended {
            return Err(fault.clone());
        }
        let instance = self.instance.get_or_insert_with(|| {
            let label = self.module.label.clone();
            let state = State::formatting(label, limits.clone(), self.params.clone(), captures.clone());
            Instance { store: state.into_store(self.module.engine()), format: None }
        });
        let answer = instance.enter(&self.module, policy, about).await;
        answer.map_err(|error| {
            let fault = Fault::of(&error, instance.store.data());
            self.ended = Some(fault.clone());
            fault
        })
    }
}

impl Instance {
    async fn enter(
        &mut self,
        module: &Module,
        policy: Arc<WitPolicy>,
        about: Vec<Resource<Capture>>,
    ) -> wasmtime::Result<Result<WitDocument, Error>> {
        self.store.data_mut().begin_call();
        let format = match self.format {
            Some(format) => format,
            None => *self.format.insert(module.start(&mut self.store).await?),
        };
        let (answer,) = format.call_async(&mut self.store, (policy, about)).await?;
        Ok(answer)
    }
}

impl Host for State {
    async fn format(
        &mut self,
        policy: WitPolicy,
        about: Vec<Resource<Capture>>,
    ) -> wasmtime::Result<Result<WitDocument, Error>> {
        self.running("formatter.format")?;
        let (captures, limits) = (self.captures.clone(), self.limits.clone());
        let about = captures::indices(&about).into_iter().map(captures::handle).collect();
        let session = &mut self.gadget_run()?.formatter;
        let result = session.format(policy.into(), about, &captures, &limits).await;
        self.drain_formatter_log();
        Ok(result.map(|Document { media_type, body }| WitDocument { media_type, body }))
    }
}

/// A formatter's answer, as its fault.
impl Fault {
    pub(crate) fn of_formatter(error: Error) -> Self {
        match error {
            Error::Unsupported(text) => Self::Unsupported(printable(text)),
            Error::InvalidParameter(text) => Self::InvalidParameter(printable(text)),
            Error::Rejected(text) => Self::Rejected(printable(text)),
            Error::Failed(text) => Self::Failed(printable(text)),
        }
    }
}

fn check_written(document: &Document, policy: &Policy, limits: &Limits) -> Result<(), Fault> {
    if document.body.len() > limits.output {
        return Err(Fault::Output(limits.output));
    }
    check(document).and_then(|()| check_profile(document, policy)).map_err(Fault::Rejected)
}

/// Checks that a seccomp profile says what the policy says, no more and no less.
fn check_profile(document: &Document, policy: &Policy) -> Result<(), String> {
    if document.media_type != SECCOMP_PROFILE {
        return Ok(());
    }
    let profile = oci::parse(document.body.as_bytes());
    let profile = profile.map_err(|error| format!("the document is no seccomp profile: {error}"))?;
    if !profile.flags.is_empty() {
        return Err("the profile sets flags, which the policy does not".into());
    }
    if profile.policy == *policy {
        return Ok(());
    }
    let (wanted, written) = (policy.canonical(), profile.policy.canonical());
    let differs = |what: String| Err(format!("the profile does not say what the policy says: {what}"));
    if wanted.0 != written.0 {
        return differs(format!("its default is to {}, instead of to {}", written.0, wanted.0));
    }
    if wanted.1 != written.1 {
        return differs(format!("its architectures are {:?}, instead of {:?}", written.1, wanted.1));
    }
    if let Some((name, _, action)) = written.2.difference(&wanted.2).next() {
        return differs(format!("it has the rule to {action} {}", printable((*name).to_owned())));
    }
    if let Some((name, _, action)) = wanted.2.difference(&written.2).next() {
        return differs(format!("it lacks the rule to {action} {name}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use gadgetd_core::policy::{Action, Architecture, Rule};

    use super::*;

    fn verdict(body: &str) -> Result<(), String> {
        let rule = Rule { names: vec!["read".into(), "write".into()], action: Action::Allow, args: vec![] };
        let policy = Policy {
            default_action: Action::Errno(None),
            architectures: vec![Architecture::X86_64],
            rules: vec![rule],
        };
        check_profile(&Document { media_type: SECCOMP_PROFILE.into(), body: body.into() }, &policy)
    }

    #[test]
    fn a_profile_must_say_what_the_policy_says() {
        let profile = |default: &str, architecture: &str, names: &str, more: &str| {
            format!(
                r#"{{"defaultAction": "SCMP_ACT_{default}", "architectures": ["SCMP_ARCH_{architecture}"], {more}
                    "syscalls": [{{"names": [{names}], "action": "SCMP_ACT_ALLOW"}}]}}"#
            )
        };
        let both = r#""write", "read""#;
        assert_eq!(verdict(&profile("ERRNO", "X86_64", both, "")), Ok(()));
        let rows = [
            (profile("ALLOW", "X86_64", both, ""), "its default is to allow, instead of to refuse"),
            (profile("ERRNO", "X86", both, ""), "its architectures are {X86}, instead of {X86_64}"),
            (
                profile("ERRNO", "X86_64", r#""write", "read", "ptrace""#, ""),
                "it has the rule to allow ptrace",
            ),
            (profile("ERRNO", "X86_64", r#""write""#, ""), "it lacks the rule to allow read"),
            (
                profile("ERRNO", "X86_64", both, r#""flags": ["SECCOMP_FILTER_FLAG_SPEC_ALLOW"],"#),
                "the profile sets flags",
            ),
            ("{".into(), "the document is no seccomp profile"),
        ];
        for (document, want) in rows {
            let reason = verdict(&document).expect_err(&document);
            assert!(reason.contains(want), "{reason:?} does not contain {want:?}");
        }
    }
}
