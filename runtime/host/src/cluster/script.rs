//! The cluster of a replay: answers from a recording.

use std::collections::VecDeque;

use gadgetd_core::kube::KubeError;

use super::exchange::{KubeAnswer, KubeExchange, KubeRequest};

/// How closely a call to the cluster must be the recorded one to get its answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Matching {
    /// In all its arguments.
    #[default]
    Exact,
    /// In what it does to which object; what it writes may have changed. For making the expectations of a recording anew.
    SameObject,
}

/// The recorded calls that are still to come.
pub(crate) struct Script {
    left: VecDeque<KubeExchange>,
    matching: Matching,
    /// How many calls the recording had no answer to.
    pub(crate) unanswered: u64,
}

impl Script {
    pub(crate) fn new(exchanges: Vec<KubeExchange>, matching: Matching) -> Self {
        Self { left: exchanges.into(), matching, unanswered: 0 }
    }

    /// The answer to a call, given the host's own verdict about it.
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
            // A call that the host refuses needs no recorded answer.
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
