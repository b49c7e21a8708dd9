//! What the host makes of formatters that misbehave: whatever the gadget does, the error names the formatter.

mod common;

use common::{Guest, HOST, assert_host_is_well, built_in, run};
use hostile_formatter::Misbehaviour;

async fn guest(does: Option<Misbehaviour>) -> (Guest, gadgetd_host::Formatter) {
    let guest = Guest::new("guest", &gadgetd_guests::formatter(does));
    let formatter = HOST.formatter(&guest.module()).await.unwrap();
    (guest, formatter)
}

/// Runs the formatter that does this for the built-in gadget, and for one that takes no notice of errors.
async fn failure(does: Misbehaviour) -> String {
    let (guest, formatter) = guest(Some(does)).await;
    let careless = Guest::new(
        "careless",
        &gadgetd_guests::gadget(Some(hostile_gadget::Misbehaviour::IgnoresFormatError)),
    );
    let careless = HOST.gadget(&careless.module()).await.unwrap();
    let named = format!("formatter {} ", guest.path.display());
    let mut text = String::new();
    for gadget in [&careless, &built_in().await.0] {
        let error = run(gadget, &formatter).await.expect_err("it misbehaves");
        assert!(error.report.documents.is_empty(), "{error:?}");
        text = error.to_string();
        assert!(text.starts_with(&named), "{text:?} does not name the module");
        assert!(!text.contains(char::is_control), "{text:?}");
    }
    assert_host_is_well().await;
    text
}

/// One test for each misbehaviour; one that is forgotten keeps this from compiling.
macro_rules! tests {
    ($($name:ident: $does:ident => $says:literal;)+) => {
        $(
            #[tokio::test]
            async fn $name() {
                let text = failure(Misbehaviour::$does).await;
                assert!(text.contains($says), "{text:?} does not say {:?}", $says);
            }
        )+
        #[allow(dead_code)]
        fn every_misbehaviour_has_a_test(does: Misbehaviour) {
            match does { $(Misbehaviour::$does)|+ => {} }
        }
    };
}

tests! {
    panics: Panics => "panicked: panicked at";
    loops: Loops => "ran for more than 300ms, the limit of one call";
    allocates: Allocates => "needs more memory than the 64 MiB it may have";
    recurses: Recurses => "ran out of stack";
    widens: Widens => "the profile does not say what the policy says: it has the rule to allow ptrace";
    narrows: Narrows => "the profile does not say what the policy says: it lacks the rule to allow";
    changes_default: ChangesDefault => "its default is to allow, instead of to refuse";
    drops_architecture: DropsArchitecture => "its architectures are {X86_64, X86}, instead of {X86_64, X86, X32}";
    adds_architecture: AddsArchitecture => "its architectures are {X86_64, Arm}, instead of";
    changes_errno: ChangesErrno => "its default is to refuse with errno 38, instead of to refuse";
    adds_condition: AddsCondition => "the profile does not say what the policy says: it has the rule to allow";
    inverts: Inverts => "the profile does not say what the policy says: it has the rule to kill the thread";
    duplicates_name: DuplicatesName => "stands twice";
    byte_order_mark: ByteOrderMark => "the document is no seccomp profile";
    nested: Nested => "the document is no seccomp profile";
    writes_two: WritesTwo => "the document is no seccomp profile: .: trailing characters";
    duplicate_field: DuplicateField => "duplicate field `defaultAction`";
    huge_error: HugeError => "(cut: it has 900000 bytes)";
    sets_flags: SetsFlags => "the profile sets flags, which the policy does not";
    invalid_json: InvalidJson => "the document is no seccomp profile";
    unknown_field: UnknownField => "allowAll: unknown field";
    huge_document: HugeDocument => "emits more than 1 MiB";
    escape_in_document: EscapeInDocument => "control character U+001B";
    bad_media_type: BadMediaType => "media type is not of the form type/subtype";
    endless_log: EndlessLog => "ran for more than 300ms";
    unsupported: Unsupported => r"cannot write the policy: no \u{1b}[2J way";
}

#[tokio::test]
async fn the_good_one_sees_the_captures_that_it_is_told_about() {
    let (_file, formatter) = guest(None).await;
    let report = run(&built_in().await.0, &formatter).await.unwrap();
    let [first, second] = report.documents.as_slice() else { panic!("{report:?}") };
    assert!(first.document.body.starts_with("first allows "), "{first:?}");
    assert!(second.document.body.starts_with("second allows "), "{second:?}");
}
