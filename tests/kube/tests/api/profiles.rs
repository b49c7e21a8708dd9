//! Output mode `ExternalResource`, with the definitions of every release of the operator one after the other.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use gadgetd_e2e::eventually;
use gadgetd_kube::{OutputMode, TraceSpec, TraceStatus};
use gadgetd_kube_tests::{
    Cluster, Files, LIMIT, SYSTEM, Tracing, World, make, names, settings, spec,
    spo::{self, Release, releases},
};
use k8s_openapi::{
    api::apps::v1::{Deployment, ReplicaSet},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{
    Api, ResourceExt as _,
    api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::json;

/// The profiles of a cluster.
struct Profiles {
    kind: ApiResource,
    namespaced: bool,
}

impl Profiles {
    fn of(release: &Release) -> Self {
        let version = release.version;
        let kind = ApiResource {
            group: spo::GROUP.into(),
            version: version.into(),
            api_version: format!("{}/{version}", spo::GROUP),
            kind: spo::KIND.into(),
            plural: spo::PLURAL.into(),
        };
        Self { kind, namespaced: release.namespaced }
    }

    fn api(&self, cluster: &Cluster, namespace: &str) -> Api<DynamicObject> {
        if self.namespaced {
            Api::namespaced_with(cluster.admin.clone(), namespace, &self.kind)
        } else {
            Api::all_with(cluster.admin.clone(), &self.kind)
        }
    }

    /// The name of a profile of a namespace.
    fn name(&self, namespace: &str, name: &str) -> String {
        if self.namespaced { name.into() } else { format!("{namespace}.{name}") }
    }

    /// As a status says it.
    fn resource(&self, namespace: &str, name: &str) -> String {
        format!("{namespace}{}{name}", if self.namespaced { '/' } else { '.' })
    }

    async fn all(&self, cluster: &Cluster) -> Result<Vec<DynamicObject>> {
        let all = Api::<DynamicObject>::all_with(cluster.admin.clone(), &self.kind);
        Ok(all.list(&ListParams::default()).await?.items)
    }
}

fn resources(status: &TraceStatus) -> Vec<&str> {
    status.outputs.iter().filter_map(|o| o.resource.as_deref()).collect()
}

struct Scene {
    cluster: Cluster,
    node: String,
    world: World,
}

impl Scene {
    fn spec(&self, namespace: &str, pod: &str, output: &str) -> TraceSpec {
        let output_mode = OutputMode::ExternalResource;
        TraceSpec { output_mode, output: output.into(), ..spec(&self.node, namespace, pod) }
    }

    async fn trace(&self, namespace: &str, spec: TraceSpec) -> Result<Tracing> {
        let trace = self.cluster.trace(namespace, &names("trace"));
        trace.create(spec).await?;
        trace.operate("start", &[]).await?;
        Ok(trace)
    }

    /// A pod with one container that made calls.
    async fn pod(&self, namespace: &str, pod: &str, calls: &[u32]) -> Result<String> {
        self.cluster.namespace(namespace).await?;
        self.world.pod(namespace, pod, &[], &["app"]);
        let id = self.world.run(namespace, pod, "app");
        self.world.call(&id, calls);
        Ok(id)
    }
}

#[tokio::test]
async fn every_release_gets_profiles_that_it_accepts() -> Result<()> {
    let Some(cluster) = Cluster::own().await? else { return Ok(()) };
    let node = names("node");
    cluster.node(&node).await?;
    let (world, files) = (World::new(&node), Files::default());
    let running = cluster.run(settings(&node), &world, &files);
    let scene = Scene { cluster, node, world };

    without_the_operator(&scene).await?;
    for release in releases()? {
        eprintln!("with the definition of {}", release.name);
        scene.cluster.install(&release.crd).await?;
        let profiles = Profiles::of(&release);
        one_profile(&scene, &profiles).await?;
        names_that_are_taken(&scene, &profiles).await?;
        several_containers(&scene, &profiles).await?;
        owners(&scene, &profiles).await?;
        only_in_its_own_namespace(&scene, &profiles).await?;
        what_no_profile_can_say(&scene, &profiles).await?;
        remove(&scene.cluster, &release).await?;
    }
    running.stop().await
}

async fn without_the_operator(scene: &Scene) -> Result<()> {
    let shop = names("shop");
    scene.pod(&shop, "cart-0", &[0]).await?;
    let trace = scene.trace(SYSTEM, scene.spec(&shop, "cart-0", "")).await?;
    let status = trace.operate("stop", &[]).await?;
    let want = format!(
        "{shop}/cart-0/app: gadget seccomp failed: the cluster has no SeccompProfile objects: install the Security \
         Profiles Operator"
    );
    assert_eq!(status.operation_error, Some(want));
    trace.delete().await
}

async fn one_profile(scene: &Scene, profiles: &Profiles) -> Result<()> {
    let shop = names("shop");
    let id = scene.pod(&shop, "hello-python", &[0, 1]).await?;
    let trace =
        scene.trace(SYSTEM, scene.spec(&shop, "hello-python", &format!("{shop}/hello-profile"))).await?;
    let status = trace.operate("generate", &[]).await?;
    assert_eq!(status.operation_error, None);
    let resource = profiles.resource(&shop, "hello-profile");
    assert_eq!(resources(&status), [&resource]);
    let path = format!("operator/{resource}.json");
    assert_eq!(status.outputs[0].localhost_profile, Some(path));

    let name = profiles.name(&shop, "hello-profile");
    let profile = profiles.api(&scene.cluster, &shop).get(&name).await?;
    assert_eq!(
        profile.data["spec"]["syscalls"][0]["names"],
        json!([
            "clock_getres",
            "clock_gettime",
            "execve",
            "exit",
            "exit_group",
            "getcpu",
            "gettimeofday",
            "read",
            "restart_syscall",
            "rt_sigreturn",
            "time",
            "write"
        ])
    );
    assert_eq!(profile.data["spec"]["defaultAction"], "SCMP_ACT_ERRNO");
    let annotation = |name: &str| profile.annotations()[&format!("seccomp.gadget.kinvolk.io/{name}")].clone();
    assert_eq!(annotation("trace"), format!("{SYSTEM}/{}", trace.name));
    assert_eq!(annotation("node"), scene.node);
    assert_eq!(annotation("pod"), format!("{shop}/hello-python"));
    assert_eq!(annotation("container"), "app");
    assert_eq!(profile.owner_references(), []);

    // The same again is the same object: when the container ends, and at the stop.
    scene.world.end(&id);
    let ended = |s: &TraceStatus| s.outputs.iter().any(|o| o.ended.contains(&id));
    let status = trace.wait("document of what ended", |_, s| ended(s)).await?;
    assert_eq!(resources(&status), [&resource]);
    let status = trace.operate("stop", &[]).await?;
    assert_eq!(resources(&status), [&resource]);
    // The profile stays when the Trace goes.
    trace.delete().await?;
    assert_eq!(profiles.api(&scene.cluster, &shop).get(&name).await?.uid(), profile.uid());
    Ok(())
}

async fn names_that_are_taken(scene: &Scene, profiles: &Profiles) -> Result<()> {
    // Somebody's own profile, of the same name.
    let shop = names("shop");
    let id = scene.pod(&shop, "cart-0", &[0]).await?;
    let api = profiles.api(&scene.cluster, &shop);
    let mut own = DynamicObject::new(&profiles.name(&shop, "p"), &profiles.kind);
    own.data = json!({ "spec": { "defaultAction": "SCMP_ACT_LOG" } });
    api.create(&PostParams::default(), &own).await?;
    let trace = scene.trace(&shop, scene.spec("", "cart-0", "p")).await?;
    let status = trace.operate("generate", &[]).await?;
    assert_eq!(resources(&status), [profiles.resource(&shop, "p-2")]);
    assert_eq!(api.get(&own.name_any()).await?.data["spec"]["defaultAction"], "SCMP_ACT_LOG");
    // What is in force is never changed: more calls are a new profile.
    scene.world.call(&id, &[1]);
    let status = trace.operate("stop", &[]).await?;
    assert_eq!(resources(&status), [profiles.resource(&shop, "p-3")]);

    // Where names are joined, two are never one: `b-p` of `a`, and `p` of `a-b`.
    let (left, right) = (names("a"), names("b"));
    let joined = format!("{left}-{right}");
    scene.pod(&left, "pod", &[0]).await?;
    scene.pod(&joined, "pod", &[1]).await?;
    let one = scene.trace(&left, scene.spec("", "pod", &format!("{right}-p"))).await?;
    let two = scene.trace(&joined, scene.spec("", "pod", "p")).await?;
    let (one, two) = (one.operate("stop", &[]).await?, two.operate("stop", &[]).await?);
    assert_eq!(resources(&one), [profiles.resource(&left, &format!("{right}-p"))]);
    assert_eq!(resources(&two), [profiles.resource(&joined, "p")]);
    Ok(())
}

async fn several_containers(scene: &Scene, profiles: &Profiles) -> Result<()> {
    let shop = names("shop");
    scene.cluster.namespace(&shop).await?;
    scene.world.pod(&shop, "cart-0", &[], &["init", "app"]);
    for (name, call) in [("init", 0), ("app", 1)] {
        let id = scene.world.run(&shop, "cart-0", name);
        scene.world.call(&id, &[call]);
    }
    // spec.output, parameters → names
    let rows = [
        ("p", None, vec!["p-init", "p-app"]),
        ("", None, vec!["cart-0-init", "cart-0-app"]),
        ("", Some(("profile-prefix", "web")), vec!["web-cart-0-init", "web-cart-0-app"]),
        ("q", Some(("merge", "pod")), vec!["q"]),
    ];
    for (output, parameter, want) in rows {
        let trace = scene.trace(&shop, scene.spec("", "cart-0", output)).await?;
        let status = trace.operate("stop", parameter.as_slice()).await?;
        assert_eq!(status.operation_error, None);
        let want: Vec<_> = want.iter().map(|name| profiles.resource(&shop, name)).collect();
        assert_eq!(resources(&status), want);
    }
    Ok(())
}

async fn owners(scene: &Scene, profiles: &Profiles) -> Result<()> {
    let shop = names("shop");
    let id = scene.pod(&shop, "cart-0", &[0]).await?;
    let template = json!({
        "metadata": { "labels": { "a": "b" } },
        "spec": { "containers": [{ "name": "app", "image": "x" }] },
    });
    let body = |name: &str, owners: serde_json::Value| {
        json!({
            "metadata": { "name": name, "ownerReferences": owners },
            "spec": { "selector": { "matchLabels": { "a": "b" } }, "template": template },
        })
    };
    let deployments = Api::<Deployment>::namespaced(scene.cluster.admin.clone(), &shop);
    let deployment = make(&deployments, body("cart", json!([]))).await?;
    let owner = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "name": "cart", "uid": deployment.uid(), "controller": true,
    });
    let sets = Api::<ReplicaSet>::namespaced(scene.cluster.admin.clone(), &shop);
    let set = make(&sets, body("cart-1", json!([owner]))).await?;
    scene.world.own(
        &id,
        &OwnerReference {
            api_version: "apps/v1".into(),
            kind: "ReplicaSet".into(),
            name: "cart-1".into(),
            uid: set.uid().unwrap_or_default(),
            controller: Some(true),
            ..OwnerReference::default()
        },
    );
    let trace = scene.trace(&shop, scene.spec("", "cart-0", "p")).await?;
    trace.operate("stop", &[]).await?;
    let profile = profiles.api(&scene.cluster, &shop).get(&profiles.name(&shop, "p")).await?;
    let found: Vec<_> =
        profile.owner_references().iter().map(|o| (o.kind.as_str(), Some(o.uid.clone()))).collect();
    // The owner of an object without a namespace can have none either.
    let want = if profiles.namespaced { vec![("Deployment", deployment.uid())] } else { vec![] };
    assert_eq!(found, want);
    Ok(())
}

async fn only_in_its_own_namespace(scene: &Scene, profiles: &Profiles) -> Result<()> {
    let (shop, bank) = (names("shop"), names("bank"));
    scene.pod(&shop, "cart-0", &[0]).await?;
    scene.cluster.namespace(&bank).await?;
    let trace = scene.trace(&shop, scene.spec("", "cart-0", &format!("{shop}/p"))).await?;
    // It was fine when the recording began.
    let patch = Patch::Merge(json!({ "spec": { "output": format!("{bank}/p") } }));
    trace.api.patch(&trace.name, &PatchParams::default(), &patch).await?;
    let status = trace.operate("stop", &[]).await?;
    let error = status.operation_error.unwrap_or_default();
    assert!(
        error.ends_with(&format!(
            "A Trace in namespace \"{shop}\" may only write to that namespace, not to \"{bank}\""
        )),
        "{error}"
    );
    let all = profiles.all(&scene.cluster).await?;
    assert!(!all.iter().any(|p| p.namespace() == Some(bank.clone()) || p.name_any().starts_with(&bank)));
    Ok(())
}

async fn what_no_profile_can_say(scene: &Scene, profiles: &Profiles) -> Result<()> {
    let shop = names("shop");
    scene.pod(&shop, "cart-0", &[0]).await?;
    let trace = scene.trace(&shop, scene.spec("", "cart-0", "p")).await?;
    let status = trace.operate("generate", &[("default-errno", "38")]).await?;
    let want = format!(
        "{shop}/cart-0/app: formatter spo cannot write the policy: a SeccompProfile has no field for the default errno \
         38; leave it out, and it is EPERM"
    );
    assert_eq!(status.operation_error.as_ref(), Some(&want));
    assert_eq!(resources(&status), [""; 0]);
    // EPERM is what it means anyway.
    let status = trace.operate("stop", &[("default-errno", "1")]).await?;
    assert_eq!(status.operation_error, None);
    assert_eq!(resources(&status), [profiles.resource(&shop, "p")]);
    Ok(())
}

/// Takes a definition away, and waits until it is gone.
async fn remove(cluster: &Cluster, release: &Release) -> Result<()> {
    let crds = Api::<CustomResourceDefinition>::all(cluster.admin.clone());
    let name = release.crd.name_any();
    crds.delete(&name, &DeleteParams::default()).await?;
    eventually("end of the definition", LIMIT, async || match crds.get_opt(&name).await? {
        None => Ok(()),
        Some(crd) => bail!("{:?}", crd.status),
    })
    .await?;
    eventually("end of its objects", Duration::from_mins(2), async || {
        let groups = cluster.admin.list_api_groups().await?;
        ensure!(!groups.groups.iter().any(|g| g.name == spo::GROUP), "still served");
        Ok(())
    })
    .await
}
