use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{Deserialize, Serialize};

use crate::{Abi, Container, Machine, Phases, RefusedCall, Syscall};

/// What one container was seen to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Capture {
    /// Who.
    pub container: Container,
    /// The machine whose tables name the calls.
    pub machine: Machine,
    /// The calls, each once, ordered by ABI and number.
    pub syscalls: Vec<Syscall>,
    /// Calls that a seccomp filter kept from running, each once with each answer, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<RefusedCall>,
    /// What may be missing from them.
    pub completeness: Completeness,
}

impl Capture {
    /// One capture of what several containers did together: the restarts of one container, or the
    /// containers of one pod. `None` for no captures.
    ///
    /// A call that any of them made is in it, with all phases in which it was made. What any of them lost, it lost.
    pub fn union(container: Container, captures: &[&Self]) -> Option<Self> {
        let machine = captures.first()?.machine;
        let mut calls: BTreeMap<(Abi, u32), Phases> = BTreeMap::new();
        for call in captures.iter().flat_map(|c| &c.syscalls) {
            let phases = calls.entry((call.abi, call.number)).or_default();
            phases.runtime |= call.phases.runtime;
            phases.application |= call.phases.application;
        }
        let syscalls = calls.into_iter().map(|((abi, number), phases)| Syscall { abi, number, phases });
        let refused: BTreeSet<_> = captures.iter().flat_map(|c| &c.refused).copied().collect();
        let mut losses: Vec<Loss> = Vec::new();
        for loss in captures.iter().flat_map(|c| &c.completeness.losses) {
            match losses.iter_mut().find_map(|known| Some((known.with(*loss)?, known))) {
                Some((both, known)) => *known = both,
                None => losses.push(*loss),
            }
        }
        let from_start = captures.iter().all(|c| c.completeness.from_start);
        let completeness = Completeness { losses, from_start };
        let (syscalls, refused) = (syscalls.collect(), refused.into_iter().collect());
        Some(Self { container, machine, syscalls, refused, completeness })
    }
}

/// What a recording lost, and how it began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Completeness {
    /// Every kind of loss that happened; empty when nothing was lost.
    pub losses: Vec<Loss>,
    /// Whether the recording was on before the container's first process. If not, the calls that
    /// it made to start are missing: normal for a container that already ran, and no loss.
    pub from_start: bool,
}

impl Completeness {
    /// Whether nothing was lost.
    pub fn is_complete(&self) -> bool {
        self.losses.is_empty()
    }
}

/// One way in which calls can be missing from a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "count")]
pub enum Loss {
    /// Calls with a number that is beyond every table the kernel side keeps.
    UnknownNumbers(u64),
    /// Calls by the OCI runtime in another ABI than the machine's own, which no filter set is kept for.
    ForeignRuntimeCalls(u64),
    /// New cgroups for which no slot was free: whole containers may be missing.
    SlotsExhausted(u64),
    /// Cgroups made inside the container that could not be tied to it.
    ChildCgroups(u64),
    /// Processes whose phase could not be kept: their calls all count as the application's.
    Phases(u64),
    /// Events that the kernel did not hand to the program.
    MissedEvents(u64),
    /// Calls of `seccomp` that the kernel refused only because the recorder uses seccomp itself: what the program
    /// would have done otherwise is missing.
    SeccompRefused(u64),
    /// Tasks under a seccomp filter that could not be watched: which of their calls the filter refused is not known.
    Refusals(u64),
    /// Processes of the container or command that moved to a cgroup outside, or began in one: what they did there is missing.
    Departures(u64),
    /// Processes that came into the container while they ran, and may be its application or an OCI runtime that prepares it. Their calls
    /// count as the application's; those that they made before are missing.
    Undecided(u64),
}

impl Loss {
    /// Two losses of one kind as one; `None` if they are of different kinds.
    fn with(self, other: Self) -> Option<Self> {
        Some(match (self, other) {
            (Self::UnknownNumbers(a), Self::UnknownNumbers(b)) => Self::UnknownNumbers(a + b),
            (Self::ForeignRuntimeCalls(a), Self::ForeignRuntimeCalls(b)) => Self::ForeignRuntimeCalls(a + b),
            (Self::ChildCgroups(a), Self::ChildCgroups(b)) => Self::ChildCgroups(a + b),
            (Self::Phases(a), Self::Phases(b)) => Self::Phases(a + b),
            (Self::SeccompRefused(a), Self::SeccompRefused(b)) => Self::SeccompRefused(a + b),
            (Self::Refusals(a), Self::Refusals(b)) => Self::Refusals(a + b),
            (Self::Departures(a), Self::Departures(b)) => Self::Departures(a + b),
            (Self::Undecided(a), Self::Undecided(b)) => Self::Undecided(a + b),
            // Counted for the whole machine: both captures tell of the same events.
            (Self::SlotsExhausted(a), Self::SlotsExhausted(b)) => Self::SlotsExhausted(a.max(b)),
            (Self::MissedEvents(a), Self::MissedEvents(b)) => Self::MissedEvents(a.max(b)),
            _ => return None,
        })
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownNumbers(n) => write!(f, "{n} calls with a number that no table has"),
            Self::ForeignRuntimeCalls(n) => write!(f, "{n} calls of the OCI runtime in a foreign ABI"),
            Self::SlotsExhausted(n) => write!(f, "{n} new cgroups for which no slot was free"),
            Self::ChildCgroups(n) => {
                write!(f, "{n} cgroups made inside the container that could not be followed")
            }
            Self::Phases(n) => write!(f, "{n} processes whose phase could not be kept"),
            Self::MissedEvents(n) => write!(f, "{n} events that the kernel did not deliver"),
            Self::Refusals(n) => {
                write!(f, "{n} calls of tasks under a seccomp filter, which may have been refused")
            }
            Self::Departures(n) => {
                write!(f, "{n} processes that left the recorded cgroup: what they did elsewhere is missing")
            }
            Self::Undecided(n) => write!(
                f,
                "{n} processes that came into the recorded cgroup while they ran: what they did before is missing, and if they are \
                 an OCI runtime's, the result has too many calls"
            ),
            Self::SeccompRefused(n) => write!(
                f,
                "{n} requests for a seccomp listener or seccomp's strict mode, which the kernel refused because of the recorder"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Refusal;

    fn capture(calls: &[(u32, Phases)], losses: &[Loss], from_start: bool) -> Capture {
        let call = |&(number, phases)| Syscall { abi: Abi::Native, number, phases };
        Capture {
            container: Container::default(),
            machine: Machine::X86_64,
            syscalls: calls.iter().map(call).collect(),
            refused: Vec::new(),
            completeness: Completeness { losses: losses.to_vec(), from_start },
        }
    }

    #[test]
    fn a_union_has_every_call_once_and_every_loss() {
        let slots = Loss::SlotsExhausted(3);
        let one = capture(&[(1, Phases::RUNTIME), (5, Phases::APPLICATION)], &[Loss::Phases(1), slots], true);
        let two =
            capture(&[(0, Phases::RUNTIME), (1, Phases::APPLICATION)], &[slots, Loss::Phases(2)], false);
        let refused = |number, answer| RefusedCall { abi: Abi::Native, number, answer };
        let (a, b) = (refused(1, Refusal::MISSING), refused(7, Refusal::Signal));
        let one = Capture { refused: vec![b], ..one };
        let two = Capture { refused: vec![a, b], ..two };
        let pod = Container { id: "pod".into(), ..Container::default() };
        let union = Capture::union(pod.clone(), &[&one, &two]).unwrap();
        let want = [(0, Phases::RUNTIME), (1, Phases::BOTH), (5, Phases::APPLICATION)];
        let all = Capture { refused: vec![a, b], ..union.clone() };
        assert_eq!(union, all);
        let union = Capture { refused: Vec::new(), ..union };
        assert_eq!(union, Capture { container: pod, ..capture(&want, &[Loss::Phases(3), slots], false) });
        assert_eq!(Capture::union(Container::default(), &[]), None);
    }
}
