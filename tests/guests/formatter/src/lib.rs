//! A formatter that misbehaves in whatever way a test chooses. Left alone, it is a good one.

use gadget_sdk::{Capture, Description, Document, Formatter, Module, Params, Policy, formatter::Error, log};

#[path = "../../choice.rs"]
pub mod choice;

use choice::{allocate, endlessly, recurse};

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
    /// Forgets an architecture, whose calls are then killed.
    DropsArchitecture,
    /// Is about an architecture that the policy is not about.
    AddsArchitecture,
    /// Refuses by another errno.
    ChangesErrno,
    /// Allows a call for some arguments only.
    AddsCondition,
    /// Refuses what the policy allows.
    Inverts,
    /// Allows a call twice.
    DuplicatesName,
    /// Turns off a protection that no policy speaks of.
    SetsFlags,
    /// Writes a profile that is no JSON.
    InvalidJson,
    /// Writes a profile behind a byte order mark.
    ByteOrderMark,
    /// Writes a profile that is nested deeper than any reader can go.
    Nested,
    /// Writes two profiles.
    WritesTwo,
    /// Says twice what happens to other calls.
    DuplicateField,
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
    /// Ends with an error of a megabyte.
    HugeError,
    /// Says that it cannot do it, in words that would act on a terminal.
    Unsupported,
}

/// Those that the built-in gadget's policies have.
const ARCHITECTURES: &str = r#""SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32""#;

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
        let document = |body: String| Ok(Document::new("application/vnd.oci.seccomp+json", body));
        let text_of = |default: &str, more: &str, names: Vec<&str>| {
            format!(
                r#"{{"defaultAction": "{default}", "architectures": [{ARCHITECTURES}], {more}
                    "syscalls": [{{"names": {names:?}, "action": "SCMP_ACT_ALLOW"}}]}}"#
            )
        };
        let profile = |default: &str, more: &str, names: Vec<&str>| document(text_of(default, more, names));
        let good = || text_of("SCMP_ACT_ERRNO", "", names.clone().map(String::as_str).collect());
        let all = names.clone().map(String::as_str);
        let text = |body: String| Ok(Document::new("text/plain", body));
        let Some(choice) = Misbehaviour::chosen() else {
            let who: Vec<String> = about.iter().map(|capture| capture.container().id.clone()).collect();
            return text(format!("{} allows {}\n", who.join(" "), all.collect::<Vec<_>>().join(" ")));
        };
        match choice {
            Misbehaviour::Panics => panic!("on purpose"),
            Misbehaviour::Loops => endlessly(|| ()),
            Misbehaviour::Allocates => allocate(),
            Misbehaviour::Recurses => text(recurse(1).to_string()),
            Misbehaviour::Widens => profile("SCMP_ACT_ERRNO", "", all.chain(["ptrace"]).collect()),
            Misbehaviour::Narrows => profile("SCMP_ACT_ERRNO", "", all.skip(1).collect()),
            Misbehaviour::ChangesDefault => profile("SCMP_ACT_ALLOW", "", all.collect()),
            Misbehaviour::DropsArchitecture => document(good().replace(r#", "SCMP_ARCH_X32""#, "")),
            Misbehaviour::AddsArchitecture => {
                document(good().replace(ARCHITECTURES, r#""SCMP_ARCH_ARM", "SCMP_ARCH_X86_64""#))
            }
            Misbehaviour::ChangesErrno => {
                profile("SCMP_ACT_ERRNO", r#""defaultErrnoRet": 38,"#, all.collect())
            }
            Misbehaviour::AddsCondition => {
                let args = r#""args": [{"index": 0, "op": "SCMP_CMP_EQ", "value": 0}], "action""#;
                document(good().replace(r#""action""#, args))
            }
            Misbehaviour::Inverts => document(good().replace("SCMP_ACT_ALLOW", "SCMP_ACT_KILL")),
            Misbehaviour::DuplicatesName => {
                let twice = names.clone().chain(names.clone().take(1)).map(String::as_str);
                profile("SCMP_ACT_ERRNO", "", twice.collect())
            }
            Misbehaviour::ByteOrderMark => document(format!("\u{feff}{}", good())),
            Misbehaviour::Nested => document("[".repeat(100_000)),
            Misbehaviour::WritesTwo => document(good().repeat(2)),
            Misbehaviour::DuplicateField => {
                profile("SCMP_ACT_ERRNO", r#""defaultAction": "SCMP_ACT_ALLOW","#, all.collect())
            }
            Misbehaviour::HugeError => Err(Error::Failed("\x1b[31mred ".repeat(100_000))),
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
