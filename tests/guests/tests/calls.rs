//! Every way to call the cluster, by a real gadget: what passes, what is denied, and what the audit says of it.

mod common;

use std::{sync::Arc, time::Duration};

use common::{
    Guest, HOST, assert_host_is_well, built_in, captures,
    cluster::{ALL, Memory, granting, things},
};
use gadgetd_core::kube::{Grant, Granted, Granting, KubeError, Names, Verb};
use gadgetd_host::{
    Cluster, Digest, Fault, Gadget, Host, HostConfig, KubeCall, Limits, Params, Reason, Report, Run, RunError,
};
use sha2::{Digest as _, Sha256};

async fn caller(asks: &[Verb]) -> Gadget {
    let asks: Vec<String> = asks.iter().filter(|v| **v != Verb::Discover).map(Verb::to_string).collect();
    let guest = Guest::new("caller", &gadgetd_guests::caller(&asks.join(" ")));
    HOST.gadget(&guest.module()).await.unwrap()
}

async fn run(
    host: &Host,
    gadget: &Gadget,
    calls: &str,
    cluster: Option<Cluster>,
) -> Result<Report, RunError> {
    let formatter = &built_in().await.1;
    let params = Params::resolve(gadget, formatter, [format!("calls={calls}")]).unwrap();
    let (captures, reason) = (captures().into(), Reason::OnDemand);
    host.run(Run { gadget, formatter, params, captures, reason, target: None, cluster }).await
}

/// What the gadget said of each call.
fn said(report: &Report) -> Vec<&str> {
    report.documents[0].document.body.lines().collect()
}

/// An entry of the audit in short: whether the call was allowed, and what came of it.
fn noted(call: &KubeCall) -> String {
    let result = match &call.result {
        None => "no answer".to_owned(),
        Some(Ok(())) => "ok".to_owned(),
        Some(Err(error)) => error.to_string(),
    };
    format!("{} {} {result}", call.call(), if call.allowed { "allowed" } else { "denied" })
}

#[tokio::test]
async fn every_verb_asked_for_and_granted_in_every_namespace() {
    for verb in ALL {
        let others: Vec<_> = ALL.into_iter().filter(|v| *v != verb).collect();
        // To discover goes with any verb.
        let goes = verb == Verb::Discover;
        for (asked, asks) in [(true, vec![verb, Verb::Get]), (goes, others.clone()), (false, vec![])] {
            // The first row asks for this verb and, so that discover has one to go with, for get.
            let asked = asked || asks.contains(&verb);
            let gadget = caller(&asks).await;
            for (granted, grants) in [(true, vec![verb]), (goes, others.clone()), (false, vec![])] {
                for (inside, namespace) in [(true, "shop"), (false, "bank"), (false, "-")] {
                    let row = format!("{verb} {namespace}, asked {asks:?}, granted {grants:?}");
                    let api = Arc::new(Memory::default());
                    let cluster = granting(&api, vec![things(&grants)]);
                    let call = format!("{verb} {namespace} one");
                    let report = run(&HOST, &gadget, &call, Some(cluster)).await.unwrap();

                    let want = asked && granted && (inside || goes);
                    let said = said(&report)[0];
                    assert_eq!(said.starts_with("denied: "), !want, "{row}: {said}");
                    assert_eq!(api.calls.lock().unwrap().len(), usize::from(want), "{row}");
                    let [entry] = report.audit.as_slice() else { panic!("{row}: {:?}", report.audit) };
                    assert_eq!((entry.verb, entry.allowed), (verb, want), "{row}");
                    let denied = matches!(&entry.result, Some(Err(KubeError::Denied(_))));
                    assert_eq!(denied, !want, "{row}: {entry:?}");
                    if !want {
                        let why = match (asked, granted) {
                            (false, _) => "the module does not ask for it",
                            (_, false) => "the cluster does not grant it",
                            _ => "the run may only touch namespace shop",
                        };
                        assert!(said.ends_with(why), "{row}: {said}");
                    }
                }
            }
        }
    }
    assert_host_is_well().await;
}

#[tokio::test]
async fn a_grant_is_about_namespaces_and_names() {
    let gadget = caller(&ALL).await;
    let these = |names: &[&str]| Names::These(names.iter().map(ToString::to_string).collect());
    let rows = [
        (Names::Any, these(&["one"]), "get shop one", true),
        (Names::Any, these(&["one"]), "get shop two", false),
        (Names::Any, these(&["one"]), "create shop two", false),
        (Names::Any, these(&["one"]), "apply shop two", false),
        // A list is about every name.
        (Names::Any, these(&["one"]), "list shop -", false),
        (these(&["shop"]), Names::Any, "list shop -", true),
        (these(&["bank"]), Names::Any, "list shop -", false),
        (these(&["bank"]), these(&["one"]), "discover - -", true),
    ];
    for (namespaces, names, call, want) in rows {
        let api = Arc::new(Memory::default());
        let grant = Grant { namespaces, names, ..things(&ALL) };
        let report = run(&HOST, &gadget, call, Some(granting(&api, vec![grant]))).await.unwrap();
        assert_eq!(report.audit[0].allowed, want, "{call}: {:?}", report.audit);
    }
}

#[tokio::test]
async fn a_run_that_is_not_confined_reaches_what_is_granted() {
    let gadget = caller(&ALL).await;
    let api = Arc::new(Memory::default());
    let cluster = Cluster { confined_to: None, ..granting(&api, vec![things(&ALL)]) };
    let calls = "create shop one;create bank two;create - three;list - -;get bank two";
    let report = run(&HOST, &gadget, calls, Some(cluster)).await.unwrap();
    assert!(report.audit.iter().all(|call| call.allowed), "{:?}", report.audit);
    let want = ["create shop/one", "create bank/two", "create /three", "list /", "get bank/two"];
    assert_eq!(*api.calls.lock().unwrap(), want);
}

/// Takes everything back as soon as there was one call.
#[derive(Debug)]
struct Once(Arc<Memory>);

impl Granting for Once {
    fn granted(&self) -> Arc<Granted> {
        let unused = self.0.calls.lock().unwrap().is_empty();
        Arc::new(Granted { grants: unused.then(|| things(&ALL)).into_iter().collect(), calls: 20 })
    }
}

#[tokio::test]
async fn what_is_taken_back_is_gone_at_the_next_call_of_the_same_run() {
    let gadget = caller(&ALL).await;
    let api = Arc::new(Memory::default());
    let cluster = Cluster { granted: Arc::new(Once(api.clone())), ..granting(&api, Vec::new()) };
    let calls = "create shop one;get shop one;list shop -;discover - -";
    let report = run(&HOST, &gadget, calls, Some(cluster)).await.unwrap();
    assert_eq!(report.audit.iter().map(|call| call.allowed).collect::<Vec<_>>(), [true, false, false, false]);
    assert!(
        report.audit[1].result
            == Some(Err(KubeError::Denied(
                "get things.test.gadgetd shop/one: the cluster does not grant it".into()
            ))),
        "{:?}",
        report.audit
    );
    assert_eq!(*api.calls.lock().unwrap(), ["create shop/one"]);
}

#[tokio::test]
async fn every_call_counts_and_stands_in_the_audit() {
    let gadget = caller(&[Verb::Get, Verb::Create]).await;
    let api = Arc::new(Memory::default());
    let granted = Arc::new(Granted { grants: vec![things(&ALL)], calls: 5 });
    let cluster = Cluster { granted, ..granting(&api, Vec::new()) };
    let calls =
        "create shop one;create shop one;get shop one;list shop -;get shop a/b;get shop one;get shop one";
    let report = run(&HOST, &gadget, calls, Some(cluster)).await.unwrap();
    let noted: Vec<_> = report.audit.iter().map(noted).collect();
    let want = [
        "create things.test.gadgetd shop/one allowed ok",
        "create things.test.gadgetd shop/one allowed conflict: shop/one",
        "get things.test.gadgetd shop/one allowed ok",
        "list things.test.gadgetd shop/ denied denied: list things.test.gadgetd shop/: the module does not ask for it",
        "get things.test.gadgetd shop/a/b denied invalid: get things.test.gadgetd shop/a/b: \
         \"a/b\" cannot be the name of an object",
        "get things.test.gadgetd shop/one denied denied: get things.test.gadgetd shop/one: the run has made its 5 calls",
    ];
    assert_eq!(noted, want);
    assert_eq!(report.unrecorded_calls, 1);
    assert_eq!(said(&report).len(), 7);
    // Of the verb and its arguments: others can compute it.
    let argument = r#"["get",["test.gadgetd","v1","things","Thing",true],"shop","one"]"#;
    let digest = &report.audit[2].arguments;
    assert_eq!(digest, &report.audit[5].arguments);
    assert_eq!(*digest, Digest(Sha256::digest(argument).into()));
}

#[tokio::test]
async fn without_a_cluster_every_call_is_unavailable() {
    let gadget = caller(&ALL).await;
    let report = run(&HOST, &gadget, "discover - -;get shop one;create shop one", None).await.unwrap();
    assert!(
        said(&report).iter().all(|line| line.starts_with("unavailable: there is no cluster")),
        "{report:?}"
    );
    assert_eq!(report.audit, []);
}

#[tokio::test]
async fn a_call_that_hangs_ends_with_its_deadline_and_the_run_with_the_runs() {
    let gadget = caller(&ALL).await;
    let api = Arc::new(Memory::default());
    let cluster = || Some(granting(&api, vec![things(&ALL)]));
    let report = run(&HOST, &gadget, "get shop hangs;list shop -", cluster()).await.unwrap();
    let [first, second] = said(&report)[..] else { panic!("{report:?}") };
    assert!(first.starts_with("deadline: there was none within"), "{first}");
    assert_eq!(second, "ok 0");

    let limits =
        Limits { run: Duration::from_millis(500), kube_call: Duration::from_mins(1), ..Limits::default() };
    let host = Host::new(HostConfig { limits, ..HostConfig::default() }).unwrap();
    let guest = Guest::new("caller", &gadgetd_guests::caller("get"));
    let gadget = host.gadget(&guest.module()).await.unwrap();
    let error = run(&host, &gadget, "get shop hangs", cluster()).await.unwrap_err();
    assert!(matches!(error.fault.fault, Fault::RunDeadline(_)), "{error}");
    assert_eq!(
        error.report.audit.iter().map(noted).collect::<Vec<_>>(),
        ["get things.test.gadgetd shop/hangs allowed no answer"]
    );
}

#[tokio::test]
async fn what_a_call_waits_for_is_not_the_modules_own_time() {
    // Ten calls that take 200 ms each; the module itself may take 300.
    let gadget = caller(&ALL).await;
    let api = Arc::new(Memory::default());
    let calls = ["get shop hangs"; 10].join(";");
    let report = run(&HOST, &gadget, &calls, Some(granting(&api, vec![things(&ALL)]))).await.unwrap();
    assert_eq!(report.audit.len(), 10);
    assert!(
        report.audit.iter().all(|call| call.duration >= Duration::from_millis(190)),
        "{:?}",
        report.audit
    );
}
