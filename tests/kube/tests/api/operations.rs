//! Every operation, every answer.

use anyhow::Result;
use gadgetd_core::Loss;
use gadgetd_kube::{OutputMode, State, Trace, TraceFilter, TraceSpec, TraceStatus, controller::NodeError};
use gadgetd_kube_tests::{
    Cluster, Files, Running, SYSTEM, Tracing, World, all, names, names_in, settings, spec, until,
};
use kube::{
    ResourceExt as _,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::json;

/// A node with a controller at work, and a pod `shop/cart-0` with containers `app` and `log`.
struct Scene {
    cluster: Cluster,
    node: String,
    /// A namespace of its own, with the pod `cart-0`.
    shop: String,
    world: World,
    files: Files,
    running: Running,
}

impl Scene {
    async fn new() -> Result<Option<Self>> {
        let Some(cluster) = Cluster::shared().await? else { return Ok(None) };
        let (node, shop) = (names("node"), names("shop"));
        cluster.node(&node).await?;
        cluster.namespace(&shop).await?;
        let (world, files) = (World::new(&node), Files::default());
        world.pod(&shop, "cart-0", &[("tier", "web")], &["app", "log"]);
        let running = cluster.run(settings(&node), &world, &files);
        Ok(Some(Self { cluster, node, shop, world, files, running }))
    }

    fn spec(&self) -> TraceSpec {
        spec(&self.node, &self.shop, "cart-0")
    }

    /// The spec, with the container `app` alone.
    fn app(&self) -> TraceSpec {
        let mut spec = self.spec();
        spec.filter.as_mut().expect("a filter").container_name = "app".into();
        spec
    }

    async fn trace(&self, spec: TraceSpec) -> Result<Tracing> {
        self.trace_in(SYSTEM, spec).await
    }

    async fn trace_in(&self, namespace: &str, spec: TraceSpec) -> Result<Tracing> {
        let trace = self.cluster.trace(namespace, &names("trace"));
        trace.create(spec).await?;
        Ok(trace)
    }
}

macro_rules! scene {
    () => {
        match Scene::new().await? {
            Some(scene) => scene,
            None => return Ok(()),
        }
    };
}

fn conditions(status: &TraceStatus) -> Vec<String> {
    status.conditions.iter().map(|c| format!("{}={} {}", c.type_, c.status, c.reason)).collect()
}

#[tokio::test]
async fn start_generate_stop() -> Result<()> {
    let scene = scene!();
    let app = scene.world.run(&scene.shop, "cart-0", "app");
    scene.world.call(&app, &[0, 1]);
    let trace = scene.trace(scene.app()).await?;

    let status = trace.operate("start", &[]).await?;
    assert_eq!(
        (status.state, status.operation_error, status.operation_warning),
        (Some(State::Started), None, None)
    );
    assert_eq!(status.output, None);
    assert_eq!(scene.world.recorded().len(), 1);

    let status = trace.operate("generate", &[]).await?;
    assert_eq!((&status.state, &status.operation_error), (&Some(State::Started), &None));
    assert_eq!(names_in(status.output.as_ref())?, ["read", "write"]);
    assert_eq!(conditions(&status), ["Complete=True NothingLost", "Ready=True Recording"]);

    scene.world.call(&app, &[3]);
    let status = trace.operate("stop", &[]).await?;
    assert_eq!((&status.state, &status.operation_error), (&Some(State::Stopped), &None));
    assert_eq!(names_in(status.output.as_ref())?, ["close", "read", "write"]);
    assert_eq!(conditions(&status), ["Complete=True NothingLost", "Ready=False Stopped"]);
    trace.released().await?;
    until("end of the recording", || scene.world.recorded().is_empty()).await?;

    // A new recording begins with nothing.
    let status = trace.operate("start", &[]).await?;
    assert_eq!((&status.state, &status.output), (&Some(State::Started), &None));
    trace.delete().await?;
    until("end of the recording", || scene.world.recorded().is_empty()).await?;
    scene.running.stop().await
}

/// More containers end than one object has room for: what the controller writes is always taken.
#[tokio::test]
async fn a_trace_takes_bounded_room() -> Result<()> {
    const PODS: usize = 1_500;
    let scene = scene!();
    for mode in [OutputMode::Status, OutputMode::File] {
        let tier = format!("{mode}-with-a-long-name-as-people-give-them").to_lowercase();
        let labels = [("tier".to_owned(), tier.clone())].into();
        let filter = TraceFilter { namespace: scene.shop.clone(), labels, ..TraceFilter::default() };
        let spec = TraceSpec { filter: Some(filter), output_mode: mode.clone(), ..scene.spec() };
        let trace = scene.trace(spec).await?;
        trace.operate("start", &[]).await?;
        let uid = trace.get().await?.uid().unwrap_or_default();
        for number in 0..PODS {
            let pod = format!("{tier}-{number}");
            scene.world.pod(&scene.shop, &pod, &[("tier", &tier)], &["app"]);
            let app = scene.world.run(&scene.shop, &pod, "app");
            scene.world.call(&app, &(0..60).collect::<Vec<_>>());
            scene.world.end(&app);
        }
        let status = trace.operate("stop", &[]).await?;
        assert_eq!((&status.state, &status.operation_error), (&Some(State::Stopped), &None));
        let size = serde_json::to_vec(&trace.get().await?)?.len();
        // The newest are there, and it says how many are not.
        let last = format!("{tier}-{}", PODS - 1);
        assert!(status.outputs.iter().any(|o| o.pod == last), "{mode}: {} entries", status.outputs.len());
        let dropped = status.nodes[0].progress.as_ref().map_or(0, |p| p.dropped);
        assert!(dropped > 0 && status.outputs.len() > 200, "{mode}: {} entries", status.outputs.len());
        assert!((1 << 19..3 << 19).contains(&size), "{mode}: {size} bytes");
        until("end of the recording", || scene.world.held(&uid) == 0).await?;
        trace.delete().await?;
    }
    scene.running.stop().await
}

/// What a gadget may be used for holds until its last document, whatever the spec says by then.
#[tokio::test]
async fn a_spec_that_changes_gets_nothing_that_a_start_would_not() -> Result<()> {
    let scene = scene!();
    let app = scene.world.run(&scene.shop, "cart-0", "app");
    scene.world.call(&app, &[0]);
    let trace = scene.trace(TraceSpec { gadget: "diff".into(), ..scene.app() }).await?;
    trace.operate("start", &[]).await?;
    let patch = Patch::Merge(json!({ "spec": { "outputMode": "File" } }));
    trace.api.patch(&trace.name, &PatchParams::default(), &patch).await?;
    let status = trace.operate("stop", &[]).await?;
    assert_eq!(status.state, Some(State::Stopped));
    let error = status.operation_error.unwrap_or_default();
    let want = "Unsupported output mode \"File\" for gadget \"diff\": it supports Status";
    assert_eq!(error, format!("{}/cart-0/app: {want}", scene.shop));
    assert!(scene.files.all().is_empty());
    trace.delete().await?;
    scene.running.stop().await
}

type Change = Box<dyn Fn(&mut TraceSpec)>;

/// Namespace of the Trace, operation, what differs from a good spec, and the answer. `shop` has the pod, `other` is
/// another namespace.
fn refusals<'a>(shop: &'a str, other: &'a str) -> Vec<(&'a str, &'static str, Change, String)> {
    let change = |change: fn(&mut TraceSpec)| -> Change { Box::new(change) };
    let foreign = other.to_owned();
    vec![
        (SYSTEM, "start", change(|s| s.gadget = "sec".into()), "Unknown gadget \"sec\": this node has diff and seccomp".into()),
        (
            SYSTEM,
            "start",
            change(|s| s.run_mode = gadgetd_kube::RunMode::Auto),
            "Unsupported run mode \"Auto\" for gadget \"seccomp\": it supports Manual".into(),
        ),
        (
            SYSTEM,
            "start",
            change(|s| {
                s.gadget = "diff".into();
                s.output_mode = OutputMode::File;
            }),
            "Unsupported output mode \"File\" for gadget \"diff\": it supports Status".into(),
        ),
        (
            SYSTEM,
            "pause",
            change(|_| ()),
            "Unsupported operation \"pause\" for gadget \"seccomp\": it supports start, generate and stop".into(),
        ),
        (
            SYSTEM,
            "generate",
            change(|_| ()),
            "Not started: annotate the Trace with gadget.kinvolk.io/operation=start first".into(),
        ),
        (
            SYSTEM,
            "stop",
            change(|_| ()),
            "Not started: annotate the Trace with gadget.kinvolk.io/operation=start first".into(),
        ),
        (
            SYSTEM,
            "start",
            change(|s| s.filter = None),
            "Missing pod filter: set spec.filter.podname, or spec.filter.labels".into(),
        ),
        (
            SYSTEM,
            "start",
            change(|s| s.filter.as_mut().expect("a filter").container_name = "web".into()),
            format!("Container \"web\" not found in pod {shop}/cart-0: it has app and log"),
        ),
        (
            other,
            "start",
            change(|_| ()),
            format!(
                "A Trace in namespace \"{other}\" may only record pods of that namespace, not of \"{shop}\": create \
                 it in namespace \"{shop}\", or ask somebody who may write to namespace \"gadget\""
            ),
        ),
        (
            shop,
            "start",
            Box::new(move |s| {
                s.output_mode = OutputMode::ExternalResource;
                s.output = format!("{foreign}/p");
            }),
            format!("A Trace in namespace \"{shop}\" may only write to that namespace, not to \"{other}\""),
        ),
        (
            SYSTEM,
            "start",
            change(|s| {
                s.output_mode = OutputMode::File;
                s.output = "../../etc/passwd".into();
            }),
            "Invalid spec.output \"../../etc/passwd\": it must be a plain file name of letters, digits, -, _ and ., \
             beginning with a letter or digit"
                .into(),
        ),
        (
            SYSTEM,
            "start",
            change(|s| s.node = "ghost".into()),
            "Node \"ghost\" does not exist; set spec.node to one of the names that `kubectl get nodes` prints".into(),
        ),
    ]
}

#[tokio::test]
async fn what_cannot_be_is_answered_in_the_status() -> Result<()> {
    let scene = scene!();
    let node = &scene.node;
    scene.world.run(&scene.shop, "cart-0", "app");
    let other = names("bank");
    scene.cluster.namespace(&other).await?;
    for (namespace, operation, change, want) in refusals(&scene.shop, &other) {
        let mut spec = scene.spec();
        change(&mut spec);
        let trace = scene.trace_in(namespace, spec).await?;
        let status = trace.operate(operation, &[]).await?;
        assert_eq!(status.operation_error.as_deref(), Some(want.as_str()), "{operation}");
        assert_eq!((status.state, status.output), (None, None), "{want}");
        trace.released().await?;
        trace.delete().await?;
    }
    assert_eq!(scene.world.recorded(), [], "on {node}");
    assert_eq!(scene.world.started(), 0);
    scene.running.stop().await
}

#[tokio::test]
async fn a_pod_may_come_later_and_its_first_call_is_recorded() -> Result<()> {
    let scene = scene!();
    let mut spec = scene.spec();
    spec.filter.as_mut().expect("a filter").podname = "cart-9".into();
    let trace = scene.trace(spec).await?;
    let status = trace.operate("start", &[]).await?;
    let missing = format!("Pod {}/cart-9 not found on node {}", scene.shop, scene.node);
    assert_eq!(status.state, Some(State::Started));
    assert_eq!(
        status.operation_warning,
        Some(format!("{missing}; it will be recorded from its first call on"))
    );

    let status = trace.operate("generate", &[]).await?;
    assert_eq!(status.operation_warning, Some(format!("{missing}: nothing has been recorded yet")));

    // It lives for a moment, and is deleted at once.
    scene.world.pod(&scene.shop, "cart-9", &[], &["app"]);
    let id = scene.world.run(&scene.shop, "cart-9", "app");
    scene.world.call(&id, &[0]);
    scene.world.delete(&scene.shop, "cart-9");
    let status = trace.wait("document of what ended", |_, s| s.output.is_some()).await?;
    assert_eq!(names_in(status.output.as_ref())?, ["read"]);
    assert_eq!(status.operation_warning, None);
    let status = trace.operate("stop", &[]).await?;
    assert_eq!(names_in(status.output.as_ref())?, ["read"]);
    trace.delete().await?;

    let empty = scene.trace(TraceSpec { ..scene.spec() }).await?;
    empty.operate("start", &[]).await?;
    scene.world.delete(&scene.shop, "cart-0");
    let status = empty.operate("stop", &[]).await?;
    let gone = format!("Pod {}/cart-0 not found on node {}: nothing was recorded", scene.shop, scene.node);
    assert_eq!((status.operation_warning, status.state), (Some(gone), Some(State::Stopped)));
    scene.running.stop().await
}

#[tokio::test]
async fn several_containers_give_several_documents_or_one() -> Result<()> {
    let scene = scene!();
    let (app, log) =
        (scene.world.run(&scene.shop, "cart-0", "app"), scene.world.run(&scene.shop, "cart-0", "log"));
    scene.world.call(&app, &[0]);
    scene.world.call(&log, &[1]);
    let trace = scene.trace(scene.spec()).await?;
    trace.operate("start", &[]).await?;
    let status = trace.operate("generate", &[]).await?;
    assert_eq!(status.output, None);
    let found: Vec<_> =
        status.outputs.iter().map(|o| (o.container.as_str(), names_in(o.output.as_ref()).ok())).collect();
    let names = |name: &str| Some(vec![name.to_owned()]);
    assert_eq!(found, [("app", names("read")), ("log", names("write"))]);
    let shop = &scene.shop;
    let want = format!(
        "2 documents: {shop}/cart-0/app, {shop}/cart-0/log; see status.outputs, or set parameter merge=pod"
    );
    assert_eq!(status.operation_warning, Some(want));

    // A parameter of one operation.
    let status = trace.operate("generate", &[("merge", "pod")]).await?;
    assert_eq!(names_in(status.output.as_ref())?, ["read", "write"]);
    assert_eq!((status.outputs.len(), status.operation_warning), (1, None));
    assert_eq!(status.outputs[0].instances, [app, log]);

    let status = trace.operate("stop", &[("formatter", "table"), ("merge", "pod")]).await?;
    assert_eq!(status.output.as_deref(), Some("read\nwrite"));
    scene.running.stop().await
}

#[tokio::test]
async fn a_container_that_restarts_is_one() -> Result<()> {
    let scene = scene!();
    let trace = scene.trace(scene.app()).await?;
    trace.operate("start", &[]).await?;
    for call in [0, 1, 3] {
        let id = scene.world.run(&scene.shop, "cart-0", "app");
        scene.world.call(&id, &[call]);
        scene.world.end(&id);
        trace.wait("document of what ended", |_, s| s.outputs.iter().any(|o| o.ended.contains(&id))).await?;
    }
    let status = trace.operate("stop", &[]).await?;
    assert_eq!(names_in(status.output.as_ref())?, ["close", "read", "write"]);
    assert_eq!(status.outputs.len(), 1);
    scene.running.stop().await
}

#[tokio::test]
async fn what_was_lost_is_said() -> Result<()> {
    let scene = scene!();
    let app = scene.world.run(&scene.shop, "cart-0", "app");
    scene.world.call(&app, &[0]);
    scene.world.lose(&app, Loss::MissedEvents(7));
    let trace = scene.trace(scene.app()).await?;
    trace.operate("start", &[]).await?;
    let status = trace.operate("generate", &[]).await?;
    let want = "incomplete: 7 events that the kernel did not deliver";
    assert_eq!(status.outputs[0].warning.as_deref(), Some(want));
    assert_eq!(conditions(&status)[0], "Complete=False Incomplete");
    assert_eq!(status.operation_warning, Some(format!("{}/cart-0/app: {want}", scene.shop)));
    scene.running.stop().await
}

#[tokio::test]
async fn a_gadget_that_fails_is_named_and_what_there_was_stays() -> Result<()> {
    let scene = scene!();
    let app = scene.world.run(&scene.shop, "cart-0", "app");
    let trace = scene.trace(scene.app()).await?;
    trace.operate("start", &[]).await?;
    // Nothing was recorded yet: no document, and never an empty policy.
    let status = trace.operate("generate", &[]).await?;
    let empty = "no system call was recorded: there is no document";
    assert_eq!((status.output, status.operation_error), (None, None));
    assert_eq!(status.operation_warning, Some(format!("{}/cart-0/app: {empty}", scene.shop)));

    scene.world.call(&app, &[0]);
    trace.operate("generate", &[]).await?;
    let status = trace.operate("generate", &[("formatter", "fax")]).await?;
    let want = format!(
        "{}/cart-0/app: gadget seccomp failed: unknown formatter fax: there are oci and table",
        scene.shop
    );
    assert_eq!(status.operation_error, Some(want));
    assert_eq!(names_in(status.output.as_ref())?, ["read"]);
    let status = trace.operate("generate", &[]).await?;
    assert_eq!(status.operation_error, None);
    scene.running.stop().await
}

#[tokio::test]
async fn a_stream_has_a_document_for_every_end_and_keeps_the_newest() -> Result<()> {
    let scene = scene!();
    let trace = scene.trace(TraceSpec { output_mode: OutputMode::Stream, ..scene.app() }).await?;
    trace.operate("start", &[]).await?;
    let uid = trace.get().await?.uid().expect("a uid");
    let mut last = 0;
    for round in 0..40_u32 {
        let id = scene.world.run(&scene.shop, "cart-0", "app");
        scene.world.call(&id, &[round]);
        scene.world.end(&id);
        let status = trace
            .wait("document of what ended", |_, s| s.outputs.iter().any(|o| o.instances.contains(&id)))
            .await?;
        let newest = status.outputs.iter().map(|o| o.sequence).max().expect("one");
        assert!(newest > last, "{newest} is no later than {last}");
        last = newest;
    }
    // What was written down is no longer held in the kernel.
    until("release of what ended", || scene.world.held(&uid) == 0).await?;
    let status = trace
        .wait("count of what made room", |_, s| s.progress.as_ref().is_some_and(|p| p.dropped == 8))
        .await?;
    assert_eq!(status.outputs.len(), 32);
    let status = trace.operate("stop", &[]).await?;
    assert_eq!((status.outputs.len(), status.progress.map(|p| p.dropped)), (32, Some(8)));
    scene.running.stop().await
}

#[tokio::test]
async fn files_are_written_into_the_folder_of_the_namespace() -> Result<()> {
    let scene = scene!();
    let (app, log) =
        (scene.world.run(&scene.shop, "cart-0", "app"), scene.world.run(&scene.shop, "cart-0", "log"));
    scene.world.call(&app, &[0]);
    scene.world.call(&log, &[1]);
    let shop = &scene.shop;
    // spec.output, container, formatter → files
    let rows: [(&str, &str, &str, Vec<String>); 4] = [
        ("cart", "app", "oci", vec![format!("gadget/{shop}/cart.json")]),
        (
            "cart.json",
            "",
            "oci",
            vec![format!("gadget/{shop}/cart_app.json"), format!("gadget/{shop}/cart_log.json")],
        ),
        ("", "app", "oci", vec![format!("gadget/{shop}/cart-0.json")]),
        ("cart", "app", "table", vec![format!("gadget/{shop}/cart.txt")]),
    ];
    for (output, container, formatter, want) in rows {
        let mut spec = TraceSpec { output_mode: OutputMode::File, output: output.into(), ..scene.spec() };
        spec.filter.as_mut().expect("a filter").container_name = container.into();
        spec.parameters.insert("formatter".into(), formatter.into());
        let trace = scene.trace_in(shop, spec).await?;
        trace.operate("start", &[]).await?;
        let status = trace.operate("stop", &[]).await?;
        assert_eq!(status.operation_error, None, "{output:?}");
        let paths: Vec<_> = status.outputs.iter().filter_map(|o| o.localhost_profile.clone()).collect();
        assert_eq!((paths, status.output), (want.clone(), None));
        let files = scene.files.all();
        assert!(want.iter().all(|path| files.contains_key(path)), "{files:?}");
        trace.delete().await?;
    }
    scene.running.stop().await
}

#[tokio::test]
async fn a_recording_ends_at_its_timeout() -> Result<()> {
    let scene = scene!();
    let app = scene.world.run(&scene.shop, "cart-0", "app");
    scene.world.call(&app, &[0]);
    let trace = scene.trace(scene.app()).await?;
    trace.operate("start", &[("timeout", "1s")]).await?;
    let status = trace.wait("end", |_, s| s.state == Some(State::Completed)).await?;
    assert_eq!(names_in(status.output.as_ref())?, ["read"]);
    assert_eq!(conditions(&status)[1], "Ready=False Completed");
    trace.released().await?;
    assert_eq!(scene.world.recorded(), []);
    scene.running.stop().await
}

#[tokio::test]
async fn progress_is_told_while_it_records() -> Result<()> {
    let scene = scene!();
    let trace = scene.trace(scene.spec()).await?;
    trace.operate("start", &[]).await?;
    let app = scene.world.run(&scene.shop, "cart-0", "app");
    scene.world.call(&app, &[0, 1, 2]);
    let status = trace
        .wait("progress", |_, s| s.progress.as_ref().is_some_and(|p| p.containers == 1 && p.syscalls == 3))
        .await?;
    assert!(status.progress.is_some_and(|p| p.last_new.is_some()));
    // Where nothing changes, nothing is written.
    let version = trace.get().await?.resource_version();
    for _ in 0..5 {
        tokio::time::sleep(settings(&scene.node).poll_interval).await;
    }
    assert_eq!(trace.get().await?.resource_version(), version);
    scene.running.stop().await
}

#[tokio::test]
async fn two_traces_of_one_pod_see_the_same() -> Result<()> {
    let scene = scene!();
    let app = scene.world.run(&scene.shop, "cart-0", "app");
    let (one, two) = (scene.trace(scene.app()).await?, scene.trace_in(&scene.shop, scene.app()).await?);
    tokio::try_join!(one.operate("start", &[]), two.operate("start", &[]))?;
    scene.world.call(&app, &[0, 1]);
    let (first, second) = tokio::try_join!(one.operate("generate", &[]), two.operate("generate", &[]))?;
    assert_eq!(
        (first.output.as_ref(), names_in(second.output.as_ref())?),
        (second.output.as_ref(), vec!["read".into(), "write".into()])
    );
    // The end of one is not the end of the other.
    one.operate("stop", &[]).await?;
    one.delete().await?;
    scene.world.call(&app, &[3]);
    let status = two.operate("generate", &[]).await?;
    assert_eq!(names_in(status.output.as_ref())?, ["close", "read", "write"]);
    two.delete().await?;
    until("end of the recordings", || scene.world.recorded().is_empty()).await?;
    scene.running.stop().await
}

#[tokio::test]
async fn two_hundred_traces() -> Result<()> {
    let scene = scene!();
    let one = async |number: u32| -> Result<()> {
        let pod = format!("pod-{number}");
        scene.world.pod(&scene.shop, &pod, &[], &["app"]);
        let id = scene.world.run(&scene.shop, &pod, "app");
        scene.world.call(&id, &[number]);
        let trace = scene.trace(spec(&scene.node, &scene.shop, &pod)).await?;
        trace.operate("start", &[]).await?;
        let status = trace.operate("generate", &[]).await?;
        assert_eq!(names_in(status.output.as_ref())?.len(), 1);
        Ok(())
    };
    all(20, (0..200).map(one)).await?;
    assert_eq!(scene.world.recorded().len(), 200);
    let traces = scene.cluster.trace(SYSTEM, "").api;
    let mine = |t: &Trace| t.spec.node == scene.node;
    let names: Vec<_> =
        traces.list(&ListParams::default()).await?.into_iter().filter(mine).map(|t| t.name_any()).collect();
    assert_eq!(names.len(), 200);
    all(20, names.iter().map(|name| async { scene.cluster.trace(SYSTEM, name).delete().await })).await?;
    until("end of the recordings", || scene.world.recorded().is_empty()).await?;
    scene.running.stop().await
}

#[tokio::test]
async fn a_recorder_that_cannot_is_answered_for_and_one_that_cannot_now_is_asked_again() -> Result<()> {
    let scene = scene!();
    let trace = scene.trace(scene.spec()).await?;
    scene.world.break_down(Some(NodeError::Unavailable("not yet".into())));
    trace.annotate("start", &[]).await?;
    // It was taken, and waits.
    trace.wait("claim", |t, _| !t.annotations().contains_key(gadgetd_kube::OPERATION)).await?;
    assert_eq!(trace.get().await?.status, None);
    scene.world.break_down(None);
    let status = trace.done("start").await?;
    assert_eq!((status.state, status.operation_error), (Some(State::Started), None));
    let status = trace.operate("stop", &[]).await?;
    assert_eq!(status.state, Some(State::Stopped));
    scene.world.refuse_to_start(Some("no BTF on this kernel"));
    let status = trace.operate("start", &[]).await?;
    assert_eq!((status.state, status.operation_error.as_deref()), (None, Some("no BTF on this kernel")));
    trace.released().await?;
    scene.world.refuse_to_start(None);
    let status = trace.operate("start", &[]).await?;
    assert_eq!((status.state, status.operation_error), (Some(State::Started), None));
    scene.running.stop().await
}

#[tokio::test]
async fn what_is_deleted_without_its_finalizer_is_given_up_too() -> Result<()> {
    let scene = scene!();
    let trace = scene.trace(scene.spec()).await?;
    trace.operate("start", &[]).await?;
    // Somebody is in a hurry while the node is away.
    scene.running.stop().await?;
    let patch = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    trace.api.patch(&trace.name, &PatchParams::default(), &patch).await?;
    trace.delete().await?;
    assert_eq!(scene.world.recorded().len(), 1);
    let running = scene.cluster.run(settings(&scene.node), &scene.world, &scene.files);
    until("end of the recording", || scene.world.recorded().is_empty()).await?;
    running.stop().await
}

#[tokio::test]
async fn a_recording_goes_on_over_a_restart() -> Result<()> {
    let scene = scene!();
    let app = scene.world.run(&scene.shop, "cart-0", "app");
    scene.world.call(&app, &[0]);
    let trace = scene.trace(scene.app()).await?;
    trace.operate("start", &[]).await?;
    scene.running.kill().await;
    scene.world.call(&app, &[1]);
    trace.annotate("stop", &[]).await?;
    let running = scene.cluster.run(settings(&scene.node), &scene.world, &scene.files);
    let status = trace.done("stop").await?;
    assert_eq!(names_in(status.output.as_ref())?, ["read", "write"]);
    assert_eq!(scene.world.started(), 1);
    running.stop().await
}
