//! `cargo xtask test`: the tiers, and what came of them.
//!
//! Everything is compiled by one call of cargo, with one set of features, and the test programs are then run tier by
//! tier: nothing compiles twice, and the time of a tier is the time of its tests.

pub(crate) mod outcome;
pub(crate) mod program;

use std::{
    fmt::Write as _,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result};
use gadgetd_artifacts::cache::kube;

pub(crate) use self::program::Tier;
use self::{
    outcome::{Outcome, Reader},
    program::{Program, compile},
};
use crate::{
    kube_assets,
    process::{cargo, show},
    runtimes, setup, vm,
};

/// Runs the tiers, the usual ones if none is named, and prints a table of what came of them.
pub(crate) fn run(tiers: &[Tier], kernel: Option<&str>) -> Result<()> {
    let tiers = if tiers.is_empty() { &Tier::USUAL } else { tiers };
    setup::ensure(setup::For::Test)?;
    if tiers.contains(&Tier::Node) {
        kube_assets::provide(kube::Tier::Node)?;
    } else if tiers.contains(&Tier::Api) {
        kube_assets::provide(kube::Tier::Api)?;
    }
    if tiers.contains(&Tier::Enforced) {
        runtimes::provide()?;
    }
    let programs = match compile(cargo(["build", "--release", "--locked", "--workspace", "--all-targets"])) {
        Ok(programs) => programs,
        Err(error) => {
            eprintln!("error: {error:#}");
            println!("{}", Outcome { failed: 1, ..Outcome::default() });
            std::process::exit(1);
        }
    };

    let mut total = Outcome::default();
    let mut table = String::new();
    for &tier in tiers {
        println!("\n==== {tier} ====");
        let start = Instant::now();
        let outcome = run_tier(tier, &programs, kernel)?;
        let Outcome { passed, failed, skipped } = outcome;
        let seconds = start.elapsed().as_secs_f64();
        writeln!(table, "{tier:10} {passed:>7} {failed:>7} {skipped:>8} {seconds:>9.1}")?;
        total += outcome;
    }
    println!(
        "\n{:10} {:>7} {:>7} {:>8} {:>9}\n{table}\n{total}",
        "tier", "passed", "failed", "skipped", "seconds"
    );
    // The line above is the last one that a reader wants to see.
    std::process::exit(i32::from(total.failed > 0));
}

fn run_tier(tier: Tier, programs: &[Program], kernel: Option<&str>) -> Result<Outcome> {
    if tier == Tier::Vm {
        return vm::run(programs, kernel);
    }
    let mut outcome = Outcome::default();
    for program in programs.iter().filter(|program| program.tier == tier) {
        let mut command = Command::new(&program.executable);
        command.arg("--show-output").current_dir(&program.folder).env("CARGO_MANIFEST_DIR", &program.folder);
        outcome += run_tests(&mut command)?;
    }
    if tier == Tier::Pure {
        let mut examples = cargo(["test", "--release", "--locked", "--workspace", "--doc", "--no-fail-fast"]);
        outcome += run_tests(&mut examples)?;
    }
    Ok(outcome)
}

/// Runs a test program, passes on what it prints, and counts.
fn run_tests(command: &mut Command) -> Result<Outcome> {
    let shown = show(command);
    println!("+ {shown}");
    let mut child =
        command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start `{shown}`"))?;
    let output = child.stdout.take().context("the tests have no stdout")?;
    let mut reader = Reader::default();
    for line in BufReader::new(output).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        if reader.read(&line) {
            println!("{line}");
        }
    }
    let status = child.wait()?;
    let mut outcome = reader.outcome();
    if !status.success() && outcome.failed == 0 {
        println!("`{shown}` ended early ({status})");
        outcome.failed = 1;
    }
    Ok(outcome)
}
