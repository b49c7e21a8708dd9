//! Gadget objects: modules in every language, out of a real registry, installed on a node, that do on the cluster what they
//! are granted.

mod support;

use std::{fs, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use gadgetd_core::kube::KubeApi;
use gadgetd_e2e::eventually;
use gadgetd_host::{Host, HostConfig, Limits, ModuleRef, PublicKey};
use gadgetd_kube::{Call, Gadget, GadgetStatus, OutputMode, TraceSpec, TraceStatus, adapter::KubeAdapter};
use gadgetd_kube_tests::{Cluster, Files, LIMIT, Running, SYSTEM, World, make, names, settings, spec};
use gadgetd_node::HostRunner;
use gadgetd_registry::{About, Client, Config, Credentials, PrivateKey, Reference};
use gadgetd_registry_tests::Registry;
use k8s_openapi::{
    api::rbac::v1::{Role, RoleBinding},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use support::project::Project;
use tempfile::TempDir;

/// The kind that the module works on.
fn things() -> Result<CustomResourceDefinition> {
    Ok(serde_json::from_value(json!({
        "metadata": { "name": "things.test.gadgetd" },
        "spec": {
            "group": "test.gadgetd",
            "scope": "Namespaced",
            "names": { "plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList" },
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": { "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } },
            }],
        },
    }))?)
}

/// A registry, and who signs what is in it.
struct Shop {
    registry: Registry,
    key: PrivateKey,
}

/// A module in it, signed.
struct Shipped {
    image: String,
    key: PublicKey,
}

impl Shop {
    fn open() -> Self {
        Self { registry: Registry::start(), key: PrivateKey::generate() }
    }

    async fn ship(&self, name: &str, component: Vec<u8>) -> Result<Shipped> {
        let client = Client::new(config());
        let text = format!("{}/{name}:1", self.registry.address());
        let about = About { name: name.into(), ..About::default() };
        let digest = client.push(&Reference::parse(&text)?, component, &about).await?;
        let image = format!("{text}@{digest}");
        client.sign(&Reference::parse(&image)?, &self.key).await?;
        Ok(Shipped { image, key: self.key.public() })
    }
}

impl Shipped {
    fn spec(&self, grants: &Value) -> Value {
        json!({ "source": { "image": self.image }, "keys": [self.key.to_pem()], "grants": grants })
    }
}

/// The gadget that makes the calls that it is told, in each language that there are tools for.
fn callers() -> Result<Vec<(&'static str, Vec<u8>)>> {
    let mut callers = vec![("rust", gadgetd_guests::caller("get list create apply"))];
    for language in ["python", "js", "c"] {
        let project = Project::guest(language);
        if let Some(ModuleRef::File(file)) = project.build() {
            callers.push((language, fs::read(file)?));
        }
    }
    Ok(callers)
}

fn config() -> Config {
    Config { credentials: Credentials::None, ..Config::default() }
}

/// A node with the real host, and Gadget objects.
struct Node {
    name: String,
    world: World,
    running: Running,
    _cache: TempDir,
}

impl Node {
    async fn start(cluster: &Cluster) -> Result<Self> {
        let name = names("node");
        cluster.node(&name).await?;
        let world = World::new(&name);
        let cache = tempfile::tempdir()?;
        // The machine may be busy; a component made from Python is large.
        let limits = Limits { compile: Duration::from_mins(10), ..Limits::default() };
        let host = Host::new(HostConfig {
            limits,
            cache_dir: Some(cache.path().to_owned()),
            registry: Some(Arc::new(Client::new(config()))),
        })?;
        let (calls, settings) = (cluster.runtime.clone(), settings(&name));
        let deadline = settings.request_timeout;
        let connect = move |manager: &str| -> Arc<dyn KubeApi> {
            Arc::new(KubeAdapter::new(calls.clone(), manager, deadline))
        };
        let runner = HostRunner::new(host, connect).await?;
        let running = cluster.run_gadgets(settings, &world, &Files::default(), runner);
        Ok(Self { name, world, running, _cache: cache })
    }
}

async fn install(cluster: &Cluster, name: &str, spec: &Value) -> Result<()> {
    let object = json!({
        "apiVersion": "gadget.kinvolk.io/v1alpha1", "kind": "Gadget", "metadata": { "name": name }, "spec": spec,
    });
    let params = PatchParams::apply("tests").force();
    gadgets(cluster).patch(name, &params, &Patch::Apply(object)).await?;
    Ok(())
}

fn gadgets(cluster: &Cluster) -> Api<Gadget> {
    Api::all(cluster.admin.clone())
}

/// The status, once it is about what the object says now and has this `Ready`.
async fn settled(cluster: &Cluster, name: &str, ready: &str) -> Result<GadgetStatus> {
    eventually("status of a Gadget", LIMIT, async || {
        let object = gadgets(cluster).get(name).await?;
        let generation = object.metadata.generation;
        let status = object.status.context("no status")?;
        let condition = status.conditions.iter().find(|c| c.type_ == "Ready").context("no condition")?;
        ensure!(condition.observed_generation == generation && condition.status == ready, "{condition:?}");
        Ok(status)
    })
    .await
}

#[tokio::test]
async fn gadgets_out_of_a_registry_do_what_they_are_granted_in_every_language() -> Result<()> {
    // One of its own: every node of a cluster looks at every Gadget.
    let Some(cluster) = Cluster::own().await? else { return Ok(()) };
    cluster.install(&things()?).await?;
    let (shop, node) = (Shop::open(), Node::start(&cluster).await?);
    for (language, component) in callers()? {
        let shipped = shop.ship(language, component).await?;
        grants(&cluster, &node, &shipped).await.with_context(|| format!("in {language}"))?;
    }
    node.running.stop().await
}

/// One grant after the other.
#[allow(clippy::too_many_lines)]
async fn grants(cluster: &Cluster, node: &Node, shipped: &Shipped) -> Result<()> {
    let [shop, bank, gadget] = ["shop", "bank", "caller"].map(names);
    for namespace in [&shop, &bank] {
        cluster.namespace(namespace).await?;
    }
    // The runtime may work on things of the shop; a grant alone gives nobody a right that the runtime has not.
    let allowed = json!({ "apiGroups": ["test.gadgetd"], "resources": ["things"], "verbs": ["*"] });
    let role = json!({ "metadata": { "name": "things" }, "rules": [allowed] });
    make(&Api::<Role>::namespaced(cluster.admin.clone(), &shop), role).await?;
    let binding = json!({
        "metadata": { "name": "things" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "things" },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "gadgetd" }],
    });
    make(&Api::<RoleBinding>::namespaced(cluster.admin.clone(), &shop), binding).await?;

    let grant = |verbs: &[&str], names: &[&str]| {
        json!([{
            "group": "test.gadgetd", "resource": "things", "verbs": verbs, "names": names,
            "namespaces": [shop, bank],
        }])
    };
    let all = ["Get", "List", "Create", "Apply"];
    install(cluster, &gadget, &shipped.spec(&grant(&all, &["*"]))).await?;
    node.world.pod(&shop, "pod", &[], &["app"]);
    let id = node.world.run(&shop, "pod", "app");
    node.world.call(&id, &[0]);

    let status = settled(cluster, &gadget, "True").await?;
    assert_eq!((status.role.as_deref(), status.version.as_deref()), (Some("gadget"), Some("1.0.0")));
    assert_eq!(status.verified_by, Some(shipped.key.id().to_string()));
    assert!(status.digest.is_some_and(|digest| digest.starts_with("sha256:")));
    assert_eq!((status.nodes.len(), status.nodes[0].ready), (1, true));
    assert_eq!((status.asks[0].resource.as_str(), status.asks[0].verbs.len()), ("things", 4));
    assert_eq!(status.parameters[0].name, "calls");

    let trace = cluster.trace(SYSTEM, &names("calls"));
    let traced = |namespace: &str| TraceSpec {
        gadget: gadget.clone(),
        parameters: [("calls".to_owned(), "discover - -".to_owned())].into(),
        ..spec(&node.name, namespace, "pod")
    };
    trace.create(traced(&shop)).await?;
    assert_eq!(trace.operate("start", &[]).await?.operation_error, None);
    let run = async |calls: &str| trace.operate("generate", &[("calls", calls)]).await;
    let calls = |calls: &[&str]| {
        let calls = calls.iter().map(|call| call.replace("SHOP", &shop).replace("BANK", &bank));
        calls.collect::<Vec<_>>().join(";")
    };

    // What is granted is made, with where it comes from; what the API server forbids is denied by it.
    let kind = kube::api::ApiResource {
        group: "test.gadgetd".into(),
        version: "v1".into(),
        api_version: "test.gadgetd/v1".into(),
        kind: "Thing".into(),
        plural: "things".into(),
    };
    let objects = Api::<kube::api::DynamicObject>::namespaced_with(cluster.admin.clone(), &shop, &kind);
    // What somebody else looks after is not taken from them.
    let theirs = json!({
        "apiVersion": "test.gadgetd/v1", "kind": "Thing", "metadata": { "name": "theirs" },
        "spec": { "by": "somebody" },
    });
    objects.patch("theirs", &PatchParams::apply("somebody"), &Patch::Apply(theirs)).await?;
    let asked = [
        "discover - -",
        "create SHOP one",
        "apply SHOP two",
        "get SHOP one",
        "list SHOP -",
        "get BANK one",
        "apply SHOP theirs",
    ];
    let status = run(&calls(&asked)).await?;
    let made = made_of(&status);
    let said: Vec<_> =
        made.iter().map(|call| (call.allowed, call.result.split(':').next().unwrap())).collect();
    assert_eq!(
        said,
        [
            (true, "ok"),
            (true, "ok"),
            (true, "ok"),
            (true, "ok"),
            (true, "ok"),
            (true, "denied"),
            (true, "conflict")
        ]
    );
    assert!(made[5].result.contains("forbidden"), "{made:?}");
    assert!(made[6].result.contains("conflict with \"somebody\""), "{made:?}");
    assert_eq!(objects.get("theirs").await?.data["spec"]["by"], "somebody");
    assert_eq!(made[1].call, format!("create things.test.gadgetd {shop}/one"));
    assert!(made[1].arguments.starts_with("sha256:"), "{made:?}");
    assert_eq!(status.operation_warning, None);
    let two = objects.get("two").await?;
    assert_eq!(two.metadata.annotations.context("annotations")?["seccomp.gadget.kinvolk.io/node"], node.name);
    let managers = two.metadata.managed_fields.context("managers")?;
    assert_eq!(managers[0].manager.as_deref(), Some(format!("gadget-{gadget}").as_str()));

    // Grants change at the next call.
    let denied =
        async |grants: &Value, calls_max: Option<u32>, asked: &[&str]| -> Result<Vec<(bool, String)>> {
            let mut spec = shipped.spec(grants);
            if let Some(most) = calls_max {
                spec["calls"] = most.into();
            }
            install(cluster, &gadget, &spec).await?;
            settled(cluster, &gadget, "True").await?;
            let status = run(&calls(asked)).await?;
            let made = made_of(&status).iter().map(|call| (call.allowed, call.result.clone())).collect();
            let warning = status.operation_warning.unwrap_or_default();
            ensure!(warning.contains("the gadget went without a call: denied: "), "{warning}");
            Ok(made)
        };
    let not_granted = |call: &str| (false, format!("denied: {call}: the cluster does not grant it"));
    let in_shop = |verb: &str, name: &str| format!("{verb} things.test.gadgetd {shop}/{name}");
    // Names: of all of them is a list about.
    let found =
        denied(&grant(&all, &["one"]), None, &["get SHOP one", "get SHOP two", "list SHOP -"]).await?;
    assert_eq!(
        found,
        [(true, "ok".into()), not_granted(&in_shop("get", "two")), not_granted(&in_shop("list", ""))]
    );
    // Verbs.
    let asked = ["get SHOP one", "create SHOP three", "apply SHOP one"];
    let found = denied(&grant(&["Get"], &["*"]), None, &asked).await?;
    let want = [
        (true, "ok".into()),
        not_granted(&in_shop("create", "three")),
        not_granted(&in_shop("apply", "one")),
    ];
    assert_eq!(found, want);
    // Namespaces, and the list of all of them.
    let found = denied(&grant(&all, &["*"]), None, &["get gadget one", "list - -"]).await?;
    let want = [not_granted("get things.test.gadgetd gadget/one"), not_granted("list things.test.gadgetd")];
    assert_eq!(found, want);
    // The budget.
    let found = denied(&grant(&all, &["*"]), Some(1), &["get SHOP one", "get SHOP one"]).await?;
    let text = format!("denied: {}: the run has made its 1 calls", in_shop("get", "one"));
    assert_eq!(found, [(true, "ok".into()), (false, text)]);
    // No path leads to a subresource or another object.
    install(cluster, &gadget, &shipped.spec(&grant(&all, &["*"]))).await?;
    settled(cluster, &gadget, "True").await?;
    let status = run(&calls(&["get SHOP one/status", "get SHOP ../pods/x"])).await?;
    assert!(
        made_of(&status).iter().all(|call| !call.allowed && call.result.starts_with("invalid")),
        "{status:?}"
    );
    // Nothing.
    let found = denied(&json!([]), None, &["discover - -", "get SHOP one"]).await?;
    assert_eq!(found, [not_granted("discover things.test.gadgetd"), not_granted(&in_shop("get", "one"))]);

    // A Trace of the shop keeps to it, whatever is granted.
    install(cluster, &gadget, &shipped.spec(&grant(&all, &["*"]))).await?;
    settled(cluster, &gadget, "True").await?;
    let hers = cluster.trace(&shop, &names("hers"));
    hers.create(traced(&shop)).await?;
    hers.operate("start", &[]).await?;
    let asked = calls(&["get SHOP one", "get BANK one"]);
    let status = hers.operate("stop", &[("calls", &asked)]).await?;
    let only = format!("denied: get things.test.gadgetd {bank}/one: the run may only touch namespace {shop}");
    let said: Vec<_> = made_of(&status).iter().map(|call| call.result.clone()).collect();
    assert_eq!(said, ["ok".to_owned(), only]);

    // Without its object it is no gadget any more.
    gadgets(cluster).delete(&gadget, &DeleteParams::default()).await?;
    let status = eventually("end of the gadget", LIMIT, async || {
        let status = run("discover - -").await?;
        ensure!(status.operation_error.is_some(), "{status:?}");
        Ok(status)
    });
    let error = status.await?.operation_error.unwrap_or_default();
    assert!(error.starts_with(&format!("Unknown gadget {gadget:?}: this node has ")), "{error}");
    trace.delete().await?;
    Ok(())
}

/// The calls, as the audit has them; and that the module was told the same.
fn made_of(status: &TraceStatus) -> &[Call] {
    let calls: &[Call] = status.outputs.first().map_or(&[], |output| &output.calls);
    let said = status.output.iter().flat_map(|document| document.lines());
    let word = |text: &str| text.split([':', ' ']).next().map(ToOwned::to_owned);
    let said: Vec<_> = said.map(word).collect();
    assert_eq!(said, calls.iter().map(|call| word(&call.result)).collect::<Vec<_>>(), "{status:?}");
    calls
}

#[tokio::test]
async fn a_node_that_is_gone_is_not_waited_for() -> Result<()> {
    // One of its own: every node of a cluster looks at every Gadget.
    let Some(cluster) = Cluster::own().await? else { return Ok(()) };
    let gadget = names("mine");
    // The one whose name comes first keeps the summary, as long as it is there.
    let (goes, stays) = (Node::start(&cluster).await?, Node::start(&cluster).await?);
    assert!(goes.name < stays.name);
    install(&cluster, &gadget, &json!({ "source": { "builtIn": "seccomp" } })).await?;
    eventually("both nodes", LIMIT, async || {
        let nodes = settled(&cluster, &gadget, "True").await?.nodes;
        ensure!(nodes.len() == 2, "{nodes:?}");
        Ok(())
    })
    .await?;

    goes.running.stop().await?;
    let changed = json!({ "source": { "builtIn": "seccomp" }, "calls": 3 });
    install(&cluster, &gadget, &changed).await?;
    // As long as the node exists it may come back.
    let status = settled(&cluster, &gadget, "Unknown").await?;
    assert_eq!(status.nodes.len(), 2, "{status:?}");
    // The last that it did was to fail.
    let generation = gadgets(&cluster).get(&gadget).await?.metadata.generation;
    let last = json!({
        "apiVersion": "gadget.kinvolk.io/v1alpha1", "kind": "Gadget", "metadata": { "name": gadget },
        "status": { "nodes": [{ "node": goes.name, "generation": generation, "ready": false, "reason": "no disk" }] },
    });
    let params = PatchParams::apply(&format!("gadgetd-{}", goes.name)).force();
    gadgets(&cluster).patch_status(&gadget, &params, &Patch::Apply(last)).await?;
    settled(&cluster, &gadget, "False").await?;
    let nodes = Api::<k8s_openapi::api::core::v1::Node>::all(cluster.admin.clone());
    nodes.delete(&goes.name, &DeleteParams::default()).await?;
    let status = settled(&cluster, &gadget, "True").await?;
    let left: Vec<_> = status.nodes.iter().map(|node| &node.node).collect();
    assert_eq!(left, [&stays.name]);
    gadgets(&cluster).delete(&gadget, &DeleteParams::default()).await?;
    stays.running.stop().await
}

#[tokio::test]
async fn what_cannot_be_installed_says_why() -> Result<()> {
    // One of its own: every node of a cluster looks at every Gadget.
    let Some(cluster) = Cluster::own().await? else { return Ok(()) };
    let registry = Shop::open();
    let shipped = registry.ship("caller", gadgetd_guests::caller("get")).await?;
    let [shop, gadget] = ["shop", "broken"].map(names);
    cluster.namespace(&shop).await?;
    let node = Node::start(&cluster).await?;
    node.world.pod(&shop, "pod", &[], &["app"]);
    node.world.run(&shop, "pod", "app");
    let good = shipped.spec(&json!([]));
    let with = |field: &str, value: Value| {
        let mut spec = good.clone();
        spec[field] = value;
        spec
    };
    let stranger = PrivateKey::generate().public().to_pem();
    let untagged = shipped.image.split('@').next().unwrap_or_default();
    let other = format!("{untagged}@sha256:{}", "0".repeat(64));
    let rows = [
        (json!({ "source": { "builtIn": "secomp" } }), "there is no module \"secomp\""),
        (json!({ "source": {} }), "one of builtIn and image"),
        (with("source", json!({ "image": untagged })), "has no digest"),
        (with("source", json!({ "image": other })), "there is no manifest at"),
        (with("keys", json!([])), "spec.keys is empty"),
        (with("keys", json!(["nonsense"])), "spec.keys cannot be used"),
        (with("keys", json!([stranger])), "sign"),
    ];
    for (object, says) in rows {
        install(&cluster, &gadget, &object).await?;
        let status = settled(&cluster, &gadget, "False").await?;
        let reason = status.nodes[0].reason.clone().unwrap_or_default();
        assert!(reason.contains(says), "no {says:?} in {reason:?}");
        // A Trace that names it is told the same.
        let trace = cluster.trace(SYSTEM, &names("broken"));
        trace.create(TraceSpec { gadget: gadget.clone(), ..spec(&node.name, &shop, "pod") }).await?;
        let error = trace.operate("start", &[]).await?.operation_error.unwrap_or_default();
        let want = format!("Gadget {gadget:?} cannot run on this node: ");
        assert!(error.starts_with(&want) && error.contains(says), "{error}");
        trace.delete().await?;
        gadgets(&cluster).delete(&gadget, &DeleteParams::default()).await?;
    }
    // An object of its name replaces what is built in: here with less.
    let object = json!({ "source": { "builtIn": "seccomp" }, "outputModes": ["Status"] });
    install(&cluster, &gadget, &object).await?;
    let status = settled(&cluster, &gadget, "True").await?;
    assert_eq!(status.verified_by.as_deref(), Some("built-in"));
    let trace = cluster.trace(SYSTEM, &names("less"));
    let file =
        TraceSpec { output_mode: OutputMode::File, output: "f".into(), ..spec(&node.name, &shop, "pod") };
    trace.create(TraceSpec { gadget: gadget.clone(), ..file }).await?;
    let error = trace.operate("start", &[]).await?.operation_error.unwrap_or_default();
    assert!(error.contains("Unsupported output mode") && error.ends_with("it supports Status"), "{error}");
    gadgets(&cluster).delete(&gadget, &DeleteParams::default()).await?;
    node.running.stop().await
}
