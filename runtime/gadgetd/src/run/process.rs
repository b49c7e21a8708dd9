//! Recording a process that runs already.

use std::collections::{HashMap, HashSet};

use anyhow::{Context, Result, bail};
use gadgetd_containers::{Hierarchy, Leftovers, OwnCgroup, State};
use gadgetd_core::{Capture, CgroupSource, Container, Entry};
use procfs::{
    ProcError,
    process::{StatFlags, all_processes},
};

use super::recording::{Following, Recorder, capture, show, time};
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
        let found = procfs::process::Process::new(pid).and_then(|p| Ok((p.stat()?, p.status()?)));
        let (stat, status) = match found {
            Ok(found) => found,
            Err(ProcError::NotFound(_)) => bail!("no process has the id {pid}"),
            Err(e) => return Err(e).context(format!("cannot look at process {pid}")),
        };
        let name = stat.comm.clone();
        if pid.cast_unsigned() == std::process::id() {
            bail!("process {pid} is this gadgetd; a program cannot record itself");
        }
        if status.tgid != pid {
            bail!("{pid} is a thread of process {}; record that: --pid {}", status.tgid, status.tgid);
        }
        if stat.state == 'Z' || stat.state == 'X' {
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
    let home = hierarchy.of_process(*pid)?;
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
    cgroup.remove()?;
    Ok(result)
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
    let (mut inside, mut elsewhere) = (HashSet::from([pid]), HashSet::new());
    // What a process forked before it was moved is where it was; what it forks afterwards is inside. So
    // when a look finds nobody new, nobody is left.
    loop {
        let mut found = false;
        for descendant in descendants(pid)? {
            if inside.contains(&descendant) || elsewhere.contains(&descendant) {
                continue;
            }
            found = true;
            // One that has gone in the meantime is in no cgroup.
            match hierarchy.of_process(descendant) {
                Ok(at) if at == home => inside.extend(cgroup.add(descendant)?.then_some(descendant)),
                Ok(at) if at == cgroup.cgroup() => {
                    inside.insert(descendant);
                }
                Ok(_) => {
                    elsewhere.insert(descendant);
                }
                Err(_) => {}
            }
        }
        if !found {
            return Ok(Moved { inside: inside.len(), elsewhere: elsewhere.len() });
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
