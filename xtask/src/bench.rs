//! `cargo xtask bench`

use std::process::Command;

use anyhow::Result;

use crate::{build, process::run as run_command};

/// Measures; the tables go to stdout.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    build::run()?;
    run_command(Command::new(build::program("gadgetd-bench")?).args(arguments))
}
