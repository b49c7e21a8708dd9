//! What the host makes of gadgets that misbehave: an error that names the gadget and the reason, and nothing else.

mod common;

use common::{Guest, HOST, assert_host_is_well, built_in, run};
use gadgetd_host::{Level, Report};
use hostile_gadget::Misbehaviour;

/// What happened, in the words that a user would read.
#[derive(Debug)]
enum Outcome {
    NotLoaded(String),
    Failed(String, Box<Report>),
    Done(Report),
}

/// Loads the gadget that does this and runs it, with the built-in formatter.
async fn outcome(does: Misbehaviour) -> Outcome {
    let guest = Guest::new("guest", &gadgetd_guests::gadget(Some(does)));
    let named = guest.path.display().to_string();
    let outcome = match HOST.gadget(&guest.module()).await {
        Err(error) => Outcome::NotLoaded(error.to_string()),
        Ok(gadget) => match run(&gadget, &built_in().await.1).await {
            Err(error) => Outcome::Failed(error.to_string(), error.report),
            Ok(report) => Outcome::Done(report),
        },
    };
    if let Outcome::NotLoaded(text) | Outcome::Failed(text, _) = &outcome {
        assert!(text.contains(&format!("gadget {named} ")), "{text:?} does not name the module");
        assert!(!text.contains(char::is_control), "{text:?}");
    }
    assert_host_is_well().await;
    outcome
}

/// One test for each misbehaviour; one that is forgotten keeps this from compiling.
macro_rules! tests {
    ($($name:ident: $does:ident => $pattern:pat => $check:expr;)+) => {
        $(
            #[tokio::test]
            async fn $name() {
                let outcome = outcome(Misbehaviour::$does).await;
                let $pattern = &outcome else { panic!("{outcome:?}") };
                $check
            }
        )+
        #[allow(dead_code)]
        fn every_misbehaviour_has_a_test(does: Misbehaviour) {
            match does { $(Misbehaviour::$does)|+ => {} }
        }
    };
}

fn says(text: &str, what: &str) {
    assert!(text.contains(what), "{text:?} does not say {what:?}");
}

use Outcome::{Done, Failed, NotLoaded};

tests! {
    describe_panics: DescribePanics => NotLoaded(text) => says(text, "panicked: panicked at");
    describe_loops: DescribeLoops => NotLoaded(text) => says(text, "ran for more than 300ms");
    describe_reads_params: DescribeReadsParams => NotLoaded(text) =>
        says(text, "broke the contract: `describe` must not call `params.all`");
    no_name: NoName => NotLoaded(text) => says(text, "its name is empty");
    bad_name: BadName => NotLoaded(text) => says(text, "its name is not of lower-case words joined by `-`");
    bad_version: BadVersion => NotLoaded(text) => says(text, "its version is not semantic");
    no_summary: NoSummary => NotLoaded(text) => says(text, "its summary is empty");
    escape_in_summary: EscapeInSummary => NotLoaded(text) => says(text, "its summary holds control characters");
    huge_summary: HugeSummary => NotLoaded(text) => says(text, "its summary is longer than 1000 bytes");
    duplicate_param: DuplicateParam => NotLoaded(text) => says(text, "parameter same stands twice");
    too_many_params: TooManyParams => NotLoaded(text) => says(text, "it has 1000 parameters, more than 64");
    bad_default: BadDefault => NotLoaded(text) =>
        says(text, "parameter number has a default that it does not accept: it takes a whole number");
    nothing_to_choose: NothingToChoose => NotLoaded(text) => says(text, "has nothing to choose from");

    panics: Panics => Failed(text, _) => {
        says(text, "panicked: panicked at");
        says(text, "on purpose");
    };
    traps: Traps => Failed(text, _) => says(text, "trapped: invalid conversion to integer");
    loops: Loops => Failed(text, _) => says(text, "ran for more than 300ms, the limit of one call");
    allocates: Allocates => Failed(text, _) => says(text, "needs more memory than the 64 MiB it may have");
    recurses: Recurses => Failed(text, _) => says(text, "ran out of stack");
    invalid_name: InvalidName => Failed(text, _) =>
        says(text, r#"made something that the host refuses: rule 0 has "rm -rf /""#);
    duplicate_name: DuplicateName => Failed(text, _) => says(text, "system call read stands twice");
    empty_policy: EmptyPolicy => Failed(text, _) => says(text, "the policy has no rules");
    huge_policy: HugePolicy => Failed(text, _) => says(text, "passed more than 2 MiB to the host in one call");
    nul_in_document: NulInDocument => Failed(text, _) => says(text, "control character U+0000");
    escape_in_document: EscapeInDocument => Failed(text, _) => says(text, "control character U+001B");
    bad_media_type: BadMediaType => Failed(text, _) => says(text, "media type is not of the form type/subtype");
    bad_profile: BadProfile => Failed(text, _) => says(text, "the document is no seccomp profile");
    unsound_profile: UnsoundProfile => Failed(text, _) => says(text, "system call read stands twice");
    huge_document: HugeDocument => Failed(text, _) => says(text, "emits more than 1 MiB, the limit of a run");
    absurd_document: AbsurdDocument => Failed(text, _) =>
        says(text, "passed more than 2 MiB to the host in one call");
    many_documents: ManyDocuments => Failed(text, report) => {
        says(text, "emits more than 1 MiB");
        let kept: usize = report.documents.iter().map(|d| d.document.body.len() + 256).sum();
        assert!((1 << 19..1 << 20).contains(&kept), "{kept} bytes are kept");
    };
    endless_documents: EndlessDocuments => Failed(text, report) => {
        says(text, "ran for more than 300ms");
        assert!(report.documents.len() < (1 << 20) / 256);
    };
    endless_log: EndlessLog => Failed(text, report) => {
        says(text, "ran for more than 300ms");
        assert_eq!(report.log.len(), 50);
        assert!(report.dropped_log_lines > 1000, "{} are counted", report.dropped_log_lines);
    };
    huge_log_line: HugeLogLine => Failed(text, report) => {
        says(text, "failed: it has said what it had to say");
        let [line] = report.log.as_slice() else { panic!("{:?}", report.log) };
        let (_, value) = &line.fields[0];
        assert_eq!(line.level, Level::Info);
        for text in [&line.message, value] {
            assert!(text.len() < 10_000 && !text.contains('\x1b') && text.contains("(cut: it has 900000 bytes)"));
        }
    };
    endless_format: EndlessFormat => Failed(text, _) => says(text, "ran for more than 300ms");
    forges_capture: ForgesCapture => Failed(text, _) => says(text, "broke the contract: unknown handle index 999");
    endless_handles: EndlessHandles => Failed(text, _) => says(text, "broke the contract");
    own_error: OwnError => Failed(text, _) => says(text, r"failed: no \u{1b}[2J luck");
    ignores_format_error: IgnoresFormatError => Done(report) => assert!(report.documents.is_empty());
    no_document: NoDocument => Done(report) => assert!(report.documents.is_empty());
}

#[tokio::test]
async fn the_good_one_is_good() {
    let guest = Guest::new("good", &gadgetd_guests::gadget(None));
    let gadget = HOST.gadget(&guest.module()).await.unwrap();
    assert_eq!((gadget.name(), gadget.description().version.to_string().as_str()), ("hostile", "1.2.3"));
    let report = run(&gadget, &built_in().await.1).await.unwrap();
    assert_eq!(report.documents[0].about, [0, 1]);
}
