//! `gadgetd module keygen`: makes a pair of keys.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::Args;
use gadgetd_registry::PrivateKey;

use crate::note;

#[derive(Debug, Args)]
pub(crate) struct KeygenArgs {
    /// The prefix of the files: PREFIX.key for the private key, PREFIX.pub for the public key. Neither may exist.
    #[arg(value_name = "PREFIX")]
    pub prefix: PathBuf,
}

pub(crate) fn run(args: &KeygenArgs) -> Result<ExitCode> {
    let key = PrivateKey::generate();
    let (private, public) = key.write(&args.prefix)?;
    note(&format!(
        "key {}: keep {} to yourself, it is not encrypted; give {} to those who are to trust you",
        key.public().id(),
        private.display(),
        public.display()
    ));
    Ok(ExitCode::SUCCESS)
}
