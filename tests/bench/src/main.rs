//! Measures what gadgetd costs, side by side with what it would be compared to, and prints tables in Markdown.
//!
//!     gadgetd-bench [--quick]
//!
//! `--quick` takes a tenth of the calls: enough to see that everything works.

mod bpf;
mod gadget_cost;
mod language_cost;
mod syscall_cost;
mod worker;

use std::{env, path::PathBuf};

use anyhow::{Result, bail};

/// How much time to spend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effort {
    Quick,
    Full,
}

impl Effort {
    /// How often each case is measured, in turn with the others.
    fn rounds(self) -> usize {
        match self {
            Self::Quick => 3,
            Self::Full => 9,
        }
    }

    /// How many times something is done, given how many times for a good measurement.
    fn scale(self, full: u64) -> u64 {
        match self {
            Self::Quick => full / 10,
            Self::Full => full,
        }
    }
}

fn main() -> Result<()> {
    let mut effort = Effort::Full;
    for argument in env::args().skip(1) {
        match argument.as_str() {
            "--quick" => effort = Effort::Quick,
            other => bail!("{other} is no option; there is only --quick"),
        }
    }
    println!("## What recording costs\n");
    println!("{}", syscall_cost::calls(effort)?);
    println!("{}", syscall_cost::command(effort)?);
    println!("## What a run of a gadget costs\n");
    println!("{}", gadget_cost::table(effort)?);
    println!("{}", language_cost::table(effort)?);
    Ok(())
}

/// `gadgetd` as it was built with this program, or as `GADGETD` says.
fn gadgetd() -> PathBuf {
    let beside = || env::current_exe().ok().map(|this| this.with_file_name("gadgetd"));
    env::var_os("GADGETD").map(PathBuf::from).or_else(beside).unwrap_or_else(|| "gadgetd".into())
}
