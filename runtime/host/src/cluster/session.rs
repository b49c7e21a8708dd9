//! The calls of one run, each one checked, bounded and recorded.
//!
//! A call is checked before anything is sent: the module must have asked for it, the cluster must have granted it, and
//! it must be well formed. The answer is bounded. Every call leaves an entry in the run's audit and a line at target
//! `gadgetd::audit`, also one whose answer comes after the run has ended.

use std::{fmt, sync::Arc, time::Duration};

use gadgetd_core::kube::{
    Call, Grant, Granted, Granting, Guard, KubeApi, KubeError, Permission, Resource, Verb,
};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::{
    audit::{Audit, KubeCall, PendingEntry},
    checks,
    exchange::{self, KubeAnswer, KubeExchange, KubeRequest, RECORDING_MAX_BYTES, call_about},
    script::Script,
};

/// The most calls to the cluster that a recording holds, and that a replay makes.
const RECORDED_CALLS_MAX: u32 = 4096;

/// A cluster, as far as one run may use it.
#[derive(Clone)]
pub struct Cluster {
    /// Makes the calls. The host waits for each no longer than [`Limits::kube_call`](crate::Limits::kube_call).
    pub api: Arc<dyn KubeApi>,
    /// The cluster's grants to the gadget. The gadget gets those that it also asks for.
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

/// The module that calls.
pub(crate) struct Caller {
    /// As errors and log lines call it.
    pub(crate) module: Arc<str>,
    /// The permissions that it asks for.
    pub(crate) asked: Vec<Grant>,
    /// How long it waits for one answer.
    pub(crate) timeout: Duration,
    /// How large an answer may be, in bytes.
    pub(crate) answer_max_bytes: usize,
}

/// The calls of one run.
pub(crate) struct Session {
    caller: Caller,
    /// `None`: there is no cluster.
    access: Option<(Backend, Guard)>,
    audit: Audit,
    written: Vec<WrittenObject>,
    recorder: Option<Recorder>,
    /// How long the module waited for answers.
    pub(crate) waited: Duration,
}

/// The source of the answers.
enum Backend {
    Api(Arc<dyn KubeApi>),
    Script(Script),
}

/// The calls, for a recording.
#[derive(Default)]
struct Recorder {
    exchanges: Vec<KubeExchange>,
    /// Of all exchanges, in bytes.
    size: usize,
    /// There were more than a recording holds.
    overflow: bool,
}

/// An object that the run created or applied.
struct WrittenObject {
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
    well_formed: Result<(), String>,
    /// The same for a recording, if there is one.
    recorded: Option<KubeRequest>,
}

/// An answer, as a gadget gets it.
trait Answer: Sized {
    /// For a recording.
    fn to_recorded(&self) -> KubeAnswer;
    /// From a recording; `None` if it has another shape.
    fn from_recorded(answer: KubeAnswer) -> Option<Self>;
}

impl Answer for String {
    fn to_recorded(&self) -> KubeAnswer {
        KubeAnswer::Object(exchange::exact_answer(self))
    }

    fn from_recorded(answer: KubeAnswer) -> Option<Self> {
        if let KubeAnswer::Object(object) = answer { Some(exchange::answer_text(object)) } else { None }
    }
}

impl Answer for Vec<String> {
    fn to_recorded(&self) -> KubeAnswer {
        KubeAnswer::Objects(self.iter().map(|text| exchange::exact_answer(text)).collect())
    }

    fn from_recorded(answer: KubeAnswer) -> Option<Self> {
        let KubeAnswer::Objects(objects) = answer else { return None };
        Some(objects.into_iter().map(exchange::answer_text).collect())
    }
}

impl Answer for Vec<Resource> {
    fn to_recorded(&self) -> KubeAnswer {
        KubeAnswer::Kinds(self.clone())
    }

    fn from_recorded(answer: KubeAnswer) -> Option<Self> {
        if let KubeAnswer::Kinds(kinds) = answer { Some(kinds) } else { None }
    }
}

impl Session {
    pub(crate) fn new(caller: Caller, cluster: Option<Cluster>) -> Self {
        let access = cluster.map(|Cluster { api, granted, confined_to }| {
            let asked = caller.asked.clone();
            (Backend::Api(api), Guard::new(Permission { asked, granted, confined_to }))
        });
        let (audit, written, waited) = (Audit::default(), Vec::new(), Duration::ZERO);
        Self { caller, access, audit, written, recorder: None, waited }
    }

    /// For a replay. Everything that the module asks for is granted: the script denies again what was denied.
    pub(crate) fn scripted(caller: Caller, script: Script) -> Self {
        let asked = caller.asked.clone();
        let granted = Arc::new(Granted { grants: asked.clone(), calls: RECORDED_CALLS_MAX });
        let guard = Guard::new(Permission { asked, granted, confined_to: None });
        Self { access: Some((Backend::Script(script), guard)), ..Self::new(caller, None) }
    }

    /// Records the calls.
    pub(crate) fn recording(self) -> Self {
        Self { recorder: Some(Recorder::default()), ..self }
    }

    /// The recorded calls, if there were not too many, and how many calls a script had no answer to.
    pub(crate) fn into_exchanges(self) -> (Option<Vec<KubeExchange>>, u64) {
        let unanswered = match self.access {
            Some((Backend::Script(script), _)) => script.unanswered,
            _ => 0,
        };
        (self.recorder.filter(|recorder| !recorder.overflow).map(|recorder| recorder.exchanges), unanswered)
    }

    /// Whether the run created or applied this object.
    pub(crate) fn has_written(&self, kind: &Resource, namespace: Option<&str>, name: &str) -> bool {
        let same = |k: &Resource| k.group == kind.group && k.plural == kind.plural;
        self.written.iter().any(|w| same(&w.kind) && w.namespace.as_deref() == namespace && w.name == name)
    }

    /// The audit, and how many calls beyond the budget are not in it.
    pub(crate) fn take_audit(&mut self) -> (Vec<KubeCall>, u64) {
        self.audit.take(&self.caller.module)
    }

    pub(crate) async fn discover(
        &mut self,
        group: String,
        plural: String,
    ) -> Result<Vec<Resource>, KubeError> {
        let request = Request {
            call: Call { verb: Verb::Discover, group: &group, plural: &plural, namespace: None, name: None },
            namespaced: false,
            arguments: json!(["discover", group, plural]),
            well_formed: checks::check_resource(&group, &plural),
            recorded: self
                .recorded(|| KubeRequest::Discover { group: group.clone(), plural: plural.clone() }),
        };
        let (group, plural) = (&*group, &*plural);
        let ask = |api: Arc<dyn KubeApi>| async move { api.discover(group, plural).await };
        self.call(request, ask, |kinds, _| Ok(kinds)).await
    }

    pub(crate) async fn get(
        &mut self,
        kind: Resource,
        namespace: Option<String>,
        name: String,
    ) -> Result<String, KubeError> {
        let request = Request {
            call: call_about(Verb::Get, &kind, namespace.as_deref(), Some(&name)),
            namespaced: kind.namespaced,
            arguments: json!(["get", fields(&kind), namespace, name]),
            well_formed: checks::check_place(&kind, namespace.as_deref())
                .and_then(|()| checks::check_name(&name)),
            recorded: self.recorded(|| {
                let (kind, namespace, name) = (kind.clone(), namespace.clone(), name.clone());
                KubeRequest::Get { kind, namespace, name }
            }),
        };
        let (kind, namespace, name) = (&kind, namespace.as_deref(), &*name);
        let ask = |api: Arc<dyn KubeApi>| async move { api.get(kind, namespace, name).await };
        self.call(request, ask, |object, max| bounded_text(&object, max)).await
    }

    pub(crate) async fn list(
        &mut self,
        kind: Resource,
        namespace: Option<String>,
        labels: String,
    ) -> Result<Vec<String>, KubeError> {
        let request = Request {
            call: call_about(Verb::List, &kind, namespace.as_deref(), None),
            namespaced: kind.namespaced,
            arguments: json!(["list", fields(&kind), namespace, labels]),
            well_formed: checks::check_kind(&kind, namespace.as_deref())
                .and_then(|()| checks::check_selector(&labels)),
            recorded: self.recorded(|| {
                let (kind, namespace, labels) = (kind.clone(), namespace.clone(), labels.clone());
                KubeRequest::List { kind, namespace, labels }
            }),
        };
        let (kind, namespace, labels) = (&kind, namespace.as_deref(), &*labels);
        let ask = |api: Arc<dyn KubeApi>| async move { api.list(kind, namespace, labels).await };
        self.call(request, ask, bounded_texts).await
    }

    /// Creates or applies an object, as `verb` says.
    pub(crate) async fn write(
        &mut self,
        verb: Verb,
        kind: Resource,
        namespace: Option<String>,
        text: String,
    ) -> Result<String, KubeError> {
        let checked = checks::object(&text, &kind, namespace.as_deref());
        let name = checked.as_ref().ok().map(|(_, name)| name.clone());
        let request = Request {
            call: call_about(verb, &kind, namespace.as_deref(), name.as_deref()),
            namespaced: kind.namespaced,
            arguments: json!([verb.to_string(), fields(&kind), namespace, text]),
            well_formed: checks::check_place(&kind, namespace.as_deref())
                .and_then(|()| checked.as_ref().map(drop).map_err(String::clone)),
            recorded: self.recorded(|| {
                let (kind, namespace) = (kind.clone(), namespace.clone());
                let object = exchange::written_object(&text);
                match verb {
                    Verb::Apply => KubeRequest::Apply { kind, namespace, object },
                    _ => KubeRequest::Create { kind, namespace, object },
                }
            }),
        };
        let (object, _) = checked.unwrap_or_default();
        let (of, inside) = (&kind, namespace.as_deref());
        let ask = |api: Arc<dyn KubeApi>| async move {
            match verb {
                Verb::Apply => api.apply(of, inside, object).await,
                _ => api.create(of, inside, object).await,
            }
        };
        let answer = self.call(request, ask, |object, max| bounded_text(&object, max)).await;
        // The object exists even if its answer was too large.
        if let (Ok(_) | Err(KubeError::TooLarge(_)), Some(name)) = (&answer, name) {
            self.written.push(WrittenObject { kind, namespace, name });
        }
        answer
    }

    /// Makes a call if it may be made, waits for the answer, but not too long, and takes it in `shape`, if it is not
    /// too large for that.
    async fn call<T, U, A>(
        &mut self,
        request: Request<'_>,
        ask: impl FnOnce(Arc<dyn KubeApi>) -> A + Send,
        shape: fn(T, usize) -> Result<U, KubeError>,
    ) -> Result<U, KubeError>
    where
        U: Answer,
        A: Future<Output = Result<T, KubeError>> + Send,
    {
        let begin = Instant::now();
        let answer = match self.admit(request) {
            Err(error) => Err(error),
            Ok((pending, entry)) => {
                let limit = self.caller.timeout;
                let answer = match pending {
                    Pending::Answered(answer) => U::from_recorded(answer).ok_or_else(|| {
                        KubeError::Unavailable("the recorded answer is one to another call".into())
                    }),
                    Pending::Api(api) => match timeout(limit, ask(api)).await {
                        Ok(answer) => answer.and_then(|answer| shape(answer, self.caller.answer_max_bytes)),
                        Err(_) => Err(KubeError::Deadline(format!("there was none within {limit:?}"))),
                    },
                };
                let result = answer.as_ref().map(drop).map_err(KubeError::clone);
                self.audit.complete(&self.caller.module, entry, begin.elapsed(), result);
                answer
            }
        };
        self.waited += begin.elapsed();
        if let Some(recorder) = &mut self.recorder {
            recorder.end(match &answer {
                Ok(answer) => answer.to_recorded(),
                Err(error) => KubeAnswer::Error(error.clone()),
            });
        }
        answer
    }

    /// The request for a recording, if there is one.
    fn recorded(&self, request: impl FnOnce() -> KubeRequest) -> Option<KubeRequest> {
        self.recorder.is_some().then(request)
    }

    /// How the answer comes, and the entry of the audit that it belongs to; or why there is none.
    fn admit(&mut self, request: Request<'_>) -> Result<(Pending, PendingEntry), KubeError> {
        if let (Some(recorder), Some(call)) = (&mut self.recorder, &request.recorded) {
            recorder.begin(call);
        }
        let Some((backend, guard)) = &mut self.access else {
            let reason = "there is no cluster here: gadgetd runs on a machine of its own";
            return Err(KubeError::Unavailable(reason.into()));
        };
        let Request { call, namespaced, arguments, well_formed, recorded } = request;
        let well_formed = well_formed.map_err(|reason| KubeError::Invalid(format!("{call}: {reason}")));
        let verdict = guard.admit(&call, namespaced).and(well_formed);
        if self.audit.len() > usize::try_from(guard.calls()).unwrap_or(usize::MAX) {
            // The budget was used up before. A module that goes on all the same costs no memory.
            self.audit.count_unrecorded();
            return Err(verdict.err().unwrap_or_else(|| KubeError::Denied("too many calls".into())));
        }
        let verdict = match backend {
            Backend::Api(api) => verdict.map(|()| Pending::Api(Arc::clone(api))),
            Backend::Script(script) => {
                let call =
                    recorded.ok_or_else(|| KubeError::Unavailable("a replay records its calls".into()))?;
                script.answer(&call, verdict).map(Pending::Answered)
            }
        };
        let denied = verdict.as_ref().err().cloned();
        let entry = self.audit.enter(&self.caller.module, &call, &arguments, denied);
        Ok((verdict?, entry))
    }
}

impl Recorder {
    fn begin(&mut self, call: &KubeRequest) {
        self.overflow |= self.exchanges.len() >= RECORDED_CALLS_MAX as usize;
        if !self.overflow {
            self.exchanges.push(KubeExchange { call: call.clone(), answer: None });
        }
    }

    fn end(&mut self, answer: KubeAnswer) {
        let Some(exchange) = self.exchanges.last_mut().filter(|_| !self.overflow) else { return };
        exchange.answer = Some(answer);
        self.size += serde_json::to_string(exchange).map_or(0, |text| text.len());
        if self.size > RECORDING_MAX_BYTES {
            *self = Self { overflow: true, ..Self::default() };
        }
    }
}

/// A kind, as the digest of a call has it.
fn fields(kind: &Resource) -> Value {
    json!([kind.group, kind.version, kind.plural, kind.kind, kind.namespaced])
}

/// An answer of one object, as text of no more than `max` bytes.
fn bounded_text(object: &Value, max: usize) -> Result<String, KubeError> {
    let text = object.to_string();
    if text.len() > max { Err(KubeError::TooLarge(max)) } else { Ok(text) }
}

/// The same for several, all together.
fn bounded_texts(objects: Vec<Value>, max: usize) -> Result<Vec<String>, KubeError> {
    let mut left = max;
    let texts = objects.into_iter().map(|object| {
        let text = object.to_string();
        left = left.checked_sub(text.len()).ok_or(KubeError::TooLarge(max))?;
        Ok(text)
    });
    texts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_bounded_together() {
        assert_eq!(bounded_text(&json!("x"), 3), Ok("\"x\"".into()));
        assert_eq!(bounded_text(&json!("xy"), 3), Err(KubeError::TooLarge(3)));
        assert_eq!(bounded_texts(vec![json!(1), json!(22)], 3), Ok(vec!["1".into(), "22".into()]));
        assert_eq!(bounded_texts(vec![json!(1), json!(222)], 3), Err(KubeError::TooLarge(3)));
    }
}
