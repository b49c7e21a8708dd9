//! Recording a run, and running modules again on what a recording holds.

use super::format::{Failure, Identity, Line, Outcome, Recording, RecordingError, role};
use crate::{
    bindings::CONTRACT,
    cluster::{
        script::{Matching, Script},
        session::Session,
    },
    contract::module::Description,
    host::Host,
    modules::{
        digest::Digest,
        loaded::{Formatter, Gadget},
    },
    run::{
        Report, Run, RunError,
        params::{ParamError, Params},
    },
};

/// A run that was recorded, and its result.
#[derive(Debug)]
pub struct RecordedRun {
    /// The recording. There is none of a run that made an absurd number of calls to the cluster.
    pub recording: Result<Recording, RecordingError>,
    /// The result of the run.
    pub result: Result<Report, RunError>,
    /// In a replay, how many calls to the cluster got no answer, because the recording has none to them.
    pub unanswered: u64,
}

impl Host {
    /// Runs a gadget as [`Host::run`] does, and records the run, also one that fails.
    pub async fn record(&self, run: Run<'_>) -> RecordedRun {
        let session = Session::new(run.gadget.0.caller(), run.cluster.clone());
        self.recorded(run, session).await
    }

    /// Runs a gadget and a formatter on the inputs of a recording, and records that.
    ///
    /// Calls to the cluster are answered from the recording, in the order in which they stand there; a call that is
    /// not the next one is answered as `unavailable`, with a text that says so. As on every cluster, a
    /// call that the gadget's description does not ask for is denied. The same modules give the same documents, byte for byte.
    pub async fn replay(
        &self,
        recording: &Recording,
        gadget: &Gadget,
        formatter: &Formatter,
        matching: Matching,
    ) -> Result<RecordedRun, ParamError> {
        let run = Run {
            gadget,
            formatter,
            params: Params::resolve(gadget, formatter, &recording.params)?,
            captures: recording.captures.clone(),
            reason: recording.reason,
            target: recording.target.clone(),
            cluster: None,
        };
        let script = Script::new(recording.kube.clone(), matching);
        let session = Session::scripted(gadget.0.caller(), script);
        Ok(self.recorded(run, session).await)
    }

    async fn recorded(&self, run: Run<'_>, session: Session) -> RecordedRun {
        let (gadget, formatter) = (run.gadget, run.formatter);
        let mut recording = Recording::of(run.captures.clone());
        recording.contract = Some(CONTRACT.to_string());
        recording.gadget = Some(identity(gadget.label(), gadget.description(), gadget.digest()));
        recording.formatter = Some(identity(formatter.label(), formatter.description(), formatter.digest()));
        recording.params = run.params.given.to_vec();
        recording.reason = run.reason;
        recording.target.clone_from(&run.target);
        let (result, session) = self.execute(run, session.recording()).await;
        let (kube, unanswered) = session.into_exchanges();
        let recording = kube.ok_or(RecordingError::Overflow).map(|kube| {
            recording.kube = kube;
            recording.result = Some(outcome(&result));
            recording
        });
        RecordedRun { recording, result, unanswered }
    }
}

fn identity(label: &str, description: &Description, digest: Digest) -> Identity {
    let module = label.split_once(' ').map_or(label, |(_, module)| module);
    Identity {
        module: module.to_owned(),
        name: Some(description.name.clone()),
        version: Some(description.version.to_string()),
        digest: Some(digest.to_string()),
    }
}

fn outcome(result: &Result<Report, RunError>) -> Outcome {
    let (report, fault) = match result {
        Ok(report) => (report, None),
        Err(RunError { fault, report }) => {
            let failure = Failure {
                module: role(&fault.module),
                kind: fault.fault.kind().to_owned(),
                message: fault.fault.to_string(),
            };
            (&**report, Some(failure))
        }
    };
    Outcome {
        fault,
        documents: report.documents.clone(),
        objects: report.objects.clone(),
        verdicts: report.verdicts.clone(),
        log: report.log.iter().map(Line::from).collect(),
    }
}
