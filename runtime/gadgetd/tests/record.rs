//! Recordings with the real program in the kernel. Needs root.

mod support;

use std::{
    fs,
    io::Write,
    os::fd::AsFd,
    path::Path,
    process::{Command, Stdio},
};

use gadgetd_containers::Hierarchy;
use rustix::{
    process::{Pid, Signal, kill_process},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};
use support::{
    GADGETD, TestCgroup, Text, can_record, cgroup_name, cgroups_of, gadgetd, has, names, processes_with, run,
    start, unique_number,
};

fn record(command: &[&str]) -> support::Finished {
    run([&["run", "seccomp", "--"], command].concat())
}

#[test]
fn a_command_is_recorded_from_its_first_call_to_its_last() {
    if !can_record() {
        return;
    }
    let finished = record(&["true"]).code(0).says("command exited with 0").says("--cgroup");
    let names = finished.names();
    // What the loader does first, and what the kernel sees last.
    for name in ["brk", "execve", "exit_group"] {
        assert!(has(&names, name), "no {name} in {names:?}");
    }
    // What gadgetd's child does before it executes the command is not the command's.
    for name in ["clone3", "setpgid", "dup2", "bpf"] {
        assert!(!has(&names, name), "{name} in {names:?}");
    }
    assert!(!has(&names, "mkdir"));
    assert!(has(&record(&["mkdir", "/nonexistent/x"]).code(0).says("exited with 1").names(), "mkdir"));
}

#[test]
fn standard_output_is_for_the_result() {
    if !can_record() {
        return;
    }
    let finished = record(&["echo", "hello"]).code(0);
    assert!(!finished.stdout.contains("hello"));
    assert!(finished.stderr.contains("hello\n"));
    assert!(has(&finished.names(), "write"));

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("profile.json");
    let finished = run(["run", "seccomp", "-o", file.to_str().unwrap(), "--", "echo", "hello"]).code(0);
    assert_eq!(finished.stdout, "hello\n");
    assert!(has(&names(&fs::read_to_string(&file).unwrap()), "write"));
}

#[test]
fn a_run_is_kept_and_comes_out_again() {
    if !can_record() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.json");
    let path = file.to_str().unwrap();
    let test = || run(["module", "test", "seccomp", "--replay", path]).code(0);
    let kept = || fs::read_to_string(&file).unwrap();

    let recorded =
        run(["run", "seccomp", "--record", path, "--param", "compact=true", "--", "mkdir", "/x/y"]).code(0);
    assert!(has(&recorded.names(), "mkdir"));
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let recording: serde_json::Value = serde_json::from_str(&kept()).unwrap();
    let body: Vec<_> =
        recording["result"]["documents"][0]["document"]["body"].as_array().unwrap().iter().collect();
    let body: Vec<_> = body.iter().map(|line| line.as_str().unwrap()).collect();
    assert_eq!(body.join("\n"), recorded.stdout, "the same bytes");
    assert_eq!(recording["params"][0], "compact=true");
    test();

    // One that fails is worth more.
    let conflict = ["--param", "default-action=log", "--param", "default-errno=1"];
    let failed =
        run([&["run", "seccomp", "--record", path], &conflict[..], &["--", "true"]].concat()).code(1);
    assert_eq!(failed.stdout, "");
    assert!(kept().contains(r#""kind": "invalid-parameter""#), "{}", kept());
    test();

    // Where it cannot be kept, nothing is run.
    let marker = folder.path().join("ran");
    let none = folder.path().join("none/run.json");
    let arguments =
        ["run", "seccomp", "--record", none.to_str().unwrap(), "--", "touch", marker.to_str().unwrap()];
    run(arguments).code(1).says("cannot write the recording").says("none/run.json");
    assert!(!marker.exists());
}

#[test]
fn a_result_that_cannot_be_written_goes_to_standard_output() {
    if !can_record() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for file in [
        "/proc/profile.json",
        folder.path().join("none/x").to_str().unwrap(),
        folder.path().to_str().unwrap(),
    ] {
        let finished =
            run(["run", "seccomp", "-o", file, "--", "echo", "hello"]).code(1).says(file).says("hello");
        assert!(has(&finished.names(), "write"));
    }
    // Or fails at last, where nobody reads standard output.
    let mut unread = gadgetd(["run", "seccomp", "--", "true"]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = unread.stdout(writer).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot write to standard output"));
}

#[test]
fn the_commands_end_is_told() {
    if !can_record() {
        return;
    }
    record(&["sh", "-c", "exit 3"]).code(0).says("command exited with 3").names();
    record(&["sh", "-c", "kill -SEGV $$"]).code(0).says("command was killed by SIGSEGV").names();
    record(&["sh", "-c", "kill -KILL $$"]).code(0).says("command was killed by SIGKILL").names();
}

#[test]
fn a_command_that_the_kernel_refuses_fails() {
    if !can_record() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("orphan");
    fs::write(&file, "#!/no/such/shell\n").unwrap();
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let finished = record(&[file.to_str().unwrap()]).code(1).says("interpreter");
    assert_eq!(finished.stdout, "");
}

#[test]
fn signals_reach_the_command_and_the_result_comes() {
    if !can_record() {
        return;
    }
    for (signal, name) in
        [(Signal::TERM, "TERM"), (Signal::INT, "INT"), (Signal::HUP, "HUP"), (Signal::QUIT, "QUIT")]
    {
        let script =
            format!("trap 'kill -9 $!; mkdir /proc/x; exit 9' {name}; sleep 1000 & echo ready; wait");
        let running = start(&mut gadgetd(["run", "seccomp", "--", "sh", "-c", &script]));
        running.stderr.until("ready");
        running.signal(signal);
        let finished = running.finish().code(0).says("command exited with 9");
        assert!(has(&finished.names(), "mkdir"), "what it did after {name} is missing");
    }
    // One that does not care.
    let running = start(&mut gadgetd(["run", "seccomp", "--", "sh", "-c", "echo ready; exec sleep 1000"]));
    running.stderr.until("ready");
    running.signal(Signal::TERM);
    running.finish().code(0).says("command was killed by SIGTERM").names();
}

#[test]
fn what_was_ignored_stays_ignored() {
    if !can_record() {
        return;
    }
    // As under nohup: a hang-up ends neither.
    let script =
        format!("trap '' HUP; exec {GADGETD} run seccomp -- sh -c 'kill -HUP $$; kill -HUP $PPID; exit 4'");
    start(Command::new("sh").args(["-c", &script])).finish().code(0).says("command exited with 4").names();
}

#[test]
fn the_time_limit_ends_the_command() {
    if !can_record() {
        return;
    }
    // On a machine that is busy the command may not get that far in so short a time.
    let slept = |limit| {
        let finished = run(["run", "seccomp", "--timeout", limit, "--", "sleep", "1000"]).code(0);
        has(&finished.says("command was killed by SIGTERM").names(), "clock_nanosleep")
    };
    assert!(["300ms", "3s", "30s"].into_iter().any(slept));
    record(&["true"]).code(0);
    run(["run", "seccomp", "--timeout", "1h", "--", "true"]).code(0).names();
}

/// `gadgetd` in the foreground of a terminal of its own.
struct Terminal {
    master: std::fs::File,
    screen: Text,
    running: support::Running,
}

impl Terminal {
    fn start(arguments: &[&str]) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&master, size).unwrap();
        let master = std::fs::File::from(master);
        let (screen, _) = Text::of(master.try_clone().unwrap());
        // `setsid -c` makes the terminal the controlling one, and the command its foreground. The outputs go through
        // the shell, because those of the process itself are captured.
        let line = format!("exec setsid -c -w \"$@\" <{name} >{name} 2>&1");
        let mut command = Command::new("sh");
        command
            .args(["-c", &line, "sh", GADGETD])
            .args(arguments)
            .env("TERM", "xterm")
            .env_remove("RUST_LOG");
        Self { master, screen, running: start(command.stdin(Stdio::null())) }
    }
}

#[test]
fn ctrl_c_reaches_the_command_once() {
    if !can_record() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("profile.json");
    let script = "trap 'echo got it' INT; echo armed; read line || read line; echo \"read $line\"; exit 5";
    let mut terminal =
        Terminal::start(&["-vv", "run", "seccomp", "-o", file.to_str().unwrap(), "--", "sh", "-c", script]);
    terminal.screen.until("armed");
    terminal.master.write_all(b"\x03").unwrap();
    terminal.screen.until("the command has it from the terminal");
    terminal.screen.until("got it");
    // It went on reading, or began again: shells differ. One that ended here might do so before gadgetd looks at the signal.
    terminal.master.write_all(b"more\n").unwrap();
    terminal.running.finish().code(0);
    terminal.screen.until("command exited with");
    let screen = terminal.screen.now();
    assert_eq!(screen.matches("got it\r\n").count(), 1, "{screen}");
    assert!(screen.contains("read more"), "{screen}");
    assert!(!screen.contains("passed on to the command"), "{screen}");
    assert!(has(&names(&fs::read_to_string(&file).unwrap()), "read"));
}

#[test]
fn a_terminal_shows_how_it_goes() {
    if !can_record() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("profile.json");
    let mut terminal = Terminal::start(&["run", "seccomp", "-o", file.to_str().unwrap(), "--", "cat"]);
    terminal.screen.until("distinct calls, the last new one");
    terminal.master.write_all(b"\x04").unwrap();
    terminal.running.finish().code(0);
    // The scrolling region is given back.
    terminal.screen.until("\x1b[r");

    let plain = record(&["sh", "-c", "echo ready"]).code(0);
    assert!(!plain.stderr.contains('\x1b') && !plain.stderr.contains("distinct calls"), "{plain:?}");
}

#[test]
fn daemons_that_are_left_behind_are_ended() {
    if !can_record() {
        return;
    }
    let number = unique_number();
    // It ends when each has said that it has a session of its own.
    let daemon = format!("setsid sh -c 'echo up; exec sleep {number} > /dev/null'");
    let script = format!("for i in 1 2 3; do {daemon} & done | {{ read a; read b; read c; }}");
    let finished = record(&["sh", "-c", &script]).code(0).says("left 3 processes running");
    assert!(has(&finished.names(), "setsid"));
    assert_eq!(processes_with(&number), [0; 0]);

    // One that does not listen is killed; at once, if the user does not want to wait.
    let script = format!("trap '' TERM; setsid sleep {number} &");
    let running = start(&mut gadgetd(["run", "seccomp", "--", "sh", "-c", &script]));
    running.stderr.until("left 1 process running");
    running.signal(Signal::INT);
    running.finish().code(0).names();
    assert_eq!(processes_with(&number), [0; 0]);

    // A stopped one can be ended too.
    let script = format!("setsid sleep {number} & kill -STOP $!");
    record(&["sh", "-c", &script]).code(0).says("left 1 process running");
    assert_eq!(processes_with(&number), [0; 0]);
}

#[test]
fn daemons_in_cgroups_of_their_own_are_ended_too() {
    if !can_record() {
        return;
    }
    let hierarchy = Hierarchy::find().unwrap();
    let number = unique_number();
    let below = format!("{}$cgroup/below", hierarchy.mount().display());
    // It has its number as an argument only once it has a session of its own, and says so when it has.
    let daemon = format!("setsid sh -c 'echo up; exec sleep {number} > /dev/null'");
    let script = format!(
        "cgroup=$(grep ^0:: /proc/self/cgroup | cut -d: -f3); mkdir {below}; echo $$ > {below}/cgroup.procs; \
         {daemon} > /dev/null & wait; {{ {daemon} & }} | read up; exit 0"
    );
    let running = start(&mut gadgetd(["run", "seccomp", "--", "sh", "-c", &script]));
    // The shell waits for the first daemon, which is ended from here; then it leaves another one behind.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    // A process that is in the middle of an exec has no arguments: another look may not find it again.
    let daemons = loop {
        let found = processes_with(&number);
        if !found.is_empty() {
            break found;
        }
        assert!(std::time::Instant::now() < deadline, "{}", running.stderr.now());
        std::thread::yield_now();
    };
    let own = &cgroups_of(running.child.id());
    assert_eq!(own.len(), 2, "{own:?}");
    for pid in daemons {
        assert!(hierarchy.of_process(pid).unwrap().ends_with("/below"));
        kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    }
    let finished = running.finish().code(0).says("left 1 process running");
    // What was done in the cgroup below is the command's.
    assert!(has(&finished.names(), "setsid"));
    assert_eq!(processes_with(&number), [0; 0]);
}

#[test]
fn five_hundred_daemons_are_recorded_and_ended() {
    if !can_record() {
        return;
    }
    let number = unique_number();
    let script =
        format!("i=0; while [ $i -lt 500 ]; do setsid sleep {number} & i=$((i+1)); done; mkdir /proc/x");
    let finished = record(&["sh", "-c", &script]).code(0).says("left 500 processes running");
    for name in ["setsid", "mkdir", "clock_nanosleep"] {
        assert!(has(&finished.names(), name), "{name}");
    }
    assert_eq!(processes_with(&number), [0; 0]);
}

#[test]
fn several_recordings_at_once_do_not_mix() {
    if !can_record() {
        return;
    }
    let calls = [("mkdir", "mkdir"), ("rmdir", "rmdir"), ("mkfifo", "mknodat"), ("ln -s", "symlinkat")];
    let running = calls.map(|(command, _)| {
        let script = format!("read line; {command} /proc/x /proc/y");
        start(gadgetd(["run", "seccomp", "--", "sh", "-c", &script]).stdin(Stdio::piped()))
    });
    let finished = running.map(|mut one| {
        one.line("go");
        one.finish().code(0).names()
    });
    for (index, own) in finished.iter().enumerate() {
        for (other, (_, call)) in calls.iter().enumerate() {
            assert_eq!(has(own, call), index == other, "{call} in that of {}: {own:?}", calls[index].0);
        }
    }
}

#[test]
fn what_is_lost_is_told_and_has_its_own_code() {
    if !can_record() {
        return;
    }
    // A number beyond the tables, and one that is in no table.
    let script = "syscall(5000); syscall(900);";
    let finished = record(&["perl", "-e", script]).code(3).says("incomplete").says("900").says("no table");
    assert!(has(&finished.names(), "execve"), "the result is still there");
    // An x32 call has its name, and is no loss.
    let finished = record(&["perl", "-e", "syscall(0x40000000 + 39)"]).code(0);
    assert!(has(&finished.names(), "getpid"));
}

#[test]
fn a_verdict_has_its_own_code() {
    if !can_record() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let profile = folder.path().join("profile.json");
    fs::write(&profile, record(&["true"]).code(0).stdout).unwrap();
    let against = format!("against=@{}", profile.display());
    let diff =
        |command: &[&str]| run([&["run", "seccomp-diff", "--param", &against, "--"], command].concat());
    let same = diff(&["true"]).code(0);
    assert!(same.stdout.contains("Verdict: pass."), "{}", same.stdout);
    let other = diff(&["mkdir", "/nonexistent/x"]).code(4).says("not as it should be: mkdir: ").says("mkdir");
    assert!(other.stdout.contains("Verdict: fail."), "{}", other.stdout);
    // A person can trust the code alone, and has the result anyway.
    run(["run", "seccomp-diff", "--param", "against=@/nonexistent", "--", "true"])
        .code(2)
        .says("cannot read /nonexistent");
}

#[test]
fn a_threaded_cgroup_that_the_command_leaves_behind_costs_nothing() {
    if !can_record() {
        return;
    }
    let mount = Hierarchy::find().unwrap().mount().to_owned();
    let script = format!(
        "own={}$(sed -n s/^0:://p /proc/self/cgroup); mkdir $own/threaded; echo threaded > $own/threaded/cgroup.type; \
         tail -f /dev/null & echo $! > $own/threaded/cgroup.threads",
        mount.display()
    );
    let finished = record(&["sh", "-c", &script]).says("left 1 process running");
    assert!(has(&finished.names(), "execve"), "{finished:?}");
}

#[test]
fn an_empty_recording_is_an_error_and_no_empty_profile() {
    if !can_record() {
        return;
    }
    let name = cgroup_name();
    let finished =
        run(["run", "seccomp", "--cgroup", &name, "--timeout", "200ms"]).code(1).says("has not appeared");
    assert_eq!(finished.stdout, "");
    let recording = start(&mut gadgetd(["run", "seccomp", "--cgroup", &name]));
    recording.stderr.until("waiting for");
    recording.signal(Signal::INT);
    assert_eq!(recording.finish().code(1).says("has not appeared").stdout, "");

    let mount = Hierarchy::find().unwrap().mount().to_owned();
    let cgroup = TestCgroup::make(&mount.join(&name));
    let finished = run(["run", "seccomp", "--cgroup", &name, "--timeout", "200ms"]).code(1);
    assert_eq!(finished.stdout, "", "{}", finished.stderr);
    let recording = start(&mut gadgetd(["run", "seccomp", "--cgroup", &name]));
    recording.stderr.until("recording");
    drop(cgroup);
    assert_eq!(recording.finish().code(1).stdout, "");
}

#[test]
fn what_a_killed_gadgetd_left_is_cleared_by_the_next() {
    if !can_record() {
        return;
    }
    let hierarchy = Hierarchy::find().unwrap();
    let mut running = start(
        gadgetd(["run", "seccomp", "--", "sh", "-c", "echo ready; read line; exit 8"]).stdin(Stdio::piped()),
    );
    running.stderr.until("ready");
    let pid = running.child.id();
    let [cgroup] = &cgroups_of(pid)[..] else { panic!("not one cgroup: {:?}", cgroups_of(pid)) };
    let procs = fs::read_to_string(hierarchy.directory(cgroup).join("cgroup.procs")).unwrap();
    let shell: i32 = procs.trim().parse().unwrap();
    running.signal(Signal::KILL);
    running.child.wait().unwrap();

    record(&["true"]).code(0);
    // Or by one that another test runs, which may be at it.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !cgroups_of(pid).is_empty() {
        assert!(std::time::Instant::now() < deadline, "left: {:?}", cgroups_of(pid));
        std::thread::yield_now();
    }
    // The command was not told to end, and goes on.
    assert_eq!(hierarchy.of_process(shell).unwrap(), hierarchy.own().unwrap());
    let shell =
        rustix::process::pidfd_open(Pid::from_raw(shell).unwrap(), rustix::process::PidfdFlags::empty());
    running.line("end");
    let mut ends = [rustix::event::PollFd::from_borrowed_fd(
        shell.as_ref().unwrap().as_fd(),
        rustix::event::PollFlags::IN,
    )];
    let limit = rustix::event::Timespec { tv_sec: 30, tv_nsec: 0 };
    assert_eq!(rustix::event::poll(&mut ends, Some(&limit)), Ok(1), "it hangs");
}

#[test]
fn a_machine_that_lacks_something_is_told_what() {
    if !can_record() {
        return;
    }
    let mount = Hierarchy::find().unwrap().mount().display().to_string();
    let without = |change: &str| {
        let script = format!(
            "mount --make-rprivate / && {change} && exec {GADGETD} run seccomp --recorder ebpf -- true"
        );
        let finished = start(Command::new("unshare").args(["--mount", "sh", "-c", &script])).finish().code(1);
        assert_eq!(finished.stdout, "");
        finished
    };
    without(&format!("umount -R {mount}")).says("cgroup v2");
    if Path::new("/sys/kernel/btf/vmlinux").exists() {
        without("mount -t tmpfs none /sys/kernel/btf").says("BTF");
    }
    without(&format!("mount -o remount,bind,ro {mount}")).says("Read-only file system");
}

#[test]
fn the_table_is_for_people() {
    if !can_record() {
        return;
    }
    let finished = run(["run", "seccomp", "--formatter", "table", "--", "true"]).code(0);
    assert!(finished.stdout.contains("execve"), "{}", finished.stdout);
    let object = run(["run", "seccomp", "--formatter", "spo", "--param", "name=cart", "--", "true"]).code(0);
    assert!(object.stdout.contains("kind: SeccompProfile\nmetadata:\n  name: cart\n"), "{}", object.stdout);
    let compact =
        run(["run", "seccomp", "--param", "compact=true", "--param", "include=bpf", "--", "true"]).code(0);
    assert_eq!(compact.stdout.trim_end().lines().count(), 1);
    assert!(has(&compact.names(), "bpf"));
}
