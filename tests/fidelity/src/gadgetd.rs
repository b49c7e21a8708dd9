//! The program under test, from the outside.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::process::{self, Finished, Lines};
use crate::programs;

/// The binary: `GADGETD_BIN`, or what the same build made.
///
/// # Errors
///
/// It was not built.
pub fn binary() -> Result<PathBuf> {
    let path = match std::env::var_os("GADGETD_BIN") {
        Some(path) => PathBuf::from(path),
        // The tests are in target/PROFILE/deps.
        None => std::env::current_exe()?.ancestors().nth(2).unwrap_or(Path::new(".")).join("gadgetd"),
    };
    ensure!(path.is_file(), "{} is missing: `cargo xtask build` makes it", path.display());
    Ok(path)
}

/// A command on the machine itself, in a directory of its own, with the environment of every program; `before`
/// are the words before the command, such as those of `gadgetd run`.
pub fn on_the_machine(before: &[&OsStr], words: &[String]) -> Result<Finished> {
    on_the_machine_of(None, before, words)
}

/// The same; the directory belongs to another user.
pub fn on_the_machine_of(user: Option<u32>, before: &[&OsStr], words: &[String]) -> Result<Finished> {
    let home = tempfile::Builder::new().prefix("gadgetd-home-").tempdir()?;
    std::os::unix::fs::chown(home.path(), user, user)?;
    let mut command = Command::new(before.first().context("no command")?);
    command.args(&before[1..]).args(words).current_dir(home.path());
    command.env_clear().envs(programs::environment(&home.path().display().to_string()));
    process::run(&mut command)
}

/// A profile as gadgetd wrote it.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// The whole document.
    pub json: Value,
    /// The calls that it allows.
    pub names: BTreeSet<String>,
    /// The calls that it answers with `ENOSYS`.
    pub missing: BTreeSet<String>,
    /// The architectures that it is for.
    pub architectures: BTreeSet<String>,
}

impl Profile {
    /// Reads a document of the form that gadgetd writes: one rule that allows, maybe one that answers with `ENOSYS`, and
    /// everything else refused.
    pub fn read(path: &Path) -> Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("no profile in {}", path.display()))?;
        let json: Value = serde_json::from_str(&text).with_context(|| format!("no JSON: {text}"))?;
        ensure!(json["defaultAction"] == "SCMP_ACT_ERRNO", "another default action: {text}");
        let rules = json["syscalls"].as_array().with_context(|| format!("no rules: {text}"))?;
        let (first, others) = rules.split_first().with_context(|| format!("no rules: {text}"))?;
        ensure!(first["action"] == "SCMP_ACT_ALLOW", "the first rule does not allow: {text}");
        let names = strings(&first["names"]).with_context(|| format!("no names: {text}"))?;
        let missing = match others {
            [] => BTreeSet::new(),
            [rule] if rule["action"] == "SCMP_ACT_ERRNO" && rule["errnoRet"] == 38 => {
                strings(&rule["names"]).with_context(|| format!("no names: {text}"))?
            }
            _ => bail!("other rules: {text}"),
        };
        let architectures =
            strings(&json["architectures"]).with_context(|| format!("no architectures: {text}"))?;
        Ok(Self { json, names, missing, architectures })
    }
}

fn strings(value: &Value) -> Option<BTreeSet<String>> {
    value.as_array()?.iter().map(|item| item.as_str().map(str::to_owned)).collect()
}

/// `gadgetd run seccomp --cgroup …`, recording.
pub struct Recorder {
    child: Child,
    stderr: Lines,
    profile: PathBuf,
}

impl Recorder {
    /// Starts to record the cgroup, a path from the root of the v2 hierarchy, which need not exist. Returns when
    /// nothing that happens in it can be missed.
    pub fn start(cgroup: &str, profile: PathBuf) -> Result<Self> {
        let mut command = Command::new(binary()?);
        command.args(["run", "seccomp", "--cgroup", cgroup, "-o"]).arg(&profile);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().context("cannot run gadgetd")?;
        let stderr = Lines::of(child.stderr.take());
        let mut recorder = Self { child, stderr, profile };
        let waits = recorder.stderr.until(|line| line.contains("waiting"))?;
        ensure!(waits, "gadgetd does not wait for the cgroup: {}", recorder.stderr.seen());
        Ok(recorder)
    }

    /// Ends the recording, and reads the profile.
    pub fn finish(mut self) -> Result<Profile> {
        // It may have ended by itself, as the cgroup did.
        let _ = kill_process(Pid::from_child(&self.child), Signal::INT);
        self.stderr.until(|_| false)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "gadgetd ended with {status}: {}", self.stderr.seen());
        Profile::read(&self.profile)
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
