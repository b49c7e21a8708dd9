//! Calls that a seccomp filter does not let run, in the real kernel. Needs root.
#![allow(unsafe_code, reason = "forks children that make exactly the calls they are told to")]

mod support;

use std::collections::BTreeSet;

use gadgetd_core::{Abi, CgroupSource, Entry, Recorded, Refusal, SyscallSource};
use libc::{
    SECCOMP_RET_ERRNO as ERRNO, SECCOMP_RET_KILL_THREAD as KILL_THREAD, SECCOMP_RET_LOG as LOG,
    SECCOMP_RET_TRACE as TRACE, SECCOMP_RET_TRAP as TRAP, SECCOMP_RET_USER_NOTIF as NOTIFY,
};
use support::{Cgroup, Child, application, call, refused, set, shared};

const EPERM: Refusal = Refusal::Errno(Some(1));

/// The action of a filter that refuses a call with this errno.
const fn errno(number: u32) -> u32 {
    ERRNO | number
}

/// What is recorded of a child that does this in a cgroup of its own, and ends well.
fn recorded(what: impl FnOnce()) -> Option<Recorded> {
    let mut tracer = shared()?;
    let cgroup = Cgroup::new();
    tracer.enrol(cgroup.id(), Entry::Application).expect("a cgroup that exists");
    Child::into(&cgroup, what).succeeds();
    let recorded = tracer.read(cgroup.id()).expect("enrolled");
    assert!(recorded.completeness.is_complete(), "{:?}", recorded.completeness);
    Some(recorded)
}

fn native<const N: usize>(calls: [(&'static str, Refusal); N]) -> BTreeSet<(Abi, &'static str, Refusal)> {
    calls.into_iter().map(|(name, answer)| (Abi::Native, name, answer)).collect()
}

#[test]
fn a_refused_call_is_recorded_with_the_answer_and_not_as_made() {
    let done = recorded(|| {
        support::survive_sigsys();
        let answers = [
            (libc::SYS_getsid, errno(1)),
            (libc::SYS_getpgid, errno(38)),
            (libc::SYS_getpriority, TRAP),
            (libc::SYS_getgid, TRACE),
            (libc::SYS_getuid, LOG),
        ];
        support::answer(answers, 0);
        for (number, _) in answers {
            call(number);
        }
        call(libc::SYS_getppid);
    });
    let Some(done) = done else { return };
    // Without a tracer its action is ENOSYS. LOG lets the call run.
    let all = [
        ("getsid", EPERM),
        ("getpgid", Refusal::MISSING),
        ("getpriority", Refusal::Signal),
        ("getgid", Refusal::MISSING),
    ];
    assert_eq!(refused(&done), native(all));
    assert_eq!(
        application(&done),
        set(["rt_sigaction", "rt_sigreturn", "seccomp", "getuid", "getppid", "exit_group"])
    );
}

#[test]
fn a_call_may_run_and_be_refused_later() {
    let done = recorded(|| {
        call(libc::SYS_getsid);
        support::answer([(libc::SYS_getsid, errno(1))], 0);
        call(libc::SYS_getsid);
        // And the first call under another filter of the same task.
        support::answer([(libc::SYS_getpgid, errno(1))], 0);
        call(libc::SYS_getpgid);
    });
    let Some(done) = done else { return };
    assert_eq!(refused(&done), native([("getsid", EPERM), ("getpgid", EPERM)]));
    assert_eq!(application(&done), set(["getsid", "seccomp", "exit_group"]));
}

#[test]
fn of_several_errnos_only_enosys_is_told_apart() {
    let done = recorded(|| {
        let answers =
            [(libc::SYS_getsid, errno(1)), (libc::SYS_getpgid, errno(13)), (libc::SYS_getgid, errno(38))];
        support::answer(answers, 0);
        for (number, _) in answers {
            call(number);
        }
    });
    let Some(done) = done else { return };
    let other = Refusal::Errno(None);
    assert_eq!(refused(&done), native([("getsid", other), ("getpgid", other), ("getgid", Refusal::MISSING)]));
    let done = recorded(|| {
        support::answer([(libc::SYS_getsid, errno(4095))], 0);
        call(libc::SYS_getsid);
    });
    assert_eq!(refused(&done.expect("as above")), native([("getsid", other)]), "too large to be kept");
}

#[test]
fn children_threads_and_what_they_execute_are_refused_from_the_first_call_on() {
    extern "C" fn in_thread(_: *mut libc::c_void) -> i32 {
        call(libc::SYS_getpgid);
        0
    }
    let done = recorded(|| {
        let answers =
            [(libc::SYS_getsid, errno(1)), (libc::SYS_getpgid, errno(1)), (libc::SYS_prctl, errno(1))];
        support::answer(answers, 0);
        support::fork_and_wait(|| call(libc::SYS_getsid));
        support::thread(in_thread);
        support::fork_and_wait(|| support::exec_with([c"/bin/sh", c"-c", c"exec /bin/true"]));
    });
    let Some(done) = done else { return };
    assert!(refused(&done).is_superset(&native([("getsid", EPERM), ("getpgid", EPERM)])), "{done:?}");
    let made = application(&done);
    assert!(made.contains("execve") && made.is_disjoint(&set(["getsid", "getpgid", "prctl"])), "{made:?}");
}

#[test]
fn a_thread_that_is_killed_for_a_call_has_made_it_in_vain() {
    extern "C" fn killed(_: *mut libc::c_void) -> i32 {
        support::answer([(libc::SYS_getpgid, KILL_THREAD)], 0);
        call(libc::SYS_getpgid);
        0
    }
    let done = recorded(|| {
        support::thread(killed);
        call(libc::SYS_getppid);
    });
    let Some(done) = done else { return };
    assert_eq!(refused(&done), native([("getpgid", Refusal::Signal)]));
    let made = application(&done);
    assert!(made.contains("getppid") && !made.contains("getpgid"), "{made:?}");
}

/// Not on arm64, where this is not seen (decision 025).
#[cfg(target_arch = "x86_64")]
#[test]
fn a_process_that_is_killed_for_a_call_has_made_it_in_vain() {
    let done = recorded(|| {
        for (number, action) in
            [(libc::SYS_getsid, libc::SECCOMP_RET_KILL_PROCESS), (libc::SYS_getpriority, KILL_THREAD)]
        {
            support::fork_and_wait(|| {
                support::answer([(number, action)], 0);
                call(number);
            });
        }
    });
    let Some(done) = done else { return };
    let all = ["getsid", "getpriority"].map(|name| (name, Refusal::Signal));
    assert_eq!(refused(&done), native(all));
    assert!(application(&done).is_disjoint(&all.map(|(name, _)| name).into()), "{done:?}");
}

/// A supervisor answers in the caller's place. If it says that the call has succeeded the program has made it, whoever did.
#[test]
fn a_supervisor_makes_a_call_or_refuses_it() {
    let done = recorded(|| {
        let answers = [(libc::SYS_getsid, NOTIFY), (libc::SYS_getpgid, NOTIFY)];
        let listener = support::answer(answers, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER);
        support::fork_while(
            || {
                support::supervise(listener, 5);
                support::supervise(listener, -1);
            },
            || {
                call(libc::SYS_getsid);
                call(libc::SYS_getpgid);
            },
        );
    });
    let Some(done) = done else { return };
    assert_eq!(refused(&done), native([("getpgid", EPERM)]));
    let made = application(&done);
    assert!(made.contains("getsid") && !made.contains("getpgid"), "{made:?}");
}

#[test]
fn the_filter_may_be_older_than_the_recording() {
    let Some(mut tracer) = shared() else { return };
    let cgroup = Cgroup::new();
    let child = Child::into(&cgroup, || {
        support::answer([(libc::SYS_getsid, errno(1))], 0);
        call(libc::SYS_getsid);
        support::wait_for_parent();
        call(libc::SYS_getsid);
    });
    child.until_it_waits();
    tracer.enrol(cgroup.id(), Entry::Application).expect("a cgroup that exists");
    assert_eq!(refused(&tracer.read(cgroup.id()).expect("enrolled")), native([]));
    child.go_on();
    child.succeeds();
    let done = tracer.read(cgroup.id()).expect("enrolled");
    assert_eq!(refused(&done), native([("getsid", EPERM)]));
    // The call in which it was waiting has not come to anything that could be seen.
    assert_eq!(application(&done), set(["exit_group"]));
}

/// What is not recorded leaves no trace where it then is.
#[test]
fn a_task_that_moves_has_made_no_call_in_vain() {
    let Some(mut tracer) = shared() else { return };
    let (cgroup, other) = (Cgroup::new(), Cgroup::new());
    tracer.enrol(cgroup.id(), Entry::Application).expect("a cgroup that exists");
    let (into, out_of) = (cgroup.entrance(), other.entrance());
    Child::into(&other, || {
        support::answer([(libc::SYS_getsid, errno(1))], 0);
        for _ in 0..3 {
            support::enter(&into);
            call(libc::SYS_getppid);
            support::enter(&out_of);
            call(libc::SYS_getsid);
        }
    })
    .succeeds();
    let done = tracer.read(cgroup.id()).expect("enrolled");
    assert_eq!(refused(&done), native([]));
    assert_eq!(application(&done), set(["getppid", "write"]));
}

#[cfg(target_arch = "x86_64")]
#[test]
fn refused_calls_of_each_abi_have_its_own_numbers() {
    let done = recorded(|| {
        // 20 is `writev` natively.
        let (getpid, x32) = (20, 0x4000_0000 + libc::SYS_getuid);
        support::answer([(getpid, errno(1)), (x32, errno(38))], 0);
        // SAFETY: the call takes no arguments.
        unsafe {
            std::arch::asm!("int 0x80", inout("eax") 20 => _, out("r8") _, out("r9") _, out("r10") _, out("r11") _);
        };
        call(x32);
    });
    let Some(done) = done else { return };
    let all = [(Abi::Compat, "getpid", EPERM), (Abi::X32, "getuid", Refusal::MISSING)];
    assert_eq!(refused(&done), all.into());
}
