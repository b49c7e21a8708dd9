//! Recording a command from before its first call.
#![allow(unsafe_code)] // pre_exec

use std::{
    ffi::OsString,
    fs::File,
    io,
    os::fd::AsFd,
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use gadgetd_containers::{OwnCgroup, State};
use gadgetd_core::{Capture, CgroupSource, Container, Entry};
use rustix::process::Signal;
use tokio::{
    process::{Child, Command},
    time::timeout,
};

use super::recording::{Following, Recorder, capture, give_back, show};
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

/// A command's processes: it, and everything that descends from it.
pub(super) trait Family {
    /// Sends a signal to each of them; returns how many there were.
    fn signal(&self, signal: Signal) -> Result<usize>;

    /// Kills each of them, none excepted, and does not wait for them to be gone.
    fn kill(&self) -> Result<()>;

    /// Waits until none is left. When this has returned once, it does so again at once.
    async fn gone(&self) -> Result<()>;
}

/// Runs a command in a cgroup of its own, and records it until it ends.
pub(super) async fn record<S: CgroupSource>(
    recorder: &mut Recorder<S>,
    cgroup: OwnCgroup,
    file: &Path,
    arguments: &[OsString],
    stdout: Stdout,
) -> Result<Capture> {
    let Recorder { source, signals, timeout, .. } = recorder;
    // The child enters it as what prepares the program: what it does before its `execve` is ours.
    source.enrol(cgroup.id(), Entry::Runtime).context("cannot record the command's cgroup")?;
    let mut command = command(file, arguments, stdout)?;
    enter(&mut command, cgroup.entrance()?);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(e) if e.raw_os_error() == Some(NOT_ENTERED) => bail!("the command cannot enter its cgroup"),
        Err(e) => bail!(explain_exec(file, &e)),
    };
    let family = InCgroup { cgroup: &cgroup, following: Following::new(cgroup.watch()?)? };
    let ended = wait_or_end(&mut child, &family, signals, *timeout);
    let status = show(source, &[cgroup.id()], ended).await?;
    tell_and_clear(status, &family, signals).await?;

    let container = Container {
        id: cgroup.name().to_owned(),
        name: Some(name(arguments)),
        cgroup: cgroup.cgroup().to_owned(),
        ..Container::default()
    };
    let mut result = capture(source, container, &[cgroup.id()])?;
    result.completeness.from_start = true;
    give_back(cgroup);
    Ok(result)
}

/// The name of a command's container.
pub(super) fn name(arguments: &[OsString]) -> String {
    arguments[0].to_string_lossy().rsplit('/').next().unwrap_or_default().to_owned()
}

/// The command, ready to be spawned.
pub(super) fn command(file: &Path, arguments: &[OsString], stdout: Stdout) -> Result<Command> {
    let mut command = Command::new(file);
    command.arg0(&arguments[0]).args(&arguments[1..]);
    if let Stdout::ToStderr = stdout {
        command.stdout(Stdio::from(
            io::stderr().as_fd().try_clone_to_owned().context("cannot copy standard error")?,
        ));
    }
    Ok(command)
}

fn enter(command: &mut Command, entrance: File) {
    let enter = move || match rustix::io::write(&entrance, b"0") {
        Ok(_) => Ok(()),
        Err(_) => Err(io::Error::from_raw_os_error(NOT_ENTERED)),
    };
    // SAFETY: the closure makes one `write(2)`; it neither allocates nor takes locks, so it may run
    // between `fork` and `execve`.
    unsafe { command.pre_exec(enter) };
}

/// Waits for the command; when its time is up, asks it to end, and kills it if it does not.
pub(super) async fn wait_or_end(
    child: &mut Child,
    family: &impl Family,
    signals: &mut Signals,
    limit: Option<Duration>,
) -> Result<ExitStatus> {
    let mut ended = std::pin::pin!(wait(child, signals));
    let Some(limit) = limit else { return ended.await };
    if let Ok(status) = timeout(limit, &mut ended).await {
        return status;
    }
    ask_to_end(family)?;
    if let Ok(status) = timeout(GRACE, &mut ended).await {
        return status;
    }
    family.kill()?;
    ended.await
}

/// Tells how the command ended, and ends what it left running.
pub(super) async fn tell_and_clear(
    status: ExitStatus,
    family: &impl Family,
    signals: &mut Signals,
) -> Result<()> {
    note(&format!("command {}", ending(status)));
    end_leftovers(family, signals).await?;
    note(
        "recorded without a container runtime; to confine a container, record it as one: --cgroup, or on a cluster",
    );
    Ok(())
}

/// Ends what the command left running: asks first, and kills what is still there after a while.
async fn end_leftovers(family: &impl Family, signals: &mut Signals) -> Result<()> {
    let left = ask_to_end(family)?;
    if left > 0 {
        let processes = if left == 1 { "1 process" } else { &format!("{left} processes") };
        note(&format!(
            "the command left {processes} running, which are ended; a server is recorded in the foreground"
        ));
    }
    tokio::select! {
        gone = family.gone() => return gone,
        () = tokio::time::sleep(GRACE) => note("some of them do not end: killed"),
        signal = signals.next() => tracing::debug!(signal = signal.name(), "leftovers are killed at once"),
    }
    family.kill()?;
    family.gone().await
}

/// Asks every process to end, stopped ones too; returns how many there were.
fn ask_to_end(family: &impl Family) -> Result<usize> {
    let asked = family.signal(Signal::TERM)?;
    family.signal(Signal::CONT)?;
    Ok(asked)
}

/// Those in a cgroup.
struct InCgroup<'c> {
    cgroup: &'c OwnCgroup,
    following: Following,
}

impl Family for InCgroup<'_> {
    fn signal(&self, signal: Signal) -> Result<usize> {
        Ok(self.cgroup.signal(signal)?)
    }

    fn kill(&self) -> Result<()> {
        Ok(self.cgroup.kill()?)
    }

    async fn gone(&self) -> Result<()> {
        self.following.until(&[State::Empty, State::Missing]).await?;
        Ok(())
    }
}
