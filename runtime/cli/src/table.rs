//! Objects as tables, and in the formats that kubectl has.

use anyhow::{Context as _, Result};
use comfy_table::{ContentArrangement, Table, TableStyle};
use gadgetd_core::kube::{Grant, Names};
use gadgetd_kube::{BUILT_IN, Call, Gadget, Output, Trace, default_grants};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use serde::Serialize;
use serde_json::json;

use crate::{
    cli::Format,
    target::{ID, selector},
};

/// Rows below a header, as kubectl prints them.
pub(crate) fn table(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(TableStyle::new()).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().copied());
    // Names and texts are those of whoever made the objects; a terminal would obey them.
    table.add_rows(rows.into_iter().map(|row| row.into_iter().map(|cell| tidy(&cell)).collect::<Vec<_>>()));
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    format!("{}\n", table.trim_fmt())
}

/// Without control characters, other than the ends of lines.
pub(crate) fn tidy(text: &str) -> String {
    let safe = |c: char| c == '\n' || !c.is_control();
    text.chars().fold(String::with_capacity(text.len()), |mut tidy, c| {
        if safe(c) {
            tidy.push(c);
        } else {
            tidy.extend(c.escape_default());
        }
        tidy
    })
}

/// As JSON, with a new line.
pub(crate) fn json(value: &impl Serialize) -> Result<String> {
    Ok(format!("{}\n", serde_json::to_string_pretty(value).context("cannot write JSON")?))
}

/// As YAML.
pub(crate) fn yaml(value: &impl Serialize) -> Result<String> {
    // By way of JSON: what serializes as nothing is left out there.
    let value = serde_json::to_value(value).context("cannot write YAML")?;
    let text = serde_saphyr::to_string(&value).context("cannot write YAML")?;
    Ok(if text.ends_with('\n') { text } else { text + "\n" })
}

/// Traces in a format; `None`: the usual table.
pub(crate) fn traces(traces: &[Trace], format: Option<Format>, now: Timestamp) -> Result<String> {
    match format {
        Some(Format::Json) => json(&list(traces)),
        Some(Format::Yaml) => yaml(&list(traces)),
        Some(Format::Name) => Ok(traces.iter().map(name).collect()),
        Some(Format::Wide) => Ok(rows(traces, true, now)),
        None => Ok(rows(traces, false, now)),
    }
}

/// One Trace in a format.
pub(crate) fn trace(trace: &Trace, format: Format, now: Timestamp) -> Result<String> {
    match format {
        Format::Json => json(trace),
        Format::Yaml => yaml(trace),
        Format::Name => Ok(name(trace)),
        Format::Wide => Ok(rows(std::slice::from_ref(trace), true, now)),
    }
}

fn name(trace: &Trace) -> String {
    format!("trace.gadget.kinvolk.io/{}\n", trace.name_any())
}

fn list(items: &[impl Serialize]) -> serde_json::Value {
    json!({ "apiVersion": "v1", "kind": "List", "metadata": {}, "items": items })
}

fn rows(traces: &[Trace], wide: bool, now: Timestamp) -> String {
    let mut header =
        vec!["ID", "NAMESPACE", "POD", "CONTAINER", "NODE", "GADGET", "STATE", "CONTAINERS", "CALLS", "AGE"];
    if wide {
        header.extend(["OUTPUT", "TRACE", "MESSAGE"]);
    }
    table(&header, traces.iter().map(|trace| row(trace, wide, now)).collect())
}

fn row(trace: &Trace, wide: bool, now: Timestamp) -> Vec<String> {
    let spec = &trace.spec;
    let status = trace.status.clone().unwrap_or_default();
    let filter = spec.filter.clone().unwrap_or_default();
    // What is not narrowed down means all of them.
    let or_all = |word: &str| if word.is_empty() { "*".to_owned() } else { word.to_owned() };
    let pod = match (filter.podname.as_str(), selector(&filter.labels)) {
        (pod, labels) if labels.is_empty() => or_all(pod),
        ("", labels) => labels,
        (pod, labels) => format!("{pod},{labels}"),
    };
    let own = trace.namespace().unwrap_or_default();
    let qualified = format!("{own}/{}", trace.name_any());
    let progress = status.progress.unwrap_or_default();
    let mut row = vec![
        id(trace),
        or_all(&filter.namespace),
        pod,
        or_all(&filter.container_name),
        or_all(&spec.node),
        spec.gadget.clone(),
        status.state.map_or_else(|| "-".to_owned(), |state| state.to_string()),
        progress.containers.to_string(),
        progress.syscalls.to_string(),
        trace
            .creation_timestamp()
            .map_or_else(|| "-".to_owned(), |time| age(now.duration_since(time.0).as_secs())),
    ];
    if wide {
        let output = match spec.output.as_str() {
            "" => spec.output_mode.to_string(),
            name => format!("{}:{name}", spec.output_mode),
        };
        let message = status.operation_error.or(status.operation_warning).unwrap_or_default();
        row.extend([output, qualified, message.replace('\n', " ")]);
    }
    row
}

/// The calls to the cluster that were made for documents.
pub(crate) fn calls(outputs: &[Output]) -> String {
    let header = ["POD", "CONTAINER", "CALL", "DECISION", "MS", "RESULT", "ARGUMENTS"];
    let row = |output: &Output, call: &Call| {
        vec![
            format!("{}/{}", output.namespace, output.pod),
            if output.container.is_empty() { "*".to_owned() } else { output.container.clone() },
            call.call.clone(),
            if call.allowed { "allowed" } else { "denied" }.to_owned(),
            call.milliseconds.to_string(),
            call.result.replace('\n', " "),
            call.arguments.chars().take(ARGUMENTS).collect(),
        ]
    };
    let rows = outputs.iter().flat_map(|output| output.calls.iter().map(|call| row(output, call)));
    table(&header, rows.collect())
}

/// How much of a digest a table shows: `sha256:` and 12 digits.
const ARGUMENTS: usize = 19;

/// Gadgets in a format; `None`: the usual table.
pub(crate) fn gadgets(gadgets: &[Gadget], format: Option<Format>) -> Result<String> {
    match format {
        Some(Format::Json) => json(&list(gadgets)),
        Some(Format::Yaml) => yaml(&list(gadgets)),
        Some(Format::Name) => {
            let names = gadgets.iter().map(|g| format!("gadget.gadget.kinvolk.io/{}", g.name_any()));
            Ok(lines(names))
        }
        Some(Format::Wide) => Ok(gadget_rows(gadgets, true)),
        None => Ok(gadget_rows(gadgets, false)),
    }
}

fn gadget_rows(gadgets: &[Gadget], wide: bool) -> String {
    let mut header = vec!["NAME", "ROLE", "VERSION", "SOURCE", "DIGEST", "VERIFIED BY", "READY", "MAY"];
    if wide {
        header.extend(["ASKS", "SUMMARY", "MESSAGE"]);
    }
    // What is built in needs no object, but where one has its name, that is what counts.
    let shipped = BUILT_IN.iter().filter(|name| gadgets.iter().all(|g| g.name_any() != **name));
    let shipped = shipped.map(|name| {
        let may = granted(&default_grants(name));
        let words = [name, "gadget", env!("CARGO_PKG_VERSION"), "built-in", "-", "built-in", "-"];
        let mut row: Vec<String> = words.into_iter().map(str::to_owned).chain([may]).collect();
        if wide {
            row.extend(["-", "-", "as shipped with this release"].map(str::to_owned));
        }
        row
    });
    table(&header, shipped.chain(gadgets.iter().map(|gadget| gadget_row(gadget, wide))).collect())
}

fn gadget_row(gadget: &Gadget, wide: bool) -> Vec<String> {
    let or_none = |text: Option<String>| text.filter(|t| !t.is_empty()).unwrap_or_else(|| "-".to_owned());
    let status = gadget.status.clone().unwrap_or_default();
    let source = &gadget.spec.source;
    let ready = status.conditions.iter().find(|c| c.type_ == "Ready");
    let mut row = vec![
        gadget.name_any(),
        or_none(status.role),
        or_none(status.version),
        or_none(source.image.clone().or(source.built_in.as_ref().map(|name| format!("built-in {name}")))),
        or_none(status.digest.map(|digest| digest.chars().take(ARGUMENTS).collect())),
        or_none(status.verified_by),
        ready.map_or_else(|| "Unknown".to_owned(), |c| c.status.clone()),
        granted(&gadget.spec.grants()),
    ];
    if wide {
        let asks = status.asks.iter().map(|ask| {
            let verbs: Vec<_> = ask.verbs.iter().map(ToString::to_string).collect();
            format!("{} {}", verbs.join(",").to_lowercase(), qualified(&ask.resource, &ask.group))
        });
        let message = ready.map(|c| c.message.replace('\n', " "));
        row.extend([
            or_none(Some(asks.collect::<Vec<_>>().join("; "))),
            or_none(status.summary),
            or_none(message),
        ]);
    }
    row
}

/// What is granted, for people: `create,get seccompprofiles.g in shop,bank`.
fn granted(grants: &[Grant]) -> String {
    let names = |names: &Names| match names {
        Names::Any => "*".to_owned(),
        Names::These(names) => names.join(","),
    };
    let one = |grant: &Grant| {
        let verbs: Vec<_> = grant.verbs.iter().map(ToString::to_string).collect();
        let (kind, names) = (qualified(&grant.plural, &grant.group), names(&grant.names));
        let objects = if names == "*" { String::new() } else { format!(" {names}") };
        let namespaces = match &grant.namespaces {
            Names::Any => String::new(),
            Names::These(these) => format!(" in {}", these.join(",")),
        };
        format!("{} {kind}{objects}{namespaces}", verbs.join(","))
    };
    let all: Vec<_> = grants.iter().map(one).collect();
    if all.is_empty() { "-".to_owned() } else { all.join("; ") }
}

/// Each in a line.
fn lines(texts: impl Iterator<Item = String>) -> String {
    texts.flat_map(|text| [text, "\n".to_owned()]).collect()
}

fn qualified(plural: &str, group: &str) -> String {
    if group.is_empty() { plural.to_owned() } else { format!("{plural}.{group}") }
}

/// What to call a recording: its id, or the name of its Trace where it has none.
pub(crate) fn id(trace: &Trace) -> String {
    let qualified = || format!("{}/{}", trace.namespace().unwrap_or_default(), trace.name_any());
    trace.labels().get(ID).cloned().unwrap_or_else(qualified)
}

/// A time, as kubectl shows an age.
fn age(seconds: i64) -> String {
    match seconds.max(0) {
        s @ 0..120 => format!("{s}s"),
        s @ 120..7_200 => format!("{}m", s / 60),
        s @ 7_200..172_800 => format!("{}h", s / 3_600),
        s => format!("{}d", s / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use gadgetd_kube::{Progress, State, TraceFilter, TraceSpec, TraceStatus};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn now() -> Timestamp {
        "2026-11-25T12:00:00Z".parse().unwrap()
    }

    fn sample() -> Trace {
        let filter =
            TraceFilter { namespace: "shop".into(), podname: "cart-0".into(), ..TraceFilter::default() };
        let spec = TraceSpec { gadget: "seccomp".into(), filter: Some(filter), ..TraceSpec::default() };
        let mut trace = Trace::new("seccomp-abc", spec);
        trace.metadata.namespace = Some("shop".into());
        trace.metadata.labels = Some([(ID.to_owned(), "AbC".to_owned())].into());
        trace.metadata.creation_timestamp = Some(Time("2026-11-25T11:57:00Z".parse().unwrap()));
        let progress = Progress { containers: 2, syscalls: 41, ..Progress::default() };
        trace.status = Some(TraceStatus {
            state: Some(State::Started),
            progress: Some(progress),
            operation_warning: Some("something".into()),
            ..TraceStatus::default()
        });
        trace
    }

    #[test]
    fn a_table() {
        let mut other = sample();
        other.metadata.labels = None;
        other.spec.filter =
            Some(TraceFilter { labels: [("a".into(), "b".into())].into(), ..TraceFilter::default() });
        other.status = None;
        let text = traces(&[sample(), other], None, now()).unwrap();
        let want = "\
ID                 NAMESPACE   POD      CONTAINER   NODE   GADGET    STATE     CONTAINERS   CALLS   AGE
AbC                shop        cart-0   *           *      seccomp   Started   2            41      3m
shop/seccomp-abc   *           a=b      *           *      seccomp   -         0            0       3m
";
        assert_eq!(text, want);
        let wide = trace(&sample(), Format::Wide, now()).unwrap();
        assert!(wide.lines().nth(1).unwrap().ends_with("Status   shop/seccomp-abc   something"), "{wide}");
        assert_eq!(traces(&[], None, now()).unwrap().lines().count(), 1);
    }

    #[test]
    fn objects_in_the_formats_of_kubectl() {
        let text = traces(&[sample()], Some(Format::Json), now()).unwrap();
        let list: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((list["kind"].as_str(), list["items"][0]["kind"].as_str()), (Some("List"), Some("Trace")));
        let text = trace(&sample(), Format::Yaml, now()).unwrap();
        let object: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(object["spec"]["filter"]["podname"], "cart-0");
        assert_eq!(trace(&sample(), Format::Name, now()).unwrap(), "trace.gadget.kinvolk.io/seccomp-abc\n");
    }

    #[test]
    fn gadgets_with_what_they_may_do() {
        let spec = json!({
            "source": { "image": "registry.example/note@sha256:ab" },
            "grants": [{ "resource": "configmaps", "verbs": ["Apply", "Get"], "namespaces": ["shop"], "names": ["*"] }],
        });
        let mut note = Gadget::new("note", serde_json::from_value(spec).unwrap());
        let status = json!({
            "role": "gadget", "version": "0.2.0", "digest": format!("sha256:{}", "0123456789".repeat(6)),
            "verifiedBy": "1f2e", "summary": "Notes.",
            "asks": [{ "resource": "configmaps", "verbs": ["Apply"] }],
            "conditions": [{
                "type": "Ready", "status": "False", "reason": "NotInstalled", "message": "no key",
                "lastTransitionTime": "2026-11-25T11:57:00Z",
            }],
        });
        note.status = Some(serde_json::from_value(status).unwrap());
        let text = gadgets(&[note.clone()], None).unwrap();
        let line = text.lines().last().unwrap().split("   ").map(str::trim).filter(|w| !w.is_empty());
        let want = [
            "note",
            "gadget",
            "0.2.0",
            "registry.example/note@sha256:ab",
            "sha256:012345678901",
            "1f2e",
            "False",
            "apply,get configmaps in shop",
        ];
        assert_eq!(line.collect::<Vec<_>>(), want);
        assert!(text.contains("create seccompprofiles.security-profiles-operator.x-k8s.io"), "{text}");
        let wide = gadgets(&[note], Some(Format::Wide)).unwrap();
        assert!(wide.lines().last().unwrap().ends_with("apply configmaps   Notes.    no key"), "{wide}");
        // One of its name takes the place of what is built in.
        let text = gadgets(&[Gadget::new("seccomp", gadgetd_kube::GadgetSpec::default())], None).unwrap();
        assert_eq!(text.matches("seccomp ").count(), 1, "{text}");
    }

    #[test]
    fn calls_with_what_came_of_them() {
        let call = Call {
            call: "apply configmaps shop/cart".into(),
            arguments: format!("sha256:{}", "a".repeat(64)),
            allowed: false,
            milliseconds: 0,
            result: "denied: no".into(),
        };
        let output =
            Output { namespace: "shop".into(), pod: "cart-0".into(), calls: vec![call], ..Output::default() };
        let want = "\
POD           CONTAINER   CALL                         DECISION   MS   RESULT       ARGUMENTS
shop/cart-0   *           apply configmaps shop/cart   denied     0    denied: no   sha256:aaaaaaaaaaaa
";
        assert_eq!(calls(&[output]), want);
    }

    #[test]
    fn ages() {
        let all: Vec<_> = [-5, 5, 119, 120, 7_199, 7_200, 172_800].into_iter().map(age).collect();
        assert_eq!(all, ["0s", "5s", "119s", "2m", "119m", "2h", "2d"]);
    }
}
