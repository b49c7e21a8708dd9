//! Modules natively and as components: the same comes out, and the same words say it.

use std::{fs, panic::catch_unwind};

use formatter_spo::Spo;
use gadget_sdk::{
    Abi, Capture, Loss, Phases, kube,
    testing::{self, KubeAnswer, KubeCall},
};
use gadget_testing::Component;
use seccomp_advisor::{
    SeccompAdvisor,
    object::{GROUP, PLURAL},
};

fn web() -> Capture {
    testing::capture("app")
        .pod("shop", "web-0")
        .call(Abi::Native, 0, "read", Phases::APPLICATION)
        .call(Abi::Native, 59, "execve", Phases::RUNTIME)
        .call(Abi::Compat, 5, "open", Phases::APPLICATION)
        .loss(Loss::ChildCgroups(1))
        .build()
}

/// A cluster on which the first name is taken.
fn script(call: &KubeCall) -> Result<KubeAnswer, kube::Error> {
    match call {
        KubeCall::Discover { .. } => {
            Ok(KubeAnswer::Kinds(vec![testing::kind(GROUP, "v1", PLURAL, "SeccompProfile", true)]))
        }
        KubeCall::Create { object, .. } if object.contains(r#""name":"cart""#) => {
            Err(kube::Error::Conflict("cart".into()))
        }
        KubeCall::Create { object, .. } => Ok(KubeAnswer::Object(object.clone())),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_component_does_what_its_code_does_natively() {
    let native = testing::gadget::<SeccompAdvisor>().formatter::<Spo>().target("shop", "cart").kube(script);
    let native = native.run(vec![web()]);
    let component = Component::load("seccomp").formatter("spo").target("shop", "cart").kube(script);
    let outcome = component.run([web()]);

    assert_eq!((native.result, outcome.result), (Ok(()), Ok(())));
    let names = |calls: &[KubeCall]| calls.iter().map(json).collect::<Vec<_>>();
    assert_eq!(names(&outcome.calls), names(&native.calls));
    assert_eq!(outcome.calls.len(), 3);
    let [made] = &outcome.made[..] else { panic!("{:?}", outcome.made) };
    assert_eq!((&made.object.name, &made.about), (&native.made[0].object.name, &native.made[0].about));
    let lines = |log: &[testing::Line]| log.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(lines(&outcome.log), lines(&native.log));
    assert!(!outcome.log.is_empty(), "something was lost");
}

/// The call, without the blanks that nobody cares about.
fn json(call: &KubeCall) -> String {
    match call {
        KubeCall::Create { object, .. } => {
            serde_json::from_str::<serde_json::Value>(object).unwrap().to_string()
        }
        other => format!("{other:?}"),
    }
}

#[test]
fn a_formatter_is_tested_with_the_gadget_that_calls_it() {
    let table = Component::load("table").run([web()]);
    assert!(table.document().body.contains("read"), "{table:?}");
    let oci = Component::load("oci").param("compact", "true").param("include", "bpf").run([web()]);
    assert!(oci.document().body.contains(r#""bpf""#), "{oci:?}");
}

#[test]
fn what_fails_is_a_value_or_says_why() {
    let outcome = Component::load("seccomp").run([testing::capture("quiet").build()]);
    assert_eq!(outcome.result.unwrap_err().fault.kind(), "empty");
    let no_cluster = Component::load("seccomp").formatter("spo").target("shop", "cart").run([web()]);
    assert_eq!(no_cluster.result.unwrap_err().fault.kind(), "kube");
    assert_eq!(no_cluster.calls.len(), 1);

    let rows: [(fn(), &str); 4] = [
        (|| drop(Component::load("./none.wasm")), "cannot read gadget ./none.wasm"),
        (|| drop(Component::load("occi")), r#"there is no module "occi""#),
        (|| drop(Component::load("seccomp").param("compct", "x").run([])), r#"did you mean "compact"?"#),
        (
            || {
                Component::load("seccomp").run([]).document();
            },
            "gadget seccomp has nothing to make a result from",
        ),
    ];
    for (run, want) in rows {
        let panic = catch_unwind(run).expect_err(want);
        let text = panic.downcast_ref::<String>().expect("a text");
        assert!(text.contains(want), "{text:?} does not contain {want:?}");
    }
}

#[test]
fn a_recording_says_what_should_come_out() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("web.json");
    let text = r#"{
        "format": 1,
        "gadget": { "module": "seccomp" },
        "formatter": { "module": "oci" },
        "params": ["compact=true"],
        "captures": [{ "container": { "name": "web" }, "syscalls": [{ "calls": "read" }] }],
        "result": { "documents": [{ "document": { "mediaType": "application/vnd.oci.seccomp+json", "body": BODY } }] }
    }"#;
    let web = testing::capture("web").call(Abi::Native, 0, "read", Phases::APPLICATION).build();
    let body = Component::load("oci").param("compact", "true").run([web]).document().body.clone();
    fs::write(&file, text.replace("BODY", &serde_json::to_string(&body).unwrap())).unwrap();
    Component::load("seccomp").assert_replays(&file);
    Component::load("oci").assert_replays(&file);

    let other = body.replace("read", "write");
    fs::write(&file, text.replace("BODY", &serde_json::to_string(&other).unwrap())).unwrap();
    let panic = catch_unwind(|| Component::load("seccomp").assert_replays(&file)).expect_err("it differs");
    let text = panic.downcast_ref::<String>().expect("a text");
    assert!(text.contains("--- recorded\n+++ now\n") && text.contains("web.json"), "{text}");
}
