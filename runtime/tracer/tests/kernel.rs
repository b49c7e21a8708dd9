//! The real program in the real kernel: what is recorded, and where. Needs root.
#![allow(unsafe_code, reason = "forks children that make exactly the calls they are told to")]

mod support;

use std::{fs, os::unix::fs::MetadataExt};

use gadgetd_core::{
    Abi, CgroupEvent, CgroupId, CgroupSource, Entry, Loss, Machine, NewCgroups, SyscallSource,
};
use gadgetd_tracer::{Tracer, TracerError};
use support::{Cgroup, Child, Loader, application, call, load, options, runtime, set};

#[test]
fn everything_from_the_first_call_to_the_last_is_recorded() {
    let Some(mut tracer) = load(16) else { return };
    let cgroup = Cgroup::new();
    tracer.enrol(cgroup.id(), Entry::Application).expect("a cgroup that exists");
    assert!(tracer.read(cgroup.id()).expect("enrolled").since_new.is_none());

    Child::into(&cgroup, || {
        call(libc::SYS_getppid);
        call(libc::SYS_getuid);
    })
    .succeeds();

    let recorded = tracer.read(cgroup.id()).expect("enrolled");
    assert_eq!(application(&recorded), set(["getppid", "getuid", "exit_group"]));
    assert_eq!(runtime(&recorded), set([]));
    assert!(recorded.completeness.is_complete(), "{:?}", recorded.completeness);
    assert!(!recorded.completeness.from_start, "the cgroup was there before");
    assert!(recorded.since_new.expect("there were calls").as_secs() < 60);
}

#[test]
fn nothing_of_another_cgroup_is_recorded() {
    let Some(mut tracer) = load(16) else { return };
    let (ours, other) = (Cgroup::new(), Cgroup::new());
    tracer.enrol(ours.id(), Entry::Application).expect("a cgroup that exists");
    Child::into(&other, || call(libc::SYS_getsid)).succeeds();
    Child::into(&ours, || call(libc::SYS_getuid)).succeeds();
    assert_eq!(application(&tracer.read(ours.id()).expect("enrolled")), set(["getuid", "exit_group"]));
    assert!(matches!(tracer.read(other.id()), Err(TracerError::NotEnrolled(id)) if id == other.id()));
}

#[test]
fn a_process_is_recorded_while_it_is_in_the_cgroup_and_only_then() {
    let Some(mut tracer) = load(16) else { return };
    let (ours, other) = (Cgroup::new(), Cgroup::new());
    tracer.enrol(ours.id(), Entry::Application).expect("a cgroup that exists");
    let (into, out_of) = (ours.entrance(), other.entrance());
    Child::into(&other, || {
        call(libc::SYS_getpid);
        support::enter(&into);
        call(libc::SYS_getuid);
        support::enter(&out_of);
        call(libc::SYS_getgid);
    })
    .succeeds();
    // The write that takes it out is made inside, the one that takes it in is not.
    assert_eq!(application(&tracer.read(ours.id()).expect("enrolled")), set(["getuid", "write"]));
}

#[test]
fn a_running_process_is_recorded_from_enrolment_on() {
    let Some(mut tracer) = load(16) else { return };
    let cgroup = Cgroup::new();
    // Its calls are known as nobody's before.
    let other = Cgroup::new();
    tracer.enrol(other.id(), Entry::Application).expect("a cgroup that exists");
    let child = Child::into(&cgroup, || {
        for number in [libc::SYS_getuid, libc::SYS_getgid] {
            call(number);
            support::wait_for_parent();
        }
    });
    child.until_it_waits();
    tracer.enrol(cgroup.id(), Entry::Runtime).expect("a cgroup that exists");
    child.go_on();
    child.until_it_waits();
    child.go_on();
    child.succeeds();
    let recorded = tracer.read(cgroup.id()).expect("enrolled");
    assert_eq!(application(&recorded), set(["getgid", "write", "read", "exit_group"]));
    assert_eq!(runtime(&recorded), set([]), "it was there already: it is no runtime that enters");
}

#[cfg(target_arch = "x86_64")]
#[test]
fn each_abi_has_its_own_numbers() {
    let Some(mut tracer) = load(16) else { return };
    let cgroup = Cgroup::new();
    tracer.enrol(cgroup.id(), Entry::Application).expect("a cgroup that exists");
    Child::into(&cgroup, || {
        // 20 is `writev` natively, and `getpid` for i386. Code and stack segment are those of a 64-bit program.
        // SAFETY: the call takes no arguments.
        unsafe { std::arch::asm!("int 0x80", inout("eax") 20 => _, out("r8") _, out("r9") _, out("r10") _, out("r11") _) };
        // Not built into most kernels: the call fails, and has been made all the same.
        call(0x4000_0000 + libc::SYS_getuid);
        call(0x4000_0000 + 520);
        call(libc::SYS_getgid);
    })
    .succeeds();
    let recorded = tracer.read(cgroup.id()).expect("enrolled");
    let of = |abi| {
        let calls = recorded.syscalls.iter().filter(move |c| c.abi == abi);
        calls
            .map(|c| c.name(Machine::X86_64).expect("a known call"))
            .collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(of(Abi::Native), set(["getgid", "exit_group"]));
    assert_eq!(of(Abi::Compat), set(["getpid"]));
    assert_eq!(of(Abi::X32), set(["getuid", "execve"]));
    assert!(recorded.completeness.is_complete(), "{:?}", recorded.completeness);
}

/// The same on arm64, where only a 32-bit program makes 32-bit calls.
#[cfg(target_arch = "aarch64")]
#[test]
fn each_abi_has_its_own_numbers() {
    let Some(mut tracer) = load(16) else { return };
    let cgroup = Cgroup::new();
    tracer.enrol(cgroup.id(), Entry::Application).expect("a cgroup that exists");
    let folder = tempfile::tempdir().expect("a folder");
    let program = support::aarch32_program(folder.path());
    Child::into(&cgroup, || {
        call(libc::SYS_getgid);
        support::exec(&program);
    })
    .succeeds();
    let recorded = tracer.read(cgroup.id()).expect("enrolled");
    let of = |abi| {
        let calls = recorded.syscalls.iter().filter(move |c| c.abi == abi);
        calls
            .map(|c| c.name(Machine::Aarch64).expect("a known call"))
            .collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(of(Abi::Native), set(["getgid", "execve"]));
    assert_eq!(of(Abi::Compat), set(["getpid", "exit"]));
    assert!(recorded.completeness.is_complete(), "{:?}", recorded.completeness);
}

/// What a program could do to be taken for a 64-bit one: registers as the `syscall` instruction leaves them.
#[cfg(target_arch = "x86_64")]
#[test]
fn a_32_bit_call_can_not_be_disguised() {
    let Some(mut tracer) = load(16) else { return };
    let cgroup = Cgroup::new();
    tracer.enrol(cgroup.id(), Entry::Application).expect("a cgroup that exists");
    Child::into(&cgroup, || {
        call(libc::SYS_writev);
        call(libc::SYS_writev);
        // SAFETY: the call takes no arguments.
        unsafe {
            std::arch::asm!(
                "pushfq", "pop r11", "lea rcx, [rip + 2f]", "int 0x80", "2:",
                inout("eax") 20 => _, out("rcx") _, out("r8") _, out("r9") _, out("r10") _, out("r11") _,
            );
        }
    })
    .succeeds();
    let recorded = tracer.read(cgroup.id()).expect("enrolled");
    let compat: Vec<_> = recorded.syscalls.iter().filter(|c| c.abi == Abi::Compat).collect();
    assert_eq!(compat.len(), 1, "{compat:?}");
    assert_eq!(compat[0].name(Machine::X86_64), Some("getpid"));
}

#[test]
fn unknown_numbers_are_counted() {
    let Some(mut tracer) = load(16) else { return };
    let cgroup = Cgroup::new();
    tracer.enrol(cgroup.id(), Entry::Application).expect("a cgroup that exists");
    Child::into(&cgroup, || {
        for number in [1024, 5000, 0x3fff_ffff, -1] {
            call(number);
        }
        call(1023);
    })
    .succeeds();
    let recorded = tracer.read(cgroup.id()).expect("enrolled");
    let numbers: Vec<_> = recorded.syscalls.iter().map(|c| c.number).collect();
    assert_eq!(recorded.completeness.losses, [Loss::UnknownNumbers(4)], "{numbers:?}");
    assert!(numbers.contains(&1023));
}

#[test]
fn only_cgroups_that_are_waited_for_get_a_slot() {
    let Some(mut tracer) = load(1) else { return };
    let (cgroup, other) = (Cgroup::new(), Cgroup::new());
    // Each path has its own number of bytes in its last word.
    let top = cgroup.path().file_name().expect("a name").display().to_string();
    for (before, name) in
        ["await", "await1", "await12", "await123", "await1234", "await12345"].iter().enumerate()
    {
        let path = cgroup.path().join(name);
        let wanted = format!("/{top}/{name}");
        tracer.enrol_new(NewCgroups::Below(&wanted)).expect("attachable");
        let longer = path.with_file_name(format!("{name}x"));
        let shorter = path.with_file_name(&name[..name.len() - 1]);
        let below = path.join("below");
        // The slot is the only one: it has to be there for who is meant, whoever came before.
        for directory in [&longer, &shorter, &other.path().join(name), &path, &below] {
            fs::create_dir(directory).expect("a new cgroup");
        }
        let enrolled: Vec<_> = tracer.enrolled().expect("readable");
        let paths: Vec<_> = enrolled.iter().map(|e| e.path.as_deref()).collect();
        assert_eq!(paths, [Some(wanted.as_str())]);
        assert_eq!(
            tracer.losses().expect("readable"),
            [Loss::SlotsExhausted(before as u64 + 1)],
            "the one below had no room"
        );
        tracer.enrol_new(NewCgroups::None).expect("detachable");
        for directory in [&below, &path, &longer, &shorter, &other.path().join(name)] {
            fs::remove_dir(directory).expect("an empty cgroup");
        }
        tracer.release(enrolled[0].cgroup).expect("enrolled");
    }
}

#[test]
fn cgroups_that_the_container_makes_belong_to_it() {
    let Some(mut tracer) = load(16) else { return };
    let cgroup = Cgroup::new();
    tracer.enrol(cgroup.id(), Entry::Application).expect("a cgroup that exists");
    tracer.enrol_new(NewCgroups::All).expect("room");
    let below = cgroup.path().join("below");
    Child::into(&cgroup, || {
        fs::create_dir(&below).expect("a new cgroup");
        fs::write(below.join("cgroup.procs"), "0").expect("a move");
        call(libc::SYS_getppid);
    })
    .succeeds();
    let id = CgroupId(fs::metadata(&below).expect("made by the child").ino());
    let enrolled = tracer.enrolled().expect("readable");
    assert!(enrolled.iter().all(|e| e.cgroup != id), "it has no slot of its own");
    let calls = application(&tracer.read(cgroup.id()).expect("enrolled"));
    let mkdir = if cfg!(target_arch = "x86_64") { "mkdir" } else { "mkdirat" };
    assert!(calls.is_superset(&set([mkdir, "getppid", "exit_group"])), "{calls:?}");

    tracer.enrol_new(NewCgroups::None).expect("detachable");
    fs::remove_dir(&below).expect("an empty cgroup");
    tracer.release(cgroup.id()).expect("enrolled");
    assert!(!tracer.is_attached());
}

#[test]
fn cgroups_below_belong_to_it_whoever_makes_them_and_when() {
    let Some(mut tracer) = load(16) else { return };
    let cgroup = Cgroup::new();
    let before = cgroup.below("before");
    let deeper = before.below("deeper");
    tracer.enrol(cgroup.id(), Entry::Application).expect("a cgroup that exists");
    let after = cgroup.below("after");
    Child::into(&deeper, || call(libc::SYS_getuid)).succeeds();
    Child::into(&after, || call(libc::SYS_getgid)).succeeds();
    assert_eq!(
        application(&tracer.read(cgroup.id()).expect("enrolled")),
        set(["getuid", "getgid", "exit_group"])
    );

    // One of them gets a slot of its own, and takes with it what is below.
    tracer.enrol(before.id(), Entry::Application).expect("a cgroup that exists");
    Child::into(&deeper, || call(libc::SYS_getsid)).succeeds();
    assert_eq!(application(&tracer.read(before.id()).expect("enrolled")), set(["getsid", "exit_group"]));
    assert!(!application(&tracer.read(cgroup.id()).expect("enrolled")).contains("getsid"));
}

#[test]
fn new_cgroups_get_slots_until_there_are_none() {
    let Some(mut tracer) = load(2) else { return };
    let first = Cgroup::new();
    tracer.enrol(first.id(), Entry::Application).expect("a cgroup that exists");
    tracer.enrol_new(NewCgroups::All).expect("attachable");
    // One more fits (if nothing else on this machine makes a cgroup at this moment).
    let more: Vec<_> = (0..3).map(|_| Cgroup::new()).collect();
    let enrolled = tracer.enrolled().expect("readable");
    assert_eq!(enrolled.len(), 2, "{enrolled:?}");
    assert!(enrolled.iter().any(|e| e.cgroup == first.id() && !e.from_start));
    assert!(enrolled.iter().any(|e| e.from_start));
    let recorded = tracer.read(first.id()).expect("enrolled");
    let [Loss::SlotsExhausted(lost)] = recorded.completeness.losses[..] else {
        panic!("{:?}", recorded.completeness)
    };
    assert!(lost >= 2, "{lost}");
    let refused = more.iter().find(|c| enrolled.iter().all(|e| e.cgroup != c.id())).expect("two are refused");
    assert!(matches!(tracer.enrol(refused.id(), Entry::Runtime), Err(TracerError::SlotsExhausted(2))));
}

#[test]
fn a_released_slot_is_empty_when_it_is_used_again() {
    let Some(mut tracer) = load(1) else { return };
    for (number, name) in
        [(libc::SYS_getuid, "getuid"), (libc::SYS_getgid, "getgid"), (libc::SYS_getpid, "getpid")]
    {
        let cgroup = Cgroup::new();
        tracer.enrol(cgroup.id(), Entry::Application).expect("a slot that is free again");
        Child::into(&cgroup, || call(number)).succeeds();
        let recorded = tracer.read(cgroup.id()).expect("enrolled");
        assert_eq!(application(&recorded), set([name, "exit_group"]));
        assert!(recorded.completeness.is_complete());
        tracer.release(cgroup.id()).expect("enrolled");
        assert!(matches!(tracer.read(cgroup.id()), Err(TracerError::NotEnrolled(_))));
        assert!(matches!(tracer.release(cgroup.id()), Err(TracerError::NotEnrolled(_))));
    }
}

#[test]
fn reading_changes_nothing_and_outlives_the_cgroup() {
    let Some(mut tracer) = load(16) else { return };
    let cgroup = Cgroup::new();
    let id = cgroup.id();
    tracer.enrol(id, Entry::Application).expect("a cgroup that exists");
    Child::into(&cgroup, || call(libc::SYS_getuid)).succeeds();
    drop(cgroup);
    let reads = [(); 2].map(|()| tracer.read(id).expect("still enrolled"));
    assert_eq!(reads[0].syscalls, reads[1].syscalls);
    assert_eq!(application(&reads[1]), set(["getuid", "exit_group"]));
    assert_eq!(tracer.enrolled().expect("readable").len(), 1);
}

#[test]
fn enrolling_twice_keeps_what_was_recorded() {
    let Some(mut tracer) = load(16) else { return };
    let cgroup = Cgroup::new();
    tracer.enrol(cgroup.id(), Entry::Runtime).expect("a cgroup that exists");
    Child::into(&cgroup, || call(libc::SYS_getuid)).succeeds();
    assert_eq!(application(&tracer.read(cgroup.id()).expect("enrolled")), set(["getuid", "exit_group"]));
    tracer.enrol(cgroup.id(), Entry::Application).expect("a cgroup that is enrolled");
    Child::into(&cgroup, || call(libc::SYS_getgid)).succeeds();
    tracer.enrol(cgroup.id(), Entry::Runtime).expect("a cgroup that is enrolled");
    Child::into(&cgroup, || call(libc::SYS_getpid)).succeeds();
    let recorded = tracer.read(cgroup.id()).expect("enrolled");
    assert_eq!(application(&recorded), set(["getuid", "getgid", "getpid", "exit_group"]));
    assert_eq!(
        recorded.completeness.losses,
        [Loss::Undecided(2)],
        "whether they were a runtime's is not known"
    );
    assert_eq!(tracer.enrolled().expect("readable").len(), 1);
}

#[test]
fn nothing_is_attached_while_nothing_is_recorded() {
    let Some(mut tracer) = load(16) else { return };
    let attached = |tracer: &Tracer| {
        let links = support::links();
        assert_eq!(tracer.is_attached(), links != 0);
        links
    };
    assert_eq!(attached(&tracer), 0, "loaded");
    let (one, other) = (Cgroup::new(), Cgroup::new());
    tracer.enrol(one.id(), Entry::Runtime).expect("a cgroup that exists");
    let all = attached(&tracer);
    assert_ne!(all, 0, "one enrolled");
    tracer.enrol(other.id(), Entry::Runtime).expect("a cgroup that exists");
    tracer.release(one.id()).expect("enrolled");
    assert_eq!(attached(&tracer), all, "one of two released");
    tracer.release(other.id()).expect("enrolled");
    assert_eq!(attached(&tracer), 0, "both released");
    tracer.enrol_new(NewCgroups::All).expect("attachable");
    assert_eq!(attached(&tracer), all, "waiting for new ones");
    tracer.enrol_new(NewCgroups::None).expect("detachable");
    for enrolled in tracer.enrolled().expect("readable") {
        tracer.release(enrolled.cgroup).expect("enrolled");
    }
    assert_eq!(attached(&tracer), 0, "no longer");
    assert!(matches!(tracer.enrol(CgroupId(u64::MAX), Entry::Runtime), Err(TracerError::NoCgroup(_))));
    assert_eq!(attached(&tracer), 0, "nothing to record");
}

#[test]
fn five_hundred_short_lives_at_once() {
    let Some(mut tracer) = load(1_024) else { return };
    tracer.enrol_new(NewCgroups::All).expect("attachable");
    let cgroups: Vec<_> = (0..500).map(|_| Cgroup::new()).collect();
    let children: Vec<_> = cgroups
        .iter()
        .map(|cgroup| {
            Child::into(cgroup, || {
                support::chroot();
                support::load_filter(Loader::Seccomp);
                support::exec(c"/bin/true");
            })
        })
        .collect();
    children.into_iter().for_each(Child::succeeds);
    let expected = {
        let recorded = tracer.read(cgroups[0].id()).expect("enrolled when it was made");
        application(&recorded)
    };
    assert!(expected.contains("exit_group"), "{expected:?}");
    for cgroup in &cgroups {
        let recorded = tracer.read(cgroup.id()).expect("enrolled when it was made");
        assert_eq!(application(&recorded), expected);
        assert_eq!(runtime(&recorded), set(["execve"]));
        assert!(
            recorded.completeness.is_complete() && recorded.completeness.from_start,
            "{:?}",
            recorded.completeness
        );
    }
}

#[test]
fn what_opens_and_ends_is_told() {
    let Some(mut tracer) = load(64) else { return };
    tracer.enrol_new(NewCgroups::All).expect("attachable");
    let (used, unused) = (Cgroup::new(), Cgroup::new());
    let (opened, ended) = (CgroupEvent::Opened, CgroupEvent::Ended);
    tracer.until_told(&[opened(used.id()), opened(unused.id())]);

    // Moves inside are no end, and the cgroup below has no slot.
    tracer.enrol_new(NewCgroups::None).expect("attached");
    let below = used.below("below");
    let (into, out_of) = (below.entrance(), used.entrance());
    let child = Child::into(&used, || {
        support::enter(&into);
        support::enter(&out_of);
        support::enter(&into);
        support::wait_for_parent();
    });
    child.until_it_waits();
    assert_eq!(tracer.told_of([used.id(), below.id(), unused.id()]), []);
    child.go_on();
    child.succeeds();
    tracer.until_told(&[ended(used.id())]);

    // What never had a process ends when it is removed.
    let id = unused.id();
    drop(unused);
    tracer.until_told(&[ended(id)]);

    // Enrolled by user space: nothing opened, but it ends.
    let other = Cgroup::new();
    tracer.enrol(other.id(), Entry::Application).expect("a cgroup that exists");
    Child::into(&other, || ()).succeeds();
    tracer.until_told(&[ended(other.id())]);
    tracer.release(other.id()).expect("enrolled");
    Child::into(&other, || ()).succeeds();
    Child::into(&used, || ()).succeeds();
    tracer.until_told(&[ended(used.id())]);
}

#[test]
fn events_that_nobody_takes_are_counted() {
    /// What fits into a page, with 8 bytes about each.
    const ROOM: usize = 4_096 / (16 + 8);
    let Some(mut tracer) = load(1) else { return };
    let cgroup = Cgroup::new();
    let ended = CgroupEvent::Ended(cgroup.id());
    tracer.enrol(cgroup.id(), Entry::Application).expect("a cgroup that exists");
    for _ in 0..=ROOM {
        Child::into(&cgroup, || ()).succeeds();
        cgroup.until_empty();
    }
    let events = tracer.events().expect("readable");
    let (missed, told) = events.split_last().expect("events");
    assert_eq!(*missed, CgroupEvent::Missed);
    assert_eq!(told, [ended; ROOM]);
    assert_eq!(tracer.events().expect("readable"), []);
    Child::into(&cgroup, || ()).succeeds();
    tracer.until_told(&[ended]);
    assert!(tracer.read(cgroup.id()).expect("enrolled").completeness.is_complete(), "no call was lost");
}

/// A thread's stack is used again by the next one: what was known of the first must not be believed of the other.
#[test]
fn a_new_process_is_not_taken_for_one_that_died() {
    let Some(mut tracer) = load(16) else { return };
    let (ours, other) = (Cgroup::new(), Cgroup::new());
    tracer.enrol(ours.id(), Entry::Application).expect("a cgroup that exists");
    for _ in 0..200 {
        Child::into(&ours, || call(libc::SYS_getuid)).succeeds();
        Child::into(&other, || support::fork_and_wait(|| call(libc::SYS_getsid))).succeeds();
        Child::cloned_into(&other, || call(libc::SYS_getsid)).succeeds();
        Child::cloned_into(&ours, || call(libc::SYS_getgid)).succeeds();
    }
    assert_eq!(
        application(&tracer.read(ours.id()).expect("enrolled")),
        set(["getuid", "getgid", "exit_group"]),
    );
}

#[test]
fn vfork_and_a_signal_handler_are_followed() {
    let Some(mut tracer) = load(16) else { return };
    let cgroup = Cgroup::new();
    tracer.enrol(cgroup.id(), Entry::Application).expect("a cgroup that exists");
    Child::into(&cgroup, || {
        extern "C" fn handler(_: libc::c_int) {
            call(libc::SYS_getuid);
        }
        extern "C" fn child(_: *mut libc::c_void) -> libc::c_int {
            call(libc::SYS_getgid);
            0
        }
        let handler: extern "C" fn(libc::c_int) = handler;
        // SAFETY: the handler only makes a call.
        unsafe {
            libc::signal(libc::SIGUSR1, handler as libc::sighandler_t);
            libc::raise(libc::SIGUSR1);
        }
        support::vfork(child);
    })
    .succeeds();
    let calls = application(&tracer.read(cgroup.id()).expect("enrolled"));
    assert!(calls.is_superset(&set(["getuid", "rt_sigreturn", "getgid", "wait4"])), "{calls:?}");
}

/// Newer kernels skip a program on a tracepoint while a task was preempted inside it.
#[test]
fn calls_of_tasks_that_interrupt_each_other_are_recorded() {
    const CALLS: [libc::c_long; 6] = [
        libc::SYS_getuid,
        libc::SYS_geteuid,
        libc::SYS_getgid,
        libc::SYS_getegid,
        libc::SYS_gettid,
        libc::SYS_setsid,
    ];
    let expected = set(["getuid", "geteuid", "getgid", "getegid", "gettid", "setsid"]);
    let Some(mut tracer) = load(16) else { return };
    let cgroups: [Cgroup; 3] = std::array::from_fn(|_| Cgroup::new());
    for cgroup in &cgroups {
        tracer.enrol(cgroup.id(), Entry::Application).expect("a cgroup that exists");
    }
    let interrupter = Child::plain(|| {
        support::stay_on_one_cpu();
        support::interrupt_until_told();
    });
    let busy = cgroups.each_ref().map(|cgroup| {
        Child::into(cgroup, || {
            support::stay_on_one_cpu();
            for once in CALLS {
                for _ in 0..5_000 {
                    call(libc::SYS_getppid);
                }
                call(once);
            }
        })
    });
    for child in busy {
        child.succeeds();
    }
    interrupter.go_on();
    interrupter.succeeds();
    for cgroup in &cgroups {
        let recorded = tracer.read(cgroup.id()).expect("enrolled");
        let calls = application(&recorded);
        assert!(calls.is_superset(&expected), "{calls:?}");
        assert!(recorded.completeness.is_complete(), "{:?}", recorded.completeness);
    }
}

#[test]
fn faulty_options_are_refused() {
    for slots in [0, u32::MAX] {
        let error = Tracer::load(&options(slots)).err().expect("refused");
        assert!(error.to_string().contains(&slots.to_string()), "{error}");
    }
}

#[test]
fn without_rights_the_missing_ones_are_named() {
    let Some(only) = load(1) else { return };
    Child::plain(|| {
        support::drop_rights();
        let error = Tracer::load(&options(1)).err().map(|e| e.to_string());
        if !error.is_some_and(|e| e.contains("CAP_BPF") && e.contains("CAP_PERFMON")) {
            support::exit(1);
        }
    })
    .succeeds();
    drop(only);
}

/// The descriptor of a finished test must not keep a program in the kernel.
#[test]
fn dropping_the_tracer_detaches() {
    let Some(mut tracer) = load(16) else { return };
    let cgroup = Cgroup::new();
    tracer.enrol(cgroup.id(), Entry::Runtime).expect("a cgroup that exists");
    assert_ne!(support::links(), 0);
    drop(tracer);
    assert_eq!(support::links(), 0);
}
