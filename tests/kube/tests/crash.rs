//! A controller is killed between any two things that it does to the outside, and the outcome is the same.
//!
//! The whole life of a Trace is gone through again and again; in the n-th round the controller dies at the n-th
//! point (before or after one request to the API server, the recorder or a sink) and another takes over. It ends with
//! the round in which nothing is left to die at. A program of its own: these tests keep an API server busy, and others that wait for
//! one would wait for long.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use gadgetd_kube::{OutputMode, State, TraceSpec, TraceStatus};
use gadgetd_kube_tests::{
    Cluster, Files, Fuse, Running, SYSTEM, Tracing, World, names, settings, spec,
    spo::{self, releases},
    until,
};
use kube::{
    Api, ResourceExt as _,
    api::{ApiResource, DeleteParams, DynamicObject, ListParams},
};
use serde_json::{Value, json};

/// How many rounds are under way at a time.
const AT_ONCE: i64 = 6;

/// What is left of a round, without what differs from one to the next.
#[derive(Debug, PartialEq)]
struct Outcome {
    status: Value,
    files: BTreeMap<String, String>,
    profiles: Vec<Value>,
}

struct Round<'a> {
    cluster: &'a Cluster,
    node: String,
    shop: String,
    world: World,
    files: Files,
    fuse: Fuse,
}

impl Round<'_> {
    fn run(&self, fuse: &Fuse) -> Running {
        self.cluster.run_with(settings(&self.node), &self.world, &self.files, fuse)
    }

    /// The life of a Trace, as the user and the pod see it.
    async fn life(&self, trace: &Tracing, mode: &OutputMode) -> Result<TraceStatus> {
        let id = self.world.run(&self.shop, "cart-0", "app");
        self.world.call(&id, &[0]);
        let output = if *mode == OutputMode::Status { String::new() } else { "p".into() };
        let spec = TraceSpec { output_mode: mode.clone(), output, ..spec(&self.node, &self.shop, "cart-0") };
        trace.create(spec).await?;
        trace.operate("start", &[]).await?;
        self.world.call(&id, &[1]);
        trace.operate("generate", &[]).await?;
        self.world.end(&id);
        trace.wait("document of what ended", |_, s| s.outputs.iter().any(|o| o.ended.contains(&id))).await?;
        let id = self.world.run(&self.shop, "cart-0", "app");
        self.world.call(&id, &[0, 1]);
        let seen = |s: &TraceStatus| s.progress.as_ref().is_some_and(|p| p.containers == 2);
        trace.wait("progress", |_, s| seen(s)).await?;
        trace.operate("stop", &[]).await?;
        trace.released().await?;
        Ok(trace.get().await?.status.unwrap_or_default())
    }

    /// The whole round: the outcome, and whether the controller died in it.
    async fn go(&self, mode: &OutputMode) -> Result<(Outcome, bool)> {
        self.cluster.node(&self.node).await?;
        self.cluster.namespace(&self.shop).await?;
        self.world.pod(&self.shop, "cart-0", &[], &["app"]);
        let trace = self.cluster.trace(SYSTEM, &names("trace"));
        let mortal = self.run(&self.fuse);
        let heir = async {
            self.fuse.blows().await;
            mortal.kill().await;
            let heir = self.run(&Fuse::default());
            futures::future::pending::<()>().await;
            drop(heir);
        };
        let status = tokio::select! {
            status = self.life(&trace, mode) => status?,
            () = heir => unreachable!("it waits for ever"),
        };
        let outcome = self.outcome(&trace, &status).await?;
        // Every controller watches every Trace: those of hundreds of rounds would slow all of them down.
        trace.api.delete(&trace.name, &DeleteParams::default()).await?;
        Ok((outcome, self.fuse.is_blown()))
    }

    /// What is left, with the words that are this round's own taken out.
    async fn outcome(&self, trace: &Tracing, status: &TraceStatus) -> Result<Outcome> {
        assert_eq!((&status.state, &status.operation_error), (&Some(State::Stopped), &None));
        let uid = trace.get().await?.uid().context("a uid")?;
        until("end of the recording", || self.world.recorded().is_empty()).await?;
        let plain = |value: Value| -> Result<Value> {
            let mut text = value.to_string();
            for (own, word) in
                [(&self.node, "NODE"), (&self.shop, "SHOP"), (&trace.name, "TRACE"), (&uid, "UID")]
            {
                text = text.replace(own.as_str(), word);
            }
            let mut value = serde_json::from_str(&text)?;
            // A run that is repeated calls again, and takes another time for it.
            let differ =
                ["time", "started", "lastNew", "lastTransitionTime", "sequence", "calls", "moreCalls"];
            forget(&mut value, &differ);
            Ok(value)
        };
        let kind = profiles();
        let profiles = Api::<DynamicObject>::namespaced_with(self.cluster.admin.clone(), &self.shop, &kind);
        let profiles = profiles.list(&ListParams::default()).await?.items.into_iter();
        let profiles = profiles.map(|p| plain(json!([p.name_any(), p.annotations(), p.data["spec"]])));
        Ok(Outcome {
            status: plain(serde_json::to_value(status)?)?,
            files: self.files.all(),
            profiles: profiles.collect::<Result<_>>()?,
        })
    }
}

fn profiles() -> ApiResource {
    ApiResource {
        group: spo::GROUP.into(),
        version: "v1beta1".into(),
        api_version: format!("{}/v1beta1", spo::GROUP),
        kind: spo::KIND.into(),
        plural: spo::PLURAL.into(),
    }
}

/// Takes fields out, wherever they are.
fn forget(value: &mut Value, fields: &[&str]) {
    match value {
        Value::Object(object) => {
            object.retain(|key, _| !fields.contains(&key.as_str()));
            object.values_mut().for_each(|value| forget(value, fields));
        }
        Value::Array(items) => items.iter_mut().for_each(|value| forget(value, fields)),
        _ => {}
    }
}

async fn every_point(mode: OutputMode) -> Result<()> {
    let Some(cluster) = Cluster::shared().await? else { return Ok(()) };
    let cluster = &cluster;
    let own = releases()?.into_iter().rfind(|r| r.namespaced).context("a definition with namespaces")?;
    cluster.install(&own.crd).await?;
    let round = async |point: i64| {
        let (node, shop) = (names("node"), names("shop"));
        let (world, files) = (World::new(&node), Files::default());
        let round = Round { cluster, node, shop, world, files, fuse: Fuse::after(point) };
        round.go(&mode).await.with_context(|| format!("killed at point {point}"))
    };
    let (undisturbed, died) = round(i64::MAX).await?;
    assert!(!died);
    let mut point = 1;
    let mut deaths = 0;
    loop {
        let rounds = (point..point + AT_ONCE).map(&round);
        let outcomes = futures::future::try_join_all(rounds).await?;
        let died = outcomes.iter().filter(|(_, died)| *died).count();
        for (index, (outcome, _)) in (point..).zip(&outcomes) {
            assert_eq!(*outcome, undisturbed, "killed at point {index}");
        }
        deaths += died;
        point += AT_ONCE;
        if died == 0 {
            break;
        }
    }
    eprintln!("{mode}: killed {deaths} times, each at another point, always with the same outcome");
    assert!(deaths > 40, "only {deaths} points: the fuse is not where the effects are");
    Ok(())
}

#[tokio::test]
async fn mode_status() -> Result<()> {
    every_point(OutputMode::Status).await
}

#[tokio::test]
async fn mode_stream() -> Result<()> {
    every_point(OutputMode::Stream).await
}

#[tokio::test]
async fn mode_file() -> Result<()> {
    every_point(OutputMode::File).await
}

#[tokio::test]
async fn mode_external_resource() -> Result<()> {
    every_point(OutputMode::ExternalResource).await
}
