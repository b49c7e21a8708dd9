//! The real program in the real kernel: who is the application, who prepares it, and who has left. Needs root.
#![allow(unsafe_code, reason = "forks children that make exactly the calls they are told to")]

mod support;

use std::{fs, process::Command, thread};

use gadgetd_core::{CgroupSource, Entry, Loss, NewCgroups, SyscallSource};
use support::{Cgroup, Child, Loader, application, call, load, runtime, set};

#[test]
fn what_prepares_the_container_is_not_the_application() {
    let Some(mut tracer) = load(16) else { return };
    let cgroup = Cgroup::new();
    tracer.enrol(cgroup.id(), Entry::Runtime).expect("a cgroup that exists");
    Child::into(&cgroup, || {
        call(libc::SYS_getsid);
        support::fork_and_wait(|| call(libc::SYS_getsid));
        support::exec(c"/bin/true");
    })
    .succeeds();
    let recorded = tracer.read(cgroup.id()).expect("enrolled");
    let calls = application(&recorded);
    assert!(calls.contains("exit_group") && calls.contains("mmap"), "the program's calls: {calls:?}");
    assert!(!calls.contains("getsid") && !calls.contains("execve"), "{calls:?}");
    assert_eq!(runtime(&recorded), set([]), "no marker was passed");
}

#[test]
fn what_the_application_starts_is_the_application() {
    let Some(mut tracer) = load(16) else { return };
    let cgroup = Cgroup::new();
    tracer.enrol(cgroup.id(), Entry::Runtime).expect("a cgroup that exists");
    let script = c"/bin/sh -c '/bin/true; /bin/true'; kill -0 $$";
    Child::into(&cgroup, || support::exec_with([c"/bin/sh", c"-c", script])).succeeds();
    let recorded = tracer.read(cgroup.id()).expect("enrolled");
    let calls = application(&recorded);
    assert!(calls.is_superset(&set(["execve", "kill", "exit_group"])), "{calls:?}");
}

/// The calls of a runtime that passes these markers, with one telling call after each.
fn prepare(root: bool, pdeathsig: bool, filter: bool) -> impl FnOnce() {
    move || {
        call(libc::SYS_getsid);
        if root {
            support::chroot();
            call(libc::SYS_getpid);
        }
        if pdeathsig {
            support::pdeathsig();
            call(libc::SYS_getuid);
        }
        support::probe_seccomp();
        if filter {
            support::load_filter(Loader::Prctl);
            call(libc::SYS_getgid);
        }
        support::exec(c"/bin/true");
    }
}

#[test]
fn of_the_runtime_only_what_a_filter_must_allow_is_kept() {
    let Some(mut tracer) = load(16) else { return };
    let cases = [
        ((true, true, true), set(["getgid", "execve"])),
        ((true, false, true), set(["getgid", "execve"])),
        ((true, true, false), set(["getuid", "seccomp", "prctl", "execve"])),
        ((true, false, false), set(["getpid", "seccomp", "prctl", "execve"])),
        ((false, false, false), set([])),
    ];
    for ((root, pdeathsig, filter), kept) in cases {
        let cgroup = Cgroup::new();
        tracer.enrol(cgroup.id(), Entry::Runtime).expect("a cgroup that exists");
        Child::into(&cgroup, prepare(root, pdeathsig, filter)).succeeds();
        let recorded = tracer.read(cgroup.id()).expect("enrolled");
        assert_eq!(runtime(&recorded), kept, "root {root}, pdeathsig {pdeathsig}, filter {filter}");
        let calls = application(&recorded);
        assert!(!calls.contains("execve") && calls.contains("exit_group"), "{calls:?}");
        tracer.release(cgroup.id()).expect("enrolled");
    }
}

#[test]
fn a_session_adds_what_it_needs() {
    let Some(mut tracer) = load(16) else { return };
    let cgroup = Cgroup::new();
    tracer.enrol(cgroup.id(), Entry::Runtime).expect("a cgroup that exists");
    Child::into(&cgroup, prepare(true, true, false)).succeeds();
    // runc in an `exec` session makes no PDEATHSIG call: what it does after its last marker counts.
    Child::into(&cgroup, || {
        support::chroot();
        call(libc::SYS_getsid);
        support::join_keyring();
        call(libc::SYS_getgid);
        support::exec(c"/bin/true");
    })
    .succeeds();
    // One that fails on its way needs nothing.
    Child::into(&cgroup, || {
        support::chroot();
        call(libc::SYS_getpgid);
    })
    .succeeds();
    let recorded = tracer.read(cgroup.id()).expect("enrolled");
    assert_eq!(runtime(&recorded), set(["getuid", "seccomp", "prctl", "getgid", "execve"]));
}

#[test]
fn only_threads_under_the_filter_count() {
    let Some(mut tracer) = load(16) else { return };
    let cgroup = Cgroup::new();
    tracer.enrol(cgroup.id(), Entry::Runtime).expect("a cgroup that exists");
    Child::into(&cgroup, || {
        support::chroot();
        // Two children that were there before the filter, and one that came after.
        support::fork_and_wait(|| call(libc::SYS_getsid));
        support::load_filter(Loader::Seccomp);
        support::fork_and_wait(|| call(libc::SYS_getgid));
        support::exec(c"/bin/true");
    })
    .succeeds();
    let kept = runtime(&tracer.read(cgroup.id()).expect("enrolled"));
    assert!(kept.contains("getgid") && kept.contains("execve"), "{kept:?}");
    assert!(!kept.contains("getsid") && !kept.contains("chroot"), "{kept:?}");
}

#[test]
fn a_runtime_that_starts_its_own_copy_is_still_the_runtime() {
    let Some(mut tracer) = load(16) else { return };
    let cgroup = Cgroup::new();
    tracer.enrol(cgroup.id(), Entry::Runtime).expect("a cgroup that exists");
    Child::into(&cgroup, || support::exec_descriptor([c"/bin/true"])).succeeds();
    let recorded = tracer.read(cgroup.id()).expect("enrolled");
    assert_eq!(recorded.completeness.losses, [Loss::Undecided(1)], "it may have been the application");
    assert!(!application(&recorded).is_empty());

    // The copy goes on, and starts the application.
    let cgroup = Cgroup::new();
    tracer.enrol(cgroup.id(), Entry::Runtime).expect("a cgroup that exists");
    Child::into(&cgroup, || {
        support::exec_descriptor([c"/bin/sh", c"-c", c"umask; exec /bin/true"]);
    })
    .succeeds();
    let recorded = tracer.read(cgroup.id()).expect("enrolled");
    let calls = application(&recorded);
    assert!(calls.contains("exit_group") && !calls.contains("umask"), "{calls:?}");
    assert!(recorded.completeness.is_complete(), "{:?}", recorded.completeness);

    // After a marker it is a program like any other.
    Child::into(&cgroup, || {
        support::chroot();
        support::exec_descriptor([c"/bin/true"]);
    })
    .succeeds();
    let calls = application(&tracer.read(cgroup.id()).expect("enrolled"));
    assert!(calls.contains("exit_group"), "{calls:?}");
}

#[test]
fn threads_come_along_when_their_process_is_moved() {
    let Some(mut tracer) = load(16) else { return };
    let cgroup = Cgroup::new();
    tracer.enrol(cgroup.id(), Entry::Runtime).expect("a cgroup that exists");
    // Threads that do nothing but ask for their session, until they are gone with the exec.
    let script = "import os, threading, time, sys
def ask():
    while True: os.getsid(0)
for _ in range(3): threading.Thread(target=ask, daemon=True).start()
for _ in range(1000): os.getsid(0)
open(sys.argv[1], 'w').write('0')
for _ in range(1000): os.getsid(0)
os.execv('/bin/true', ['true'])";
    let procs = cgroup.path().join("cgroup.procs");
    let status =
        Command::new("python3").args(["-c", script]).arg(procs).status().expect("python3 is installed");
    assert!(status.success());
    let recorded = tracer.read(cgroup.id()).expect("enrolled");
    let calls = application(&recorded);
    assert!(calls.contains("exit_group"), "{calls:?}");
    assert!(!calls.contains("getsid"), "its threads are the runtime, too: {calls:?}");
    assert!(recorded.completeness.is_complete(), "{:?}", recorded.completeness);
}

#[test]
fn a_filter_for_all_threads_counts_for_all() {
    let Some(mut tracer) = load(16) else { return };
    let script = "import ctypes, os, sys, threading
class Program(ctypes.Structure):
    _fields_ = [('len', ctypes.c_ushort), ('filter', ctypes.POINTER(ctypes.c_ulonglong))]
allow = ctypes.c_ulonglong(0x7fff0000 << 32 | 6)
program = Program(1, ctypes.pointer(allow))
come, go = os.pipe()
def ask():
    os.read(come, 1)
    os.getsid(0)
thread = threading.Thread(target=ask)
thread.start()
open(sys.argv[1], 'w').write('0')
seccomp, mode_filter, flags = int(sys.argv[2]), 1, int(sys.argv[3])
assert ctypes.CDLL(None).syscall(seccomp, mode_filter, flags, ctypes.byref(program)) == 0
os.write(go, b'1')
thread.join()
os.execv('/bin/true', ['true'])";
    for (flags, counts) in [(libc::SECCOMP_FILTER_FLAG_TSYNC, true), (0, false)] {
        let cgroup = Cgroup::new();
        tracer.enrol(cgroup.id(), Entry::Runtime).expect("a cgroup that exists");
        let mut python = Command::new("python3");
        python.args(["-c", script]).arg(cgroup.path().join("cgroup.procs"));
        python.args([libc::SYS_seccomp.to_string(), flags.to_string()]);
        assert!(python.status().expect("python3 is installed").success());
        let recorded = tracer.read(cgroup.id()).expect("enrolled");
        assert_eq!(runtime(&recorded).contains("getsid"), counts, "flags {flags}: {recorded:?}");
        assert!(runtime(&recorded).contains("execve"), "flags {flags}: {recorded:?}");
        assert!(!application(&recorded).contains("getsid"), "flags {flags}: {recorded:?}");
    }
}

#[test]
fn a_process_can_start_in_the_cgroup() {
    let Some(mut tracer) = load(16) else { return };
    for (entry, kept) in [(Entry::Application, true), (Entry::Runtime, false)] {
        let cgroup = Cgroup::new();
        tracer.enrol(cgroup.id(), entry).expect("a cgroup that exists");
        Child::cloned_into(&cgroup, || {
            call(libc::SYS_getsid);
            support::exec(c"/bin/true");
        })
        .succeeds();
        let calls = application(&tracer.read(cgroup.id()).expect("enrolled"));
        assert_eq!(calls.contains("getsid"), kept, "{entry:?}: {calls:?}");
        assert!(calls.contains("exit_group"), "{entry:?}: {calls:?}");
    }
}

/// Moves a process, from outside.
fn move_into(cgroup: &Cgroup, child: &Child) {
    fs::write(cgroup.path().join("cgroup.procs"), child.pid().to_string()).expect("the process lives");
}

#[test]
fn a_process_that_is_moved_in_is_recorded_and_its_beginning_is_missed() {
    let Some(mut tracer) = load(16) else { return };
    let cgroup = Cgroup::new();
    tracer.enrol(cgroup.id(), Entry::Runtime).expect("a cgroup that exists");
    let child = Child::plain(|| {
        call(libc::SYS_getsid);
        support::wait_for_parent();
        call(libc::SYS_getuid);
        support::fork_and_wait(|| support::exec(c"/bin/true"));
        call(libc::SYS_getgid);
    });
    child.until_it_waits();
    move_into(&cgroup, &child);
    child.go_on();
    child.succeeds();
    let recorded = tracer.read(cgroup.id()).expect("enrolled");
    let calls = application(&recorded);
    assert!(calls.is_superset(&set(["getuid", "getgid", "execve", "brk", "exit_group"])), "{calls:?}");
    assert!(!calls.contains("getsid"), "that was elsewhere: {calls:?}");
    assert_eq!(recorded.completeness.losses, [Loss::Undecided(1)]);
    assert!(!recorded.completeness.from_start);
}

#[test]
fn what_a_runtime_executes_before_the_container_is_no_part_of_it() {
    let Some(mut tracer) = load(16) else { return };
    for certain in [true, false] {
        let cgroup = Cgroup::new();
        tracer.enrol(cgroup.id(), Entry::Runtime).expect("a cgroup that exists");
        Child::into(&cgroup, || {
            // A hook, as a shell that starts programs.
            support::fork_and_wait(|| support::exec_with([c"/bin/sh", c"-c", c"umask; /bin/true; umask"]));
            support::chroot();
            if certain {
                support::pdeathsig();
            }
            support::fork_and_wait(|| support::exec_with([c"/bin/sh", c"-c", c"kill -0 $$"]));
            call(libc::SYS_getsid);
        })
        .succeeds();
        let recorded = tracer.read(cgroup.id()).expect("enrolled");
        let calls = application(&recorded);
        assert!(calls.contains("kill") && calls.contains("exit_group"), "certain {certain}: {calls:?}");
        assert_eq!(calls.contains("umask"), !certain, "certain {certain}: {calls:?}");
        assert_eq!(recorded.completeness.is_complete(), certain, "{:?}", recorded.completeness);
    }
}

#[test]
fn the_doubt_about_one_does_not_end_with_that_about_another() {
    let Some(mut tracer) = load(16) else { return };
    let cgroup = Cgroup::new();
    tracer.enrol(cgroup.id(), Entry::Runtime).expect("a cgroup that exists");
    let child = Child::plain(|| {
        support::wait_for_parent();
        call(libc::SYS_getuid);
        support::wait_for_parent();
    });
    child.until_it_waits();
    move_into(&cgroup, &child);
    child.go_on();
    child.until_it_waits();
    // A session that joins the container meanwhile.
    Child::into(&cgroup, prepare(true, true, false)).succeeds();
    child.go_on();
    child.succeeds();
    let recorded = tracer.read(cgroup.id()).expect("enrolled");
    assert!(application(&recorded).contains("getuid"));
    assert_eq!(recorded.completeness.losses, [Loss::Undecided(1)]);
}

/// The kernel reports a move after it happened.
#[test]
fn calls_between_a_move_and_its_report_are_not_the_applications() {
    let Some(mut tracer) = load(64) else { return };
    tracer.enrol_new(NewCgroups::All).expect("attachable");
    for _ in 0..50 {
        let cgroup = Cgroup::new();
        let child = Child::plain(|| {
            support::wait_for_parent();
            support::call_until_told(libc::SYS_getsid);
            support::exec(c"/bin/true");
        });
        child.until_it_waits();
        child.go_on();
        move_into(&cgroup, &child);
        child.go_on();
        child.succeeds();
        let recorded = tracer.read(cgroup.id()).expect("it got a slot");
        let calls = application(&recorded);
        assert!(calls.contains("exit_group") && !calls.contains("getsid"), "{calls:?}");
        assert!(recorded.completeness.is_complete(), "{:?}", recorded.completeness);
        tracer.release(cgroup.id()).expect("enrolled");
    }
}

#[test]
fn what_leaves_is_counted_and_known_when_it_comes_back() {
    let Some(mut tracer) = load(16) else { return };
    let (ours, other) = (Cgroup::new(), Cgroup::new());
    tracer.enrol(ours.id(), Entry::Application).expect("a cgroup that exists");
    let below = ours.below("below");
    let [about, out_of, back] = [&below, &other, &ours].map(Cgroup::entrance);
    let child = Child::into(&ours, || {
        call(libc::SYS_getuid);
        support::wait_for_parent();
        support::enter(&about);
        support::enter(&out_of);
        call(libc::SYS_getsid);
        support::enter(&back);
        call(libc::SYS_getgid);
    });
    child.until_it_waits();
    // From now on those who enter may be runtimes.
    tracer.enrol(ours.id(), Entry::Runtime).expect("a cgroup that is enrolled");
    child.go_on();
    child.succeeds();
    let recorded = tracer.read(ours.id()).expect("enrolled");
    let calls = application(&recorded);
    assert!(calls.contains("getuid") && calls.contains("getgid") && !calls.contains("getsid"), "{calls:?}");
    assert_eq!(
        recorded.completeness.losses,
        [Loss::Departures(1)],
        "it moved about in the container, and left once"
    );
}

#[test]
fn what_begins_elsewhere_has_left() {
    let Some(mut tracer) = load(16) else { return };
    let (ours, other) = (Cgroup::new(), Cgroup::new());
    tracer.enrol(ours.id(), Entry::Application).expect("a cgroup that exists");
    let directory = fs::File::open(other.path()).expect("it exists");
    Child::into(&ours, || support::fork_into_and_wait(&directory, || call(libc::SYS_getsid))).succeeds();
    let recorded = tracer.read(ours.id()).expect("enrolled");
    assert!(!application(&recorded).contains("getsid"));
    assert_eq!(recorded.completeness.losses, [Loss::Departures(1)]);
}

/// What is known of a task is in its own storage: however many others there are, nothing pushes it out.
#[test]
fn other_tasks_do_not_make_one_forgotten() {
    let Some(mut tracer) = load(16) else { return };
    let cgroup = Cgroup::new();
    let below = cgroup.below("below");
    tracer.enrol(cgroup.id(), Entry::Application).expect("a cgroup that exists");
    let child = Child::into(&cgroup, || {
        support::wait_for_parent();
        call(libc::SYS_getuid);
    });
    child.until_it_waits();
    tracer.enrol(cgroup.id(), Entry::Runtime).expect("a cgroup that is enrolled");
    // Each batch is on stacks that the cache knew others by.
    for _ in 0..8 {
        let all: Vec<_> = (0..512).map(|_| thread::spawn(|| call(libc::SYS_getpid))).collect();
        for thread in all {
            thread.join().expect("it ends");
        }
    }
    move_into(&below, &child);
    child.go_on();
    child.succeeds();
    let recorded = tracer.read(cgroup.id()).expect("enrolled");
    assert!(application(&recorded).contains("getuid"), "{recorded:?}");
    assert!(recorded.completeness.is_complete(), "{:?}", recorded.completeness);
}
