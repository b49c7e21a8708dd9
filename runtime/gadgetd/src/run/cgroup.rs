//! Recording a cgroup, which need not exist yet.

use anyhow::{Context, Result, bail};
use gadgetd_containers::{Hierarchy, State, Watch, identify};
use gadgetd_core::{Capture, CgroupId, CgroupSource, Container, Entry, NewCgroups};

use super::recording::{Following, Recorder, capture, show, time};
use crate::note;

/// Records a cgroup with everything below it, until it has no processes any more, or a signal or the time limit
/// comes.
pub(super) async fn record<S: CgroupSource>(recorder: &mut Recorder<S>, cgroup: String) -> Result<Capture> {
    let Recorder { source, hierarchy, signals, timeout } = recorder;
    let following = Following::new(Watch::new(hierarchy, &cgroup)?)?;
    let mut limit = std::pin::pin!(time(*timeout));

    // From here on the kernel side gives the cgroup a slot before a process can be in it, and those below it too.
    source.enrol_new(NewCgroups::Below(&cgroup)).context("cannot wait for the cgroup")?;
    let mut told = false;
    let mut stop = None;
    let slots = loop {
        // Arms the watch, so what changes from here on is told.
        following.state()?;
        let slots = keep_ours(source, hierarchy, &cgroup)?;
        if enrol(source, hierarchy, &cgroup)? {
            break keep_ours(source, hierarchy, &cgroup)?;
        }
        if !slots.is_empty() {
            break slots; // It came and went before anybody looked.
        }
        if let Some(stop) = stop {
            bail!("{stop}: {cgroup} has not appeared");
        }
        if !told {
            note(&format!("waiting for {cgroup}; Ctrl-C ends it"));
            told = true;
        }
        tokio::select! {
            changed = following.changed() => changed?,
            // Not before one more look: it may have come together with the cgroup.
            signal = signals.next() => stop = Some(signal.name()),
            () = &mut limit => stop = Some("the time is up"),
        }
    };
    if stop.is_some() {
        return capture(source, container(cgroup), &slots);
    }
    // Its slot is there now: what is made below it shares it, whoever makes it. What was made before has slots of
    // its own, as the `container` that crun makes in its cgroup.
    source.enrol_new(NewCgroups::None).context("cannot stop waiting for cgroups")?;
    note(&format!("recording {cgroup}; Ctrl-C ends it"));

    let ended = async {
        let ends = async {
            // Processes that came and went before anybody looked were there too.
            let called =
                || capture(source, Container::default(), &slots).is_ok_and(|c| !c.syscalls.is_empty());
            let mut been = false;
            while !has_ended(|| following.state(), &mut been, called)? {
                following.changed().await?;
            }
            Ok::<_, anyhow::Error>(())
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
    let slots = keep_ours(source, hierarchy, &cgroup)?;
    capture(source, container(cgroup), &slots)
}

/// Whether processes have `been` in a cgroup, or at least `called`, and none is left. If not, a change of the `state` tells when
/// to ask again.
fn has_ended(
    mut state: impl FnMut() -> Result<State>,
    been: &mut bool,
    called: impl Fn() -> bool,
) -> Result<bool> {
    let now = state()?;
    *been = *been || now == State::Populated || called();
    Ok(match now {
        State::Populated => false,
        State::Missing => true,
        // Once more: whoever made the calls may have come after the first look, and be there still.
        State::Empty => *been && state()? != State::Populated,
    })
}

/// Enrols the cgroup if it exists; changes nothing if the kernel side has done so already.
fn enrol<S: CgroupSource>(source: &mut S, hierarchy: &Hierarchy, cgroup: &str) -> Result<bool> {
    let Some(id) = hierarchy.id(cgroup)? else { return Ok(false) };
    match source.enrol(id, Entry::Runtime) {
        Ok(()) => Ok(true),
        // Gone in the meantime.
        Err(_) if hierarchy.id(cgroup)? != Some(id) => Ok(false),
        Err(error) => Err(error).with_context(|| format!("cannot record {cgroup}")),
    }
}

/// Gives back the slots of all cgroups but this one and those below it, which may be gone; returns which have one.
fn keep_ours<S: CgroupSource>(source: &mut S, hierarchy: &Hierarchy, cgroup: &str) -> Result<Vec<CgroupId>> {
    let enrolled = source.enrolled().context("cannot list what is recorded")?;
    let below =
        |path: &str| path.strip_prefix(cgroup).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let alive = hierarchy.tree(cgroup);
    // From inside a cgroup namespace the kernel's paths look different; then only the living are known.
    let (ours, others): (Vec<_>, Vec<_>) = enrolled
        .into_iter()
        .partition(|e| e.path.as_deref().is_some_and(below) || alive.iter().any(|(_, id)| *id == e.cgroup));
    for other in others {
        source.release(other.cgroup).context("cannot give back a slot")?;
    }
    Ok(ours.into_iter().map(|e| e.cgroup).collect())
}

/// Who the cgroup is, as far as its path tells.
fn container(cgroup: String) -> Container {
    let id = match identify(&cgroup) {
        Some(identity) => identity.id,
        None => cgroup.rsplit('/').next().unwrap_or_default().to_owned(),
    };
    Container { id, cgroup, ..Container::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_has_ended_when_it_is_empty_after_somebody_was_there() {
        // Whether processes were seen before, and whether they made calls.
        for (states, been, called, ended) in [
            (&[State::Populated][..], false, true, false),
            (&[State::Missing], false, false, true),
            (&[State::Empty], false, false, false),
            (&[State::Empty, State::Empty], false, true, true),
            (&[State::Empty, State::Empty], true, false, true),
            (&[State::Empty, State::Missing], false, true, true),
            // They came between the looks.
            (&[State::Empty, State::Populated], false, true, false),
        ] {
            let mut looks = states.iter();
            let state = || Ok(*looks.next().expect("no further look"));
            assert_eq!(has_ended(state, &mut { been }, || called).unwrap(), ended, "{states:?}");
            assert_eq!(looks.next(), None, "{states:?}, been: {been}, called: {called}");
        }
    }
}
