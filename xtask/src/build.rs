//! `cargo xtask build`

use std::{path::PathBuf, process::Command};

use anyhow::Result;
use gadgetd_artifacts::{cross::cross_build, target::Target, target_dir};

use crate::{
    process::{cargo, run as run_command},
    setup,
};

/// Builds gadgetd and, through its build scripts, all that it embeds, and the command line for clusters; returns
/// gadgetd.
pub(crate) fn run() -> Result<PathBuf> {
    setup::ensure(setup::For::Build)?;
    let gadgetd = program("gadgetd")?;
    let plugin = program("kubectl-gadget")?;
    eprintln!("gadgetd is {}", gadgetd.display());
    eprintln!("kubectl-gadget is {}; as `kubectl gadget` where it is on the PATH", plugin.display());
    Ok(gadgetd)
}

/// Builds for another system what cargo is told to, or else the programs.
pub(crate) fn cross(target: Target, what: &[String]) -> Result<()> {
    setup::ensure(setup::For::Cross)?;
    let mut build = cross_build(target)?;
    if what.is_empty() {
        build.arg("--release");
    }
    build.args(what);
    if !what.is_empty() {
        return run_command(&mut build);
    }
    for (program, file) in build_programs(build, target, "release")? {
        eprintln!("{program} for {target} is {}", file.display());
    }
    Ok(())
}

/// Builds the programs for another system: both for Linux, for others the command line alone. `build` names the profile,
/// `folder` is what cargo calls its folder.
pub(crate) fn build_programs(
    mut build: Command,
    target: Target,
    folder: &str,
) -> Result<Vec<(&'static str, PathBuf)>> {
    let programs: &[(&str, &str)] = match target.os() {
        "linux" => &[("gadgetd", "gadgetd"), ("gadgetd-cli", "kubectl-gadget")],
        _ => &[("gadgetd-cli", "kubectl-gadget")],
    };
    for (package, program) in programs {
        build.args(["--package", package, "--bin", program]);
    }
    run_command(&mut build)?;
    let folder = target_dir().join(target.triple()).join(folder);
    let file = |program: &str| folder.join(format!("{program}{}", target.suffix()));
    Ok(programs.iter().map(|(_, program)| (*program, file(program))).collect())
}

/// Builds a gadgetd for somebody who waits, and returns it: without the parts that work for clusters and registries, and
/// without optimization. It records and confines like any other, and compiles its gadgets slower.
pub(crate) fn quick() -> Result<PathBuf> {
    setup::ensure(setup::For::Build)?;
    let arguments = ["build", "--profile", "demo", "--locked", "--package", "gadgetd", "--bin", "gadgetd"];
    run_command(cargo(arguments).arg("--no-default-features"))?;
    Ok(target_dir().join("demo/gadgetd"))
}

/// Builds a program of the workspace and returns it.
///
/// What a dependency is compiled with depends on which packages are asked for. All of them, as for the tests, and nothing is
/// compiled twice.
pub(crate) fn program(name: &str) -> Result<PathBuf> {
    run_command(&mut cargo(["build", "--release", "--locked", "--workspace", "--bin", name]))?;
    Ok(target_dir().join("release").join(name))
}
