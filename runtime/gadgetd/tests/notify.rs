//! Recordings without privileges, by seccomp notification. As root, the privileges are given up first.

mod support;

use std::{
    fs,
    process::{Command, Stdio},
    time::Instant,
};

use gadgetd_core::{Abi, Machine, syscall_number};
use rustix::process::{Pid, Signal, kill_process};
use support::{DEADLINE, Finished, GADGETD, Running, gadgetd, has, processes_with, start, unique_number};

/// `gadgetd` without any capability.
fn unprivileged(arguments: &[&str]) -> Command {
    if !rustix::process::geteuid().is_root() {
        return gadgetd(arguments);
    }
    let mut command = Command::new("setpriv");
    command
        .args(["--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all", "--", GADGETD])
        .args(arguments);
    command.env_remove("RUST_LOG").env("LC_ALL", "C").stdin(Stdio::null());
    command
}

fn record(command: &[&str]) -> Finished {
    begin(command, Stdio::null()).finish()
}

fn begin(command: &[&str], stdin: Stdio) -> Running {
    start(unprivileged(&[&["run", "seccomp", "--"], command].concat()).stdin(stdin))
}

/// Waits for something that is about to be so.
#[track_caller]
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}: it is not so");
        std::thread::yield_now();
    }
}

#[test]
fn without_rights_a_command_is_recorded_and_one_line_says_how() {
    let finished = record(&["true"]).code(0).says("command exited with 0");
    let lines: Vec<_> =
        finished.stderr.lines().filter(|line| line.contains("seccomp notification")).collect();
    let [line] = lines[..] else { panic!("not one line: {finished:?}") };
    for part in ["eBPF", "CAP_BPF", "microseconds", "--pid", "setuid", "no_new_privs"] {
        assert!(line.contains(part), "no {part:?} in {line}");
    }
    let names = finished.names();
    for name in ["brk", "execve", "exit_group"] {
        assert!(has(&names, name), "no {name} in {names:?}");
    }
    // What the launcher does before it executes the command is not the command's.
    for name in ["seccomp", "sendmsg", "prctl", "dup2", "bpf", "mkdir"] {
        assert!(!has(&names, name), "{name} in {names:?}");
    }
    assert!(has(&record(&["mkdir", "/nonexistent/x"]).code(0).says("exited with 1").names(), "mkdir"));
}

#[test]
fn the_two_recorders_record_the_same() {
    if !support::can_record() {
        return;
    }
    let by = |recorder: &str| {
        start(&mut gadgetd([
            "run",
            "seccomp",
            "--recorder",
            recorder,
            "--",
            "sh",
            "-c",
            "mkdir /proc/x; ls / | wc",
        ]))
        .finish()
        .code(0)
    };
    let (ebpf, notify) = (by("ebpf"), by("notify").says("seccomp notification"));
    assert_eq!(notify.names(), ebpf.names());
    // With the right to load filters there is nothing that the command would have to give up.
    assert!(!notify.stderr.contains("no_new_privs") && !ebpf.stderr.contains("notification"), "{notify:?}");
}

#[test]
fn a_command_gives_up_what_it_could_gain_only_where_it_must() {
    let status = ["grep", "NoNewPrivs", "/proc/self/status"];
    record(&status).code(0).says("NoNewPrivs:\t1");
    if support::can_record() {
        let notify = ["run", "seccomp", "--recorder", "notify", "--"];
        start(&mut gadgetd([&notify[..], &status].concat())).finish().code(0).says("NoNewPrivs:\t0");
    }
}

#[test]
fn only_commands_are_recorded_without_ebpf() {
    let run =
        |arguments: &[&str]| start(&mut unprivileged(&[&["run", "seccomp"], arguments].concat())).finish();
    let own = std::process::id().to_string();
    for target in [["--pid", &own], ["--cgroup", "/gadgetd-none"]] {
        let asked = run(&[&["--recorder", "notify"], &target[..]].concat()).code(2);
        asked.says(&format!("{} needs the recorder ebpf", target[0])).says("a command that gadgetd starts");
        run(&target).code(1).says(&format!("{} needs eBPF", target[0])).says("CAP_BPF");
    }
    run(&["--recorder", "ebpf", "--", "true"]).code(1).says("CAP_BPF");
}

#[test]
fn ends_are_told_as_with_ebpf() {
    record(&["sh", "-c", "exit 3"]).code(0).says("command exited with 3").names();
    record(&["sh", "-c", "kill -SEGV $$"]).code(0).says("command was killed by SIGSEGV").names();
    record(&["sh", "-c", "kill -KILL $$"]).code(0).says("command was killed by SIGKILL").names();

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("orphan");
    fs::write(&file, "#!/no/such/shell\n").unwrap();
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    assert_eq!(record(&[file.to_str().unwrap()]).code(1).says("interpreter").stdout, "");
}

#[test]
fn a_container_that_forbids_what_is_needed_is_told_and_nothing_hangs() {
    let folder = tempfile::tempdir().unwrap();
    let profile = folder.path().join("profile.json");
    for (call, text) in
        [("seccomp", "forbids seccomp(2)"), ("close_range", "cannot start the process that answers")]
    {
        let rule = format!(r#"{{"names": ["{call}"], "action": "SCMP_ACT_ERRNO"}}"#);
        fs::write(&profile, format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{rule}]}}"#))
            .unwrap();
        let mut confined = Command::new(GADGETD);
        confined.args(["confine", "--profile"]).arg(&profile).args(["--", GADGETD, "run", "seccomp"]);
        confined.args(["--recorder", "notify", "--", "true"]).stdin(Stdio::null());
        assert_eq!(start(&mut confined).finish().code(1).says(text).stdout, "");
    }
}

#[test]
fn signals_and_the_time_limit_end_the_command_and_the_result_comes() {
    let script = "trap 'kill -9 $!; mkdir /proc/x; exit 9' INT; sleep 1000 & echo ready; wait";
    let running = begin(&["sh", "-c", script], Stdio::null());
    running.stderr.until("ready");
    // `setpriv` has executed gadgetd: it has the id.
    running.signal(Signal::INT);
    assert!(has(&running.finish().code(0).says("command exited with 9").names(), "mkdir"));

    let limited = ["run", "seccomp", "--timeout", "300ms", "--", "sleep", "1000"];
    let finished = start(&mut unprivileged(&limited)).finish().code(0).says("was killed by SIGTERM");
    assert!(has(&finished.names(), "clock_nanosleep"));
}

#[test]
fn losses_are_told() {
    let finished = record(&["perl", "-e", "syscall(5000); syscall(900);"]);
    let finished = finished.code(3).says("incomplete").says("no table has").says("900");
    assert!(has(&finished.names(), "execve"), "the result is still there");

    // What is refused because of the recorder: the strict mode, in both ways, and another listener, that of a recorder in it.
    let number = |name| syscall_number(Machine::current(), Abi::Native, name).unwrap();
    let strict = format!("syscall({}, 0, 0, 0); syscall({}, 22, 1)", number("seccomp"), number("prctl"));
    record(&["perl", "-e", &strict]).code(3).says("2 requests for a seccomp listener");
    let inner = [GADGETD, "run", "seccomp", "--recorder", "notify", "--", "true"];
    record(&inner)
        .code(3)
        .says("has a listener already")
        .says("command exited with 1")
        .says("1 requests for");
    // To ask what the kernel can do, as libseccomp does, is no loss.
    let question = format!("syscall({}, 1, 8, 0)", number("seccomp"));
    record(&["perl", "-e", &question]).code(0);
}

/// Each call that fails because a signal came while it waited for its answer is counted, and told.
#[test]
fn interrupted_calls_are_told() {
    let number = syscall_number(Machine::current(), Abi::Native, "getppid").unwrap();
    let script = format!(
        "use Time::HiRes qw(setitimer ITIMER_REAL); my $failed = 0;
         $SIG{{ALRM}} = sub {{}}; setitimer(ITIMER_REAL, 0.0003, 0.0003);
         my $end = time + 60;
         while ($failed < 20 && time < $end) {{ $failed++ if syscall({number}) < 0 }}
         setitimer(ITIMER_REAL, 0); print \"failed: $failed\\n\""
    );
    let finished = record(&["perl", "-e", &script]).code(0).says("failed: 20").says("EINTR");
    // Perl's own calls, between those, are interrupted as well.
    let counted =
        finished.stderr.split("signals interrupted ").nth(1).and_then(|text| text.split(' ').next());
    assert!(counted.unwrap().parse::<u64>().unwrap() >= 20, "{finished:?}");
    let quiet = record(&["true"]).code(0);
    assert!(!quiet.stderr.contains("interrupted"), "{quiet:?}");
}

#[test]
fn what_the_command_leaves_behind_is_ended() {
    let number = unique_number();
    let daemon = format!("setsid sh -c 'echo up; exec sleep {number} > /dev/null'");
    let script = format!("for i in 1 2 3; do {daemon} & done | {{ read a; read b; read c; }}");
    let finished = record(&["sh", "-c", &script]).code(0).says("left 3 processes running");
    assert!(has(&finished.names(), "setsid"));
    assert_eq!(processes_with(&number), [0; 0]);

    // One that does not listen, and is another process each time somebody looks.
    let restless = format!("$SIG{{TERM}} = 'IGNORE'; while (1) {{ fork and exit }} # {number}");
    let script = format!("echo \"$1\" > /dev/null; setsid perl -e \"$1\" {number} &");
    let running = begin(&["sh", "-c", &script, "sh", &restless], Stdio::null());
    running.stderr.until("left 1 process running");
    running.signal(Signal::INT);
    running.finish().code(0).names();
    assert_eq!(processes_with(&number), [0; 0]);
}

#[test]
fn the_command_goes_on_when_gadgetd_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let made = folder.path().join("made");
    let script = format!("sh -c 'echo ready; read line; mkdir {}; echo told'; echo ended", made.display());
    let mut running = begin(&["sh", "-c", &script], Stdio::piped());
    running.stderr.until("ready");
    running.signal(Signal::KILL);
    running.child.wait().unwrap();
    running.line("go");
    // Both shells make calls, and they work.
    running.stderr.until("told\nended");
    assert!(made.is_dir());
}

#[test]
fn nothing_hangs_when_the_supervisor_is_killed() {
    // Of its two processes, the one that waits for the end, and the one that answers.
    for answering in [false, true] {
        let number = unique_number();
        // One that only waits, one that would try for ever, and one that is no child of the command any more.
        let script =
            format!("setsid sleep {number} & perl -e 'while (1) {{ getppid }}' {number} & echo ready; wait");
        let running = begin(&["sh", "-c", &script], Stdio::null());
        running.stderr.until("ready");
        until("three processes run", || processes_with(&number).len() == 2);
        let waiting = supervisor_of(running.child.id().cast_signed());
        let pid = if answering { supervisor_of(waiting) } else { waiting };
        kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
        let finished = running.finish().code(1).says("was killed: the command can't go on");
        assert_eq!(finished.stdout, "", "half a recording is no result");
        assert_eq!(processes_with(&number), [0; 0]);
    }
}

/// The process of a supervisor that has this parent.
fn supervisor_of(parent: i32) -> i32 {
    let is_one = |process: &procfs::process::Process| {
        process.stat().is_ok_and(|stat| stat.comm == "seccomp-notify" && stat.ppid == parent)
    };
    let all = procfs::process::all_processes().unwrap().flatten();
    let [one] = &all.filter(is_one).collect::<Vec<_>>()[..] else { panic!("not one supervisor") };
    one.pid()
}
