//! Objects as tables, and in the formats that kubectl has.

use anyhow::{Context as _, Result};
use comfy_table::{ContentArrangement, Table, TableStyle};
use gadgetd_kube::Trace;
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
    table.add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    format!("{}\n", table.trim_fmt())
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

fn list(traces: &[Trace]) -> serde_json::Value {
    json!({ "apiVersion": "v1", "kind": "List", "metadata": {}, "items": traces })
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
    fn ages() {
        let all: Vec<_> = [-5, 5, 119, 120, 7_199, 7_200, 172_800].into_iter().map(age).collect();
        assert_eq!(all, ["0s", "5s", "119s", "2m", "119m", "2h", "2d"]);
    }
}
