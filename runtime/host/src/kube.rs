//! `kube`: Kubernetes, call by call, each one checked, bounded and recorded.
//!
//! What a module says is looked at before anything is sent: whether the module asked for it and the cluster granted it,
//! and whether it is well formed. What comes back is bounded. Every call leaves an entry in the run's audit and a
//! line at target `gadgetd::audit`, also one whose answer the run did not live to see.

use std::{fmt, sync::Arc, time::Duration};

use gadgetd_core::kube::{
    Call, Grant, Granted, Granting, Guard, KubeApi, KubeError, Names, Permission, Resource, Verb,
};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use crate::{
    bindings::kube::{Error, Host, Kind},
    fault::bytes,
    log::printable,
    module::{Capability, Digest, is_group, is_label},
    recording::{self, KubeAnswer, KubeExchange, KubeRequest},
    replay::Script,
    state::State,
};

/// The largest object that a module may write, in bytes: what etcd takes.
const OBJECT_MAX: usize = 3 << 19;
/// The longest label selector, in bytes.
const SELECTOR_MAX: usize = 4096;
/// The longest name of an object, in bytes.
const NAME_MAX: usize = 253;
/// What a module may write of an object's metadata. The rest is the API server's or the host's; finalizers and owner
/// references, for one, have consequences for objects of others.
const METADATA: [&str; 4] = ["name", "namespace", "labels", "annotations"];

/// A cluster, as far as one run may use it.
#[derive(Clone)]
pub struct Cluster {
    /// Makes the calls. The host waits for each no longer than [`Limits::kube_call`](crate::Limits::kube_call).
    pub api: Arc<dyn KubeApi>,
    /// What the cluster grants the gadget. What the gadget does not ask for it does not get, whatever stands here.
    pub granted: Arc<dyn Granting>,
    /// The only namespace that the run may touch; `None`: any.
    pub confined_to: Option<String>,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Cluster");
        debug.field("granted", &self.granted).field("confined_to", &self.confined_to);
        debug.finish_non_exhaustive()
    }
}

/// An entry of the audit: a call that a module made, what was decided about it, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubeCall {
    /// What was to be done.
    pub verb: Verb,
    /// The API group.
    pub group: String,
    /// The resource, as its plural.
    pub plural: String,
    /// The namespace, if one was named.
    pub namespace: Option<String>,
    /// The object's name, if the call was about one.
    pub name: Option<String>,
    /// Of the call as compact JSON: an array of the verb and the arguments in the contract's order, in which a kind is
    /// an array of its fields.
    pub arguments: Digest,
    /// Whether it was made; if not, the result says why.
    pub allowed: bool,
    /// How long the module waited.
    pub duration: Duration,
    /// What came of it; `None` where the run ended before an answer came.
    pub result: Option<Result<(), KubeError>>,
}

impl KubeCall {
    /// The call, as a person would say it.
    pub fn call(&self) -> Call<'_> {
        Call {
            verb: self.verb,
            group: &self.group,
            plural: &self.plural,
            namespace: self.namespace.as_deref(),
            name: self.name.as_deref(),
        }
    }

    fn trace(&self, module: &str) {
        let Self { verb, group, plural, arguments, allowed, duration, .. } = self;
        let (namespace, name) = (self.namespace.as_deref(), self.name.as_deref());
        let result = match &self.result {
            None => "the run ended before an answer came".to_owned(),
            Some(Ok(())) => "ok".to_owned(),
            Some(Err(error)) => printable(error.to_string()),
        };
        tracing::info!(
            target: "gadgetd::audit",
            module, %verb, group, plural, namespace, name, %arguments, allowed, ?duration, result,
            "kube call"
        );
    }
}

/// The most calls to the cluster that are kept for a recording, and that a replay tells apart.
const KEPT_MAX: u32 = 4096;

/// What one run does on the cluster.
pub(crate) struct Session {
    cluster: Option<(Source, Guard)>,
    audit: Vec<KubeCall>,
    unrecorded: u64,
    made: Vec<Made>,
    kept: Option<Kept>,
}

/// Who answers.
enum Source {
    Api(Arc<dyn KubeApi>),
    Script(Script),
}

/// The calls, for a recording.
#[derive(Default)]
struct Kept {
    exchanges: Vec<KubeExchange>,
    /// Of all of them, in bytes.
    size: usize,
    /// There were more than a recording holds.
    overflow: bool,
}

/// An object that the run made.
struct Made {
    kind: Resource,
    namespace: Option<String>,
    name: String,
}

/// A call that was allowed.
enum Pending {
    /// The answer is to come from here.
    Api(Arc<dyn KubeApi>),
    /// It is here, from a recording.
    Answered(KubeAnswer),
}

/// A call as the module made it.
struct Request<'a> {
    call: Call<'a>,
    namespaced: bool,
    arguments: Value,
    /// Whether it is well formed.
    sound: Result<(), String>,
    /// The same for a recording, if it is kept.
    kept: Option<KubeRequest>,
}

/// An answer, as a gadget gets it.
trait Told: Sized {
    /// For a recording.
    fn keep(&self) -> KubeAnswer;
    /// From a recording; `None` if it has another shape.
    fn tell(answer: KubeAnswer) -> Option<Self>;
}

impl Told for String {
    fn keep(&self) -> KubeAnswer {
        KubeAnswer::Object(recording::exact(self))
    }

    fn tell(answer: KubeAnswer) -> Option<Self> {
        if let KubeAnswer::Object(object) = answer { Some(recording::told(object)) } else { None }
    }
}

impl Told for Vec<String> {
    fn keep(&self) -> KubeAnswer {
        KubeAnswer::Objects(self.iter().map(|text| recording::exact(text)).collect())
    }

    fn tell(answer: KubeAnswer) -> Option<Self> {
        let KubeAnswer::Objects(objects) = answer else { return None };
        Some(objects.into_iter().map(recording::told).collect())
    }
}

impl Told for Vec<Kind> {
    fn keep(&self) -> KubeAnswer {
        KubeAnswer::Kinds(self.iter().cloned().map(Resource::from).collect())
    }

    fn tell(answer: KubeAnswer) -> Option<Self> {
        let KubeAnswer::Kinds(kinds) = answer else { return None };
        Some(kinds.into_iter().map(Kind::from).collect())
    }
}

impl Session {
    /// For a run of a module that asks for this.
    pub(crate) fn new(asked: &[Capability], cluster: Option<Cluster>) -> Self {
        let cluster = cluster.map(|Cluster { api, granted, confined_to }| {
            let asked = asked.iter().map(Grant::from).collect();
            (Source::Api(api), Guard::new(Permission { asked, granted, confined_to }))
        });
        Self { cluster, audit: Vec::new(), unrecorded: 0, made: Vec::new(), kept: None }
    }

    /// For a replay. Everything that the module asks for is granted: what was denied, the script denies again.
    pub(crate) fn scripted(asked: &[Capability], script: Script) -> Self {
        let asked: Vec<Grant> = asked.iter().map(Grant::from).collect();
        let granted = Arc::new(Granted { grants: asked.clone(), calls: KEPT_MAX });
        let guard = Guard::new(Permission { asked, granted, confined_to: None });
        Self { cluster: Some((Source::Script(script), guard)), ..Self::new(&[], None) }
    }

    /// Keeps the calls for a recording.
    pub(crate) fn keeping(self) -> Self {
        Self { kept: Some(Kept::default()), ..self }
    }

    /// What was kept, if there were not too many, and how many calls a script had no answer to.
    pub(crate) fn into_exchanges(self) -> (Option<Vec<KubeExchange>>, u64) {
        let unanswered = match self.cluster {
            Some((Source::Script(script), _)) => script.unanswered,
            _ => 0,
        };
        (self.kept.filter(|kept| !kept.overflow).map(|kept| kept.exchanges), unanswered)
    }

    /// Whether the run made or applied this object.
    pub(crate) fn has_made(&self, kind: &Resource, namespace: Option<&str>, name: &str) -> bool {
        let same = |k: &Resource| k.group == kind.group && k.plural == kind.plural;
        self.made.iter().any(|m| same(&m.kind) && m.namespace.as_deref() == namespace && m.name == name)
    }

    /// The audit, and how many calls beyond the budget are not in it.
    pub(crate) fn take_audit(&mut self, module: &str) -> (Vec<KubeCall>, u64) {
        self.audit.iter().filter(|call| call.result.is_none()).for_each(|call| call.trace(module));
        (std::mem::take(&mut self.audit), self.unrecorded)
    }

    /// How the answer comes, and the entry of the audit that it belongs to; or why there is none.
    fn begin(&mut self, module: &str, request: Request<'_>) -> Result<(Pending, usize), KubeError> {
        if let (Some(kept), Some(call)) = (&mut self.kept, &request.kept) {
            kept.begin(call);
        }
        let Some((source, guard)) = &mut self.cluster else {
            let reason = "there is no cluster here: gadgetd runs on a machine of its own";
            return Err(KubeError::Unavailable(reason.into()));
        };
        let Request { call, namespaced, arguments, sound, kept } = request;
        let sound = sound.map_err(|reason| KubeError::Invalid(format!("{call}: {reason}")));
        let verdict = guard.admit(&call, namespaced).and(sound);
        if self.audit.len() > usize::try_from(guard.calls()).unwrap_or(usize::MAX) {
            // The budget is long used up. A module that goes on all the same costs no memory.
            self.unrecorded += 1;
            return Err(verdict.err().unwrap_or_else(|| KubeError::Denied("too many calls".into())));
        }
        let verdict = match source {
            Source::Api(api) => verdict.map(|()| Pending::Api(Arc::clone(api))),
            Source::Script(script) => {
                let call = kept.ok_or_else(|| KubeError::Unavailable("a replay keeps its calls".into()))?;
                script.answer(&call, verdict).map(Pending::Answered)
            }
        };
        let text = |text: &str| printable(text.to_owned());
        let entry = KubeCall {
            verb: call.verb,
            group: text(call.group),
            plural: text(call.plural),
            namespace: call.namespace.map(text),
            name: call.name.map(text),
            arguments: Digest::of(arguments.to_string().as_bytes()),
            allowed: verdict.is_ok(),
            duration: Duration::ZERO,
            result: verdict.as_ref().err().cloned().map(Err),
        };
        if !entry.allowed {
            entry.trace(module);
        }
        self.audit.push(entry);
        Ok((verdict?, self.audit.len() - 1))
    }

    /// Keeps what the call that was begun last is answered.
    fn keep<T: Told>(&mut self, answer: &Result<T, KubeError>) {
        if let Some(kept) = &mut self.kept {
            kept.end(match answer {
                Ok(answer) => answer.keep(),
                Err(error) => KubeAnswer::Error(error.clone()),
            });
        }
    }

    fn end<T>(&mut self, module: &str, entry: usize, begin: Instant, answer: &Result<T, KubeError>) {
        let Some(entry) = self.audit.get_mut(entry) else { return };
        entry.duration = begin.elapsed();
        entry.result = Some(answer.as_ref().map(drop).map_err(KubeError::clone));
        entry.trace(module);
    }
}

impl Kept {
    fn begin(&mut self, call: &KubeRequest) {
        self.overflow |= self.exchanges.len() >= KEPT_MAX as usize;
        if !self.overflow {
            self.exchanges.push(KubeExchange { call: call.clone(), answer: None });
        }
    }

    fn end(&mut self, answer: KubeAnswer) {
        let Some(exchange) = self.exchanges.last_mut().filter(|_| !self.overflow) else { return };
        exchange.answer = Some(answer);
        self.size += serde_json::to_string(exchange).map_or(0, |text| text.len());
        if self.size > recording::BYTES_MAX {
            *self = Self { overflow: true, ..Self::default() };
        }
    }
}

impl State {
    /// Makes a call if it may be made, waits for the answer, but not too long, and takes it in `shape`, if it is not
    /// too large for that.
    async fn kube<T, U, A>(
        &mut self,
        request: Request<'_>,
        ask: impl FnOnce(Arc<dyn KubeApi>) -> A + Send,
        shape: fn(T, usize) -> Result<U, KubeError>,
    ) -> wasmtime::Result<Result<U, Error>>
    where
        U: Told,
        A: Future<Output = Result<T, KubeError>> + Send,
    {
        self.running(&format!("kube.{}", request.call.verb))?;
        let module = Arc::clone(&self.module);
        let begin = Instant::now();
        let answer = match self.gadget_run()?.kube.begin(&module, request) {
            Err(error) => Err(error),
            Ok((pending, entry)) => {
                let (limit, most) = (self.limits.kube_call, self.limits.kube_answer);
                let answer = match pending {
                    Pending::Answered(answer) => {
                        let other =
                            || KubeError::Unavailable("the recorded answer is one to another call".into());
                        U::tell(answer).ok_or_else(other)
                    }
                    Pending::Api(api) => match timeout(limit, ask(api)).await {
                        Ok(answer) => answer.and_then(|answer| shape(answer, most)),
                        Err(_) => Err(KubeError::Deadline(format!("there was none within {limit:?}"))),
                    },
                };
                self.gadget_run()?.kube.end(&module, entry, begin, &answer);
                answer
            }
        };
        self.waited += begin.elapsed();
        self.gadget_run()?.kube.keep(&answer);
        Ok(answer.map_err(Error::from))
    }

    /// Whether the calls are kept for a recording.
    fn keeps_calls(&mut self) -> bool {
        self.gadget_run().is_ok_and(|run| run.kube.kept.is_some())
    }

    /// `create` and `apply`.
    async fn write(
        &mut self,
        verb: Verb,
        kind: Kind,
        namespace: Option<String>,
        text: String,
    ) -> wasmtime::Result<Result<String, Error>> {
        let kind = Resource::from(kind);
        let object = object(&text, &kind, namespace.as_deref());
        let name = object.as_ref().ok().map(|(_, name)| name.clone());
        let call = about(verb, &kind, namespace.as_deref(), name.as_deref());
        let arguments = json!([verb.to_string(), fields(&kind), namespace, text]);
        let place = check_place(&kind, namespace.as_deref());
        let sound = place.and_then(|()| object.as_ref().map(drop).map_err(String::clone));
        let kept = self.keeps_calls().then(|| {
            let (kind, namespace, object) = (kind.clone(), namespace.clone(), recording::stored(&text));
            match verb {
                Verb::Apply => KubeRequest::Apply { kind, namespace, object },
                _ => KubeRequest::Create { kind, namespace, object },
            }
        });
        let request = Request { call, namespaced: kind.namespaced, arguments, sound, kept };
        let (object, _) = object.unwrap_or_default();
        let (of, inside) = (kind.clone(), namespace.clone());
        let ask = |api: Arc<dyn KubeApi>| async move {
            match verb {
                Verb::Apply => api.apply(&of, inside.as_deref(), object).await,
                _ => api.create(&of, inside.as_deref(), object).await,
            }
        };
        let answer = self.kube(request, ask, |object, most| one(&object, most)).await?;
        // One whose answer was too large is there all the same.
        if let (Ok(_) | Err(Error::TooLarge(_)), Some(name)) = (&answer, name) {
            self.gadget_run()?.kube.made.push(Made { kind, namespace, name });
        }
        Ok(answer)
    }
}

impl Host for State {
    async fn discover(
        &mut self,
        group: String,
        plural: String,
    ) -> wasmtime::Result<Result<Vec<Kind>, Error>> {
        let call = Call { verb: Verb::Discover, group: &group, plural: &plural, namespace: None, name: None };
        let arguments = json!(["discover", group, plural]);
        let sound = check_resource(&group, &plural);
        let kept = self
            .keeps_calls()
            .then(|| KubeRequest::Discover { group: group.clone(), plural: plural.clone() });
        let request = Request { call, namespaced: false, arguments, sound, kept };
        let (group, plural) = (group.clone(), plural.clone());
        let ask = |api: Arc<dyn KubeApi>| async move { api.discover(&group, &plural).await };
        self.kube(request, ask, |kinds, _| Ok(kinds.into_iter().map(Kind::from).collect())).await
    }

    async fn get(
        &mut self,
        kind: Kind,
        namespace: Option<String>,
        name: String,
    ) -> wasmtime::Result<Result<String, Error>> {
        let kind = Resource::from(kind);
        let sound = check_place(&kind, namespace.as_deref()).and_then(|()| check_name(&name));
        let call = about(Verb::Get, &kind, namespace.as_deref(), Some(&name));
        let arguments = json!(["get", fields(&kind), namespace, name]);
        let kept = self.keeps_calls().then(|| {
            let (kind, namespace, name) = (kind.clone(), namespace.clone(), name.clone());
            KubeRequest::Get { kind, namespace, name }
        });
        let request = Request { call, namespaced: kind.namespaced, arguments, sound, kept };
        let (kind, namespace, name) = (kind.clone(), namespace.clone(), name.clone());
        let ask = |api: Arc<dyn KubeApi>| async move { api.get(&kind, namespace.as_deref(), &name).await };
        self.kube(request, ask, |object, most| one(&object, most)).await
    }

    async fn list(
        &mut self,
        kind: Kind,
        namespace: Option<String>,
        labels: String,
    ) -> wasmtime::Result<Result<Vec<String>, Error>> {
        let kind = Resource::from(kind);
        let sound = check_kind(&kind, namespace.as_deref()).and_then(|()| check_selector(&labels));
        let call = about(Verb::List, &kind, namespace.as_deref(), None);
        let arguments = json!(["list", fields(&kind), namespace, labels]);
        let kept = self.keeps_calls().then(|| {
            let (kind, namespace, labels) = (kind.clone(), namespace.clone(), labels.clone());
            KubeRequest::List { kind, namespace, labels }
        });
        let request = Request { call, namespaced: kind.namespaced, arguments, sound, kept };
        let (kind, namespace) = (kind.clone(), namespace.clone());
        let ask = |api: Arc<dyn KubeApi>| async move { api.list(&kind, namespace.as_deref(), &labels).await };
        self.kube(request, ask, many).await
    }

    async fn create(
        &mut self,
        kind: Kind,
        namespace: Option<String>,
        object: String,
    ) -> wasmtime::Result<Result<String, Error>> {
        self.write(Verb::Create, kind, namespace, object).await
    }

    async fn apply(
        &mut self,
        kind: Kind,
        namespace: Option<String>,
        object: String,
    ) -> wasmtime::Result<Result<String, Error>> {
        self.write(Verb::Apply, kind, namespace, object).await
    }
}

/// A call about the objects of a kind.
pub(crate) fn about<'a>(
    verb: Verb,
    kind: &'a Resource,
    namespace: Option<&'a str>,
    name: Option<&'a str>,
) -> Call<'a> {
    Call { verb, group: &kind.group, plural: &kind.plural, namespace, name }
}

/// A kind, as the digest of a call has it.
fn fields(kind: &Resource) -> Value {
    json!([kind.group, kind.version, kind.plural, kind.kind, kind.namespaced])
}

/// An answer of one object, as text of no more than `most` bytes.
fn one(object: &Value, most: usize) -> Result<String, KubeError> {
    let text = object.to_string();
    if text.len() > most { Err(KubeError::TooLarge(most)) } else { Ok(text) }
}

/// The same for several, all together.
fn many(objects: Vec<Value>, most: usize) -> Result<Vec<String>, KubeError> {
    let mut left = most;
    let texts = objects.into_iter().map(|object| {
        let text = object.to_string();
        left = left.checked_sub(text.len()).ok_or(KubeError::TooLarge(most))?;
        Ok(text)
    });
    texts.collect()
}

/// An object that a module may write, and its name.
fn object(text: &str, kind: &Resource, namespace: Option<&str>) -> Result<(Value, String), String> {
    if text.len() > OBJECT_MAX {
        return Err(format!("the object has {} bytes, more than {}", text.len(), bytes(OBJECT_MAX)));
    }
    let object: Value = serde_json::from_str(text).map_err(|e| format!("the object is no JSON: {e}"))?;
    let api_version = kind.api_version();
    for (field, want) in [("apiVersion", api_version.as_str()), ("kind", kind.kind.as_str())] {
        if object[field] != want {
            return Err(format!("the object's {field} is {}, and not {want:?}", object[field]));
        }
    }
    let metadata = object["metadata"].as_object().ok_or("the object has no metadata")?;
    if let Some(other) = metadata.keys().find(|key| !METADATA.contains(&key.as_str())) {
        return Err(format!("metadata.{other} is not for a module to write; {} are", METADATA.join(", ")));
    }
    let given = metadata.get("namespace").filter(|value| !value.is_null());
    if given.is_some_and(|given| given.as_str() != namespace) {
        return Err(format!("metadata.namespace is not the namespace of the call, {namespace:?}"));
    }
    let name = metadata.get("name").and_then(Value::as_str).ok_or("the object has no name")?;
    check_name(name)?;
    let name = name.to_owned();
    Ok((object, name))
}

fn check_resource(group: &str, plural: &str) -> Result<(), String> {
    if !is_group(group) {
        return Err(format!("{group:?} cannot be an API group"));
    }
    // Nor is it a subresource, which would be a permission of its own.
    if is_label(plural) { Ok(()) } else { Err(format!("{plural:?} cannot be the plural of a kind")) }
}

/// What names a kind becomes a path: no part of it may be more than one.
fn check_kind(kind: &Resource, namespace: Option<&str>) -> Result<(), String> {
    check_resource(&kind.group, &kind.plural)?;
    if !is_label(&kind.version) {
        return Err(format!("{:?} cannot be a version", kind.version));
    }
    match namespace {
        Some(_) if !kind.namespaced => Err(format!("{} have no namespace", kind.plural)),
        Some(namespace) if !is_label(namespace) => Err(format!("{namespace:?} cannot be a namespace")),
        _ => Ok(()),
    }
}

/// The same where one object is meant.
fn check_place(kind: &Resource, namespace: Option<&str>) -> Result<(), String> {
    check_kind(kind, namespace)?;
    if kind.namespaced && namespace.is_none() {
        return Err(format!("{} live in namespaces, and none is named", kind.plural));
    }
    Ok(())
}

/// What every kind accepts as a name, and what is one segment of a path.
fn check_name(name: &str) -> Result<(), String> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"-._:".contains(&b);
    let dots = name.bytes().all(|b| b == b'.');
    if (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(fits) && !dots {
        Ok(())
    } else {
        Err(format!("{name:?} cannot be the name of an object"))
    }
}

fn check_selector(labels: &str) -> Result<(), String> {
    if labels.len() <= SELECTOR_MAX && !labels.chars().any(char::is_control) {
        Ok(())
    } else {
        Err("that cannot be a selection of labels".to_owned())
    }
}

impl From<&Capability> for Grant {
    /// What a module asks for: wherever the cluster lets it.
    fn from(Capability { group, plural, verbs }: &Capability) -> Self {
        let (group, plural, verbs) = (group.clone(), plural.clone(), verbs.clone());
        Self { group, plural, verbs, namespaces: Names::Any, names: Names::Any }
    }
}

impl From<Kind> for Resource {
    fn from(Kind { group, version, plural, name, namespaced }: Kind) -> Self {
        Self { group, version, plural, kind: name, namespaced }
    }
}

impl From<Resource> for Kind {
    fn from(Resource { group, version, plural, kind, namespaced }: Resource) -> Self {
        Self { group, version, plural, name: kind, namespaced }
    }
}

impl From<KubeError> for Error {
    fn from(error: KubeError) -> Self {
        match error {
            KubeError::Denied(text) => Self::Denied(text),
            KubeError::NotFound(text) => Self::NotFound(text),
            KubeError::Conflict(text) => Self::Conflict(text),
            KubeError::Invalid(text) => Self::Invalid(text),
            KubeError::TooLarge(most) => Self::TooLarge(most as u64),
            KubeError::Unavailable(text) => Self::Unavailable(text),
            KubeError::Deadline(text) => Self::Deadline(text),
        }
    }
}

impl From<Error> for KubeError {
    /// What a module says, made safe to print.
    fn from(error: Error) -> Self {
        match error {
            Error::Denied(text) => Self::Denied(printable(text)),
            Error::NotFound(text) => Self::NotFound(printable(text)),
            Error::Conflict(text) => Self::Conflict(printable(text)),
            Error::Invalid(text) => Self::Invalid(printable(text)),
            Error::TooLarge(most) => Self::TooLarge(usize::try_from(most).unwrap_or(usize::MAX)),
            Error::Unavailable(text) => Self::Unavailable(printable(text)),
            Error::Deadline(text) => Self::Deadline(printable(text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Change = fn(&mut Value);

    fn profiles(namespaced: bool) -> Resource {
        Resource {
            group: "g.io".into(),
            version: "v1".into(),
            plural: "profiles".into(),
            kind: "Profile".into(),
            namespaced,
        }
    }

    #[test]
    fn what_names_an_object_cannot_lead_elsewhere() {
        for good in ["p", "a.b-c", "system:node", "Upper_1", "a..b"] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
        let long = "x".repeat(254);
        for bad in ["", ".", "..", "a/b", "../b", "a%2fb", "a?b", "a#b", "a b", "a\0", "ä", &long] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
        let with = |change: fn(&mut Resource)| {
            let mut kind = profiles(true);
            change(&mut kind);
            check_kind(&kind, Some("shop")).expect_err(&format!("{kind:?}"))
        };
        let found = [
            with(|k| k.plural = "profiles/status".into()),
            with(|k| k.plural = String::new()),
            with(|k| k.group = "g.io/v1/namespaces/x".into()),
            with(|k| k.group = "..".into()),
            with(|k| k.version = "v1/namespaces/bank".into()),
            with(|k| k.version = String::new()),
            with(|k| k.namespaced = false),
            check_kind(&profiles(true), Some("shop/x")).unwrap_err(),
            check_place(&profiles(true), None).unwrap_err(),
        ];
        let want = [
            "\"profiles/status\" cannot be the plural of a kind",
            "\"\" cannot be the plural of a kind",
            "\"g.io/v1/namespaces/x\" cannot be an API group",
            "\"..\" cannot be an API group",
            "\"v1/namespaces/bank\" cannot be a version",
            "\"\" cannot be a version",
            "profiles have no namespace",
            "\"shop/x\" cannot be a namespace",
            "profiles live in namespaces, and none is named",
        ];
        assert_eq!(found, want);
        assert_eq!(check_kind(&Resource { group: String::new(), ..profiles(true) }, None), Ok(()));
    }

    #[test]
    fn an_object_must_be_what_the_call_says() {
        let written = |change: fn(&mut Value)| {
            let mut value = json!({
                "apiVersion": "g.io/v1",
                "kind": "Profile",
                "metadata": { "name": "p", "labels": { "a": "b" }, "annotations": {} },
                "spec": {},
            });
            change(&mut value);
            object(&value.to_string(), &profiles(true), Some("shop")).map(|(_, name)| name)
        };
        assert_eq!(written(|_| ()), Ok("p".into()));
        assert_eq!(written(|v| v["metadata"]["namespace"] = json!("shop")), Ok("p".into()));
        assert_eq!(written(|v| v["metadata"]["namespace"] = Value::Null), Ok("p".into()));
        let rows: [(Change, &str); 9] = [
            (|v| *v = json!([]), "the object's apiVersion is null, and not \"g.io/v1\""),
            (|v| v["apiVersion"] = json!("v1"), "the object's apiVersion is \"v1\", and not \"g.io/v1\""),
            (|v| v["kind"] = json!("Pod"), "the object's kind is \"Pod\", and not \"Profile\""),
            (|v| v["metadata"] = json!(1), "the object has no metadata"),
            (
                |v| v["metadata"]["namespace"] = json!("bank"),
                "metadata.namespace is not the namespace of the call",
            ),
            (|v| v["metadata"]["name"] = json!("../p"), "\"../p\" cannot be the name of an object"),
            (|v| v["metadata"] = json!({}), "the object has no name"),
            (|v| v["metadata"]["finalizers"] = json!([]), "metadata.finalizers is not for a module to write"),
            (
                |v| v["metadata"]["generateName"] = json!("p-"),
                "metadata.generateName is not for a module to write",
            ),
        ];
        for (change, want) in rows {
            let reason = written(change).expect_err(want);
            assert!(reason.starts_with(want), "{reason:?} does not begin with {want:?}");
        }
        for (text, want) in [("# a comment", "the object is no JSON"), ("{} {}", "the object is no JSON")] {
            assert!(object(text, &profiles(true), None).unwrap_err().starts_with(want));
        }
        let huge = " ".repeat(OBJECT_MAX + 1);
        assert!(object(&huge, &profiles(true), None).unwrap_err().contains("more than 1536 KiB"));
    }

    #[test]
    fn answers_are_bounded_together() {
        assert_eq!(one(&json!("x"), 3), Ok("\"x\"".into()));
        assert_eq!(one(&json!("xy"), 3), Err(KubeError::TooLarge(3)));
        assert_eq!(many(vec![json!(1), json!(22)], 3), Ok(vec!["1".into(), "22".into()]));
        assert_eq!(many(vec![json!(1), json!(222)], 3), Err(KubeError::TooLarge(3)));
    }
}
