//! A `SeccompProfile` of what was recorded, by the real gadget and formatter, on a cluster in memory.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use gadgetd_core::{
    Abi, Capture, Completeness, Container, Machine, Phases, Syscall,
    kube::{Answer, KubeApi, KubeError, Resource},
    spo::{GROUP, KIND, PLURAL},
};
use gadgetd_host::{Host, HostConfig};
use gadgetd_kube::controller::{
    ObjectTarget, Reason, Run, RunError, RunOutput, RunRequest, Runner as _, WrittenObject,
};
use gadgetd_node::HostRunner;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::{Value, json};

/// Objects by `plural namespace/name`, and what was asked.
#[derive(Default)]
struct Memory {
    served: Vec<Resource>,
    objects: Mutex<BTreeMap<String, Value>>,
    calls: Mutex<Vec<String>>,
    /// The answer to every `create`.
    broken: Option<KubeError>,
}

fn place(resource: &Resource, namespace: Option<&str>, name: &str) -> String {
    format!("{} {}/{name}", resource.plural, namespace.unwrap_or_default())
}

impl Memory {
    fn serving(version: &str, namespaced: bool) -> Self {
        let (group, plural, kind) = (GROUP.into(), PLURAL.into(), KIND.into());
        let profiles = Resource { group, version: version.into(), plural, kind, namespaced };
        Self { served: vec![profiles], ..Self::default() }
    }

    fn with(self, place: &str, object: Value) -> Self {
        self.objects.lock().unwrap().insert(place.into(), object);
        self
    }

    fn note(&self, call: String) {
        self.calls.lock().unwrap().push(call);
    }

    fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }

    fn object(&self, place: &str) -> Value {
        self.objects.lock().unwrap().get(place).cloned().unwrap_or_default()
    }
}

impl KubeApi for Memory {
    fn discover<'a>(&'a self, group: &'a str, plural: &'a str) -> Answer<'a, Vec<Resource>> {
        self.note(format!("discover {group} {plural}"));
        Box::pin(async { Ok(self.served.clone()) })
    }

    fn get<'a>(&'a self, r: &'a Resource, namespace: Option<&'a str>, name: &'a str) -> Answer<'a, Value> {
        let place = place(r, namespace, name);
        self.note(format!("get {place}"));
        let found = self.objects.lock().unwrap().get(&place).cloned();
        Box::pin(async { found.ok_or(KubeError::NotFound(place)) })
    }

    fn list<'a>(&'a self, _: &'a Resource, _: Option<&'a str>, _: &'a str) -> Answer<'a, Vec<Value>> {
        unreachable!("nobody asks for lists")
    }

    fn create<'a>(&'a self, r: &'a Resource, namespace: Option<&'a str>, object: Value) -> Answer<'a, Value> {
        let place = place(r, namespace, object["metadata"]["name"].as_str().unwrap_or_default());
        self.note(format!("create {place}"));
        let mut objects = self.objects.lock().unwrap();
        let answer = match &self.broken {
            Some(error) => Err(error.clone()),
            None if objects.contains_key(&place) => Err(KubeError::Conflict(place)),
            None => Ok(objects.entry(place).or_insert(object).clone()),
        };
        Box::pin(async { answer })
    }

    fn apply<'a>(&'a self, _: &'a Resource, _: Option<&'a str>, _: Value) -> Answer<'a, Value> {
        unreachable!("nobody applies")
    }
}

fn request() -> RunRequest<'static> {
    RunRequest {
        trace_namespace: "gadget",
        trace_name: "cart",
        trace_uid: "uid-1",
        node: "node-1",
        namespace: "shop",
        pod: "cart-0",
        container: Some("app"),
        owner: None,
        target: Some(ObjectTarget { namespace: "shop", name: "p" }),
        occasion: "operation-2",
        confined_to: None,
    }
}

async fn runner() -> HostRunner {
    let nowhere = |_: &str| -> Arc<dyn KubeApi> { unreachable!("a test names its cluster") };
    HostRunner::new(Host::new(HostConfig::default()).unwrap(), nowhere).await.unwrap()
}

/// Carries out a request about a container that made these calls.
async fn carry_out(
    runner: &HostRunner,
    cluster: &Arc<Memory>,
    request: RunRequest<'_>,
    calls: &[u32],
    parameters: &[(&str, &str)],
) -> Result<WrittenObject, RunError> {
    let api = Arc::clone(cluster);
    let runner = runner.on(move |manager: &str| -> Arc<dyn KubeApi> {
        assert_eq!(manager, "gadget-seccomp");
        api.clone()
    });
    let call = |number: &u32| Syscall { abi: Abi::Native, number: *number, phases: Phases::APPLICATION };
    let capture = Capture {
        container: Container { id: "id".into(), name: Some("app".into()), ..Container::default() },
        machine: Machine::X86_64,
        syscalls: calls.iter().map(call).collect(),
        refused: Vec::new(),
        completeness: Completeness { losses: vec![], from_start: true },
    };
    let parameters = parameters.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let run = Run {
        trace: "gadget/cart",
        gadget: "seccomp",
        formatter: None,
        parameters: &parameters,
        capture,
        reason: Reason::OnDemand,
        request,
    };
    match runner.run(run).await.output? {
        RunOutput::Object(written) => Ok(written),
        RunOutput::Document(document) => panic!("{document:?}"),
    }
}

fn written(resource: &str) -> WrittenObject {
    let localhost_profile = Some(format!("operator/{resource}.json"));
    WrittenObject { resource: resource.into(), localhost_profile }
}

#[tokio::test]
async fn an_object_has_its_origin_and_is_made_once() {
    let runner = runner().await;
    for (version, namespaced, one) in [("v1beta1", true, "shop/p"), ("v1", false, "shop.p")] {
        let cluster = Arc::new(Memory::serving(version, namespaced));
        let place = |resource: &str| {
            if namespaced { format!("{PLURAL} {resource}") } else { format!("{PLURAL} /{resource}") }
        };
        let made = carry_out(&runner, &cluster, request(), &[0, 1], &[]).await;
        assert_eq!(made, Ok(written(one)));
        let (asked, create) =
            (format!("discover {GROUP} {PLURAL}"), |resource: &str| format!("create {}", place(resource)));
        assert_eq!(cluster.calls(), [asked.clone(), create(one)]);
        let object = cluster.object(&place(one));
        assert_eq!(object["apiVersion"], format!("{GROUP}/{version}"));
        let annotations = json!({
            "seccomp.gadget.kinvolk.io/trace": "gadget/cart",
            "seccomp.gadget.kinvolk.io/trace-uid": "uid-1",
            "seccomp.gadget.kinvolk.io/node": "node-1",
            "seccomp.gadget.kinvolk.io/pod": "shop/cart-0",
            "seccomp.gadget.kinvolk.io/container": "app",
            "seccomp.gadget.kinvolk.io/occasion": "operation-2",
        });
        assert_eq!(object["metadata"]["annotations"], annotations);
        assert_eq!(object["metadata"]["labels"], json!({ "app.kubernetes.io/managed-by": "gadgetd" }));
        assert_eq!(object["metadata"]["ownerReferences"], Value::Null);
        let names = json!([
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
        ]);
        assert_eq!(object["spec"]["syscalls"][0]["names"], names);

        // The same again, as after a crash; also where more was recorded meanwhile.
        for calls in [&[0, 1][..], &[0, 1, 3]] {
            assert_eq!(carry_out(&runner, &cluster, request(), calls, &[]).await, Ok(written(one)));
            assert_eq!(cluster.calls(), [asked.clone(), create(one), format!("get {}", place(one))]);
        }
        // Another occasion with the same content is the same object, with other content another.
        let later = RunRequest { occasion: "operation-3", ..request() };
        assert_eq!(carry_out(&runner, &cluster, later, &[0, 1], &[]).await, Ok(written(one)));
        let second = format!("{one}-2");
        assert_eq!(carry_out(&runner, &cluster, later, &[0, 1, 3], &[]).await, Ok(written(&second)));
        // As are those of another Trace, pod or container.
        let others = [
            RunRequest { trace_uid: "uid-2", ..request() },
            RunRequest { pod: "cart-1", ..request() },
            RunRequest { container: None, ..request() },
        ];
        for (number, other) in (3..).zip(others) {
            let made = carry_out(&runner, &cluster, other, &[0, 1], &[]).await;
            assert_eq!(made, Ok(written(&format!("{one}-{number}"))));
        }
        assert_eq!(cluster.object(&place(one)), object, "what is there is never changed");
    }
}

#[tokio::test]
async fn an_object_belongs_to_what_its_pod_belongs_to() {
    let owner = |api: &str, kind: &str, name: &str, controller: Option<bool>| OwnerReference {
        api_version: api.into(),
        kind: kind.into(),
        name: name.into(),
        uid: format!("uid-of-{name}"),
        controller,
        block_owner_deletion: controller,
    };
    let set = owner("apps/v1", "ReplicaSet", "cart-1", Some(true));
    let job = owner("batch/v1", "Job", "night", Some(true));
    let above = |kind: &str, name: &str| json!({ "metadata": { "ownerReferences": [owner("x/v1", "Else", "e", None), owner("x/v1", kind, name, Some(true))] } });
    let runner = runner().await;
    let stateful = owner("apps/v1", "StatefulSet", "cart", Some(true));
    // The pod's owner, what else is there → who owns the profile, in a namespace and without.
    let rows = [
        (&stateful, None, Some(("StatefulSet", "cart"))),
        (&set, Some(("replicasets shop/cart-1", above("Deployment", "cart"))), Some(("Deployment", "cart"))),
        (&set, Some(("replicasets shop/cart-1", json!({}))), Some(("ReplicaSet", "cart-1"))),
        // It is gone.
        (&set, None, None),
        (&job, Some(("jobs shop/night", above("CronJob", "nightly"))), Some(("CronJob", "nightly"))),
    ];
    for (pod_owner, other, want) in rows {
        for (namespaced, target) in [(true, "shop"), (true, "bank"), (false, "shop")] {
            let mut memory = Memory::serving("v1beta1", namespaced);
            if let Some((place, object)) = &other {
                memory = memory.with(place, object.clone());
            }
            let cluster = Arc::new(memory);
            let object = Some(ObjectTarget { namespace: target, name: "p" });
            let request = RunRequest { owner: Some(pod_owner), target: object, ..request() };
            carry_out(&runner, &cluster, request, &[0], &[]).await.unwrap();
            let place = if namespaced { format!("{target}/p") } else { format!("/{target}-p") };
            let found = cluster.object(&format!("{PLURAL} {place}"))["metadata"]["ownerReferences"].take();
            // An owner is in the namespace of what it owns.
            match want.filter(|_| namespaced && target == "shop") {
                None => assert_eq!(found, Value::Null, "{pod_owner:?} {place}"),
                Some((kind, name)) => {
                    let [found] = &found.as_array().expect("owners")[..] else { panic!("{found}") };
                    assert_eq!((&found["kind"], &found["name"]), (&json!(kind), &json!(name)));
                    assert_eq!(
                        (&found["controller"], &found["blockOwnerDeletion"]),
                        (&Value::Null, &Value::Null)
                    );
                }
            }
        }
    }
}

#[tokio::test]
async fn a_run_is_confined_to_its_namespace() {
    let runner = runner().await;
    for (namespaced, target, allowed) in
        [(true, "shop", true), (true, "bank", false), (false, "shop", true), (false, "bank", false)]
    {
        let cluster = Arc::new(Memory::serving("v1", namespaced));
        let object = Some(ObjectTarget { namespace: target, name: "p" });
        let request = RunRequest { confined_to: Some("shop"), target: object, ..request() };
        let made = carry_out(&runner, &cluster, request, &[0], &[]).await;
        assert_eq!(made.is_ok(), allowed, "{namespaced} {target}: {made:?}");
        if let Err(error) = made {
            let text = error.to_string();
            assert!(text.ends_with("the run may only touch namespace shop"), "{text}");
            assert_eq!(cluster.calls().len(), 1, "nothing but what is served is asked for");
        }
    }
}

#[tokio::test]
async fn what_may_pass_is_told_from_what_will_not() {
    let runner = runner().await;
    let named = |text: &str| text.starts_with("gadget seccomp cannot do its work on the cluster: ");
    for (error, later) in [
        (KubeError::Unavailable("x".into()), true),
        (KubeError::Deadline("x".into()), true),
        (KubeError::Denied("x".into()), false),
        (KubeError::NotFound("x".into()), false),
    ] {
        let cluster = Arc::new(Memory { broken: Some(error.clone()), ..Memory::serving("v1", true) });
        match carry_out(&runner, &cluster, request(), &[0], &[]).await {
            Err(RunError::Unavailable(text)) if later => assert!(named(&text), "{text}"),
            Err(RunError::Refused(text)) if !later => assert!(named(&text), "{text}"),
            other => panic!("{error}: {other:?}"),
        }
    }
    let refused = |text: &str| Err(RunError::Refused(text.into()));
    let bare = Arc::new(Memory::default());
    let want = "gadget seccomp failed: the cluster has no SeccompProfile objects: install the Security Profiles Operator";
    assert_eq!(carry_out(&runner, &bare, request(), &[0], &[]).await, refused(want));
    let cluster = Arc::new(Memory::serving("v1", true));
    let want = "formatter spo cannot write the policy: a SeccompProfile has no field for the default errno 38; \
                leave it out, and it is EPERM";
    assert_eq!(
        carry_out(&runner, &cluster, request(), &[0], &[("default-errno", "38")]).await,
        refused(want)
    );
    let want = "formatter spo does not accept a parameter: name: the run says what object it makes";
    assert_eq!(carry_out(&runner, &cluster, request(), &[0], &[("name", "q")]).await, refused(want));
    assert_eq!(carry_out(&runner, &cluster, request(), &[], &[]).await, Err(RunError::Empty));
}
