//! Scripts that are read from top to bottom: what a person types, and what they see.
//!
//! | a line that begins with | is |
//! |---|---|
//! | `$ ` | a command, which must succeed |
//! | `~$ ` | a command that is repeated until what it prints is as written: for what takes a moment |
//! | `> ` | the next line of that command |
//! | `#` | for the reader |
//! | anything else | what the command prints |
//!
//! In what is printed, `...` stands for any text; on a line of its own, for any number of lines. Empty lines do not
//! count. A command that has to fail is written as the shell writes it: `$ ! false`.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

use crate::Node;

/// How long a command may take, and how long one is repeated.
const LIMIT: Duration = Duration::from_mins(2);

/// Lines that programs in the background print whenever they like, and what the shell says of their end.
const ASIDES: [&str; 3] =
    ["Handling connection for ...", "...line ... Terminated...", "...line ... Killed..."];

/// A command, and what it should print.
#[derive(Debug, Default, PartialEq, Eq)]
struct Step {
    line: usize,
    command: String,
    repeated: bool,
    output: Vec<String>,
}

/// A shell on a node, whose `kubectl` is the cluster's administrator. It is in a folder of its own, in which `deploy` is
/// the project's.
///
/// It ends, with what it started, when this is dropped.
pub struct Shell {
    bash: Child,
    input: ChildStdin,
    output: Receiver<String>,
    commands: u32,
    _home: TempDir,
}

impl Shell {
    /// Starts one. Programs of the build that runs are on its `PATH`.
    pub fn on(node: &Node) -> Result<Self> {
        // kubectl keeps there what it knows of a cluster; the next one at this address is another.
        let home = tempfile::Builder::new().prefix("gadgetd-shell-").tempdir()?;
        symlink(concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy"), home.path().join("deploy"))?;
        let mut bash = node
            .command("bash")
            .args(["--noprofile", "--norc"])
            .env("HOME", home.path())
            .env("KUBECONFIG", node.kubeconfig()?)
            .env("PATH", node.programs(&built()?)?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .context("cannot run bash")?;
        let mut input = bash.stdin.take().context("bash has no input")?;
        let stdout = bash.stdout.take().context("bash has no output")?;
        let (sender, output) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
                if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    return;
                }
            }
        });
        // Whoever enters a mount namespace starts at its root.
        writeln!(input, "exec 2>&1; set -o pipefail; cd")?;
        Ok(Self { bash, input, output, commands: 0, _home: home })
    }

    /// Sets a variable.
    pub fn set(&mut self, name: &str, value: &str) -> Result<()> {
        Ok(writeln!(self.input, "export {name}='{value}'")?)
    }

    /// Runs a script to its end, or to the first command that does not do what is written.
    pub fn run(&mut self, script: &str) -> Result<()> {
        for step in parse(script)? {
            println!("$ {}", step.command);
            self.step(&step).with_context(|| format!("line {}: {}", step.line, step.command))?;
        }
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Result<()> {
        let start = Instant::now();
        // What it starts in the background prints when it gets to it.
        let background = step.command.ends_with('&');
        loop {
            let (status, mut output) = self.command(&step.command)?;
            while status == 0 && background && !fits(&step.output, &output) {
                let left = LIMIT.saturating_sub(start.elapsed());
                let Ok(line) = self.output.recv_timeout(left) else { break };
                output.extend(Some(line).filter(|line| !is_aside(line)));
            }
            if status == 0 && fits(&step.output, &output) {
                return Ok(());
            }
            if !step.repeated || start.elapsed() > LIMIT {
                let mut text = format!("it ended with {status} and printed:\n{}", output.join("\n"));
                if status == 0 {
                    let _ = write!(text, "\nthis was expected:\n{}", step.output.join("\n"));
                }
                bail!(text);
            }
            thread::sleep(Duration::from_millis(200));
        }
    }

    /// Runs a command; returns its status, and what was printed meanwhile.
    fn command(&mut self, command: &str) -> Result<(i32, Vec<String>)> {
        self.commands += 1;
        let end = format!("--- end of command {} ---", self.commands);
        // The shell's input is the script, no command's.
        write!(self.input, "{{ {command}\n}} </dev/null\nprintf '\\n%s %d\\n' '{end}' $?\n")?;
        let mut output = Vec::new();
        let until = Instant::now() + LIMIT;
        loop {
            match self.output.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => match line.strip_prefix(&end) {
                    Some(status) => return Ok((status.trim().parse()?, output)),
                    None if line.is_empty() || is_aside(&line) => {}
                    None => output.push(line),
                },
                Err(RecvTimeoutError::Timeout) => {
                    bail!("it takes more than {LIMIT:?}; it printed:\n{}", output.join("\n"))
                }
                Err(RecvTimeoutError::Disconnected) => bail!("the shell ended: {}", output.join("\n")),
            }
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = kill_process_group(Pid::from_child(&self.bash), Signal::KILL);
        let _ = self.bash.wait();
    }
}

/// The folder with the programs of the build that runs.
pub(crate) fn built() -> Result<PathBuf> {
    let this = std::env::current_exe()?;
    // Programs are in target/PROFILE, tests in target/PROFILE/deps.
    let folder = this.parent().context("a program is in a folder")?;
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    Ok(folder.to_owned())
}

fn parse(script: &str) -> Result<Vec<Step>> {
    let mut steps: Vec<Step> = Vec::new();
    for (number, text) in (1..).zip(script.lines()) {
        let (repeated, command) = match text.strip_prefix("~$ ") {
            Some(command) => (true, Some(command)),
            None => (false, text.strip_prefix("$ ")),
        };
        if let Some(command) = command {
            steps.push(Step { line: number, command: command.to_owned(), repeated, output: Vec::new() });
            continue;
        }
        if text.trim().is_empty() || text.starts_with('#') {
            continue;
        }
        let step = steps.last_mut().with_context(|| format!("line {number} is before every command"))?;
        match text.strip_prefix("> ") {
            Some(more) => {
                ensure!(step.output.is_empty(), "line {number} continues a command that is complete");
                step.command = format!("{}\n{more}", step.command);
            }
            None => step.output.push(text.trim_end().to_owned()),
        }
    }
    Ok(steps)
}

/// Whether lines are as they were written.
fn fits<S: AsRef<str>>(written: &[String], lines: &[S]) -> bool {
    match written.split_first() {
        None => lines.is_empty(),
        Some((first, rest)) if first == "..." => (0..=lines.len()).any(|skip| fits(rest, &lines[skip..])),
        Some((first, rest)) => lines
            .split_first()
            .is_some_and(|(line, lines)| is_like(first, line.as_ref().trim_end()) && fits(rest, lines)),
    }
}

/// Whether a line is like one in which `...` stands for any text.
fn is_like(written: &str, line: &str) -> bool {
    match written.split_once("...") {
        None => written == line,
        Some((before, rest)) => line.strip_prefix(before).is_some_and(|line| {
            let mut ends = line.char_indices().map(|(at, _)| at).chain([line.len()]);
            ends.any(|at| is_like(rest, &line[at..]))
        }),
    }
}

fn is_aside(line: &str) -> bool {
    ASIDES.iter().any(|aside| is_like(aside, line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_commands_and_what_they_print() -> Result<()> {
        let script = "# What it is about.\n$ echo a &&\n> echo b\na\nb\n\n~$ date\n...\n$ true\n";
        let step = |line, command: &str, repeated, output: &[&str]| Step {
            line,
            command: command.to_owned(),
            repeated,
            output: output.iter().map(ToString::to_string).collect(),
        };
        assert_eq!(
            parse(script)?,
            [
                step(2, "echo a &&\necho b", false, &["a", "b"]),
                step(7, "date", true, &["..."]),
                step(9, "true", false, &[]),
            ]
        );
        parse("a\n$ b\n").expect_err("something is printed before a command");
        Ok(())
    }

    #[test]
    fn dots_stand_for_anything() {
        let fits = |written: &[&str], lines: &[&str]| {
            let written: Vec<_> = written.iter().map(ToString::to_string).collect();
            fits(&written, lines)
        };
        assert!(fits(&[], &[]) && !fits(&[], &["a"]) && !fits(&["a"], &[]));
        assert!(fits(&["..."], &[]) && fits(&["...", "b", "..."], &["a", "b", "c", "d"]));
        assert!(!fits(&["...", "b"], &["b", "c"]));
        assert!(fits(&["pod ... created"], &["pod \"x\" created"]) && !fits(&["pod ... x"], &["pod y"]));
        assert!(fits(&["...ö...b"], &["aöxb"]) && !fits(&["a...a"], &["a"]));
    }

    #[test]
    fn asides_are_no_output() {
        assert!(is_aside("Handling connection for 8080"));
        assert!(is_aside("bash: line 12: 345 Terminated              kubectl port-forward"));
        assert!(!is_aside("Hello World!"));
    }
}
