//! What gadgetd records of a program is what `strace -f` sees of it in the same run.
#![allow(missing_docs)] // A test.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use gadgetd_core::Abi;
use gadgetd_fidelity::gadgetd::{self, Profile};
use gadgetd_fidelity::process::Finished;
use gadgetd_fidelity::programs::{PROGRAMS, Program, UNKNOWN, Workloads};
use gadgetd_fidelity::strace::{self, Seen, Truth};
use gadgetd_fidelity::tier;
use libtest_mimic::Arguments;

/// What every profile allows, whether the program did it or not: it must be able to start and to end.
const ALWAYS: [&str; 3] = ["execve", "exit", "exit_group"];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let workloads = match Workloads::build() {
        Ok(workloads) => Arc::new(workloads),
        Err(error) => {
            eprintln!("cannot make the workloads: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let missing = |program: &Program| {
        tier::root().or_else(|| tier::installed("strace")).or_else(|| tier::runnable(program))
    };
    let mut tests = Vec::new();
    for program in PROGRAMS {
        let workloads = Arc::clone(&workloads);
        tests.push(tier::test(program.name.to_owned(), missing(program), move || {
            faithful(&workloads, program)
        }));
    }
    let at_hand = Arc::clone(&workloads);
    tests.push(tier::test(UNKNOWN.name.to_owned(), missing(&UNKNOWN), move || unknown_numbers(&at_hand)));
    tier::run(&arguments, tests)
}

/// One run, seen by both.
struct Run {
    finished: Finished,
    truth: Truth,
    profile: Profile,
}

fn record(workloads: &Workloads, program: &Program) -> Result<Run> {
    let scratch = tempfile::Builder::new().prefix("gadgetd-fidelity-").tempdir()?;
    let (trace, profile) = (scratch.path().join("trace"), scratch.path().join("profile.json"));
    let binary = gadgetd::binary()?;

    let mut before = vec![OsStr::new("strace")];
    before.extend(strace::OPTIONS.map(OsStr::new));
    before.extend(["-o".as_ref(), trace.as_os_str(), "--".as_ref(), binary.as_os_str()]);
    before.extend(["run", "seccomp", "--formatter", "oci", "--param", "phase=application"].map(OsStr::new));
    before.extend(["--param", "architectures=observed", "-o"].map(OsStr::new));
    before.extend([profile.as_os_str(), "--".as_ref()]);
    let words = program.words(workloads);
    let finished = gadgetd::on_the_machine(&before, &words)?;

    let trace = std::fs::read_to_string(&trace).with_context(|| format!("no trace: {finished:#?}"))?;
    let truth = strace::application(&trace, &words[0]).with_context(|| format!("{finished:#?}"))?;
    let profile = Profile::read(&profile).with_context(|| format!("{finished:#?}"))?;
    ensure!(
        program.is_done(&finished.stdout),
        "the program did not get to {:?}: {finished:#?}",
        program.says
    );
    for call in program.makes {
        ensure!(
            truth.calls.keys().any(|(_, name)| name == call),
            "strace did not see {call}, which {} is meant to make: {:?}",
            program.name,
            truth.calls
        );
    }
    Ok(Run { finished, truth, profile })
}

fn faithful(workloads: &Workloads, program: &Program) -> Result<()> {
    let Run { finished, truth, profile } = record(workloads, program)?;
    ensure!(finished.status.success(), "gadgetd did not report success: {finished:#?}");
    ensure!(truth.unknown.is_empty(), "numbers without a name: {:?}", truth.unknown);
    compare(&truth, &profile)
}

/// A call that nobody can name is not passed over: the recording is reported as incomplete.
fn unknown_numbers(workloads: &Workloads) -> Result<()> {
    let Run { finished, truth, profile } = record(workloads, &UNKNOWN)?;
    ensure!(truth.unknown == BTreeSet::from([9999]), "strace saw {:?}", truth.unknown);
    ensure!(finished.status.code() == Some(3), "an incomplete recording is exit code 3: {finished:#?}");
    ensure!(finished.stderr.contains("incomplete"), "gadgetd does not say that it is: {finished:#?}");
    compare(&truth, &profile)
}

/// Every difference is one of those that are explained here, or an error.
fn compare(truth: &Truth, profile: &Profile) -> Result<()> {
    let seen: BTreeSet<&str> = truth.calls.keys().map(|(_, name)| *name).collect();
    let recorded: BTreeSet<&str> = profile.names.iter().map(String::as_str).collect();

    // Rule 1: every profile has these.
    let extra: Vec<_> = recorded.difference(&seen).filter(|name| !ALWAYS.contains(name)).collect();
    // Rule 2: a call that only ever was the last of a task, which was killed in it, may not have come as far
    // as the tracepoint (see `Seen::NeverReturned`).
    let made = |name: &&str| {
        ALWAYS.contains(name)
            || truth.calls.iter().any(|((_, other), seen)| other == name && *seen == Seen::Made)
    };
    let missing: Vec<_> =
        seen.iter().chain(&ALWAYS).filter(|name| made(name) && !recorded.contains(**name)).collect();

    // By ABI: the profile has an architecture for each. Rule 3: the native one is always there, for the start.
    let mut abis: BTreeSet<Abi> =
        truth.calls.iter().filter(|(_, seen)| **seen == Seen::Made).map(|((abi, _), _)| *abi).collect();
    abis.insert(Abi::Native);
    let architectures: BTreeSet<String> = abis.into_iter().map(architecture).collect();

    if missing.is_empty() && extra.is_empty() && architectures == profile.architectures {
        return Ok(());
    }
    bail!(
        "missing {missing:?}, extra {extra:?}\narchitectures {:?}, expected {architectures:?}\nstrace {:?}",
        profile.architectures,
        truth.calls
    )
}

fn architecture(abi: Abi) -> String {
    let name = match (gadgetd_core::Machine::current(), abi) {
        (gadgetd_core::Machine::X86_64, Abi::Native) => "SCMP_ARCH_X86_64",
        (gadgetd_core::Machine::X86_64, Abi::Compat) => "SCMP_ARCH_X86",
        (gadgetd_core::Machine::X86_64, Abi::X32) => "SCMP_ARCH_X32",
        (gadgetd_core::Machine::Aarch64, Abi::Native) => "SCMP_ARCH_AARCH64",
        (gadgetd_core::Machine::Aarch64, _) => "SCMP_ARCH_ARM",
    };
    name.to_owned()
}
