//! Which documents are made of what was recorded, and how many of them fit into a Trace.

use std::collections::BTreeSet;

use gadgetd_core::{Capture, Container};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde::Serialize;

use crate::{NodeStatus, Output, OutputMode, Trace, machine::Merge, names::Subject};

/// What a node recorded of one container.
#[derive(Clone, Debug)]
pub struct Recording {
    /// The container, and its calls.
    pub capture: Capture,
    /// Whether it has ended: nothing will be added.
    pub ended: bool,
    /// How many earlier containers of the same name were merged into it.
    pub earlier: u32,
    /// Whether the selection finds no other container in the pod, as far as is known.
    pub alone: bool,
    /// The controller of the pod, such as its `ReplicaSet`.
    pub owner: Option<OwnerReference>,
}

/// What one document is made of.
#[derive(Clone, Debug)]
pub struct Group<'a> {
    /// The namespace of the pod.
    pub namespace: String,
    /// The name of the pod; of something outside Kubernetes, empty.
    pub pod: String,
    /// The container's name; `None` for the whole pod.
    pub container: Option<String>,
    /// The recordings, in the order in which their containers appeared. Never empty.
    pub recordings: Vec<&'a Recording>,
}

/// Documents that mode Stream keeps for each node.
pub const STREAM_DOCUMENTS_MAX: usize = 32;

/// Bytes of one Trace, on the wire and with what the API server notes about who wrote which field. etcd takes
/// objects up to 1.5 MiB; the rest is for a document that stands there twice, and for sentences.
pub const TRACE_BYTES_MAX: usize = 1 << 20;

/// Bytes of one document in a status. The only document of a Trace is in its status twice.
pub const DOCUMENT_BYTES_MAX: usize = 256 << 10;

/// Entries of a Trace for each node, with or without documents.
pub const NODE_ENTRIES_MAX: usize = 1024;

/// Groups recordings by document.
///
/// Restarts of a container give one document, as do pods of the same name that come one after the other: a person
/// who names `cart-0` means all of them. In mode Stream each container gives its own, as it ends.
pub fn groups<'a>(recordings: &'a [Recording], merge: Merge, mode: &OutputMode) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'a>> = Vec::new();
    for recording in recordings {
        let container = &recording.capture.container;
        let (namespace, pod) =
            container.pod.as_ref().map(|p| (p.namespace.clone(), p.name.clone())).unwrap_or_default();
        let name = (merge == Merge::Container).then(|| name(container));
        let alike = |g: &&mut Group<'a>| g.namespace == namespace && g.pod == pod && g.container == name;
        match groups.iter_mut().find(alike).filter(|_| !per_container(merge, mode)) {
            Some(group) => group.recordings.push(recording),
            None => groups.push(Group { namespace, pod, container: name, recordings: vec![recording] }),
        }
    }
    groups
}

/// Whether each container has its own document, and restarts are not put together.
pub fn per_container(merge: Merge, mode: &OutputMode) -> bool {
    *mode == OutputMode::Stream && merge == Merge::Container
}

/// The name of a container; the id of one that has none.
fn name(container: &Container) -> String {
    container.name.clone().unwrap_or_else(|| container.id.clone())
}

impl Group<'_> {
    /// The id of the document's entry in the status.
    pub fn id(&self) -> String {
        let latest = &self.latest().capture.container;
        match (&self.container, &latest.pod) {
            (None, Some(pod)) => pod.uid.clone(),
            _ => latest.id.clone(),
        }
    }

    /// The recording of the container that came last.
    pub fn latest(&self) -> &Recording {
        self.recordings[self.recordings.len() - 1]
    }

    /// Everything that was recorded, as one capture.
    pub fn capture(&self) -> Capture {
        let latest = &self.latest().capture;
        let captures: Vec<_> = self.recordings.iter().map(|r| &r.capture).collect();
        let container = match self.container {
            Some(_) => latest.container.clone(),
            None => Container {
                id: self.id(),
                pod: latest.container.pod.clone(),
                runtime: latest.container.runtime.clone(),
                // The pod's cgroup is the one above its containers'.
                cgroup: latest.container.cgroup.rsplit_once('/').unwrap_or_default().0.to_owned(),
                ..Container::default()
            },
        };
        Capture::union(container, &captures).unwrap_or_else(|| latest.clone())
    }

    /// What names are made from.
    pub fn subject(&self, pod_given: bool) -> Subject<'_> {
        let container = self.container.as_deref();
        let alone = self.recordings.iter().all(|r| r.alone);
        Subject { pod: &self.pod, container, pod_given, alone }
    }

    /// Names the pod or container, for people.
    pub fn label(&self) -> String {
        let pod = [self.namespace.as_str(), self.pod.as_str()];
        let parts = pod.into_iter().chain(self.container.as_deref()).filter(|part| !part.is_empty());
        parts.collect::<Vec<_>>().join("/")
    }

    /// The entry for its document, without the document.
    pub fn entry(&self, node: &str) -> Output {
        let losses: BTreeSet<_> = self
            .recordings
            .iter()
            .flat_map(|r| &r.capture.completeness.losses)
            .map(ToString::to_string)
            .collect();
        let warning = (!losses.is_empty())
            .then(|| format!("incomplete: {}", losses.into_iter().collect::<Vec<_>>().join("; ")));
        let ids = |ended: bool| {
            let some = self.recordings.iter().filter(|r| r.ended || !ended);
            some.map(|r| r.capture.container.id.clone()).collect()
        };
        Output {
            node: node.to_owned(),
            id: self.id(),
            namespace: self.namespace.clone(),
            pod: self.pod.clone(),
            container: self.container.clone().unwrap_or_default(),
            instances: ids(false),
            ended: ids(true),
            more_instances: self.recordings.iter().map(|r| u64::from(r.earlier)).sum(),
            complete: warning.is_none(),
            warning,
            ..Output::default()
        }
    }

    /// Whether a container in it has ended since its document was made, so that a document is due.
    pub fn is_due(&self, outputs: &[Output]) -> bool {
        let mut ended = self.recordings.iter().filter(|r| r.ended).map(|r| &r.capture.container.id);
        ended.any(|id| !outputs.iter().any(|o| o.ended.contains(id)))
    }
}

/// Whether an entry is about the same containers as an older one of the same node. Unless documents are [`per_container`], that is
/// every container of the same name, whichever instances the two entries still list.
pub fn replaces(entry: &Output, older: &Output, per_container: bool) -> bool {
    let names = [&entry.container, &older.container];
    let same_name = names[0] == names[1] || names.iter().any(|name| name.is_empty());
    let same =
        !per_container && (&entry.namespace, &entry.pod) == (&older.namespace, &older.pod) && same_name;
    same || older.id == entry.id || entry.instances.iter().any(|id| older.instances.contains(id))
}

/// Appends an entry, and removes those that it replaces.
pub fn upsert(outputs: &mut Vec<Output>, mut entry: Output, per_container: bool) {
    entry.sequence = outputs.iter().map(|o| o.sequence).max().unwrap_or(0) + 1;
    outputs.retain(|o| !replaces(&entry, o, per_container));
    outputs.push(entry);
}

/// What was removed because it did not fit.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// How many documents.
    pub documents: u64,
    /// The ids of the containers whose entries went with them: they should be forgotten, or their documents would be
    /// due again.
    pub instances: Vec<String>,
}

/// Makes the outputs of one node fit, next to `others` bytes of what else is in the Trace. In mode Stream the oldest go, with
/// their entries; otherwise the largest documents, whose entries then say so, and the oldest entries once no document is left.
pub fn fit_limits(outputs: &mut Vec<Output>, mode: &OutputMode, others: usize) -> Dropped {
    let mut dropped = Dropped::default();
    let stream = *mode == OutputMode::Stream;
    let document = |o: &Output| o.output.as_ref().map_or(0, wire_size);
    for output in outputs.iter_mut().filter(|o| document(o) > DOCUMENT_BYTES_MAX) {
        drop_document(output);
        dropped.documents += 1;
    }
    let room = TRACE_BYTES_MAX.saturating_sub(others);
    let mut bytes: usize = outputs.iter().map(bytes_of_output).sum();
    if !stream {
        let mut largest: Vec<_> = outputs.iter_mut().filter(|o| o.output.is_some()).collect();
        largest.sort_by_cached_key(|o| std::cmp::Reverse(document(o)));
        for output in largest {
            if bytes <= room {
                break;
            }
            bytes -= bytes_of_output(output);
            drop_document(output);
            bytes += bytes_of_output(output);
            dropped.documents += 1;
        }
    }
    let most = if stream { STREAM_DOCUMENTS_MAX } else { NODE_ENTRIES_MAX };
    // One entry is kept, whatever its size: it says what the matter is.
    let least = usize::from(!stream);
    let mut count = 0;
    while let Some(oldest) = outputs.get(count) {
        let left = outputs.len() - count;
        if left <= most && (bytes <= room || left == least) {
            break;
        }
        bytes -= bytes_of_output(oldest);
        count += 1;
        // A document that was withheld is counted.
        let somewhere = oldest.resource.is_some() || oldest.localhost_profile.is_some();
        dropped.documents += u64::from(oldest.output.is_some() || somewhere);
    }
    dropped.instances.extend(outputs.drain(..count).flat_map(|o| o.instances));
    dropped
}

/// Bytes of a Trace, without the outputs of a node.
pub fn bytes_of_others(trace: &Trace, node: &str) -> usize {
    let status = trace.status.iter();
    let outputs = status.clone().flat_map(|s| &s.outputs).filter(|o| o.node != node).map(bytes_of_output);
    let nodes = status.flat_map(|s| &s.nodes).map(bytes_of_node);
    wire_size(&trace.spec) + wire_size(&trace.metadata.annotations) + outputs.chain(nodes).sum::<usize>()
}

/// Bytes that the API server adds to each entry of a list beside its keys: `"f:namespace":{}` for every field that is set.
const ENTRY_OVERHEAD_BYTES: usize = 512;

fn bytes_of_output(output: &Output) -> usize {
    wire_size(output) + ENTRY_OVERHEAD_BYTES + output.node.len() + output.id.len()
}

fn bytes_of_node(node: &NodeStatus) -> usize {
    // Twice what is in it, because the labels of its filter are fields as well.
    2 * wire_size(node) + ENTRY_OVERHEAD_BYTES
}

/// Bytes that a value takes at the API server, which writes JSON for HTML: Go's `encoding/json` has `\u003c` for `<`.
fn wire_size<T: Serialize + ?Sized>(part: &T) -> usize {
    // A value that cannot be serialized must not seem to have room.
    let Ok(json) = serde_json::to_vec(part) else { return TRACE_BYTES_MAX };
    let escaped = json.iter().filter(|byte| matches!(byte, b'<' | b'>' | b'&')).count();
    json.len() + escaped * (r"\u003c".len() - 1)
}

fn drop_document(output: &mut Output) {
    let size = output.output.take().map_or(0, |o| o.len());
    output.warning = Some(format!(
        "the document has {size} bytes, more than fits into this object: use outputMode File, or a narrower filter"
    ));
    output.complete = false;
}

#[cfg(test)]
mod tests {
    use gadgetd_core::{Abi, Completeness, Loss, Machine, Phases, Pod, Syscall};

    use super::*;

    /// A recording of `namespace/pod/container`, with an id, one call, and whether it ended.
    fn recording(who: &str, id: &str, call: u32, ended: bool) -> Recording {
        let [namespace, pod, name] = who.split('/').collect::<Vec<_>>()[..] else { panic!("{who}") };
        let pod = Pod {
            namespace: namespace.into(),
            name: pod.into(),
            uid: format!("uid-of-{pod}"),
            node: "n".into(),
        };
        let container = Container {
            id: id.into(),
            name: Some(name.into()),
            pod: Some(pod),
            cgroup: format!("/kubepods/pod/{id}"),
            ..Container::default()
        };
        let syscalls = vec![Syscall { abi: Abi::Native, number: call, phases: Phases::APPLICATION }];
        let completeness = Completeness { losses: Vec::new(), from_start: true };
        let refused = Vec::new();
        let capture = Capture { container, machine: Machine::X86_64, syscalls, refused, completeness };
        Recording { capture, ended, earlier: 0, alone: false, owner: None }
    }

    fn three() -> Vec<Recording> {
        vec![
            recording("s/cart-0/app", "a1", 0, true),
            recording("s/cart-0/log", "l1", 1, false),
            recording("s/cart-0/app", "a2", 2, false),
        ]
    }

    fn ids(groups: &[Group<'_>]) -> Vec<(String, usize)> {
        groups.iter().map(|g| (g.id(), g.recordings.len())).collect()
    }

    #[test]
    fn what_documents_are_about() {
        let all = three();
        // Restarts belong together, except in a stream; a pod is one with merge=pod.
        let one = |id: &str, n| (id.to_owned(), n);
        let rows = [
            (Merge::Container, OutputMode::Status, vec![one("a2", 2), one("l1", 1)]),
            (Merge::Container, OutputMode::Stream, vec![one("a1", 1), one("l1", 1), one("a2", 1)]),
            (Merge::Pod, OutputMode::Status, vec![one("uid-of-cart-0", 3)]),
            (Merge::Pod, OutputMode::Stream, vec![one("uid-of-cart-0", 3)]),
        ];
        for (merge, mode, want) in rows {
            assert_eq!(ids(&groups(&all, merge, &mode)), want, "{merge:?} {mode}");
        }
    }

    #[test]
    fn a_merged_document_is_of_everything_that_was_recorded() {
        let all = three();
        let numbers = |c: &Capture| c.syscalls.iter().map(|s| s.number).collect::<Vec<_>>();
        let by_container = groups(&all, Merge::Container, &OutputMode::Status);
        assert_eq!(numbers(&by_container[0].capture()), [0, 2]);
        assert_eq!(by_container[0].label(), "s/cart-0/app");
        assert_eq!(by_container[0].entry("n").instances, ["a1", "a2"]);
        assert_eq!(by_container[0].entry("n").ended, ["a1"]);
        let by_pod = groups(&all, Merge::Pod, &OutputMode::Status);
        let capture = by_pod[0].capture();
        assert_eq!(numbers(&capture), [0, 1, 2]);
        assert_eq!((capture.container.cgroup.as_str(), capture.container.name), ("/kubepods/pod", None));
        assert_eq!(by_pod[0].label(), "s/cart-0");
    }

    #[test]
    fn losses_travel_with_the_document() {
        let mut all = three();
        all[0].capture.completeness.losses.push(Loss::UnknownNumbers(2));
        let groups = groups(&all, Merge::Container, &OutputMode::Status);
        let entry = groups[0].entry("n");
        let want = "incomplete: 2 calls with a number that no table has";
        assert_eq!((entry.warning.as_deref(), entry.complete), (Some(want), false));
        assert!(groups[1].entry("n").complete);
    }

    #[test]
    fn a_document_is_due_once_for_each_container_that_ended() {
        let all = three();
        let groups = groups(&all, Merge::Container, &OutputMode::Status);
        let mut outputs = Vec::new();
        assert!(groups[0].is_due(&outputs) && !groups[1].is_due(&outputs));
        upsert(&mut outputs, groups[0].entry("n"), false);
        assert!(!groups[0].is_due(&outputs));
    }

    #[test]
    fn a_newer_document_takes_the_place_of_the_one_about_the_same_containers() {
        let all = three();
        let mut outputs = Vec::new();
        let entry = |all: &[Recording]| groups(all, Merge::Container, &OutputMode::Status)[0].entry("n");
        upsert(&mut outputs, entry(&all[..1]), false);
        upsert(&mut outputs, entry(&all[1..2]), false);
        upsert(&mut outputs, entry(&all), false);
        let found =
            |outputs: &[Output]| outputs.iter().map(|o| (o.id.clone(), o.sequence)).collect::<Vec<_>>();
        assert_eq!(found(&outputs), [("l1".into(), 2), ("a2".into(), 3)]);
        // So many restarts later that the two have no id in common; in a stream that is another document.
        let later = recording("s/cart-0/app", "a9", 0, true);
        let later = || entry(std::slice::from_ref(&later));
        let mut stream = outputs.clone();
        upsert(&mut outputs, later(), false);
        assert_eq!(found(&outputs), [("l1".into(), 2), ("a9".into(), 4)]);
        upsert(&mut stream, later(), true);
        assert_eq!(found(&stream), [("l1".into(), 2), ("a2".into(), 3), ("a9".into(), 4)]);
        // The document of the whole pod is instead of both.
        upsert(&mut outputs, groups(&all[..2], Merge::Pod, &OutputMode::Status)[0].entry("n"), false);
        assert_eq!(found(&outputs), [("uid-of-cart-0".into(), 5)]);
        upsert(&mut outputs, entry(&all), false);
        assert_eq!(found(&outputs), [("a2".into(), 6)]);
    }

    #[test]
    fn recordings_that_were_put_together_count() {
        let mut all = three();
        all[0].earlier = 7;
        let of_app = groups(&all, Merge::Container, &OutputMode::Status)[0].entry("n");
        assert_eq!((of_app.instances.len(), of_app.ended.len(), of_app.more_instances), (2, 1, 7));
        assert_eq!(groups(&all, Merge::Pod, &OutputMode::Status)[0].entry("n").more_instances, 7);
    }

    fn document(id: usize, size: usize) -> Output {
        let id = id.to_string();
        Output { instances: vec![id.clone()], id, output: Some("x".repeat(size)), ..Output::default() }
    }

    #[test]
    fn a_stream_keeps_the_newest() {
        let mut outputs: Vec<_> = (0..STREAM_DOCUMENTS_MAX + 3).map(|i| document(i, 10)).collect();
        let dropped = fit_limits(&mut outputs, &OutputMode::Stream, 0);
        assert_eq!(dropped, Dropped { documents: 3, instances: vec!["0".into(), "1".into(), "2".into()] });
        assert_eq!((outputs.len(), outputs[0].id.as_str()), (STREAM_DOCUMENTS_MAX, "3"));
        let mut outputs: Vec<_> = (0..8).map(|i| document(i, DOCUMENT_BYTES_MAX - 1024)).collect();
        assert_eq!(fit_limits(&mut outputs, &OutputMode::Stream, TRACE_BYTES_MAX / 2).documents, 6);
        assert_eq!(outputs[0].id, "6");
        assert_eq!(fit_limits(&mut outputs, &OutputMode::Stream, TRACE_BYTES_MAX).documents, 2);
    }

    #[test]
    fn a_status_keeps_every_entry_and_says_which_documents_are_missing() {
        let mut outputs: Vec<_> = (0..5).map(|i| document(i, DOCUMENT_BYTES_MAX - 1024 + i)).collect();
        assert_eq!(
            fit_limits(&mut outputs, &OutputMode::Status, 0),
            Dropped { documents: 1, instances: vec![] }
        );
        let missing: Vec<_> = outputs.iter().filter(|o| o.output.is_none()).collect();
        assert_eq!((outputs.len(), missing.len(), missing[0].id.as_str()), (5, 1, "4"));
        assert!(missing[0].warning.as_ref().unwrap().contains("outputMode File") && !missing[0].complete);
        let mut outputs = vec![document(0, DOCUMENT_BYTES_MAX + 1)];
        assert_eq!(fit_limits(&mut outputs, &OutputMode::Status, 0).documents, 1);
        assert_eq!(outputs[0].output, None);
    }

    #[test]
    fn what_counts_is_the_size_on_the_wire() {
        for (text, bytes) in [("x", 1), ("\"", 2), ("<", 6), ("a&b", 8)] {
            let whole = |size: usize| Output { output: Some(text.repeat(size / bytes)), ..document(0, 0) };
            let of = |size: usize| fit_limits(&mut vec![whole(size)], &OutputMode::Status, 0).documents;
            assert_eq!((of(DOCUMENT_BYTES_MAX - 10), of(DOCUMENT_BYTES_MAX + 10)), (0, 1), "{text}");
            let several = |number: usize| {
                (0..number).map(|i| Output { id: i.to_string(), ..whole(DOCUMENT_BYTES_MAX - 1024) })
            };
            let mut outputs: Vec<_> = several(5).collect();
            assert_eq!(fit_limits(&mut outputs, &OutputMode::Status, 0).documents, 1, "{text}");
        }
        // Documents go before entries, and one entry stays.
        let mut outputs: Vec<_> = (0..=NODE_ENTRIES_MAX).map(|i| document(i, 10)).collect();
        assert_eq!(
            fit_limits(&mut outputs, &OutputMode::Status, 0),
            Dropped { documents: 1, instances: vec!["0".into()] }
        );
        assert!(outputs.iter().all(|o| o.output.is_some()));
        let dropped =
            fit_limits(&mut outputs, &OutputMode::Status, TRACE_BYTES_MAX / 2 + TRACE_BYTES_MAX / 4);
        assert_eq!(dropped.documents, NODE_ENTRIES_MAX as u64, "each once");
        assert!(
            outputs.iter().all(|o| o.output.is_none()) && (100..NODE_ENTRIES_MAX).contains(&outputs.len())
        );
        assert_eq!(dropped.instances.len(), NODE_ENTRIES_MAX - outputs.len());
        fit_limits(&mut outputs, &OutputMode::File, TRACE_BYTES_MAX);
        assert_eq!((outputs.len(), outputs[0].id.as_str()), (1, NODE_ENTRIES_MAX.to_string().as_str()));
    }

    #[test]
    fn what_others_take() {
        let mut trace = Trace::new("t", crate::TraceSpec::default());
        let empty = bytes_of_others(&trace, "n1");
        let output = |node: &str| Output { node: node.into(), ..document(0, 10_000) };
        let outputs = vec![output("n1"), output("n2")];
        let nodes = vec![NodeStatus { node: "n1".into(), ..NodeStatus::default() }];
        trace.status = Some(crate::TraceStatus { outputs, nodes, ..crate::TraceStatus::default() });
        let some = bytes_of_others(&trace, "n1") - empty;
        assert!((10_500..12_000).contains(&some), "{some}");
        trace.metadata.annotations = Some([("a".to_owned(), "x".repeat(5_000))].into());
        assert!(bytes_of_others(&trace, "n1") - empty - some > 5_000);
    }
}
