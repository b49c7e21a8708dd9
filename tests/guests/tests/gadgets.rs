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

/// Nothing of it reached the cluster.
fn refused(text: &str, report: &Report, why: &str) {
    says(text, "cannot do its work on the cluster");
    says(text, why);
    let [call] = report.audit.as_slice() else { panic!("{:?}", report.audit) };
    assert!(!call.allowed && call.result.is_some(), "{call:?}");
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
    describe_calls_cluster: DescribeCallsCluster => NotLoaded(text) =>
        says(text, "broke the contract: `describe` must not call `kube.discover`");
    describe_judges: DescribeJudges => NotLoaded(text) =>
        says(text, "broke the contract: `describe` must not call `output.judge`");
    describe_formats: DescribeFormats => NotLoaded(text) =>
        says(text, "broke the contract: `describe` must not call `formatter.format`");
    describe_floods_log: DescribeFloodsLog => NotLoaded(text) => says(text, "ran for more than 300ms");
    describe_allocates: DescribeAllocates => NotLoaded(text) =>
        says(text, "needs more memory than the 64 MiB it may have");
    escape_in_param_name: EscapeInParamName => NotLoaded(text) =>
        says(text, r#"the name of a parameter is not of lower-case words joined by `-`: "a\u{1b}[2J""#);
    escape_in_help: EscapeInHelp => NotLoaded(text) =>
        says(text, "parameter text has a help text that holds control characters");
    escape_in_choice: EscapeInChoice => NotLoaded(text) =>
        says(text, "parameter word has a choice that holds control characters");
    duplicate_choice: DuplicateChoice => NotLoaded(text) => says(text, "parameter word has the choice a twice");
    asks_for_subresource: AsksForSubresource => NotLoaded(text) =>
        says(text, r#"it asks for "pods/exec" of group "", which no kind of object is called"#);
    asks_for_nothing: AsksForNothing => NotLoaded(text) =>
        says(text, "it asks for things, and not what to do with them");
    asks_twice: AsksTwice => NotLoaded(text) => says(text, "it asks for things twice");
    asks_for_too_much: AsksForTooMuch => NotLoaded(text) =>
        says(text, "it asks for 1000 kinds of objects, more than 64");

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
    empty_name: EmptyName => Failed(text, _) =>
        says(text, r#"rule 0 has "", which cannot be the name of a system call"#);
    rule_without_names: RuleWithoutNames => Failed(text, _) => says(text, "rule 0 names no system call");
    no_architecture: NoArchitecture => Failed(text, _) => says(text, "the policy names no architecture");
    duplicate_architecture: DuplicateArchitecture => Failed(text, _) =>
        says(text, "architecture X86_64 stands twice in the policy");
    bad_argument: BadArgument => Failed(text, _) => says(text, "rule 0 has a condition on argument 6");
    bad_errno: BadErrno => Failed(text, _) => says(text, "errno 4096 is beyond the kernel's largest");
    huge_policy: HugePolicy => Failed(text, _) => says(text, "passed more than 2 MiB to the host in one call");
    nul_in_document: NulInDocument => Failed(text, _) => says(text, "control character U+0000");
    escape_in_document: EscapeInDocument => Failed(text, _) => says(text, "control character U+001B");
    bad_media_type: BadMediaType => Failed(text, _) => says(text, "media type is not of the form type/subtype");
    bad_profile: BadProfile => Failed(text, _) => says(text, "the document is no seccomp profile");
    unsound_profile: UnsoundProfile => Failed(text, _) => says(text, "system call read stands twice");
    byte_order_mark: ByteOrderMark => Failed(text, _) => says(text, "the document is no seccomp profile");
    nested_profile: NestedProfile => Failed(text, _) => says(text, "the document is no seccomp profile");
    duplicate_field: DuplicateField => Failed(text, _) => says(text, "duplicate field `defaultAction`");
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
    huge_panic: HugePanic => Failed(text, _) => {
        says(text, "panicked: panicked at");
        assert!(text.len() < 20_000, "{} bytes", text.len());
    };
    huge_error: HugeError => Failed(text, _) => says(text, "(cut: it has 900000 bytes)");
    grows_for_ever: GrowsForEver => Failed(text, _) => says(text, "ran for more than 300ms");
    drops_twice: DropsTwice => Failed(text, _) => says(text, "broke the contract: unknown handle index 1");
    endless_verdicts: EndlessVerdicts => Failed(text, report) => {
        says(text, "ran for more than 300ms");
        assert!(report.verdicts.len() <= (1 << 20) / 256);
    };
    escape_in_verdict: EscapeInVerdict => Failed(text, report) => {
        says(text, "the reason of a verdict is not one line of at most 1024 bytes");
        assert_eq!(report.verdicts, []);
    };
    empty_verdict: EmptyVerdict => Failed(text, _) => says(text, "the reason of a verdict is not one line");
    huge_verdict: HugeVerdict => Failed(text, _) => says(text, "the reason of a verdict is not one line");
    forges_capture: ForgesCapture => Failed(text, _) => says(text, "broke the contract: unknown handle index 999");
    endless_handles: EndlessHandles => Failed(text, _) => says(text, "broke the contract");
    own_error: OwnError => Failed(text, _) => says(text, r"failed: no \u{1b}[2J luck");
    ignores_format_error: IgnoresFormatError => Done(report) => assert!(report.documents.is_empty());
    no_document: NoDocument => Done(report) => assert!(report.documents.is_empty());

    endless_calls: EndlessCalls => Failed(text, report) => {
        says(text, "ran for more than 300ms");
        assert_eq!(report.audit.iter().filter(|call| call.allowed).count(), 20);
        assert_eq!(report.audit.len(), 21);
        assert!(report.unrecorded_calls > 1000, "{} are counted", report.unrecorded_calls);
    };
    many_objects: ManyObjects => Failed(text, report) => {
        says(text, "cannot do its work on the cluster: denied: create things.test.gadgetd shop/thing-20");
        says(text, "the run has made its 20 calls");
        assert_eq!(report.objects, []);
    };
    huge_object: HugeObject => Failed(text, report) =>
        refused(text, report, "the object has 1600076 bytes, more than 1536 KiB");
    object_is_no_json: ObjectIsNoJson => Failed(text, report) =>
        refused(text, report, "the object is no JSON");
    nested_object: NestedObject => Failed(text, report) => refused(text, report, "the object is no JSON");
    line_in_selector: LineInSelector => Failed(text, report) =>
        refused(text, report, "that cannot be a selection of labels");
    object_of_another_kind: ObjectOfAnotherKind => Failed(text, report) =>
        refused(text, report, r#"the object's kind is "Pod", and not "Thing""#);
    object_of_another_version: ObjectOfAnotherVersion => Failed(text, report) =>
        refused(text, report, r#"the object's apiVersion is "test.gadgetd/v2", and not "test.gadgetd/v1""#);
    object_in_another_namespace: ObjectInAnotherNamespace => Failed(text, report) =>
        refused(text, report, "metadata.namespace is not the namespace of the call");
    object_with_finalizer: ObjectWithFinalizer => Failed(text, report) =>
        refused(text, report, "metadata.finalizers is not for a module to write");
    object_with_owner: ObjectWithOwner => Failed(text, report) =>
        refused(text, report, "metadata.ownerReferences is not for a module to write");
    forges_provenance: ForgesProvenance => Done(report) => assert!(report.audit[0].allowed);
    reads_subresource: ReadsSubresource => Failed(text, report) =>
        refused(text, report, "get things/status.test.gadgetd shop/one: the module does not ask for it");
    path_in_name: PathInName => Failed(text, report) =>
        refused(text, report, r#""../../bank/things/one" cannot be the name of an object"#);
    path_in_version: PathInVersion => Failed(text, report) =>
        refused(text, report, r#""v1/namespaces/bank" cannot be a version"#);
    path_in_namespace: PathInNamespace => Failed(text, report) =>
        refused(text, report, "the run may only touch namespace shop");
    hides_namespace: HidesNamespace => Failed(text, report) =>
        refused(text, report, "the run may only touch namespace shop");
    lists_all_namespaces: ListsAllNamespaces => Failed(text, report) =>
        refused(text, report, "the run may only touch namespace shop");
    reads_another_namespace: ReadsAnotherNamespace => Failed(text, report) =>
        refused(text, report, "the run may only touch namespace shop");
    reads_secrets: ReadsSecrets => Failed(text, report) =>
        refused(text, report, "get secrets.test.gadgetd shop/one: the module does not ask for it");
    escape_in_call: EscapeInCall => Failed(text, report) => {
        refused(text, report, "cannot be the name of an object");
        assert_eq!(report.audit[0].name.as_deref(), Some(r"\u{1b}[2Jone"));
    };
    huge_list: HugeList => Failed(text, _) => says(text, "the answer has more than 1048576 bytes: ask for less");
    huge_answer: HugeAnswer => Failed(text, _) =>
        says(text, "the answer has more than 1048576 bytes: ask for less");
    call_that_hangs: CallThatHangs => Failed(text, _) => says(text, "no answer in time");
    reports_what_it_did_not_make: ReportsWhatItDidNotMake => Failed(text, report) => {
        says(text, r#"the run did not make the object "one" that it reports"#);
        assert_eq!(report.objects, []);
    };
    reports_twice: ReportsTwice => Failed(text, report) => {
        says(text, "the object one is reported twice");
        assert_eq!(report.objects.len(), 1);
    };
    escape_in_usage: EscapeInUsage => Failed(text, report) => {
        says(text, "how the object one is used is not one line");
        assert_eq!(report.objects, []);
    };
    formats_unknown_object: FormatsUnknownObject => Done(report) =>
        says(&report.documents[0].document.body, "this formatter writes documents, and no Pod objects");
}

#[tokio::test]
async fn the_good_one_is_good() {
    let guest = Guest::new("good", &gadgetd_guests::gadget(None));
    let gadget = HOST.gadget(&guest.module()).await.unwrap();
    assert_eq!((gadget.name(), gadget.description().version.to_string().as_str()), ("hostile", "1.2.3"));
    let report = run(&gadget, &built_in().await.1).await.unwrap();
    assert_eq!(report.documents[0].about, [0, 1]);
}
