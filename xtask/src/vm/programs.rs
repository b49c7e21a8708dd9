//! The programs that run in the machines, built for each architecture.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};
use gadgetd_artifacts::{cross::cross_build, target::Target, target_dir};

use crate::{
    process::run as run_command,
    test::program::{Program, compile},
};

/// Compiled programs, by architecture.
pub(super) struct Programs {
    all: Vec<(&'static str, String, PathBuf)>,
    /// The folder with what the tests record, for amd64.
    pub workloads: PathBuf,
}

impl Programs {
    /// Compiles what is not compiled for this machine already, and makes the workloads: the machines have no compiler.
    pub(super) fn build(native: &[Program], folder: &Path) -> Result<Self> {
        let mut build = cross_build(Target::LinuxArm64)?;
        build.args(["--release", "--package", "gadgetd-tracer", "--tests"]);
        let foreign = compile(build)?;
        let of = |architecture, programs: &[Program]| -> Vec<_> {
            let one = |program: &Program| (architecture, program.name.clone(), program.executable.clone());
            programs.iter().map(one).collect()
        };
        let mut all = of("amd64", native);
        all.extend(of("arm64", &foreign));
        all.push(("amd64", "gadgetd".to_owned(), target_dir().join("release/gadgetd")));
        let programs = Self { all, workloads: folder.join("workloads") };

        if programs.workloads.is_dir() {
            fs::remove_dir_all(&programs.workloads)?;
        }
        let mut make = Command::new(programs.find("amd64", "fidelity")?);
        make.arg("--list").env("GADGETD_WORKLOADS", &programs.workloads).stdout(Stdio::null());
        run_command(&mut make)?;
        Ok(programs)
    }

    /// The program of this name.
    pub(super) fn find(&self, architecture: &str, name: &str) -> Result<&Path> {
        // A test program of gadgetd's own has its name as well; the program itself comes last.
        let mut found = self.all.iter().rev();
        let found = found.find(|(of, called, _)| *of == architecture && called == name);
        Ok(&found.with_context(|| format!("{name} is not built for {architecture}"))?.2)
    }
}
