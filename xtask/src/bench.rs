//! `cargo xtask bench`

use std::process::Command;

use anyhow::Result;

use crate::{build, process::run as run_command, setup};

/// Measures; the tables go to stdout.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    // Also what modules in other languages are made with, and strace.
    setup::ensure(setup::For::Test)?;
    build::run()?;
    run_command(Command::new(build::program("gadgetd-bench")?).args(arguments))
}
