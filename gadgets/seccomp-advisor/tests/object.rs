//! The policy as a `SeccompProfile`, on clusters that answer in every way.

use std::{cell::RefCell, collections::BTreeSet, rc::Rc};

use formatter_spo::Spo;
use gadget_sdk::{
    Abi, Capture, Error, Phases, formatter,
    kube::{self, Kind},
    testing::{self, KubeAnswer, KubeCall, Outcome},
};
use seccomp_advisor::{
    SeccompAdvisor,
    object::{GROUP, PLURAL},
};
use serde_json::{Value, json};

fn web() -> Capture {
    testing::capture("app")
        .pod("shop", "web-0")
        .call(Abi::Native, 0, "read", Phases::APPLICATION)
        .call(Abi::Native, 1, "write", Phases::APPLICATION)
        .build()
}

fn profiles(version: &str, namespaced: bool) -> Kind {
    testing::kind(GROUP, version, PLURAL, "SeccompProfile", namespaced)
}

/// A cluster that serves some versions, has some objects, and answers a `create` that is not in the way of one.
struct Cluster {
    served: Vec<Kind>,
    taken: BTreeSet<String>,
    create: Create,
}

type Create = fn(Value) -> Result<Value, kube::Error>;

impl Cluster {
    fn serving(served: Vec<Kind>) -> Self {
        Self { served, taken: BTreeSet::new(), create: Ok }
    }

    /// Runs the gadget for `shop/cart` on it.
    fn run(self, captures: Vec<Capture>) -> Outcome {
        let Self { served, taken, create } = self;
        let taken = RefCell::new(taken);
        let script = move |call: &KubeCall| match call {
            KubeCall::Discover { .. } => Ok(KubeAnswer::Kinds(served.clone())),
            KubeCall::Create { object, .. } => {
                let object: Value = serde_json::from_str(object).expect("JSON");
                let name = object["metadata"]["name"].as_str().expect("a name").to_owned();
                if taken.borrow().contains(&name) {
                    return Err(kube::Error::Conflict(name));
                }
                let made = create(object)?;
                taken.borrow_mut().insert(name);
                Ok(KubeAnswer::Object(made.to_string()))
            }
            other => panic!("{other:?}"),
        };
        testing::gadget::<SeccompAdvisor>()
            .formatter::<Spo>()
            .target("shop", "cart")
            .kube(script)
            .run(captures)
    }
}

/// The objects that it reported: namespace, name and usage.
fn made(outcome: &Outcome) -> Vec<(Option<&str>, &str, &str)> {
    outcome
        .made
        .iter()
        .map(|m| {
            (
                m.object.namespace.as_deref(),
                m.object.name.as_str(),
                m.object.usage.as_deref().unwrap_or_default(),
            )
        })
        .collect()
}

/// The objects that it tried to make, in order.
fn tried(outcome: &Outcome) -> Vec<Value> {
    let object = |call: &KubeCall| match call {
        KubeCall::Create { object, .. } => Some(serde_json::from_str(object).expect("JSON")),
        _ => None,
    };
    outcome.calls.iter().filter_map(object).collect()
}

fn said(outcome: &Outcome) -> &str {
    match &outcome.result {
        Err(Error::Other(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_newest_version_that_is_known_is_written() {
    let rows = [
        (vec![("v1alpha1", true)], "v1alpha1"),
        (vec![("v1beta1", true)], "v1beta1"),
        (vec![("v1beta1", true), ("v1", true)], "v1"),
        (vec![("v1alpha1", true), ("v2", true), ("v1beta1", true)], "v1beta1"),
    ];
    for (served, want) in rows {
        let served = served.into_iter().map(|(version, namespaced)| profiles(version, namespaced)).collect();
        let outcome = Cluster::serving(served).run(vec![web()]);
        assert_eq!(outcome.result, Ok(()));
        assert_eq!(made(&outcome), [(Some("shop"), "cart", "operator/shop/cart.json")]);
        assert_eq!(outcome.made[0].object.kind, profiles(want, true));
        assert_eq!(outcome.made[0].about, [web().container().to_string()]);
        let [object] = &tried(&outcome)[..] else { panic!("{:?}", outcome.calls) };
        assert_eq!(object["apiVersion"], format!("{GROUP}/{want}"));
        assert_eq!(object["metadata"], json!({ "name": "cart", "namespace": "shop" }));
        let names = json!([
            "clock_getres",
            "clock_gettime",
            "execve",
            "exit",
            "exit_group",
            "getcpu",
            "gettimeofday",
            "read",
            "restart_syscall",
            "rt_sigreturn",
            "time",
            "write"
        ]);
        assert_eq!(object["spec"]["syscalls"][0]["names"], names);
        assert!(outcome.emitted.is_empty(), "{outcome:?}");
    }
}

#[test]
fn without_namespaces_the_name_begins_with_it() {
    let outcome = Cluster::serving(vec![profiles("v1", false)]).run(vec![web()]);
    assert_eq!(outcome.result, Ok(()));
    assert_eq!(made(&outcome), [(None, "shop.cart", "operator/shop.cart.json")]);
    assert_eq!(tried(&outcome)[0]["metadata"], json!({ "name": "shop.cart" }));
}

#[test]
fn where_the_operator_says_where_it_put_the_profile_that_is_the_usage() {
    let cluster = Cluster {
        create: |mut object| {
            object["status"] = json!({ "localhostProfile": "elsewhere/cart.json" });
            Ok(object)
        },
        ..Cluster::serving(vec![profiles("v1", true)])
    };
    assert_eq!(made(&cluster.run(vec![web()])), [(Some("shop"), "cart", "elsewhere/cart.json")]);
    let cluster = Cluster {
        create: |mut object| {
            object["status"] = json!({ "localhostProfile": "" });
            Ok(object)
        },
        ..Cluster::serving(vec![profiles("v1", true)])
    };
    assert_eq!(made(&cluster.run(vec![web()])), [(Some("shop"), "cart", "operator/shop/cart.json")]);
}

#[test]
fn a_name_that_is_taken_gets_a_number() {
    let taken = |names: &[&str]| names.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
    let cluster =
        Cluster { taken: taken(&["cart", "cart-2"]), ..Cluster::serving(vec![profiles("v1beta1", true)]) };
    let outcome = cluster.run(vec![web()]);
    assert_eq!(made(&outcome), [(Some("shop"), "cart-3", "operator/shop/cart-3.json")]);
    let cluster =
        Cluster { taken: taken(&["shop.cart"]), ..Cluster::serving(vec![profiles("v1beta1", false)]) };
    assert_eq!(made(&cluster.run(vec![web()])), [(None, "shop.cart-2", "operator/shop.cart-2.json")]);

    let all: Vec<_> = (2..=20).map(|n| format!("cart-{n}")).chain(["cart".into()]).collect();
    let all: Vec<_> = all.iter().map(String::as_str).collect();
    let cluster = Cluster { taken: taken(&all), ..Cluster::serving(vec![profiles("v1", true)]) };
    let outcome = cluster.run(vec![web()]);
    assert_eq!(said(&outcome), "cart and 19 names like it are taken: choose another");
    assert_eq!((tried(&outcome).len(), outcome.made.len()), (20, 0));
}

#[test]
fn several_captures_become_several_objects() {
    let outcome = Cluster::serving(vec![profiles("v1", true)]).run(vec![web(), web()]);
    assert_eq!(outcome.result, Ok(()));
    let names: Vec<_> = outcome.made.iter().map(|m| m.object.name.as_str()).collect();
    assert_eq!(names, ["cart", "cart-2"]);
    // What is served is asked once.
    let asked = outcome.calls.iter().filter(|call| matches!(call, KubeCall::Discover { .. })).count();
    assert_eq!(asked, 1);
}

#[test]
fn what_the_api_server_does_not_accept_is_said() {
    let cluster = Cluster {
        create: |_| Err(kube::Error::Invalid("spec.defaultAction: unsupported value".into())),
        ..Cluster::serving(vec![profiles("v1beta1", true)])
    };
    let outcome = cluster.run(vec![web()]);
    let want =
        "the API server does not accept the SeccompProfile cart: spec.defaultAction: unsupported value";
    assert_eq!(said(&outcome), want);
    // The policy has no number in it that could be written in another way.
    assert_eq!(tried(&outcome).len(), 1);
}

/// A formatter with a second way to write everything.
struct TwoWays;

impl gadget_sdk::Module for TwoWays {
    fn describe() -> gadget_sdk::Description {
        gadget_sdk::Description::new("two-ways", "0.1.0", "Has two ways.")
    }
}

impl gadget_sdk::Formatter for TwoWays {
    fn format(
        _: &gadget_sdk::Params,
        _: &gadget_sdk::Policy,
        _: &[&Capture],
    ) -> Result<gadget_sdk::Document, formatter::Error> {
        unreachable!("an object is wanted")
    }

    fn format_object(
        _: &gadget_sdk::Params,
        _: &gadget_sdk::Policy,
        _: &[&Capture],
        head: &gadget_sdk::ObjectHead,
    ) -> Result<gadget_sdk::Document, formatter::Error> {
        match head.attempt {
            way @ 0..2 => {
                let object = json!({ "metadata": { "name": head.name }, "way": way });
                Ok(gadget_sdk::Document::new("application/json", object.to_string()))
            }
            _ => Err(formatter::Error::Unsupported("two ways are all".into())),
        }
    }
}

#[test]
fn the_formatter_is_asked_for_another_way_to_write_it() {
    // How often a document was refused before the first that is accepted; what comes of it.
    for (refused, want) in [(0, Some(0)), (1, Some(1)), (2, None)] {
        let left = Rc::new(RefCell::new(refused));
        let taken = RefCell::new(true);
        let outcome = testing::gadget::<SeccompAdvisor>()
            .formatter::<TwoWays>()
            .target("shop", "cart")
            .kube(move |call| match call {
                KubeCall::Discover { .. } => Ok(KubeAnswer::Kinds(vec![profiles("v1beta1", true)])),
                KubeCall::Create { object, .. } => {
                    // The schema is looked at first, and then whether the name is taken.
                    if *left.borrow() > 0 {
                        *left.borrow_mut() -= 1;
                        return Err(kube::Error::Invalid("no".into()));
                    }
                    if taken.replace(false) {
                        return Err(kube::Error::Conflict("cart".into()));
                    }
                    Ok(KubeAnswer::Object(object.clone()))
                }
                other => panic!("{other:?}"),
            })
            .run(vec![web()]);
        let Some(way) = want else {
            assert_eq!(said(&outcome), "the API server does not accept the SeccompProfile cart: no");
            continue;
        };
        assert_eq!(outcome.result, Ok(()));
        assert_eq!(made(&outcome), [(Some("shop"), "cart-2", "operator/shop/cart-2.json")]);
        assert_eq!(tried(&outcome).last().map(|object| &object["way"]), Some(&json!(way)));
    }
}

#[test]
fn an_object_whose_answer_is_too_large_is_there_all_the_same() {
    let cluster = Cluster {
        create: |_| Err(kube::Error::TooLarge(10)),
        ..Cluster::serving(vec![profiles("v1", true)])
    };
    assert_eq!(made(&cluster.run(vec![web()])), [(Some("shop"), "cart", "operator/shop/cart.json")]);
}

#[test]
fn without_the_operator_it_says_what_is_missing() {
    let outcome = Cluster::serving(vec![]).run(vec![web()]);
    let want = "the cluster has no SeccompProfile objects: install the Security Profiles Operator";
    assert_eq!(said(&outcome), want);
    let outcome = Cluster::serving(vec![profiles("v3", true)]).run(vec![web()]);
    assert_eq!(said(&outcome), "the cluster's SeccompProfile objects have version v3, which is not known");
}

#[test]
fn other_answers_are_passed_on() {
    let errors: [Create; 4] = [
        |_| Err(kube::Error::Denied("x".into())),
        |_| Err(kube::Error::NotFound("x".into())),
        |_| Err(kube::Error::Unavailable("x".into())),
        |_| Err(kube::Error::Deadline("x".into())),
    ];
    for create in errors {
        let cluster = Cluster { create, ..Cluster::serving(vec![profiles("v1", true)]) };
        let outcome = cluster.run(vec![web()]);
        let Err(Error::Kube(found)) = outcome.result else { panic!("{:?}", outcome.result) };
        assert_eq!(Err(found), create(Value::Null));
    }
}

#[test]
fn a_formatter_that_makes_no_objects_is_named() {
    struct Text;
    impl gadget_sdk::Module for Text {
        fn describe() -> gadget_sdk::Description {
            gadget_sdk::Description::new("text", "0.1.0", "Text.")
        }
    }
    impl gadget_sdk::Formatter for Text {
        fn format(
            _: &gadget_sdk::Params,
            _: &gadget_sdk::Policy,
            _: &[&Capture],
        ) -> Result<gadget_sdk::Document, formatter::Error> {
            Ok(gadget_sdk::Document::new("text/plain", "x".into()))
        }
    }
    let outcome = testing::gadget::<SeccompAdvisor>()
        .formatter::<Text>()
        .target("shop", "cart")
        .kube(|_| Ok(KubeAnswer::Kinds(vec![profiles("v1", true)])))
        .run(vec![web()]);
    assert!(
        matches!(&outcome.result, Err(Error::Format(formatter::Error::Unsupported(_)))),
        "{:?}",
        outcome.result
    );
}

#[test]
fn without_a_target_the_cluster_is_left_alone() {
    let outcome = testing::gadget::<SeccompAdvisor>()
        .formatter::<Spo>()
        .kube(|call| panic!("{call:?}"))
        .run(vec![web()]);
    assert_eq!(outcome.result, Ok(()));
    assert!(outcome.emitted[0].document.body.contains("name: web-0-app"), "{outcome:?}");
}
