//! Each parameter, and each edge, of the gadget `seccomp`.

use std::collections::BTreeSet;

use gadget_sdk::{
    Abi, Action, Architecture, Capture, Document, Error, Formatter, Loss, Machine, Module, Params, Phases,
    Policy, Refusal, Rule, formatter, output,
    testing::{self, CaptureBuilder, GadgetRun, Outcome},
};
use seccomp_advisor::{ALWAYS, START, SeccompAdvisor, VDSO};

fn advisor() -> GadgetRun<SeccompAdvisor> {
    testing::gadget()
}

/// A container that an OCI runtime started: `fchown` by the runtime alone, `close` by both.
fn web() -> CaptureBuilder {
    testing::capture("app")
        .pod("shop", "web-0")
        .call(Abi::Native, 1, "write", Phases::APPLICATION)
        .call(Abi::Native, 0, "read", Phases::APPLICATION)
        .call(Abi::Native, 3, "close", Phases::all())
        .call(Abi::Native, 93, "fchown", Phases::RUNTIME)
        .call(Abi::Native, 59, "execve", Phases::RUNTIME)
}

fn policy(run: &GadgetRun<SeccompAdvisor>, capture: Capture) -> Policy {
    let mut outcome = run.run(vec![capture]);
    outcome.result.expect("the run succeeds");
    assert_eq!(outcome.policies.len(), 1);
    outcome.policies.remove(0)
}

fn names(policy: &Policy) -> &[String] {
    &policy.rules[0].names
}

/// These names, and those that every policy allows, in order.
fn and_added(own: &[&str]) -> Vec<String> {
    let all: BTreeSet<_> = own.iter().chain(&ALWAYS).chain(&VDSO).map(|name| (*name).to_owned()).collect();
    all.into_iter().collect()
}

fn log(outcome: &Outcome) -> Vec<String> {
    outcome.log.iter().map(ToString::to_string).collect()
}

fn invalid(run: &GadgetRun<SeccompAdvisor>) -> String {
    let outcome = run.run(vec![web().build()]);
    assert!(outcome.emitted.is_empty());
    match outcome.result {
        Err(Error::InvalidParameter(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn it_allows_what_was_recorded_and_nothing_else() {
    let policy = policy(&advisor(), web().build());
    insta::assert_debug_snapshot!(policy, @r#"
    Policy {
        default-action: Action::Errno(
            None,
        ),
        architectures: [
            Architecture::X8664,
            Architecture::X86,
            Architecture::X32,
        ],
        rules: [
            Rule {
                names: [
                    "clock_getres",
                    "clock_gettime",
                    "close",
                    "execve",
                    "exit",
                    "exit_group",
                    "fchown",
                    "futex",
                    "getcpu",
                    "gettimeofday",
                    "read",
                    "restart_syscall",
                    "rt_sigreturn",
                    "time",
                    "write",
                ],
                action: Action::Allow,
                args: [],
            },
        ],
    }
    "#);
}

#[test]
fn names_are_sorted_and_unique() {
    // `mmap2` and `read` as a 32-bit program makes them, and `read` once more.
    let capture = web()
        .call(Abi::Compat, 3, "read", Phases::APPLICATION)
        .call(Abi::Compat, 192, "mmap2", Phases::APPLICATION)
        .call(Abi::X32, 0, "read", Phases::APPLICATION)
        .build();
    let policy = policy(&advisor(), capture);
    assert_eq!(
        names(&policy),
        and_added(&["close", "fchown", "futex", "mmap2", "read", "sigreturn", "write"])
    );
}

#[test]
fn each_default_action() {
    let rows = [
        ("errno", Action::Errno(None)),
        ("kill-process", Action::KillProcess),
        ("kill-thread", Action::KillThread),
        ("trap", Action::Trap),
        ("log", Action::Log),
    ];
    for (word, action) in rows {
        let policy = policy(&advisor().param("default-action", word), web().build());
        assert_eq!(policy.default_action, action, "{word}");
    }
}

#[test]
fn the_errno_is_the_users() {
    for errno in [1_u16, 38, 4095] {
        let policy = policy(&advisor().param("default-errno", &errno.to_string()), web().build());
        assert_eq!(policy.default_action, Action::Errno(Some(errno)));
    }
}

#[test]
fn impossible_parameters_are_named() {
    let given = |name, value| advisor().param(name, value);
    let rows = [
        invalid(&given("default-errno", "0")),
        invalid(&given("default-errno", "4096")),
        invalid(&given("default-errno", "-1")),
        invalid(&given("default-errno", "65537")),
        invalid(&given("default-errno", "1").param("default-action", "trap")),
        invalid(&given("include", "read,Read")),
        invalid(&given("exclude", "../read")),
        invalid(&given("include", "bpf").param("exclude", "bpf")),
        invalid(&given("exclude", &and_added(&["close", "fchown", "futex", "read", "write"]).join(","))),
    ];
    insta::assert_snapshot!(rows.join("\n"), @r#"
    default-errno: 0 is no errno; they are 1 to 4095
    default-errno: 4096 is no errno; they are 1 to 4095
    default-errno: -1 is no errno; they are 1 to 4095
    default-errno: 65537 is no errno; they are 1 to 4095
    default-errno: goes with default-action=errno, not with trap
    include: "Read" cannot be the name of a system call
    exclude: "../read" cannot be the name of a system call
    include: bpf stands in exclude too
    exclude: leaves nothing to allow for shop/web-0/app
    "#);
}

#[test]
fn every_architecture_that_the_machine_can_run() {
    let on = |machine| policy(&advisor(), web().machine(machine).build()).architectures;
    assert_eq!(on(Machine::X86_64), [Architecture::X86_64, Architecture::X86, Architecture::X32]);
    assert_eq!(on(Machine::Aarch64), [Architecture::Aarch64, Architecture::Arm]);
}

#[test]
fn only_architectures_that_were_observed() {
    let observed = advisor().param("architectures", "observed");
    let on = |capture: CaptureBuilder| policy(&observed, capture.build()).architectures;
    let compat = |machine| web().machine(machine).call(Abi::Compat, 1, "exit", Phases::APPLICATION);
    assert_eq!(on(web()), [Architecture::X86_64]);
    assert_eq!(on(compat(Machine::X86_64)), [Architecture::X86_64, Architecture::X86]);
    assert_eq!(on(compat(Machine::Aarch64)), [Architecture::Aarch64, Architecture::Arm]);
    let x32 = web().call(Abi::X32, 0, "read", Phases::APPLICATION);
    assert_eq!(on(x32), [Architecture::X86_64, Architecture::X32]);
    // The native one is that of whoever starts the program.
    let compat_alone = testing::capture("old").call(Abi::Compat, 4, "write", Phases::APPLICATION);
    assert_eq!(on(compat_alone), [Architecture::X86_64, Architecture::X86]);
}

#[test]
fn an_architecture_of_another_phase_is_not_observed() {
    let run = advisor().param("architectures", "observed").param("phase", "application");
    let capture = web().call(Abi::X32, 0, "read", Phases::RUNTIME).build();
    assert_eq!(policy(&run, capture).architectures, [Architecture::X86_64]);
}

#[test]
fn the_application_alone() {
    let policy = policy(&advisor().param("phase", "application"), web().build());
    assert_eq!(names(&policy), and_added(&["close", "read", "write"]));
}

#[test]
fn included_calls_are_allowed() {
    let policy = policy(&advisor().param("include", "ptrace, read,,_llseek"), web().build());
    assert_eq!(
        names(&policy),
        and_added(&["_llseek", "close", "fchown", "futex", "ptrace", "read", "write"])
    );
}

#[test]
fn excluded_calls_are_not() {
    let outcome = advisor().param("exclude", "fchown,exit,bpf,futex,rt_sigreturn").run(vec![web().build()]);
    let without = ["exit", "rt_sigreturn"];
    let expected =
        and_added(&["close", "read", "write"]).into_iter().filter(|name| !without.contains(&&**name));
    assert_eq!(names(&outcome.policies[0]), expected.collect::<Vec<_>>());
    insta::assert_snapshot!(log(&outcome).join("\n"), @"
    warn: a container may not start or end without this call excluded=exit
    warn: a container may not start or end without this call excluded=futex
    warn: a container may not start or end without this call excluded=rt_sigreturn
    warn: excluded, but was not recorded name=bpf container=shop/web-0/app
    ");
}

#[test]
fn what_every_policy_allows_is_enough_to_start_and_end() {
    let capture = testing::capture("true").call(Abi::Native, 12, "brk", Phases::APPLICATION).build();
    let policy = policy(&advisor(), capture);
    assert!(ALWAYS.iter().all(|name| names(&policy).iter().any(|n| n == name)));
    assert!(VDSO.iter().all(|name| names(&policy).iter().any(|n| n == name)));
    assert_eq!(names(&policy).len(), ALWAYS.len() + VDSO.len() + 1);

    let compat = testing::capture("true").call(Abi::Compat, 45, "brk", Phases::APPLICATION).build();
    assert!(names(&self::policy(&advisor(), compat)).contains(&"sigreturn".to_owned()));
}

/// runc's Go runtime makes these in one start and not in the next.
#[test]
fn what_a_runtime_may_need_at_any_time_is_allowed_where_one_was_seen() {
    let application = testing::capture("true").call(Abi::Native, 12, "brk", Phases::APPLICATION);
    let has = |policy: &Policy| START.map(|name| names(policy).iter().any(|n| n == name));
    assert_eq!(has(&policy(&advisor(), application.build())), [false]);
    assert_eq!(has(&policy(&advisor(), web().build())), [true]);
    assert_eq!(has(&policy(&advisor().param("phase", "application"), web().build())), [false]);
}

#[test]
fn nothing_recorded_is_no_policy() {
    let rows = [
        advisor().run(vec![testing::capture("idle").build()]),
        advisor().param("include", "read").run(vec![testing::capture("idle").pod("shop", "web-0").build()]),
        advisor()
            .param("phase", "application")
            .run(vec![testing::capture("dead").call(Abi::Native, 59, "execve", Phases::RUNTIME).build()]),
        advisor().run(vec![testing::capture("odd").call(Abi::Native, 999, None, Phases::all()).build()]),
        advisor().run(vec![testing::capture("a").build(), testing::capture("b").build()]),
        advisor().run(vec![]),
    ];
    let mut errors = Vec::new();
    for outcome in rows {
        assert!(outcome.emitted.is_empty());
        match outcome.result {
            Err(Error::Empty(what)) => errors.push(what),
            other => panic!("{other:?}"),
        }
    }
    insta::assert_snapshot!(errors.join("\n"), @"
    no call of idle was recorded that a policy can name
    no call of shop/web-0/idle was recorded that a policy can name
    no call of dead was recorded in the application phase that a policy can name
    no call of odd was recorded that a policy can name
    no call of a, b was recorded that a policy can name
    no container was recorded
    ");
}

#[test]
fn one_empty_container_does_not_cost_the_others_theirs() {
    let outcome = advisor().run(vec![testing::capture("idle").build(), web().build()]);
    assert_eq!(outcome.result, Ok(()));
    assert_eq!(outcome.emitted.len(), 1);
    assert_eq!(outcome.emitted[0].about, ["shop/web-0/app"]);
    insta::assert_snapshot!(log(&outcome).join("\n"), @"warn: no policy: no call was recorded that a policy can name container=idle");
}

#[test]
fn each_container_gets_its_own() {
    let other = testing::capture("db").call(Abi::Native, 74, "fsync", Phases::APPLICATION).build();
    let outcome = advisor().run(vec![web().build(), other]);
    let about: Vec<_> = outcome.emitted.iter().map(|emitted| emitted.about.join(" ")).collect();
    assert_eq!(about, ["shop/web-0/app", "db"]);
    assert_eq!(names(&outcome.policies[1]), and_added(&["fsync"]));
    assert_eq!(log(&outcome), [""; 0]);
}

#[test]
fn what_is_missing_is_said() {
    let capture = web()
        .call(Abi::Native, 999, None, Phases::APPLICATION)
        .call(Abi::Compat, 998, None, Phases::APPLICATION)
        .loss(Loss::UnknownNumbers(3))
        .loss(Loss::MissedEvents(1))
        .build();
    let outcome = advisor().run(vec![capture]);
    assert_eq!(outcome.result, Ok(()));
    assert_eq!(outcome.emitted.len(), 1);
    insta::assert_snapshot!(log(&outcome).join("\n"), @"
    warn: a call without a name cannot be allowed abi=native number=999 container=shop/web-0/app
    warn: a call without a name cannot be allowed abi=compat number=998 container=shop/web-0/app
    warn: the recording is incomplete lost=3 calls with a number that no table has container=shop/web-0/app
    warn: the recording is incomplete lost=1 events that the kernel did not deliver container=shop/web-0/app
    ");
}

#[test]
fn a_container_that_already_ran_is_no_reason_to_warn() {
    let outcome = advisor().run(vec![web().already_running().build()]);
    assert_eq!(log(&outcome), [""; 0]);
}

/// Cannot write anything down.
struct Broken;

impl Module for Broken {
    fn describe() -> gadget_sdk::Description {
        gadget_sdk::Description::new("broken", "1.0.0", "Fails.")
    }
}

impl Formatter for Broken {
    fn format(_: &Params, _: &Policy, _: &[&Capture]) -> Result<Document, formatter::Error> {
        Err(formatter::Error::Unsupported("anything".into()))
    }
}

#[test]
fn the_formatters_error_is_the_gadgets() {
    let outcome = advisor().formatter::<Broken>().run(vec![web().build()]);
    assert_eq!(outcome.result, Err(Error::Format(formatter::Error::Unsupported("anything".into()))));
    assert!(outcome.emitted.is_empty());
}

#[test]
fn the_caps_error_is_the_gadgets() {
    let outcome = advisor().output_limit(3).run(vec![web().build()]);
    assert_eq!(outcome.result, Err(Error::Output(output::Error::TooLarge(3))));
}

#[test]
fn it_describes_itself() {
    insta::assert_debug_snapshot!(SeccompAdvisor::describe(), @r#"
    Description {
        name: "seccomp",
        version: "0.1.0",
        summary: "Makes a seccomp policy that allows what a container was seen to do.",
        params: [
            Spec {
                name: "default-action",
                help: "What happens to a call that the policy does not allow.",
                kind: Kind::Choice(
                    [
                        "errno",
                        "kill-process",
                        "kill-thread",
                        "trap",
                        "log",
                    ],
                ),
                default: Some(
                    Value::Text(
                        "errno",
                    ),
                ),
            },
            Spec {
                name: "default-errno",
                help: "The errno (1 to 4095) that such a call returns; without it, the runtime's choice: EPERM.",
                kind: Kind::Integer,
                default: None,
            },
            Spec {
                name: "architectures",
                help: "All that the machine can run, or those that were seen besides the native one.",
                kind: Kind::Choice(
                    [
                        "compatible",
                        "observed",
                    ],
                ),
                default: Some(
                    Value::Text(
                        "compatible",
                    ),
                ),
            },
            Spec {
                name: "include",
                help: "Calls to allow, recorded or not.",
                kind: Kind::TextList,
                default: None,
            },
            Spec {
                name: "exclude",
                help: "Calls not to allow, recorded or not.",
                kind: Kind::TextList,
                default: None,
            },
            Spec {
                name: "include-refused",
                help: "Allow also what the program attempted and a seccomp filter refused while it was recorded.",
                kind: Kind::Boolean,
                default: Some(
                    Value::Boolean(
                        false,
                    ),
                ),
            },
            Spec {
                name: "phase",
                help: "Calls of the container's whole life, or only of its own program.",
                kind: Kind::Choice(
                    [
                        "all",
                        "application",
                    ],
                ),
                default: Some(
                    Value::Text(
                        "all",
                    ),
                ),
            },
        ],
        capabilities: [
            Capability {
                group: "security-profiles-operator.x-k8s.io",
                plural: "seccompprofiles",
                verbs: [
                    Verb::Create,
                ],
            },
        ],
    }
    "#);
}

/// Recorded under a filter that refuses some calls in each way; `read` it has refused only once.
fn confined() -> CaptureBuilder {
    web()
        .refused(Abi::Native, 435, "clone3", Refusal::MISSING)
        .refused(Abi::Compat, 435, "clone3", Refusal::MISSING)
        .refused(Abi::Native, 0, "read", Refusal::Errno(Some(1)))
        .refused(Abi::Native, 165, "mount", Refusal::Errno(Some(1)))
        .refused(Abi::Native, 101, "ptrace", Refusal::Signal)
        .refused(Abi::Native, 999, None, Refusal::MISSING)
}

fn missing(names: &[&str]) -> Rule {
    let names = names.iter().copied().map(str::to_owned).collect();
    Rule { names, action: Action::Errno(Some(38)), args: Vec::new() }
}

#[test]
fn a_call_that_was_said_to_be_missing_is_missing_under_the_policy_too() {
    let policy = policy(&advisor(), confined().build());
    assert_eq!(policy.rules[1..], [missing(&["clone3"])]);
    assert!(!names(&policy).contains(&"clone3".to_owned()) && !names(&policy).contains(&"mount".to_owned()));
}

#[test]
fn what_was_attempted_in_vain_is_told_and_allowed_only_if_that_is_wanted() {
    let told = advisor().run(vec![confined().build()]);
    let lines = log(&told);
    let line = lines.iter().find(|line| line.contains("attempted")).expect("it is told");
    assert!(line.contains("ptrace (SIGSYS), mount (EPERM)"), "{line}");
    assert!(line.contains("include-refused=true") && line.contains("shop/web-0/app"), "{line}");
    assert!(!line.contains("read") && !line.contains("clone3"), "{line}");

    let all = advisor().param("include-refused", "true");
    let policy = policy(&all, confined().build());
    assert_eq!(policy.rules.len(), 1);
    for name in ["clone3", "mount", "ptrace"] {
        assert!(names(&policy).contains(&name.to_owned()), "{name}");
    }
    let quiet = all.run(vec![confined().build()]);
    assert!(!log(&quiet).iter().any(|line| line.contains("attempted")));
}

#[test]
fn parameters_decide_on_refused_calls_as_on_others() {
    for (name, value) in [("include", "clone3"), ("exclude", "clone3"), ("default-errno", "38")] {
        let policy = policy(&advisor().param(name, value), confined().build());
        assert_eq!(policy.rules.len(), 1, "{name}={value}");
        assert_eq!(names(&policy).contains(&"clone3".to_owned()), name == "include");
    }
    let all = advisor().param("include-refused", "true").param("exclude", "mount");
    assert!(!names(&policy(&all, confined().build())).contains(&"mount".to_owned()));
}

#[test]
fn of_a_recording_in_which_nothing_ran_there_is_no_policy() {
    let capture = testing::capture("app").refused(Abi::Native, 0, "read", Refusal::MISSING).build();
    assert!(matches!(advisor().run(vec![capture]).result, Err(Error::Empty(_))));
}
