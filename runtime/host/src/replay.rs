//! Recording a run, and running modules again on what a recording holds.

use std::collections::VecDeque;

use gadgetd_core::kube::KubeError;

use crate::{
    Host,
    kube::Session,
    module::{CONTRACT, Description, Digest, Formatter, Gadget},
    params::{ParamError, Params},
    recording::{
        Failure, Identity, KubeAnswer, KubeExchange, KubeRequest, Line, Outcome, Recording, RecordingError,
        role,
    },
    run::{Report, Run, RunError},
};

/// How closely a call to the cluster must be the recorded one to get its answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Matching {
    /// In all its arguments.
    #[default]
    Exact,
    /// In what it does to which object; what it writes may have changed. For making the expectations of a recording anew.
    SameObject,
}

/// A run that was recorded, and what came of it.
#[derive(Debug)]
pub struct Recorded {
    /// The recording. There is none of a run that made an absurd number of calls to the cluster.
    pub recording: Result<Recording, RecordingError>,
    /// What the run gave.
    pub result: Result<Report, RunError>,
    /// In a replay, how many calls to the cluster got no answer, because the recording has none to them.
    pub unanswered: u64,
}

impl Host {
    /// Runs a gadget as [`Host::run`] does, and records the run, also one that fails.
    pub async fn record(&self, run: Run<'_>) -> Recorded {
        let session = Session::new(&run.gadget.description().capabilities, run.cluster.clone());
        self.recorded(run, session).await
    }

    /// Runs a gadget and a formatter on what a recording holds, and records that.
    ///
    /// Calls to the cluster are answered from the recording, in the order in which they stand there; one that is not the
    /// next is answered as `unavailable`, with a text that says so. As on every cluster, what the gadget does not ask
    /// for in its description is denied. The same modules give the same documents, byte for byte.
    pub async fn replay(
        &self,
        recording: &Recording,
        gadget: &Gadget,
        formatter: &Formatter,
        matching: Matching,
    ) -> Result<Recorded, ParamError> {
        let run = Run {
            gadget,
            formatter,
            params: Params::resolve(gadget, formatter, &recording.params)?,
            captures: recording.captures.clone(),
            reason: recording.reason,
            target: recording.target.clone(),
            cluster: None,
        };
        let script = Script { left: recording.kube.clone().into(), matching, unanswered: 0 };
        let session = Session::scripted(&gadget.description().capabilities, script);
        Ok(self.recorded(run, session).await)
    }

    async fn recorded(&self, run: Run<'_>, session: Session) -> Recorded {
        let (gadget, formatter) = (run.gadget, run.formatter);
        let mut recording = Recording::of(run.captures.clone());
        recording.contract = Some(CONTRACT.to_string());
        recording.gadget = Some(identity(gadget.label(), gadget.description(), gadget.digest()));
        recording.formatter = Some(identity(formatter.label(), formatter.description(), formatter.digest()));
        recording.params = run.params.given.to_vec();
        recording.reason = run.reason;
        recording.target.clone_from(&run.target);
        let (result, session) = self.execute(run, session.keeping()).await;
        let (kube, unanswered) = session.into_exchanges();
        let recording = kube.ok_or(RecordingError::Overflow).map(|kube| {
            recording.kube = kube;
            recording.result = Some(outcome(&result));
            recording
        });
        Recorded { recording, result, unanswered }
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

/// The cluster of a replay.
pub(crate) struct Script {
    left: VecDeque<KubeExchange>,
    matching: Matching,
    pub(crate) unanswered: u64,
}

impl Script {
    /// The answer to a call, of which the host would say this.
    pub(crate) fn answer(
        &mut self,
        call: &KubeRequest,
        verdict: Result<(), KubeError>,
    ) -> Result<KubeAnswer, KubeError> {
        let is_next = |next: &mut KubeExchange| match self.matching {
            Matching::Exact => next.call == *call,
            Matching::SameObject => next.call.call() == call.call(),
        };
        let Some(KubeExchange { answer, .. }) = self.left.pop_front_if(is_next) else {
            // What the host refuses needs no answer from elsewhere.
            verdict?;
            self.unanswered += 1;
            let next = match self.left.front() {
                Some(KubeExchange { call: next, .. }) if next.call() == call.call() => {
                    "the next one there differs in its arguments".to_owned()
                }
                Some(KubeExchange { call: next, .. }) => format!("the next one there is to {next}"),
                None => "there is none left".to_owned(),
            };
            return Err(KubeError::Unavailable(format!("the recording has no answer to this call: {next}")));
        };
        match answer {
            Some(KubeAnswer::Error(error)) => Err(error),
            Some(answer) => verdict.map(|()| answer),
            None => Err(KubeError::Deadline("the recorded run ended before an answer came".into())),
        }
    }
}
