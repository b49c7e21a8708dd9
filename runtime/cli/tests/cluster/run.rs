//! `run`: in the foreground.

use std::fs::File;

use anyhow::Result;
use gadgetd_core::Loss;
use gadgetd_e2e::{User, eventually};
use gadgetd_kube::Trace;
use gadgetd_kube::controller::NodeError;
use gadgetd_kube_tests::{LIMIT, make};
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams},
};
use rustix::process::Signal;
use serde_json::json;

use crate::support::{Cli, Lossy, Scene, names_in, scene};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_is_recorded_until_somebody_ends_it() -> Result<()> {
    let scene = scene!();
    let app = scene.start("app", &[0]);
    for signal in [Signal::INT, Signal::TERM] {
        let run = scene.cli()?.start(["run", "seccomp", "-n", &scene.shop, "-p", "cart-0", "-c", "app"])?;
        run.stderr
            .until(&format!("recording pod {}/cart-0, container app, on node {}", scene.shop, scene.node))
            .await?;
        let traces = scene.traces().await?;
        assert_eq!(traces.len(), 1);
        assert_eq!(traces[0].spec.node, scene.node);
        scene.world.call(&app, &[1]);
        run.signal(signal)?;
        let finished = run.finish().await?.code(0);
        assert_eq!(finished.names(), ["read", "write"]);
        // No line that moves where there is no terminal.
        assert!(!finished.stderr.contains('\x1b') && !finished.stderr.contains('\r'), "{finished:?}");
        scene.nothing_left().await?;
    }
    scene.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_containers_give_an_array_one_gives_its_document() -> Result<()> {
    let scene = scene!();
    scene.start("app", &[0]);
    scene.start("log", &[1]);
    let base = ["run", "seccomp", "-n", &scene.shop, "-p", "cart-0", "--timeout", "1s"];
    let finished = scene.cli()?.run(base).await?.code(0);
    let array = finished.json();
    let found: Vec<_> = array
        .as_array()
        .expect("an array")
        .iter()
        .map(|one| (one["pod"].as_str(), one["container"].as_str(), names_in(&one["document"])))
        .collect();
    let want = |container, name: &str| (Some("cart-0"), Some(container), vec![name.to_owned()]);
    assert_eq!(found, [want("app", "read"), want("log", "write")]);

    let merged = scene.cli()?.run(base.into_iter().chain(["--param", "merge=pod"])).await?.code(0);
    assert_eq!(merged.names(), ["read", "write"]);
    let table =
        scene.cli()?.run(base.into_iter().chain(["-c", "app", "--formatter", "table"])).await?.code(0);
    assert_eq!(table.stdout, "read\n");

    let folder = tempfile::tempdir()?;
    let file = folder.path().join("profile.json");
    let name = file.to_str().expect("a name");
    let written = scene.cli()?.run(base.into_iter().chain(["-c", "app", "-o", name])).await?.code(0);
    assert_eq!(written.stdout, "");
    assert_eq!(names_in(&serde_json::from_str(&std::fs::read_to_string(&file)?)?), ["read"]);
    scene.nothing_left().await?;
    scene.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_on_all_nodes_are_recorded_together() -> Result<()> {
    let scene = scene!(alone);
    scene.pod("cart-1", &["app"]).await?;
    scene.start("app", &[0]);
    let second = scene.world.run(&scene.shop, "cart-1", "app");
    scene.world.call(&second, &[1]);
    for place in [&["-n", &scene.shop][..], &["-A"]] {
        let line = ["run", "seccomp", "-l", "tier=web", "-c", "app", "--timeout", "1s"];
        let finished = scene.cli()?.run(line.iter().chain(place)).await?.code(0);
        let array = finished.json();
        let mine = array.as_array().expect("an array").iter().filter(|one| one["namespace"] == *scene.shop);
        let pods: Vec<_> = mine.map(|one| one["pod"].as_str().expect("a pod").to_owned()).collect();
        assert_eq!(pods, ["cart-0", "cart-1"], "{finished:?}");
    }
    scene.nothing_left().await?;
    scene.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_incomplete_is_printed_and_told() -> Result<()> {
    let scene = scene!();
    let app = scene.start("app", &[0]);
    scene.world.lose(&app, Loss::UnknownNumbers(2));
    let line = ["run", "seccomp", "-n", &scene.shop, "-p", "cart-0", "-c", "app", "--timeout", "1s"];
    let finished = scene.cli()?.run(line).await?.code(3).says("2 calls with a number that no table has");
    assert_eq!(finished.names(), ["read"]);
    // Nothing at all is a failure, and no empty profile.
    scene.pod("idle", &["app"]).await?;
    let line = ["run", "seccomp", "-n", &scene.shop, "-p", "idle", "--timeout", "1s"];
    scene.cli()?.run(line).await?.fails("there is no result").says("nothing was recorded");
    scene.world.run(&scene.shop, "idle", "app");
    scene.cli()?.run(line).await?.fails("no system call was recorded");
    scene.nothing_left().await?;
    scene.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_terminal_a_line_shows_how_it_goes_and_ctrl_c_ends_it() -> Result<()> {
    let scene = scene!();
    let app = scene.start("app", &[0, 1]);
    let line = ["run", "seccomp", "-n", &scene.shop, "-p", "cart-0", "-c", "app"];
    let mut run = scene.cli()?.on_terminal(&line)?;
    run.stderr.until("recording 1 container: 2 distinct calls, the last new one").await?;
    scene.world.call(&app, &[2]);
    run.stderr.until("recording 1 container: 3 distinct calls").await?;
    run.types("\x03")?;
    let finished = run.finish().await?.code(0);
    assert_eq!(finished.names(), ["open", "read", "write"]);
    scene.nothing_left().await?;
    scene.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_ctrl_c_ends_it_at_once_and_leaves_nothing() -> Result<()> {
    let scene = scene!();
    scene.start("app", &[0]);
    let line = ["run", "seccomp", "-n", &scene.shop, "-p", "cart-0", "-c", "app"];
    let mut run = scene.cli()?.on_terminal(&line)?;
    run.stderr.until("recording 1 container").await?;
    // The node takes the stop, and gets no further.
    scene.world.break_down(Some(NodeError::Unavailable("not now".into())));
    run.types("\x03")?;
    run.stderr.until("making the result").await?;
    run.types("\x03")?;
    run.finish().await?.fails("interrupted: there is no result");
    let deleted = scene.traces().await?.iter().all(|trace| trace.metadata.deletion_timestamp.is_some());
    assert!(deleted, "{:?}", scene.traces().await?);
    scene.world.break_down(None);
    scene.nothing_left().await?;
    scene.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_that_a_node_does_not_give_now_can_be_had_later() -> Result<()> {
    let scene = scene!();
    scene.start("app", &[0]);
    let line = ["run", "seccomp", "-n", &scene.shop, "-p", "cart-0", "-c", "app", "--wait", "1s"];
    let run = scene.cli()?.start(line)?;
    run.stderr.until("recording pod").await?;
    scene.world.break_down(Some(NodeError::Unavailable("not now".into())));
    run.signal(Signal::INT)?;
    let finished = run.finish().await?.fails("no answer within 1s").says("the recording is kept");
    scene.world.break_down(None);
    let id =
        finished.stderr.split("gadget stop ").nth(1).and_then(|rest| rest.split(' ').next()).expect("an id");
    let stopped = scene.cli()?.run(["stop", id]).await?;
    assert_eq!(stopped.code(0).names(), ["read"]);
    scene.cli()?.run(["delete", id]).await?.code(0);
    scene.nothing_left().await?;
    scene.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_the_api_server_costs_nothing() -> Result<()> {
    let Some(scene) = Scene::own().await? else { return Ok(()) };
    let app = scene.start("app", &[0]);
    let line = ["run", "seccomp", "-n", &scene.shop, "-p", "cart-0", "-c", "app", "--wait", "2m"];
    let run = scene.cli()?.start(line)?;
    run.stderr.until("recording pod").await?;
    scene.cluster.server().stop();
    run.stderr.until("the API server does not answer; the recording goes on").await?;
    scene.world.call(&app, &[1]);
    run.signal(Signal::INT)?;
    scene.cluster.server().resume().await?;
    assert_eq!(run.finish().await?.code(0).names(), ["read", "write"]);
    scene.nothing_left().await?;
    scene.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trace_whose_making_was_not_confirmed_is_not_left_unknown() -> Result<()> {
    let scene = scene!();
    scene.start("app", &[0]);
    let way = Lossy::to(&scene).await?;
    let run = ["run", "seccomp", "-n", &scene.shop, "-p", "cart-0", "-c", "app"];
    let finished = way.cli().run(run).await?.fails("cannot be reached");
    assert!(!finished.stderr.contains("is left"), "{finished:?}");
    scene.nothing_left().await?;

    let way = Lossy::to(&scene).await?;
    let start = ["seccomp-advisor", "start", "-n", &scene.shop, "-p", "cart-0", "-c", "app"];
    let finished = way.cli().run(start).await?.fails("it may be recorded all the same");
    let id = finished.stderr.split("gadget delete ").nth(1).and_then(|rest| rest.split(' ').next());
    let deleted = scene.cli()?.run(["delete", id.expect("an id")]).await?;
    deleted.code(0);
    scene.nothing_left().await?;
    scene.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_that_could_not_be_written_is_still_there() -> Result<()> {
    let scene = scene!();
    scene.start("app", &[0]);
    let cli = scene.cli()?;
    let line = ["run", "seccomp", "-n", &scene.shop, "-p", "cart-0", "-c", "app", "--timeout", "1s"];
    let finished = cli.run_into(File::create("/dev/full")?, line).await?.fails("cannot be written");
    let way = finished.stderr.split("kubectl gadget ").last().expect("what to do").trim();
    assert_eq!(cli.run(way.split(' ')).await?.code(0).names(), ["read"]);
    // Nobody reads it, which somebody who only looks need not know.
    let unread = || std::io::pipe().map(|(_, writer)| writer);
    let show: Vec<_> = way.split(' ').collect();
    cli.run_into(unread()?, show.iter().copied()).await?.code(0);
    let stop = ["seccomp-advisor", "stop", show[1]];
    cli.run_into(unread()?, stop).await?.fails(way);
    cli.run_into(unread()?, ["stop", show[1]]).await?.fails(way);
    assert_eq!(cli.run(stop).await?.code(0).names(), ["read"]);
    scene.nothing_left().await?;
    scene.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_else_can_end_it() -> Result<()> {
    let scene = scene!();
    scene.start("app", &[0]);
    let line = ["run", "seccomp", "-n", &scene.shop, "-p", "cart-0", "-c", "app"];
    let run = scene.cli()?.start(line)?;
    run.stderr.until("recording pod").await?;
    let traces = scene.traces().await?;
    scene.cli()?.run(["stop", &traces[0].name_any(), "-n", &scene.shop]).await?.code(0);
    assert_eq!(run.finish().await?.code(0).names(), ["read"]);

    let run = scene.cli()?.start(line)?;
    run.stderr.until("recording pod").await?;
    let api = Api::<Trace>::namespaced(scene.cluster.admin.clone(), &scene.shop);
    let trace = eventually("the next Trace", LIMIT, async || {
        let traces = api.list(&ListParams::default()).await.map_err(|e| e.to_string())?.items;
        let alive = traces.into_iter().find(|trace| trace.metadata.deletion_timestamp.is_none());
        alive.ok_or_else(|| "none".to_owned())
    })
    .await?;
    api.delete(&trace.name_any(), &DeleteParams::default()).await?;
    run.finish().await?.fails("deleted by somebody else");
    scene.nothing_left().await?;
    scene.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rights_to_one_namespace_are_enough_for_its_pods() -> Result<()> {
    let scene = scene!(alone);
    scene.start("app", &[0]);
    let binding = json!({
        "metadata": { "name": "ada" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "gadget-user" },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "ada" }],
    });
    make(&Api::<RoleBinding>::namespaced(scene.cluster.admin.clone(), &scene.shop), binding).await?;
    let ada = User::new("ada");
    let hers = Api::<Trace>::namespaced(scene.cluster.server().client(&ada).await?, &scene.shop);
    eventually("right to list", LIMIT, async || hers.list(&ListParams::default()).await).await?;

    let cli = Cli::of(&scene.cluster, &ada)?;
    let line = ["run", "seccomp", "-n", &scene.shop, "-p", "cart-0", "-c", "app", "--timeout", "1s"];
    assert_eq!(cli.run(line).await?.code(0).names(), ["read"]);
    cli.run(["list"]).await?.code(1).says("name a namespace with -n");
    cli.run(["list", "-n", &scene.shop]).await?.code(0);
    let elsewhere = ["run", "seccomp", "-n", "default", "-p", "x"];
    cli.run(elsewhere).await?.fails("a Trace in namespace default cannot be made").says("gadget-user");
    cli.run(["run", "seccomp", "-A", "-p", "x"]).await?.fails("forbidden").says("--namespace gadget");
    // What she starts she can end as she is told.
    let start = ["seccomp-advisor", "start", "-n", &scene.shop, "-p", "cart-0", "-c", "app"];
    let started = cli.run(start).await?.code(0);
    let id = started.stdout.trim();
    let stop = format!("kubectl gadget seccomp-advisor stop {id} -n {}", scene.shop);
    assert!(started.stderr.contains(&stop), "{started:?}");
    let finished = cli.run(["stop", id]).await?.fails("name the namespace that it is in with -n");
    assert!(!finished.stderr.contains("rolebinding"), "{finished:?}");
    cli.run(["stop", id, "-n", "default"]).await?.fails("--namespace default");
    cli.run(["stop", "default/x"]).await?.fails("--namespace default");
    let stop: Vec<_> = stop.split(' ').skip(2).collect();
    assert_eq!(cli.run(stop).await?.code(0).names(), ["read"]);
    // An administrator can be her.
    let as_her = scene.cli()?.run(elsewhere.iter().chain(&["--as", "ada", "--as-group", "staff"])).await?;
    as_her.fails("User \"ada\"");
    scene.nothing_left().await?;
    scene.stop().await
}
