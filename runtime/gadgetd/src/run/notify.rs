//! Recording a command without privileges.

use std::{ffi::OsString, fs, io, path::Path, time::Duration};

use anyhow::{Context, Result, bail};
use gadgetd_containers::Hierarchy;
use gadgetd_core::{Capture, Container};
use gadgetd_notify::{Notify, State};
use rustix::process::{Pid, Signal, getpid, kill_process, set_child_subreaper};
use tokio::{
    io::{Interest, unix::AsyncFd},
    signal::unix::{SignalKind, signal},
};

use super::{
    command::{self, Family, Stdout},
    process::descendants,
    recording::{capture, show},
};
use crate::{
    command::{explain_exec, pid},
    note,
    signals::Signals,
};

/// How often is looked again for processes that are to be killed, when nothing tells that they are gone.
const AGAIN: Duration = Duration::from_millis(10);

/// Runs a command under a filter, and records it until it ends.
pub(super) async fn record(
    notify: Notify,
    signals: &mut Signals,
    timeout: Option<Duration>,
    file: &Path,
    arguments: &[OsString],
    stdout: Stdout,
) -> Result<Capture> {
    let filters = filters_of(std::process::id().cast_signed()).context("cannot read /proc/self/status")?;
    // What loses its parent becomes ours: so it can be found, and its end is seen.
    set_child_subreaper(Some(getpid())).context("cannot adopt orphans")?;
    let mut command = command::command(file, arguments, stdout)?;
    notify.record(command.as_std_mut());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => match notify.load_error() {
            Some(error) => return Err(error).context("cannot record the command"),
            None => bail!(explain_exec(file, &error)),
        },
    };
    let command = pid(&child)?;
    let reaper = tokio::spawn(reap_orphans(command));
    let family = Filtered { filters, command, supervisor: watch(notify)? };
    let ended = async {
        tokio::select! {
            status = command::wait_or_end(&mut child, &family, signals, timeout) => status,
            error = family.unsupervised() => Err(error),
        }
    };
    let status = match show(family.notify(), &[()], ended).await {
        Ok(status) => status,
        Err(error) => {
            family.end_unsupervised().await?;
            return Err(error);
        }
    };
    command::tell_and_clear(status, &family, signals).await?;
    reaper.abort();
    tell_interruptions(family.notify().interrupted());

    // Where there is no such hierarchy, it is in no cgroup that could be named.
    let cgroup = Hierarchy::find().and_then(|hierarchy| hierarchy.own()).unwrap_or_default();
    let id = format!("gadgetd-{}-0", std::process::id());
    let container = Container { id, name: Some(command::name(arguments)), cgroup, ..Container::default() };
    capture(family.notify(), container, &[()])
}

/// Tells how often the recorder may have made a call fail that would not have failed without it.
fn tell_interruptions(calls: u64) {
    if calls > 0 {
        note(&format!(
            "signals interrupted {calls} system calls before they were carried out: where the program has a handler without \
             SA_RESTART, such a call failed with EINTR, also one that never does so otherwise (a shell may say \"Cannot fork\", or \
             keep a pipe open and never end); if that is why the command failed, run it again"
        ));
    }
}

fn watch(notify: Notify) -> Result<AsyncFd<Notify>> {
    // SAFETY: the descriptor that `Notify` gives is its own, always the same, and open while it lives.
    #[allow(unsafe_code)]
    let watched = unsafe { AsyncFd::register_with_interest(notify, Interest::READABLE) };
    watched.context("cannot watch the supervisor")
}

/// What runs under the filter.
struct Filtered {
    /// How many filters this process runs under: what is recorded has one more, at least.
    filters: u32,
    command: Pid,
    supervisor: AsyncFd<Notify>,
}

impl Filtered {
    fn notify(&self) -> &Notify {
        self.supervisor.get_ref()
    }

    fn processes(&self) -> Result<Vec<Pid>> {
        let descendants = descendants(std::process::id().cast_signed())?.into_iter();
        let filtered = descendants.filter(|pid| filters_of(*pid).is_ok_and(|filters| filters > self.filters));
        Ok(filtered.filter_map(Pid::from_raw).collect())
    }

    /// Waits until the supervisor is gone, while something that is recorded still runs, and says why.
    async fn unsupervised(&self) -> anyhow::Error {
        if let Err(error) = self.supervisor.readable().await {
            return error.into();
        }
        match self.notify().state() {
            State::Ended => std::future::pending().await,
            State::Running => anyhow::anyhow!(
                "the process that answers for the command's system calls was killed: the command can't go on, and is killed"
            ),
            State::Failed(error) => anyhow::Error::new(error).context(
                "the process that answers for the command's system calls failed: the command is killed",
            ),
        }
    }

    /// Kills what runs on without a supervisor: all its calls fail, so it starts nothing, and does not end by itself.
    async fn end_unsupervised(&self) -> Result<()> {
        while self.signal(Signal::KILL)? > 0 {
            tokio::time::sleep(AGAIN).await;
        }
        Ok(())
    }
}

impl Family for Filtered {
    fn signal(&self, signal: Signal) -> Result<usize> {
        let processes = self.processes()?;
        for pid in &processes {
            // One that has gone in the meantime needs no signal.
            let _ = kill_process(*pid, signal);
        }
        Ok(processes.len())
    }

    fn kill(&self) -> Result<()> {
        self.notify().hold();
        self.signal(Signal::KILL)?;
        Ok(())
    }

    async fn gone(&self) -> Result<()> {
        // Those that ended when the command itself was still to be reaped.
        reap(self.command);
        loop {
            tokio::select! {
                ended = self.supervisor.readable() => ended.context("cannot watch the supervisor")?.retain_ready(),
                // What was about to fork when the others were killed.
                () = tokio::time::sleep(AGAIN), if self.notify().is_held() => { self.signal(Signal::KILL)?; continue }
            }
            return match self.notify().state() {
                State::Ended => Ok(()),
                State::Running | State::Failed(_) => {
                    let error = self.unsupervised().await;
                    self.end_unsupervised().await?;
                    Err(error)
                }
            };
        }
    }
}

/// How many seccomp filters a process runs under; an error if it is gone, or a zombie.
fn filters_of(pid: i32) -> io::Result<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field = |name| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    if field("State:").is_some_and(|state| state.starts_with(['Z', 'X'])) {
        return Err(io::ErrorKind::NotFound.into());
    }
    field("Seccomp_filters:").and_then(|count| count.parse().ok()).ok_or(io::ErrorKind::InvalidData.into())
}

/// Reaps what the command's processes leave behind, as it ends.
async fn reap_orphans(command: Pid) -> io::Result<()> {
    let mut ends = signal(SignalKind::child())?;
    while ends.recv().await.is_some() {
        reap(command);
    }
    Ok(())
}

/// Reaps children that have ended, but not the command: somebody waits for that. Before Linux 6.11 a filter is in use until
/// the last process under it was reaped.
fn reap(command: Pid) {
    // SAFETY: room for the answer, of which all zero is a valid one.
    #[allow(unsafe_code)]
    let ended = |what, id, options| unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        (libc::waitid(what, id, &raw mut info, libc::WEXITED | libc::WNOHANG | options) == 0)
            .then(|| info.si_pid())
    };
    while let Some(pid) = ended(libc::P_ALL, 0, libc::WNOWAIT).filter(|pid| *pid > 0) {
        if pid == command.as_raw_nonzero().get() {
            return;
        }
        ended(libc::P_PID, pid.cast_unsigned(), 0);
    }
}
