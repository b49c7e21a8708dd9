//! What is recorded outlives the process that began to: some are really killed, and others go on. Needs root.
#![allow(unsafe_code, reason = "forks children that make exactly the calls they are told to")]

#[path = "support/recorder.rs"]
mod recorder;
mod support;

use std::{
    collections::BTreeSet,
    env,
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use aya::{
    Pod,
    maps::{Array, HashMap, Map, MapData, Queue},
    programs::{
        links::{FdLink, PinnedLink},
        loaded_links,
    },
};
use gadgetd_core::{CgroupEvent, CgroupId, CgroupSource, Entry, Loss, NewCgroups, SyscallSource};
use gadgetd_ebpf_common::{Owner, flag};
use gadgetd_tracer::{LoadError, PinsError, Tracer, TracerError};
use libtest_mimic::{Arguments, Trial};
use recorder::{BpfFs, Recorder, chain, options};
use support::{Cgroup, Child, Exclusive, Loader, application, call, load_with, runtime, set};

/// Room for what else on this machine makes cgroups.
const SLOTS: u32 = 1_024;

fn main() -> ExitCode {
    if recorder::was_one() {
        return ExitCode::SUCCESS;
    }
    macro_rules! trials {
        ($($test:ident),* $(,)?) => { [$((stringify!($test), $test as fn())),*] };
    }
    let all = trials![
        a_recording_goes_on_while_nobody_runs,
        a_runtime_is_known_for_one_afterwards,
        nothing_is_left_of_what_is_idle,
        losses_are_counted_on,
        what_was_half_done_is_mended,
        it_can_be_killed_at_any_moment,
        one_at_a_time,
        what_another_version_recorded_is_removed,
        what_was_not_pinned_to_the_end_is_removed,
        what_cannot_be_read_is_said,
        where_nothing_can_be_pinned_it_says_what_to_do,
    ];
    let root = rustix::process::geteuid().is_root();
    let skip = !root && env::var("CI").as_deref() != Ok("true");
    if skip {
        eprintln!("SKIPPED: recording needs root; run `sudo -E cargo test --release -p gadgetd-tracer`");
    }
    let trials = all.map(|(name, test)| {
        let run = move || {
            if !root {
                return Err("recording needs root".into());
            }
            test();
            Ok(())
        };
        Trial::test(name, run).with_ignored_flag(skip)
    });
    // Those that wait for new cgroups would see each other's.
    let arguments = Arguments { test_threads: Some(1), ..Arguments::from_args() };
    libtest_mimic::run(&arguments, trials.into()).exit_code()
}

/// A tracer of this process.
fn load(bpffs: &BpfFs, slots: u32) -> Exclusive {
    load_with(&options(&bpffs.folder(), slots))
}

fn refusal(folder: &Path) -> LoadError {
    Tracer::load(&options(folder, SLOTS)).err().expect("refused")
}

/// What is in a folder, by name.
fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).expect("a folder").flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// The folder with everything that is pinned.
fn pinned(bpffs: &BpfFs) -> PathBuf {
    let names: Vec<_> = names(&bpffs.folder()).into_iter().filter(|n| n.starts_with("recorder-")).collect();
    let [name] = &names[..] else { panic!("{names:?}") };
    bpffs.folder().join(name)
}

/// The kernel's numbers of the links that are pinned in a folder.
fn links(folder: &Path) -> BTreeSet<u32> {
    let links = names(folder).into_iter().filter(|name| name.starts_with("link-"));
    links
        .map(|name| {
            let link = PinnedLink::from_pin(folder.join(name)).expect("a link");
            FdLink::from(link).info().expect("readable").id()
        })
        .collect()
}

/// Waits until none of these links is in the kernel: it takes some away only when no CPU can be using them.
fn until_gone(links: &BTreeSet<u32>) {
    assert_ne!(links.len(), 0);
    let deadline = Instant::now() + Duration::from_mins(1);
    while loaded_links().flatten().any(|link| links.contains(&link.id())) {
        assert!(Instant::now() < deadline, "programs stay attached");
        thread::yield_now();
    }
}

/// Ends everything that is recorded.
fn release_all(tracer: &mut Tracer) {
    tracer.enrol_new(NewCgroups::None).expect("attached");
    for enrolled in tracer.enrolled().expect("readable") {
        tracer.release(enrolled.cgroup).expect("enrolled");
    }
    assert!(!tracer.is_attached());
}

fn calls_of(tracer: &Tracer, cgroup: CgroupId) -> BTreeSet<&'static str> {
    application(&tracer.read(cgroup).expect("enrolled"))
}

fn a_recording_goes_on_while_nobody_runs() {
    let bpffs = BpfFs::mount();
    let mut process = Recorder::start(&bpffs.folder(), SLOTS);
    let cgroup = Cgroup::new();
    process.does(&format!("enrol {}", cgroup.id().0));
    process.does("new on");
    let child = Child::into(&cgroup, || {
        for number in [libc::SYS_getuid, libc::SYS_getgid, libc::SYS_getsid] {
            call(number);
            support::wait_for_parent();
        }
    });
    child.until_it_waits();
    process.killed();

    // Nobody runs: one that is recorded goes on, another one comes and goes.
    child.go_on();
    child.until_it_waits();
    let short = Cgroup::new();
    let (gone, path) = (short.id(), short.path().to_owned());
    Child::into(&short, || support::exec(c"/bin/true")).succeeds();
    drop(short);

    let links = links(&pinned(&bpffs));
    let mut tracer = load(&bpffs, SLOTS);
    assert!(tracer.is_attached());
    assert!(tracer.events().expect("readable").contains(&CgroupEvent::Missed), "nobody has looked");
    let enrolled = tracer.enrolled().expect("readable");
    let of = |id| enrolled.iter().find(|e| e.cgroup == id).expect("enrolled");
    assert!(!of(cgroup.id()).from_start && of(gone).from_start);
    assert!(path.ends_with(of(gone).path.as_ref().expect("kept").trim_start_matches('/')));
    let recorded = tracer.read(gone).expect("enrolled");
    assert!(application(&recorded).contains("exit_group"), "{recorded:?}");
    assert!(recorded.completeness.from_start && recorded.completeness.is_complete(), "{recorded:?}");
    let so_far = set(["getuid", "getgid", "write", "read"]);
    assert_eq!(calls_of(&tracer, cgroup.id()), so_far);

    // And on.
    child.go_on();
    child.until_it_waits();
    assert_eq!(calls_of(&tracer, cgroup.id()), &so_far | &set(["getsid"]));
    assert_eq!(tracer.told_of([cgroup.id()]), []);
    child.go_on();
    child.succeeds();
    tracer.until_told(&[CgroupEvent::Ended(cgroup.id())]);
    let later = Cgroup::new();
    tracer.until_told(&[CgroupEvent::Opened(later.id())]);
    release_all(&mut tracer);
    assert_eq!(names(&bpffs.folder()), BTreeSet::new());
    until_gone(&links);

    // What was taken over begins anew, too.
    tracer.enrol(later.id(), Entry::Application).expect("a cgroup that exists");
    Child::into(&later, || call(libc::SYS_getuid)).succeeds();
    drop(tracer);
    Child::into(&later, || call(libc::SYS_getgid)).succeeds();
    let mut tracer = load(&bpffs, SLOTS);
    assert_eq!(calls_of(&tracer, later.id()), set(["getuid", "getgid", "exit_group"]));
    release_all(&mut tracer);
}

fn a_runtime_is_known_for_one_afterwards() {
    let bpffs = BpfFs::mount();
    let mut process = Recorder::start(&bpffs.folder(), SLOTS);
    let cgroup = Cgroup::new();
    process.does(&format!("enrol-runtime {}", cgroup.id().0));
    let child = Child::into(&cgroup, || {
        support::chroot();
        support::wait_for_parent();
        support::load_filter(Loader::Prctl);
        call(libc::SYS_getgid);
        support::wait_for_parent();
        support::exec(c"/bin/true");
    });
    child.until_it_waits();
    process.killed();
    child.go_on();
    child.until_it_waits();
    let tracer = load(&bpffs, SLOTS);
    child.go_on();
    child.succeeds();
    let recorded = tracer.read(cgroup.id()).expect("enrolled");
    assert_eq!(runtime(&recorded), set(["getgid", "write", "read", "execve"]));
    let calls = application(&recorded);
    assert!(calls.contains("exit_group") && !calls.contains("getgid"), "{calls:?}");
}

fn nothing_is_left_of_what_is_idle() {
    let bpffs = BpfFs::mount();
    let mut process = Recorder::start(&bpffs.folder(), SLOTS);
    assert_eq!(names(&bpffs.folder()), BTreeSet::new(), "loaded");
    let cgroup = Cgroup::new();
    process.does(&format!("enrol {}", cgroup.id().0));
    let links = links(&pinned(&bpffs));
    process.does(&format!("release {}", cgroup.id().0));
    assert_eq!(names(&bpffs.folder()), BTreeSet::new(), "released");
    until_gone(&links);
    process.does("new on");
    assert_eq!(names(&bpffs.folder()).len(), 1, "waiting for new ones");
    process.killed();
    let mut tracer = load(&bpffs, SLOTS);
    assert!(tracer.is_attached());
    release_all(&mut tracer);
    assert_eq!(names(&bpffs.folder()), BTreeSet::new(), "no longer");
}

fn losses_are_counted_on() {
    let bpffs = BpfFs::mount();
    let mut process = Recorder::start(&bpffs.folder(), 1);
    let cgroup = Cgroup::new();
    process.does(&format!("enrol {}", cgroup.id().0));
    process.does("new on");
    let lost = || {
        drop(Cgroup::new());
        Child::into(&cgroup, || call(5_000)).succeeds();
    };
    lost();
    process.killed();
    lost();
    let mut tracer = load(&bpffs, 1);
    lost();
    let losses = tracer.read(cgroup.id()).expect("enrolled").completeness.losses;
    let [Loss::UnknownNumbers(3), Loss::SlotsExhausted(slots)] = losses[..] else { panic!("{losses:?}") };
    assert!(slots >= 3, "{slots}");
    release_all(&mut tracer);
}

/// The shared layout, as a value of a map.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Shared(Owner);

// SAFETY: a `repr(C)` structure of integers without padding.
unsafe impl Pod for Shared {}

fn map(folder: &Path, name: &str) -> Map {
    Map::from_map_data(MapData::from_pin(folder.join(format!("map-{name}"))).expect("a map")).expect("known")
}

fn what_was_half_done_is_mended() {
    const FEW: u32 = 4;
    let bpffs = BpfFs::mount();
    let mut process = Recorder::start(&bpffs.folder(), FEW);
    let (opened, closed) = (Cgroup::new(), Cgroup::new());
    let below = [opened.below("below"), closed.below("below")];
    for cgroup in [&opened, &closed] {
        process.does(&format!("enrol {}", cgroup.id().0));
    }
    process.killed();

    // As if it had been killed while it opened one slot, gave another back, and had just taken a third.
    let folder = pinned(&bpffs);
    let mut cgroups: HashMap<_, u64, u32> = map(&folder, "CGROUPS").try_into().expect("its type");
    let mut owners: Array<_, Shared> = map(&folder, "OWNERS").try_into().expect("its type");
    let mut free: Queue<_, u32> = map(&folder, "FREE").try_into().expect("its type");
    let slot = cgroups.get(&opened.id().0, 0).expect("enrolled");
    let mut owner = owners.get(&slot, 0).expect("in range");
    owner.0.flags |= flag::TYING;
    owners.set(slot, owner, 0).expect("in range");
    cgroups.remove(&below[0].id().0).expect("tied");
    cgroups.remove(&closed.id().0).expect("enrolled");
    free.pop(0).expect("a free one");

    let mut tracer = load(&bpffs, FEW);
    Child::into(&below[0], || call(libc::SYS_getuid)).succeeds();
    Child::into(&below[1], || call(libc::SYS_getgid)).succeeds();
    assert_eq!(calls_of(&tracer, opened.id()), set(["getuid", "exit_group"]));
    every_slot_is_free_but_one(&mut tracer, FEW);
    release_all(&mut tracer);
}

/// Takes every slot, and sees that each is empty and nobody else's.
fn every_slot_is_free_but_one(tracer: &mut Tracer, slots: u32) {
    let cgroups: Vec<_> = (0..slots).map(|_| Cgroup::new()).collect();
    let (more, fit) = cgroups.split_last().expect("some");
    for cgroup in fit {
        tracer.enrol(cgroup.id(), Entry::Application).expect("a slot");
    }
    let refused = tracer.enrol(more.id(), Entry::Application);
    assert!(matches!(refused, Err(TracerError::SlotsExhausted(_))), "{refused:?}");
    let numbers = [libc::SYS_getuid, libc::SYS_getgid, libc::SYS_getsid];
    let names = ["getuid", "getgid", "getsid"];
    for (cgroup, number) in fit.iter().zip(numbers) {
        Child::into(cgroup, || call(number)).succeeds();
    }
    for (cgroup, name) in fit.iter().zip(names) {
        let recorded = tracer.read(cgroup.id()).expect("enrolled");
        assert_eq!(application(&recorded), set([name, "exit_group"]));
        assert!(recorded.completeness.is_complete(), "{recorded:?}");
    }
}

fn it_can_be_killed_at_any_moment() {
    const FEW: u32 = 4;
    let cgroups = [Cgroup::new(), Cgroup::new()];
    let below = cgroups[0].below("below");
    let bpffs = BpfFs::mount();
    for round in 0..24 {
        let mut process = Recorder::start(&bpffs.folder(), FEW);
        process.is_told(&format!("churn {} {}", cgroups[0].id().0, cgroups[1].id().0));
        for _ in 0..round {
            process.is_fine();
        }
        process.killed();
        let mut tracer = load(&bpffs, FEW);
        // One is kept, if it was: what is below belongs to it.
        let enrolled: BTreeSet<_> = tracer.enrolled().expect("readable").iter().map(|e| e.cgroup).collect();
        assert_eq!(tracer.is_attached(), !enrolled.is_empty());
        if enrolled.contains(&cgroups[1].id()) {
            tracer.release(cgroups[1].id()).expect("enrolled");
        }
        tracer.enrol(cgroups[0].id(), Entry::Application).expect("a slot");
        Child::into(&below, || call(libc::SYS_getppid)).succeeds();
        let calls = calls_of(&tracer, cgroups[0].id());
        assert_eq!(calls, set(["getppid", "exit_group"]), "round {round}, {enrolled:?}");
        every_slot_is_free_but_one(&mut tracer, FEW);
        release_all(&mut tracer);
        assert_eq!(names(&bpffs.folder()), BTreeSet::new());
    }
}

fn one_at_a_time() {
    let bpffs = BpfFs::mount();
    let mut process = Recorder::start(&bpffs.folder(), SLOTS);
    let cgroup = Cgroup::new();
    process.does(&format!("enrol {}", cgroup.id().0));
    let error = refusal(&bpffs.folder());
    assert!(matches!(error, LoadError::Pins(PinsError::InUse { .. })), "{error:?}");
    assert!(error.to_string().contains("another gadgetd that runs on this machine"), "{error}");
    // With another folder it can.
    let other = bpffs.path().join("other");
    drop(load_with(&options(&other, SLOTS)));
    // Nothing was touched.
    Child::into(&cgroup, || call(libc::SYS_getuid)).succeeds();
    process.killed();
    let tracer = load(&bpffs, SLOTS);
    assert_eq!(calls_of(&tracer, cgroup.id()), set(["getuid", "exit_group"]));
    let error = refusal(&bpffs.folder());
    assert!(matches!(error, LoadError::Pins(PinsError::InUse { .. })), "in one process, too: {error:?}");
}

fn what_another_version_recorded_is_removed() {
    let bpffs = BpfFs::mount();
    let cgroup = Cgroup::new();
    let another_object = |folder: PathBuf| {
        let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
        let parts: Vec<_> = name.split('-').collect();
        let ["recorder", format, digest, slots] = parts[..] else { panic!("{name}") };
        assert!(digest.len() == 16 && slots == SLOTS.to_string(), "{name}");
        let renamed = folder.with_file_name(format!("recorder-{format}-0123456789abcdef-{slots}"));
        fs::rename(&folder, &renamed).expect("renamed");
        renamed
    };
    for (slots, change) in [(SLOTS, Some(another_object)), (SLOTS / 2, None)] {
        let mut process = Recorder::start(&bpffs.folder(), SLOTS);
        process.does(&format!("enrol {}", cgroup.id().0));
        process.killed();
        let folder = pinned(&bpffs);
        let folder = change.map_or(folder.clone(), |change| change(folder));
        let links = links(&folder);
        // Somebody else's.
        fs::create_dir_all(bpffs.folder().join("else")).expect("made");
        let mut tracer = load(&bpffs, slots);
        assert!(!tracer.is_attached() && tracer.enrolled().expect("readable").is_empty());
        assert_eq!(names(&bpffs.folder()), ["else".to_owned()].into());
        until_gone(&links);
        tracer.enrol(cgroup.id(), Entry::Application).expect("a cgroup that exists");
        assert!(tracer.events().expect("readable").is_empty(), "it knows everything");
        release_all(&mut tracer);
    }
}

fn what_was_not_pinned_to_the_end_is_removed() {
    let bpffs = BpfFs::mount();
    let cgroup = Cgroup::new();
    for name in ["recorder-new", "recorder-old"] {
        let mut process = Recorder::start(&bpffs.folder(), SLOTS);
        process.does(&format!("enrol {}", cgroup.id().0));
        process.killed();
        let folder = bpffs.folder().join(name);
        fs::rename(pinned(&bpffs), &folder).expect("renamed");
        let links = links(&folder);
        let tracer = load(&bpffs, SLOTS);
        assert!(!tracer.is_attached());
        assert_eq!(names(&bpffs.folder()), BTreeSet::new());
        until_gone(&links);
    }
}

fn what_cannot_be_read_is_said() {
    let bpffs = BpfFs::mount();
    let mut process = Recorder::start(&bpffs.folder(), SLOTS);
    let cgroup = Cgroup::new();
    process.does(&format!("enrol {}", cgroup.id().0));
    process.killed();
    let folder = pinned(&bpffs);
    fs::remove_file(folder.join("map-SLOTS")).expect("pinned");
    let error = refusal(&bpffs.folder());
    assert!(matches!(error, LoadError::Pins(PinsError::Unreadable { .. })), "{error:?}");
    let text = chain(&error);
    for part in ["map-SLOTS", &format!("remove {}", folder.display()), "No such file"] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    fs::remove_dir_all(&folder).expect("it is as the text says");
    let mut tracer = load(&bpffs, SLOTS);
    tracer.enrol(cgroup.id(), Entry::Application).expect("a cgroup that exists");
    release_all(&mut tracer);
}

fn where_nothing_can_be_pinned_it_says_what_to_do() {
    let elsewhere = tempfile::tempdir().expect("a folder");
    let folder = elsewhere.path().join("deep/gadgetd");
    let error = refusal(&folder);
    assert!(matches!(error, LoadError::Pins(PinsError::NoBpfFileSystem { .. })), "{error:?}");
    let text = error.to_string();
    assert!(text.starts_with(&format!("{} is not on a bpf file system", folder.display())), "{text}");
    assert!(text.contains("`mount -t bpf bpf /sys/fs/bpf`"), "{text}");
    assert_eq!(names(elsewhere.path()), BTreeSet::new(), "nothing is made");

    let bpffs = BpfFs::mount();
    let folder = bpffs.folder();
    fs::create_dir(&folder).expect("made");
    fs::set_permissions(&folder, Permissions::from_mode(0o777)).expect("changed");
    let error = refusal(&folder);
    assert!(matches!(error, LoadError::Pins(PinsError::Unsafe { .. })), "{error:?}");
    fs::set_permissions(&folder, Permissions::from_mode(0o755)).expect("changed");
    std::os::unix::fs::chown(&folder, Some(65_534), None).expect("changed");
    let error = refusal(&folder);
    assert!(matches!(error, LoadError::Pins(PinsError::Unsafe { .. })), "{error:?}");
    std::os::unix::fs::chown(&folder, Some(0), None).expect("changed");
    drop(load(&bpffs, SLOTS));
}
