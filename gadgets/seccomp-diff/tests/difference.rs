//! What is refused, what may be, what is not used; and what comes of each parameter.

use formatter_oci::Oci;
use gadget_sdk::{
    Abi, Action, Architecture, Argument, Capture, Comparison, Error, Loss, Machine, Phases, Policy, Rule,
    Verdict,
    testing::{self, CaptureBuilder, GadgetRun},
};
use seccomp_advisor::SeccompAdvisor;
use seccomp_diff::SeccompDiff;

fn diff(against: &str) -> GadgetRun<SeccompDiff> {
    testing::gadget().param("against", against)
}

fn web() -> CaptureBuilder {
    testing::capture("app")
        .pod("shop", "web-0")
        .call(Abi::Native, 0, "read", Phases::APPLICATION)
        .call(Abi::Native, 3, "close", Phases::all())
        .call(Abi::Native, 59, "execve", Phases::RUNTIME)
        .call(Abi::Native, 56, "clone", Phases::APPLICATION)
        .call(Abi::Native, 101, "ptrace", Phases::APPLICATION)
        .call(Abi::Native, 165, "mount", Phases::APPLICATION)
        .call(Abi::Native, 435, "clone3", Phases::APPLICATION)
        .call(Abi::Native, 999, None, Phases::APPLICATION)
        .call(Abi::Compat, 3, "read", Phases::APPLICATION)
}

/// A profile that allows these, and does what the rules say.
fn profile(default_action: Action, allowed: &[&str], more: Vec<Rule>) -> String {
    let mut rules = vec![Rule::allow(allowed.iter().map(ToString::to_string).collect())];
    rules.extend(more);
    let policy = Policy { default_action, architectures: vec![Architecture::X86_64], rules };
    testing::format::<Oci>(&policy, &[], &[]).expect("a profile").body
}

fn rule(name: &str, action: Action, conditional: bool) -> Rule {
    let argument = Argument { index: 0, op: Comparison::Equal, value: 2, value_two: 0 };
    Rule { names: vec![name.into()], action, args: if conditional { vec![argument] } else { vec![] } }
}

fn text(run: &GadgetRun<SeccompDiff>, capture: Capture) -> String {
    let outcome = run.run(vec![capture]);
    assert_eq!(outcome.result, Ok(()));
    assert_eq!(outcome.emitted[0].document.media_type, "text/plain");
    outcome.emitted[0].document.body.clone()
}

#[test]
fn against_the_default_of_the_engine() {
    let capture = web().loss(Loss::UnknownNumbers(2)).already_running().build();
    insta::assert_snapshot!(text(&testing::gadget(), capture));
}

#[test]
fn against_a_profile() {
    let more = vec![
        rule("clone", Action::Allow, true),
        rule("clone3", Action::Errno(Some(38)), false),
        rule("mount", Action::KillProcess, false),
        rule("bpf", Action::Allow, false),
    ];
    let against = profile(Action::Errno(None), &["close", "exit_group", "openat", "read", "setuid"], more);
    insta::assert_snapshot!(text(&diff(&against), web().build()));
}

#[test]
fn as_json() {
    let against = profile(Action::Errno(None), &["close", "openat", "read"], vec![]);
    let outcome = diff(&against).param("output", "json").run(vec![web().build()]);
    let document = &outcome.emitted[0].document;
    assert_eq!(document.media_type, "application/json");
    insta::assert_snapshot!(document.body);
}

#[test]
fn the_profile_that_a_recording_gave_refuses_nothing_of_it() {
    let named = || {
        testing::capture("web")
            .call(Abi::Native, 0, "read", Phases::APPLICATION)
            .call(Abi::Compat, 3, "read", Phases::APPLICATION)
            .call(Abi::Native, 59, "execve", Phases::RUNTIME)
    };
    let advised = testing::gadget::<SeccompAdvisor>().formatter::<Oci>().run(vec![named().build()]);
    let outcome = diff(&advised.emitted[0].document.body).run(vec![named().build()]);
    assert_eq!(outcome.verdicts[0].verdict, Verdict::Pass);
    insta::assert_snapshot!(outcome.emitted[0].document.body, @"
    web against the given profile

    Would be refused: 0

    May be refused: 0

    Allowed, and not made: 0

    Verdict: pass. It would refuse nothing of what was recorded.
    ");
}

/// What the profile says of one call, in the three counts of the document.
#[test]
fn rules_are_honoured() {
    const ALLOWED: [usize; 2] = [0, 0];
    const MAYBE: [usize; 2] = [0, 1];
    const REFUSED: [usize; 2] = [1, 0];
    let errno = Action::Errno(None);
    let rows = [
        ("allowed", errno, vec![rule("socket", Action::Allow, false)], ALLOWED),
        ("logged", errno, vec![rule("socket", Action::Log, false)], ALLOWED),
        ("not named", errno, vec![], REFUSED),
        ("not named, where that is allowed", Action::Allow, vec![], ALLOWED),
        ("not named, where that is ENOSYS", Action::Errno(Some(38)), vec![], REFUSED),
        ("refused", Action::Allow, vec![rule("socket", errno, false)], REFUSED),
        ("said to be missing", errno, vec![rule("socket", Action::Errno(Some(38)), false)], MAYBE),
        ("for some arguments", errno, vec![rule("socket", Action::Allow, true)], MAYBE),
        ("not for some arguments", Action::Allow, vec![rule("socket", errno, true)], MAYBE),
        ("killed for some arguments", errno, vec![rule("socket", Action::KillProcess, true)], REFUSED),
        ("left to an agent", errno, vec![rule("socket", Action::Notify, false)], MAYBE),
        (
            "allowed for some arguments, and for all",
            errno,
            vec![rule("socket", Action::Allow, true), rule("socket", Action::Allow, false)],
            ALLOWED,
        ),
    ];
    for (what, default, more, want) in rows {
        let against = profile(default, &["read"], more);
        let capture = testing::capture("web").call(Abi::Native, 41, "socket", Phases::APPLICATION).build();
        let outcome = diff(&against).param("output", "json").run(vec![capture]);
        let json: serde_json::Value = serde_json::from_str(&outcome.emitted[0].document.body).unwrap();
        let count = |list: &str| json[list].as_array().unwrap().len();
        assert_eq!([count("refused"), count("maybe")], want, "{what}: {json}");
        assert_eq!(outcome.verdicts[0].verdict == Verdict::Pass, want[0] == 0, "{what}");
        let pass = json["verdict"] == "pass";
        assert_eq!(pass, want[0] == 0, "{what}");
    }
}

#[test]
fn capabilities_allow_more() {
    let capture = || testing::capture("web").call(Abi::Native, 165, "mount", Phases::APPLICATION).build();
    let fails = |run: &GadgetRun<SeccompDiff>| run.run(vec![capture()]).verdicts[0].verdict != Verdict::Pass;
    assert!(fails(&testing::gadget()));
    assert!(fails(&testing::gadget().param("capabilities", "CAP_NET_ADMIN")));
    assert!(!fails(&testing::gadget().param("capabilities", "CAP_NET_ADMIN,CAP_SYS_ADMIN")));
}

#[test]
fn what_is_not_used_is_of_this_machine() {
    let capture = |machine| {
        testing::capture("web").machine(machine).call(Abi::Native, 0, "read", Phases::APPLICATION).build()
    };
    let unused = |machine| text(&testing::gadget(), capture(machine));
    assert!(
        unused(Machine::X86_64).contains(" arch_prctl") && !unused(Machine::Aarch64).contains(" arch_prctl")
    );
}

#[test]
fn a_profile_object_of_the_operator_is_one_too() {
    let spec = profile(Action::Errno(None), &["read"], vec![rule("socket", Action::Errno(Some(22)), false)]);
    let spec = spec.replace("\"errnoRet\": 22", "\"errnoRet\": \"22\"");
    assert!(spec.contains("\"22\""), "{spec}");
    let object = format!(r#"{{"apiVersion": "x/v1alpha1", "kind": "SeccompProfile", "spec": {spec}}}"#);
    let capture = testing::capture("web").call(Abi::Native, 0, "read", Phases::APPLICATION).build();
    assert_eq!(diff(&object).run(vec![capture]).verdicts[0].verdict, Verdict::Pass);
}

#[test]
fn what_is_no_profile_is_said() {
    let odd_action = r#"{"defaultAction": "SCMP_ACT_DENY"}"#;
    let odd_field = r#"{"defaultAction": "SCMP_ACT_ERRNO", "archMap": []}"#;
    let odd_errno = r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": -1}"#;
    let rows = [
        ("podman", "against: it is neither runtime-default nor a seccomp profile in JSON"),
        ("{", "against: it is no seccomp profile: EOF"),
        ("{}", "against: it is no seccomp profile: missing field `defaultAction`"),
        (
            r#"{"kind": "SeccompProfile"}"#,
            "against: it is no seccomp profile: the SeccompProfile has no spec",
        ),
        (odd_action, "against: it is no seccomp profile: \"SCMP_ACT_DENY\" is no action"),
        (odd_field, "against: it is no seccomp profile: unknown field `archMap`"),
        (odd_errno, "against: it is no seccomp profile: errnoRet: it is no errno"),
    ];
    for (against, want) in rows {
        match diff(against).run(vec![web().build()]).result {
            Err(Error::InvalidParameter(why)) => assert!(why.starts_with(want), "{why}"),
            other => panic!("{other:?}"),
        }
    }
    let odd = [
        (testing::gadget::<SeccompDiff>().param("capabilities", "admin"), "capabilities: \"admin\" is none"),
        (
            diff(r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#).param("capabilities", "CAP_BPF"),
            "capabilities: goes with against=runtime-default",
        ),
    ];
    for (run, want) in odd {
        match run.run(vec![web().build()]).result {
            Err(Error::InvalidParameter(why)) => assert!(why.starts_with(want), "{why}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn nothing_recorded_is_nothing_compared() {
    let outcome = testing::gadget::<SeccompDiff>().run(vec![testing::capture("quiet").build()]);
    assert_eq!(outcome.result, Err(Error::Empty("no call of quiet was recorded".into())));
    let outcome =
        testing::gadget::<SeccompDiff>().run(vec![testing::capture("quiet").build(), web().build()]);
    assert_eq!((outcome.emitted.len(), outcome.verdicts.len(), outcome.log.len()), (1, 1, 1));
}

#[test]
fn a_verdict_is_one_line() {
    let many = (0..40).fold(testing::capture("a\nb\u{1b}"), |capture, n| {
        capture.call(Abi::Native, 1000 + n, None, Phases::APPLICATION)
    });
    let outcome = testing::gadget::<SeccompDiff>().run(vec![many.build()]);
    let Verdict::Fail(why) = &outcome.verdicts[0].verdict else { panic!("{outcome:?}") };
    assert!(
        why.starts_with(r"a\nb\u{1b}: 40 calls would be refused: number 1000, ")
            && why.ends_with(" and 30 more"),
        "{why}"
    );
}
