//! The recorder of this node, for one Trace.

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::{SignedDuration, Timestamp},
};

use super::{StepError, TraceRef};
use crate::{
    NodeStatus, Progress, Trace, TraceFilter,
    controller::node::{NodeError, Recorder, RecordingProgress, Session},
    documents::Recording,
    machine::{self, FoundPod, Refusal, Selection},
};

/// Minimum advance of "last new call" that is worth a status write.
const LAST_NEW_STEP: SignedDuration = SignedDuration::from_secs(2);

/// Records for one Trace.
pub(super) struct TraceRecorder<'a, R> {
    pub(super) recorder: &'a R,
    pub(super) trace: &'a TraceRef,
    /// The namespace whose Traces may select any pod.
    pub(super) system_namespace: &'a str,
}

impl<R: Recorder> TraceRecorder<'_, R> {
    fn session(&self, number: u64) -> Session {
        Session { trace: self.trace.uid.clone(), number }
    }

    /// The containers that a filter selects, with the namespace rules applied.
    pub(super) fn selection(&self, filter: Option<&TraceFilter>) -> Result<Selection, Refusal> {
        machine::selection(filter, &self.trace.namespace, self.system_namespace)
    }

    pub(super) async fn find(&self, selection: &Selection) -> Result<Vec<FoundPod>, NodeError> {
        self.recorder.find(selection).await
    }

    pub(super) async fn start(&self, number: u64, selection: &Selection) -> Result<(), NodeError> {
        self.recorder.start(&self.session(number), selection).await
    }

    /// Ends every session of this Trace but one.
    pub(super) async fn stop(&self, keep: Option<u64>) -> Result<(), NodeError> {
        self.recorder.stop(&self.trace.uid, keep).await
    }

    pub(super) async fn recordings(&self, number: u64) -> Result<Vec<Recording>, NodeError> {
        self.recorder.recordings(&self.session(number)).await
    }

    pub(super) async fn release(&self, number: u64, container: &str) -> Result<(), NodeError> {
        self.recorder.release(&self.session(number), container).await
    }

    /// Makes sure that a session is being recorded, also after this process was restarted.
    pub(super) async fn ensure_recording(
        &self,
        trace: &Trace,
        entry: &NodeStatus,
        number: u64,
    ) -> Result<(), StepError> {
        // The rules apply again: the status does not decide whose pods a Trace may select.
        let selection = self.selection(entry.filter.as_ref())?;
        if trace.metadata.deletion_timestamp.is_none() {
            self.start(number, &selection).await?;
        }
        Ok(())
    }

    pub(super) async fn progress(&self, number: u64) -> Result<RecordingProgress, NodeError> {
        self.recorder.progress(&self.session(number)).await
    }

    /// The progress of a session, for the status.
    pub(super) async fn status_progress(
        &self,
        entry: &NodeStatus,
        number: u64,
    ) -> Result<Progress, NodeError> {
        Ok(status_progress(entry, &self.progress(number).await?))
    }
}

/// The progress that a status shows. Times that differ by rounding alone do not change it.
pub(super) fn status_progress(entry: &NodeStatus, found: &RecordingProgress) -> Progress {
    let before = entry.progress.clone().unwrap_or_default();
    let since = found.since_new.and_then(|d| SignedDuration::try_from(d).ok());
    let last_new = since.and_then(|since| Timestamp::now().checked_sub(since).ok());
    let last_new = match (last_new, &before.last_new) {
        (Some(now), Some(before)) if now.duration_since(before.0).abs() < LAST_NEW_STEP => {
            Some(before.clone())
        }
        (Some(now), _) => Timestamp::from_second(now.as_second()).ok().map(Time),
        (None, before) => before.clone(),
    };
    Progress { containers: found.containers, syscalls: found.syscalls, last_new, dropped: before.dropped }
}
