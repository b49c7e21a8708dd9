//! Modules in Python, JavaScript and C that misbehave as only they can, and what the host makes of each: an error that
//! names the module and the reason, and nothing else. Those in Rust are in `tests/guests`.

mod support;

use std::{sync::LazyLock, time::Duration};

use gadgetd_core::{Abi, Capture, Completeness, Container, Machine, Phases, Syscall};
use gadgetd_host::{
    Formatter, Gadget, Host, HostConfig, Kind, Level, Limits, ModuleRef, Params, Reason, Report, Run,
    RunError,
};
use support::project::Project;

/// The host of all: what one module does to it, the next would feel.
static HOST: LazyLock<Host> = LazyLock::new(|| {
    let limits = Limits {
        call: Duration::from_secs(1),
        output: 1 << 20,
        log_lines: 50,
        // The machine may be busy; a component made from Python is large.
        compile: Duration::from_mins(10),
        ..Limits::default()
    };
    Host::new(HostConfig { limits, ..HostConfig::default() }).unwrap()
});

/// What comes of a misbehaviour.
#[derive(Debug)]
enum Comes {
    /// The run fails, and whoever reads why reads this.
    Says(&'static str),
    /// The same, and there is nothing more to be known: it called a system that is not there.
    NoSystem,
    /// The run fails, and what was logged is kept up to the limit.
    Floods,
    /// Nothing: it is none of what a module could do harm with.
    Done(fn(&Report)),
}

use Comes::{Done, Floods, NoSystem, Says};

const TIME: Comes = Says(" ran for more than 1s, the limit of one call");
const MEMORY: Comes = Says(" needs more memory than the 64 MiB it may have");

const PYTHON: &[(&str, Comes)] = &[
    ("raises", Says(" panicked: KeyError: 'on purpose'")),
    ("exits", Says(" panicked: SystemExit: 0")),
    ("aborts", NoSystem),
    ("loops", TIME),
    ("sleeps", NoSystem),
    ("asks-the-time", NoSystem),
    ("allocates", Says(" panicked: MemoryError")),
    ("recurses", Says(" panicked: RecursionError: maximum recursion depth exceeded")),
    ("recurses-without-limit", MEMORY),
    ("reads-a-file", NoSystem),
    ("writes-a-file", NoSystem),
    ("prints", NoSystem),
    ("reads-the-environment", Done(|report| assert_eq!(report.log[0].message, "{}", "it is empty"))),
    ("connects", NoSystem),
    ("starts-a-process", Says(" panicked: OSError: ")),
    ("starts-a-thread", Says(" panicked: RuntimeError: can't start new thread")),
    ("loads-a-library", NoSystem),
    ("emits-a-huge-document", Says(" emits more than 1 MiB, the limit of a run")),
    ("emits-an-absurd-document", Says(" passed more than 2 MiB to the host in one call")),
    (
        "emits-escapes",
        Says(" made something that the host refuses: the document holds the control character U+001B"),
    ),
    ("emits-surrogates", NoSystem),
    ("emits-a-number", NoSystem),
    (
        "lets-an-answer-pass",
        Says(" panicked: Err: Error_Rejected(value='the document holds the control character"),
    ),
    ("needs-the-cluster", Says(" cannot do its work on the cluster: unavailable: there is no cluster here")),
    ("floods-the-log", Floods),
    ("floods-the-cluster", TIME),
    ("fails-with-a-number", Says(" panicked: Err: 4711")),
    ("uses-a-capture-after-its-end", NoSystem),
    ("makes-an-empty-policy", Says(" made something that the host refuses: the policy has no rules")),
    ("makes-a-policy-of-rubbish", Says(r#" made something that the host refuses: rule 0 has "rm -rf /""#)),
];

const JAVASCRIPT: &[(&str, Comes)] = &[
    ("throws", Says(" panicked: TypeError: cannot read property 'onPurpose' of undefined")),
    ("throws-nothing", Says(" panicked")),
    ("loops", TIME),
    ("loops-in-a-regular-expression", TIME),
    ("waits-for-ever", TIME),
    ("allocates", Says(" panicked: InternalError: out of memory")),
    ("makes-a-huge-text", Says(" panicked: InternalError: out of memory")),
    ("recurses", Says(" ran out of stack: it recurses too deep")),
    ("evaluates-text", TIME),
    ("asks-the-time", NoSystem),
    ("asks-for-random-numbers", Says(" panicked: ReferenceError: crypto is not defined")),
    ("prints", Says(" panicked: ReferenceError: console is not defined")),
    ("fetches", Says(" panicked: ReferenceError: fetch is not defined")),
    ("exits", Says(" panicked: ReferenceError: process is not defined")),
    ("changes-the-language", TIME),
    ("emits-a-huge-document", Says(" emits more than 1 MiB, the limit of a run")),
    ("emits-an-absurd-document", Says(" passed more than 2 MiB to the host in one call")),
    (
        "emits-escapes",
        Says(" made something that the host refuses: the document holds the control character U+001B"),
    ),
    ("emits-surrogates", NoSystem),
    ("emits-a-number", NoSystem),
    ("emits-what-throws", NoSystem),
    ("emits-about-what-is-no-capture", NoSystem),
    (
        "lets-an-answer-pass",
        Says(r#" panicked: {"tag":"rejected","val":"the document holds the control character"#),
    ),
    ("needs-the-cluster", Says(" cannot do its work on the cluster: unavailable: there is no cluster here")),
    ("floods-the-log", Floods),
    ("logs-at-no-level", NoSystem),
    ("floods-the-cluster", TIME),
    ("fails-with-a-number", NoSystem),
    ("fails-with-an-unknown-error", NoSystem),
    ("makes-an-empty-policy", Says(" made something that the host refuses: the policy has no rules")),
    ("makes-a-policy-of-rubbish", Says(r#" made something that the host refuses: rule 0 has "rm -rf /""#)),
];

const C: &[(&str, Comes)] = &[
    (
        "writes-beyond-memory",
        Says(" reached beyond its memory: it recurses too deep, or follows a wrong pointer"),
    ),
    ("calls-what-is-no-function", Says(" trapped: undefined element: out of bounds table access")),
    ("calls-with-wrong-arguments", Says(" trapped: indirect call type mismatch")),
    ("divides-by-zero", Says(" trapped: integer divide by zero")),
    ("overflows-its-stack", Says(" reached beyond its memory: it recurses too deep")),
    ("allocates", MEMORY),
    ("loops", TIME),
    ("aborts", NoSystem),
    ("lies-about-a-length", Says(" broke the contract: string pointer/length out of bounds of memory")),
    ("sends-what-is-no-text", Says(" broke the contract: invalid utf-8 sequence")),
];

async fn run(gadget: &Gadget, param: &str) -> Result<Report, RunError> {
    let formatter: Formatter = HOST.formatter(&ModuleRef::parse("oci")).await.unwrap();
    let params = Params::resolve(gadget, &formatter, [param]).unwrap();
    let capture = Capture {
        container: Container { id: "web".into(), ..Container::default() },
        machine: Machine::X86_64,
        syscalls: vec![Syscall { abi: Abi::Native, number: 0, phases: Phases::APPLICATION }],
        refused: Vec::new(),
        completeness: Completeness::default(),
    };
    let (captures, reason) = ([capture].into(), Reason::OnDemand);
    HOST.run(Run { gadget, formatter: &formatter, params, captures, reason, target: None, cluster: None })
        .await
}

/// What is wrong with what came of it, if anything.
fn unlike(comes: &Comes, outcome: &Result<Report, RunError>, module: &str) -> Option<String> {
    let fails = |says: &str| match outcome {
        Ok(report) => Some(format!("it succeeded: {report:?}")),
        Err(error) => {
            let text = error.to_string();
            let named = text.starts_with(&format!("gadget {module} "));
            let tidy = !text.contains(char::is_control) && error.report.documents.is_empty();
            (!named || !tidy || !text.contains(says)).then_some(text)
        }
    };
    match (comes, outcome) {
        (Says(says), _) => fails(says),
        (NoSystem, _) => fails(" panicked"),
        (Floods, Err(error)) if error.report.log.len() != 50 || error.report.dropped_log_lines < 1000 => {
            let report = &error.report;
            Some(format!("{} lines, and {} more", report.log.len(), report.dropped_log_lines))
        }
        (Floods, _) => fails(" ran for more than 1s"),
        (Done(check), Ok(report)) => {
            check(report);
            None
        }
        (Done(_), Err(error)) => Some(error.to_string()),
    }
}

async fn all(language: &str, table: &[(&str, Comes)]) {
    let project = Project::guest(language);
    let Some(module) = project.build() else { return };
    let gadget = HOST.gadget(&module).await.unwrap();
    let ModuleRef::File(file) = &module else { unreachable!() };
    // Whoever adds a misbehaviour says here what comes of it.
    let Kind::Choice(known) = &gadget.description().params[1].kind else { panic!("{gadget:?}") };
    assert_eq!(*known, table.iter().map(|(name, _)| (*name).to_owned()).collect::<Vec<_>>());

    let mut wrong = Vec::new();
    for (does, comes) in table {
        let outcome = run(&gadget, &format!("misbehave={does}")).await;
        wrong.extend(
            unlike(comes, &outcome, &file.display().to_string()).map(|what| format!("{does}: {what}")),
        );
        // The next run of the same module is as if nothing had happened.
        let report = run(&gadget, "calls=get shop one").await.unwrap();
        let [only] = report.documents.as_slice() else { panic!("{does}: {report:?}") };
        assert!(only.document.body.starts_with("unavailable: there is no cluster"), "{does}: {report:?}");
        assert!(report.log.iter().all(|line| line.level != Level::Error), "{does}: {report:?}");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn modules_in_python() {
    all("python", PYTHON).await;
}

#[tokio::test]
async fn modules_in_javascript() {
    all("js", JAVASCRIPT).await;
}

#[tokio::test]
async fn modules_in_c() {
    all("c", C).await;
}
