//! A gadget that misbehaves in whatever way a test chooses. Left alone, it is a good one.

#[cfg(target_arch = "wasm32")]
use std::hint::black_box;

use gadget_sdk::{
    Action, Architecture, Argument, Capture, Comparison, Description, Document, Error, Gadget, MadeObject,
    Module, ObjectHead, Policy, Rule, Run, Spec, Verdict,
    bindings::imports,
    kube::{self, Kind},
    log,
    module::Verb,
};

#[path = "../../choice.rs"]
pub mod choice;

use choice::{allocate, endlessly, recurse};

gadget_sdk::export_gadget!(Hostile);

choice::misbehaviours! {
    /// Panics when it is asked to describe itself.
    DescribePanics,
    /// Loops when it is asked to describe itself.
    DescribeLoops,
    /// Asks for parameters when it is to declare them.
    DescribeReadsParams,
    /// Has no name.
    NoName,
    /// Has a name that would be two words on a command line.
    BadName,
    /// Has a version that is none.
    BadVersion,
    /// Says nothing of itself.
    NoSummary,
    /// Would clear the terminal of whoever reads its help.
    EscapeInSummary,
    /// Says more than anybody reads.
    HugeSummary,
    /// Declares a parameter twice.
    DuplicateParam,
    /// Declares more parameters than anybody needs.
    TooManyParams,
    /// Gives a parameter a default of another type.
    BadDefault,
    /// Offers a choice of nothing.
    NothingToChoose,
    /// Calls the cluster when it is to describe itself.
    DescribeCallsCluster,
    /// Judges when it is to describe itself.
    DescribeJudges,
    /// Has a policy formatted when it is to describe itself.
    DescribeFormats,
    /// Logs for ever when it is to describe itself.
    DescribeFloodsLog,
    /// Allocates until it is refused when it is to describe itself.
    DescribeAllocates,
    /// Gives a parameter a name that would act on a terminal.
    EscapeInParamName,
    /// Gives a parameter a help text that would act on a terminal.
    EscapeInHelp,
    /// Offers a word that would act on a terminal.
    EscapeInChoice,
    /// Offers the same word twice.
    DuplicateChoice,
    /// Asks for a subresource.
    AsksForSubresource,
    /// Asks for a kind, and not what to do with it.
    AsksForNothing,
    /// Asks for the same kind twice.
    AsksTwice,
    /// Asks for more kinds than there are.
    AsksForTooMuch,

    /// Panics.
    Panics,
    /// Divides by zero where Rust does not look.
    Traps,
    /// Never ends.
    Loops,
    /// Allocates until it is refused.
    Allocates,
    /// Recurses until something gives.
    Recurses,
    /// Allows a call whose name cannot be one.
    InvalidName,
    /// Allows a call twice.
    DuplicateName,
    /// Makes a policy that allows nothing.
    EmptyPolicy,
    /// Allows a call without a name.
    EmptyName,
    /// Makes a rule about no call.
    RuleWithoutNames,
    /// Makes a policy for no machine.
    NoArchitecture,
    /// Names an architecture twice.
    DuplicateArchitecture,
    /// Has a condition on an argument that no call has.
    BadArgument,
    /// Refuses with an errno that the kernel would not return.
    BadErrno,
    /// Passes 20 MiB of names.
    HugePolicy,
    /// Emits a document with a NUL in it.
    NulInDocument,
    /// Emits a document that would act on a terminal.
    EscapeInDocument,
    /// Emits a document of no type.
    BadMediaType,
    /// Emits a profile that is no JSON.
    BadProfile,
    /// Emits a profile that allows a call twice.
    UnsoundProfile,
    /// Emits a profile behind a byte order mark.
    ByteOrderMark,
    /// Emits a profile that is nested deeper than any reader can go.
    NestedProfile,
    /// Emits a profile that says what happens to other calls twice.
    DuplicateField,
    /// Emits a document that is larger than the limit of a run.
    HugeDocument,
    /// Emits a document that is larger than anything it may pass to the host.
    AbsurdDocument,
    /// Emits documents until it is refused, and gives up.
    ManyDocuments,
    /// Emits documents for ever, whatever the host says.
    EndlessDocuments,
    /// Logs for ever.
    EndlessLog,
    /// Logs a line of a megabyte, with escapes in it.
    HugeLogLine,
    /// Has the formatter format for ever.
    EndlessFormat,
    /// Panics with a message of a megabyte that would act on a terminal.
    HugePanic,
    /// Ends with an error of a megabyte.
    HugeError,
    /// Asks for a page of memory for ever, whatever the host says.
    GrowsForEver,
    /// Takes a number for a capture.
    ForgesCapture,
    /// Gives a capture back twice.
    DropsTwice,
    /// Judges for ever, whatever the host says.
    EndlessVerdicts,
    /// Gives a reason that would act on a terminal.
    EscapeInVerdict,
    /// Objects, and does not say to what.
    EmptyVerdict,
    /// Objects to more than fits on a line.
    HugeVerdict,
    /// Copies its handles until there are no more.
    EndlessHandles,
    /// Ends with an error of its own, which would act on a terminal.
    OwnError,
    /// Takes the formatter's error for a success.
    IgnoresFormatError,
    /// Succeeds without a result.
    NoDocument,

    /// Calls the cluster for ever, whatever it says.
    EndlessCalls,
    /// Makes objects until it is refused.
    ManyObjects,
    /// Writes an object that no cluster would take.
    HugeObject,
    /// Writes an object that is no JSON.
    ObjectIsNoJson,
    /// Writes an object of another kind than it says.
    ObjectOfAnotherKind,
    /// Writes an object of another version than it says.
    ObjectOfAnotherVersion,
    /// Writes an object into another namespace than it says.
    ObjectInAnotherNamespace,
    /// Writes an object that others cannot delete.
    ObjectWithFinalizer,
    /// Writes an object with an owner of its choice.
    ObjectWithOwner,
    /// Says in an object that it comes from elsewhere.
    ForgesProvenance,
    /// Reads a subresource.
    ReadsSubresource,
    /// Hides another path in a name.
    PathInName,
    /// Hides another path in a version.
    PathInVersion,
    /// Hides another path in a namespace.
    PathInNamespace,
    /// Says of a kind that it has no namespaces, to reach those of others.
    HidesNamespace,
    /// Makes an object that is nested deeper than any reader can go.
    NestedObject,
    /// Selects objects by what would end the line of an audit.
    LineInSelector,
    /// Reads the objects of all namespaces.
    ListsAllNamespaces,
    /// Reads a namespace that is not the run's.
    ReadsAnotherNamespace,
    /// Reads what it did not ask for.
    ReadsSecrets,
    /// Writes what the terminal of whoever reads the audit would act on.
    EscapeInCall,
    /// Asks for more than it can hold.
    HugeList,
    /// Asks for an object that is larger than it may get.
    HugeAnswer,
    /// Asks for what never comes.
    CallThatHangs,
    /// Reports an object that somebody else made.
    ReportsWhatItDidNotMake,
    /// Reports the same object twice.
    ReportsTwice,
    /// Says of an object that it is used in a way that a terminal would act on.
    EscapeInUsage,
    /// Has the formatter write an object that it does not write.
    FormatsUnknownObject,
}

/// The gadget.
pub struct Hostile;

impl Module for Hostile {
    fn describe() -> Description {
        let good = Description::new("hostile", "1.2.3", "Misbehaves.");
        let Some(choice) = Misbehaviour::chosen() else { return good };
        match choice {
            Misbehaviour::DescribePanics => panic!("it has nothing to say"),
            Misbehaviour::DescribeLoops => endlessly(|| ()),
            Misbehaviour::DescribeReadsParams => {
                imports::params::all();
                good
            }
            Misbehaviour::NoName => Description::new("", "1.2.3", "Misbehaves."),
            Misbehaviour::BadName => Description::new("two words", "1.2.3", "Misbehaves."),
            Misbehaviour::BadVersion => Description::new("hostile", "new", "Misbehaves."),
            Misbehaviour::NoSummary => Description::new("hostile", "1.2.3", " "),
            Misbehaviour::EscapeInSummary => Description::new("hostile", "1.2.3", "\x1b[2J"),
            Misbehaviour::HugeSummary => Description::new("hostile", "1.2.3", &"blah ".repeat(100_000)),
            Misbehaviour::DuplicateParam => {
                good.param(Spec::text("same", "One.")).param(Spec::integer("same", "Other."))
            }
            Misbehaviour::TooManyParams => {
                let names = (0..1000).map(|n| format!("p{n}"));
                names.fold(good, |description, name| description.param(Spec::text(&name, "One of many.")))
            }
            Misbehaviour::BadDefault => good.param(Spec::integer("number", "A number.").or("none")),
            Misbehaviour::NothingToChoose => good.param(Spec::choice("choice", "A choice.", &[])),
            Misbehaviour::DescribeCallsCluster => {
                drop(imports::kube::discover(GROUP, PLURAL));
                good
            }
            Misbehaviour::DescribeJudges => {
                drop(imports::output::judge(&Verdict::Pass, &[]));
                good
            }
            Misbehaviour::DescribeFormats => {
                drop(imports::formatter::format(&policy(&["read"]), vec![], None));
                good
            }
            Misbehaviour::DescribeFloodsLog => endlessly(|| log::warn("and another thing", &[])),
            Misbehaviour::DescribeAllocates => allocate(),
            Misbehaviour::EscapeInParamName => good.param(Spec::text("a\x1b[2J", "A text.")),
            Misbehaviour::EscapeInHelp => good.param(Spec::text("text", "A \x1b[2J text.")),
            Misbehaviour::EscapeInChoice => good.param(Spec::choice("word", "A word.", &["a", "\x1b[2J"])),
            Misbehaviour::DuplicateChoice => good.param(Spec::choice("word", "A word.", &["a", "b", "a"])),
            Misbehaviour::AsksForSubresource => good.capability("", "pods/exec", &[Verb::Create]),
            Misbehaviour::AsksForNothing => good.capability(GROUP, PLURAL, &[]),
            Misbehaviour::AsksTwice => {
                good.capability(GROUP, PLURAL, &[Verb::Get]).capability(GROUP, PLURAL, &[Verb::List])
            }
            Misbehaviour::AsksForTooMuch => {
                let kinds = (0..1000).map(|n| format!("things{n}"));
                kinds.fold(good, |description, kind| description.capability("", &kind, &[Verb::Get]))
            }
            _ => good.capability(GROUP, PLURAL, &[Verb::Get, Verb::List, Verb::Create, Verb::Apply]),
        }
    }
}

impl Gadget for Hostile {
    fn generate(run: &mut Run<'_>, captures: Vec<Capture>) -> Result<(), Error> {
        let about: Vec<&Capture> = captures.iter().collect();
        let text = |body: &str| Document::new("text/plain", body.to_owned());
        let Some(choice) = Misbehaviour::chosen() else {
            let document = run.format(&policy(&["read", "write"]), &about)?;
            return Ok(run.emit(&document, &about)?);
        };
        match choice {
            Misbehaviour::Panics => panic!("on purpose"),
            Misbehaviour::Traps => trap(),
            Misbehaviour::Loops => endlessly(|| ()),
            Misbehaviour::Allocates => allocate(),
            Misbehaviour::GrowsForEver => endlessly(grow),
            Misbehaviour::HugePanic => panic!("{}", "\x1b[31mred ".repeat(100_000)),
            Misbehaviour::HugeError => return Err(Error::Other("\x1b[31mred ".repeat(100_000))),
            Misbehaviour::Recurses => {
                log::info("deep", &[("depth", &recurse(1).to_string())]);
            }
            Misbehaviour::InvalidName => format_and_emit(run, &policy(&["read", "rm -rf /"]), &about)?,
            Misbehaviour::DuplicateName => format_and_emit(run, &policy(&["read", "write", "read"]), &about)?,
            Misbehaviour::EmptyPolicy => {
                format_and_emit(run, &Policy { rules: vec![], ..policy(&[]) }, &about)?;
            }
            Misbehaviour::EmptyName => format_and_emit(run, &policy(&["read", ""]), &about)?,
            Misbehaviour::RuleWithoutNames => format_and_emit(run, &policy(&[]), &about)?,
            Misbehaviour::NoArchitecture => {
                format_and_emit(run, &Policy { architectures: vec![], ..policy(&["read"]) }, &about)?;
            }
            Misbehaviour::DuplicateArchitecture => {
                let architectures = vec![Architecture::X86_64; 2];
                format_and_emit(run, &Policy { architectures, ..policy(&["read"]) }, &about)?;
            }
            Misbehaviour::BadArgument => {
                let argument = Argument { index: 6, op: Comparison::Equal, value: 0, value_two: 0 };
                let mut policy = policy(&["read"]);
                policy.rules[0].args.push(argument);
                format_and_emit(run, &policy, &about)?;
            }
            Misbehaviour::BadErrno => {
                let default_action = Action::Errno(Some(4096));
                format_and_emit(run, &Policy { default_action, ..policy(&["read"]) }, &about)?;
            }
            Misbehaviour::HugePolicy => format_and_emit(run, &policy(&[&"x".repeat(20 << 20)]), &about)?,
            Misbehaviour::NulInDocument => run.emit(&text("a\0b"), &about)?,
            Misbehaviour::EscapeInDocument => run.emit(&text("\x1b]0;owned\x07"), &about)?,
            Misbehaviour::BadMediaType => run.emit(&Document::new("text", "body".into()), &about)?,
            Misbehaviour::BadProfile => run.emit(&profile("{"), &about)?,
            Misbehaviour::UnsoundProfile => {
                let twice = r#"{"names": ["read", "read"], "action": "SCMP_ACT_ALLOW"}"#;
                let body = format!(r#"{{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{twice}]}}"#);
                run.emit(&profile(&body), &about)?;
            }
            Misbehaviour::ByteOrderMark => {
                run.emit(&profile("\u{feff}{\"defaultAction\": \"SCMP_ACT_ERRNO\"}"), &about)?;
            }
            Misbehaviour::NestedProfile => run.emit(&profile(&nested()), &about)?,
            Misbehaviour::DuplicateField => {
                let twice = r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultAction": "SCMP_ACT_ALLOW"}"#;
                run.emit(&profile(twice), &about)?;
            }
            Misbehaviour::HugeDocument => run.emit(&text(&"x".repeat((1 << 20) + 1)), &about)?,
            Misbehaviour::AbsurdDocument => run.emit(&text(&"x".repeat(20 << 20)), &about)?,
            Misbehaviour::ManyDocuments => loop {
                run.emit(&text("one of many"), &about)?;
            },
            Misbehaviour::EndlessDocuments => endlessly(|| drop(run.emit(&text("one of many"), &about))),
            Misbehaviour::EndlessLog => endlessly(|| log::warn("and another thing", &[("more", "yes")])),
            Misbehaviour::HugeLogLine => {
                let line = "\x1b[31mred ".repeat(100_000);
                log::info(&line, &[("also", &line)]);
                return Err(Error::Other("it has said what it had to say".into()));
            }
            Misbehaviour::EndlessFormat => {
                let policy = policy(&["read"]);
                endlessly(|| drop(run.format(&policy, &about)))
            }
            Misbehaviour::ForgesCapture => forge(),
            Misbehaviour::DropsTwice => drop_twice(),
            Misbehaviour::EndlessHandles => endlessly(copy_first_handle),
            Misbehaviour::OwnError => return Err(Error::Other("no \x1b[2J luck".into())),
            Misbehaviour::IgnoresFormatError => drop(run.format(&policy(&["read"]), &about)),
            Misbehaviour::NoDocument => {}
            Misbehaviour::EndlessVerdicts => endlessly(|| drop(run.judge(&Verdict::Pass, &about))),
            Misbehaviour::EscapeInVerdict => run.judge(&Verdict::Fail("\x1b[2J".into()), &about)?,
            Misbehaviour::EmptyVerdict => run.judge(&Verdict::Fail(" ".into()), &about)?,
            Misbehaviour::HugeVerdict => run.judge(&Verdict::Fail("x".repeat(1025)), &about)?,
            other => return misuse_cluster(run, other, &about),
        }
        Ok(())
    }
}

fn misuse_cluster(run: &mut Run<'_>, choice: Misbehaviour, about: &[&Capture]) -> Result<(), Error> {
    match choice {
        Misbehaviour::EndlessCalls => {
            endlessly(|| drop(run.kube().get(&things(), Some(NAMESPACE), "one")));
        }
        Misbehaviour::ManyObjects => {
            for number in 0.. {
                create(run, &object(&format!(r#""name": "thing-{number}""#)))?;
            }
        }
        Misbehaviour::HugeObject => {
            create(run, &object(&format!(r#""name": "{}""#, "x".repeat(1_600_000))))?;
        }
        Misbehaviour::ObjectIsNoJson => create(run, "apiVersion: v1")?,
        Misbehaviour::NestedObject => {
            create(run, &object(&format!(r#""name": "one", "annotations": {}"#, nested())))?;
        }
        Misbehaviour::LineInSelector => {
            run.kube().list(&things(), Some(NAMESPACE), "a=b\nc")?;
        }
        Misbehaviour::ObjectOfAnotherKind => create(run, &object("").replace("Thing", "Pod"))?,
        Misbehaviour::ObjectOfAnotherVersion => create(run, &object("").replace("/v1", "/v2"))?,
        Misbehaviour::ObjectInAnotherNamespace => {
            create(run, &object(r#""name": "one", "namespace": "bank""#))?;
        }
        Misbehaviour::ObjectWithFinalizer => {
            create(run, &object(r#""name": "one", "finalizers": ["hostile/forever"]"#))?;
        }
        Misbehaviour::ObjectWithOwner => {
            create(run, &object(r#""name": "one", "ownerReferences": [{"uid": "theirs"}]"#))?;
        }
        Misbehaviour::ForgesProvenance => {
            let trace = r#"{"seccomp.gadget.kinvolk.io/trace": "gadget/forged"}"#;
            create(run, &object(&format!(r#""name": "one", "annotations": {trace}"#)))?;
        }
        Misbehaviour::ReadsSubresource => get(run, |kind| kind.plural = "things/status".into())?,
        Misbehaviour::PathInName => {
            run.kube().get(&things(), Some(NAMESPACE), "../../bank/things/one")?;
        }
        Misbehaviour::PathInVersion => get(run, |kind| kind.version = "v1/namespaces/bank".into())?,
        Misbehaviour::PathInNamespace => {
            run.kube().get(&things(), Some("shop/things/one?x="), "one")?;
        }
        Misbehaviour::HidesNamespace => {
            run.kube().get(&Kind { namespaced: false, ..things() }, None, "one")?;
        }
        Misbehaviour::ListsAllNamespaces => {
            run.kube().list(&things(), None, "")?;
        }
        Misbehaviour::ReadsAnotherNamespace => {
            run.kube().get(&things(), Some("bank"), "one")?;
        }
        Misbehaviour::ReadsSecrets => get(run, |kind| kind.plural = "secrets".into())?,
        Misbehaviour::EscapeInCall => {
            run.kube().get(&things(), Some(NAMESPACE), "\x1b[2Jone")?;
        }
        Misbehaviour::HugeList => {
            run.kube().list(&things(), Some(NAMESPACE), "size=huge")?;
        }
        Misbehaviour::HugeAnswer => {
            run.kube().get(&things(), Some(NAMESPACE), "huge")?;
        }
        Misbehaviour::CallThatHangs => {
            run.kube().get(&things(), Some(NAMESPACE), "hangs")?;
        }
        Misbehaviour::ReportsWhatItDidNotMake => {
            run.kube().list(&things(), Some(NAMESPACE), "")?;
            report(run, None)?;
        }
        Misbehaviour::ReportsTwice => {
            create(run, &object(r#""name": "one""#))?;
            report(run, None)?;
            report(run, None)?;
        }
        Misbehaviour::EscapeInUsage => {
            create(run, &object(r#""name": "one""#))?;
            report(run, Some("\x1b[2J"))?;
        }
        Misbehaviour::FormatsUnknownObject => {
            let head = ObjectHead {
                api_version: "v1".into(),
                kind: "Pod".into(),
                namespace: Some(NAMESPACE.into()),
                name: "one".into(),
                attempt: 0,
            };
            let written = run.format_object(&policy(&["read"]), about, &head);
            run.emit(&Document::new("text/plain", format!("{written:?}")), about)?;
        }
        other => panic!("{other:?} is for `describe`"),
    }
    Ok(())
}

/// The kind that the good calls are about, and the namespace of the run.
const GROUP: &str = "test.gadgetd";
const PLURAL: &str = "things";
const NAMESPACE: &str = "shop";

fn things() -> Kind {
    Kind {
        group: GROUP.into(),
        version: "v1".into(),
        plural: PLURAL.into(),
        name: "Thing".into(),
        namespaced: true,
    }
}

fn object(metadata: &str) -> String {
    format!(r#"{{"apiVersion": "{GROUP}/v1", "kind": "Thing", "metadata": {{{metadata}}}}}"#)
}

fn create(run: &mut Run<'_>, object: &str) -> Result<(), kube::Error> {
    run.kube().create(&things(), Some(NAMESPACE), object).map(drop)
}

fn get(run: &mut Run<'_>, change: impl FnOnce(&mut Kind)) -> Result<(), kube::Error> {
    let mut kind = things();
    change(&mut kind);
    run.kube().get(&kind, Some(NAMESPACE), "one").map(drop)
}

fn report(run: &mut Run<'_>, usage: Option<&str>) -> Result<(), gadget_sdk::output::Error> {
    let (namespace, name, usage) = (Some(NAMESPACE.into()), "one".into(), usage.map(str::to_owned));
    run.made(&MadeObject { kind: things(), namespace, name, usage }, &[])
}

fn policy(names: &[&str]) -> Policy {
    Policy {
        default_action: Action::Errno(None),
        architectures: vec![Architecture::X86_64],
        rules: vec![Rule::allow(names.iter().map(ToString::to_string).collect())],
    }
}

fn profile(body: &str) -> Document {
    Document::new("application/vnd.oci.seccomp+json", body.to_owned())
}

fn format_and_emit(run: &mut Run<'_>, policy: &Policy, about: &[&Capture]) -> Result<(), Error> {
    let document = run.format(policy, about)?;
    Ok(run.emit(&document, about)?)
}

/// A trap that is no `unreachable`, so no panic.
fn trap() {
    #[cfg(target_arch = "wasm32")]
    {
        // A float that is no integer; the language's own cast would saturate.
        #[allow(unsafe_code)]
        // SAFETY: there is none, that is the point: the instruction traps, and nothing comes after it.
        let number: i32 = unsafe { black_box(f32::NAN).to_int_unchecked() };
        black_box(number);
    }
}

/// Asks for one page of memory, by the instruction: no allocator gives up in between.
fn grow() {
    #[cfg(target_arch = "wasm32")]
    black_box(std::arch::wasm32::memory_grow(0, 1));
}

/// JSON that is nested deeper than any reader can go.
fn nested() -> String {
    "[".repeat(100_000)
}

fn drop_twice() {
    #[cfg(target_arch = "wasm32")]
    for _ in 0..2 {
        drop(std::mem::ManuallyDrop::into_inner(handle(1)));
    }
}

fn forge() {
    #[cfg(target_arch = "wasm32")]
    black_box(handle(999).syscalls());
}

fn copy_first_handle() {
    #[cfg(target_arch = "wasm32")]
    std::mem::forget(handle(1).clone());
}

/// What a module does that takes a number for a handle.
#[cfg(target_arch = "wasm32")]
fn handle(number: u32) -> std::mem::ManuallyDrop<imports::captures::Capture> {
    #[allow(unsafe_code)]
    // SAFETY: whether there is such a handle is for the host to find out.
    std::mem::ManuallyDrop::new(unsafe { imports::captures::Capture::from_handle(number) })
}
