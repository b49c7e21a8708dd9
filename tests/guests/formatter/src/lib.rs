//! A formatter that misbehaves in whatever way a test chooses. Left alone, it is a good one.

use gadget_sdk::{Capture, Description, Document, Formatter, Module, Params, Policy, formatter::Error, log};

#[path = "../../choice.rs"]
pub mod choice;

use choice::{endlessly, recurse};

gadget_sdk::export_formatter!(Hostile);

choice::misbehaviours! {
    /// Panics.
    Panics,
    /// Never ends.
    Loops,
    /// Allocates until it is refused.
    Allocates,
    /// Recurses until something gives.
    Recurses,
    /// Allows a call that the policy does not.
    Widens,
    /// Leaves a call out that the policy allows.
    Narrows,
    /// Allows whatever no rule is about.
    ChangesDefault,
    /// Turns off a protection that no policy speaks of.
    SetsFlags,
    /// Writes a profile that is no JSON.
    InvalidJson,
    /// Writes a profile with a field that nobody knows.
    UnknownField,
    /// Writes more than a run may emit.
    HugeDocument,
    /// Writes what a terminal would act on.
    EscapeInDocument,
    /// Writes a document of no type.
    BadMediaType,
    /// Logs for ever.
    EndlessLog,
    /// Says that it cannot do it, in words that would act on a terminal.
    Unsupported,
}

/// Those that the built-in gadget's policies have.
const ARCHITECTURES: &str = r#"["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]"#;

/// The formatter.
pub struct Hostile;

impl Module for Hostile {
    fn describe() -> Description {
        Description::new("hostile", "1.2.3", "Misbehaves.")
    }
}

impl Formatter for Hostile {
    fn format(_: &Params, policy: &Policy, about: &[&Capture]) -> Result<Document, Error> {
        let names = policy.rules.iter().flat_map(|rule| &rule.names);
        let profile = |default: &str, more: &str, names: Vec<&str>| {
            let body = format!(
                r#"{{"defaultAction": "{default}", "architectures": {ARCHITECTURES}, {more}
                    "syscalls": [{{"names": {names:?}, "action": "SCMP_ACT_ALLOW"}}]}}"#
            );
            Ok(Document::new("application/vnd.oci.seccomp+json", body))
        };
        let all = names.clone().map(String::as_str);
        let text = |body: String| Ok(Document::new("text/plain", body));
        let Some(choice) = Misbehaviour::chosen() else {
            let who: Vec<String> = about.iter().map(|capture| capture.container().id.clone()).collect();
            return text(format!("{} allows {}\n", who.join(" "), all.collect::<Vec<_>>().join(" ")));
        };
        match choice {
            Misbehaviour::Panics => panic!("on purpose"),
            Misbehaviour::Loops => endlessly(|| ()),
            Misbehaviour::Allocates => {
                let mut hoard = Vec::new();
                endlessly(|| hoard.push(vec![1_u8; 1 << 20]))
            }
            Misbehaviour::Recurses => text(recurse(1).to_string()),
            Misbehaviour::Widens => profile("SCMP_ACT_ERRNO", "", all.chain(["ptrace"]).collect()),
            Misbehaviour::Narrows => profile("SCMP_ACT_ERRNO", "", all.skip(1).collect()),
            Misbehaviour::ChangesDefault => profile("SCMP_ACT_ALLOW", "", all.collect()),
            Misbehaviour::SetsFlags => {
                let flags = r#""flags": ["SECCOMP_FILTER_FLAG_SPEC_ALLOW"],"#;
                profile("SCMP_ACT_ERRNO", flags, all.collect())
            }
            Misbehaviour::InvalidJson => {
                Ok(Document::new("application/vnd.oci.seccomp+json", "# a header\n{}".into()))
            }
            Misbehaviour::UnknownField => profile("SCMP_ACT_ERRNO", r#""allowAll": true,"#, all.collect()),
            Misbehaviour::HugeDocument => text("x".repeat((1 << 20) + 1)),
            Misbehaviour::EscapeInDocument => text("\x1b[2J".into()),
            Misbehaviour::BadMediaType => Ok(Document::new("", "body".into())),
            Misbehaviour::EndlessLog => endlessly(|| log::warn("and another thing", &[])),
            Misbehaviour::Unsupported => Err(Error::Unsupported("no \x1b[2J way".into())),
        }
    }
}
