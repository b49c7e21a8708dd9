//! What all recordings have in common.

use std::{future::Future, time::Duration};

use anyhow::{Context, Result};
use gadgetd_containers::{Hierarchy, OwnCgroup, State, Watch};
use gadgetd_core::{Capture, Container, Machine, Recorded, SyscallSource};
use tokio::io::{Interest, unix::AsyncFd};

use super::live::{self, Progress};
use crate::{note, signals::Signals};

/// What the recording of a cgroup works with.
pub(super) struct Recorder<S> {
    pub source: S,
    pub hierarchy: Hierarchy,
    pub signals: Signals,
    /// When the recording ends by itself.
    pub timeout: Option<Duration>,
}

/// What these recordings hold, together: they are one container's.
pub(super) fn capture<S: SyscallSource>(
    source: &S,
    container: Container,
    subjects: &[S::Subject],
) -> Result<Capture> {
    let one = |subject: &S::Subject| {
        let Recorded { syscalls, refused, completeness, .. } = source.read(*subject)?;
        let container = Container::default();
        Ok::<_, S::Error>(Capture { container, machine: Machine::current(), syscalls, refused, completeness })
    };
    let captures =
        subjects.iter().map(one).collect::<Result<Vec<_>, _>>().context("cannot read the recording")?;
    let captures: Vec<_> = captures.iter().collect();
    Capture::union(container, &captures).context("nothing was recorded")
}

/// Waits for something, and shows meanwhile what was recorded so far.
pub(super) async fn show<S: SyscallSource, T>(
    source: &S,
    subjects: &[S::Subject],
    until: impl Future<Output = T>,
) -> T {
    let progress = || {
        let calls = capture(source, Container::default(), subjects).ok()?.syscalls.len();
        let since_new = subjects.iter().filter_map(|subject| source.read(*subject).ok()?.since_new).min();
        Some(Progress { calls, since_new })
    };
    live::during(until, progress).await
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

/// Removes a cgroup whose recording was taken, which a failure must not cost: the next gadgetd tries again.
pub(super) fn give_back(cgroup: OwnCgroup) {
    if let Err(error) = cgroup.remove() {
        note(&format!("the cgroup of the recording is left behind: {:#}", anyhow::Error::from(error)));
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
    use gadgetd_core::{Abi, Completeness, Loss, Phases, Syscall};

    use super::*;

    #[test]
    fn each_loss_is_told() {
        let call = |number| Syscall { abi: Abi::Native, number, phases: Phases::APPLICATION };
        let capture = Capture {
            container: Container::default(),
            machine: Machine::X86_64,
            syscalls: vec![call(0), call(1000)],
            refused: Vec::new(),
            completeness: Completeness { losses: vec![Loss::ChildCgroups(2)], from_start: true },
        };
        let told = losses(&capture);
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[1].contains("1000") && told[1].contains("native"), "{told:?}");
    }
}
