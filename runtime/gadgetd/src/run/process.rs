//! Recording a process that runs already.

use std::collections::{HashMap, HashSet};

use anyhow::{Context, Result, anyhow, bail};
use gadgetd_containers::{Hierarchy, Leftovers, OwnCgroup, State, process_of};
use gadgetd_core::{Capture, CgroupSource, Container, Entry};
use procfs::{
    ProcError,
    process::{StatFlags, all_processes},
};

use super::recording::{Following, Recorder, capture, give_back, show, time};
use crate::note;

/// A process that can be recorded.
#[derive(Debug)]
pub(super) struct Process {
    pid: i32,
    name: String,
}

impl Process {
    /// Looks a process up, and refuses one that can't be recorded.
    pub(super) fn find(pid: i32) -> Result<Self> {
        let gone = || anyhow!("no process has the id {pid}");
        let stat = match procfs::process::Process::new(pid).and_then(|process| process.stat()) {
            Err(ProcError::NotFound(_)) => return Err(gone()),
            stat => stat.with_context(|| format!("cannot look at process {pid}"))?,
        };
        let process = process_of(pid)?.ok_or_else(gone)?;
        let name = stat.comm.clone();
        if pid.cast_unsigned() == std::process::id() {
            bail!("process {pid} is this gadgetd; a program cannot record itself");
        }
        if process != pid {
            bail!("{pid} is a thread of process {process}; record that: --pid {process}");
        }
        // Threads may outlive the first.
        if matches!(stat.state, 'Z' | 'X') && stat.num_threads <= 1 {
            bail!("process {pid} ({name}) has ended already");
        }
        let flags = StatFlags::from_bits_retain(stat.flags);
        if flags.contains(StatFlags::PF_KTHREAD) {
            bail!("process {pid} ({name}) is a thread of the kernel; it makes no system calls");
        }
        Ok(Self { pid, name })
    }
}

/// Records a process and everything that descends from it, until they have ended, or a signal or the
/// time limit comes.
///
/// A recording is of a cgroup, and the process usually shares its cgroup with others. So it moves, with its
/// descendants, into a new child of the cgroup it is in, and back at the end. No controller is enabled for
/// such a child, so its processes are charged to, and limited by, the cgroup they came from, as before.
pub(super) async fn record<S: CgroupSource>(
    recorder: &mut Recorder<S>,
    process: &Process,
) -> Result<Capture> {
    let Recorder { source, hierarchy, signals, timeout } = recorder;
    let Process { pid, name } = process;
    let home = home(hierarchy, *pid)?;
    let cgroup = OwnCgroup::create(hierarchy, &home, Leftovers::MoveToParent)?;
    source.enrol(cgroup.id(), Entry::Application).context("cannot record the process's cgroup")?;
    let moved = move_in(hierarchy, &home, &cgroup, *pid)?;
    let others = match moved.inside - 1 {
        0 => String::new(),
        1 => " and the process it started".to_owned(),
        n => format!(" and {n} processes that descend from it"),
    };
    note(&format!("recording process {pid} ({name}){others}; Ctrl-C ends it"));
    if moved.elsewhere > 0 {
        note(&format!(
            "not recorded: {} of its descendants, which are in cgroups of their own",
            moved.elsewhere
        ));
    }

    let following = Following::new(cgroup.watch()?)?;
    let ended = async {
        tokio::select! {
            state = following.until(&[State::Empty, State::Missing]) => {
                state?;
                note("the process and its descendants have ended");
            }
            _ = signals.next() => {}
            () = time(*timeout) => {}
        }
        Ok::<_, anyhow::Error>(())
    };
    show(source, &[cgroup.id()], ended).await?;

    let container = Container {
        id: cgroup.name().to_owned(),
        name: Some(name.clone()),
        cgroup: home,
        ..Container::default()
    };
    let result = capture(source, container, &[cgroup.id()])?;
    give_back(cgroup);
    Ok(result)
}

/// The cgroup that a process is in; refuses one from which it can't be moved and back.
fn home(hierarchy: &Hierarchy, pid: i32) -> Result<String> {
    let mut cgroups = hierarchy.of_threads(pid)?;
    let home = cgroups.pop_first().with_context(|| format!("process {pid} has just ended"))?;
    if let Some(other) = cgroups.first() {
        bail!(
            "the threads of process {pid} are in more than one cgroup, {home} and {other}: moved to be recorded, they \
             could not be put back; record the cgroup instead: --cgroup {home}"
        );
    }
    if !hierarchy.is_plain_domain(&home)? {
        bail!(
            "process {pid} is in {home}, which is a threaded cgroup or has threaded ones below it, so it can't be moved \
             to be recorded; record the cgroup instead: --cgroup {home}"
        );
    }
    Ok(home)
}

struct Moved {
    /// How many processes are recorded.
    inside: usize,
    /// How many descendants are not, because they live in another cgroup: moving them would change what they are
    /// charged to.
    elsewhere: usize,
}

/// Moves a process and those of its descendants that share its cgroup.
fn move_in(hierarchy: &Hierarchy, home: &str, cgroup: &OwnCgroup, pid: i32) -> Result<Moved> {
    if !cgroup.add(pid)? {
        bail!("process {pid} has just ended");
    }
    let (mut moved, mut seen) = (Moved { inside: 1, elsewhere: 0 }, HashSet::from([pid]));
    // What a process forked before it was moved is where it was; what it forks afterwards is inside. So
    // when a look finds nobody new, nobody is left.
    loop {
        let mut found = false;
        for descendant in descendants(pid)?.into_iter().filter(|descendant| seen.insert(*descendant)) {
            found = true;
            let cgroups = hierarchy.of_threads(descendant)?;
            if cgroups.iter().eq([home]) {
                moved.inside += usize::from(cgroup.add(descendant)?);
            } else if cgroups.iter().eq([cgroup.cgroup()]) {
                moved.inside += 1;
            } else if !cgroups.is_empty() {
                moved.elsewhere += 1;
            } // Else it has ended in the meantime.
        }
        if !found {
            return Ok(moved);
        }
    }
}

/// Every process that descends from this one, gadgetd itself excepted.
pub(super) fn descendants(pid: i32) -> Result<Vec<i32>> {
    let mut children = HashMap::<i32, Vec<i32>>::new();
    for process in all_processes().context("cannot list the processes")? {
        // One that has gone in the meantime has no parent.
        if let Ok(stat) = process.and_then(|p| p.stat())
            && stat.pid.cast_unsigned() != std::process::id()
        {
            children.entry(stat.ppid).or_default().push(stat.pid);
        }
    }
    let (mut found, mut next) = (Vec::new(), vec![pid]);
    while let Some(pid) = next.pop() {
        let below = children.remove(&pid).unwrap_or_default();
        next.extend(&below);
        found.extend(below);
    }
    Ok(found)
}
