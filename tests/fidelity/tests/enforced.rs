//! A container that was recorded works under its profile, and is refused what it never did.
#![allow(missing_docs)] // A test.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use gadgetd_core::{Abi, Machine, Phases, Syscall};
use gadgetd_fidelity::container::{
    Container, HybridCgroups, INIT, Rootfs, Runtime, Settings, Shape, USER, WORKLOADS,
};
use gadgetd_fidelity::gadgetd::{self, Profile, Recorder};
use gadgetd_fidelity::process::Finished;
use gadgetd_fidelity::programs::{BARE, PROGRAMS, Program, Repeats, Workloads};
use gadgetd_fidelity::tier;
use libtest_mimic::Arguments;
use serde_json::{Value, json};

/// `EPERM`: what a refused call gets.
const REFUSED: i32 = 1;

/// A command that lives as long as its stdin.
const WAITS: [&str; 2] = ["cat", "-"];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    match World::prepare() {
        Ok(world) => run(&arguments, &Arc::new(world)),
        Err(error) => {
            eprintln!("cannot prepare the tests: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What all tests share.
struct World {
    workloads: Workloads,
    rootfs: Rootfs,
    _cgroups: Option<HybridCgroups>,
}

impl World {
    fn prepare() -> Result<Self> {
        let workloads = Workloads::build()?;
        let rootfs = Rootfs::build(workloads.path())?;
        // Without root the tests are skipped.
        let cgroups = if tier::root().is_none() { Some(HybridCgroups::prepare()?) } else { None };
        Ok(Self { workloads, rootfs, _cgroups: cgroups })
    }

    fn words(&self, command: &[&str]) -> Vec<String> {
        self.workloads.words(command, Path::new(WORKLOADS))
    }
}

fn run(arguments: &Arguments, world: &Arc<World>) -> ExitCode {
    let mut tests = Vec::new();
    for runtime in Runtime::all() {
        let missing = tier::root().or_else(|| runtime.missing());
        for settings in Settings::all(Shape::Plain) {
            for program in PROGRAMS {
                match program.repeats {
                    Repeats::AsAnyUser => {}
                    Repeats::AsRoot if settings.user == 0 => {}
                    Repeats::AsRoot | Repeats::OnTheMachine | Repeats::Never => continue,
                }
                let world = Arc::clone(world);
                tests.push(tier::test(
                    format!("{runtime}/{settings}/{}", program.name),
                    missing.clone().or_else(|| tier::runnable(program)),
                    move || holds(&world, runtime, settings, program),
                ));
            }
        }
        for settings in Settings::all(Shape::Plain) {
            let world = Arc::clone(world);
            tests.push(tier::test(format!("{runtime}/{settings}/refused"), missing.clone(), move || {
                holds_without_what_was_missing(&world, runtime, settings)
            }));
        }
        let confined = Arc::clone(world);
        tests.push(tier::test(format!("{runtime}/confine"), missing.clone(), move || {
            confine_answers_alike(&confined, runtime)
        }));
        for shape in [Shape::Plain, Shape::Writable, Shape::Powerless, Shape::Terminal, Shape::Init] {
            let init = if shape == Shape::Init { tier::installed(INIT) } else { None };
            for settings in Settings::all(shape) {
                let world = Arc::clone(world);
                tests.push(tier::test(
                    format!("{runtime}/{settings}/exec"),
                    missing.clone().or_else(|| init.clone()),
                    move || exec_holds(&world, runtime, settings),
                ));
            }
        }
    }
    for program in PROGRAMS.iter().filter(|program| program.repeats != Repeats::Never) {
        let world = Arc::clone(world);
        tests.push(tier::test(
            format!("confine/{}", program.name),
            tier::root().or_else(|| tier::runnable(program)),
            move || confine_holds(&world, program),
        ));
    }
    tier::run(arguments, tests)
}

/// The recorded container does under its profile what it did without, and no more.
fn holds(world: &World, runtime: Runtime, settings: Settings, program: &Program) -> Result<()> {
    let words = world.words(program.command);
    let (free, profile) = record(world, runtime, settings, &words, None)?;
    ensure!(
        free.stdout.lines().any(|line| line == program.says),
        "it does not work as a container: {free:#?}"
    );

    let confined = Container::new(&world.rootfs, runtime, settings)?.run(&words, Some(&profile.json))?;
    ensure!(
        (confined.status, &confined.stdout) == (free.status, &free.stdout),
        "without the profile {free:#?}\nunder it {confined:#?}\nprofile {:?}",
        profile.names
    );
    refuses(world, runtime, settings, &profile)
}

/// Recorded under a profile that answers a call with `ENOSYS`, as those of container engines do, a program goes on as well without the
/// call under the profile of its recording: glibc starts threads by `clone3`, and takes any other answer for a failure.
fn holds_without_what_was_missing(world: &World, runtime: Runtime, settings: Settings) -> Result<()> {
    let program = PROGRAMS.iter().find(|program| program.name == "python-threads");
    let program = program.context("no program has threads")?;
    let words = world.words(program.command);
    let engine = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
            {"names": ["ptrace"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1},
        ],
    });
    let (free, profile) = record(world, runtime, settings, &words, Some(&engine))?;
    ensure!(program.is_done(&free.stdout), "it does not work as a container: {free:#?}");
    ensure!(profile.missing.contains("clone3"), "clone3 was not seen: {profile:?}");
    let confined = Container::new(&world.rootfs, runtime, settings)?.run(&words, Some(&profile.json))?;
    ensure!(
        (confined.status, &confined.stdout) == (free.status, &free.stdout),
        "without the profile {free:#?}\nunder it {confined:#?}\nprofile {profile:?}"
    );
    refuses(world, runtime, settings, &profile)
}

/// `gadgetd confine --as` answers every call as the runtime does: those that the profile names, those that it does not, and
/// those that are newer than all that it names.
fn confine_answers_alike(world: &World, runtime: Runtime) -> Result<()> {
    /// getppid, sendfile, clone3, faccessat2, mseal, and numbers that no kernel has.
    const NUMBERS: [&str; 7] = ["110", "40", "435", "439", "462", "600", "1000"];
    let settings = Settings::all(Shape::Plain)[0];
    let bare = |number: &str| world.words(&[&format!("@{BARE}"), number]);
    let (_, recorded) = record(world, runtime, settings, &bare(NUMBERS[0]), None)?;
    let file = tempfile::NamedTempFile::new()?;
    let denying = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["sendfile"], "action": "SCMP_ACT_ERRNO"}],
    });
    let missing = json!({ "defaultErrnoRet": 38, "defaultAction": "SCMP_ACT_ERRNO", "syscalls": recorded.json["syscalls"] });
    for profile in [&recorded.json, &denying, &missing] {
        std::fs::write(file.path(), profile.to_string())?;
        let gadgetd = gadgetd::binary()?;
        for number in NUMBERS {
            let words = bare(number);
            let contained = Container::new(&world.rootfs, runtime, settings)?.run(&words, Some(profile))?;
            let mut confine = vec![gadgetd.as_os_str(), "confine".as_ref(), "--as".as_ref()];
            confine.extend([
                runtime.name().as_ref(),
                "--profile".as_ref(),
                file.path().as_os_str(),
                "--".as_ref(),
            ]);
            let words = world.workloads.words(&[&format!("@{BARE}"), number], world.workloads.path());
            let confined = gadgetd::on_the_machine(&confine, &words)?;
            ensure!(
                contained.status.code() == confined.status.code(),
                "call {number}\nin the container {contained:#?}\nconfined {confined:#?}\nprofile {profile}"
            );
        }
    }
    Ok(())
}

/// The same without a container: `gadgetd run`, then `gadgetd confine`.
fn confine_holds(world: &World, program: &Program) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("profile.json");
    let (gadgetd, file) = (gadgetd::binary()?, file.as_os_str());
    let gadgetd = gadgetd.as_os_str();
    let words = program.words(&world.workloads);

    let run = [gadgetd, "run".as_ref(), "seccomp".as_ref(), "-o".as_ref(), file, "--".as_ref()];
    let free = gadgetd::on_the_machine(&run, &words)?;
    ensure!(program.is_done(&free.stdout), "it does not work while it is recorded: {free:#?}");
    let profile = Profile::read(Path::new(file)).with_context(|| format!("{free:#?}"))?;

    let confine = [gadgetd, "confine".as_ref(), "--profile".as_ref(), file, "--".as_ref()];
    let confined = gadgetd::on_the_machine(&confine, &words)?;
    ensure!(
        confined.status.success() && confined.stdout == free.stdout,
        "without the profile {free:#?}\nunder it {confined:#?}\nprofile {:?}",
        profile.names
    );
    let (number, name) = never_made(&profile)?;
    let bare = world.workloads.words(&[&format!("@{BARE}"), &number.to_string()], world.workloads.path());
    let refused = gadgetd::on_the_machine(&confine, &bare)?;
    ensure!(refused.status.code() == Some(REFUSED), "{name} was not refused: {refused:#?}");
    Ok(())
}

fn record(
    world: &World,
    runtime: Runtime,
    settings: Settings,
    words: &[String],
    under: Option<&Value>,
) -> Result<(Finished, Profile)> {
    let container = Container::new(&world.rootfs, runtime, settings)?;
    let recorder = Recorder::start(&container.cgroup(), container.file("profile.json"))?;
    let free = container.run(words, under)?;
    let profile = recorder.finish().with_context(|| format!("the container: {free:#?}"))?;
    Ok((free, profile))
}

/// A call that is not in the profile is refused to a program that may otherwise run.
fn refuses(world: &World, runtime: Runtime, settings: Settings, profile: &Profile) -> Result<()> {
    let (number, name) = never_made(profile)?;
    let words = world.words(&[&format!("@{BARE}"), &number.to_string()]);
    let run = |seccomp| Container::new(&world.rootfs, runtime, settings)?.run(&words, seccomp);
    let free = run(None)?;
    ensure!(free.status.code() != Some(REFUSED), "{name} can't be told from a refused call: {free:#?}");
    let confined = run(Some(&profile.json))?;
    ensure!(confined.status.code() == Some(REFUSED), "{name} was not refused: {confined:#?}");
    Ok(())
}

/// Number and name of a call that the profile does not allow, and that does nothing when it gets zeros.
fn never_made(profile: &Profile) -> Result<(u32, &'static str)> {
    const HARMLESS: [&str; 5] = ["mq_unlink", "inotify_rm_watch", "mlock2", "truncate", "flock"];
    let named = |number| {
        let call = Syscall { abi: Abi::Native, number, phases: Phases::APPLICATION };
        Some((number, call.name(Machine::current())?))
    };
    (0..500)
        .filter_map(named)
        .find(|(_, name)| HARMLESS.contains(name) && !profile.names.contains(*name))
        .context("the profile allows every call that could be refused here")
}

/// A container starts under its profile, and what `exec` brings into it, as either user, is recorded and works; a call
/// that was never made is refused to both.
fn exec_holds(world: &World, runtime: Runtime, settings: Settings) -> Result<()> {
    const USERS: [u32; 2] = [0, USER];
    let words = world.words(&WAITS);
    let visit = |container: &Container<'_>, user| {
        let folder = format!("/tmp/visited-{user}");
        let script = format!("umask 077; mkdir {folder} && ls -d {folder}");
        let said = container.exec(user, &world.words(&["sh", "-c", &script]))?;
        // On a terminal crun sometimes writes an empty message of its own before.
        let done = match settings.shape {
            Shape::Terminal => said.stdout.contains(&folder),
            _ => said.stdout == format!("{folder}\n"),
        };
        ensure!(done && said.status.success(), "exec as {user} does not work: {said:#?}");
        Ok(())
    };

    let container = Container::new(&world.rootfs, runtime, settings)?;
    let recorder = Recorder::start(&container.cgroup(), container.file("profile.json"))?;
    let running = container.start(&words, None)?;
    USERS.into_iter().try_for_each(|user| visit(&container, user))?;
    container.end(running)?;
    let profile = recorder.finish()?;
    ensure!(
        ["mkdir", "umask"].iter().all(|call| profile.names.contains(*call)),
        "the calls of exec are not in the profile: {:?}",
        profile.names
    );

    let names = || format!("under the profile {:?}", profile.names);
    let container = Container::new(&world.rootfs, runtime, settings)?;
    let running = container.start(&words, Some(&profile.json)).with_context(names)?;
    let (number, name) = never_made(&profile)?;
    let bare = world.words(&[&format!("@{BARE}"), &number.to_string()]);
    for user in USERS {
        visit(&container, user).with_context(names)?;
        let refused = container.exec(user, &bare)?;
        ensure!(refused.status.code() == Some(REFUSED), "{name} was not refused to exec: {refused:#?}");
    }
    container.end(running).with_context(names)?;
    refuses(world, runtime, settings, &profile)
}
