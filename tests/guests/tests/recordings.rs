//! Runs, recorded and replayed: what comes out again is what came out, and what does not is told.

mod common;

use std::sync::Arc;

use common::{
    Guest, HOST, assert_host_is_well, built_in, captures,
    cluster::{ALL, Memory, granting, things},
};
use gadgetd_core::kube::{Granted, KubeError, Verb};
use gadgetd_host::{
    Cluster, Formatter, Gadget, Matching, ModuleRef, Params, Reason, RecordedRun, Run, Target,
    recording::{Difference, KubeAnswer, KubeRequest, Recording, RecordingError},
};
use hostile_formatter::Misbehaviour as OfFormatter;
use hostile_gadget::Misbehaviour as OfGadget;
use serde_json::json;

async fn caller(asks: &[Verb]) -> Gadget {
    let asks: Vec<String> = asks.iter().filter(|v| **v != Verb::Discover).map(Verb::to_string).collect();
    let guest = Guest::new("caller", &gadgetd_guests::caller(&asks.join(" ")));
    HOST.gadget(&guest.module()).await.unwrap()
}

async fn record(
    gadget: &Gadget,
    formatter: &Formatter,
    params: &[String],
    cluster: Option<Cluster>,
) -> RecordedRun {
    let params = Params::resolve(gadget, formatter, params).unwrap();
    let (captures, reason) = (captures().into(), Reason::OnDemand);
    HOST.record(Run { gadget, formatter, params, captures, reason, target: None, cluster }).await
}

/// As it is in a file.
fn filed(recording: Result<Recording, RecordingError>) -> Recording {
    Recording::parse(recording.unwrap().to_json().unwrap().as_bytes()).unwrap()
}

async fn record_calls(gadget: &Gadget, calls: &str, cluster: Option<Cluster>) -> Recording {
    let recorded = record(gadget, &built_in().await.1, &[format!("calls={calls}")], cluster).await;
    recorded.result.expect("it says what it is answered");
    filed(recorded.recording)
}

async fn replay(recording: &Recording, gadget: &Gadget, matching: Matching) -> RecordedRun {
    HOST.replay(recording, gadget, &built_in().await.1, matching).await.unwrap()
}

/// What the gadget said of each call.
fn said(recording: &Recording) -> Vec<&str> {
    recording.result.as_ref().unwrap().documents[0].document.body.lines().collect()
}

#[tokio::test]
async fn every_answer_comes_again() {
    let gadget = caller(&ALL).await;
    let calls = "discover - -;create shop one;create shop one;get shop one;get shop two;get bank one;list shop -;\
                 list - -;apply shop three;get shop huge;get shop hangs;get shop a/b";
    let api = Arc::new(Memory::default());
    let cluster = granting(&api, vec![things(&ALL)]);
    let of = |calls| {
        Some(Cluster { granted: Arc::new(Granted { grants: vec![things(&ALL)], calls }), ..cluster.clone() })
    };
    let clusters = [Some(cluster.clone()), of(3), None];
    for cluster in clusters {
        let first = record_calls(&gadget, calls, cluster).await;
        assert_eq!(first.kube.len(), calls.split(';').count());
        let reached = api.calls.lock().unwrap().len();

        let again = replay(&first, &gadget, Matching::Exact).await;
        assert_eq!(again.unanswered, 0);
        let again = again.recording.unwrap();
        assert_eq!(Difference::between(&first, &again), None);
        assert_eq!(again, first, "modules, parameters, log lines, everything");
        assert_eq!(api.calls.lock().unwrap().len(), reached, "the cluster is not there any more");
    }
    // The rows are worth something: each kind of answer is among them.
    let first = record_calls(&gadget, calls, of(11)).await;
    let kinds = first.kube.iter().map(|exchange| match exchange.answer.as_ref().unwrap() {
        KubeAnswer::Kinds(_) => "kinds",
        KubeAnswer::Object(_) => "object",
        KubeAnswer::Objects(_) => "objects",
        KubeAnswer::Error(KubeError::Conflict(_)) => "conflict",
        KubeAnswer::Error(KubeError::NotFound(_)) => "not found",
        KubeAnswer::Error(KubeError::Denied(_)) => "denied",
        KubeAnswer::Error(KubeError::TooLarge(_)) => "too large",
        KubeAnswer::Error(KubeError::Deadline(_)) => "deadline",
        KubeAnswer::Error(error) => panic!("{error}"),
    });
    let want = [
        "kinds",
        "conflict",
        "conflict",
        "object",
        "not found",
        "denied",
        "objects",
        "denied",
        "object",
        "too large",
        "deadline",
        "denied",
    ];
    assert_eq!(kinds.collect::<Vec<_>>(), want);
    assert_host_is_well().await;
}

#[tokio::test]
async fn other_calls_are_told_and_not_answered() {
    let gadget = caller(&ALL).await;
    let calls = "discover - -;create shop one;get shop one";
    let cluster = || Some(granting(&Arc::new(Memory::default()), vec![things(&ALL)]));
    let recording = record_calls(&gadget, calls, cluster()).await;
    let next = |text: &str| format!("unavailable: the recording has no answer to this call: {text}");
    let rows = [
        // Another order: the first is not there, and neither is what comes after it.
        ("get shop one;discover - -", 1, 0, next("the next one there is to discover things.test.gadgetd")),
        (
            "discover - -;get shop one",
            1,
            1,
            next("the next one there is to create things.test.gadgetd shop/one"),
        ),
        (
            "discover - -;create shop two",
            1,
            1,
            next("the next one there is to create things.test.gadgetd shop/one"),
        ),
        // One too many.
        ("discover - -;create shop one;get shop one;get shop one", 1, 3, next("there is none left")),
        // One is missing: nothing is answered wrongly, and it differs all the same.
        ("discover - -", 0, 0, "ok 1".to_owned()),
    ];
    for (calls, unanswered, at, want) in rows {
        let mut changed = recording.clone();
        changed.params = vec![format!("calls={calls}")];
        let found = replay(&changed, &gadget, Matching::Exact).await;
        assert_eq!(found.unanswered, unanswered, "{calls}");
        let found = found.recording.unwrap();
        assert_eq!(said(&found)[at], want, "{calls}");
        let difference = Difference::between(&recording, &found).expect(calls).to_string();
        assert!(difference.contains("== call "), "{difference}");
    }
}

#[tokio::test]
async fn what_is_written_may_change_where_that_is_wanted() {
    let gadget = caller(&ALL).await;
    let cluster = granting(&Arc::new(Memory::default()), vec![things(&ALL)]);
    let mut recording = record_calls(&gadget, "apply shop one;get shop one", Some(cluster)).await;
    let KubeRequest::Apply { object, .. } = &mut recording.kube[0].call else { panic!("{recording:?}") };
    object["metadata"]["labels"] = json!({ "older": "yes" });

    let found = replay(&recording, &gadget, Matching::Exact).await;
    let found = found.recording.unwrap();
    assert!(said(&found)[0].ends_with("the next one there differs in its arguments"), "{:?}", said(&found));
    let difference = Difference::between(&recording, &found).unwrap().to_string();
    assert!(difference.contains("-      \"older\": \"yes\"\n"), "{difference}");

    let found = replay(&recording, &gadget, Matching::SameObject).await;
    assert_eq!(found.unanswered, 0);
    let found = found.recording.unwrap();
    assert_eq!(said(&found), said(&recording));
    let difference = Difference::between(&recording, &found).unwrap().to_string();
    assert!(difference.contains("-      \"older\": \"yes\"\n"), "{difference}");
}

#[tokio::test]
async fn what_a_gadget_does_not_ask_for_is_denied_in_a_replay_too() {
    let cluster = granting(&Arc::new(Memory::default()), vec![things(&ALL)]);
    let recording = record_calls(&caller(&ALL).await, "create shop one", Some(cluster)).await;
    let found = replay(&recording, &caller(&[Verb::Get]).await, Matching::Exact).await.recording.unwrap();
    assert!(said(&found)[0].ends_with("the module does not ask for it"), "{:?}", said(&found));
    let difference = Difference::between(&recording, &found).unwrap().to_string();
    assert!(difference.contains("+answer: denied: "), "{difference}");
}

#[tokio::test]
async fn a_run_that_fails_is_recorded_and_fails_again() {
    let (seccomp, oci) = built_in().await;
    let gadget = async |does| {
        let guest = Guest::new("hostile", &gadgetd_guests::gadget(Some(does)));
        (HOST.gadget(&guest.module()).await.unwrap(), oci.clone())
    };
    let formatter = async |does| {
        let guest = Guest::new("hostile", &gadgetd_guests::formatter(Some(does)));
        (seccomp.clone(), HOST.formatter(&guest.module()).await.unwrap())
    };
    let rows = [
        (gadget(OfGadget::Panics).await, "gadget", "panicked"),
        (gadget(OfGadget::Loops).await, "gadget", "deadline"),
        (formatter(OfFormatter::Panics).await, "formatter", "panicked"),
    ];
    for ((gadget, formatter), module, kind) in &rows {
        let recorded = record(gadget, formatter, &[], None).await;
        recorded.result.expect_err(kind);
        let recording = filed(recorded.recording);
        let fault = recording.result.as_ref().unwrap().fault.as_ref().unwrap();
        assert_eq!((fault.module.as_str(), fault.kind.as_str()), (*module, *kind));
        let again = HOST.replay(&recording, gadget, formatter, Matching::Exact).await.unwrap();
        assert_eq!(Difference::between(&recording, &again.recording.unwrap()), None);
        // Modules that do well differ.
        let well = HOST.replay(&recording, seccomp, oci, Matching::Exact).await.unwrap();
        let difference = Difference::between(&recording, &well.recording.unwrap()).unwrap().to_string();
        assert!(difference.contains(&format!("-== outcome: {kind}: the {module} ")), "{difference}");
    }
    assert_host_is_well().await;
}

#[tokio::test]
async fn an_object_is_made_again_without_the_cluster() {
    let gadget = &built_in().await.0;
    let formatter = &HOST.formatter(&ModuleRef::parse("spo")).await.unwrap();
    let api = Arc::new(Memory::default());
    let granted = gadget.description().capabilities.iter().map(Into::into).collect();
    let cluster = Cluster { confined_to: Some("shop".into()), ..granting(&api, granted) };
    let run = Run {
        gadget,
        formatter,
        params: Params::resolve(gadget, formatter, [""; 0]).unwrap(),
        captures: captures()[..1].into(),
        reason: Reason::ContainerEnded,
        target: Some(Target { namespace: "shop".into(), name: "cart".into() }),
        cluster: Some(cluster),
    };
    let recorded = HOST.record(run).await;
    let report = recorded.result.unwrap();
    assert_eq!(report.objects[0].name, "cart");
    // What the run took is told.
    let usage = report.usage;
    for module in [usage.gadget, usage.formatter] {
        assert!(module.memory > 0 && module.memory <= 64 << 20, "{usage:?}");
        assert!(!module.instantiate.is_zero() && !module.run.is_zero(), "{usage:?}");
    }
    assert!(usage.total >= usage.gadget.run + usage.formatter.run, "{usage:?}");

    let recording = filed(recorded.recording);
    assert_eq!(recording.reason, Reason::ContainerEnded);
    let again = HOST.replay(&recording, gadget, formatter, Matching::Exact).await.unwrap();
    assert_eq!(again.result.unwrap().objects, report.objects);
    assert_eq!(again.recording.unwrap(), recording);
}

#[tokio::test]
async fn a_run_without_end_is_not_kept() {
    let gadget = caller(&ALL).await;
    let calls = vec!["get shop one"; 5000].join(";");
    let recorded = record(&gadget, &built_in().await.1, &[format!("calls={calls}")], None).await;
    recorded.result.expect("the run itself is fine");
    assert!(matches!(recorded.recording, Err(RecordingError::Overflow)), "{:?}", recorded.recording);
}
