//! Which objects are written, and what of them stays.

use example_workload_configmap::{WorkloadConfigMap, workload};
use gadget_sdk::{
    Abi, Capture, Error, Phases,
    kube::{self, Kind},
    testing::{self, GadgetRun, KubeAnswer, KubeCall, Outcome},
};
use serde_json::{Value, json};

fn capture(pod: &str, container: &str, call: &str) -> Capture {
    testing::capture(container).pod("shop", pod).call(Abi::Native, 0, call, Phases::APPLICATION).build()
}

fn config_maps() -> Kind {
    testing::kind("", "v1", "configmaps", "ConfigMap", true)
}

/// A cluster that has this object, and takes any.
fn cluster(there: Option<Value>) -> GadgetRun<WorkloadConfigMap> {
    testing::gadget().kube(move |call| match call {
        KubeCall::Discover { .. } => Ok(KubeAnswer::Kinds(vec![config_maps()])),
        KubeCall::Get { name, .. } => match &there {
            Some(object) => Ok(KubeAnswer::Object(object.to_string())),
            None => Err(kube::Error::NotFound(name.clone())),
        },
        KubeCall::Apply { object, .. } => Ok(KubeAnswer::Object(object.clone())),
        other => panic!("{other:?}"),
    })
}

fn applied(outcome: &Outcome) -> Vec<Value> {
    let objects = outcome.calls.iter().filter_map(|call| match call {
        KubeCall::Apply { object, .. } => Some(serde_json::from_str(object).unwrap()),
        _ => None,
    });
    objects.collect()
}

#[test]
fn a_workload_has_one_object() {
    let captures = vec![
        capture("cart-6d4b75cb6d-x2xzq", "app", "read"),
        capture("cart-6d4b75cb6d-x2xzq", "log", "write"),
        capture("cart-6d4b75cb6d-zz2xk", "app", "close"),
        capture("db-0", "db", "fsync"),
    ];
    let outcome = cluster(None).run(captures);
    assert_eq!(outcome.result, Ok(()));
    let object = |name: &str, data: Value| {
        json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": { "name": name, "namespace": "shop" },
            "data": data,
        })
    };
    let want = [
        object("cart-syscalls", json!({ "app": "close\nread", "log": "write" })),
        object("db-syscalls", json!({ "db": "fsync" })),
    ];
    assert_eq!(applied(&outcome), want);
    assert_eq!(outcome.made[0].about.len(), 3);
    assert_eq!(outcome.emitted[1].document.body, "ConfigMap shop/db-syscalls\n");
}

#[test]
fn what_was_known_stays() {
    let there = json!({ "data": { "app": "openat\nread", "other": "bind" } });
    let outcome = cluster(Some(there)).run(vec![capture("cart-0", "app", "close")]);
    assert_eq!(applied(&outcome)[0]["data"], json!({ "app": "close\nopenat\nread", "other": "bind" }));
}

#[test]
fn what_cannot_be_read_is_not_written_over() {
    let there = json!({ "data": { "app": ["openat"] } });
    let outcome = cluster(Some(there)).run(vec![capture("cart-0", "app", "close")]);
    assert_eq!(outcome.result, Err(Error::Other("ConfigMap shop/cart-syscalls: app is no text".into())));
    assert_eq!(applied(&outcome), Vec::<Value>::new());
}

#[test]
fn a_run_may_ask_for_the_object() {
    let outcome = cluster(None).target("audit", "mine").run(vec![capture("cart-0", "app", "close")]);
    let object = &outcome.made[0].object;
    assert_eq!((object.namespace.as_deref(), object.name.as_str()), (Some("audit"), "mine"));
    assert!(outcome.emitted.is_empty());
}

#[test]
fn without_a_pod_or_a_cluster_there_is_nothing_to_write() {
    let outcome = cluster(None).run(vec![testing::capture("true").build()]);
    assert_eq!(outcome.result, Err(Error::Empty("no container of a pod was recorded".into())));
    assert_eq!(outcome.log[0].to_string(), "warn: it is of no pod, and so of no workload container=true");
    let outcome = testing::gadget::<WorkloadConfigMap>().run(vec![capture("cart-0", "app", "close")]);
    assert!(matches!(outcome.result, Err(Error::Kube(kube::Error::Unavailable(_)))), "{:?}", outcome.result);
}

#[test]
fn names_of_pods_tell_their_workload() {
    let rows = [
        ("cart", "cart"),
        ("cart-0", "cart"),
        ("cart-12", "cart"),
        ("cart-x2xzq", "cart"),
        ("cart-6d4b75cb6d-x2xzq", "cart"),
        ("the-cart-6d4b75cb6d-x2xzq", "the-cart"),
        ("the-cart", "the-cart"),
        ("hello-world", "hello-world"),
        ("cart-", "cart-"),
    ];
    for (pod, want) in rows {
        assert_eq!(workload(pod), want, "{pod}");
    }
}
