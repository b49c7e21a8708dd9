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

/// Runs the command in silence and says whether it succeeded.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

/// The command as one would type it.
pub(crate) fn show(command: &Command) -> String {
    let program = command.get_program().to_string_lossy();
    let name = program.rsplit('/').next().unwrap_or_default();
    let words = command.get_args().map(|word| word.to_string_lossy());
    let quoted =
        words.map(|word| if word.contains([' ', '"', '\n']) { format!("'{word}'") } else { word.into() });
    std::iter::once(name.to_owned()).chain(quoted).collect::<Vec<_>>().join(" ")
}

/// Whether we may install packages and load eBPF programs.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
