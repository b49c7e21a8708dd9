//! Tests that need something from the machine, and say so where it isn't there.

use std::process::ExitCode;

use anyhow::Result;
use libtest_mimic::{Arguments, Trial};

use crate::programs::{self, Program};

/// Something that a test needs and the machine does not have; the text also says how to get it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing(String);

/// Being root.
pub fn root() -> Option<Missing> {
    let root = rustix::process::geteuid().is_root();
    (!root).then(|| {
        Missing("it records system calls, which needs root: run it as `sudo cargo test …`".to_owned())
    })
}

/// User namespaces, for other users than root too.
pub fn namespaces() -> Option<Missing> {
    let made = std::process::Command::new("unshare").args(["--user", "--map-root-user", "true"]).output();
    (!made.is_ok_and(|made| made.status.success())).then(|| {
        Missing(
            "it needs user namespaces: `sysctl user.max_user_namespaces=10000`, or what the distribution forbids them with"
                .to_owned(),
        )
    })
}

/// An installed program.
pub fn installed(program: &str) -> Option<Missing> {
    programs::find(program)
        .is_none()
        .then(|| Missing(format!("{program} is not installed: `cargo xtask setup` installs it")))
}

/// The first thing that a program needs and that is not there.
pub fn runnable(program: &Program) -> Option<Missing> {
    let command = program.command.first().filter(|word| !word.starts_with('@'));
    command.into_iter().chain(program.needs).find_map(|name| installed(name))
}

/// A test that runs if nothing is missing. Otherwise it is skipped, with the reason on stderr; with `CI=true`,
/// and when it is asked for by `--ignored`, it fails.
pub fn test(
    name: String,
    missing: Option<Missing>,
    run: impl FnOnce() -> Result<()> + Send + 'static,
) -> Trial {
    let Some(Missing(reason)) = missing else {
        return Trial::test(name, move || run().map_err(|error| format!("{error:#}").into()));
    };
    let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    eprintln!("SKIPPED {name}: {reason}");
    Trial::test(name, move || Err(reason.into())).with_ignored_flag(!ci)
}

/// Runs the tests and reports on them as `cargo test` does.
pub fn run(arguments: &Arguments, tests: Vec<Trial>) -> ExitCode {
    libtest_mimic::run(arguments, tests).exit_code()
}
