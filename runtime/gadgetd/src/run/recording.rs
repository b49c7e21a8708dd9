//! What all recordings have in common.

use std::{collections::BTreeMap, future::Future, time::Duration};

use anyhow::{Context, Result};
use gadgetd_containers::{Hierarchy, State, Watch};
use gadgetd_core::{
    Abi, Capture, CgroupId, Completeness, Container, Loss, Machine, Phases, Recorded, Syscall, SyscallSource,
};
use tokio::io::{Interest, unix::AsyncFd};

use super::live;
use crate::signals::Signals;

/// What a recording works with.
pub(super) struct Recorder<S> {
    pub source: S,
    pub hierarchy: Hierarchy,
    pub signals: Signals,
    /// When the recording ends by itself.
    pub timeout: Option<Duration>,
}

impl<S: SyscallSource> Recorder<S> {
    /// What the slots of these cgroups hold, together: they are one container's.
    pub(super) fn read(&self, cgroups: &[CgroupId]) -> Result<Recorded> {
        read(&self.source, cgroups)
    }

    /// The finished recording of a container.
    pub(super) fn capture(&self, container: Container, cgroups: &[CgroupId]) -> Result<Capture> {
        let Recorded { syscalls, completeness, .. } = self.read(cgroups)?;
        Ok(Capture { container, machine: Machine::current(), syscalls, completeness })
    }
}

/// [`Recorder::read`], for when the rest of the recorder is in use.
pub(super) fn read<S: SyscallSource>(source: &S, cgroups: &[CgroupId]) -> Result<Recorded> {
    let recorded = cgroups.iter().map(|cgroup| source.read(*cgroup)).collect::<Result<_, _>>();
    Ok(merge(recorded.context("cannot read the recording")?))
}

/// Waits for something, and shows meanwhile what was recorded so far.
pub(super) async fn show<S: SyscallSource, T>(
    source: &S,
    cgroups: &[CgroupId],
    until: impl Future<Output = T>,
) -> T {
    live::during(until, || read(source, cgroups).ok()).await
}

/// Several slots as one.
fn merge(all: Vec<Recorded>) -> Recorded {
    let from_start = !all.is_empty() && all.iter().all(|r| r.completeness.from_start);
    let mut calls = BTreeMap::<(Abi, u32), Phases>::new();
    let mut losses = Vec::<Loss>::new();
    let mut since_new = None;
    for recorded in all {
        for call in recorded.syscalls {
            let phases = calls.entry((call.abi, call.number)).or_default();
            phases.runtime |= call.phases.runtime;
            phases.application |= call.phases.application;
        }
        for loss in recorded.completeness.losses {
            if !losses.iter_mut().any(|sum| add(sum, loss)) {
                losses.push(loss);
            }
        }
        since_new = [since_new, recorded.since_new].into_iter().flatten().min();
    }
    let syscalls = calls.into_iter().map(|((abi, number), phases)| Syscall { abi, number, phases }).collect();
    Recorded { syscalls, completeness: Completeness { losses, from_start }, since_new }
}

/// Adds a loss to one of the same kind; `false` if it is of another.
fn add(sum: &mut Loss, loss: Loss) -> bool {
    match (sum, loss) {
        (Loss::UnknownNumbers(sum), Loss::UnknownNumbers(n))
        | (Loss::ForeignRuntimeCalls(sum), Loss::ForeignRuntimeCalls(n))
        | (Loss::ChildCgroups(sum), Loss::ChildCgroups(n))
        | (Loss::Phases(sum), Loss::Phases(n)) => *sum += n,
        // These are the whole recorder's: every slot tells of the same ones.
        (Loss::SlotsExhausted(sum), Loss::SlotsExhausted(n))
        | (Loss::MissedEvents(sum), Loss::MissedEvents(n)) => {
            *sum = n.max(*sum);
        }
        _ => return false,
    }
    true
}

/// Everything that a recording may lack, for people.
pub(super) fn losses(capture: &Capture) -> Vec<String> {
    let nameless = capture.syscalls.iter().filter(|call| call.name(capture.machine).is_none());
    let nameless =
        nameless.map(|c| format!("call {} of the {} ABI has no name that is known here", c.number, c.abi));
    capture.completeness.losses.iter().map(ToString::to_string).chain(nameless).collect()
}

/// Follows a cgroup from async code.
pub(super) struct Following(AsyncFd<Watch>);

impl Following {
    pub(super) fn new(watch: Watch) -> Result<Self> {
        // SAFETY: the descriptor that `Watch` gives is its own, always the same, and open while it lives.
        #[allow(unsafe_code)]
        let registered = unsafe { AsyncFd::register_with_interest(watch, Interest::READABLE) };
        Ok(Self(registered.context("cannot watch a cgroup")?))
    }

    pub(super) fn state(&self) -> Result<State> {
        Ok(self.0.get_ref().state()?)
    }

    /// Waits until the cgroup is in one of these states.
    pub(super) async fn until(&self, wanted: &[State]) -> Result<State> {
        loop {
            let state = self.state()?;
            if wanted.contains(&state) {
                return Ok(state);
            }
            self.changed().await?;
        }
    }

    /// Waits until the state may have changed since it was last looked at.
    pub(super) async fn changed(&self) -> Result<()> {
        self.0.readable().await.context("cannot watch a cgroup")?.clear_ready();
        Ok(())
    }
}

/// Waits for a time, or for ever.
pub(super) async fn time(limit: Option<Duration>) {
    match limit {
        Some(limit) => tokio::time::sleep(limit).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(
        calls: &[(Abi, u32, Phases)],
        losses: &[Loss],
        from_start: bool,
        since_new: Option<u64>,
    ) -> Recorded {
        let syscalls =
            calls.iter().map(|(abi, number, phases)| Syscall { abi: *abi, number: *number, phases: *phases });
        Recorded {
            syscalls: syscalls.collect(),
            completeness: Completeness { losses: losses.to_vec(), from_start },
            since_new: since_new.map(Duration::from_secs),
        }
    }

    #[test]
    fn slots_become_one() {
        let one = slot(
            &[(Abi::Native, 0, Phases::RUNTIME), (Abi::Native, 59, Phases::APPLICATION)],
            &[Loss::UnknownNumbers(2), Loss::SlotsExhausted(5)],
            true,
            Some(3),
        );
        let two = slot(
            &[(Abi::Native, 0, Phases::APPLICATION), (Abi::Compat, 0, Phases::APPLICATION)],
            &[Loss::UnknownNumbers(1), Loss::SlotsExhausted(5), Loss::Phases(1)],
            true,
            None,
        );
        let want = slot(
            &[
                (Abi::Native, 0, Phases::BOTH),
                (Abi::Native, 59, Phases::APPLICATION),
                (Abi::Compat, 0, Phases::APPLICATION),
            ],
            &[Loss::UnknownNumbers(3), Loss::SlotsExhausted(5), Loss::Phases(1)],
            true,
            Some(3),
        );
        assert_eq!(merge(vec![one.clone(), two]), want);
        assert_eq!(merge(vec![one.clone()]), one);
        let late = slot(&[], &[], false, None);
        assert!(!merge(vec![one, late]).completeness.from_start);
        assert_eq!(merge(vec![]), slot(&[], &[], false, None));
    }

    #[test]
    fn each_loss_is_told() {
        let Recorded { syscalls, completeness, .. } = slot(
            &[(Abi::Native, 0, Phases::APPLICATION), (Abi::Native, 1000, Phases::APPLICATION)],
            &[Loss::ChildCgroups(2)],
            true,
            None,
        );
        let capture =
            Capture { container: Container::default(), machine: Machine::X86_64, syscalls, completeness };
        let told = losses(&capture);
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[1].contains("1000") && told[1].contains("native"), "{told:?}");
    }
}
