//! `docs/writing-a-gadget.md`, from an empty folder: what its blocks `console guide` say is done as it stands there, in every
//! language.

mod support;

use std::{path::Path, process::Command};

use gadgetd_artifacts::cache::tools;
use gadgetd_artifacts::{target_dir, workspace};
use gadgetd_registry_tests::Registry;
use support::{GADGETD, can_record};

const GUIDE: &str = include_str!("../../../docs/writing-a-gadget.md");

/// A command, and what it must print: whole lines, and `…` for any number of characters or lines.
#[derive(Debug, Default)]
struct Step {
    command: String,
    prints: Vec<String>,
}

/// What the guide does, in this language.
fn steps(language: &str) -> Vec<Step> {
    let mut steps = Vec::<Step>::new();
    let mut inside = false;
    for line in GUIDE.lines() {
        match (inside, line) {
            (false, "```console guide") => inside = true,
            (true, "```") => inside = false,
            (true, line) => match (line.strip_prefix("$ ").or(line.strip_prefix("# ")), steps.last_mut()) {
                (Some(command), _) => {
                    let command = command.replace("--lang rust", &format!("--lang {language}"));
                    steps.push(Step { command, prints: Vec::new() });
                }
                (None, Some(step)) => step.prints.push(line.to_owned()),
                (None, None) => panic!("what prints {line:?}?"),
            },
            (false, _) => {}
        }
    }
    steps
}

/// Whether the text is what the lines say.
fn fits(text: &str, lines: &[&str]) -> bool {
    match lines {
        [] => text.is_empty(),
        ["…"] => true,
        ["…", rest @ ..] => {
            let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1));
            starts.into_iter().any(|start| fits(&text[start..], rest))
        }
        [line, rest @ ..] => {
            let (first, after) = text.split_once('\n').unwrap_or((text, ""));
            let same = match line.strip_suffix('…') {
                Some(start) => first.starts_with(start),
                None => first == *line,
            };
            same && (line.is_empty() || !text.is_empty()) && fits(after, rest)
        }
    }
}

/// Does all of it in a shell: what one command sets the next one has.
fn follow(language: &str) {
    if !can_record() {
        return;
    }
    let registry = Registry::start();
    let folder = tempfile::tempdir().unwrap();
    let steps = steps(language);
    assert!(steps.len() > 8, "the guide does too little: {steps:?}");
    let mut script = String::from("set -eu\n");
    for (index, Step { command, .. }) in steps.iter().enumerate() {
        let out = folder.path().join(format!("{index}.out"));
        // In this shell, not one below: a folder that was changed into stays, and so does a variable.
        let shown = command.replace('\'', "'\\''");
        script.extend(["echo '+ ", &shown, "' >&2\n{ ", command, "\n} > ", &out.display().to_string(), "\n"]);
    }
    let work = folder.path().join("work");
    std::fs::create_dir(&work).unwrap();
    let ours = Path::new(GADGETD).parent().unwrap().to_owned();
    let path =
        std::env::join_paths(std::iter::once(ours).chain(std::env::split_paths(&tools::path()))).unwrap();
    let mut shell = Command::new("bash");
    shell.arg("-c").arg(&script).current_dir(&work).env("PATH", path).env("REGISTRY", registry.address());
    shell.env("GADGETD_SDK", workspace().join("sdk/rust")).env_remove("RUST_LOG").env("LC_ALL", "C");
    shell.env("CARGO_TARGET_DIR", target_dir().join("artifacts/projects"));
    let done = shell.output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{language}: {said}");
    for (index, step) in steps.iter().enumerate() {
        let printed = std::fs::read_to_string(folder.path().join(format!("{index}.out"))).unwrap();
        let wanted: Vec<&str> = step.prints.iter().map(String::as_str).collect();
        assert!(
            fits(&printed, &wanted),
            "{language}: `{}` printed\n{printed}\nand not\n{wanted:#?}\n{said}",
            step.command
        );
    }
}

#[test]
fn in_rust() {
    follow("rust");
}

#[test]
fn in_python() {
    follow("python");
}

#[test]
fn in_javascript() {
    follow("js");
}

#[test]
fn in_c() {
    follow("c");
}

#[test]
fn what_is_printed_is_compared() {
    assert!(fits("a\nb\nc\n", &["a", "…", "c"]) && fits("a\n", &["a"]) && fits("ab\n", &["a…"]));
    assert!(fits("x\n\ny\n", &["x", "", "y"]) && fits("anything\n", &["…"]) && fits("", &[]));
    for (text, lines) in [("a\nb\n", ["a"].as_slice()), ("", &["a"]), ("b\n", &["a…"]), ("a\n", &["…", "c"])]
    {
        assert!(!fits(text, lines), "{text:?} {lines:?}");
    }
}
