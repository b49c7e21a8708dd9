//! What came of a recording: from a Trace to what is printed.

use std::{cmp::Ordering, collections::BTreeSet, error::Error, fmt, io, path::Path, process::ExitCode};

use gadgetd_kube::{Output, OutputMode, Trace};
use serde_json::{Value, json};

/// The result of a recording.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Results {
    /// What goes to standard output; `None` where there is nothing.
    pub text: Option<String>,
    /// What people should know, in the order in which they should read it.
    pub notes: Vec<String>,
    /// Whether something that should be in it was lost, and what.
    pub lost: Vec<String>,
    /// Why what was recorded is not as it should be, in the words of the gadget.
    pub objections: Vec<String>,
    /// Why there is nothing, where there is nothing.
    pub nothing: Option<String>,
}

/// What a Trace holds.
///
/// One container gives its document as it is. Several give a JSON array. Documents that went elsewhere are given by the
/// names of where they are, one in each line.
pub(crate) fn results(trace: &Trace) -> Results {
    let status = trace.status.clone().unwrap_or_default();
    let outputs = outputs(trace);
    let mut results = remarks(&outputs);
    let dropped = status.progress.as_ref().map_or(0, |p| p.dropped);
    if dropped > 0 {
        results.lost.push(format!("{dropped} documents had to make room for others"));
    }
    results.text = match trace.spec.output_mode {
        OutputMode::ExternalResource | OutputMode::File => {
            for output in &outputs {
                results.notes.extend(destination(output));
            }
            let names: Vec<_> = outputs
                .iter()
                .filter_map(|o| o.resource.as_ref().or(o.localhost_profile.as_ref()))
                .map(|name| format!("{name}\n"))
                .collect();
            (!names.is_empty()).then(|| names.concat())
        }
        _ => documents(&outputs),
    };
    let error = status.operation_error;
    if results.text.is_some() {
        // Where there is something, an error is that something else is missing.
        results
            .lost
            .extend(error.filter(|error| !results.lost.iter().any(|lost| error.contains(lost.as_str()))));
    } else {
        let of_outputs = || {
            let all = results.lost.iter().chain(&results.notes).cloned().collect::<Vec<_>>();
            (!all.is_empty()).then(|| all.join("; "))
        };
        let why = error.or_else(of_outputs).or(status.operation_warning);
        results.nothing = Some(why.unwrap_or_else(|| "nothing was recorded".into()));
        results.notes.clear();
        results.lost.clear();
    }
    results
}

/// What there is to say about documents, without the documents.
pub(crate) fn remarks(outputs: &[Output]) -> Results {
    let mut results = Results::default();
    for output in outputs {
        let text = format!("{}: {}", who(output), output.warning.as_deref().unwrap_or("it is incomplete"));
        match (&output.warning, output.complete) {
            (_, false) => results.lost.push(text),
            (Some(_), true) => results.notes.push(text),
            (None, true) => {}
        }
    }
    let objects = |output: &Output| Some(format!("{}: {}", who(output), output.objection.as_ref()?));
    results.objections = outputs.iter().filter_map(objects).collect();
    results
}

/// The entries that count, sorted by whom they are about.
pub(crate) fn outputs(trace: &Trace) -> Vec<Output> {
    let counts = |o: &&Output| trace.spec.node.is_empty() || o.node == trace.spec.node;
    let mut outputs: Vec<_> = trace.status.iter().flat_map(|s| &s.outputs).filter(counts).cloned().collect();
    outputs.sort_by(order);
    outputs
}

fn order(a: &Output, b: &Output) -> Ordering {
    let key =
        |o: &Output| (o.namespace.clone(), o.pod.clone(), o.container.clone(), o.node.clone(), o.sequence);
    key(a).cmp(&key(b))
}

fn documents(outputs: &[Output]) -> Option<String> {
    match outputs {
        [Output { output: Some(document), .. }] => Some(ended(document.clone())),
        outputs if outputs.iter().any(|o| o.output.is_some()) => {
            let all: Vec<_> = outputs.iter().map(element).collect();
            serde_json::to_string_pretty(&all).ok().map(ended)
        }
        _ => None,
    }
}

fn ended(mut text: String) -> String {
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

/// A document with the container that it is about. A JSON document stands there as what it is.
pub(crate) fn element(output: &Output) -> Value {
    let document = output.output.as_ref().map(|text| {
        serde_json::from_str::<Value>(text).ok().filter(Value::is_object).unwrap_or_else(|| json!(text))
    });
    let mut element = json!({
        "namespace": output.namespace,
        "pod": output.pod,
        "node": output.node,
        "document": document,
    });
    let mut set = |key: &str, value: Option<&str>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            element[key] = json!(value);
        }
    };
    set("container", Some(&output.container));
    set("resource", output.resource.as_deref());
    set("localhostProfile", output.localhost_profile.as_deref());
    set("warning", output.warning.as_deref());
    set("objection", output.objection.as_deref());
    element
}

/// Where a document went, and how to use it there.
fn destination(output: &Output) -> Option<String> {
    let who = who(output);
    let profile = output.localhost_profile.as_ref();
    match (&output.resource, profile) {
        (Some(resource), Some(profile)) => {
            Some(format!("{who}: SeccompProfile {resource}, to be used as localhostProfile: {profile}"))
        }
        (Some(resource), None) => Some(format!("{who}: SeccompProfile {resource}")),
        (None, Some(profile)) => {
            Some(format!("{who}: a file on node {}, to be used as localhostProfile: {profile}", output.node))
        }
        (None, None) => None,
    }
}

/// Whether an entry stands for a document, here or elsewhere.
pub(crate) fn is_made(output: &Output) -> bool {
    output.output.is_some() || output.resource.is_some() || output.localhost_profile.is_some()
}

/// Whom an entry is about.
pub(crate) fn who(output: &Output) -> String {
    let parts = [&output.namespace, &output.pod, &output.container];
    parts.into_iter().filter(|part| !part.is_empty()).map(String::as_str).collect::<Vec<_>>().join("/")
}

/// Why a result was not printed.
#[derive(Debug)]
pub(crate) enum Undelivered {
    /// There is none, and why.
    Nothing(String),
    /// There is one, which the Trace still has.
    Unwritten(io::Error),
}

impl fmt::Display for Undelivered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing(why) => write!(f, "there is no result: {why}"),
            Self::Unwritten(error) => write!(f, "the result cannot be written to standard output: {error}"),
        }
    }
}

impl Error for Undelivered {}

/// Prints a result and what there is to say about it; gives the exit status.
pub(crate) fn deliver(
    results: &Results,
    missing: &BTreeSet<String>,
    file: Option<&Path>,
) -> Result<ExitCode, Undelivered> {
    let Some(text) = &results.text else { return Err(results.without_text()) };
    let written = crate::output::write(file, text).map_err(Undelivered::Unwritten)?;
    results.tell();
    for node in missing {
        crate::warn(format_args!(
            "incomplete: node {node} has not answered, and what it recorded is missing"
        ));
    }
    let complete = results.lost.is_empty() && missing.is_empty();
    let status = status(complete, !results.objections.is_empty());
    Ok(if written { status } else { ExitCode::FAILURE })
}

/// What a command ends with that has printed documents.
pub(crate) fn status(complete: bool, objected: bool) -> ExitCode {
    match (complete, objected) {
        // What is refused is refused, whatever else was lost.
        (_, true) => ExitCode::from(crate::OBJECTED),
        (true, false) => ExitCode::SUCCESS,
        (false, false) => ExitCode::from(crate::INCOMPLETE),
    }
}

impl Results {
    /// Why there is nothing to print.
    pub(crate) fn without_text(&self) -> Undelivered {
        Undelivered::Nothing(self.nothing.clone().unwrap_or_else(|| "nothing was recorded".into()))
    }

    /// Tells people what there is to say beside the documents.
    pub(crate) fn tell(&self) {
        for note in &self.notes {
            crate::note(note);
        }
        for lost in &self.lost {
            crate::warn(format_args!("incomplete: {}", lost.strip_prefix("incomplete: ").unwrap_or(lost)));
        }
        for objection in &self.objections {
            crate::note(format_args!("not as it should be: {objection}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use gadgetd_kube::{Progress, TraceSpec, TraceStatus};

    use super::*;

    fn output(pod: &str, container: &str, document: Option<&str>) -> Output {
        Output {
            node: "n1".into(),
            id: format!("{pod}-{container}"),
            namespace: "shop".into(),
            pod: pod.into(),
            container: container.into(),
            output: document.map(str::to_owned),
            complete: true,
            ..Output::default()
        }
    }

    fn of(mode: OutputMode, outputs: Vec<Output>) -> Trace {
        let mut trace = Trace::new("t", TraceSpec { output_mode: mode, ..TraceSpec::default() });
        trace.status = Some(TraceStatus { outputs, ..TraceStatus::default() });
        trace
    }

    fn status(outputs: Vec<Output>) -> Trace {
        of(OutputMode::Status, outputs)
    }

    #[test]
    fn one_document_is_printed_as_it_is() {
        for (document, want) in [("{\n \"a\": 1}", "{\n \"a\": 1}\n"), ("a: 1\n", "a: 1\n")] {
            let results = results(&status(vec![output("cart-0", "app", Some(document))]));
            assert_eq!(results, Results { text: Some(want.into()), ..Results::default() });
        }
    }

    #[test]
    fn an_objection_stands_beside_the_document() {
        let mut outputs = vec![output("cart-0", "app", Some("text")), output("cart-0", "log", Some("text"))];
        outputs[1].objection = Some("1 call would be refused: mount".into());
        let found = results(&status(outputs));
        assert_eq!(found.objections, ["shop/cart-0/log: 1 call would be refused: mount"]);
        assert!(
            found.lost.is_empty() && found.text.is_some_and(|text| text.contains("\"objection\": \"1 call"))
        );
    }

    #[test]
    fn several_are_an_array_sorted_by_whom_they_are_about() {
        let mut outputs = vec![
            output("cart-1", "app", Some("text")),
            output("cart-0", "log", None),
            output("cart-0", "app", Some("{\"a\":1}")),
        ];
        outputs[1].warning = Some("no system call was recorded".into());
        let found = results(&status(outputs));
        let array: Value = serde_json::from_str(found.text.as_deref().unwrap()).unwrap();
        let want = json!([
            { "namespace": "shop", "pod": "cart-0", "container": "app", "node": "n1", "document": { "a": 1 } },
            {
                "namespace": "shop", "pod": "cart-0", "container": "log", "node": "n1", "document": null,
                "warning": "no system call was recorded",
            },
            { "namespace": "shop", "pod": "cart-1", "container": "app", "node": "n1", "document": "text" },
        ]);
        assert_eq!(array, want);
        assert_eq!(found.notes, ["shop/cart-0/log: no system call was recorded"]);
        assert_eq!(found.lost, [""; 0]);
    }

    #[test]
    fn what_was_lost_is_named_and_the_result_still_there() {
        let mut one = output("cart-0", "app", Some("{}"));
        one.complete = false;
        one.warning = Some("incomplete: 2 calls".into());
        let mut trace = status(vec![one]);
        trace.status.as_mut().unwrap().progress = Some(Progress { dropped: 3, ..Progress::default() });
        let found = results(&trace);
        assert_eq!(found.text.as_deref(), Some("{}\n"));
        assert_eq!(
            found.lost,
            ["shop/cart-0/app: incomplete: 2 calls", "3 documents had to make room for others"]
        );
    }

    #[test]
    fn nothing_has_a_reason() {
        let mut empty = output("cart-0", "app", None);
        empty.warning = Some("no system call was recorded".into());
        let found = results(&status(vec![empty]));
        assert_eq!(found.nothing.as_deref(), Some("shop/cart-0/app: no system call was recorded"));
        let mut trace = status(vec![]);
        assert_eq!(results(&trace).nothing.as_deref(), Some("nothing was recorded"));
        trace.status.as_mut().unwrap().operation_warning = Some("Pod shop/cart-0 not found".into());
        assert_eq!(results(&trace).nothing.as_deref(), Some("Pod shop/cart-0 not found"));
        trace.status.as_mut().unwrap().operation_error = Some("refused".into());
        assert_eq!(results(&trace).nothing.as_deref(), Some("refused"));
    }

    #[test]
    fn what_went_elsewhere_is_given_by_its_name() {
        let mut one = output("cart-0", "app", None);
        one.resource = Some("shop/cart".into());
        one.localhost_profile = Some("operator/shop/cart.json".into());
        let found = results(&of(OutputMode::ExternalResource, vec![one]));
        assert_eq!(found.text.as_deref(), Some("shop/cart\n"));
        assert_eq!(
            found.notes,
            [
                "shop/cart-0/app: SeccompProfile shop/cart, to be used as localhostProfile: operator/shop/cart.json"
            ]
        );
        let mut one = output("cart-0", "app", None);
        one.localhost_profile = Some("gadgetd/shop/cart.json".into());
        let found = results(&of(OutputMode::File, vec![one]));
        assert_eq!(found.text.as_deref(), Some("gadgetd/shop/cart.json\n"));
        assert!(found.notes[0].contains("a file on node n1"));
    }

    #[test]
    fn what_another_node_left_does_not_count() {
        let mut trace =
            status(vec![output("cart-0", "app", Some("old")), output("cart-0", "log", Some("new"))]);
        trace.spec.node = "n2".into();
        trace.status.as_mut().unwrap().outputs[1].node = "n2".into();
        assert_eq!(results(&trace).text.as_deref(), Some("new\n"));
    }
}
