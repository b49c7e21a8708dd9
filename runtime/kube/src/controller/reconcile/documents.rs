//! Generates the documents of a recording, and delivers them.

use std::collections::BTreeSet;

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};

use super::{LocalNode, StepError, TraceRef, object::outputs_of, recorder::TraceRecorder};
use crate::{
    Call, NodeStatus, Output, OutputMode, Trace,
    controller::node::{
        FileSink, NodeError, ObjectTarget, Reason, Recorder, Run, RunError, RunOutcome, RunOutput,
        RunRequest, Runner, WrittenObject,
    },
    documents::{Group, bytes_of_others, fit_limits, groups, per_container, replaces, upsert},
    machine::{self, Parameters},
    names::extension,
    summary::join_messages,
};

/// Calls to the cluster that the entry of a document lists.
const CALLS_PER_DOCUMENT_MAX: usize = 16;

/// Characters of one error in a Trace. A module or a server may have written it, and a Trace has it several times.
const ERROR_CHARS_MAX: usize = 1024;

/// Which documents to generate.
#[derive(Clone, Copy)]
pub(super) enum Scope {
    All,
    /// Those of containers that ended and have none yet.
    Due,
}

/// The documents that were generated.
pub(super) struct Generated {
    pub(super) outputs: Vec<Output>,
    /// Whether each container has its own document.
    per_container: bool,
    /// How many containers or pods were recorded.
    pub(super) groups: usize,
    errors: BTreeSet<String>,
    dropped: u64,
}

impl Generated {
    /// Notes that a group has no new document. An older document stays; an ended container is not retried.
    fn failed(&mut self, group: &Group<'_>, mut entry: Output, text: &str) {
        let text = shortened(text);
        self.errors.insert(format!("{}: {text}", group.label()));
        if let Some(known) = self.outputs.iter_mut().find(|o| replaces(&entry, o, self.per_container)) {
            Output {
                instances: known.instances,
                ended: known.ended,
                more_instances: known.more_instances,
                ..
            } = entry;
            return;
        }
        entry.warning = Some(text);
        entry.complete = false;
        self.upsert(entry);
    }

    fn upsert(&mut self, entry: Output) {
        upsert(&mut self.outputs, entry, self.per_container);
    }
}

/// Generates the documents of one Trace.
pub(super) struct Documents<'a, R, U, F> {
    pub(super) node: LocalNode<'a>,
    pub(super) trace: &'a TraceRef,
    pub(super) recorder: &'a TraceRecorder<'a, R>,
    pub(super) runner: &'a U,
    pub(super) files: &'a F,
}

impl<R: Recorder, U: Runner, F: FileSink> Documents<'_, R, U, F> {
    pub(super) async fn generate(
        &self,
        trace: &Trace,
        number: u64,
        parameters: &Parameters,
        reason: Reason,
        scope: Scope,
        occasion: &str,
    ) -> Result<Generated, StepError> {
        let output_mode = &trace.spec.output_mode;
        let recordings = self.recorder.recordings(number).await?;
        let groups = groups(&recordings, parameters.merge, output_mode);
        let mut generated = Generated {
            outputs: outputs_of(trace, self.node.name()),
            per_container: per_container(parameters.merge, output_mode),
            groups: groups.len(),
            errors: BTreeSet::new(),
            dropped: 0,
        };
        for group in &groups {
            let final_already = *output_mode == OutputMode::Stream
                && group.recordings.iter().all(|r| r.ended)
                && !group.is_due(&generated.outputs);
            if final_already || (matches!(scope, Scope::Due) && !group.is_due(&generated.outputs)) {
                continue;
            }
            let mut entry = group.entry(self.node.name());
            entry.time = Some(Time(Timestamp::now()));
            let mut calls = Vec::new();
            let result = self.result(trace, group, parameters, reason, occasion, &mut calls).await;
            note_calls(&mut entry, calls);
            match result {
                Ok(result) => {
                    entry.output = result.output;
                    entry.resource = result.resource;
                    entry.localhost_profile = result.localhost_profile;
                    entry.objection = result.objection;
                    generated.upsert(entry);
                }
                Err(RunError::Empty) => {
                    entry.warning = Some("no system call was recorded: there is no document".into());
                    generated.upsert(entry);
                }
                Err(RunError::Failed(text)) => {
                    let text = format!("gadget {} failed: {text}", trace.spec.gadget);
                    generated.failed(group, entry, &text);
                }
                Err(RunError::Refused(text)) => generated.failed(group, entry, &text),
                Err(RunError::Unavailable(text)) => return Err(NodeError::Unavailable(text).into()),
            }
        }
        let dropped =
            fit_limits(&mut generated.outputs, output_mode, bytes_of_others(trace, self.node.name()));
        generated.dropped = dropped.documents;
        let ended = |id: &String| recordings.iter().any(|r| r.ended && r.capture.container.id == *id);
        for id in dropped.instances.iter().filter(|id| ended(id)) {
            self.recorder.release(number, id).await?;
        }
        Ok(generated)
    }

    /// The status of this node after documents were generated.
    pub(super) async fn status_with(
        &self,
        entry: NodeStatus,
        number: u64,
        generated: &Generated,
    ) -> Result<NodeStatus, StepError> {
        let mut progress = self.recorder.status_progress(&entry, number).await?;
        progress.dropped += generated.dropped;
        let operation_error =
            join_messages(generated.errors.iter().map(String::as_str)).or(entry.operation_error);
        Ok(NodeStatus { progress: Some(progress), operation_error, ..entry })
    }

    /// Generates the document or the object of a group, and delivers it.
    async fn result(
        &self,
        trace: &Trace,
        group: &Group<'_>,
        parameters: &Parameters,
        reason: Reason,
        occasion: &str,
        calls: &mut Vec<Call>,
    ) -> Result<Output, RunError> {
        let refused = |text: String| RunError::Refused(text);
        let target =
            machine::destination(trace, parameters, &self.node.view()).map_err(|r| refused(r.to_string()))?;
        let pod_given = trace.spec.filter.as_ref().is_some_and(|f| !f.podname.is_empty());
        let name = target.as_ref().map(|target| target.name(&group.subject(pod_given)));
        let name = name.transpose().map_err(|e| refused(e.to_string()))?;
        let external = trace.spec.output_mode == OutputMode::ExternalResource;
        // A container ends once: the id of the latest tells one end from the next.
        let latest = group.latest();
        let occasion = match occasion {
            "ended" => format!("ended-{}", latest.capture.container.id),
            other => other.to_owned(),
        };
        let system = &self.node.settings.system_namespace;
        let object = target.as_ref().zip(name.as_deref()).filter(|_| external).map(|(target, name)| {
            let namespace = target.namespace.as_deref().unwrap_or(&group.namespace);
            ObjectTarget { namespace, name }
        });
        let request = RunRequest {
            trace_namespace: &self.trace.namespace,
            trace_name: &self.trace.name,
            trace_uid: &self.trace.uid,
            node: self.node.name(),
            namespace: &group.namespace,
            pod: &group.pod,
            container: group.container.as_deref(),
            owner: latest.owner.as_ref(),
            target: object,
            occasion: &occasion,
            confined_to: (self.trace.namespace != *system).then_some(self.trace.namespace.as_str()),
        };
        // The default formatter of documents makes no objects; objects have a default of their own.
        let formatter = parameters.formatter.as_deref().filter(|name| !external || *name != "oci");
        let run = Run {
            trace: &self.trace.to_string(),
            gadget: &trace.spec.gadget,
            formatter,
            parameters: &parameters.rest,
            capture: group.capture(),
            reason,
            request,
        };
        let RunOutcome { output, calls: made, objection } = self.runner.run(run).await;
        for call in &made {
            self.node.settings.observer.called(&trace.spec.gadget, call);
        }
        *calls = made;
        let document = match output? {
            RunOutput::Object(WrittenObject { resource, localhost_profile }) => {
                return Ok(Output {
                    resource: Some(resource),
                    localhost_profile,
                    objection,
                    ..Output::default()
                });
            }
            RunOutput::Document(_) if external => {
                return Err(RunError::Failed("it made a document, and no object".into()));
            }
            RunOutput::Document(document) => document,
        };
        let Some(name) = name else {
            return Ok(Output { output: Some(document.body), objection, ..Output::default() });
        };
        let name = format!("{name}{}", extension(&document.media_type));
        match self.files.write(&self.trace.namespace, &name, &document.body).await {
            Ok(path) => Ok(Output { localhost_profile: Some(path), objection, ..Output::default() }),
            Err(NodeError::Refused(text)) => Err(refused(text)),
            Err(NodeError::Unavailable(text)) => Err(RunError::Unavailable(text)),
        }
    }
}

/// Lists the calls of a gadget in an entry, as many as there is room for, and warns if some were denied.
fn note_calls(entry: &mut Output, calls: Vec<Call>) {
    let denied = calls.iter().filter(|call| !call.allowed).count();
    if let Some(first) = calls.iter().find(|call| !call.allowed) {
        let others = if denied > 1 { format!(", and {} more", denied - 1) } else { String::new() };
        let text = format!("the gadget went without a call: {}{others}", first.result);
        entry.warning = Some(entry.warning.take().map_or(text.clone(), |known| format!("{known}; {text}")));
    }
    let room = CALLS_PER_DOCUMENT_MAX.saturating_sub(denied);
    let mut allowed = 0;
    let (mut kept, mut more) = (Vec::new(), 0);
    for call in calls {
        allowed += usize::from(call.allowed);
        if kept.len() == CALLS_PER_DOCUMENT_MAX || call.allowed && allowed > room {
            more += 1;
        } else {
            kept.push(call);
        }
    }
    (entry.calls, entry.more_calls) = (kept, more);
}

/// An error, cut to [`ERROR_CHARS_MAX`].
fn shortened(text: &str) -> String {
    match text.char_indices().nth(ERROR_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_that_were_denied_come_first() {
        let call = |number: usize, allowed| Call {
            call: format!("get things a/{number}"),
            allowed,
            result: if allowed { "ok".into() } else { format!("denied: get things a/{number}: no") },
            ..Call::default()
        };
        let mut entry = Output { warning: Some("incomplete".into()), ..Output::default() };
        note_calls(&mut entry, (0..20).map(|n| call(n, n != 5 && n < 18)).collect());
        assert_eq!((entry.calls.len(), entry.more_calls), (16, 4));
        assert_eq!(entry.calls.iter().filter(|c| !c.allowed).count(), 3);
        let want = "incomplete; the gadget went without a call: denied: get things a/5: no, and 2 more";
        assert_eq!(entry.warning.as_deref(), Some(want));
        let mut entry = Output::default();
        note_calls(&mut entry, (0..100).map(|n| call(n, false)).collect());
        assert_eq!((entry.calls.len(), entry.more_calls), (16, 84));
        let mut entry = Output::default();
        note_calls(&mut entry, vec![call(0, true)]);
        assert_eq!((entry.calls.len(), entry.more_calls, entry.warning), (1, 0, None));
    }

    #[test]
    fn one_error_takes_bounded_room() {
        assert_eq!(shortened("nö"), "nö");
        let long = shortened(&"ö".repeat(ERROR_CHARS_MAX + 1));
        assert_eq!((long.chars().count(), long.ends_with("ö…")), (ERROR_CHARS_MAX + 1, true));
    }
}
