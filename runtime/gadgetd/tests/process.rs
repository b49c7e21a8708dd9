//! `--pid`: recordings of a process that runs already, with the real program in the kernel. Needs root.

mod support;

use std::{
    fs,
    process::{Command, Stdio},
};

use gadgetd_containers::Hierarchy;
use rustix::process::Signal;
use support::{GADGETD, TestCgroup, can_record, cgroup_name, cgroups_of, gadgetd, has, run, start};

#[test]
fn a_running_process_is_recorded_with_what_it_starts() {
    if !can_record() {
        return;
    }
    let hierarchy = Hierarchy::find().unwrap();
    let script = "sh -c \"read line; mkdir /proc/x; read line\" & \
                  exec 3<&0; read line; ls / >/dev/null; echo listed; read line; kill $!; exit 6";
    let mut target = start(Command::new("sh").args(["-c", script]).stdin(Stdio::piped()));
    let pid = target.child.id();
    let before = hierarchy.of_process(pid.cast_signed()).unwrap();
    let recording = start(&mut gadgetd(["run", "seccomp", "--pid", &pid.to_string()]));
    recording.stderr.until("recording process");
    let during = hierarchy.of_process(pid.cast_signed()).unwrap();
    assert_eq!(Some(during.as_str()), during.strip_prefix(&before).map(|_| during.as_str()));
    assert_eq!(cgroups_of(recording.child.id()), [during]);
    target.line("go");
    // `ls` has ended; the recording ends first, the process goes on.
    target.stdout.until("listed");
    recording.signal(Signal::INT);
    let names = recording.finish().code(0).says("began while it already ran").names();
    assert!(has(&names, "getdents64"), "what it started: {names:?}");
    assert_eq!(hierarchy.of_process(pid.cast_signed()).unwrap(), before, "it is moved back");
    target.line("end");
    target.finish().code(6);
}

#[test]
fn a_recording_of_a_process_ends_with_it() {
    if !can_record() {
        return;
    }
    let mut target =
        start(Command::new("sh").args(["-c", "read line; exec mkdir /proc/x"]).stdin(Stdio::piped()));
    let pid = target.child.id().to_string();
    let recording = start(&mut gadgetd(["run", "seccomp", "--pid", &pid]));
    recording.stderr.until("recording process");
    target.line("go");
    target.finish().code(1);
    assert!(has(&recording.finish().code(0).says("have ended").names(), "mkdir"));

    // The shell that gadgetd itself runs from: gadgetd is not part of the recording, but the time limit ends it.
    let script = format!("{GADGETD} run seccomp --pid $$ --timeout 200ms; mkdir /proc/x");
    let finished = start(Command::new("sh").args(["-c", &script])).finish();
    assert!(!finished.stdout.contains("\"bpf\""), "{finished:?}");
}

#[test]
fn processes_are_recorded_and_put_back_whatever_their_names_and_first_threads() {
    if !can_record() {
        return;
    }
    // Neither name is UTF-8, the child's as little as its parent's.
    let names = r"$0 = qq(\xff\xfe); $| = 1; print qq(ready\n);
        if (fork) { wait; exit 5 } else { <STDIN>; mkdir '/proc/x'; print qq(done\n); <STDIN> }";
    let without_first_thread = r"
import ctypes, os, sys, threading
def work():
    print('ready', flush=True)
    sys.stdin.readline()
    try: os.mkdir('/proc/x')
    except OSError: print('done', flush=True)
    sys.stdin.readline()
    os._exit(5)
threading.Thread(target=work).start()
# exit(2), of this thread alone.
ctypes.CDLL(None).syscall(60 if os.uname().machine == 'x86_64' else 93, 0)";
    let hierarchy = Hierarchy::find().unwrap();
    for (program, script) in [("perl", ["-e", names]), ("python3", ["-c", without_first_thread])] {
        let mut target = start(Command::new(program).args(script).stdin(Stdio::piped()));
        target.stdout.until("ready");
        let pid = target.child.id();
        let cgroups = || hierarchy.of_threads(pid.cast_signed()).unwrap();
        let before = cgroups();
        let recording = start(&mut gadgetd(["run", "seccomp", "--pid", &pid.to_string()]));
        recording.stderr.until("recording process");
        assert!(cgroups().iter().eq(&cgroups_of(recording.child.id())), "{program}: {:?}", cgroups());
        target.line("go");
        target.stdout.until("done");
        recording.signal(Signal::INT);
        let finished = recording.finish().code(0);
        assert!(has(&finished.names(), "mkdir"), "{program}: {finished:?}");
        assert_eq!(cgroups(), before, "{program} is moved back");
        target.line("end");
        target.finish().code(5);
    }
}

#[test]
fn what_could_not_be_moved_back_is_not_moved() {
    if !can_record() {
        return;
    }
    let hierarchy = Hierarchy::find().unwrap();
    let top = TestCgroup::make(&hierarchy.mount().join(cgroup_name()));
    let threaded = TestCgroup::make(&top.0.join("threaded"));
    fs::write(threaded.0.join("cgroup.type"), "threaded").unwrap();
    let mut target = top.start("echo ready; read line; exit 5");
    target.stdout.until("ready");
    let pid = target.child.id();
    let refused = |says: &str| {
        let before = hierarchy.of_threads(pid.cast_signed()).unwrap();
        let finished = run(["run", "seccomp", "--pid", &pid.to_string()]).code(1).says(says);
        assert!(finished.stderr.contains(&format!("--cgroup {}", before.first().unwrap())), "{finished:?}");
        assert_eq!(hierarchy.of_threads(pid.cast_signed()).unwrap(), before, "nothing was moved");
    };
    // The root of a threaded subtree, and a cgroup that is threaded itself.
    refused("threaded ones below it");
    fs::write(threaded.0.join("cgroup.threads"), pid.to_string()).unwrap();
    refused("is a threaded cgroup");
    target.line("end");
    target.finish().code(5);
    drop((threaded, top));
}

/// `/proc/PID/cgroup` is relative to the cgroup namespace of who reads it.
#[test]
fn in_a_cgroup_namespace_processes_stay_below_where_they_were() {
    if !can_record() {
        return;
    }
    let hierarchy = Hierarchy::find().unwrap();
    let top = TestCgroup::make(&hierarchy.mount().join(cgroup_name()));
    let (inside, beside) = (TestCgroup::make(&top.0.join("inside")), TestCgroup::make(&top.0.join("beside")));
    let root = format!("/{}", top.0.file_name().unwrap().to_str().unwrap());

    for (home, name) in [(&inside, "inside"), (&beside, "beside")] {
        let mut target = home.start("echo ready; read line; echo went; read line; exit 5");
        target.stdout.until("ready");
        let pid = target.child.id();
        let before = hierarchy.of_process(pid.cast_signed()).unwrap();
        assert_eq!(before, format!("{root}/{name}"));
        let recording = inside.start(&format!("exec unshare --cgroup {GADGETD} run seccomp --pid {pid}"));
        recording.stderr.until("recording process");
        let during = hierarchy.of_process(pid.cast_signed()).unwrap();
        assert!(during.starts_with(&format!("{before}/gadgetd-")), "{during}");
        target.line("go");
        target.stdout.until("went");
        recording.signal(Signal::INT);
        recording.finish().code(0);
        assert_eq!(hierarchy.of_process(pid.cast_signed()).unwrap(), before, "it is moved back");
        target.line("end");
        target.finish().code(5);
    }

    let mut recording = inside.start(&format!(
        "exec unshare --cgroup {GADGETD} run seccomp -- sh -c \"echo ready >&2; read line; exit 0\""
    ));
    recording.stderr.until("ready");
    let made = cgroups_of(recording.child.id());
    assert!(made.len() == 1 && made[0].starts_with(&format!("{root}/inside/gadgetd-")), "{made:?}");
    recording.line("end");
    recording.finish().code(0);
    drop((inside, beside, top));
}
