//! Recordings that go on by themselves: `--detach`, `seccomp-advisor`, `list`, `show`, `stop`, `delete`.

use std::io::Read as _;

use anyhow::{Context as _, Result};
use gadgetd_core::Loss;
use gadgetd_kube::{OutputMode, State};
use gadgetd_kube_tests::{SYSTEM, names, spec, spo::releases};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::support::{Finished, names_in, scene};

/// What was printed, as one word.
fn word(finished: &Finished) -> String {
    let word = finished.stdout.trim_end();
    assert!(!word.is_empty() && !word.contains(char::is_whitespace), "{finished:?}");
    word.to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recording_from_its_start_to_its_deletion() -> Result<()> {
    let scene = scene!();
    let app = scene.start("app", &[0]);
    let cli = scene.cli()?;
    let started = cli
        .run(["run", "seccomp", "-n", &scene.shop, "-p", "cart-0", "-c", "app", "--detach"])
        .await?
        .code(0);
    let id = word(&started);

    let list = cli.run(["list"]).await?.code(0);
    let line = list.stdout.lines().find(|line| line.starts_with(&id)).context("its line")?;
    let columns: Vec<_> = line.split_whitespace().collect();
    assert_eq!(columns[1..7], [&scene.shop, "cart-0", "app", &scene.node, "seccomp", "Started"], "{line}");
    let json = cli.run(["list", "-n", &scene.shop, "-o", "json"]).await?.code(0).json();
    assert_eq!(json["items"][0]["metadata"]["labels"]["gadget.kinvolk.io/id"], *id);
    let name = json["items"][0]["metadata"]["name"].as_str().context("a name")?.to_owned();
    let names = cli.run(["list", "-n", &scene.shop, "-o", "name"]).await?.code(0);
    assert_eq!(names.stdout, format!("trace.gadget.kinvolk.io/{name}\n"));

    let shown = cli.run(["show", &id]).await?.code(0).says("started; 1 container").says("--generate");
    assert_eq!(shown.stdout, "");
    assert_eq!(cli.run(["show", &id, "--generate"]).await?.code(0).names(), ["read"]);
    scene.world.call(&app, &[1]);
    // What was made is there, and not made anew. The name of the Trace is as good as the id.
    assert_eq!(cli.run(["show", &format!("{}/{name}", scene.shop)]).await?.code(0).names(), ["read"]);
    assert_eq!(cli.run(["show", &name, "-n", &scene.shop]).await?.code(0).names(), ["read"]);
    let yaml = cli.run(["show", &id, "-o", "yaml"]).await?.code(0);
    assert!(yaml.stdout.contains("kind: Trace"), "{yaml:?}");

    let stopped = cli.run(["stop", &id]).await?.code(0).says("is kept");
    assert_eq!(stopped.names(), ["read", "write"]);
    // It has ended: the same again.
    assert_eq!(cli.run(["stop", &id]).await?.code(0).names(), ["read", "write"]);
    assert_eq!(cli.run(["show", &id]).await?.code(0).says("stopped").names(), ["read", "write"]);
    cli.run(["delete", &id]).await?.code(0).says(&format!("{id} deleted"));
    for command in ["show", "stop", "delete"] {
        cli.run([command, &id]).await?.fails(&format!("there is no recording {id} in any namespace"));
    }
    scene.nothing_left().await?;
    scene.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_older_gadgets_two_steps() -> Result<()> {
    let scene = scene!(alone);
    let cli = scene.cli()?;
    // The pod comes later: nodes record it from its first call on, wherever it comes up.
    let line = ["seccomp-advisor", "start", "-n", &scene.shop, "-p", "late"];
    let started = cli.run(line).await?.code(0).says("not found");
    let id = word(&started);
    assert_eq!(id.len(), 16);
    scene.pod("late", &["app"]).await?;
    let app = scene.world.run(&scene.shop, "late", "app");
    scene.world.call(&app, &[0, 59]);
    let list = cli.run(["seccomp-advisor", "list"]).await?.code(0);
    assert!(list.stdout.contains(&id), "{list:?}");
    let stopped = cli.run(["seccomp-advisor", "stop", &id]).await?.code(0);
    assert_eq!(stopped.names(), ["execve", "read"]);
    scene.nothing_left().await?;
    cli.run(["seccomp-advisor", "stop", &id]).await?.fails("there is no recording");
    cli.run(["seccomp-advisor", "list", "-n", &scene.shop]).await?.code(0).says("nothing is being recorded");
    scene.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn profiles_become_objects_and_are_named() -> Result<()> {
    let scene = scene!();
    let releases = releases()?;
    let release = releases.iter().find(|release| release.namespaced).context("a release with namespaces")?;
    scene.cluster.install(&release.crd).await?;
    scene.start("app", &[0]);
    let cli = scene.cli()?;
    let base =
        ["seccomp-advisor", "start", "-n", &scene.shop, "-p", "cart-0", "-c", "app", "-m", "seccomp-profile"];
    let bank = names("bank");
    scene.cluster.namespace(&bank).await?;
    let name = format!("{}/hello-profile", scene.shop);
    let elsewhere = format!("{bank}/hello-profile");
    for (flag, value, want) in [
        ("--seccomp-profile-name", name.as_str(), name.clone()),
        ("--seccomp-profile-name", "other", format!("{}/other", scene.shop)),
        ("--seccomp-profile-name", elsewhere.as_str(), elsewhere.clone()),
        ("--profile-prefix", "x", format!("{}/x-cart-0", scene.shop)),
    ] {
        let id = word(&cli.run(base.iter().chain(&[flag, value])).await?.code(0));
        let stopped =
            cli.run(["seccomp-advisor", "stop", &id]).await?.code(0).says("localhostProfile: operator/");
        assert_eq!(stopped.stdout, format!("{want}\n"));
    }
    scene.nothing_left().await?;
    scene.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_are_shown_as_they_come() -> Result<()> {
    let scene = scene!();
    let trace = scene.cluster.trace(SYSTEM, &names("trace"));
    let mut of_stream = spec(&scene.node, &scene.shop, "cart-0");
    of_stream.output_mode = OutputMode::Stream;
    trace.create(of_stream).await?;
    trace.operate("start", &[]).await?;
    let cli = scene.cli()?;
    let follow = cli.start(["show", "-f", &format!("{SYSTEM}/{}", trace.name)])?;
    follow.stderr.until("started").await?;
    for (container, call, name) in [("app", 0, "read"), ("log", 1, "write")] {
        let id = scene.start(container, &[call]);
        scene.world.end(&id);
        follow.stdout.until(name).await?;
    }
    let status = trace.operate("stop", &[]).await?;
    assert_eq!(status.state, Some(State::Stopped));
    let finished = follow.finish().await?.code(0);
    let lines: Vec<Value> = finished
        .stdout
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()
        .context("lines of JSON")?;
    let found: Vec<_> =
        lines.iter().map(|line| (line["container"].as_str(), names_in(&line["document"]))).collect();
    assert_eq!(found, [(Some("app"), vec!["read".into()]), (Some("log"), vec!["write".into()])]);
    trace.delete().await?;
    scene.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_follows_learns_what_goes_wrong_and_how_it_ends() -> Result<()> {
    let scene = scene!();
    let cli = scene.cli()?;
    let trace = scene.cluster.trace(SYSTEM, &names("trace"));
    let name = format!("{SYSTEM}/{}", trace.name);
    let mut of_stream = spec(&scene.node, &scene.shop, "cart-0");
    of_stream.output_mode = OutputMode::Stream;
    trace.create(of_stream).await?;
    trace.operate("start", &[]).await?;
    let (mut reader, writer) = std::io::pipe()?;
    let head = cli.start_into(writer, ["show", "-f", &name])?;
    let whole = cli.start(["show", "-f", &name])?;
    for follow in [&head, &whole] {
        follow.stderr.until("started").await?;
    }
    trace.operate("dance", &[]).await?;
    whole.stderr.until("warning: Unsupported operation").await?;
    let app = scene.start("app", &[0]);
    scene.world.lose(&app, Loss::UnknownNumbers(2));
    scene.world.end(&app);
    whole.stdout.until("read").await?;
    // Who has seen the first line has seen enough, though the recording goes on.
    tokio::task::spawn_blocking(move || reader.read_exact(&mut [0])).await??;
    head.finish().await?.code(0);
    trace.operate("stop", &[]).await?;
    whole.finish().await?.code(3).says("incomplete: ");
    trace.delete().await?;

    // One that ends with nothing.
    trace.create(spec(&scene.node, &scene.shop, "none")).await?;
    trace.operate("start", &[]).await?;
    let follow = cli.start(["show", "-f", &name])?;
    follow.stderr.until("started").await?;
    trace.operate("stop", &[]).await?;
    follow.finish().await?.fails("there is no result: ");
    trace.delete().await?;
    scene.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_may_come_up_elsewhere_is_recorded_on_all_nodes() -> Result<()> {
    let scene = scene!(alone);
    let cli = scene.cli()?;
    let pods = Api::<Pod>::namespaced(scene.cluster.admin.clone(), &scene.shop);
    for name in ["web-0", "ended", "leaving"] {
        scene.pod(name, &["app"]).await?;
    }
    let owner = |kind: &str| {
        let owner =
            json!({ "apiVersion": "apps/v1", "kind": kind, "name": "web", "uid": "1", "controller": true });
        Patch::Merge(json!({ "metadata": { "ownerReferences": [owner] } }))
    };
    pods.patch("web-0", &PatchParams::default(), &owner("StatefulSet")).await?;
    pods.patch("cart-0", &PatchParams::default(), &owner("ReplicaSet")).await?;
    let ended = Patch::Merge(json!({ "status": { "phase": "Succeeded" } }));
    pods.patch_status("ended", &PatchParams::default(), &ended).await?;
    pods.delete("leaving", &DeleteParams::default()).await?;
    for (name, said, pinned) in [
        ("cart-0", "", true),
        ("web-0", "", false),
        ("ended", "has ended (Succeeded)", false),
        ("leaving", "is being deleted", false),
    ] {
        let line = ["run", "seccomp", "-n", &scene.shop, "-p", name, "--detach"];
        let id = word(&cli.run(line).await?.code(0).says(said));
        let shown = cli.run(["show", &id, "-o", "json"]).await?.code(0).json();
        let node = if pinned { scene.node.as_str() } else { "" };
        assert_eq!(shown["spec"]["node"].as_str().unwrap_or_default(), node, "{name}: {shown}");
        cli.run(["delete", &id]).await?.code(0);
    }
    scene.nothing_left().await?;
    scene.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_absent_node_holds_can_be_given_up() -> Result<()> {
    let scene = scene!();
    let trace = scene.cluster.trace(&scene.shop, &names("trace"));
    let mut made = gadgetd_kube::Trace::new(&trace.name, spec("gone", &scene.shop, "cart-0"));
    // A node that is there, and does not work.
    made.metadata.finalizers = Some(vec![gadgetd_kube::finalizer(&format!("{}-other", scene.node))]);
    scene.cluster.node(&format!("{}-other", scene.node)).await?;
    trace.api.create(&kube::api::PostParams::default(), &made).await?;
    let cli = scene.cli()?;
    let line = ["delete", &trace.name, "-n", &scene.shop, "--wait", "1s"];
    cli.run(line).await?.fails("held by node").says("--force");
    // The others are deleted all the same.
    let free = scene.cluster.trace(&scene.shop, &names("trace"));
    free.create(spec("gone", &scene.shop, "cart-0")).await?;
    let both = cli.run(line.iter().chain(&[free.name.as_str()])).await?.fails("held by node");
    let said = both.says(&format!("{} deleted", free.name));
    assert!(said.stderr.contains(&format!("error: {} is deleted, but held", trace.name)), "{said:?}");
    cli.run(line.iter().chain(&["--force"])).await?.code(0);
    assert_eq!(trace.api.get_opt(&trace.name).await?.map(|t| t.name_any()), None);
    scene.stop().await
}
