//! The audit: every call that a module made, and its result.

use std::time::Duration;

use gadgetd_core::kube::{Call, KubeError, Verb};
use serde_json::Value;

use crate::{modules::digest::Digest, text::printable};

/// An entry of the audit: a call that a module made, the decision about it, and its result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubeCall {
    /// The kind of call.
    pub verb: Verb,
    /// The API group.
    pub group: String,
    /// The resource, as its plural.
    pub plural: String,
    /// The namespace, if one was named.
    pub namespace: Option<String>,
    /// The object's name, if the call was about one.
    pub name: Option<String>,
    /// Of the call as compact JSON: an array of the verb and the arguments in the contract's order, in which a kind is
    /// an array of its fields.
    pub arguments: Digest,
    /// Whether it was made; if not, the result says why.
    pub allowed: bool,
    /// How long the module waited.
    pub duration: Duration,
    /// Its result; `None` if the run ended before an answer came.
    pub result: Option<Result<(), KubeError>>,
}

impl KubeCall {
    /// The call, as a person would say it.
    pub fn call(&self) -> Call<'_> {
        Call {
            verb: self.verb,
            group: &self.group,
            plural: &self.plural,
            namespace: self.namespace.as_deref(),
            name: self.name.as_deref(),
        }
    }

    /// A call that was decided about, and has no answer yet unless it was denied.
    fn new(call: &Call<'_>, arguments: &Value, denied: Option<KubeError>) -> Self {
        let text = |text: &str| printable(text.to_owned());
        Self {
            verb: call.verb,
            group: text(call.group),
            plural: text(call.plural),
            namespace: call.namespace.map(text),
            name: call.name.map(text),
            arguments: Digest::of(arguments.to_string().as_bytes()),
            allowed: denied.is_none(),
            duration: Duration::ZERO,
            result: denied.map(Err),
        }
    }

    fn trace(&self, module: &str) {
        let Self { verb, group, plural, arguments, allowed, duration, .. } = self;
        let (namespace, name) = (self.namespace.as_deref(), self.name.as_deref());
        let result = match &self.result {
            None => "the run ended before an answer came".to_owned(),
            Some(Ok(())) => "ok".to_owned(),
            Some(Err(error)) => printable(error.to_string()),
        };
        tracing::info!(
            target: "gadgetd::audit",
            module, %verb, group, plural, namespace, name, %arguments, allowed, ?duration, result,
            "kube call"
        );
    }
}

/// The audit of one run.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    calls: Vec<KubeCall>,
    unrecorded: u64,
}

/// The entry of a call whose answer is to come.
pub(crate) struct PendingEntry(usize);

impl Audit {
    /// How many calls it holds.
    pub(crate) fn len(&self) -> usize {
        self.calls.len()
    }

    /// Counts a call that is not worth an entry any more.
    pub(crate) fn count_unrecorded(&mut self) {
        self.unrecorded += 1;
    }

    /// Enters a call that was decided about.
    pub(crate) fn enter(
        &mut self,
        module: &str,
        call: &Call<'_>,
        arguments: &Value,
        denied: Option<KubeError>,
    ) -> PendingEntry {
        let entry = KubeCall::new(call, arguments, denied);
        if !entry.allowed {
            entry.trace(module);
        }
        self.calls.push(entry);
        PendingEntry(self.calls.len() - 1)
    }

    /// Enters the result of a call.
    pub(crate) fn complete(
        &mut self,
        module: &str,
        PendingEntry(index): PendingEntry,
        duration: Duration,
        result: Result<(), KubeError>,
    ) {
        let Some(entry) = self.calls.get_mut(index) else { return };
        entry.duration = duration;
        entry.result = Some(result);
        entry.trace(module);
    }

    /// The entries, and how many calls are not among them.
    pub(crate) fn take(&mut self, module: &str) -> (Vec<KubeCall>, u64) {
        self.calls.iter().filter(|call| call.result.is_none()).for_each(|call| call.trace(module));
        (std::mem::take(&mut self.calls), self.unrecorded)
    }
}
