//! `formatter`: what the gadget imports and the formatter exports; the host stands between the two.
//!
//! The formatter runs in a store of its own, with limits of its own. The policy is checked before it sees it, and the
//! document after: a profile must say what the policy said, or the gadget gets an error instead.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use gadgetd_core::{Capture as Recording, Policy, oci, policy::Action, spo};
use serde_json::Value;
use wasmtime::{
    Store,
    component::{Resource, TypedFunc},
};

use crate::{
    bindings::{
        formatter::{Document as WitDocument, Error, Host, ObjectHead},
        params::Param,
        policy::Policy as WitPolicy,
    },
    captures::{self, Capture},
    fault::Fault,
    limits::Limits,
    log::{Log, printable},
    module::Module,
    output::{Document, check, object_profile, profile},
    run::ModuleUsage,
    state::State,
};

/// `format`, as it is exported. The policy is shared, so that it is still there to be compared afterwards.
pub(crate) type Format = TypedFunc<Input, (Result<WitDocument, Error>,)>;
type Input = (Arc<WitPolicy>, Vec<Resource<Capture>>, Option<ObjectHead>);

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
    instantiate: Duration,
    run: Duration,
}

struct Instance {
    store: Store<State>,
    format: Option<Format>,
}

impl Session {
    pub(crate) fn new(module: Arc<Module>, params: Arc<[Param]>) -> Self {
        Self {
            module,
            params,
            instance: None,
            ended: None,
            fault: None,
            last: None,
            instantiate: Duration::ZERO,
            run: Duration::ZERO,
        }
    }

    /// What the formatter took so far.
    pub(crate) fn usage(&self) -> ModuleUsage {
        let memory = self.instance.as_ref().map_or(0, |instance| instance.store.data().memory());
        ModuleUsage { instantiate: self.instantiate, run: self.run, memory }
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
        object: Option<ObjectHead>,
        captures: &Arc<[Recording]>,
    ) -> Result<Document, Error> {
        self.fault = None;
        // A gadget that makes a bad policy is at fault itself.
        policy.validate().map_err(|error| Error::Rejected(error.to_string()))?;
        let policy = Arc::new(WitPolicy::from(policy));
        let input = (Arc::clone(&policy), about, object.clone());
        let (fault, error) = match self.call(input, captures).await {
            Ok(Ok(document)) => {
                let document = Document::from(document);
                let policy = Arc::unwrap_or_clone(policy).into();
                match check_written(&document, &policy, object.as_ref(), &self.module.limits) {
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
        input: Input,
        captures: &Arc<[Recording]>,
    ) -> Result<Result<WitDocument, Error>, Fault> {
        if let Some(fault) = &self.ended {
            return Err(fault.clone());
        }
        let instance = self.instance.get_or_insert_with(|| {
            let label = self.module.label.clone();
            let state =
                State::formatting(label, self.module.limits.clone(), self.params.clone(), captures.clone());
            Instance { store: state.into_store(self.module.engine()), format: None }
        });
        let begin = Instant::now();
        let started = instance.start(&self.module).await;
        let running = Instant::now();
        self.instantiate += running - begin;
        let answer = match started {
            Ok(format) => format.call_async(&mut instance.store, input).await.map(|(answer,)| answer),
            Err(error) => Err(error),
        };
        self.run += running.elapsed();
        answer.map_err(|error| {
            let fault = Fault::of(&error, instance.store.data());
            self.ended = Some(fault.clone());
            fault
        })
    }
}

impl Instance {
    /// Begins a call, the first one with an instance.
    async fn start(&mut self, module: &Module) -> wasmtime::Result<Format> {
        self.store.data_mut().begin_call();
        Ok(match self.format {
            Some(format) => format,
            None => *self.format.insert(module.start(&mut self.store).await?),
        })
    }
}

impl Host for State {
    async fn format(
        &mut self,
        policy: WitPolicy,
        about: Vec<Resource<Capture>>,
        object: Option<ObjectHead>,
    ) -> wasmtime::Result<Result<WitDocument, Error>> {
        self.running("formatter.format")?;
        let captures = self.captures.clone();
        let about = captures::indices(&about).into_iter().map(captures::handle).collect();
        let begin = Instant::now();
        let session = &mut self.gadget_run()?.formatter;
        let result = session.format(policy.into(), about, object, &captures).await;
        self.drain_formatter_log();
        self.waited += begin.elapsed();
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

fn check_written(
    document: &Document,
    policy: &Policy,
    object: Option<&ObjectHead>,
    limits: &Limits,
) -> Result<(), Fault> {
    if document.body.len() > limits.output {
        return Err(Fault::Output(limits.output));
    }
    let profile = || match object {
        Some(head) => check_object(document, head),
        None => profile(document),
    };
    let checked = check(document).and_then(|()| profile()).and_then(|profile| match profile {
        Some(profile) => check_profile(&profile, policy),
        None => Ok(()),
    });
    checked.map_err(Fault::Rejected)
}

/// Checks that a document is the object that was asked for. If that is one that the host understands, also the
/// profile that it is, whatever media type the formatter gives it.
fn check_object(document: &Document, head: &ObjectHead) -> Result<Option<oci::Profile>, String> {
    let object: Value = serde_json::from_str(&document.body)
        .map_err(|error| format!("the document is no object in JSON: {error}"))?;
    let metadata = |field: &str| object.pointer(&format!("/metadata/{field}")).and_then(Value::as_str);
    let found =
        (object["apiVersion"].as_str(), object["kind"].as_str(), metadata("namespace"), metadata("name"));
    let ObjectHead { api_version, kind, namespace, name, .. } = head;
    if found != (Some(api_version), Some(kind), namespace.as_deref(), Some(name)) {
        return Err(format!(
            "the document is not the object that was asked for, {api_version} {kind} {name}"
        ));
    }
    let group = api_version.split_once('/').map(|(group, _)| group);
    if group == Some(spo::GROUP) && kind == spo::KIND {
        return object_profile(object).map(Some);
    }
    Ok(None)
}

/// Checks that a seccomp profile says what the policy says, no more and no less.
fn check_profile(profile: &oci::Profile, policy: &Policy) -> Result<(), String> {
    if !profile.flags.is_empty() {
        return Err("the profile sets flags, which the policy does not".into());
    }
    if profile.policy == *policy {
        return Ok(());
    }
    // What stands twice means the same, and yet not every reader takes it.
    profile.policy.validate().map_err(|error| format!("the profile is not sound: {error}"))?;
    let (mut wanted, mut written) = (policy.canonical(), profile.policy.canonical());
    for default in [&mut wanted.0, &mut written.0] {
        // What it is where nothing is said, and where there is no field to say it.
        const EPERM: u16 = 1;
        if *default == Action::Errno(Some(EPERM)) {
            *default = Action::Errno(None);
        }
    }
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
    use gadgetd_core::policy::{Architecture, Rule};
    use serde_json::json;

    use super::*;
    use crate::output::{SECCOMP_PROFILE, SPO_PROFILE};

    fn check(media_type: &str, body: &str, object: Option<&ObjectHead>) -> Result<(), String> {
        let rule = Rule { names: vec!["read".into(), "write".into()], action: Action::Allow, args: vec![] };
        let policy = Policy {
            default_action: Action::Errno(Some(1)),
            architectures: vec![Architecture::X86_64],
            rules: vec![rule],
        };
        let document = Document { media_type: media_type.into(), body: body.into() };
        check_written(&document, &policy, object, &Limits::default()).map_err(|fault| match fault {
            Fault::Rejected(reason) => reason,
            other => panic!("{other:?}"),
        })
    }

    fn verdict(body: &str) -> Result<(), String> {
        check(SECCOMP_PROFILE, body, None)
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
            (profile("ERRNO", "X86_64", r#""write", "read", "read""#, ""), "system call read stands twice"),
            ("{".into(), "the document is no seccomp profile"),
        ];
        for (document, want) in rows {
            let reason = verdict(&document).expect_err(&document);
            assert!(reason.contains(want), "{reason:?} does not contain {want:?}");
        }
    }

    fn seccomp_profile(names: &[&str]) -> Value {
        json!({
            "apiVersion": "security-profiles-operator.x-k8s.io/v1",
            "kind": "SeccompProfile",
            "metadata": { "name": "cart" },
            "spec": {
                "defaultAction": "SCMP_ACT_ERRNO",
                "architectures": ["SCMP_ARCH_X86_64"],
                "syscalls": [{ "names": names, "action": "SCMP_ACT_ALLOW" }],
            },
        })
    }

    #[test]
    fn a_seccomp_profile_object_must_say_it_too() {
        let good = seccomp_profile(&["read", "write"]).to_string();
        let bad = seccomp_profile(&["read", "write", "bpf"]).to_string();
        let yaml = "apiVersion: security-profiles-operator.x-k8s.io/v1\nkind: SeccompProfile\nmetadata: {name: cart}\n\
                    spec:\n  defaultAction: SCMP_ACT_ERRNO\n  architectures: [SCMP_ARCH_X86_64]\n  syscalls:\n  \
                    - names: [read, write]\n    action: SCMP_ACT_ALLOW\n";
        for (syntax, body) in [("+json", good.as_str()), ("+yaml", &good), ("+yaml", yaml)] {
            assert_eq!(check(&format!("{SPO_PROFILE}{syntax}"), body, None), Ok(()), "{body}");
        }
        let two = format!("{yaml}---\n{yaml}");
        let again = format!("{yaml}  defaultAction: SCMP_ACT_ALLOW\n");
        let base = format!("{yaml}  baseProfileName: runc\n");
        let rows = [
            ("+json", bad.as_str(), "it has the rule to allow bpf"),
            ("+yaml", &bad, "it has the rule to allow bpf"),
            ("+json", yaml, "the document cannot be read"),
            ("+yaml", &two, "the document cannot be read"),
            ("+yaml", &again, "the document cannot be read"),
            ("+yaml", &base, "spec.baseProfileName: unknown field"),
            ("+yaml", "[]", "the document is no SeccompProfile"),
        ];
        for (syntax, body, want) in rows {
            let reason = check(&format!("{SPO_PROFILE}{syntax}"), body, None).expect_err(want);
            assert!(reason.contains(want), "{reason:?} does not contain {want:?}");
        }
    }

    #[test]
    fn an_object_must_be_the_one_that_was_asked_for() {
        let head = |change: fn(&mut ObjectHead)| {
            let mut head = ObjectHead {
                api_version: "security-profiles-operator.x-k8s.io/v1".into(),
                kind: "SeccompProfile".into(),
                namespace: None,
                name: "cart".into(),
                attempt: 0,
            };
            change(&mut head);
            head
        };
        let good = seccomp_profile(&["read", "write"]).to_string();
        assert_eq!(check("text/plain", &good, Some(&head(|_| ()))), Ok(()));
        let others: [fn(&mut ObjectHead); 4] = [
            |h| h.api_version = "security-profiles-operator.x-k8s.io/v1beta1".into(),
            |h| h.kind = "SelinuxProfile".into(),
            |h| h.namespace = Some("shop".into()),
            |h| h.name = "card".into(),
        ];
        for other in others {
            let reason = check("text/plain", &good, Some(&head(other))).unwrap_err();
            assert!(reason.starts_with("the document is not the object that was asked for"), "{reason}");
        }
        // It is checked whatever it says it is.
        let bad = seccomp_profile(&["read"]).to_string();
        let reason = check("text/plain", &bad, Some(&head(|_| ()))).unwrap_err();
        assert!(reason.contains("it lacks the rule to allow write"), "{reason}");
    }
}
