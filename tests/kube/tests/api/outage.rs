//! The API server goes away in the middle.

use std::time::Duration;

use anyhow::Result;
use gadgetd_kube::{OutputMode, State, TraceSpec};
use gadgetd_kube_tests::{Cluster, Files, SYSTEM, World, names_in, settings, spec};

/// How long it is away.
const OUTAGE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn what_happens_during_an_outage_is_told_after_it() -> Result<()> {
    let Some(cluster) = Cluster::own().await? else { return Ok(()) };
    cluster.node("n1").await?;
    let (world, files) = (World::new("n1"), Files::default());
    world.pod("shop", "cart-0", &[], &["app"]);
    let running = cluster.run(settings("n1"), &world, &files);
    let id = world.run("shop", "cart-0", "app");
    world.call(&id, &[0]);
    let (status, stream) = (cluster.trace(SYSTEM, "status"), cluster.trace(SYSTEM, "stream"));
    status.create(spec("n1", "shop", "cart-0")).await?;
    stream.create(TraceSpec { output_mode: OutputMode::Stream, ..spec("n1", "shop", "cart-0") }).await?;
    for trace in [&status, &stream] {
        trace.operate("start", &[]).await?;
    }
    // Asked for, and not yet answered when it goes.
    status.annotate("generate", &[]).await?;
    cluster.server().stop();

    // Containers come and go meanwhile.
    world.call(&id, &[1]);
    world.end(&id);
    for call in [3, 8] {
        let id = world.run("shop", "cart-0", "app");
        world.call(&id, &[call]);
        world.end(&id);
    }
    tokio::time::sleep(OUTAGE).await;
    assert_eq!(world.recorded().len(), 2);
    cluster.server().resume().await?;

    let answered = status.done("generate").await?;
    assert_eq!((answered.state, answered.operation_error), (Some(State::Started), None));
    let told = |s: &gadgetd_kube::TraceStatus| s.outputs.iter().map(|o| o.ended.len()).sum::<usize>() == 3;
    let all = status.wait("documents of what ended", |_, s| told(s)).await?;
    assert_eq!(names_in(all.output.as_ref())?, ["close", "lseek", "read", "write"]);
    let all = stream.wait("documents of what ended", |_, s| told(s)).await?;
    let each: Result<Vec<_>> = all.outputs.iter().map(|o| names_in(o.output.as_ref())).collect();
    assert_eq!(each?, [vec!["read", "write"], vec!["close"], vec!["lseek"]]);
    assert_eq!(world.started(), 2);
    for trace in [&status, &stream] {
        assert_eq!(trace.operate("stop", &[]).await?.state, Some(State::Stopped));
        trace.delete().await?;
    }
    assert_eq!(world.recorded(), []);
    running.stop().await
}
