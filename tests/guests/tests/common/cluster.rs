//! A cluster in memory.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use gadgetd_core::{
    kube::{Answer, Grant, Granted, KubeApi, KubeError, Names, Resource, Verb},
    spo,
};
use gadgetd_host::Cluster;
use serde_json::{Value, json};

/// Objects by namespace and name, and every call that came through.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    objects: Mutex<BTreeMap<String, Value>>,
    pub(crate) calls: Mutex<Vec<String>>,
}

pub(crate) const ALL: [Verb; 5] = [Verb::Discover, Verb::Get, Verb::List, Verb::Create, Verb::Apply];

/// Permission to do this with the things of all namespaces.
pub(crate) fn things(verbs: &[Verb]) -> Grant {
    Grant {
        group: caller_gadget::GROUP.into(),
        plural: caller_gadget::PLURAL.into(),
        verbs: verbs.to_vec(),
        namespaces: Names::Any,
        names: Names::Any,
    }
}

/// The cluster, for a run that may do this in namespace `shop`.
pub(crate) fn granting(api: &Arc<Memory>, grants: Vec<Grant>) -> Cluster {
    let granted = Arc::new(Granted { grants, calls: 20 });
    Cluster { api: api.clone(), granted, confined_to: Some("shop".into()) }
}

impl Memory {
    fn note(&self, call: impl Into<String>) {
        self.calls.lock().unwrap().push(call.into());
    }

    /// The object at `namespace/name`.
    pub(crate) fn object(&self, place: &str) -> Value {
        self.objects.lock().unwrap()[place].clone()
    }

    fn write(&self, verb: &str, namespace: Option<&str>, object: Value) -> (String, Value) {
        let place = place(namespace, object["metadata"]["name"].as_str().unwrap_or_default());
        self.note(format!("{verb} {place}"));
        (place, object)
    }
}

fn place(namespace: Option<&str>, name: &str) -> String {
    format!("{}/{name}", namespace.unwrap_or_default())
}

impl KubeApi for Memory {
    fn discover<'a>(&'a self, group: &'a str, plural: &'a str) -> Answer<'a, Vec<Resource>> {
        self.note("discover");
        let (group, version, plural) = (group.to_owned(), "v1".to_owned(), plural.to_owned());
        let kind = if plural == spo::PLURAL { spo::KIND } else { "Thing" }.to_owned();
        Box::pin(async { Ok(vec![Resource { group, version, plural, kind, namespaced: true }]) })
    }

    fn get<'a>(&'a self, _: &'a Resource, namespace: Option<&'a str>, name: &'a str) -> Answer<'a, Value> {
        let place = place(namespace, name);
        self.note(format!("get {place}"));
        let found = self.objects.lock().unwrap().get(&place).cloned();
        Box::pin(async move {
            match name {
                "hangs" => std::future::pending().await,
                "huge" => Ok(json!("x".repeat(2 << 20))),
                _ => found.ok_or(KubeError::NotFound(place)),
            }
        })
    }

    fn list<'a>(
        &'a self,
        _: &'a Resource,
        namespace: Option<&'a str>,
        labels: &'a str,
    ) -> Answer<'a, Vec<Value>> {
        self.note(format!("list {}", place(namespace, "")));
        let found = match labels {
            "size=huge" => vec![json!({ "data": "x".repeat(1000) }); 2000],
            _ => self.objects.lock().unwrap().values().cloned().collect(),
        };
        Box::pin(async { Ok(found) })
    }

    fn create<'a>(&'a self, _: &'a Resource, namespace: Option<&'a str>, object: Value) -> Answer<'a, Value> {
        let (place, object) = self.write("create", namespace, object);
        let mut objects = self.objects.lock().unwrap();
        let answer = if objects.contains_key(&place) {
            Err(KubeError::Conflict(place))
        } else {
            Ok(objects.entry(place).or_insert(object).clone())
        };
        Box::pin(async { answer })
    }

    fn apply<'a>(&'a self, _: &'a Resource, namespace: Option<&'a str>, object: Value) -> Answer<'a, Value> {
        let (place, object) = self.write("apply", namespace, object);
        self.objects.lock().unwrap().insert(place, object.clone());
        Box::pin(async { Ok(object) })
    }
}
