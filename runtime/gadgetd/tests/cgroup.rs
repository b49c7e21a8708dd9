//! `--cgroup`: recordings of a cgroup, with the real program in the kernel. Needs root.

mod support;

use gadgetd_containers::Hierarchy;
use rustix::process::Signal;
use support::{TestCgroup, can_record, cgroup_name, gadgetd, has, start};

#[test]
fn a_cgroup_that_does_not_exist_yet_is_recorded_from_its_first_call() {
    if !can_record() {
        return;
    }
    let mount = Hierarchy::find().unwrap().mount().to_owned();
    let top = TestCgroup(mount.join(cgroup_name()));
    let name = format!("{}/pod/container", top.0.file_name().unwrap().to_str().unwrap());
    let recording = start(&mut gadgetd(["run", "seccomp", "--cgroup", &name]));
    recording.stderr.until("waiting for");

    // Another cgroup that is made meanwhile is not meant.
    let other = TestCgroup::make(&mount.join(cgroup_name()));
    other.start("mknod /proc/x p").finish().code(1);

    let pod = TestCgroup::make(&top.0.join("pod"));
    let container = TestCgroup::make(&top.0.join("pod/container"));
    // Some runtimes put the container one level below; the host makes it, not the container.
    let below = TestCgroup::make(&container.0.join("below"));
    below.start("mkdir /proc/x").finish().code(1);
    let finished = recording.finish().code(0).says("no processes any more");
    assert!(!finished.stderr.contains("already ran"), "{finished:?}");
    let names = finished.names();
    for name in ["execve", "brk", "mkdir", "exit_group"] {
        assert!(has(&names, name), "no {name} in {names:?}");
    }
    assert!(!has(&names, "mknod") && !has(&names, "mknodat"), "that of another cgroup: {names:?}");
    drop((below, container, pod));
}

/// Only the cgroup that is meant takes one.
#[test]
fn more_cgroups_of_others_than_there_are_slots_are_no_obstacle() {
    if !can_record() {
        return;
    }
    let mount = Hierarchy::find().unwrap().mount().to_owned();
    let name = cgroup_name();
    let recording = start(&mut gadgetd(["run", "seccomp", "--cgroup", &name]));
    recording.stderr.until("waiting for");
    let others = TestCgroup::make(&mount.join(cgroup_name()));
    for n in 0..9000 {
        drop(TestCgroup::make(&others.0.join(n.to_string())));
    }
    let container = TestCgroup::make(&mount.join(&name));
    container.start("mkdir /proc/x").finish().code(1);
    let finished = recording.finish().code(0);
    assert!(has(&finished.names(), "mkdir"), "{finished:?}");
}

#[test]
fn a_cgroup_that_is_removed_at_once_ends_its_recording() {
    if !can_record() {
        return;
    }
    let mount = Hierarchy::find().unwrap().mount().to_owned();
    let name = cgroup_name();
    for _ in 0..5 {
        let recording = start(&mut gadgetd(["run", "seccomp", "--cgroup", &name]));
        recording.stderr.until("waiting for");
        let cgroup = TestCgroup::make(&mount.join(&name));
        cgroup.start("exec mkdir /proc/x").finish().code(1);
        drop(cgroup);
        let finished = recording.finish();
        assert!(has(&finished.code(0).names(), "mkdir"));
    }
}

#[test]
fn a_cgroup_that_exists_is_recorded_until_it_is_asked_to_end() {
    if !can_record() {
        return;
    }
    let mount = Hierarchy::find().unwrap().mount().to_owned();
    let cgroup = TestCgroup::make(&mount.join(cgroup_name()));
    let mut inside = cgroup.start("echo ready; read line; rmdir /proc/x; echo done; read line; exit 7");
    inside.stdout.until("ready");
    // By the path of its directory this time.
    let recording = start(&mut gadgetd(["run", "seccomp", "--cgroup", cgroup.0.to_str().unwrap()]));
    recording.stderr.until("recording");
    inside.line("go");
    inside.stdout.until("done");
    recording.signal(Signal::TERM);
    let names = recording.finish().code(0).names();
    assert!(has(&names, "rmdir"), "{names:?}");
    inside.line("end");
    inside.finish().code(7);
    assert!(cgroup.0.exists(), "it is not ours to remove");
}
