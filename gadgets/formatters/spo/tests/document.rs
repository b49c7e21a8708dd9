//! What a `SeccompProfile` says of every policy, in each version, and what it refuses to say.

use formatter_oci::Oci;
use formatter_spo::{GROUP, KIND, MEDIA_TYPE_JSON, MEDIA_TYPE_YAML, Spo};
use gadget_sdk::{
    Action, Architecture, Argument, Capture, Comparison, Document, Module, ObjectHead, Policy, Rule,
    formatter::Error, testing,
};
use gadgetd_core::{oci, spo};
use proptest::prelude::*;
use serde_json::{Value, json};

const VERSIONS: [&str; 3] = ["v1", "v1beta1", "v1alpha1"];

fn rule(names: &[&str], action: Action, args: Vec<Argument>) -> Rule {
    Rule { names: names.iter().map(ToString::to_string).collect(), action, args }
}

fn policy(default_action: Action, rules: Vec<Rule>) -> Policy {
    let architectures = vec![Architecture::X86_64, Architecture::X32];
    Policy { default_action, architectures, rules }
}

fn allowing(default_action: Action) -> Policy {
    policy(default_action, vec![rule(&["accept4", "close"], Action::Allow, vec![])])
}

/// One with a number and arguments in it.
fn rich() -> Policy {
    let masked = Argument { index: 1, op: Comparison::MaskedEqual, value: 0xff, value_two: 3 };
    let equal = Argument { index: 0, op: Comparison::Equal, value: 2, value_two: 0 };
    policy(
        Action::Errno(None),
        vec![
            rule(&["close", "read"], Action::Allow, vec![]),
            rule(&["socket"], Action::Errno(Some(97)), vec![equal, masked]),
        ],
    )
}

fn head(version: &str, attempt: u32) -> ObjectHead {
    ObjectHead {
        api_version: format!("{GROUP}/{version}"),
        kind: KIND.into(),
        namespace: Some("shop".into()),
        name: "cart".into(),
        attempt,
    }
}

fn object(policy: &Policy, head: &ObjectHead) -> Result<Value, Error> {
    let Document { media_type, body } = testing::format_object::<Spo>(policy, &[], head, &[])?;
    assert_eq!(media_type, MEDIA_TYPE_JSON);
    Ok(serde_json::from_str(&body).expect("the object is JSON"))
}

fn yaml(policy: &Policy, about: &[&Capture], params: &[(&str, &str)]) -> Result<String, Error> {
    let Document { media_type, body } = testing::format::<Spo>(policy, about, params)?;
    assert_eq!(media_type, MEDIA_TYPE_YAML);
    Ok(body)
}

fn unsupported<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    match result {
        Err(Error::Unsupported(why)) => why,
        other => panic!("{other:?}"),
    }
}

fn invalid<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    match result {
        Err(Error::InvalidParameter(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn for_people_it_is_yaml() {
    insta::assert_snapshot!(yaml(&rich(), &[], &[("name", "cart")]).unwrap(), @r"
    apiVersion: security-profiles-operator.x-k8s.io/v1beta1
    kind: SeccompProfile
    metadata:
      name: cart
    spec:
      defaultAction: SCMP_ACT_ERRNO
      architectures:
      - SCMP_ARCH_X86_64
      - SCMP_ARCH_X32
      syscalls:
      - names:
        - close
        - read
        action: SCMP_ACT_ALLOW
      - names:
        - socket
        action: SCMP_ACT_ERRNO
        errnoRet: 97
        args:
        - index: 0
          op: SCMP_CMP_EQ
          value: 2
        - index: 1
          op: SCMP_CMP_MASKED_EQ
          value: 255
          valueTwo: 3
    ");
}

#[test]
fn each_version_writes_an_errno_its_way() {
    for (version, line) in
        [("v1", "errnoRet: 97"), ("v1beta1", "errnoRet: 97"), ("v1alpha1", "errnoRet: \"97\"")]
    {
        let text = yaml(&rich(), &[], &[("api-version", version)]).unwrap();
        assert!(text.starts_with(&format!("apiVersion: {GROUP}/{version}\n")), "{text}");
        assert!(text.lines().any(|l| l.trim() == line), "{version}: {text}");
    }
}

#[test]
fn an_object_is_the_one_that_was_asked_for() {
    let mut cluster = head("v1", 0);
    cluster.namespace = None;
    for (head, errno) in [
        (head("v1alpha1", 0), json!("97")),
        (head("v1beta1", 0), json!(97)),
        // Another release of the same version.
        (head("v1beta1", 1), json!("97")),
        (cluster, json!(97)),
    ] {
        let mut metadata = json!({ "name": "cart" });
        if let Some(namespace) = &head.namespace {
            metadata["namespace"] = json!(namespace);
        }
        let want = json!({
            "apiVersion": head.api_version,
            "kind": "SeccompProfile",
            "metadata": metadata,
            "spec": {
                "defaultAction": "SCMP_ACT_ERRNO",
                "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X32"],
                "syscalls": [
                    { "names": ["close", "read"], "action": "SCMP_ACT_ALLOW" },
                    {
                        "names": ["socket"],
                        "action": "SCMP_ACT_ERRNO",
                        "errnoRet": errno,
                        "args": [
                            { "index": 0, "op": "SCMP_CMP_EQ", "value": 2 },
                            { "index": 1, "op": "SCMP_CMP_MASKED_EQ", "value": 255, "valueTwo": 3 },
                        ],
                    },
                ],
            },
        });
        assert_eq!(object(&rich(), &head), Ok(want), "{head:?}");
    }
}

#[test]
fn there_is_an_end_to_the_ways_to_write_it() {
    let rows = [
        (rich(), "v1", 1),
        (rich(), "v1alpha1", 1),
        (rich(), "v1beta1", 2),
        // Without a number there is nothing to write in another way.
        (allowing(Action::Errno(None)), "v1beta1", 1),
        (rich(), "v1beta1", u32::MAX),
    ];
    for (policy, version, attempt) in rows {
        let want = format!("there is no other way to write it in a SeccompProfile of version {version}");
        assert_eq!(unsupported(object(&policy, &head(version, attempt))), want);
    }
}

#[test]
fn other_objects_are_not_its_business() {
    let others: [fn(&mut ObjectHead); 5] = [
        |h| h.kind = "SelinuxProfile".into(),
        |h| h.api_version = format!("{GROUP}/v2"),
        |h| h.api_version = format!("{GROUP}v1"),
        |h| h.api_version = "v1".into(),
        |h| h.api_version = "apps/v1".into(),
    ];
    for other in others {
        let mut head = head("v1", 0);
        other(&mut head);
        let why = unsupported(object(&rich(), &head));
        assert!(why.starts_with("it writes SeccompProfile objects of security-profiles-operator"), "{why}");
        assert!(why.ends_with(&format!("and no {} of {}", head.kind, head.api_version)), "{why}");
    }
}

#[test]
fn what_a_run_says_of_its_object_is_not_said_again() {
    for (name, value) in [("api-version", "v1"), ("name", "cart")] {
        let result = testing::format_object::<Spo>(&rich(), &[], &head("v1", 0), &[(name, value)]);
        assert_eq!(invalid(result), format!("{name}: the run says what object it makes"));
    }
}

#[test]
fn what_a_profile_cannot_say_is_refused() {
    let high = Argument { index: 0, op: Comparison::Equal, value: 1 << 63, value_two: 0 };
    let high_two = Argument { index: 0, op: Comparison::MaskedEqual, value: 0, value_two: u64::MAX };
    let with = |argument| policy(Action::Errno(None), vec![rule(&["read"], Action::Allow, vec![argument])]);
    let errno = "a SeccompProfile has no field for the default errno";
    let notify = |version: &str| {
        format!("a SeccompProfile of version {version} does not know the action SCMP_ACT_NOTIFY")
    };
    for version in VERSIONS {
        let rows = [
            (allowing(Action::Errno(Some(38))), Some(format!("{errno} 38; leave it out, and it is EPERM"))),
            (allowing(Action::Trace(Some(1))), Some(format!("{errno} 1; leave it out, and it is EPERM"))),
            // EPERM is what it means anyway.
            (allowing(Action::Errno(Some(1))), None),
            (
                with(high),
                Some(
                    "a SeccompProfile cannot hold the value 0x8000000000000000 of an argument: bit 63 is set"
                        .into(),
                ),
            ),
            (
                with(high_two),
                Some(
                    "a SeccompProfile cannot hold the value 0xffffffffffffffff of an argument: bit 63 is set"
                        .into(),
                ),
            ),
            (allowing(Action::Notify), Some(notify(version))),
            (
                policy(Action::Errno(None), vec![rule(&["read"], Action::Notify, vec![])]),
                Some(notify(version)),
            ),
        ];
        for (policy, want) in rows {
            let (object, text) =
                (object(&policy, &head(version, 0)), yaml(&policy, &[], &[("api-version", version)]));
            match want {
                None => assert!(object.is_ok() && text.is_ok(), "{object:?} {text:?}"),
                Some(want) => assert_eq!([unsupported(object), unsupported(text)], [want.clone(), want]),
            }
        }
    }
}

#[test]
fn a_name_is_given_or_that_of_what_was_recorded() {
    let name = |about: &[&Capture]| {
        let text = yaml(&rich(), about, &[]).unwrap();
        let line = text.lines().find_map(|line| line.trim().strip_prefix("name: ").map(str::to_owned));
        line.expect("a name")
    };
    let command = testing::capture("My_Server.sh").build();
    let container = testing::capture("app").pod("shop", "web-0").build();
    let whole = testing::capture("app").pod("shop", "web-0").container(|c| c.name = None).build();
    let odd = testing::capture("_/_").build();
    let long = testing::capture(&"x".repeat(300)).build();
    assert_eq!(name(&[&command]), "my-server-sh");
    assert_eq!(name(&[&container]), "web-0-app");
    assert_eq!(name(&[&whole]), "web-0");
    assert_eq!(name(&[&odd]), "profile");
    assert_eq!(name(&[&long]), "x".repeat(253));
    assert_eq!(name(&[]), "profile");
    for bad in ["", "Cart", "a/b", "-a", "a..b", "a\nb"] {
        let why = invalid(yaml(&rich(), &[], &[("name", bad)]));
        assert!(why.starts_with(&format!("name: {bad:?} cannot be the name of an object")), "{why}");
    }
}

#[test]
fn a_name_stays_a_name_in_yaml() {
    // What YAML would otherwise take for a number, a truth or nothing.
    for word in ["null", "true", "no", "1e3", "0x10", "12"] {
        let text = yaml(&rich(), &[], &[("name", word)]).unwrap();
        let object: Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(object["metadata"]["name"], word, "{text}");
    }
}

#[test]
fn it_describes_itself() {
    insta::assert_debug_snapshot!(Spo::describe(), @r#"
    Description {
        name: "spo",
        version: "0.1.0",
        summary: "The SeccompProfile object of the Security Profiles Operator.",
        params: [
            Spec {
                name: "api-version",
                help: "The object's version; v1beta1 if none is given: releases 0.4 to 1.0 have it.",
                kind: Kind::Choice(
                    [
                        "v1",
                        "v1beta1",
                        "v1alpha1",
                    ],
                ),
                default: None,
            },
            Spec {
                name: "name",
                help: "The object's name; if none is given, that of what was recorded.",
                kind: Kind::Text,
                default: None,
            },
        ],
        capabilities: [],
    }
    "#);
}

/// A policy that every version of the object can express.
fn any_policy() -> impl Strategy<Value = Policy> {
    testing::strategies::policy().prop_map(|mut policy| {
        policy.default_action = match known(policy.default_action) {
            Action::Errno(_) => Action::Errno(None),
            Action::Trace(_) => Action::Trace(None),
            other => other,
        };
        for rule in &mut policy.rules {
            rule.action = known(rule.action);
            for argument in &mut rule.args {
                argument.value &= i64::MAX.unsigned_abs();
                argument.value_two &= i64::MAX.unsigned_abs();
            }
        }
        policy
    })
}

fn known(action: Action) -> Action {
    if action == Action::Notify { Action::Allow } else { action }
}

proptest! {
    /// Whatever a policy says, a reader of the object understands what a reader of the OCI profile understands.
    #[test]
    fn the_object_means_the_policy(policy in any_policy()) {
        let profile = testing::format::<Oci>(&policy, &[], &[]).expect("a profile");
        let want = oci::parse(profile.body.as_bytes()).expect("the profile is valid").policy;
        for version in VERSIONS {
            for attempt in 0..2 {
                let Ok(found) = object(&policy, &head(version, attempt)) else { continue };
                let found = spo::parse(found).expect("the object is valid");
                prop_assert_eq!(found.canonical(), want.canonical());
            }
            let text = yaml(&policy, &[], &[("api-version", version)]).expect("an object");
            prop_assert_eq!(text.chars().last(), Some('\n'));
            let found = spo::parse(serde_saphyr::from_str(&text).expect("YAML")).expect("the object is valid");
            prop_assert_eq!(found.canonical(), want.canonical());
        }
    }
}
