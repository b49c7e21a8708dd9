//! The examples, through the host.

mod common;

use std::sync::Arc;

use common::{
    Guest, HOST, built_in,
    cluster::{ALL, Memory, granting, things},
};
use gadgetd_core::{
    Abi, Capture, Completeness, Container, Machine, Phases, Pod, Syscall,
    kube::{Grant, Verb},
};
use gadgetd_host::{Cluster, Params, Reason, Report, Run, RunError};

fn capture(pod: &str, calls: &[u32]) -> Capture {
    let call = |number: &u32| Syscall { abi: Abi::Native, number: *number, phases: Phases::APPLICATION };
    let pod = Pod { namespace: "shop".into(), name: pod.into(), uid: "u".into(), node: "n".into() };
    Capture {
        container: Container {
            id: "id".into(),
            name: Some("app".into()),
            pod: Some(pod),
            ..Container::default()
        },
        machine: Machine::X86_64,
        syscalls: calls.iter().map(call).collect(),
        refused: Vec::new(),
        completeness: Completeness { losses: vec![], from_start: true },
    }
}

async fn run(
    package: &str,
    params: &[&str],
    captures: Vec<Capture>,
    cluster: Option<Cluster>,
) -> Result<Report, RunError> {
    let guest = Guest::new(package, &gadgetd_guests::example(package));
    let gadget = HOST.gadget(&guest.module()).await.unwrap();
    let formatter = &built_in().await.1;
    let params = Params::resolve(&gadget, formatter, params).unwrap();
    let (captures, reason) = (captures.into(), Reason::OnDemand);
    HOST.run(Run { gadget: &gadget, formatter, params, captures, reason, target: None, cluster }).await
}

#[tokio::test]
async fn count_counts_and_posts_nothing() {
    let api = Arc::new(Memory::default());
    let cluster = Some(granting(&api, vec![things(&ALL)]));
    let report =
        run("example-count", &["output=json"], vec![capture("cart-0", &[0, 1])], cluster).await.unwrap();
    let want =
        r#"{"container":"shop/cart-0/app","calls":2,"runtime":0,"foreign":0,"nameless":0,"complete":true}"#;
    assert_eq!(report.documents[0].document.body, format!("{want}\n"));
    assert_eq!(report.audit, []);
}

#[tokio::test]
async fn workload_configmap_keeps_what_all_replicas_do() {
    let api = Arc::new(Memory::default());
    let cluster = |verbs: &[Verb]| {
        let grant = Grant { group: String::new(), plural: "configmaps".into(), ..things(verbs) };
        Some(granting(&api, vec![grant]))
    };
    let package = "example-workload-configmap";
    let replicas = [("cart-6d4b75cb6d-x2xzq", 0), ("cart-6d4b75cb6d-zz2xk", 1)];
    for (pod, call) in replicas {
        let report =
            run(package, &[], vec![capture(pod, &[call])], cluster(&[Verb::Get, Verb::Apply])).await.unwrap();
        assert_eq!(report.documents[0].document.body, "ConfigMap shop/cart-syscalls\n");
        assert_eq!(report.objects[0].name, "cart-syscalls");
    }
    let kept = api.object("shop/cart-syscalls");
    assert_eq!(kept["data"]["app"], "read\nwrite");

    // It asks for no more than it is granted, and says so where it is granted less.
    let error = run(package, &[], vec![capture("cart-0", &[0])], cluster(&[Verb::Apply])).await.unwrap_err();
    assert!(error.to_string().contains("the cluster does not grant it"), "{error}");
}
