use std::{fs::File, path::Path};

use gadgetd_core::{
    Abi, Capture, Completeness, Container, Loss, Machine, Phases, Pod, Refusal, RefusedCall, Syscall,
    kube::{KubeError, Resource},
};
use proptest::{collection::vec, option, prelude::*, sample::select};
use serde_json::{Value, json};

use super::*;
use crate::{
    cluster::exchange::{answer_text, exact_answer, written_object},
    contract::{
        gadget::Reason,
        log::Level,
        output::{Emitted, MadeObject, Target, Verdict},
    },
    document::Document,
};

fn words() -> impl Strategy<Value = String> {
    // Anything that a text can hold, line feeds and quotes among it.
    "\\PC{0,20}(\n\\PC{0,5})?"
}

fn a_capture() -> impl Strategy<Value = Capture> {
    let machine = select(vec![Machine::X86_64, Machine::Aarch64]);
    let call = (select(Abi::ALL.to_vec()), 0..1200_u32, any::<(bool, bool)>());
    let loss = (0..6, any::<u64>()).prop_map(|(kind, n)| match kind {
        0 => Loss::UnknownNumbers(n),
        1 => Loss::ForeignRuntimeCalls(n),
        2 => Loss::SlotsExhausted(n),
        3 => Loss::ChildCgroups(n),
        4 => Loss::Phases(n),
        _ => Loss::MissedEvents(n),
    });
    let pod = [words(), words(), words(), words()].prop_map(|[namespace, name, uid, node]| Pod {
        namespace,
        name,
        uid,
        node,
    });
    let container = (words(), vec(option::of(words()), 4), option::of(pod), words()).prop_map(
        |(id, texts, pod, cgroup)| {
            let [name, image, image_digest, runtime] = texts.try_into().unwrap();
            Container { id, name, pod, image, image_digest, runtime, cgroup }
        },
    );
    (container, machine, vec(call, 0..40), vec(loss, 0..3), any::<bool>()).prop_map(
        |(container, machine, calls, losses, from_start)| {
            let syscall = |(abi, number, (runtime, application))| Syscall {
                abi,
                number,
                phases: Phases { runtime, application },
            };
            let mut syscalls: Vec<_> = calls.into_iter().map(syscall).collect();
            syscalls.sort_by_key(|call| (call.abi, call.number));
            syscalls.dedup_by_key(|call| (call.abi, call.number));
            let answers = [Refusal::MISSING, Refusal::Errno(Some(1)), Refusal::Errno(None), Refusal::Signal];
            let refused =
                syscalls.iter().zip(answers.into_iter().cycle()).filter(|(call, _)| call.phases.runtime);
            let refused =
                refused.map(|(call, answer)| RefusedCall { abi: call.abi, number: call.number, answer });
            let refused = refused.collect();
            let completeness = Completeness { losses, from_start };
            Capture { container, machine, syscalls, refused, completeness }
        },
    )
}

fn a_kind() -> impl Strategy<Value = Resource> {
    (words(), words(), words(), words(), any::<bool>()).prop_map(
        |(group, version, plural, kind, namespaced)| Resource { group, version, plural, kind, namespaced },
    )
}

fn an_exchange() -> impl Strategy<Value = KubeExchange> {
    let object = prop_oneof![
        Just(json!({ "a": [1, null, "ä\n"], "b": { "c": true } })),
        words().prop_map(Value::String)
    ];
    let error = prop_oneof![
        words().prop_map(KubeError::NotFound),
        words().prop_map(KubeError::Denied),
        any::<u32>().prop_map(|n| KubeError::TooLarge(n as usize)),
    ];
    (0..5, a_kind(), option::of(words()), words(), object, option::of(option::of(error))).prop_map(
        |(verb, kind, namespace, text, object, answer)| {
            let call = match verb {
                0 => KubeRequest::Discover { group: kind.group.clone(), plural: text },
                1 => KubeRequest::Get { kind: kind.clone(), namespace, name: text },
                2 => KubeRequest::List { kind: kind.clone(), namespace, labels: text },
                3 => KubeRequest::Create { kind: kind.clone(), namespace, object: object.clone() },
                _ => KubeRequest::Apply { kind: kind.clone(), namespace, object: object.clone() },
            };
            let answer = answer.map(|error| match (error, verb) {
                (Some(error), _) => KubeAnswer::Error(error),
                (None, 0) => KubeAnswer::Kinds(vec![kind]),
                (None, 2) => KubeAnswer::Objects(vec![object.clone(), object]),
                (None, _) => KubeAnswer::Object(object),
            });
            KubeExchange { call, answer }
        },
    )
}

fn an_outcome() -> impl Strategy<Value = Outcome> {
    let about = || vec(0..9_usize, 0..3);
    let fault =
        [words(), words(), words()].prop_map(|[module, kind, message]| Failure { module, kind, message });
    let document = (words(), words(), about())
        .prop_map(|(media_type, body, about)| Emitted { document: Document { media_type, body }, about });
    let object = (a_kind(), option::of(words()), words(), option::of(words()), about())
        .prop_map(|(kind, namespace, name, usage, about)| MadeObject { kind, namespace, name, usage, about });
    let verdict = (option::of(words()), about()).prop_map(|(failure, about)| Verdict { failure, about });
    let line = (words(), words(), vec((words(), words()), 0..2)).prop_map(|(module, message, fields)| Line {
        module,
        level: Level::Warn,
        message,
        fields,
    });
    (option::of(fault), vec(document, 0..3), vec(object, 0..3), vec(verdict, 0..3), vec(line, 0..3)).prop_map(
        |(fault, documents, objects, verdicts, log)| Outcome { fault, documents, objects, verdicts, log },
    )
}

prop_compose! {
    fn a_recording()(
        captures in vec(a_capture(), 0..3),
        kube in vec(an_exchange(), 0..3),
        result in option::of(an_outcome()),
        params in vec(words(), 0..3),
        target in option::of([words(), words()]),
        ended in any::<bool>(),
    ) -> Recording {
        Recording {
            contract: Some("0.1.0".into()),
            gadget: Some(Identity { module: "seccomp".into(), name: None, version: None, digest: Some("x".into()) }),
            params,
            reason: if ended { Reason::ContainerEnded } else { Reason::OnDemand },
            target: target.map(|[namespace, name]| Target { namespace, name }),
            kube,
            result,
            ..Recording::of(captures)
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read_again(recording in a_recording()) {
        let text = recording.to_json().unwrap();
        let read = Recording::parse(text.as_bytes()).unwrap();
        prop_assert_eq!(&read, &recording);
        prop_assert_eq!(Difference::between(&recording, &read), None);
        prop_assert_eq!(read.to_json().unwrap(), text);
    }

    #[test]
    fn objects_come_back_as_they_were(text in "\\PC{0,20}|\\{\"a\": ?[0-9]{1,30}(\\.[0-9]{0,30})?(e-?[0-9]{1,2})?\\}") {
        // Through a file.
        let through = |value: Value| serde_json::from_str::<Value>(&value.to_string()).unwrap();
        prop_assert_eq!(answer_text(through(exact_answer(&text))), text.clone());
        prop_assert_eq!(through(written_object(&text)), written_object(&text));
    }
}

#[test]
fn a_file_by_hand_says_only_what_matters() {
    let text = r#"{
        "format": 1,
        "captures": [{
            "container": { "name": "web", "pod": { "namespace": "shop", "name": "cart-0" } },
            "syscalls": [
                { "calls": "write read 1000" },
                { "phase": "runtime", "calls": "read execve" },
                { "abi": "compat", "calls": "open" }
            ]
        }],
        "kube": [{ "call": { "discover": { "plural": "pods" } }, "answer": { "kinds": [] } }],
        "result": { "documents": [{ "document": { "mediaType": "text/plain", "body": ["one", ""] } }] }
    }"#;
    let recording = Recording::parse(text.as_bytes()).unwrap();
    let [capture] = &*recording.captures else { panic!("{recording:?}") };
    let Container { id, name, cgroup, .. } = &capture.container;
    assert_eq!((id.as_str(), name.as_deref(), cgroup.as_str()), ("web", Some("web"), ""));
    assert_eq!(capture.completeness, Completeness { losses: vec![], from_start: true });
    let call = |abi, number, phases| Syscall { abi, number, phases };
    let want = [
        call(Abi::Native, 0, Phases::BOTH),
        call(Abi::Native, 1, Phases::APPLICATION),
        call(Abi::Native, 59, Phases::RUNTIME),
        call(Abi::Native, 1000, Phases::APPLICATION),
        call(Abi::Compat, 5, Phases::APPLICATION),
    ];
    assert_eq!(capture.syscalls, want);
    let [emitted] = &recording.result.as_ref().unwrap().documents[..] else { panic!("{recording:?}") };
    assert_eq!((emitted.document.body.as_str(), &emitted.about[..]), ("one\n", &[0][..]));
}

#[test]
fn what_is_no_recording_is_refused_with_the_reason() {
    let with = |more: &str| format!(r#"{{"format": 1, "captures": [] {more}}}"#);
    let capture = |text: &str| format!(r#"{{"format": 1, "captures": [{text}]}}"#);
    let rows = [
        (String::new(), "is no recording: it is no JSON object"),
        ("once upon a time".into(), "is no recording: it is no JSON object"),
        ("[1]".into(), "is no recording: it is no JSON object"),
        ("{format: 1}".into(), "is no recording: key must be a string"),
        (r#"{"captures": []}"#.into(), "is no recording: it has no `format`"),
        (
            r#"{"format": 2, "something": "new"}"#.into(),
            "is a recording of format 2; this gadgetd reads format 1",
        ),
        (r#"{"format": 1}"#.into(), "is no valid recording: missing field `captures`"),
        (with("}"), "is no recording: trailing characters"),
        (with(", \"capture\": 1"), "is no valid recording: capture: unknown field `capture`"),
        (with(", \"reason\": \"why\""), "is no valid recording: reason: unknown variant `why`"),
        (with(r#", "reason": "\u001b[2J""#), r"is no valid recording: reason: unknown variant `\u{1b}[2J`"),
        (with(r#", "\u001b[2J": 1"#), r"\u{1b}[2J: unknown field"),
        (capture("{}"), "is no valid recording: captures[0]: missing field `container`"),
        (
            capture(r#"{"container": {"image": "x"}}"#),
            "captures[0]: the container has neither an `id` nor a `name`",
        ),
        (
            capture(r#"{"container": {"id": "x"}, "syscalls": [{"calls": "read opne"}]}"#),
            r#"captures[0]: there is no system call "opne" in the native ABI"#,
        ),
        (
            capture(r#"{"container": {"id": "x"}, "syscalls": [{"abi": "x64", "calls": ""}]}"#),
            "captures[0].syscalls[0].abi: unknown variant `x64`",
        ),
        (with(r#", "kube": [{"call": {"delete": {}}}]"#), "kube[0].call: unknown variant `delete`"),
        (
            with(r#", "kube": [{"call": {"discover": {"plural": "pods"}}, "answer": {"object": {}}}]"#),
            "kube[0]: that is no answer to discover",
        ),
        (
            with(r#", "result": {"documents": [{"document": {"mediaType": "text/plain", "body": 1}}]}"#),
            "result.documents[0].document.body: a text, or an array of its lines",
        ),
    ];
    for (text, want) in rows {
        let error = Recording::parse(text.as_bytes()).expect_err(&text).to_string();
        assert!(error.contains(want), "{error:?} does not contain {want:?}");
    }
    // Cut anywhere, it is no recording any more.
    let whole = with("");
    for end in 0..whole.len() {
        Recording::parse(&whole.as_bytes()[..end]).expect_err("it is cut");
    }
    // A bomb of brackets is not followed down.
    Recording::parse("[".repeat(1 << 20).as_bytes()).expect_err("it never ends");
    Recording::parse(format!("{{\"format\": 1, \"kube\": {}", "[".repeat(1 << 20)).as_bytes())
        .expect_err("it never ends");
}

#[test]
fn files_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("huge.json");
    let huge = File::create(&path).unwrap();
    huge.set_len(1 << 40).unwrap();
    let error = Recording::read(&path).unwrap_err();
    assert_eq!(error.to_string(), "has more than 64 MiB, the limit for a recording");
    for path in [dir.path(), &dir.path().join("none.json"), Path::new("/dev/zero")] {
        assert!(matches!(Recording::read(path), Err(RecordingError::Read(_))), "{}", path.display());
    }
    let mut recording = Recording::of([]);
    recording.params.push("x".repeat(RECORDING_MAX_BYTES));
    assert!(matches!(recording.to_json(), Err(RecordingError::TooLarge)));
}

#[test]
fn a_difference_is_shown_and_safe() {
    let with = |body: &str, message: &str| {
        let mut recording = Recording::of([]);
        let document = Document { media_type: "text/plain".into(), body: body.into() };
        let line =
            Line { module: "gadget".into(), level: Level::Info, message: message.into(), fields: vec![] };
        recording.result = Some(Outcome {
            documents: vec![Emitted { document, about: vec![0] }],
            log: vec![line],
            ..Outcome::default()
        });
        recording
    };
    assert_eq!(
        Difference::between(&with("a\nb\n", "one"), &with("a\nb\n", "two")),
        None,
        "the log is for people"
    );
    let difference = Difference::between(&with("a\nb\nc\n", ""), &with("a\n\x1b[2J\nc\n", "")).unwrap();
    let want = "--- recorded\n+++ now\n@@ -1,5 +1,5 @@\n == outcome: ok\n == document 1: text/plain, of capture 0\n a\n\
                -b\n+\\u{1b}[2J\n c\n";
    assert_eq!(difference.to_string(), want);
    // What is not there yet differs from what is.
    let difference = Difference::between(&Recording::of([]), &with("a", "")).unwrap().to_string();
    assert!(difference.contains("-== outcome: nothing is said\n+== outcome: ok\n"), "{difference}");
    assert!(Difference::between(&with("a", ""), &with("a\n", "")).is_some());
    let mut judged = with("a", "");
    let why = Verdict { failure: Some("it calls bpf".into()), about: vec![0] };
    judged.result.as_mut().unwrap().verdicts.push(why);
    let difference = Difference::between(&with("a", ""), &judged).unwrap().to_string();
    assert!(
        difference.contains("+== verdict 1, of capture 0: not as it should be: it calls bpf\n"),
        "{difference}"
    );
}
