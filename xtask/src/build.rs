//! `cargo xtask build`

use std::path::PathBuf;

use anyhow::Result;
use gadgetd_artifacts::target_dir;

use crate::{
    process::{cargo, run as run_command},
    setup,
};

/// Builds gadgetd and, through its build scripts, all that it embeds; returns the program.
pub(crate) fn run() -> Result<PathBuf> {
    setup::ensure(setup::For::Build)?;
    run_command(&mut cargo(["build", "--release", "--locked", "--package", "gadgetd"]))?;
    let program = target_dir().join("release/gadgetd");
    eprintln!("gadgetd is {}", program.display());
    Ok(program)
}
