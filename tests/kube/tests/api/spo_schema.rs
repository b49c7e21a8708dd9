//! Every policy that can be written becomes a `SeccompProfile` that the definitions accept as it is.

use anyhow::{Context as _, Result};
use formatter_spo::Spo;
use gadget_sdk::{
    Action, Architecture, Argument, Comparison, ObjectHead, Policy, Rule, formatter::Error, testing,
};
use gadgetd_kube_tests::spo::{GROUP, KIND, Release, objections, releases};
use serde_json::{Value, json};

fn rule(names: &[&str], action: Action, args: Vec<Argument>) -> Rule {
    Rule { names: names.iter().map(ToString::to_string).collect(), action, args }
}

fn policies() -> Vec<Policy> {
    let all = [
        Architecture::X86_64,
        Architecture::X86,
        Architecture::X32,
        Architecture::Aarch64,
        Architecture::Arm,
    ];
    let policy = |default_action, rules| Policy { default_action, architectures: all.to_vec(), rules };
    let comparisons = [
        Comparison::NotEqual,
        Comparison::Less,
        Comparison::LessOrEqual,
        Comparison::Equal,
        Comparison::GreaterOrEqual,
        Comparison::Greater,
        Comparison::MaskedEqual,
    ];
    let args = comparisons.iter().take(6).enumerate().map(|(index, op)| Argument {
        index: u32::try_from(index).unwrap_or(0),
        op: *op,
        value: u64::try_from(i64::MAX).unwrap_or(0),
        value_two: 0,
    });
    let masked = Argument { index: 5, op: Comparison::MaskedEqual, value: 1, value_two: 1 };
    let actions = [
        Action::Allow,
        Action::KillProcess,
        Action::KillThread,
        Action::Trap,
        Action::Log,
        Action::Trace(None),
    ];
    let mut policies = vec![
        policy(Action::Errno(None), vec![rule(&["accept4", "close", "read"], Action::Allow, vec![])]),
        policy(Action::Errno(Some(1)), vec![rule(&["read"], Action::Allow, vec![])]),
        policy(
            Action::Allow,
            vec![
                rule(&["socket"], Action::Errno(Some(97)), args.collect()),
                rule(&["personality"], Action::Errno(None), vec![masked]),
                rule(&["ptrace"], Action::Trace(Some(7)), vec![]),
            ],
        ),
    ];
    policies.extend(actions.map(|action| policy(action, vec![rule(&["read"], action, vec![])])));
    policies
}

/// The `spec` of the object that the formatter writes, in its first way or the next.
fn spec(policy: &Policy, version: &str, attempt: u32) -> Result<Value, Error> {
    let head = ObjectHead {
        api_version: format!("{GROUP}/{version}"),
        kind: KIND.into(),
        namespace: None,
        name: "p".into(),
        attempt,
    };
    let document = testing::format_object::<Spo>(policy, &[], &head, &[])?;
    let mut object: Value = serde_json::from_str(&document.body).expect("JSON");
    gadgetd_core::spo::parse(object.clone()).expect("a valid policy");
    Ok(object["spec"].take())
}

fn schema(release: &Release, version: &str) -> Result<Value> {
    let versions = serde_json::to_value(&release.crd.spec.versions)?;
    let of = versions.as_array().into_iter().flatten().find(|v| v["name"] == version);
    let schema = of.with_context(|| format!("{version} in {}", release.name))?;
    Ok(schema["schema"]["openAPIV3Schema"]["properties"]["spec"].clone())
}

#[test]
fn every_release_accepts_every_policy() -> Result<()> {
    for release in releases()? {
        let schema = schema(&release, release.version)?;
        for policy in policies() {
            // What is written where the first way is not accepted is the second.
            let ways = (0..).map_while(|attempt| spec(&policy, release.version, attempt).ok());
            let tried: Vec<_> = ways.map(|spec| objections(&schema, &spec, "spec")).collect();
            assert!(tried.iter().any(Vec::is_empty), "{}: {policy:?}: {tried:?}", release.name);
        }
    }
    Ok(())
}

#[test]
fn the_check_sees_what_a_definition_would_not_accept() -> Result<()> {
    let all = releases()?;
    let by = |version: &str| all.iter().rfind(|r| r.version == version).expect("our own, at least");
    let policy = &policies()[2];
    let (old, new) = (schema(by("v1alpha1"), "v1alpha1")?, schema(by("v1"), "v1")?);
    let good = spec(policy, "v1", 0).expect("a policy that can be written");
    assert_eq!(objections(&new, &good, "spec"), [""; 0]);
    let changed = |pointer: &str, value: Value| {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).expect(pointer) = value;
        objections(&new, &bad, "spec").join("; ")
    };
    assert_eq!(objections(&old, &good, "spec").len(), 2, "errnoRet is a string there");
    assert!(changed("/defaultAction", json!("allow")).contains("is none of"));
    assert!(changed("/architectures/1", json!("SCMP_ARCH_X86_64")).contains("duplicates"));
    assert!(changed("/syscalls/0/names", json!(["read", "read"])).contains("duplicates"));
    assert!(changed("/syscalls/0/args/0/value", json!(u64::MAX)).contains("no int64"));
    assert!(changed("/syscalls/0", json!({ "names": ["read"], "comment": "" })).contains("no field comment"));
    assert!(changed("/syscalls/0", json!({ "names": ["read"] })).contains("action is missing"));
    Ok(())
}

#[test]
fn what_no_release_can_hold_is_refused() {
    let bit_63 = Argument { index: 0, op: Comparison::MaskedEqual, value: 1 << 63, value_two: 0 };
    let mut policy = policies().remove(0);
    policy.rules[0].args = vec![bit_63];
    for version in ["v1", "v1beta1", "v1alpha1"] {
        let refusal = spec(&policy, version, 0);
        assert!(matches!(refusal, Err(Error::Unsupported(_))), "{refusal:?}");
    }
}
