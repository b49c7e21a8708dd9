//! Recording a command from before its first call.
#![allow(unsafe_code)] // pre_exec

use std::{ffi::OsString, fs::File, io, os::fd::AsFd, path::Path, process::Stdio, time::Duration};

use anyhow::{Context, Result, bail};
use gadgetd_containers::{Leftovers, OwnCgroup, State};
use gadgetd_core::{Capture, Container, Entry, SyscallSource};
use rustix::process::Signal;
use tokio::{
    process::{Child, Command},
    time::timeout,
};

use super::recording::{Following, Recorder, capture, show};
use crate::{
    command::{ending, explain_exec, wait},
    note,
    signals::Signals,
};

/// Where the command's standard output goes.
#[derive(Clone, Copy)]
pub(super) enum Stdout {
    Kept,
    /// Standard output is for the result.
    ToStderr,
}

/// How long a process that was asked to end may take, before it is killed.
const GRACE: Duration = Duration::from_secs(5);

/// What a failed entry into the cgroup is reported as: an errno that `execve` never gives.
const NOT_ENTERED: i32 = libc::EXDEV;

/// Runs a command in a cgroup of its own, and records it until it ends.
pub(super) async fn record<S: SyscallSource>(
    recorder: &mut Recorder<S>,
    file: &Path,
    arguments: &[OsString],
    stdout: Stdout,
) -> Result<Capture> {
    let Recorder { source, hierarchy, signals, timeout } = recorder;
    let cgroup = OwnCgroup::create(hierarchy, &hierarchy.own()?, Leftovers::Kill)?;
    // The child enters it as what prepares the program: what it does before its `execve` is ours.
    source.enrol(cgroup.id(), Entry::Runtime).context("cannot record the command's cgroup")?;
    let mut child = start(file, arguments, stdout, cgroup.entrance()?)?;

    let status = show(source, &[cgroup.id()], wait_or_end(&mut child, &cgroup, signals, *timeout)).await?;
    note(&format!("command {}", ending(status)));
    end_leftovers(&cgroup, signals).await?;
    note(
        "recorded without a container runtime; to confine a container, record it as one: --cgroup, or on a cluster",
    );

    let container = Container {
        id: cgroup.name().to_owned(),
        name: Some(arguments[0].to_string_lossy().rsplit('/').next().unwrap_or_default().to_owned()),
        cgroup: cgroup.cgroup().to_owned(),
        ..Container::default()
    };
    let mut result = capture(source, container, &[cgroup.id()])?;
    result.completeness.from_start = true;
    cgroup.remove()?;
    Ok(result)
}

fn start(file: &Path, arguments: &[OsString], stdout: Stdout, entrance: File) -> Result<Child> {
    let mut command = Command::new(file);
    command.arg0(&arguments[0]).args(&arguments[1..]);
    if let Stdout::ToStderr = stdout {
        command.stdout(Stdio::from(
            io::stderr().as_fd().try_clone_to_owned().context("cannot copy standard error")?,
        ));
    }
    let enter = move || match rustix::io::write(&entrance, b"0") {
        Ok(_) => Ok(()),
        Err(_) => Err(io::Error::from_raw_os_error(NOT_ENTERED)),
    };
    // SAFETY: the closure makes one `write(2)`; it neither allocates nor takes locks, so it may run
    // between `fork` and `execve`.
    unsafe { command.pre_exec(enter) };
    match command.spawn() {
        Ok(child) => Ok(child),
        Err(e) if e.raw_os_error() == Some(NOT_ENTERED) => bail!("the command cannot enter its cgroup"),
        Err(e) => bail!(explain_exec(file, &e)),
    }
}

/// Waits for the command; when its time is up, asks it to end, and kills it if it does not.
async fn wait_or_end(
    child: &mut Child,
    cgroup: &OwnCgroup,
    signals: &mut Signals,
    limit: Option<Duration>,
) -> Result<std::process::ExitStatus> {
    let mut ended = std::pin::pin!(wait(child, signals));
    let Some(limit) = limit else { return ended.await };
    if let Ok(status) = timeout(limit, &mut ended).await {
        return status;
    }
    ask_to_end(cgroup)?;
    if let Ok(status) = timeout(GRACE, &mut ended).await {
        return status;
    }
    cgroup.kill()?;
    ended.await
}

/// Ends what the command left running: asks first, and kills what is still there after a while.
async fn end_leftovers(cgroup: &OwnCgroup, signals: &mut Signals) -> Result<()> {
    let following = Following::new(cgroup.watch()?)?;
    if following.state()? != State::Populated {
        return Ok(());
    }
    let left = ask_to_end(cgroup)?;
    if left > 0 {
        let processes = if left == 1 { "1 process" } else { &format!("{left} processes") };
        note(&format!(
            "the command left {processes} running, which are ended; a server is recorded in the foreground"
        ));
    }
    tokio::select! {
        state = following.until(&[State::Empty, State::Missing]) => return state.map(|_| ()),
        () = tokio::time::sleep(GRACE) => note("some of them do not end: killed"),
        signal = signals.next() => tracing::debug!(signal = signal.name(), "leftovers are killed at once"),
    }
    cgroup.kill()?;
    following.until(&[State::Empty, State::Missing]).await?;
    Ok(())
}

/// Asks every process in the cgroup to end, stopped ones too; returns how many there were.
fn ask_to_end(cgroup: &OwnCgroup) -> Result<usize> {
    let asked = cgroup.signal(Signal::TERM)?;
    cgroup.signal(Signal::CONT)?;
    Ok(asked)
}
