//! The command line without a recording: what is wrong is told before anything runs. Needs no rights.

mod support;

use std::{fs, os::unix::process::CommandExt, process::Command};

use support::{GADGETD, gadgetd, run, start};

#[test]
fn help_explains_the_program() {
    let help = run(["--help"]).code(0);
    for text in ["Usage: gadgetd", "run", "confine", "Examples:", "--verbose"] {
        assert!(help.stdout.contains(text), "no {text:?} in {}", help.stdout);
    }
    let help = run(["run", "--help"]).code(0);
    for text in
        ["GADGET", "--pid", "--cgroup", "--timeout", "--formatter", "--param", "--output", "Exit status:"]
    {
        assert!(help.stdout.contains(text), "no {text:?} in {}", help.stdout);
    }
    let help = run(["confine", "--help"]).code(0);
    for text in ["--profile", "--no-new-privileges", "Exit status:", "126"] {
        assert!(help.stdout.contains(text), "no {text:?} in {}", help.stdout);
    }
    let params = run(["run", "seccomp", "--list-params"]).code(0);
    for text in ["Gadget seccomp", "default-action", "Formatter oci", "compact", "if not given"] {
        assert!(params.stdout.contains(text), "no {text:?} in {}", params.stdout);
    }
    let params = run(["run", "seccomp", "--formatter", "spo", "--list-params"]).code(0);
    for text in ["Formatter spo", "api-version", "v1, v1beta1 or v1alpha1", "name"] {
        assert!(params.stdout.contains(text), "no {text:?} in {}", params.stdout);
    }
    assert_eq!(run(["--version"]).code(0).stdout, format!("gadgetd {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn modules_are_shown() {
    let text = run(["module", "inspect", "oci"]).code(0).stdout;
    for says in [
        "Formatter oci ",
        "--param compact=…",
        "World    gadget:framework/formatter-module@0.1.0",
        "Digest   sha256:",
        "Imports  gadget:framework/",
    ] {
        assert!(text.contains(says), "no {says:?} in {text}");
    }
    let text = run(["module", "inspect", "seccomp", "--json"]).code(0).stdout;
    let about: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&about["role"], &about["name"]), (&"gadget".into(), &"seccomp".into()));
    assert_eq!(about["capabilities"][0]["resource"], "seccompprofiles");
    assert!(about["size"].as_u64() > Some(10_000), "{about}");
    let unknown = run(["module", "inspect", "occi"]).code(2).stderr;
    assert!(
        unknown.contains("there is no module \"occi\"; there are: seccomp, seccomp-diff, oci"),
        "{unknown}"
    );
}

const RECORDING: &str = "tests/recordings/web.json";

/// `gadgetd` as somebody who may do nothing.
fn as_nobody(arguments: &[&str]) -> support::Finished {
    let folder = tempfile::tempdir().unwrap();
    let mut command = gadgetd(arguments);
    // A copy, where everybody may read it: the build's own folder may be closed to others.
    if rustix::process::geteuid().is_root() {
        use std::os::unix::fs::PermissionsExt;
        let copy = folder.path().join("gadgetd");
        fs::copy(GADGETD, &copy).unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        command = Command::new(copy);
        command.args(arguments).uid(65534).gid(65534);
    }
    start(&mut command).finish()
}

#[test]
fn a_module_is_tested_on_recordings_by_anybody() {
    // A project: the component, called like its folder, and recordings.
    let folder = tempfile::tempdir().unwrap();
    let project = folder.path().join("web");
    fs::create_dir_all(project.join("tests")).unwrap();
    let recording = fs::read_to_string(RECORDING).unwrap();
    let file = project.join("tests/web.json");
    let test = |more: &[&str]| {
        run([&["module", "test", "seccomp", "--replay", file.to_str().unwrap()], more].concat())
    };

    fs::write(&file, &recording).unwrap();
    let copy = folder.path().join("web.json");
    fs::write(&copy, &recording).unwrap();
    for path in [folder.path(), &copy] {
        use std::os::unix::fs::PermissionsExt;
        let mode = if path.is_dir() { 0o755 } else { 0o644 };
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let tested = as_nobody(&["module", "test", "seccomp", "--replay", copy.to_str().unwrap()]).code(0);
    assert_eq!(tested.stdout, format!("ok       {}\n\n1 of 1 as recorded\n", copy.display()));

    // What comes out otherwise is shown, and written down where that is wanted.
    fs::write(&file, recording.replace("\\\"accept4\\\"", "\\\"accept5\\\"")).unwrap();
    let shown = test(&[]).code(1).stdout;
    for says in [
        "FAILED   ",
        "--- recorded\n+++ now\n",
        "-        \"accept5\",\n",
        "+        \"accept4\",\n",
        "0 of 1",
    ] {
        assert!(shown.contains(says), "no {says:?} in {shown}");
    }
    assert!(test(&["--update"]).code(0).stdout.contains("updated  "));
    assert!(test(&["--update"]).code(0).stdout.contains("ok       "));
    test(&[]).code(0);
    assert!(test(&["--formatter", "table"]).code(1).stdout.contains("+++ now"));

    // By hand, one that does not say yet what should come out.
    let short = r#"{ "format": 1, "captures": [{ "container": { "name": "x" }, "syscalls": [{ "calls": "read" }] }] }"#;
    fs::write(&file, short).unwrap();
    assert!(test(&[]).code(1).stdout.contains("--update"));
    test(&["--update"]).code(0);
    test(&[]).code(0);

    // One that is damaged does not keep the others from being tested.
    fs::write(&file, &recording[..recording.len() / 2]).unwrap();
    let both = test(&["--replay", copy.to_str().unwrap()]).code(1).stdout;
    assert!(both.contains("is no recording: EOF") && both.ends_with("1 of 2 as recorded\n"), "{both}");

    let no_component = run(["module", "test", project.to_str().unwrap()]).code(1);
    no_component.says("there is no").says("web/web.wasm").says("gadgetd module build");
}

#[test]
fn what_cannot_be_tested_is_told() {
    for (line, code, says) in [
        ("module test seccomp", 1, "there is no recording in ./tests"),
        ("module test secomp --replay x", 2, "there are: seccomp"),
        ("module test ./none.wasm --replay x", 1, "cannot read gadget ./none.wasm"),
        ("module test seccomp --gadget seccomp --replay x", 1, "is a gadget itself"),
        ("module test oci --formatter oci --replay x", 1, "is a formatter itself"),
        ("module bench seccomp --replay none.json", 1, "none.json: cannot be read"),
        ("module bench seccomp --runs 0", 2, "--runs"),
    ] {
        let finished = run(line.split_whitespace()).code(code).says(says);
        assert_eq!(finished.stdout, "", "{line}");
    }
}

#[test]
fn a_module_is_measured() {
    for module in ["seccomp", "table"] {
        let text =
            run(["module", "bench", module, "--replay", RECORDING, "-n", "3", "--json"]).code(0).stdout;
        let found: serde_json::Value = serde_json::from_str(&text).unwrap();
        let number =
            |pointer: &str| found.pointer(pointer).and_then(serde_json::Value::as_u64).expect(pointer);
        assert_eq!((number("/runs"), found["module"].as_str()), (3, Some(module)));
        assert!(number("/load") < number("/compile"), "{found}");
        for step in ["instantiate-gadget", "generate", "instantiate-formatter", "format", "whole-run"] {
            let [min, median, p95] = ["min", "median", "p95"].map(|n| number(&format!("/times/{step}/{n}")));
            assert!(0 < min && min <= median && median <= p95, "{step}: {found}");
        }
        for what in ["gadget-memory", "formatter-memory", "output"] {
            let [most, limit] = ["most", "limit"].map(|n| number(&format!("/sizes/{what}/{n}")));
            assert!(0 < most && most <= limit, "{what}: {found}");
        }
    }
    let table = run(["module", "bench", "oci", "-n", "2"]).code(0).stdout;
    for says in ["gadget seccomp, formatter oci, 2 runs\n", "MEDIAN", "whole run", "65536 KiB"] {
        assert!(table.contains(says), "no {says:?} in {table}");
    }
}

#[test]
fn wrong_usage_has_its_own_code() {
    for (line, says) in [
        ("", "Usage:"),
        ("walk", "walk"),
        ("run seccomp", "required"),
        ("run -- true", "GADGET"),
        ("run seccomp true", "true"),
        ("run seccomp --pid 1 --cgroup x", "cannot be used with"),
        ("run seccomp --pid one", "one"),
        ("run seccomp --timeout 30 -- true", "30s"),
        ("run seccomp --timeout 0s -- true", "no time"),
        ("run seccomp --param compact -- true", "name=value"),
        ("run seccomp --cgroup /a/../b", ".."),
        ("run seccomp --cgroup /", "root"),
        ("run seccomp --cgroup /sys/fs/cgroup/memory/x", "mounted at"),
        // What there is not, with what there is.
        ("run secomp -- true", "there are: seccomp"),
        ("run seccomp --formatter occi -- true", "there are: oci, "),
        ("run seccomp --param default-acton=x -- true", "did you mean \"default-action\"?"),
        ("run seccomp --param compact=maybe -- true", "true or false"),
        ("run seccomp --param phase=most -- true", "phase"),
        ("run seccomp --param default-errno=many -- true", "default-errno"),
        ("run seccomp --param compact=true --param compact=true -- true", "twice"),
        ("confine -- true", "--profile"),
        ("confine --profile x", "COMMAND"),
    ] {
        let finished = run(line.split_whitespace()).code(2).says(says);
        assert_eq!(finished.stdout, "", "{line}");
    }
}

#[test]
fn what_cannot_be_run_is_told_before_anything_runs() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        path.display().to_string()
    };
    let text = file("text.wasm", b"once upon a time");
    let module = file("module.wasm", b"\0asm\x01\0\0\0");
    let cut = file("cut.wasm", b"\0asm\x0d\0\x01\0\x07");
    let component = file("empty.wasm", b"\0asm\x0d\0\x01\0");
    let missing = folder.path().join("missing.wasm").display().to_string();
    let folder_name = folder.path().display().to_string();
    let marker = folder.path().join("ran");
    let touch = marker.display().to_string();
    for file in [&text, &module, &cut, &component, &missing, &folder_name] {
        run(["run", "--gadget", file, "--", "touch", &touch]).code(1).says(file);
    }
    let formatter = if text.contains('/') { &text } else { unreachable!("an absolute path") };
    run(["run", "seccomp", "--formatter", formatter, "--", "touch", &touch]).code(1).says(formatter);
    run(["run", "seccomp", "--", "no-such-command"]).code(1).says("command not found: no-such-command");
    run(["run", "seccomp", "--", &text]).code(1).says("not executable");
    run(["run", "seccomp", "--", &folder_name]).code(1).says("directory");
    assert!(!marker.exists());
}

#[test]
fn processes_that_cannot_be_recorded_are_refused() {
    // Beyond the largest that a kernel gives.
    run(["run", "seccomp", "--pid", "4194305"]).code(1).says("no process has the id 4194305");
    let own = format!("exec {GADGETD} run seccomp --pid $$");
    start(Command::new("sh").args(["-c", &own])).finish().code(1).says("cannot record itself");

    let (told, thread) = std::sync::mpsc::channel();
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let other = std::thread::spawn(move || {
        told.send(rustix::thread::gettid().as_raw_pid()).unwrap();
        let _ = ended.recv();
    });
    let thread = thread.recv().unwrap().to_string();
    let hint = format!("--pid {}", std::process::id());
    run(["run", "seccomp", "--pid", &thread]).code(1).says("is a thread of process").says(&hint);
    drop(end);
    other.join().unwrap();

    // kthreadd, where it can be seen.
    if fs::read_to_string("/proc/2/comm").is_ok_and(|name| name.trim() == "kthreadd") {
        run(["run", "seccomp", "--pid", "2"]).code(1).says("thread of the kernel");
    }
}

#[test]
fn recording_without_rights_says_which_are_missing() {
    let arguments = ["run", "seccomp", "--recorder", "ebpf", "--", "true"];
    let finished = as_nobody(&arguments).code(1).says("CAP_BPF").says("root");
    assert_eq!(finished.stdout, "");
}
