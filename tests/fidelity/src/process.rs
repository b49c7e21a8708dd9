//! Child processes with a deadline.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

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

/// What the standard streams of a process are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Io {
    /// Pipes.
    Pipes,
    /// One terminal: what goes to stderr comes with stdout. Without the carriage returns that a terminal adds.
    Terminal,
}

/// Runs a command to its end, in a process group of its own that is killed at the deadline.
pub fn run(command: &mut Command) -> Result<Finished> {
    run_with(command, Io::Pipes)
}

/// The same; with pipes its stdin is empty.
pub fn run_with(command: &mut Command, io: Io) -> Result<Finished> {
    Running::spawn(command, io, Stdio::null())?.wait().with_context(|| format!("{command:?}"))
}

/// A process, with its streams read as they come.
pub struct Running {
    child: Child,
    stdin: Option<Box<dyn Write + Send>>,
    io: Io,
    stdout: Lines,
    stderr: Lines,
}

impl Running {
    /// Starts a command in a process group of its own.
    pub fn start(command: &mut Command, io: Io) -> Result<Self> {
        Self::spawn(command, io, Stdio::piped())
    }

    fn spawn(command: &mut Command, io: Io, stdin: Stdio) -> Result<Self> {
        command.process_group(0);
        let terminal = match io {
            Io::Pipes => {
                command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
                None
            }
            Io::Terminal => {
                let (master, slave) = terminal()?;
                command.stdin(slave.try_clone()?).stdout(slave.try_clone()?).stderr(slave);
                Some(master)
            }
        };
        let mut child = command.spawn().with_context(|| format!("cannot run {command:?}"))?;
        let Some(master) = terminal else {
            let (stdout, stderr) = (Lines::of(child.stdout.take()), Lines::of(child.stderr.take()));
            let stdin = child.stdin.take().map(|stdin| Box::new(stdin) as _);
            return Ok(Self { child, stdin, io, stdout, stderr });
        };
        // Its end is seen when nobody has it open any more.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let (stdout, stderr) = (Lines::of(Some(master.try_clone()?)), Lines::of(None::<File>));
        Ok(Self { child, stdin: Some(Box::new(master)), io, stdout, stderr })
    }

    /// Writes a line to its stdin, and waits for the same from its stdout; `false` if that ends before.
    pub fn answers(&mut self, line: &str) -> Result<bool> {
        let stdin = self.stdin.as_mut().context("its stdin is closed")?;
        writeln!(stdin, "{line}").context("the process does not read")?;
        // A terminal shows what is typed.
        for _ in 0..if self.io == Io::Terminal { 2 } else { 1 } {
            if !self.stdout.until(|said| said == line)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// All that it says, on both streams, until it closes them.
    pub fn said(&mut self) -> Result<String> {
        self.stdout.until(|_| false)?;
        self.stderr.until(|_| false)?;
        Ok(format!("{}{}", self.stdout.seen(), self.stderr.seen()))
    }

    /// Closes its stdin, and waits until it has ended well.
    pub fn end(mut self) -> Result<()> {
        self.close();
        let Finished { status, stdout, stderr } = self.wait()?;
        ensure!(status.success(), "it ended with {status}: {stdout}{stderr}");
        Ok(())
    }

    fn close(&mut self) {
        if let (Some(mut stdin), Io::Terminal) = (self.stdin.take(), self.io) {
            // Ctrl-D.
            let _ = stdin.write_all(b"\x04");
        }
    }

    /// Waits for its end.
    pub fn wait(mut self) -> Result<Finished> {
        self.said()?;
        ensure!(self.ends()?, "it closed its output, and did not end within {DEADLINE:?}");
        let status = self.child.wait()?;
        Ok(Finished { status, stdout: self.stdout.seen().to_owned(), stderr: self.stderr.seen().to_owned() })
    }

    /// Waits for its end; `false` at the deadline.
    fn ends(&self) -> Result<bool> {
        let process = pidfd_open(Pid::from_child(&self.child), PidfdFlags::empty())?;
        let limit = DEADLINE.try_into()?;
        Ok(poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&limit))? > 0)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        self.close();
        if !self.ends().unwrap_or(false) {
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

/// Both ends of a new terminal.
fn terminal() -> Result<(File, File)> {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let slave = open(&ptsname(&master, Vec::new())?, flags, Mode::empty())?;
    // Whoever runs in it makes it raw: what is typed before must not be shown either.
    let mut attributes = tcgetattr(&slave)?;
    attributes.make_raw();
    tcsetattr(&slave, OptionalActions::Now, &attributes)?;
    Ok((master.into(), slave.into()))
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
            let lines = BufReader::new(pipe).split(b'\n').map_while(Result::ok);
            let text = |line: Vec<u8>| String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
            thread::spawn(move || lines.map(text).try_for_each(|line| sender.send(line)));
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
