//! What a gadget calls in a test, and what it handed over there.

use super::cluster::{KubeAnswer, KubeCall, Script};
use crate::{
    Capture, Description, Document, MadeObject, ObjectHead, Params, Policy, Target, Verdict, formatter, host,
    kube, module::Verb, output,
};

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

pub(super) type Format =
    fn(&Params, &Policy, &[&Capture], Option<&ObjectHead>) -> Result<Document, formatter::Error>;

/// The host of one run.
pub(super) struct Host<'a> {
    formatter: Option<(Params, Format)>,
    room: u64,
    limit: u64,
    pub(super) policies: Vec<Policy>,
    pub(super) emitted: Vec<Emitted>,
    target: Option<Target>,
    script: Option<&'a Script>,
    description: Description,
    pub(super) calls: Vec<KubeCall>,
    /// What was made or applied: group, plural, namespace, name.
    written: Vec<Written>,
    pub(super) made: Vec<Made>,
    pub(super) verdicts: Vec<Judged>,
}

type Written = (String, String, Option<String>, String);

impl<'a> Host<'a> {
    pub(super) fn new(
        description: Description,
        formatter: Option<(Params, Format)>,
        limit: u64,
        target: Option<Target>,
        script: Option<&'a Script>,
    ) -> Self {
        Self {
            formatter,
            room: limit,
            limit,
            policies: Vec::new(),
            emitted: Vec::new(),
            target,
            script,
            description,
            calls: Vec::new(),
            written: Vec::new(),
            made: Vec::new(),
            verdicts: Vec::new(),
        }
    }

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

impl host::Host for Host<'_> {
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
