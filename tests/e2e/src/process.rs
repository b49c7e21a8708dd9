//! Processes that do not outlive the test that started them.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};

/// A shell that waits for the end of this process, however that comes, and then cleans up.
///
/// It reads a pipe of which this process has the other end: a drop, a normal exit and `kill -9` look alike to it.
pub(crate) struct Guardian {
    shell: Child,
    pipe: Option<Mutex<ChildStdin>>,
}

impl Guardian {
    /// Kills the daemons that are registered at the end, and removes `folder`.
    pub(crate) fn of_folder(folder: &Path) -> Result<Arc<Self>> {
        Self::new(include_str!("../scripts/guard.sh"), folder, Stdio::null())
    }

    /// Runs `script` with `folder` as its argument; it has to read its input to the end before it does anything.
    /// `output` may be a locked file: the lock is held until the script is done.
    pub(crate) fn new(script: &str, folder: &Path, output: impl Into<Stdio>) -> Result<Arc<Self>> {
        let mut shell = Command::new("bash")
            .args(["-c", script, "guardian"])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(output)
            .stderr(Stdio::null())
            // A Ctrl-C that ends the test must not end this.
            .process_group(0)
            .spawn()
            .context("cannot run bash")?;
        let pipe = shell.stdin.take().map(Mutex::new);
        Ok(Arc::new(Self { shell, pipe }))
    }

    fn tell(&self, what: &str, pid: u32) {
        if let Some(pipe) = &self.pipe {
            let mut pipe = pipe.lock().unwrap_or_else(PoisonError::into_inner);
            // A guardian that somebody killed cannot be told anything; the next start cleans up.
            let _ = writeln!(pipe, "{what} {pid}");
        }
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        self.pipe = None;
        let _ = self.shell.wait();
    }
}

/// How programs are started: directly, or through commands that enter the node first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Launcher {
    /// A command that executes the one that is appended to it.
    pub(crate) prefix: Vec<OsString>,
}

impl Launcher {
    pub(crate) fn command(&self, program: impl Into<OsString>) -> Command {
        let mut words = self.prefix.iter().cloned().chain([program.into()]);
        let mut command = Command::new(words.next().expect("there is at least the program"));
        command.args(words);
        command
    }
}

/// A running daemon; it is killed when this is dropped.
pub(crate) struct Daemon {
    child: Child,
    log: PathBuf,
    guardian: Arc<Guardian>,
}

impl Daemon {
    /// Starts `command`, whose output goes to `log`.
    pub(crate) fn start(guardian: &Arc<Guardian>, log: &Path, command: &mut Command) -> Result<Self> {
        let file = File::options().create(true).append(true).open(log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot run {}", command.get_program().display()))?;
        guardian.tell("watch", child.id());
        Ok(Self { child, log: log.to_owned(), guardian: Arc::clone(guardian) })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// An error with the end of the log, if the daemon has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => anyhow::bail!("it ended ({status}): {}", self.last_words()),
        }
    }

    /// The end of the log.
    pub(crate) fn last_words(&self) -> String {
        let text = String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.guardian.tell("forget", self.child.id());
    }
}

/// Runs a short command; an error has what it wrote.
pub(crate) fn run(command: &mut Command) -> Result<Vec<u8>> {
    let program = command.get_program().display().to_string();
    let output = command.output().with_context(|| format!("cannot run {program}"))?;
    anyhow::ensure!(
        output.status.success(),
        "{program} {:?} failed ({}): {}",
        command.get_args().collect::<Vec<_>>(),
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(output.stdout)
}
