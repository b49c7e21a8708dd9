//! The reference of the contract, from `sdk/wit`: an example of this crate writes it, so that `cargo xtask` compiles no
//! parser of WIT before it does anything.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use gadgetd_artifacts::target_dir;

use super::Generated;
use crate::process::{cargo, run as run_command};

const REFERENCE: &str = "docs/reference/wit.md";

pub(super) fn files() -> Result<Vec<Generated>> {
    run_command(&mut cargo(["build", "--release", "--locked", "--workspace", "--example", "wit"]))?;
    let mut writer = Command::new(target_dir().join("release/examples/wit"));
    let output = writer.stderr(Stdio::inherit()).output().context("cannot run the example wit")?;
    ensure!(output.status.success(), "the example wit failed ({})", output.status);
    Ok(vec![Generated::new(REFERENCE, String::from_utf8(output.stdout)?)])
}
