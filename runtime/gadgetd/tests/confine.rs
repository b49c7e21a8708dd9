//! Commands under a profile. Runs with or without root.

mod support;

use std::{fs, path::PathBuf};

use rustix::process::{Signal, geteuid};
use support::{Finished, gadgetd, run, start};
use tempfile::TempDir;

/// A profile in a file.
struct Profile {
    path: PathBuf,
    _folder: TempDir,
}

impl Profile {
    fn new(json: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("profile.json");
        fs::write(&path, json).unwrap();
        Self { path, _folder: folder }
    }

    /// Everything is allowed but these calls, which get this action.
    fn refusing(names: &str, action: &str) -> Self {
        Self::new(&format!(
            r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{{"names": [{names}], "action": "{action}"}}]}}"#
        ))
    }

    /// Nothing is allowed but these calls.
    fn allowing(names: &str, otherwise: &str) -> Self {
        Self::new(&format!(
            r#"{{"defaultAction": "{otherwise}", "syscalls": [{{"names": [{names}], "action": "SCMP_ACT_ALLOW"}}]}}"#
        ))
    }

    fn run(&self, command: &[&str]) -> Finished {
        let path = self.path.display().to_string();
        run([&["confine", "--profile", &path, "--"], command].concat())
    }
}

#[test]
fn what_is_not_allowed_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let made = folder.path().join("made").display().to_string();
    let profile = Profile::refusing(r#""mkdir", "mkdirat""#, "SCMP_ACT_ERRNO");
    profile.run(&["mkdir", &made]).code(1).says("Operation not permitted");
    assert!(!folder.path().join("made").exists());
    assert_eq!(profile.run(&["echo", "hello"]).code(0).stdout, "hello\n");

    // Another errno, and one for some arguments only: ENOSYS (38) for a folder that only its owner can use.
    let some = Profile::new(
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO",
            "errnoRet": 38, "args": [{"index": 1, "value": 448, "op": "SCMP_CMP_EQ"}]}]}"#,
    );
    some.run(&["mkdir", "-m", "700", &made]).code(1).says("Function not implemented");
    some.run(&["mkdir", &made]).code(0);
}

#[test]
fn the_commands_own_end_is_passed_on() {
    let profile = Profile::refusing(r#""mkdir""#, "SCMP_ACT_ERRNO");
    profile.run(&["sh", "-c", "exit 7"]).code(7);
    profile.run(&["sh", "-c", "kill -KILL $$"]).code(137).says("SIGKILL");
    Profile::refusing(r#""mkdir""#, "SCMP_ACT_KILL_PROCESS").run(&["mkdir", "x"]).code(159).says("SIGSYS");
    Profile::refusing(r#""mkdir""#, "SCMP_ACT_TRAP").run(&["mkdir", "x"]).code(159).says("SIGSYS");
}

#[test]
fn a_profile_without_execve_fails_and_does_not_hang() {
    // With and without what would be needed to tell of it, and to exit.
    for allowed in [r#""read""#, r#""write", "exit_group""#, r#""rt_sigreturn", "write""#] {
        let profile = Profile::allowing(allowed, "SCMP_ACT_ERRNO");
        profile.run(&["true"]).code(126).says("cannot execute").says("does the profile allow execve?");
    }
    // One with a higher number: runc lets what is newer than the whole profile fail instead.
    Profile::allowing(r#""exit_group""#, "SCMP_ACT_KILL_PROCESS").run(&["true"]).code(159).says("SIGSYS");
}

#[test]
fn profiles_that_cannot_be_used_name_the_field() {
    for (json, says) in [
        ("", "EOF"),
        ("no json", "expected"),
        ("{}", "defaultAction"),
        (r#"{"defaultAction": "SCMP_ACT_ALOW"}"#, "defaultAction"),
        (
            r#"{"defaultAction": "SCMP_ACT_NOTIFY", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}]}"#,
            "defaultAction",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_TRACE"}]}"#,
            "syscalls[0].action",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": [1], "action": "SCMP_ACT_ALLOW"}]}"#,
            "syscalls[0].names[0]",
        ),
        (r#"{"defaultAction": "SCMP_ACT_ERRNO", "listenerPath": "/x"}"#, "listenerPath"),
        (r#"{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_Z80"]}"#, "architectures[0]"),
        (r#"{"defaultAction": "SCMP_ACT_ERRNO", "flags": ["FAST"]}"#, "flags[0]"),
    ] {
        let finished = Profile::new(json).run(&["true"]).code(125).says(says);
        assert_eq!(finished.stdout, "", "{json}");
    }
    run(["confine", "--profile", "/no/such/profile.json", "--", "true"])
        .code(125)
        .says("/no/such/profile.json");
}

#[test]
fn commands_that_cannot_be_run_have_the_usual_codes() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str, mode| {
        use std::os::unix::fs::PermissionsExt;
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.display().to_string()
    };
    let profile = Profile::refusing(r#""mkdir""#, "SCMP_ACT_ERRNO");
    profile.run(&["no-such-command"]).code(127).says("command not found");
    profile.run(&[&file("plain", "#!/bin/sh\n", 0o644)]).code(126).says("not executable");
    profile.run(&[&file("garbage", "\x7f garbage", 0o755)]).code(126).says("neither a program");
    profile.run(&[&file("orphan", "#!/no/such/shell\n", 0o755)]).code(126).says("interpreter");
    profile.run(&[&folder.path().display().to_string()]).code(126).says("directory");
}

#[test]
fn names_that_no_kernel_has_are_told() {
    let finished = Profile::refusing(r#""mkdir", "opne""#, "SCMP_ACT_ERRNO").run(&["true"]).code(0);
    assert!(finished.stderr.contains("`opne`") && !finished.stderr.contains("`mkdir`"), "{finished:?}");
    // Calls of other architectures are no mistakes.
    let finished =
        Profile::refusing(r#""mkdir", "waitpid", "socketcall""#, "SCMP_ACT_ERRNO").run(&["true"]).code(0);
    assert_eq!(finished.stderr, "");
}

/// runc answers a call that is newer than the whole profile as an older kernel would; crun does as the profile says.
#[test]
fn each_runtime_has_its_answer_to_newer_calls() {
    // Everything but calls that are newer than close_range (436).
    let numbers = (0..437).filter_map(|number| {
        let call = gadgetd_core::Syscall {
            abi: gadgetd_core::Abi::Native,
            number,
            phases: gadgetd_core::Phases::APPLICATION,
        };
        call.name(gadgetd_core::Machine::current())
    });
    let names: Vec<_> = numbers.map(|name| format!("\"{name}\"")).collect();
    let profile = Profile::allowing(&names.join(", "), "SCMP_ACT_ERRNO");
    let path = profile.path.display().to_string();
    let script = "syscall(600); print $! + 0, qq(\n)";
    for (runtime, errno) in [(None, "38\n"), (Some("runc"), "38\n"), (Some("crun"), "1\n")] {
        let runtime: Vec<_> = runtime.iter().flat_map(|name| ["--as", name]).collect();
        let words = [&["confine", "--profile", &path][..], &runtime, &["--", "perl", "-e", script]].concat();
        assert_eq!(run(words).code(0).stdout, errno, "{runtime:?}");
    }
}

#[test]
fn privileges_are_kept_unless_they_must_go() {
    let profile = Profile::refusing(r#""mkdir""#, "SCMP_ACT_ERRNO");
    let path = profile.path.display().to_string();
    let state = ["--", "grep", "NoNewPrivs", "/proc/self/status"];
    let kept = run([&["confine", "--profile", &path][..], &state].concat()).code(0);
    let expected = if geteuid().is_root() { "NoNewPrivs:\t0\n" } else { "NoNewPrivs:\t1\n" };
    assert_eq!(kept.stdout, expected);
    let given_up =
        run([&["confine", "--profile", &path, "--no-new-privileges"][..], &state].concat()).code(0);
    assert_eq!(given_up.stdout, "NoNewPrivs:\t1\n");
}

#[test]
fn signals_reach_the_command() {
    let profile = Profile::refusing(r#""mkdir""#, "SCMP_ACT_ERRNO");
    let path = profile.path.display().to_string();
    for (signal, name) in [(Signal::TERM, "TERM"), (Signal::INT, "INT"), (Signal::HUP, "HUP")] {
        // KILL: a shell's child that is not its program yet would take any other signal for the shell's own, and lose it.
        let script = format!("trap 'kill -9 $!; exit 9' {name}; sleep 1000 & echo ready; wait");
        let running = start(&mut gadgetd(["confine", "--profile", &path, "--", "sh", "-c", &script]));
        running.stdout.until("ready");
        running.signal(signal);
        running.finish().code(9);
    }
}
