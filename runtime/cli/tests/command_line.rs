//! What needs no cluster.

use std::{fs, process::Command};

fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-gadget"));
    let command =
        command.args(arguments).env("KUBECONFIG", "/nonexistent").env_remove("KUBERNETES_SERVICE_HOST");
    let output = command.env("HOME", "/nonexistent").output().expect("it starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn wrong_usage_is_told_on_standard_error_with_status_2() {
    for arguments in [
        &["walk"][..],
        &["run", "seccomp"],
        &["run", "seccomp", "-l", "a!=b"],
        &["list", "--as-group", "x"],
        &["list", "-A", "-n", "x"],
    ] {
        let (code, stdout, stderr) = run(arguments);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{arguments:?}: {stderr}");
        assert!(stderr.contains("Usage: kubectl gadget"), "{stderr}");
    }
}

#[test]
fn help_names_the_plugin_as_people_type_it() {
    let (code, stdout, _) = run(&["run", "--help"]);
    assert_eq!(code, Some(0));
    assert!(stdout.contains("Usage: kubectl gadget run"), "{stdout}");
    assert!(stdout.contains("--detach"), "{stdout}");
}

#[test]
fn without_a_cluster_it_says_what_it_looked_for() {
    let (code, stdout, stderr) = run(&["list"]);
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert!(
        stderr.contains("cannot tell which cluster is meant") && stderr.contains("--kubeconfig"),
        "{stderr}"
    );
    assert_eq!(run(&["version", "--client"]).1, format!("client:  {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(run(&["deploy", "--dry-run"]).0, Some(0));
}

#[cfg(unix)]
#[test]
fn kubectl_gets_completions_from_the_script_of_the_help() {
    use std::path::Path;

    let (_, help, _) = run(&["completion", "--help"]);
    let script: Vec<_> = help
        .lines()
        .skip_while(|line| !line.contains("#!"))
        .take_while(|line| !line.is_empty())
        .map(str::trim)
        .collect();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("kubectl_complete-gadget");
    fs::write(&file, script.join("\n")).expect("written");
    let programs = Path::new(env!("CARGO_BIN_EXE_kubectl-gadget")).parent().expect("a folder");
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").expect("a PATH"));
    for (words, wanted) in [
        (&["seccomp-"][..], "seccomp-advisor"),
        (&[""], "undeploy"),
        (&["run", "seccomp", "--form"], "--formatter"),
        (&["list", "-o", ""], "yaml"),
    ] {
        let output = Command::new("bash").arg(&file).args(words).env("PATH", &path).output();
        let output = output.expect("it runs");
        let text = String::from_utf8(output.stdout).expect("text");
        let lines: Vec<_> = text.lines().collect();
        assert!(lines.contains(&wanted) && lines.last() == Some(&":0"), "{words:?}: {lines:?}");
    }
}

#[test]
fn shells_and_man_know_every_command() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let (code, stdout, _) = run(&["completion", shell]);
        assert_eq!(code, Some(0), "{shell}");
        for word in ["seccomp-advisor", "undeploy", "formatter"] {
            assert!(stdout.contains(word), "{shell}: no {word}");
        }
    }
    let folder = tempfile::tempdir().expect("a folder");
    let (code, _, stderr) = run(&["man", folder.path().to_str().expect("a name")]);
    assert_eq!(code, Some(0), "{stderr}");
    let pages: Vec<_> =
        fs::read_dir(folder.path()).expect("pages").map(|page| page.expect("a page").file_name()).collect();
    for page in ["kubectl-gadget.1", "kubectl-gadget-run.1", "kubectl-gadget-seccomp-advisor-start.1"] {
        assert!(pages.iter().any(|found| found == page), "no {page} in {pages:?}");
    }
    assert_eq!(run(&["man", "/nonexistent"]).0, Some(1));
}
