//! Several nodes, and nodes that are not there.

use std::collections::BTreeSet;

use anyhow::Result;
use gadgetd_kube::{State, Trace, TraceFilter, TraceSpec, TraceStatus, finalizer};
use gadgetd_kube_tests::{Cluster, Files, Running, SYSTEM, Tracing, World, names_in, settings, spec, until};
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::json;

async fn node(cluster: &Cluster, name: &str) -> Result<(World, Running)> {
    cluster.node(name).await?;
    let world = World::new(name);
    let running = cluster.run(settings(name), &world, &Files::default());
    Ok((world, running))
}

fn run(world: &World, pod: &str, calls: &[u32]) -> String {
    world.pod("shop", pod, &[("app", "cart")], &["app"]);
    let id = world.run("shop", pod, "app");
    world.call(&id, calls);
    id
}

fn by_label(node: &str) -> TraceSpec {
    let labels = [("app".to_owned(), "cart".to_owned())].into();
    let filter = TraceFilter { namespace: "shop".into(), labels, ..TraceFilter::default() };
    TraceSpec { filter: Some(filter), ..spec(node, "", "") }
}

/// A recording that ends by itself.
fn for_a_while(spec: TraceSpec) -> TraceSpec {
    TraceSpec { parameters: [("timeout".to_owned(), "8s".to_owned())].into(), ..spec }
}

/// Whether so many nodes record.
fn started(nodes: usize) -> impl Fn(&Trace, &TraceStatus) -> bool {
    move |_, status| {
        let started = status.nodes.iter().filter(|node| node.state == Some(State::Started));
        status.operation == Some(1) && started.count() == nodes
    }
}

/// A Trace of all nodes sees every node's Traces: one test, one API server.
#[tokio::test]
async fn a_trace_of_all_nodes() -> Result<()> {
    let Some(cluster) = Cluster::own().await? else { return Ok(()) };
    let (one, running_one) = node(&cluster, "n1").await?;
    let (two, running_two) = node(&cluster, "n2").await?;
    let (three, running_three) = node(&cluster, "n3").await?;
    run(&one, "cart-1", &[0]);
    run(&two, "cart-2", &[1]);

    let trace = cluster.trace(SYSTEM, "all");
    trace.create(by_label("")).await?;
    trace.annotate("start", &[]).await?;
    let status = trace.wait("start on all nodes", started(3)).await?;
    // The third has no such pod, and that does not matter.
    assert_eq!((status.operation_error, status.operation_warning), (None, None));

    let status = trace.operate("generate", &[]).await?;
    // Which node was first is no matter.
    let found: BTreeSet<_> = status.outputs.iter().map(|o| (o.node.as_str(), o.pod.as_str())).collect();
    assert_eq!(found, [("n1", "cart-1"), ("n2", "cart-2")].into());
    assert_eq!(status.output, None);
    let want =
        "2 documents: shop/cart-1/app, shop/cart-2/app; see status.outputs, or set parameter merge=pod";
    assert_eq!(status.operation_warning.as_deref(), Some(want));

    // A node that was away when somebody asked catches up, and one that joins takes part.
    running_two.kill().await;
    trace.annotate("generate", &[]).await?;
    trace
        .wait("answer of the others", |_, s| s.nodes.iter().filter(|n| n.operation == 3).count() == 2)
        .await?;
    two.call("cart-2-app-0", &[3]);
    let running_two = cluster.run(settings("n2"), &two, &Files::default());
    let status = trace.done("generate").await?;
    let of_two = status.outputs.iter().find(|o| o.node == "n2").and_then(|o| o.output.as_ref());
    assert_eq!(names_in(of_two)?, ["close", "write"]);
    let (four, running_four) = node(&cluster, "n4").await?;
    until("recording on the new node", || four.recorded().len() == 1).await?;

    // A stop reaches all, and nothing is left.
    let status = trace.operate("stop", &[]).await?;
    assert_eq!(status.state, Some(State::Stopped));
    trace.released().await?;
    for world in [&one, &two, &three, &four] {
        until("end of the recording", || world.recorded().is_empty()).await?;
    }
    trace.delete().await?;

    // One pod of one node gives one document.
    let trace = cluster.trace(SYSTEM, "one");
    trace.create(TraceSpec { node: String::new(), ..spec("", "shop", "cart-2") }).await?;
    trace.operate("start", &[]).await?;
    trace.wait("start on all nodes", started(4)).await?;
    let status = trace.operate("generate", &[]).await?;
    assert_eq!(names_in(status.output.as_ref())?, ["close", "write"]);
    assert_eq!(status.operation_warning, None);
    trace.delete().await?;

    // A pod that is on no node.
    let trace = cluster.trace(SYSTEM, "none");
    trace.create(spec("", "shop", "cart-9")).await?;
    trace.annotate("start", &[]).await?;
    let status = trace.wait("start on all nodes", started(4)).await?;
    let want = "Pod shop/cart-9 not found; it will be recorded from its first call on";
    assert_eq!(status.operation_warning.as_deref(), Some(want));
    trace.delete().await?;

    // A Trace that moves to another node is given up by the first.
    let trace = cluster.trace(SYSTEM, "moved");
    trace.create(by_label("n1")).await?;
    trace.operate("start", &[]).await?;
    let patch = Patch::Merge(json!({ "spec": { "node": "n2" } }));
    trace.api.patch("moved", &PatchParams::default(), &patch).await?;
    until("end of the recording", || one.recorded().is_empty()).await?;
    // The other may have begun meanwhile.
    let gone = |t: &Trace, s: &TraceStatus| {
        s.nodes.iter().all(|n| n.node != "n1") && !t.finalizers().contains(&finalizer("n1"))
    };
    trace.wait("end of the node's part", gone).await?;
    let status = trace.operate("start", &[]).await?;
    assert_eq!((status.state, status.nodes[0].node.as_str()), (Some(State::Started), "n2"));

    loses_a_node(&cluster, &two, running_two, &trace).await?;

    for running in [running_one, running_three, running_four] {
        running.stop().await?;
    }
    Ok(())
}

/// The node `n2` goes, for which `moved` records.
async fn loses_a_node(cluster: &Cluster, world: &World, running: Running, moved: &Tracing) -> Result<()> {
    // Two more that it takes part in: in one it has made a document, and the other ends by itself.
    let widowed = cluster.trace(SYSTEM, "widowed");
    widowed.create(by_label("")).await?;
    widowed.annotate("start", &[]).await?;
    widowed.wait("start on all nodes", started(4)).await?;
    world.call("cart-2-app-0", &[0]);
    widowed.operate("generate", &[]).await?;
    let timed = cluster.trace(SYSTEM, "timed");
    timed.create(for_a_while(by_label(""))).await?;
    timed.annotate("start", &[]).await?;
    timed.wait("start on all nodes", started(4)).await?;
    let its_own = cluster.trace(SYSTEM, "its-own");
    its_own.create(for_a_while(by_label("n2"))).await?;
    its_own.operate("start", &[]).await?;

    // A node that went keeps no Trace from being deleted.
    running.kill().await;
    Api::<Node>::all(cluster.admin.clone()).delete("n2", &DeleteParams::default()).await?;
    assert_eq!(moved.get().await?.finalizers(), [finalizer("n2")]);
    moved.delete().await?;

    // Nor from being stopped. What it had given is there, and what it took with it is told of.
    let status = widowed.operate("stop", &[]).await?;
    let of = |node: &str| status.outputs.iter().find(|o| o.node == node).and_then(|o| o.output.as_ref());
    assert_eq!((status.state, status.operation_error), (Some(State::Stopped), None));
    assert_eq!(names_in(of("n1"))?, ["read"]);
    assert_eq!(names_in(of("n2"))?, ["close", "read", "write"]);
    let warning = status.operation_warning.unwrap_or_default();
    let gone = "Node \"n2\" is gone, and with it what it recorded and had not made documents of";
    assert!(warning.contains(gone), "{warning}");
    let is_over = |_: &Trace, s: &TraceStatus| s.state == Some(State::Completed);
    let status = timed.wait("end at the timeout", is_over).await?;
    assert_eq!(status.nodes.iter().filter(|n| n.state == Some(State::Stopped)).count(), 1, "{status:?}");
    let is_over = |_: &Trace, s: &TraceStatus| s.state == Some(State::Stopped);
    let status = its_own.wait("end at the timeout", is_over).await?;
    assert_eq!(status.operation_error.as_deref(), Some(gone));
    for trace in [widowed, timed, its_own] {
        trace.delete().await?;
    }
    Ok(())
}
