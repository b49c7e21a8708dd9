//! The programs of a release: for each system, stripped, with their debug information apart.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use gadgetd_artifacts::{cross::cross_build, target::Target, toolchain::objcopy};

use crate::{build::build_programs, process::run as run_command};

/// The profile in the workspace's `Cargo.toml`.
const PROFILE: &str = "shipped";

/// The most that a program may have, in bytes.
const LIMITS: [(&str, u64); 2] = [("gadgetd", 40_000_000), ("kubectl-gadget", 12_000_000)];

/// A program for a system.
pub(super) struct Program {
    pub(super) name: &'static str,
    pub(super) target: Target,
    /// What is shipped.
    pub(super) stripped: PathBuf,
    /// What a debugger reads besides, and where backtraces have their names and lines from.
    pub(super) symbols: Option<PathBuf>,
}

impl Program {
    /// Whether this machine can run it.
    pub(super) fn runs_here(&self) -> bool {
        let here = match self.target {
            Target::LinuxAmd64 => "x86_64",
            Target::LinuxArm64 => "aarch64",
            Target::WindowsAmd64 => return false,
        };
        cfg!(target_os = "linux") && std::env::consts::ARCH == here
    }
}

/// Builds all of them.
pub(super) fn build(work: &Path) -> Result<Vec<Program>> {
    let mut all = Vec::new();
    for target in Target::ALL {
        let mut cargo = cross_build(target)?;
        cargo.args(["--profile", PROFILE]);
        for (name, built) in build_programs(cargo, target, PROFILE)? {
            all.push(split(name, target, &built, work)?);
        }
    }
    Ok(all)
}

/// Parts a program from its debug information.
fn split(name: &'static str, target: Target, built: &Path, work: &Path) -> Result<Program> {
    let (stripped, symbols) =
        (work.join(format!("{name}-{target}")), work.join(format!("{name}-{target}.debug")));
    let call = || objcopy().context("this Rust toolchain has no rust-objcopy: rustup update");
    run_command(call()?.arg("--strip-all").arg(built).arg(&stripped))?;
    // Windows has another form of it, which MinGW does not write.
    let apart = target.os() == "linux";
    if apart {
        run_command(call()?.arg("--only-keep-debug").arg(built).arg(&symbols))?;
    }
    Ok(Program { name, target, stripped, symbols: apart.then_some(symbols) })
}

/// Fails if a program has become too large.
pub(super) fn check_sizes(all: &[Program]) -> Result<()> {
    for program in all {
        let size = std::fs::metadata(&program.stripped)?.len();
        eprintln!("{:>10} KiB  {} for {}, stripped", size.div_ceil(1024), program.name, program.target);
        let limit =
            LIMITS.iter().find(|(name, _)| *name == program.name).map_or(u64::MAX, |(_, limit)| *limit);
        ensure!(size <= limit, "{} for {} has {size} bytes, more than {limit}", program.name, program.target);
    }
    Ok(())
}
