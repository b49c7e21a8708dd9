//! `cargo xtask image`: the container image, as an archive.

use std::path::PathBuf;

use anyhow::Result;
use gadgetd_artifacts::target_dir;

use crate::build;

/// Arguments of `cargo xtask image`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The file to write; target/gadgetd.tar if none is named
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write what is in the image as a plain tar file, for a build that makes an image of it itself
    #[arg(long)]
    rootfs: bool,
}

/// Builds gadgetd and writes the archive, whose path goes to stdout.
pub(crate) fn run(args: &Args) -> Result<()> {
    let program = build::run()?;
    let to = args.output.clone().unwrap_or_else(|| target_dir().join("gadgetd.tar"));
    if args.rootfs {
        gadgetd_image::rootfs(&program, &to)?;
    } else {
        gadgetd_image::gadgetd(&program, &to)?;
        eprintln!("the image {} is in:", gadgetd_image::reference());
    }
    println!("{}", to.display());
    Ok(())
}
