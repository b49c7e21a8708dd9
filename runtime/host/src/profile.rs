//! Seccomp profiles among the documents: each must be sound, and say what its policy says.

use gadgetd_core::{Policy, oci, policy::Action, spo};
use serde_json::Value;

use crate::{bindings::formatter::ObjectHead, document::Document, text::printable};

/// The media type of a seccomp profile as the OCI runtime specification has it.
pub const SECCOMP_PROFILE: &str = "application/vnd.oci.seccomp+json";

/// The same as an object of the Security Profiles Operator. It ends in `+json` or `+yaml`.
const SPO_PROFILE: &str = "application/vnd.security-profiles-operator.seccompprofile";

/// Checks a document that a formatter wrote: it is the object that was asked for, if one was, and if it is a profile,
/// it says what the policy says.
pub(crate) fn check_written(
    document: &Document,
    policy: &Policy,
    object: Option<&ObjectHead>,
) -> Result<(), String> {
    document.check()?;
    let profile = match object {
        Some(head) => object_asked_for(document, head)?,
        None => parse(document)?,
    };
    profile.map_or(Ok(()), |profile| check_policy(&profile, policy))
}

/// Checks a document that no formatter wrote: a profile must be sound.
pub(crate) fn check_emitted(document: &Document) -> Result<(), String> {
    document.check()?;
    let Some(profile) = parse(document)? else { return Ok(()) };
    profile.policy.validate().map_err(|error| format!("the document is no sound profile: {error}"))
}

/// The profile that a document says it is; `None` where it is something else.
fn parse(document: &Document) -> Result<Option<oci::Profile>, String> {
    if document.media_type == SECCOMP_PROFILE {
        let profile = oci::parse(document.body.as_bytes());
        return profile.map(Some).map_err(|error| format!("the document is no seccomp profile: {error}"));
    }
    let Some(syntax) = document.media_type.strip_prefix(SPO_PROFILE) else { return Ok(None) };
    let object = match syntax {
        "+json" => serde_json::from_str(&document.body).map_err(|error| error.to_string()),
        "+yaml" => serde_saphyr::from_str(&document.body).map_err(|error| error.to_string()),
        _ => return Ok(None),
    };
    let object: Value =
        object.map_err(|error| format!("the document cannot be read: {}", printable(error)))?;
    of_object(object).map(Some)
}

/// The profile that a `SeccompProfile` object is.
fn of_object(object: Value) -> Result<oci::Profile, String> {
    let policy: Result<Policy, _> = spo::parse(object);
    let policy = policy.map_err(|error| format!("the document is no {}: {error}", spo::KIND))?;
    Ok(oci::Profile { policy, flags: Vec::new() })
}

/// Checks that a document is the object that was asked for. Gives the profile that it is if the host understands its
/// kind, whatever media type the formatter gives it.
fn object_asked_for(document: &Document, head: &ObjectHead) -> Result<Option<oci::Profile>, String> {
    let object: Value = serde_json::from_str(&document.body)
        .map_err(|error| format!("the document is no object in JSON: {error}"))?;
    let metadata = |field: &str| object.pointer(&format!("/metadata/{field}")).and_then(Value::as_str);
    let found =
        (object["apiVersion"].as_str(), object["kind"].as_str(), metadata("namespace"), metadata("name"));
    let ObjectHead { api_version, kind, namespace, name, .. } = head;
    if found != (Some(api_version), Some(kind), namespace.as_deref(), Some(name)) {
        return Err(format!(
            "the document is not the object that was asked for, {api_version} {kind} {name}"
        ));
    }
    let group = api_version.split_once('/').map(|(group, _)| group);
    if group == Some(spo::GROUP) && kind == spo::KIND {
        return of_object(object).map(Some);
    }
    Ok(None)
}

/// Checks that a seccomp profile says what the policy says, no more and no less.
fn check_policy(profile: &oci::Profile, policy: &Policy) -> Result<(), String> {
    if !profile.flags.is_empty() {
        return Err("the profile sets flags, which the policy does not".into());
    }
    if profile.policy == *policy {
        return Ok(());
    }
    // A rule that stands twice means the same, and yet not every reader takes it.
    profile.policy.validate().map_err(|error| format!("the profile is not sound: {error}"))?;
    let (mut wanted, mut written) = (policy.canonical(), profile.policy.canonical());
    for default in [&mut wanted.0, &mut written.0] {
        // The errno where none is given, and where there is no field to give one.
        const EPERM: u16 = 1;
        if *default == Action::Errno(Some(EPERM)) {
            *default = Action::Errno(None);
        }
    }
    let differs = |what: String| Err(format!("the profile does not say what the policy says: {what}"));
    if wanted.0 != written.0 {
        return differs(format!("its default is to {}, instead of to {}", written.0, wanted.0));
    }
    if wanted.1 != written.1 {
        return differs(format!("its architectures are {:?}, instead of {:?}", written.1, wanted.1));
    }
    if let Some((name, _, action)) = written.2.difference(&wanted.2).next() {
        return differs(format!("it has the rule to {action} {}", printable((*name).to_owned())));
    }
    if let Some((name, _, action)) = wanted.2.difference(&written.2).next() {
        return differs(format!("it lacks the rule to {action} {name}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use gadgetd_core::policy::{Architecture, Rule};
    use serde_json::json;

    use super::*;

    fn check(media_type: &str, body: &str, object: Option<&ObjectHead>) -> Result<(), String> {
        let rule = Rule { names: vec!["read".into(), "write".into()], action: Action::Allow, args: vec![] };
        let policy = Policy {
            default_action: Action::Errno(Some(1)),
            architectures: vec![Architecture::X86_64],
            rules: vec![rule],
        };
        let document = Document { media_type: media_type.into(), body: body.into() };
        check_written(&document, &policy, object)
    }

    fn verdict(body: &str) -> Result<(), String> {
        check(SECCOMP_PROFILE, body, None)
    }

    #[test]
    fn a_profile_must_say_what_the_policy_says() {
        let profile = |default: &str, architecture: &str, names: &str, more: &str| {
            format!(
                r#"{{"defaultAction": "SCMP_ACT_{default}", "architectures": ["SCMP_ARCH_{architecture}"], {more}
                    "syscalls": [{{"names": [{names}], "action": "SCMP_ACT_ALLOW"}}]}}"#
            )
        };
        let both = r#""write", "read""#;
        assert_eq!(verdict(&profile("ERRNO", "X86_64", both, "")), Ok(()));
        let rows = [
            (profile("ALLOW", "X86_64", both, ""), "its default is to allow, instead of to refuse"),
            (profile("ERRNO", "X86", both, ""), "its architectures are {X86}, instead of {X86_64}"),
            (
                profile("ERRNO", "X86_64", r#""write", "read", "ptrace""#, ""),
                "it has the rule to allow ptrace",
            ),
            (profile("ERRNO", "X86_64", r#""write""#, ""), "it lacks the rule to allow read"),
            (
                profile("ERRNO", "X86_64", both, r#""flags": ["SECCOMP_FILTER_FLAG_SPEC_ALLOW"],"#),
                "the profile sets flags",
            ),
            (profile("ERRNO", "X86_64", r#""write", "read", "read""#, ""), "system call read stands twice"),
            ("{".into(), "the document is no seccomp profile"),
        ];
        for (document, want) in rows {
            let reason = verdict(&document).expect_err(&document);
            assert!(reason.contains(want), "{reason:?} does not contain {want:?}");
        }
    }

    fn seccomp_profile(names: &[&str]) -> Value {
        json!({
            "apiVersion": "security-profiles-operator.x-k8s.io/v1",
            "kind": "SeccompProfile",
            "metadata": { "name": "cart" },
            "spec": {
                "defaultAction": "SCMP_ACT_ERRNO",
                "architectures": ["SCMP_ARCH_X86_64"],
                "syscalls": [{ "names": names, "action": "SCMP_ACT_ALLOW" }],
            },
        })
    }

    #[test]
    fn a_seccomp_profile_object_must_say_it_too() {
        let good = seccomp_profile(&["read", "write"]).to_string();
        let bad = seccomp_profile(&["read", "write", "bpf"]).to_string();
        let yaml = "apiVersion: security-profiles-operator.x-k8s.io/v1\nkind: SeccompProfile\nmetadata: {name: cart}\n\
                    spec:\n  defaultAction: SCMP_ACT_ERRNO\n  architectures: [SCMP_ARCH_X86_64]\n  syscalls:\n  \
                    - names: [read, write]\n    action: SCMP_ACT_ALLOW\n";
        for (syntax, body) in [("+json", good.as_str()), ("+yaml", &good), ("+yaml", yaml)] {
            assert_eq!(check(&format!("{SPO_PROFILE}{syntax}"), body, None), Ok(()), "{body}");
        }
        let two = format!("{yaml}---\n{yaml}");
        let again = format!("{yaml}  defaultAction: SCMP_ACT_ALLOW\n");
        let base = format!("{yaml}  baseProfileName: runc\n");
        let rows = [
            ("+json", bad.as_str(), "it has the rule to allow bpf"),
            ("+yaml", &bad, "it has the rule to allow bpf"),
            ("+json", yaml, "the document cannot be read"),
            ("+yaml", &two, "the document cannot be read"),
            ("+yaml", &again, "the document cannot be read"),
            ("+yaml", &base, "spec.baseProfileName: unknown field"),
            ("+yaml", "[]", "the document is no SeccompProfile"),
        ];
        for (syntax, body, want) in rows {
            let reason = check(&format!("{SPO_PROFILE}{syntax}"), body, None).expect_err(want);
            assert!(reason.contains(want), "{reason:?} does not contain {want:?}");
        }
    }

    #[test]
    fn an_object_must_be_the_one_that_was_asked_for() {
        let head = |change: fn(&mut ObjectHead)| {
            let mut head = ObjectHead {
                api_version: "security-profiles-operator.x-k8s.io/v1".into(),
                kind: "SeccompProfile".into(),
                namespace: None,
                name: "cart".into(),
                attempt: 0,
            };
            change(&mut head);
            head
        };
        let good = seccomp_profile(&["read", "write"]).to_string();
        assert_eq!(check("text/plain", &good, Some(&head(|_| ()))), Ok(()));
        let others: [fn(&mut ObjectHead); 4] = [
            |h| h.api_version = "security-profiles-operator.x-k8s.io/v1beta1".into(),
            |h| h.kind = "SelinuxProfile".into(),
            |h| h.namespace = Some("shop".into()),
            |h| h.name = "card".into(),
        ];
        for other in others {
            let reason = check("text/plain", &good, Some(&head(other))).unwrap_err();
            assert!(reason.starts_with("the document is not the object that was asked for"), "{reason}");
        }
        // It is checked whatever it says it is.
        let bad = seccomp_profile(&["read"]).to_string();
        let reason = check("text/plain", &bad, Some(&head(|_| ()))).unwrap_err();
        assert!(reason.contains("it lacks the rule to allow write"), "{reason}");
    }
}
