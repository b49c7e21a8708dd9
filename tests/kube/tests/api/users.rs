//! A user who may write Traces in one namespace can reach no other through them.

use anyhow::Result;
use gadgetd_e2e::{User, eventually};
use gadgetd_kube::{OutputMode, State, Trace, TraceFilter, TraceSpec};
use gadgetd_kube_tests::{
    Cluster, Files, LIMIT, SYSTEM, Tracing, World, make, names, names_in, settings, spec,
};
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use serde_json::json;

fn is_forbidden<T>(answer: Result<T, kube::Error>) -> bool {
    matches!(answer, Err(kube::Error::Api(status)) if status.is_forbidden())
}

#[tokio::test]
async fn a_user_of_one_namespace_stays_in_it() -> Result<()> {
    let Some(cluster) = Cluster::shared().await? else { return Ok(()) };
    let (node, shop, bank) = (names("node"), names("shop"), names("bank"));
    let (node, shop, bank) = (node.as_str(), shop.as_str(), bank.as_str());
    cluster.node(node).await?;
    let (world, files) = (World::new(node), Files::default());
    for namespace in [shop, bank] {
        cluster.namespace(namespace).await?;
        world.pod(namespace, "pod", &[("app", "x")], &["app"]);
        let id = world.run(namespace, "pod", "app");
        world.call(&id, if namespace == shop { &[0] } else { &[1] });
    }
    let running = cluster.run(settings(node), &world, &files);
    let binding = json!({
        "metadata": { "name": "ada" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "gadget-user" },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "ada" }],
    });
    make(&Api::<RoleBinding>::namespaced(cluster.admin.clone(), shop), binding).await?;
    let ada = cluster.server().client(&User::new("ada")).await?;
    let hers = Api::<Trace>::namespaced(ada.clone(), shop);
    eventually("right to list", LIMIT, async || hers.list(&ListParams::default()).await).await?;

    // Not where others' Traces are.
    for namespace in [bank, SYSTEM] {
        let api = Api::<Trace>::namespaced(ada.clone(), namespace);
        assert!(is_forbidden(
            api.create(&PostParams::default(), &Trace::new("t", spec(node, bank, "pod"))).await
        ));
    }
    // Nor the status: it is the runtime's.
    let trace = Tracing { api: hers.clone(), name: "hers".into() };
    trace.create(spec(node, shop, "pod")).await?;
    let forged = Patch::Merge(json!({ "status": { "output": "{}" } }));
    assert!(is_forbidden(hers.patch_status("hers", &PatchParams::default(), &forged).await));

    // Her own pods she may record, and sees no others.
    trace.operate("start", &[]).await?;
    let status = trace.operate("stop", &[]).await?;
    assert_eq!(names_in(status.output.as_ref())?, ["read"]);

    // However she asks for the others: by namespace, by label, without a namespace, or for what was taken already.
    let filter = |namespace: &str, podname: &str, labels: &[(&str, &str)]| TraceFilter {
        namespace: namespace.into(),
        podname: podname.into(),
        labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        ..TraceFilter::default()
    };
    for (name, filter) in [
        ("by-namespace", filter(bank, "pod", &[])),
        ("by-label", filter(bank, "", &[("app", "x")])),
        ("taken", filter(bank, "pod", &[])),
    ] {
        let trace = Tracing { api: hers.clone(), name: name.into() };
        trace.create(TraceSpec { filter: Some(filter), ..spec(node, "", "") }).await?;
        if name == "taken" {
            let accepted = json!({ "id": 1, "operation": "start", "start": 1 }).to_string();
            let forged = json!({ "metadata": { "annotations": { gadgetd_kube::ACCEPTED: accepted } } });
            hers.patch(name, &PatchParams::default(), &Patch::Merge(forged)).await?;
        } else {
            trace.annotate("start", &[]).await?;
        }
        let status = trace.done("start").await?;
        let error = status.operation_error.unwrap_or_default();
        assert!(
            error.contains(&format!("may only record pods of that namespace, not of \"{bank}\"")),
            "{name}: {error}"
        );
        assert_eq!(status.state, None);
    }
    let trace = Tracing { api: hers.clone(), name: "everywhere".into() };
    trace.create(TraceSpec { filter: Some(filter("", "", &[("app", "x")])), ..spec(node, "", "") }).await?;
    trace.operate("start", &[]).await?;
    let status = trace.operate("stop", &[]).await?;
    assert_eq!(status.state, Some(State::Stopped));
    assert_eq!(status.outputs.len(), 1);
    assert_eq!(names_in(status.output.as_ref())?, ["read"]);

    // Files go into the folder of her namespace, whatever she calls them.
    let file = |output: &str| TraceSpec {
        output_mode: OutputMode::File,
        output: output.into(),
        ..spec(node, shop, "pod")
    };
    for (name, output, fine) in
        [("f1", "p", true), ("f2", "../other/p", false), ("f3", "/etc/p", false), ("f4", "a/b", false)]
    {
        let trace = Tracing { api: hers.clone(), name: name.into() };
        trace.create(file(output)).await?;
        let status = trace.operate("start", &[]).await?;
        assert_eq!(status.operation_error.is_none(), fine, "{output}: {status:?}");
        if fine {
            trace.operate("stop", &[]).await?;
        }
    }
    assert_eq!(files.all().into_keys().collect::<Vec<_>>(), [format!("gadget/{shop}/p.json")]);

    // Nor does what she changes while it records.
    let trace = Tracing { api: hers.clone(), name: "changed".into() };
    trace.create(spec(node, shop, "pod")).await?;
    trace.operate("start", &[]).await?;
    let patch = Patch::Merge(json!({ "spec": { "filter": { "namespace": bank } } }));
    hers.patch("changed", &PatchParams::default(), &patch).await?;
    let status = trace.operate("stop", &[]).await?;
    assert_eq!(names_in(status.output.as_ref())?, ["read"]);
    running.stop().await
}
