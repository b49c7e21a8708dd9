//! Recording a cgroup, which need not exist yet.

use anyhow::{Context, Result, bail};
use gadgetd_containers::{Hierarchy, State, Watch, identify};
use gadgetd_core::{Capture, CgroupId, Container, Entry, SyscallSource};

use super::recording::{Following, Recorder, capture, show, time};
use crate::note;

/// Records a cgroup with everything below it, until it has no processes any more, or a signal or the time limit
/// comes.
pub(super) async fn record<S: SyscallSource>(recorder: &mut Recorder<S>, cgroup: String) -> Result<Capture> {
    let Recorder { source, hierarchy, signals, timeout } = recorder;
    let following = Following::new(Watch::new(hierarchy, &cgroup)?)?;
    let mut limit = std::pin::pin!(time(*timeout));

    // From here on the kernel side gives every new cgroup a slot before a process can be in it.
    source.enrol_new(true).context("cannot wait for the cgroup")?;
    if following.state()? == State::Missing {
        note(&format!("waiting for {cgroup}; Ctrl-C ends it"));
        loop {
            release_others(source, hierarchy, &cgroup)?;
            tokio::select! {
                changed = following.changed() => changed?,
                signal = signals.next() => bail!("{}: {cgroup} has not appeared", signal.name()),
                () = &mut limit => bail!("the time is up: {cgroup} has not appeared"),
            }
            if following.state()? != State::Missing {
                break;
            }
        }
    }
    let id = hierarchy.id(&cgroup)?.with_context(|| format!("{cgroup} came and went at once"))?;
    // Changes nothing if the kernel side has done so already.
    source.enrol(id, Entry::Runtime).with_context(|| format!("cannot record {cgroup}"))?;
    // Its slot is there now: what is made below it shares it, whoever makes it. What was made before has slots of
    // its own, as the `container` that crun makes in its cgroup.
    source.enrol_new(false).context("cannot stop waiting for cgroups")?;
    let slots = release_others(source, hierarchy, &cgroup)?;
    note(&format!("recording {cgroup}; Ctrl-C ends it"));

    let ended = async {
        let ends = async {
            // Processes that came and went before anybody looked were there too.
            let been = || capture(source, Container::default(), &slots).is_ok_and(|c| !c.syscalls.is_empty());
            loop {
                match following.until(&[State::Populated, State::Empty, State::Missing]).await? {
                    State::Empty if !been() => following.changed().await?,
                    State::Populated => return following.until(&[State::Empty, State::Missing]).await,
                    ended => return Ok::<_, anyhow::Error>(ended),
                }
            }
        };
        tokio::select! {
            state = ends => {
                state?;
                note(&format!("{cgroup} has no processes any more"));
            }
            _ = signals.next() => {}
            () = &mut limit => {}
        }
        Ok::<_, anyhow::Error>(())
    };
    show(source, &slots, ended).await?;
    capture(source, container(cgroup), &slots)
}

/// Gives back the slots of all cgroups but this one and those below it; returns which have one.
fn release_others<S: SyscallSource>(
    source: &mut S,
    hierarchy: &Hierarchy,
    cgroup: &str,
) -> Result<Vec<CgroupId>> {
    // First the slots, then the cgroups: one that is made in between waits for the next time.
    let enrolled = source.enrolled().context("cannot list what is recorded")?;
    let ours = hierarchy.tree(cgroup);
    let (kept, others): (Vec<_>, Vec<_>) =
        enrolled.into_iter().map(|e| e.cgroup).partition(|id| ours.iter().any(|(_, our)| our == id));
    for id in others {
        source.release(id).context("cannot give back a slot")?;
    }
    Ok(kept)
}

/// Who the cgroup is, as far as its path tells.
fn container(cgroup: String) -> Container {
    let id = match identify(&cgroup) {
        Some(identity) => identity.id,
        None => cgroup.rsplit('/').next().unwrap_or_default().to_owned(),
    };
    Container { id, cgroup, ..Container::default() }
}
