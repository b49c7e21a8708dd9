//! The reference of the contract, from `sdk/wit`: an example of this crate writes it, so that `cargo xtask` compiles no
//! parser of WIT before it does anything.

use std::process::Command;

use anyhow::Result;
use gadgetd_artifacts::target_dir;

use super::Generated;
use crate::process::{cargo, output, run as run_command};

const REFERENCE: &str = "docs/reference/wit.md";

pub(super) fn files() -> Result<Vec<Generated>> {
    run_command(&mut cargo(["build", "--release", "--locked", "--workspace", "--example", "wit"]))?;
    let reference = output(&mut Command::new(target_dir().join("release/examples/wit")))?;
    Ok(vec![Generated::new(REFERENCE, reference + "\n")])
}
