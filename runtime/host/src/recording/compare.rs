//! The outcomes of two runs, compared.

use std::{
    fmt::{self, Write as _},
    time::Duration,
};

use gadgetd_core::kube::Resource;
use similar::TextDiff;

use super::format::{Failure, Outcome, Recording};
use crate::{
    cluster::exchange::{KubeAnswer, KubeExchange, KubeRequest},
    contract::output::{Emitted, MadeObject, Verdict},
};

/// How long to look for the smallest difference; then a larger one will do.
const DIFF_TIMEOUT: Duration = Duration::from_secs(2);

/// How many equal lines are shown around those that differ.
const CONTEXT_LINES: usize = 3;

/// The differences of an outcome from the recorded one. As text it is a unified diff, safe to print on a terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference(String);

impl Difference {
    /// Compares two runs: the outcome, the calls to the cluster, documents, objects and verdicts. Log lines are not compared:
    /// they are for people. `None` if nothing differs.
    ///
    /// A recording that says nothing of its result differs from each that does.
    pub fn between(expected: &Recording, found: &Recording) -> Option<Self> {
        if expected.kube == found.kube && compared(expected) == compared(found) {
            return None;
        }
        let (old, new) = (printed(expected), printed(found));
        let diff = TextDiff::configure().timeout(DIFF_TIMEOUT).diff_lines(&old, &new);
        let diff = diff.unified_diff().context_radius(CONTEXT_LINES).header("recorded", "now").to_string();
        Some(Self(diff))
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The parts of an outcome that are compared.
type Compared<'a> = (Option<&'a Failure>, &'a [Emitted], &'a [MadeObject], &'a [Verdict]);

fn compared(recording: &Recording) -> Option<Compared<'_>> {
    let Outcome { fault, documents, objects, verdicts, .. } = recording.result.as_ref()?;
    Some((fault.as_ref(), documents, objects, verdicts))
}

/// The outcome of a run, for people.
fn printed(recording: &Recording) -> String {
    let mut text = String::new();
    let outcome = match &recording.result {
        None => "nothing is said".to_owned(),
        Some(Outcome { fault: None, .. }) => "ok".to_owned(),
        Some(Outcome { fault: Some(Failure { module, kind, message }), .. }) => {
            format!("{kind}: the {module} {message}")
        }
    };
    let _ = writeln!(text, "== outcome: {outcome}");
    for (n, exchange) in (1..).zip(&recording.kube) {
        call(&mut text, n, exchange);
    }
    let nothing = Outcome::default();
    let Outcome { documents, objects, verdicts, .. } = recording.result.as_ref().unwrap_or(&nothing);
    for (n, Emitted { document, about }) in (1..).zip(documents) {
        let _ = writeln!(text, "== document {n}: {}, of {}", document.media_type, captures(about));
        text += &document.body;
        if !document.body.ends_with('\n') {
            text += "\n(without a line feed at its end)\n";
        }
    }
    for (n, object) in (1..).zip(objects) {
        let MadeObject { kind, namespace, name, usage, about } = object;
        let place = namespace.as_ref().map_or_else(String::new, |namespace| format!("{namespace}/"));
        let (version, kind) = (kind.api_version(), &kind.kind);
        let _ = writeln!(text, "== object {n}: {version} {kind} {place}{name}, of {}", captures(about));
        if let Some(usage) = usage {
            let _ = writeln!(text, "used as: {usage}");
        }
    }
    for (n, Verdict { failure, about }) in (1..).zip(verdicts) {
        let verdict = failure
            .as_deref()
            .map_or("as it should be".to_owned(), |why| format!("not as it should be: {why}"));
        let _ = writeln!(text, "== verdict {n}, of {}: {verdict}", captures(about));
    }
    safe(&text)
}

fn call(text: &mut String, n: usize, KubeExchange { call, answer }: &KubeExchange) {
    let _ = writeln!(text, "== call {n}: {call}");
    if let KubeRequest::Get { kind, .. }
    | KubeRequest::List { kind, .. }
    | KubeRequest::Create { kind, .. }
    | KubeRequest::Apply { kind, .. } = call
    {
        let _ = writeln!(text, "kind: {} {}", kind.api_version(), kind.kind);
    }
    match call {
        KubeRequest::List { labels, .. } if !labels.is_empty() => {
            let _ = writeln!(text, "labels: {labels}");
        }
        KubeRequest::Create { object, .. } | KubeRequest::Apply { object, .. } => {
            let _ = writeln!(text, "object: {object:#}");
        }
        _ => {}
    }
    let _ = match answer {
        None => writeln!(text, "answer: none"),
        Some(KubeAnswer::Error(error)) => writeln!(text, "answer: {error}"),
        Some(KubeAnswer::Object(object)) => writeln!(text, "answer: {object:#}"),
        Some(KubeAnswer::Objects(objects)) => writeln!(text, "answer: {} objects", objects.len()),
        Some(KubeAnswer::Kinds(kinds)) => {
            let versions: Vec<_> = kinds.iter().map(Resource::api_version).collect();
            writeln!(text, "answer: served as {}", versions.join(", "))
        }
    };
}

fn captures(about: &[usize]) -> String {
    match about {
        [] => "no capture".to_owned(),
        [one] => format!("capture {one}"),
        many => format!("captures {}", many.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
    }
}

/// Nothing that a terminal would act on: a recording is a file like any other.
fn safe(text: &str) -> String {
    let printable = |c: char| !c.is_control() || matches!(c, '\n' | '\t');
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if printable(c) {
            safe.push(c);
        } else {
            safe.extend(c.escape_default());
        }
    }
    safe
}
