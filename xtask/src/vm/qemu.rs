//! Boots a machine without hardware support, which works wherever this does, and reads its console.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

/// What a machine is made of.
pub(super) struct Machine<'a> {
    /// Debian's word: `amd64` or `arm64`.
    pub architecture: &'a str,
    /// The kernel's image.
    pub kernel: &'a Path,
    /// What it unpacks as its first file system.
    pub root: &'a Path,
    /// More parameters of the kernel.
    pub parameters: &'a str,
    /// MiB.
    pub memory: u32,
}

impl Machine<'_> {
    /// Runs it until it turns itself off, for at most so long; returns what it printed, line by line.
    pub(super) fn run(&self, limit: Duration) -> Result<Vec<String>> {
        let (program, model, console): (_, &[&str], _) = match self.architecture {
            // `pauth-impdef`: the architecture's own algorithm for signed pointers takes most of the time otherwise.
            "arm64" => {
                ("qemu-system-aarch64", &["-machine", "virt", "-cpu", "max,pauth-impdef=on"], "ttyAMA0")
            }
            _ => ("qemu-system-x86_64", &["-cpu", "max"], "ttyS0"),
        };
        let mut command = Command::new("timeout");
        command.arg(limit.as_secs().to_string()).arg(program).args(model);
        command.args(["-accel", "tcg,thread=multi", "-smp", "2", "-m", &self.memory.to_string()]);
        command.args(["-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot"]);
        command.arg("-kernel").arg(self.kernel).arg("-initrd").arg(self.root);
        // `panic=-1`: with `-no-reboot`, a panic ends the machine.
        let parameters = format!("console={console} quiet loglevel=3 panic=-1 {}", self.parameters);
        command.args(["-append", &parameters]);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().context("cannot start timeout")?;
        let console = BufReader::new(child.stdout.take().context("the machine has no console")?);
        let mut lines = Vec::new();
        for line in console.split(b'\n') {
            lines.push(String::from_utf8_lossy(&line?).trim_end_matches('\r').to_owned());
        }
        let status = child.wait()?;
        let end = lines[lines.len().saturating_sub(20)..].join("\n");
        ensure!(
            status.code() != Some(124),
            "the machine did not end within {limit:?}; it printed last:\n{end}"
        );
        ensure!(status.success(), "{program} ended with {status}; the machine printed last:\n{end}");
        Ok(lines)
    }
}
