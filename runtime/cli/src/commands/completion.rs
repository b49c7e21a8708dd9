//! `completion` and `man`: what shells and `man` want to know of this command.

use std::{io, path::Path, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::CommandFactory as _;
use clap_complete::{Shell, generate};

use crate::cli::Cli;

pub(crate) fn completion(shell: Shell) -> Result<ExitCode> {
    let mut script = Vec::new();
    generate(shell, &mut Cli::command(), "kubectl-gadget", &mut script);
    let script = String::from_utf8(script).context("the script is no text")?;
    // clap has two spellings of a name with a hyphen in the script for bash, and would find no subcommand.
    crate::output::to_stdout(&script.replace("kubectl__subcmd__gadget", "kubectl__gadget"))?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn man(folder: &Path) -> Result<ExitCode> {
    let write = || -> io::Result<()> {
        if !folder.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        clap_mangen::generate_to(Cli::command(), folder)
    };
    write().with_context(|| format!("cannot write man pages into {}", folder.display()))?;
    Ok(ExitCode::SUCCESS)
}
