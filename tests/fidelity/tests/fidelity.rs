//! What gadgetd records of a program is what `strace -f` sees of it in the same run: by eBPF as root, and by seccomp
//! notification as another user, also in a user namespace.
#![allow(missing_docs)] // A test.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, PoisonError, RwLock};

use anyhow::{Context, Result, bail, ensure};
use gadgetd_core::Abi;
use gadgetd_fidelity::gadgetd::{self, Profile};
use gadgetd_fidelity::process::Finished;
use gadgetd_fidelity::programs::{PROGRAMS, Program, UNKNOWN, Way, Workloads};
use gadgetd_fidelity::strace::{self, Seen, Truth};
use gadgetd_fidelity::tier;
use libtest_mimic::Arguments;

/// What every profile allows, whether the program did it or not (decision 007).
const ALWAYS: [&str; 10] = [
    "clock_getres",
    "clock_gettime",
    "execve",
    "exit",
    "exit_group",
    "getcpu",
    "gettimeofday",
    "restart_syscall",
    "rt_sigreturn",
    "time",
];

/// The same, for a program that made 32-bit calls.
const ALWAYS_COMPAT: &str = "sigreturn";

/// The user that records without root, if the tests are root's.
const USER: u32 = 65534;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let world = match World::prepare() {
        Ok(world) => Arc::new(world),
        Err(error) => {
            eprintln!("cannot prepare the tests: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let namespaces = tier::namespaces();
    let missing = |way, program: &Program| {
        let of_way = match way {
            Way::Ebpf => tier::root(),
            Way::User => None,
            Way::Namespace => namespaces.clone(),
        };
        of_way.or_else(|| tier::installed("strace")).or_else(|| tier::runnable(program))
    };
    let mut tests = Vec::new();
    for way in Way::ALL {
        let name = |program: &Program| format!("{}{}", way.prefix(), program.name);
        for program in PROGRAMS.iter().filter(|program| !program.fails.contains(&way)) {
            let world = Arc::clone(&world);
            tests.push(tier::test(name(program), missing(way, program), move || {
                faithful(&world, way, program)
            }));
        }
        let world = Arc::clone(&world);
        tests.push(tier::test(name(&UNKNOWN), missing(way, &UNKNOWN), move || unknown_numbers(&world, way)));
    }
    tier::run(&arguments, tests)
}

/// What all tests share.
struct World {
    workloads: Workloads,
    /// gadgetd, where any user can execute it.
    gadgetd: PathBuf,
}

impl World {
    fn prepare() -> Result<Self> {
        let workloads = Workloads::build()?;
        let gadgetd = workloads.path().join("gadgetd");
        fs::copy(gadgetd::binary()?, &gadgetd)?;
        Ok(Self { workloads, gadgetd })
    }
}

/// One run, seen by both.
struct Run {
    finished: Finished,
    truth: Truth,
    profile: Profile,
}

/// How often a program is run, if it fails and gadgetd says that this may be its own doing: a signal may interrupt any call
/// that waits to be answered (decision 020), and few programs expect that of `fork`, or of `close`. This is more frequent
/// while other programs run as well. So all attempts but the first run alone.
const ATTEMPTS: usize = 5;

/// When a program counts as hung, as a shell does that has not closed its end of a pipe.
const HUNG: [&str; 2] = ["--timeout", "60s"];

fn record(world: &World, way: Way, program: &Program) -> Result<Run> {
    static RUNNING: RwLock<()> = RwLock::new(());
    for left in (0..ATTEMPTS).rev() {
        let first = left + 1 == ATTEMPTS;
        let shared = first.then(|| RUNNING.read().unwrap_or_else(PoisonError::into_inner));
        let alone = (!first).then(|| RUNNING.write().unwrap_or_else(PoisonError::into_inner));
        let run = attempt(world, way, program)?;
        drop((shared, alone));
        if program.is_done(&run.finished.stdout) {
            return checked(run, program);
        }
        ensure!(
            left > 0 && run.finished.stderr.contains("signals interrupted"),
            "the program did not get to {:?}: {:#?}",
            program.says,
            run.finished
        );
    }
    unreachable!("the last attempt returns")
}

fn attempt(world: &World, way: Way, program: &Program) -> Result<Run> {
    let root = tier::root().is_none();
    let user = (root && way != Way::Ebpf).then_some(USER);
    let scratch = tempfile::Builder::new().prefix("gadgetd-fidelity-").tempdir()?;
    chown(scratch.path(), user, user)?;
    let (trace, profile) = (scratch.path().join("trace"), scratch.path().join("profile.json"));
    let (to_user, to_group) = (format!("--reuid={USER}"), format!("--regid={USER}"));

    let mut before: Vec<&OsStr> = Vec::new();
    if user.is_some() {
        before.extend(["setpriv", &to_user, &to_group, "--clear-groups", "--"].map(OsStr::new));
    }
    if way == Way::Namespace {
        before.extend(["unshare", "--user", "--map-root-user", "--"].map(OsStr::new));
    }
    before.push("strace".as_ref());
    before.extend(strace::OPTIONS.map(OsStr::new));
    before.extend(["-o".as_ref(), trace.as_os_str(), "--".as_ref(), world.gadgetd.as_os_str()]);
    before.extend(["run", "seccomp", "--formatter", "oci", "--param", "phase=application"].map(OsStr::new));
    before.extend(HUNG.map(OsStr::new));
    before.extend(["--param", "architectures=observed", "-o"].map(OsStr::new));
    // Without root `auto` has to find out by itself.
    let recorder = if way == Way::Ebpf { "ebpf" } else { "auto" };
    before.extend([profile.as_os_str(), "--recorder".as_ref(), recorder.as_ref(), "--".as_ref()]);
    let words = program.words(&world.workloads);
    let finished = gadgetd::on_the_machine_of(user, &before, &words)?;
    ensure!(
        finished.stderr.contains("seccomp notification") == (way != Way::Ebpf),
        "another recorder was used: {finished:#?}"
    );

    let trace = fs::read_to_string(&trace).with_context(|| format!("no trace: {finished:#?}"))?;
    let truth = strace::application(&trace, &words[0]).with_context(|| format!("{finished:#?}"))?;
    let profile = Profile::read(&profile).with_context(|| format!("{finished:#?}"))?;
    Ok(Run { finished, truth, profile })
}

/// A run in which the program did what it is there for.
fn checked(run: Run, program: &Program) -> Result<Run> {
    for call in program.makes {
        ensure!(
            run.truth.calls.keys().any(|(_, name)| name == call),
            "strace did not see {call}, which {} is meant to make: {:?}",
            program.name,
            run.truth.calls
        );
    }
    Ok(run)
}

fn faithful(world: &World, way: Way, program: &Program) -> Result<()> {
    let Run { finished, truth, profile } = record(world, way, program)?;
    ensure!(finished.status.success(), "gadgetd did not report success: {finished:#?}");
    ensure!(truth.unknown.is_empty(), "numbers without a name: {:?}", truth.unknown);
    compare(way, &truth, &profile)
}

/// A call that nobody can name is not passed over: the recording is reported as incomplete.
fn unknown_numbers(world: &World, way: Way) -> Result<()> {
    let Run { finished, truth, profile } = record(world, way, &UNKNOWN)?;
    ensure!(truth.unknown == BTreeSet::from([9999]), "strace saw {:?}", truth.unknown);
    ensure!(finished.status.code() == Some(3), "an incomplete recording is exit code 3: {finished:#?}");
    ensure!(finished.stderr.contains("incomplete"), "gadgetd does not say that it is: {finished:#?}");
    compare(way, &truth, &profile)
}

/// Every difference is one of those that are explained here, or an error.
fn compare(way: Way, truth: &Truth, profile: &Profile) -> Result<()> {
    let seen: BTreeSet<&str> = truth.calls.keys().map(|(_, name)| *name).collect();
    let recorded: BTreeSet<&str> = profile.names.iter().map(String::as_str).collect();

    // Rule 1: every profile has these.
    let compat = truth.calls.keys().any(|(abi, _)| *abi == Abi::Compat);
    let added = |name: &&&str| ALWAYS.contains(*name) || compat && **name == ALWAYS_COMPAT;
    let extra: Vec<_> = recorded.difference(&seen).filter(|name| !added(name)).collect();
    // Rule 2: a call that only ever was the last of a task, which was killed in it, may not have come as far
    // as the tracepoint (see `Seen::NeverReturned`), or as the filter (see `Seen::Interrupted`).
    let certain = if way == Way::Ebpf { Seen::Interrupted } else { Seen::Made };
    let made = |name: &&str| {
        ALWAYS.contains(name)
            || truth.calls.iter().any(|((_, other), seen)| other == name && *seen >= certain)
    };
    let missing: Vec<_> =
        seen.iter().chain(&ALWAYS).filter(|name| made(name) && !recorded.contains(**name)).collect();

    // By ABI: the profile has an architecture for each. Rule 3: the native one is always there, for the start.
    let mut abis: BTreeSet<Abi> =
        truth.calls.iter().filter(|(_, seen)| **seen >= certain).map(|((abi, _), _)| *abi).collect();
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
