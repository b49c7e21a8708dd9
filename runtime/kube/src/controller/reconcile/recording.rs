//! Polls an active recording: writes its progress, and documents of containers that ended.

use std::time::Duration;

use super::{
    LocalNode, StepError, TraceRef,
    documents::{Documents, Scope},
    object::{TraceObject, Update},
    recorder::{TraceRecorder, status_progress},
};
use crate::{
    NodeStatus, Output, Trace,
    controller::{
        node::{FileSink, Reason, Recorder, Runner},
        schedule::Schedule,
    },
    documents::per_container,
    machine::{self, Merge, Parameters},
};

/// When to retry a recording that this node cannot continue.
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// Average interval between polls, over all recordings. kube's queue has no order: with more polls than it can serve, a Trace
/// could wait forever, along with the user who has just asked for its document.
const POLL_SPACING: Duration = Duration::from_millis(20);

/// The result of a poll.
pub(super) enum Poll {
    /// The status was out of date, and was written.
    Updated(Update),
    /// The status is up to date; poll again after `pause`.
    Unchanged { pause: Duration },
}

/// The active recording of one Trace.
pub(super) struct ActiveRecording<'a, R, U, F> {
    pub(super) node: LocalNode<'a>,
    pub(super) trace: &'a TraceRef,
    pub(super) schedule: &'a Schedule,
    pub(super) object: &'a TraceObject<'a>,
    pub(super) recorder: &'a TraceRecorder<'a, R>,
    pub(super) documents: &'a Documents<'a, R, U, F>,
}

impl<R: Recorder, U: Runner, F: FileSink> ActiveRecording<'_, R, U, F> {
    /// Whether there is anything that the status does not have yet.
    pub(super) async fn has_changes(&self, trace: &Trace, number: u64) -> Result<bool, StepError> {
        let entry = self.object.node_status(trace);
        if !self.object.has_finalizer(trace) {
            return Ok(true);
        }
        if let Err(error) = self.recorder.ensure_recording(trace, &entry, number).await {
            tracing::warn!(trace = self.trace.to_string(), %error, "cannot go on recording");
            return Ok(true);
        }
        let found = self.recorder.progress(number).await?;
        let outputs = self.object.outputs(trace);
        let due = found.ended.iter().any(|id| !has_document(&outputs, id));
        let releasable = releases_ended(trace) && !found.ended.is_empty();
        Ok(due || releasable || entry.progress != Some(status_progress(&entry, &found)))
    }

    /// Brings the status up to date, with documents of containers that have ended.
    pub(super) async fn poll(&self, trace: &Trace, number: u64) -> Result<Poll, StepError> {
        if !self.object.has_finalizer(trace) {
            return Ok(Poll::Updated(self.object.add_finalizer(trace).await?));
        }
        let before = self.object.node_status(trace);
        if let Err(error) = self.recorder.ensure_recording(trace, &before, number).await {
            let operation_error = Some(format!("Cannot go on recording: {error}"));
            let entry = NodeStatus { operation_error, ..before.clone() };
            if entry == before {
                return Ok(Poll::Unchanged { pause: RETRY_AFTER });
            }
            return Ok(Poll::Updated(self.object.write_entry(trace, &entry).await?));
        }
        let found = self.recorder.progress(number).await?;
        let mut outputs = self.object.outputs(trace);
        if releases_ended(trace) {
            for id in found.ended.iter().filter(|id| has_document(&outputs, id)) {
                self.recorder.release(number, id).await?;
            }
        }
        let due = found.ended.iter().any(|id| !has_document(&outputs, id));
        let mut entry = before.clone();
        entry.progress = Some(status_progress(&entry, &found));
        if found.containers > 0 && before.progress.as_ref().is_none_or(|p| p.containers == 0) {
            // The warning said that nothing had been found to record.
            entry.operation_warning = None;
        }
        if due {
            match Parameters::read(trace, None) {
                Ok(parameters) => {
                    let generated = self
                        .documents
                        .generate(trace, number, &parameters, Reason::ContainerEnded, Scope::Due, "ended")
                        .await?;
                    entry = self.documents.status_with(entry, number, &generated).await?;
                    outputs = generated.outputs;
                }
                Err(refusal) => entry.operation_error = Some(refusal.to_string()),
            }
        }
        if entry == before && outputs == self.object.outputs(trace) {
            return Ok(Poll::Unchanged { pause: self.poll_interval(trace) });
        }
        Ok(Poll::Updated(self.object.write(&entry, &outputs).await?))
    }

    /// How long until the next poll.
    pub(super) fn poll_interval(&self, trace: &Trace) -> Duration {
        let progress = self.node.settings.poll_interval.max(POLL_SPACING * self.schedule.active());
        machine::time_left(trace, &self.node.view()).map_or(progress, |rest| rest.min(progress))
    }
}

/// Whether an ended container is released once its document is written: documents of a stream are final.
fn releases_ended(trace: &Trace) -> bool {
    let merge = Parameters::read(trace, None).map_or(Merge::Container, |p| p.merge);
    per_container(merge, &trace.spec.output_mode)
}

/// Whether there is a document that covers the end of a container.
fn has_document(outputs: &[Output], id: &str) -> bool {
    outputs.iter().any(|o| o.ended.iter().any(|ended| ended == id))
}
