//! Every policy that can be written becomes a `SeccompProfile` that the definitions accept as it is.

use anyhow::{Context as _, Result};
use gadgetd_core::policy::{Action, Architecture, Argument, Comparison, Policy, Rule};
use gadgetd_kube::spo::{ErrnoStyle, SpoError, Version, spec};
use gadgetd_kube_tests::spo::{Release, objections, releases};
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
    for policy in &policies {
        policy.validate().expect("a valid policy");
    }
    policies
}

fn schema(release: &Release, version: Version) -> Result<Value> {
    let versions = serde_json::to_value(&release.crd.spec.versions)?;
    let of = versions.as_array().into_iter().flatten().find(|v| v["name"] == version.name());
    let schema = of.with_context(|| format!("{} in {}", version.name(), release.name))?;
    Ok(schema["schema"]["openAPIV3Schema"]["properties"]["spec"].clone())
}

#[test]
fn every_release_accepts_every_policy() -> Result<()> {
    for release in releases()? {
        let schema = schema(&release, release.version)?;
        for policy in policies() {
            // What is written where the first way is not accepted is the second.
            let tried = release.version.errno_styles().iter().map(|style| {
                let spec = spec(&policy, release.version, *style).expect("a policy that can be written");
                objections(&schema, &spec, "spec")
            });
            let tried: Vec<_> = tried.collect();
            assert!(tried.iter().any(Vec::is_empty), "{}: {policy:?}: {tried:?}", release.name);
        }
    }
    Ok(())
}

#[test]
fn the_check_sees_what_a_definition_would_not_accept() -> Result<()> {
    let all = releases()?;
    let by = |version: Version| all.iter().rfind(|r| r.version == version).expect("our own, at least");
    let policy = &policies()[2];
    let (old, new) =
        (schema(by(Version::V1Alpha1), Version::V1Alpha1)?, schema(by(Version::V1), Version::V1)?);
    let good = spec(policy, Version::V1, ErrnoStyle::Integer)?;
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
    for version in Version::ALL {
        assert_eq!(spec(&policy, version, ErrnoStyle::Integer), Err(SpoError::Value(1 << 63)));
    }
}
