//! A gadget that makes the calls to the cluster that it is told, and says what came of each.
//!
//! What it asks for in its description is a text in its data, which a test overwrites. What it calls is its parameter:
//! `VERB NAMESPACE NAME`, calls separated by `;`, with `-` for none.

use std::hint::black_box;

use gadget_sdk::{
    Capture, Description, Document, Error, Gadget, Module, Run, Spec,
    kube::{self, Kind},
    module::Verb,
};

gadget_sdk::export_gadget!(Caller);

/// How the text begins that names the verbs.
pub const PREFIX: &[u8] = b"asks to: ";
/// The text. The verbs stand between the prefix and the first dot, separated by blanks.
static ASKS: [u8; 64] = *b"asks to: .......................................................";

/// The group of the objects that all calls are about.
pub const GROUP: &str = "test.gadgetd";
/// Their name in paths.
pub const PLURAL: &str = "things";

/// The gadget.
pub struct Caller;

impl Module for Caller {
    fn describe() -> Description {
        // The compiler must not conclude from the bytes that it sees.
        let text = black_box(&ASKS).strip_prefix(PREFIX).unwrap_or_default();
        let text = text.split(|b| *b == b'.').next().unwrap_or_default();
        let verbs: Vec<Verb> = String::from_utf8_lossy(text).split_whitespace().map(verb).collect();
        let description = Description::new("caller", "1.0.0", "Makes the calls that it is told.")
            .param(Spec::text("calls", "The calls."));
        if verbs.is_empty() { description } else { description.capability(GROUP, PLURAL, &verbs) }
    }
}

fn verb(word: &str) -> Verb {
    match word {
        "get" => Verb::Get,
        "list" => Verb::List,
        "create" => Verb::Create,
        "apply" => Verb::Apply,
        other => panic!("{other} is no verb"),
    }
}

impl Gadget for Caller {
    fn generate(run: &mut Run<'_>, captures: Vec<Capture>) -> Result<(), Error> {
        let calls = run.params().text("calls").unwrap_or_default().to_owned();
        let mut text = String::new();
        for call in calls.split(';') {
            let [verb, namespace, name] = call.split_whitespace().collect::<Vec<_>>()[..] else {
                return Err(Error::InvalidParameter(format!("calls: {call:?} is no call")));
            };
            let namespace = (namespace != "-").then_some(namespace);
            match make(run, verb, namespace, name) {
                Ok(answer) => text += &["ok ", &answer, "\n"].concat(),
                Err(error) => text += &[&said(error), "\n"].concat(),
            }
        }
        let about: Vec<&Capture> = captures.iter().collect();
        Ok(run.emit(&Document::new("text/plain", text), &about)?)
    }
}

fn make(run: &mut Run<'_>, verb: &str, namespace: Option<&str>, name: &str) -> Result<String, kube::Error> {
    let kind = Kind {
        group: GROUP.into(),
        version: "v1".into(),
        plural: PLURAL.into(),
        name: "Thing".into(),
        namespaced: namespace.is_some(),
    };
    let object = format!(
        r#"{{"apiVersion": "{}", "kind": "Thing", "metadata": {{"name": "{name}"}}, "spec": {{"by": "gadget"}}}}"#,
        kind.api_version()
    );
    let mut kube = run.kube();
    match verb {
        "discover" => kube.discover(GROUP, PLURAL).map(|kinds| kinds.len().to_string()),
        "get" => kube.get(&kind, namespace, name),
        "list" => kube.list(&kind, namespace, "").map(|objects| objects.len().to_string()),
        "create" => kube.create(&kind, namespace, &object),
        "apply" => kube.apply(&kind, namespace, &object),
        other => panic!("{other} is no verb"),
    }
}

fn said(error: kube::Error) -> String {
    match error {
        kube::Error::Denied(text) => format!("denied: {text}"),
        kube::Error::NotFound(text) => format!("not found: {text}"),
        kube::Error::Conflict(text) => format!("conflict: {text}"),
        kube::Error::Invalid(text) => format!("invalid: {text}"),
        kube::Error::TooLarge(most) => format!("too large: {most}"),
        kube::Error::Unavailable(text) => format!("unavailable: {text}"),
        kube::Error::Deadline(text) => format!("deadline: {text}"),
    }
}
