//! Child processes with a deadline.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};

/// How long anything may take before it counts as hung. Far more than it needs, for machines that are busy.
pub const DEADLINE: Duration = Duration::from_mins(3);

/// How a process ended, and what it wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Its exit status.
    pub status: ExitStatus,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

/// Runs a command to its end, in a process group of its own that is killed at the deadline.
pub fn run(command: &mut Command) -> Result<Finished> {
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().with_context(|| format!("cannot run {command:?}"))?;
    let group = Pid::from_child(&child);
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(child.wait_with_output()));
    let Ok(output) = receiver.recv_timeout(DEADLINE) else {
        let _ = kill_process_group(group, Signal::KILL);
        let rest = receiver.recv_timeout(Duration::from_secs(10)).ok().and_then(Result::ok);
        bail!("{command:?} did not end within {DEADLINE:?}; it wrote {rest:#?}");
    };
    let Output { status, stdout, stderr } = output.with_context(|| format!("cannot wait for {command:?}"))?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(Finished { status, stdout: text(stdout), stderr: text(stderr) })
}

/// The lines that a process writes, as they come.
pub struct Lines {
    receiver: Receiver<String>,
    seen: String,
}

impl Lines {
    /// Reads a pipe from now on, so that whoever writes to it never waits.
    pub fn of(pipe: Option<impl Read + Send + 'static>) -> Self {
        let (sender, receiver) = mpsc::channel();
        if let Some(pipe) = pipe {
            let lines = BufReader::new(pipe).lines().map_while(Result::ok);
            thread::spawn(move || lines.into_iter().try_for_each(|line| sender.send(line)));
        }
        Self { receiver, seen: String::new() }
    }

    /// Waits for a line; `false` if the pipe ends without it.
    ///
    /// # Errors
    ///
    /// Neither comes before the deadline.
    pub fn until(&mut self, wanted: impl Fn(&str) -> bool) -> Result<bool> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            match self.receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.seen.push_str(&line);
                    self.seen.push('\n');
                    if wanted(&line) {
                        return Ok(true);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(false),
                Err(RecvTimeoutError::Timeout) => bail!("nothing for {DEADLINE:?} after: {}", self.seen),
            }
        }
    }

    /// All that was read so far.
    pub fn seen(&self) -> &str {
        &self.seen
    }
}
