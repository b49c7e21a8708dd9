//! Running other programs.

use std::{
    env,
    ffi::OsStr,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use gadgetd_artifacts::workspace;

/// Cargo, in the root of the workspace, as we were called ourselves.
pub(crate) fn cargo<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace()).args(arguments);
    // What cargo says about the package that it runs, this one, is nothing to a build that is started from here. Some build
    // scripts look at it, and would run again whenever somebody calls cargo first in this way and then directly.
    let of_package = |name: &str| {
        let words = ["CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"];
        words.iter().any(|word| name.starts_with(word))
    };
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_str().is_some_and(of_package)) {
        command.env_remove(name);
    }
    command
}

/// Shows the command and runs it; anything but success is an error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = show(command);
    eprintln!("+ {shown}");
    let status = command.status().with_context(|| format!("cannot start `{shown}`"))?;
    ensure!(status.success(), "`{shown}` failed ({status})");
    Ok(())
}

/// What the command prints to its standard output, without the last line's end. If it fails, the error has the end of what
/// it said.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let shown = show(command);
    let output = command.output().with_context(|| format!("cannot start `{shown}`"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`{shown}` failed ({}): {}", output.status, end(&said, 10));
    Ok(String::from_utf8(output.stdout)
        .with_context(|| format!("`{shown}` prints no text"))?
        .trim_end()
        .to_owned())
}

/// The last lines of a text.
pub(crate) fn end(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// Runs the command in silence and says whether it succeeded.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

/// The command as one would type it. The configuration of apt is left out: it is the same for all that is asked of it.
pub(crate) fn show(command: &Command) -> String {
    let program = command.get_program().to_string_lossy();
    let name = program.rsplit('/').next().unwrap_or_default();
    let words = command.get_args().map(|word| word.to_string_lossy());
    let words = words.filter(|word| !(word.starts_with("-o") && word.contains("::")));
    let quoted =
        words.map(|word| if word.contains([' ', '"', '\n']) { format!("'{word}'") } else { word.into() });
    std::iter::once(name.to_owned()).chain(quoted).collect::<Vec<_>>().join(" ")
}

/// Whether we may install packages and load eBPF programs.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_fails_is_shown_with_what_it_said() {
        let error = output(Command::new("sh").args(["-c", "echo no such package >&2; exit 3"])).unwrap_err();
        let shown = error.to_string();
        assert!(shown.contains("sh -c") && shown.contains("no such package"), "{shown}");
    }
}
