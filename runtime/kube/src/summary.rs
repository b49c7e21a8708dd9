//! What the nodes did, as one answer: the part of the status that belongs to no node.
//!
//! Every node comes to the same summary of the same object, so any of them may write it.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};

use crate::{NodeStatus, Output, Progress, State, Trace, TraceStatus};

/// The parts of the status that belong to no node, as they should be. `outputs` and `nodes` of it are empty.
pub fn summary(trace: &Trace, now: Timestamp) -> TraceStatus {
    let empty = TraceStatus::default();
    let status = trace.status.as_ref().unwrap_or(&empty);
    // What a node did for which the Trace no longer is does not count.
    let counts = |node: &str| trace.spec.node.is_empty() || node == trace.spec.node;
    let nodes: Vec<_> = status.nodes.iter().filter(|n| counts(&n.node)).collect();
    let outputs: Vec<_> = status.outputs.iter().filter(|o| counts(&o.node)).collect();
    if nodes.is_empty() {
        return empty;
    }
    let (nodes, outputs) = (nodes.as_slice(), outputs.as_slice());
    let state = state(nodes);
    let progress = progress(nodes);
    let error = join_messages(nodes.iter().filter_map(|n| n.operation_error.as_deref()));
    let warning = warning(nodes, outputs, &trace.spec.parameters);
    let complete = complete(outputs);
    // Never an empty message: it is left out on the wire, and the schema asks for one.
    let ready = match (&state, &error) {
        (Some(State::Started), _) => ("True", "Recording", "The recording is on".into()),
        (_, Some(error)) => ("False", "Refused", error.clone()),
        (Some(State::Completed), _) => ("False", "Completed", "The recording ended at its timeout".into()),
        (Some(_), _) => ("False", "Stopped", "The recording was stopped".into()),
        (None, _) => ("False", "NotStarted", "The recording was not started".into()),
    };
    let generation = trace.metadata.generation;
    let condition = |kind: &str, (is, reason, message): (&str, &str, String)| {
        let before = status.conditions.iter().find(|c| c.type_ == kind && c.status == is);
        Condition {
            last_transition_time: before.map_or(Time(now), |c| c.last_transition_time.clone()),
            message,
            observed_generation: generation,
            reason: reason.into(),
            status: is.into(),
            type_: kind.into(),
        }
    };
    TraceStatus {
        output: match outputs {
            [one] => one.output.clone(),
            _ => None,
        },
        operation: nodes.iter().map(|n| n.operation).min(),
        operation_error: error,
        operation_warning: warning,
        conditions: vec![condition("Complete", complete), condition("Ready", ready)],
        outputs: Vec::new(),
        nodes: Vec::new(),
        state,
        progress: Some(progress),
    }
}

/// Started while any node records; else what the nodes came to.
fn state(nodes: &[&NodeStatus]) -> Option<State> {
    let any = |state: &State| nodes.iter().any(|n| n.state.as_ref() == Some(state));
    [State::Started, State::Completed, State::Stopped].into_iter().find(|s| any(s))
}

fn progress(nodes: &[&NodeStatus]) -> Progress {
    let all = || nodes.iter().filter_map(|n| n.progress.as_ref());
    Progress {
        containers: all().map(|p| p.containers).sum(),
        // Different nodes see the same calls: what the most diverse one saw is the least that is true.
        syscalls: all().map(|p| p.syscalls).max().unwrap_or(0),
        last_new: all().filter_map(|p| p.last_new.clone()).max(),
        dropped: all().map(|p| p.dropped).sum(),
    }
}

/// Every text once, one after the other; of many only some.
pub(crate) fn join_messages<'a>(texts: impl Iterator<Item = &'a str>) -> Option<String> {
    let texts: BTreeSet<_> = texts.filter(|t| !t.is_empty()).collect();
    let more = texts.len().saturating_sub(NAMES_MAX);
    let mut some: Vec<_> = texts.into_iter().take(NAMES_MAX).map(str::to_owned).collect();
    if more > 0 {
        some.push(format!("and {more} more"));
    }
    (!some.is_empty()).then(|| some.join("; "))
}

fn warning(
    nodes: &[&NodeStatus],
    outputs: &[&Output],
    parameters: &BTreeMap<String, String>,
) -> Option<String> {
    let seen = |n: &&NodeStatus| n.progress.as_ref().is_some_and(|p| p.containers > 0);
    let somewhere = nodes.iter().any(seen);
    // That a pod is not on this node matters only if it is on no other.
    let of_nodes = nodes.iter().filter(|n| seen(n) || !somewhere);
    let of_nodes: BTreeSet<_> = of_nodes.filter_map(|n| n.operation_warning.clone()).collect();
    let of_nodes = of_nodes.into_iter().take(NAMES_MAX);
    let several = (outputs.len() > 1).then(|| {
        let who: BTreeSet<_> = outputs.iter().map(|o| label(o)).collect();
        let merge = match parameters.get("merge").map(String::as_str) {
            Some("pod") => "",
            _ => ", or set parameter merge=pod",
        };
        let names: Vec<_> = who.iter().take(NAMES_MAX).map(String::as_str).collect();
        let more = match who.len().saturating_sub(NAMES_MAX) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!("{} documents: {}{more}; see status.outputs{merge}", outputs.len(), names.join(", "))
    });
    let of_outputs = outputs.iter().filter_map(|o| Some(format!("{}: {}", label(o), o.warning.as_ref()?)));
    let all: Vec<_> = of_nodes.chain(several).chain(of_outputs.take(NAMES_MAX)).collect();
    (!all.is_empty()).then(|| all.join("; "))
}

/// How many nodes or containers a sentence is about.
const NAMES_MAX: usize = 16;

fn label(output: &Output) -> String {
    let parts = [&output.namespace, &output.pod, &output.container];
    parts.into_iter().filter(|p| !p.is_empty()).map(String::as_str).collect::<Vec<_>>().join("/")
}

fn complete(outputs: &[&Output]) -> (&'static str, &'static str, String) {
    let lost = outputs.iter().filter(|o| !o.complete);
    let lost = join_messages(lost.filter_map(|o| o.warning.as_deref()));
    match lost {
        _ if outputs.is_empty() => ("Unknown", "NoDocuments", "There are no documents yet".into()),
        Some(lost) => ("False", "Incomplete", lost),
        None => ("True", "NothingLost", "Nothing that was recorded was lost".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-23T12:00:00Z".parse().unwrap()
    }

    fn node(name: &str, state: Option<State>, containers: u32) -> NodeStatus {
        let last_new = Some(Time(now()));
        let progress = Progress { containers, syscalls: 10 * containers, last_new, dropped: 1 };
        NodeStatus {
            node: name.into(),
            operation: 2,
            state,
            progress: Some(progress),
            ..NodeStatus::default()
        }
    }

    fn output(container: &str, text: &str) -> Output {
        Output {
            node: "n1".into(),
            id: container.into(),
            namespace: "shop".into(),
            pod: "cart-0".into(),
            container: container.into(),
            output: Some(text.into()),
            complete: true,
            ..Output::default()
        }
    }

    fn summed(nodes: Vec<NodeStatus>, outputs: Vec<Output>) -> TraceStatus {
        let mut trace = Trace::new("t", crate::TraceSpec::default());
        trace.status = Some(TraceStatus { outputs, nodes, ..TraceStatus::default() });
        summary(&trace, now())
    }

    fn conditions(status: &TraceStatus) -> Vec<(&str, &str, &str)> {
        let conditions = status.conditions.iter();
        conditions.map(|c| (c.type_.as_str(), c.status.as_str(), c.reason.as_str())).collect()
    }

    #[test]
    fn before_anything_happened_there_is_nothing() {
        assert_eq!(summed(vec![], vec![]), TraceStatus::default());
    }

    #[test]
    fn one_container_gives_its_document() {
        let status = summed(vec![node("n1", Some(State::Started), 1)], vec![output("app", "{}")]);
        assert_eq!((status.output.as_deref(), status.state), (Some("{}"), Some(State::Started)));
        assert_eq!(
            (status.operation, status.operation_error, status.operation_warning),
            (Some(2), None, None)
        );
    }

    #[test]
    fn several_containers_are_named() {
        let status =
            summed(vec![node("n1", Some(State::Started), 2)], vec![output("app", "{}"), output("log", "[]")]);
        assert_eq!(status.output, None);
        assert_eq!(
            status.operation_warning.as_deref(),
            Some(
                "2 documents: shop/cart-0/app, shop/cart-0/log; see status.outputs, or set parameter merge=pod"
            )
        );
    }

    #[test]
    fn states_of_nodes_together() {
        let rows = [
            (vec![None], None),
            (vec![Some(State::Stopped), None], Some(State::Stopped)),
            (vec![Some(State::Stopped), Some(State::Started)], Some(State::Started)),
            (vec![Some(State::Stopped), Some(State::Completed)], Some(State::Completed)),
        ];
        for (states, want) in rows {
            let nodes =
                states.iter().enumerate().map(|(i, s)| node(&format!("n{i}"), s.clone(), 0)).collect();
            assert_eq!(summed(nodes, vec![]).state, want, "{states:?}");
        }
    }

    #[test]
    fn progress_is_of_all_nodes() {
        let status = summed(vec![node("n1", None, 1), node("n2", None, 3)], vec![]);
        let want = Progress { containers: 4, syscalls: 30, last_new: Some(Time(now())), dropped: 2 };
        assert_eq!(status.progress, Some(want));
    }

    #[test]
    fn a_pod_is_missing_only_if_no_node_has_it() {
        let warned = |containers| NodeStatus {
            operation_warning: Some("Pod shop/cart-0 not found".into()),
            ..node("n1", Some(State::Started), containers)
        };
        let found = summed(vec![warned(0), node("n2", Some(State::Started), 1)], vec![]);
        assert_eq!(found.operation_warning, None);
        let missing = summed(vec![warned(0), NodeStatus { node: "n2".into(), ..warned(0) }], vec![]);
        assert_eq!(missing.operation_warning.as_deref(), Some("Pod shop/cart-0 not found"));
    }

    #[test]
    fn what_many_nodes_say_takes_bounded_room() {
        let refused = |i: usize| NodeStatus {
            operation_error: Some(format!("error {i:03}")),
            ..node(&format!("n{i}"), None, 0)
        };
        let error = summed((0..100).map(refused).collect(), vec![]).operation_error.unwrap();
        assert!(
            error.starts_with("error 000; error 001; ") && error.ends_with("error 015; and 84 more"),
            "{error}"
        );
        let warned = |i: usize| NodeStatus {
            operation_warning: Some(format!("warning {i:03}")),
            ..node(&format!("n{i}"), Some(State::Started), 1)
        };
        let warning = summed((0..100).map(warned).collect(), vec![]).operation_warning.unwrap();
        assert_eq!(warning.matches("warning").count(), NAMES_MAX, "{warning}");
    }

    #[test]
    fn conditions_say_whether_it_records_and_whether_anything_was_lost() {
        let started = || vec![node("n1", Some(State::Started), 1)];
        let lossy = Output { complete: false, warning: Some("incomplete: x".into()), ..output("app", "{}") };
        let refused = NodeStatus { operation_error: Some("Not started".into()), ..node("n1", None, 0) };
        let rows = [
            (started(), vec![], ("Unknown", "NoDocuments"), ("True", "Recording")),
            (started(), vec![output("app", "")], ("True", "NothingLost"), ("True", "Recording")),
            (started(), vec![lossy], ("False", "Incomplete"), ("True", "Recording")),
            (vec![refused], vec![], ("Unknown", "NoDocuments"), ("False", "Refused")),
            (
                vec![node("n1", Some(State::Completed), 1)],
                vec![],
                ("Unknown", "NoDocuments"),
                ("False", "Completed"),
            ),
            (
                vec![node("n1", Some(State::Stopped), 1)],
                vec![],
                ("Unknown", "NoDocuments"),
                ("False", "Stopped"),
            ),
            (vec![node("n1", None, 0)], vec![], ("Unknown", "NoDocuments"), ("False", "NotStarted")),
        ];
        for (nodes, outputs, complete, ready) in rows {
            let status = summed(nodes, outputs);
            let want = [("Complete", complete.0, complete.1), ("Ready", ready.0, ready.1)];
            assert_eq!(conditions(&status), want);
            assert!(status.conditions.iter().all(|c| !c.message.is_empty()));
        }
    }

    #[test]
    fn a_condition_keeps_the_time_at_which_it_changed() {
        let mut trace = Trace::new("t", crate::TraceSpec::default());
        let nodes = vec![node("n1", Some(State::Started), 1)];
        trace.status = Some(TraceStatus { nodes, ..TraceStatus::default() });
        let first = summary(&trace, now());
        trace.status.as_mut().unwrap().conditions = first.conditions.clone();
        let later = "2026-11-23T13:00:00Z".parse().unwrap();
        assert_eq!(summary(&trace, later), first);
        trace.status.as_mut().unwrap().nodes[0].state = Some(State::Stopped);
        let ready = summary(&trace, later).conditions.pop().unwrap();
        assert_eq!((ready.status.as_str(), ready.last_transition_time.0), ("False", later));
    }
}
