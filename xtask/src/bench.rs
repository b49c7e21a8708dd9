//! `cargo xtask bench`

use anyhow::Result;

use crate::{
    build,
    process::{cargo, run as run_command},
};

/// Measures; the tables go to stdout.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    build::run()?;
    let mut bench = cargo(["run", "--release", "--locked", "--package", "gadgetd-bench", "--"]);
    run_command(bench.args(arguments))
}
