use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::SignedDuration};
use kube::ResourceExt as _;

use super::*;
use crate::{
    ACCEPTED, NodeStatus, OPERATION, OPERATION_PARAMETER, RunMode, State, Trace, TraceFilter, TraceSpec,
    TraceStatus, finalizer, names::NameError,
};

const SYSTEM: &str = "gadget";

fn gadgets() -> Vec<Gadget> {
    let output_modes = vec![OutputMode::Status, OutputMode::Stream, OutputMode::ExternalResource];
    let diff = Gadget {
        name: "diff".into(),
        output_modes: vec![OutputMode::Status],
        availability: Availability::Available,
    };
    vec![diff, Gadget { name: "seccomp".into(), output_modes, availability: Availability::Available }]
}

fn now() -> Timestamp {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

/// Calls with the node n1 of a runtime in namespace `gadget`.
fn at_n1<T>(with: impl FnOnce(&NodeView<'_>) -> T) -> T {
    let gadgets = gadgets();
    with(&NodeView { node: "n1", system_namespace: SYSTEM, gadgets: &gadgets, now: now() })
}

fn plan_at_n1(trace: &Trace) -> Plan {
    at_n1(|view| plan(trace, view))
}

/// A Trace of node n1 in the runtime's namespace, about the pod shop/cart-0.
fn trace() -> Trace {
    let filter = TraceFilter { namespace: "shop".into(), podname: "cart-0".into(), ..TraceFilter::default() };
    let spec = TraceSpec {
        node: "n1".into(),
        gadget: "seccomp".into(),
        filter: Some(filter),
        ..TraceSpec::default()
    };
    let mut trace = Trace::new("t", spec);
    trace.metadata.namespace = Some(SYSTEM.into());
    trace
}

fn ask(trace: &mut Trace, operation: &str) {
    trace.annotations_mut().insert(OPERATION.into(), operation.into());
}

/// What the controller does about a [`Plan::Claim`].
fn claim(trace: &mut Trace) -> Accepted {
    let Plan::Claim(accepted) = plan_at_n1(trace) else { panic!("{:?}", plan_at_n1(trace)) };
    take(trace, &accepted);
    accepted
}

fn take(trace: &mut Trace, accepted: &Accepted) {
    for key in request_annotations(trace) {
        trace.annotations_mut().remove(&key);
    }
    trace.annotations_mut().insert(ACCEPTED.into(), serde_json::to_string(accepted).unwrap());
}

/// The verdict on an operation, asked for and taken.
fn verdict(trace: &mut Trace, operation: &str) -> Result<Task, Refusal> {
    ask(trace, operation);
    let accepted = claim(trace);
    match plan_at_n1(trace) {
        Plan::Perform(taken, verdict) if taken == accepted => verdict,
        other => panic!("{other:?}"),
    }
}

/// Puts a node's part into the status, as after an operation.
fn node(trace: &mut Trace, node: &str, operation: u64, session: u64, state: Option<State>) {
    let status = trace.status.get_or_insert_with(TraceStatus::default);
    status.nodes.retain(|n| n.node != node);
    let started = Some(Time(now()));
    let session = state.is_some().then_some(session);
    let node = NodeStatus { node: node.into(), operation, session, state, started, ..NodeStatus::default() };
    status.nodes.push(node);
}

fn hold(trace: &mut Trace, node: &str) {
    trace.finalizers_mut().push(finalizer(node));
}

/// A Trace of which node n1 has carried out the start, or that and what ended it.
fn in_state(state: Option<&State>) -> Trace {
    let mut trace = trace();
    if let Some(state) = state {
        ask(&mut trace, "start");
        claim(&mut trace);
        node(&mut trace, "n1", 1, 1, Some(State::Started));
        if *state == State::Stopped {
            ask(&mut trace, "stop");
            claim(&mut trace);
            node(&mut trace, "n1", 2, 1, Some(State::Stopped));
        } else if *state == State::Started {
            hold(&mut trace, "n1");
        } else {
            node(&mut trace, "n1", 1, 1, Some(state.clone()));
        }
    }
    trace
}

#[test]
fn every_operation_in_every_state_run_mode_and_output_mode() {
    let start = |session| Ok(Task::Start { session, generate: false });
    let not_started =
        || Err("Not started: annotate the Trace with gadget.kinvolk.io/operation=start first".to_owned());
    // With modes that the gadget supports: (operation, state) → verdict.
    let rows: [(&str, Option<State>, Result<Task, String>); 12] = [
        ("start", None, start(1)),
        ("start", Some(State::Started), Ok(Task::AlreadyDone)),
        ("start", Some(State::Stopped), start(3)),
        ("start", Some(State::Completed), start(2)),
        ("generate", None, not_started()),
        ("generate", Some(State::Started), Ok(Task::Generate { session: 1 })),
        ("generate", Some(State::Stopped), not_started()),
        ("generate", Some(State::Completed), not_started()),
        ("stop", None, not_started()),
        ("stop", Some(State::Started), Ok(Task::Stop { session: Some(1) })),
        ("stop", Some(State::Stopped), not_started()),
        ("stop", Some(State::Completed), not_started()),
    ];
    let other = |word: &str| word.to_owned();
    let run_modes = [RunMode::Manual, RunMode::Auto, RunMode::Other(other("Often"))];
    let output_modes = [
        OutputMode::Status,
        OutputMode::Stream,
        OutputMode::ExternalResource,
        OutputMode::File,
        OutputMode::Other(other("Fax")),
    ];
    let mut seen = 0;
    for (operation, state, want) in &rows {
        for run_mode in &run_modes {
            for output_mode in &output_modes {
                for operation in [operation, "pause"] {
                    let mut trace = in_state(state.as_ref());
                    trace.spec.run_mode = run_mode.clone();
                    trace.spec.output_mode = output_mode.clone();
                    let can_stop = operation == "stop" && *state == Some(State::Started);
                    let want = if can_stop {
                        Ok(Task::Stop { session: Some(1) })
                    } else if *run_mode != RunMode::Manual {
                        Err(format!(
                            "Unsupported run mode \"{run_mode}\" for gadget \"seccomp\": it supports Manual"
                        ))
                    } else if !gadgets()[1].output_modes.contains(output_mode) {
                        Err(format!(
                            "Unsupported output mode \"{output_mode}\" for gadget \"seccomp\": it supports \
                             Status, Stream and ExternalResource"
                        ))
                    } else if operation == "pause" {
                        Err("Unsupported operation \"pause\" for gadget \"seccomp\": it supports start, \
                             generate and stop"
                            .to_owned())
                    } else {
                        want.clone()
                    };
                    let found = verdict(&mut trace, operation).map_err(|refusal| refusal.to_string());
                    assert_eq!(found, want, "{operation} {state:?} {run_mode} {output_mode}");
                    seen += 1;
                }
            }
        }
    }
    assert_eq!(seen, 12 * 3 * 5 * 2);
}

#[test]
fn what_cannot_be_is_refused_in_words_that_help() {
    type Change = fn(&mut Trace);
    let rows: [(Change, &str); 13] = [
        (|t| t.spec.gadget = "sec".into(), "Unknown gadget \"sec\": this node has diff and seccomp"),
        (
            |t| t.spec.gadget = "diff".into(),
            "Unsupported output mode \"ExternalResource\" for gadget \"diff\": it supports Status",
        ),
        (|t| t.spec.filter = None, "Missing pod filter: set spec.filter.podname, or spec.filter.labels"),
        (
            |t| t.spec.filter.as_mut().unwrap().podname.clear(),
            "Missing pod filter: set spec.filter.podname, or spec.filter.labels",
        ),
        (
            |t| t.metadata.namespace = Some("bank".into()),
            "A Trace in namespace \"bank\" may only record pods of that namespace, not of \"shop\": create it \
             in namespace \"shop\", or ask somebody who may write to namespace \"gadget\"",
        ),
        (
            |t| {
                t.metadata.namespace = Some("shop".into());
                t.spec.output = "bank/p".into();
            },
            "A Trace in namespace \"shop\" may only write to that namespace, not to \"bank\"",
        ),
        (
            |t| t.spec.output = "../p".into(),
            "Invalid spec.output \"../p\": it must be name or namespace/name, of lower case letters, digits, - \
             and . (in the name), each part beginning and ending with a letter or digit",
        ),
        (
            |t| drop(t.spec.parameters.insert("merge".into(), "all".into())),
            "Invalid parameter merge \"all\": it must be container or pod",
        ),
        (
            |t| drop(t.spec.parameters.insert("timeout".into(), "soon".into())),
            "Invalid parameter timeout \"soon\": it must be a number of seconds, minutes or hours, such as \
             30s, 5m or 1h",
        ),
        (
            |t| drop(t.spec.parameters.insert("timeout".into(), "99999999h".into())),
            "Invalid parameter timeout \"99999999h\": it must be a number of seconds, minutes or hours, such \
             as 30s, 5m or 1h",
        ),
        (
            |t| drop(t.spec.parameters.insert("profile-prefix".into(), "a/".into())),
            "Invalid parameter profile-prefix \"a/\": it must be of lower case letters, digits and -, and \
             begin with a letter or digit",
        ),
        (
            |t| drop(t.spec.parameters.insert("formatter".into(), "html".into())),
            "Invalid parameter formatter \"html\": it must be spo (or absent) where spec.outputMode is \
             ExternalResource",
        ),
        // What a single operation is given counts as what the spec gives.
        (
            |t| drop(t.annotations_mut().insert(format!("{OPERATION_PARAMETER}merge"), "all".into())),
            "Invalid parameter merge \"all\": it must be container or pod",
        ),
    ];
    for (change, want) in rows {
        let mut trace = trace();
        trace.spec.output_mode = OutputMode::ExternalResource;
        change(&mut trace);
        assert_eq!(verdict(&mut trace, "start").unwrap_err().to_string(), want);
    }
}

#[test]
fn whose_pods_a_trace_may_select() {
    let filter = |namespace: &str| TraceFilter {
        namespace: namespace.into(),
        podname: "cart-0".into(),
        ..TraceFilter::default()
    };
    // The Trace's namespace, the filter's → the selection's.
    let rows: [(&str, &str, Option<Option<&str>>); 6] = [
        (SYSTEM, "shop", Some(Some("shop"))),
        (SYSTEM, "", Some(None)),
        (SYSTEM, SYSTEM, Some(Some(SYSTEM))),
        ("shop", "shop", Some(Some("shop"))),
        ("shop", "", Some(Some("shop"))),
        ("shop", SYSTEM, None),
    ];
    for (own, asked, want) in rows {
        let found = selection(Some(&filter(asked)), own, SYSTEM).ok().map(|s| s.namespace);
        assert_eq!(found, want.map(|n| n.map(str::to_owned)), "{own} {asked}");
    }
}

#[test]
fn where_a_trace_may_write() {
    for (own, output, allowed) in [
        (SYSTEM, "shop/p", true),
        (SYSTEM, "p", true),
        ("shop", "shop/p", true),
        ("shop", "p", true),
        ("shop", "", true),
        ("shop", "bank/p", false),
        ("shop", "gadget/p", false),
    ] {
        let mut trace = trace();
        trace.metadata.namespace = Some(own.into());
        trace.spec.output_mode = OutputMode::ExternalResource;
        trace.spec.output = output.into();
        let found = verdict(&mut trace, "start");
        assert_eq!(found.is_ok(), allowed, "{own} {output}: {found:?}");
    }
}

#[test]
fn pods_are_looked_at_before_a_recording_starts() {
    let filter = TraceFilter {
        podname: "cart-0".into(),
        container_name: "app".into(),
        labels: [("tier".to_owned(), "web".to_owned())].into(),
        ..TraceFilter::default()
    };
    let selection = selection(Some(&filter), "shop", SYSTEM).unwrap();
    let found = |containers: &[&str]| FoundPod {
        namespace: "shop".into(),
        pod: "cart-0".into(),
        containers: containers.iter().map(ToString::to_string).collect(),
    };
    assert_eq!(check_found(&selection, &[found(&["init", "app"])], Some("n1")), Ok(None));
    let warning = check_found(&selection, &[], Some("n1")).unwrap().unwrap();
    assert_eq!(
        warning,
        "Pod shop/cart-0 with labels tier=web not found on node n1; it will be recorded from its first call on"
    );
    assert!(!check_found(&selection, &[], None).unwrap().unwrap().contains("on node"));
    let error = check_found(&selection, &[found(&["init", "web"])], Some("n1")).unwrap_err();
    assert_eq!(error.to_string(), "Container \"app\" not found in pod shop/cart-0: it has init and web");
    // Of several pods one is enough.
    assert_eq!(check_found(&selection, &[found(&["web"]), found(&["app"])], Some("n1")), Ok(None));
}

#[test]
fn an_operation_is_taken_with_its_parameters_and_carried_out_once() {
    let mut trace = trace();
    assert_eq!(plan_at_n1(&trace), Plan::Idle);
    ask(&mut trace, "start");
    trace.annotations_mut().insert(format!("{OPERATION_PARAMETER}formatter"), "table".into());
    trace.annotations_mut().insert("other".into(), "stays".into());
    let accepted = claim(&mut trace);
    assert_eq!((accepted.id, accepted.start), (1, Some(1)));
    assert_eq!(accepted.parameters["formatter"], "table");
    let keys: Vec<_> = trace.annotations().keys().cloned().collect();
    assert_eq!(keys, [ACCEPTED, "other"]);
    // As long as the number is not in the status, it is to be done (again); then no more.
    assert!(matches!(plan_at_n1(&trace), Plan::Perform(..)));
    assert!(matches!(plan_at_n1(&trace), Plan::Perform(..)));
    hold(&mut trace, "n1");
    node(&mut trace, "n1", 1, 1, Some(State::Started));
    assert_eq!(plan_at_n1(&trace), Plan::Record { session: 1 });
    // What comes next waits for what was taken.
    ask(&mut trace, "generate");
    assert_eq!(claim(&mut trace).id, 2);
    ask(&mut trace, "stop");
    assert!(matches!(
        plan_at_n1(&trace),
        Plan::Perform(Accepted { id: 2, .. }, Ok(Task::Generate { session: 1 }))
    ));
    node(&mut trace, "n1", 2, 1, Some(State::Started));
    assert_eq!(claim(&mut trace).id, 3);
}

#[test]
fn what_ended_is_given_up_before_anything_else_is_taken() {
    let mut trace = in_state(Some(&State::Stopped));
    hold(&mut trace, "n1");
    ask(&mut trace, "start");
    assert_eq!(plan_at_n1(&trace), Plan::Release);
    trace.finalizers_mut().clear();
    assert!(matches!(plan_at_n1(&trace), Plan::Claim(Accepted { id: 3, start: Some(3), .. })));
}

#[test]
fn whatever_became_of_the_spec_what_was_started_can_be_stopped() {
    let mut trace = in_state(Some(&State::Started));
    trace.spec.gadget = "gone".into();
    trace.spec.filter = None;
    trace.spec.parameters.insert("merge".into(), "?".into());
    assert_eq!(verdict(&mut trace, "stop"), Ok(Task::Stop { session: Some(1) }));
}

#[test]
fn a_refused_start_starts_nothing() {
    let mut trace = trace();
    trace.spec.gadget = "sec".into();
    verdict(&mut trace, "start").unwrap_err();
    node(&mut trace, "n1", 1, 0, None);
    trace.spec.gadget = "seccomp".into();
    assert_eq!(verdict(&mut trace.clone(), "generate"), Err(Refusal::NotStarted));
    assert_eq!(verdict(&mut trace, "start"), Ok(Task::Start { session: 2, generate: false }));
}

#[test]
fn without_the_annotation_of_the_operation_taken_last_numbers_still_rise() {
    let mut trace = in_state(Some(&State::Started));
    trace.annotations_mut().insert(ACCEPTED.into(), "rubbish".into());
    ask(&mut trace, "generate");
    let accepted = claim(&mut trace);
    assert_eq!((accepted.id, accepted.start), (2, Some(1)));
}

#[test]
fn a_recording_ends_at_its_timeout() {
    let mut trace = in_state(Some(&State::Started));
    let nodes = &mut trace.status.as_mut().unwrap().nodes;
    nodes[0].timeout_seconds = Some(30);
    nodes[0].started = Some(Time(now() - SignedDuration::from_secs(29)));
    assert_eq!(plan_at_n1(&trace), Plan::Record { session: 1 });
    assert_eq!(at_n1(|view| time_left(&trace, view)), Some(Duration::from_secs(1)));
    trace.status.as_mut().unwrap().nodes[0].started = Some(Time(now() - SignedDuration::from_secs(31)));
    assert_eq!(plan_at_n1(&trace), Plan::Expire { session: 1 });
    assert_eq!(plan_at_n1(&in_state(Some(&State::Completed))), Plan::Idle);
}

#[test]
fn who_deletes_a_trace_gets_it_released() {
    let mut trace = in_state(Some(&State::Started));
    trace.metadata.deletion_timestamp = Some(Time(now()));
    ask(&mut trace, "generate");
    assert_eq!(plan_at_n1(&trace), Plan::Release);
    trace.finalizers_mut().clear();
    assert_eq!(plan_at_n1(&trace), Plan::Idle);
    trace.finalizers_mut().push("somebody.else/finalizer".into());
    assert_eq!(plan_at_n1(&trace), Plan::Idle);
}

#[test]
fn traces_of_other_nodes() {
    let mut trace = trace();
    trace.spec.node = "n2".into();
    assert_eq!(plan_at_n1(&trace), Plan::Idle);
    ask(&mut trace, "start");
    let check_node = Plan::CheckNode { node: "n2".into() };
    assert_eq!(plan_at_n1(&trace), check_node);
    take(
        &mut trace,
        &Accepted { id: 1, operation: Operation::Start, start: Some(1), parameters: BTreeMap::new() },
    );
    assert_eq!(plan_at_n1(&trace), check_node);
    node(&mut trace, "n2", 1, 1, Some(State::Started));
    assert_eq!(plan_at_n1(&trace), Plan::Idle);
    // Its finalizer would keep the object for ever if the node went.
    hold(&mut trace, "n2");
    trace.metadata.deletion_timestamp = Some(Time(now()));
    assert_eq!(plan_at_n1(&trace), check_node);
    // A node that the Trace no longer names gives up what it holds.
    let mut moved = in_state(Some(&State::Started));
    moved.spec.node = "n2".into();
    assert_eq!(plan_at_n1(&moved), Plan::Release);
}

#[test]
fn a_node_that_does_not_exist_is_answered_for() {
    let absent = |trace: &Trace| at_n1(|view| plan_for_absent(trace, "ghost", view));
    let mut trace = trace();
    trace.spec.node = "ghost".into();
    assert_eq!(absent(&trace), Plan::Idle);
    ask(&mut trace, "start");
    let Plan::Claim(accepted) = absent(&trace) else { panic!() };
    take(&mut trace, &accepted);
    let Plan::Perform(_, Err(refusal)) = absent(&trace) else { panic!() };
    assert_eq!(
        refusal.to_string(),
        "Node \"ghost\" does not exist; set spec.node to one of the names that `kubectl get nodes` prints"
    );
    node(&mut trace, "ghost", 1, 0, None);
    assert_eq!(absent(&trace), Plan::Idle);
    // One that was there, and recorded.
    node(&mut trace, "ghost", 0, 1, Some(State::Started));
    let Plan::Perform(_, Err(refusal)) = absent(&trace) else { panic!() };
    let gone = "Node \"ghost\" is gone, and with it what it recorded and had not made documents of";
    assert_eq!(refusal.to_string(), gone);
    hold(&mut trace, "ghost");
    trace.metadata.deletion_timestamp = Some(Time(now()));
    assert_eq!(absent(&trace), Plan::Release);
    trace.spec.node = "n2".into();
    trace.metadata.deletion_timestamp = None;
    assert_eq!(absent(&trace), Plan::Idle);
}

#[test]
fn nodes_that_others_wait_for() {
    let lagging = |trace: &Trace| {
        at_n1(|view| lagging_nodes(trace, view).into_iter().map(str::to_owned).collect::<Vec<_>>())
    };
    let absent = |trace: &Trace| at_n1(|view| plan_for_absent(trace, "n2", view));
    let rank = |trace: &Trace| at_n1(|view| rank(trace, view));
    let mut trace = everywhere();
    let stop = |id| Accepted { id, operation: Operation::Stop, start: Some(1), parameters: BTreeMap::new() };
    take(&mut trace, &stop(2));
    node(&mut trace, "n1", 2, 1, Some(State::Stopped));
    assert!(lagging(&trace).is_empty());
    // A node of which there is nothing in the Trace may not be concerned.
    assert_eq!(absent(&trace), Plan::Idle);
    for other in ["n0", "n2"] {
        node(&mut trace, other, 1, 1, Some(State::Started));
    }
    assert_eq!((lagging(&trace), rank(&trace)), (vec!["n0".into(), "n2".into()], 0));
    assert_eq!(absent(&trace), Plan::Perform(stop(2), Err(Refusal::NodeGone { node: "n2".into() })));
    node(&mut trace, "n0", 2, 1, Some(State::Stopped));
    node(&mut trace, "n2", 2, 1, Some(State::Stopped));
    assert_eq!((lagging(&trace), rank(&trace), absent(&trace)), (vec![], 1, Plan::Idle));
    // One whose time is over should have said so.
    node(&mut trace, "n2", 2, 2, Some(State::Started));
    let entry = trace.status.as_mut().unwrap().nodes.iter_mut().find(|n| n.node == "n2").unwrap();
    entry.started = Some(Time(now() - SignedDuration::from_secs(60)));
    entry.timeout_seconds = Some(61);
    assert_eq!((lagging(&trace), absent(&trace)), (vec![], Plan::Idle));
    let ends = |trace: &Trace| at_n1(|view| time_left_of_others(trace, view));
    assert_eq!(ends(&trace), Some(Duration::from_secs(1)));
    trace.spec.node = "n2".into();
    assert_eq!(ends(&trace), Some(Duration::from_secs(1)));
    trace.spec.node = "n3".into();
    assert_eq!(ends(&trace), None, "what n2 does is of no interest any more");
    trace.spec.node.clear();
    let entry = trace.status.as_mut().unwrap().nodes.iter_mut().find(|n| n.node == "n2").unwrap();
    entry.timeout_seconds = Some(60);
    assert_eq!((lagging(&trace), absent(&trace)), (vec!["n2".into()], Plan::Expire { session: 2 }));
    assert_eq!(ends(&trace), None);
    // Of that other nodes than its own may tell as well.
    trace.spec.node = "n2".into();
    assert_eq!(plan_at_n1(&trace), Plan::CheckNode { node: "n2".into() });
    assert_eq!(absent(&trace), Plan::Expire { session: 2 });
    assert!(lagging(&trace).is_empty(), "it is nobody else's");
}

/// A Trace of all nodes.
fn everywhere() -> Trace {
    let mut trace = trace();
    trace.spec.node.clear();
    trace
}

#[test]
fn a_node_that_missed_the_start_catches_up() {
    let mut trace = everywhere();
    ask(&mut trace, "start");
    claim(&mut trace);
    node(&mut trace, "n2", 1, 1, Some(State::Started));
    ask(&mut trace, "generate");
    // n2 takes the next operation while n1 was away.
    take(
        &mut trace,
        &Accepted { id: 2, operation: Operation::Generate, start: Some(1), parameters: BTreeMap::new() },
    );
    let Plan::Perform(_, verdict) = plan_at_n1(&trace) else { panic!() };
    assert_eq!(verdict, Ok(Task::Start { session: 1, generate: true }));
}

#[test]
fn a_node_that_missed_a_stop_and_a_start_begins_anew() {
    let mut trace = everywhere();
    node(&mut trace, "n1", 1, 1, Some(State::Started));
    node(&mut trace, "n2", 3, 3, Some(State::Started));
    take(
        &mut trace,
        &Accepted { id: 3, operation: Operation::Start, start: Some(3), parameters: BTreeMap::new() },
    );
    let Plan::Perform(_, verdict) = plan_at_n1(&trace) else { panic!() };
    assert_eq!(verdict, Ok(Task::Start { session: 3, generate: false }));
}

#[test]
fn a_node_that_joins_after_the_end_has_no_part_in_it() {
    let mut trace = everywhere();
    node(&mut trace, "n2", 2, 1, Some(State::Stopped));
    take(
        &mut trace,
        &Accepted { id: 2, operation: Operation::Stop, start: Some(1), parameters: BTreeMap::new() },
    );
    assert_eq!(plan_at_n1(&trace), Plan::Idle);
    // But one that joins while others record takes part.
    let mut trace = everywhere();
    node(&mut trace, "n2", 1, 1, Some(State::Started));
    take(
        &mut trace,
        &Accepted { id: 1, operation: Operation::Start, start: Some(1), parameters: BTreeMap::new() },
    );
    let Plan::Perform(_, verdict) = plan_at_n1(&trace) else { panic!() };
    assert_eq!(verdict, Ok(Task::Start { session: 1, generate: false }));
}

#[test]
fn operations_have_names_on_the_wire() {
    for (operation, json) in [
        (Operation::Start, r#"{"id":1,"operation":"start","start":1}"#),
        (Operation::Other("pause".into()), r#"{"id":1,"operation":"pause","start":1}"#),
    ] {
        let accepted = Accepted { id: 1, operation, start: Some(1), parameters: BTreeMap::new() };
        assert_eq!(serde_json::to_string(&accepted).unwrap(), json);
        assert_eq!(serde_json::from_str::<Accepted>(json).unwrap(), accepted);
    }
}

/// `docs/operations.md` has a row for each refusal, found by the words before whatever differs from one to the next.
#[test]
fn every_refusal_is_explained() {
    let manual = include_str!("../../../../docs/operations.md");
    let word = String::new;
    let refusals = [
        Refusal::Operation { operation: word(), gadget: word() },
        Refusal::Gadget { gadget: word(), known: vec![] },
        Refusal::Unusable { gadget: word(), reason: word() },
        Refusal::RunMode { mode: word(), gadget: word() },
        Refusal::OutputMode { mode: word(), gadget: word(), supported: vec![] },
        Refusal::MissingFilter,
        Refusal::OtherNamespace { own: word(), asked: word(), system: word() },
        Refusal::OtherOutputNamespace { own: word(), asked: word() },
        Refusal::Output { output: word(), reason: NameError::TooLong },
        Refusal::Parameter { name: "NAME", value: word(), must: "" },
        Refusal::NotStarted,
        Refusal::Container { container: word(), pod: word(), has: vec![] },
        Refusal::Node { node: word() },
        Refusal::NodeGone { node: word() },
    ];
    for refusal in refusals {
        let text = refusal.to_string();
        let (before, after) = text.split_once("\"\"").unwrap_or((&text, ""));
        // Of the rest, up to the next thing that differs.
        let after = after.split('"').next().unwrap_or_default();
        let after: String = after.chars().take_while(|c| !",:;".contains(*c)).collect();
        let before = before.split_once(": ").map_or(before, |(first, _)| first);
        let row =
            manual.lines().find(|line| line.starts_with(&format!("| {before}")) && line.contains(&after));
        assert!(row.is_some(), "no row for: {text}");
        // Whoever adds one has to come by here.
        match refusal {
            Refusal::Operation { .. }
            | Refusal::Gadget { .. }
            | Refusal::Unusable { .. }
            | Refusal::RunMode { .. }
            | Refusal::OutputMode { .. }
            | Refusal::MissingFilter
            | Refusal::OtherNamespace { .. }
            | Refusal::OtherOutputNamespace { .. }
            | Refusal::Output { .. }
            | Refusal::Parameter { .. }
            | Refusal::NotStarted
            | Refusal::Container { .. }
            | Refusal::Node { .. }
            | Refusal::NodeGone { .. } => {}
        }
    }
}
