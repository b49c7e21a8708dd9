//! Carries out operations, and ends recordings whose time is over.

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};

use super::{
    LocalNode, StepError, TraceRef,
    documents::{Documents, Scope},
    object::{TraceObject, Update},
    recorder::TraceRecorder,
    refused,
};
use crate::{
    NodeStatus, State, Trace,
    controller::node::{FileSink, NodeError, Reason, Recorder, Runner},
    machine::{self, Accepted, Parameters, Refusal, Task},
};

/// The operations on one Trace.
pub(super) struct Operations<'a, R, U, F> {
    pub(super) node: LocalNode<'a>,
    pub(super) trace: &'a TraceRef,
    pub(super) object: &'a TraceObject<'a>,
    pub(super) recorder: &'a TraceRecorder<'a, R>,
    pub(super) documents: &'a Documents<'a, R, U, F>,
}

impl<R: Recorder, U: Runner, F: FileSink> Operations<'_, R, U, F> {
    /// Carries an operation out, or writes why it is refused.
    pub(super) async fn perform(
        &self,
        trace: &Trace,
        accepted: &Accepted,
        verdict: Result<Task, Refusal>,
    ) -> Result<Update, StepError> {
        let before = self.object.node_status(trace);
        let entry = NodeStatus {
            operation: accepted.id,
            operation_error: None,
            operation_warning: None,
            ..before.clone()
        };
        let refused_here = verdict.is_err();
        let next = match verdict {
            Err(refusal) => {
                tracing::info!(trace = self.trace.to_string(), id = accepted.id, %refusal, "refused an operation");
                self.object.write_entry(trace, &refused(entry, &refusal)).await
            }
            Ok(Task::AlreadyDone) => {
                let operation_warning = before.operation_warning;
                self.object.write_entry(trace, &NodeStatus { operation_warning, ..entry }).await
            }
            Ok(Task::Start { session, generate }) => {
                self.start(trace, accepted, entry, session, generate).await
            }
            Ok(Task::Generate { session }) => {
                self.finish(trace, accepted, entry, Some(session), State::Started).await
            }
            Ok(Task::Stop { session }) => self.finish(trace, accepted, entry, session, State::Stopped).await,
        };
        if let Ok(Update::Applied(after)) = &next
            && let Some(entry) =
                machine::node_status(after, self.node.name()).filter(|e| e.operation >= accepted.id)
        {
            let refused = refused_here || entry.operation_error.is_some();
            self.node.settings.observer.performed(&accepted.operation, refused);
        }
        next
    }

    /// Begins to record.
    async fn start(
        &self,
        trace: &Trace,
        accepted: &Accepted,
        entry: NodeStatus,
        number: u64,
        generate: bool,
    ) -> Result<Update, StepError> {
        let selection = self.recorder.selection(trace.spec.filter.as_ref());
        let parameters = Parameters::read(trace, Some(accepted));
        let (selection, parameters) = match (selection, parameters) {
            (Ok(selection), Ok(parameters)) => (selection, parameters),
            (Err(refusal), _) | (_, Err(refusal)) => {
                return self.object.write_entry(trace, &refused(entry, &refusal)).await;
            }
        };
        let found = self.recorder.find(&selection).await?;
        let node = (!trace.spec.node.is_empty()).then(|| self.node.name());
        let warning = match machine::check_found(&selection, &found, node) {
            Ok(warning) => warning,
            Err(refusal) => return self.object.write_entry(trace, &refused(entry, &refusal)).await,
        };
        // The finalizer comes first, so that the recording is released in any case; the next step starts it.
        if !self.object.has_finalizer(trace) {
            return self.object.add_finalizer(trace).await;
        }
        self.recorder.stop(Some(number)).await?;
        match self.recorder.start(number, &selection).await {
            Ok(()) => {}
            Err(NodeError::Refused(text)) => {
                let entry = NodeStatus { operation_error: Some(text), state: None, session: None, ..entry };
                return self.object.write_entry(trace, &entry).await;
            }
            Err(error) => return Err(error.into()),
        }
        tracing::info!(trace = self.trace.to_string(), %selection, "records");
        let entry = NodeStatus {
            session: Some(number),
            state: Some(State::Started),
            started: Some(Time(Timestamp::now())),
            timeout_seconds: parameters.timeout.map(|t| t.as_secs()),
            filter: trace.spec.filter.clone(),
            operation_warning: warning,
            progress: None,
            ..entry
        };
        if generate {
            // Nothing can have been recorded yet: a start, with a warning.
            let warning = "This node began to record only now, and has no documents yet".to_owned();
            let operation_warning = Some(entry.operation_warning.clone().unwrap_or(warning));
            return self.object.write(&NodeStatus { operation_warning, ..entry }, &[]).await;
        }
        let progress = self.recorder.status_progress(&entry, number).await?;
        self.object.write(&NodeStatus { progress: Some(progress), ..entry }, &[]).await
    }

    /// Generates documents of everything, then sets the state: `Started` after a generate, `Stopped` after a stop.
    async fn finish(
        &self,
        trace: &Trace,
        accepted: &Accepted,
        entry: NodeStatus,
        session: Option<u64>,
        state: State,
    ) -> Result<Update, StepError> {
        let Some(number) = session else {
            let entry = NodeStatus { state: entry.state.clone().map(|_| state), ..entry };
            return self.object.write_entry(trace, &entry).await;
        };
        let parameters = match Parameters::read(trace, Some(accepted)) {
            Ok(parameters) => parameters,
            // Only a stop gets here with invalid parameters: it stops without documents, and says why.
            Err(refusal) => {
                let entry = NodeStatus { state: Some(state), ..refused(entry, &refusal) };
                return self.object.write_entry(trace, &entry).await;
            }
        };
        self.recorder.ensure_recording(trace, &entry, number).await?;
        let occasion = format!("operation-{}", accepted.id);
        self.conclude(trace, entry, number, &parameters, &occasion, state).await
    }

    /// Ends a recording at its timeout.
    pub(super) async fn expire(&self, trace: &Trace, number: u64) -> Result<Update, StepError> {
        let entry = self.object.node_status(trace);
        self.recorder.ensure_recording(trace, &entry, number).await?;
        match Parameters::read(trace, None) {
            Ok(parameters) => {
                let occasion = format!("timeout-{number}");
                self.conclude(trace, entry, number, &parameters, &occasion, State::Completed).await
            }
            Err(refusal) => {
                let entry = NodeStatus { state: Some(State::Completed), ..refused(entry, &refusal) };
                self.object.write_entry(trace, &entry).await
            }
        }
    }

    /// Generates documents of everything that a session recorded, and sets its state.
    async fn conclude(
        &self,
        trace: &Trace,
        entry: NodeStatus,
        number: u64,
        parameters: &Parameters,
        occasion: &str,
        state: State,
    ) -> Result<Update, StepError> {
        let generated = self
            .documents
            .generate(trace, number, parameters, Reason::OnDemand, Scope::All, occasion)
            .await?;
        let mut entry = self.documents.status_with(entry, number, &generated).await?;
        if generated.groups == 0 {
            entry.operation_warning = Some(self.nothing_recorded(trace, &entry, &state));
        }
        entry.state = Some(state);
        tracing::info!(trace = self.trace.to_string(), documents = generated.groups, state = ?entry.state, "made documents");
        self.object.write(&entry, &generated.outputs).await
    }

    /// The warning where nothing was recorded.
    fn nothing_recorded(&self, trace: &Trace, entry: &NodeStatus, state: &State) -> String {
        let node =
            if trace.spec.node.is_empty() { String::new() } else { format!(" on node {}", self.node.name()) };
        let what = self
            .recorder
            .selection(entry.filter.as_ref())
            .map_or_else(|_| "What was asked for".to_owned(), |s| s.to_string());
        let now =
            if *state == State::Started { "nothing has been recorded yet" } else { "nothing was recorded" };
        format!("{what} not found{node}: {now}")
    }
}
