//! One Trace, step by step.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use gadgetd_core::kube::KubeError;
use k8s_openapi::{
    api::core::v1::Node,
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::{SignedDuration, Timestamp},
};
use kube::{
    Api, Resource as _, ResourceExt as _,
    api::{Patch, PatchParams},
    runtime::controller::Action,
};
use serde_json::{Value, json};
use thiserror::Error;
use tokio::time::timeout;

use super::{
    Context, NODE_MAX,
    parts::{
        FileSink, ObjectTarget, Order, PartError, Product, Ran, Reason, Recorder, Run, RunError, Runner,
        Seen, Session, Written,
    },
};
use crate::{
    ACCEPTED, Call, NodeStatus, Output, OutputMode, Progress, State, Trace, TraceStatus,
    adapter::sorted,
    documents::{Group, apart, bytes_of_others, fit, groups, place, renews},
    finalizer,
    machine::{
        self, Accepted, Act, Gadget, Here, Merge, Parameters, Plan, Refusal, Selection, Usable, plan,
        plan_for_absent,
    },
    names::{extension, is_subdomain},
    summary::{joined, summary},
};

/// How many steps one reconciliation takes before it lets others have their turn.
const STEPS: usize = 16;

/// How much later than before the last new call must have been for that alone to be written.
const NEWS: SignedDuration = SignedDuration::from_secs(2);

/// How long after a step that failed for good on this node it is tried again.
const LATER: Duration = Duration::from_secs(30);

/// How long the looks at all recordings are apart, on average. What waits its turn in kube's queue has no order there: with more
/// looks than can be taken, some Trace could wait for ever, and with it whoever has just asked for its document.
const LOOK: Duration = Duration::from_millis(20);

/// How long until a gadget that is being fetched is looked at again.
const COMING: Duration = Duration::from_millis(500);

/// How many calls to the cluster stand with one document.
const CALLS_MAX: usize = 16;

/// How often a node that exists and does not answer is looked for again.
const PATIENCE: Duration = Duration::from_mins(1);

/// Why a step must be tried again.
#[derive(Debug, Error)]
pub(super) enum StepError {
    #[error("the API server: {0}")]
    Kube(#[from] KubeError),
    #[error("{0}")]
    Part(String),
    #[error("the object cannot be written: {0}")]
    Json(#[from] serde_json::Error),
}

/// What becomes of a Trace that a step was taken with.
enum Next {
    /// The object after the step.
    Again(Box<Trace>),
    /// Somebody else changed it meanwhile.
    Lost,
    /// It is gone.
    Gone,
}

/// Whose documents are to be made.
#[derive(Clone, Copy)]
enum Which {
    All,
    /// Of containers that ended and have none yet.
    Due,
}

/// The documents that were made.
struct Made {
    outputs: Vec<Output>,
    /// Whether each container has its own.
    apart: bool,
    /// Of how many containers or pods there was anything recorded.
    groups: usize,
    errors: BTreeSet<String>,
    dropped: u64,
}

impl Made {
    /// Notes that there is no (new) document of a group. What there was stays; a container that ended is not
    /// tried again.
    fn failed(&mut self, group: &Group<'_>, mut entry: Output, text: &str) {
        let text = shortened(text);
        self.errors.insert(format!("{}: {text}", group.who()));
        if let Some(known) = self.outputs.iter_mut().find(|o| renews(&entry, o, self.apart)) {
            Output {
                instances: known.instances,
                ended: known.ended,
                more_instances: known.more_instances,
                ..
            } = entry;
            return;
        }
        entry.warning = Some(text);
        entry.complete = false;
        self.place(entry);
    }

    fn place(&mut self, entry: Output) {
        place(&mut self.outputs, entry, self.apart);
    }
}

/// One Trace on this node.
struct Step<'a, R, U, F> {
    context: &'a Context<R, U, F>,
    api: Api<Trace>,
    gadgets: Vec<Gadget>,
    namespace: String,
    name: String,
    uid: String,
}

pub(super) async fn reconcile<R: Recorder, U: Runner, F: FileSink>(
    cached: Arc<Trace>,
    context: Arc<Context<R, U, F>>,
) -> Result<Action, StepError> {
    let (Some(namespace), Some(uid)) = (cached.namespace(), cached.uid()) else {
        return Ok(Action::await_change());
    };
    let step = Step {
        api: context.traces(&namespace),
        gadgets: context.parts.runner.gadgets().await,
        name: cached.name_any(),
        namespace,
        uid,
        context: &*context,
    };
    step.go(&cached).await
}

impl<R: Recorder, U: Runner, F: FileSink> Step<'_, R, U, F> {
    fn here(&self) -> Here<'_> {
        let settings = &self.context.settings;
        Here {
            node: &settings.node,
            system_namespace: &settings.system_namespace,
            gadgets: &self.gadgets,
            now: Timestamp::now(),
        }
    }

    fn node(&self) -> &str {
        &self.context.settings.node
    }

    /// Whether it will be known in a moment if the gadget can run here.
    fn is_coming(&self, gadget: &str) -> bool {
        self.gadgets.iter().any(|g| g.name == gadget && g.usable == Usable::Soon)
    }

    fn session(&self, number: u64) -> Session {
        Session { trace: self.uid.clone(), number }
    }

    /// Takes steps until there is nothing to do but wait.
    async fn go(&self, cached: &Trace) -> Result<Action, StepError> {
        // What is in the cache may be behind what this node wrote itself. It is good enough to see that there is
        // nothing to do, and that spares the API server most questions.
        match plan(cached, &self.here()) {
            Plan::Idle => return self.rest(cached, None).await,
            Plan::Attend { node } => return self.wait_for(&node).await,
            Plan::Record { session } if !self.has_news(cached, session).await? => {
                let pause = self.pause(cached);
                return self.rest(cached, Some(pause)).await;
            }
            _ => {}
        }
        let Some(mut trace) = self.get().await? else { return self.gone().await };
        for _ in 0..STEPS {
            let next = match plan(&trace, &self.here()) {
                Plan::Idle => return self.rest(&trace, None).await,
                Plan::Attend { node } => return self.wait_for(&node).await,
                Plan::Claim(accepted) => self.claim(&trace, &accepted).await?,
                Plan::Perform(..) if self.is_coming(&trace.spec.gadget) => {
                    return Ok(Action::requeue(COMING));
                }
                Plan::Perform(accepted, verdict) => self.perform(&trace, &accepted, verdict).await?,
                Plan::Expire { session } => self.expire(&trace, session).await?,
                Plan::Record { session } => match self.record(&trace, session).await? {
                    Ok(next) => next,
                    Err(pause) => return self.rest(&trace, Some(pause)).await,
                },
                Plan::Release => self.release(&trace).await?,
            };
            match next {
                Next::Again(after) => trace = *after,
                Next::Lost => return Ok(Action::requeue(Duration::from_millis(100))),
                Next::Gone => return self.gone().await,
            }
        }
        Ok(Action::requeue(Duration::from_millis(100)))
    }

    /// Nothing to do but to see after other nodes and, for one of them, to keep the summary true.
    async fn rest(&self, trace: &Trace, pause: Option<Duration>) -> Result<Action, StepError> {
        self.context.records(&self.uid, pause.is_some());
        let nodes = trace.status.iter().flat_map(|s| &s.nodes).map(|n| n.node.as_str());
        // Whoever writes its own part writes the summary; one more looks whether that came to pass.
        if nodes.min() == Some(self.node()) {
            self.summarise(trace).await?;
        }
        let behind = machine::behind(trace, &self.here());
        let rank = u32::try_from(machine::rank(trace, &self.here())).unwrap_or(u32::MAX);
        let look = self.attend(&behind, self.context.settings.grace.saturating_mul(rank.saturating_add(1)));
        let ends = machine::until_others_end(trace, &self.here());
        let pause = pause.into_iter().chain(look.await?).chain(ends).min();
        Ok(pause.map_or_else(Action::await_change, Action::requeue))
    }

    /// The object is gone, and took the finalizer with it: whatever is recorded for it is for nobody.
    async fn gone(&self) -> Result<Action, StepError> {
        self.context.records(&self.uid, false);
        self.context.waits(&self.uid, &[], Duration::ZERO);
        part(self.context.parts.recorder.stop(&self.uid, None).await)?;
        Ok(Action::await_change())
    }

    // --- the API server ---

    async fn call<T>(&self, call: impl Future<Output = kube::Result<T>>) -> Result<T, KubeError> {
        let deadline = self.context.settings.deadline;
        match timeout(deadline, call).await {
            Ok(answer) => answer.map_err(|error| sorted(&error)),
            Err(_) => Err(KubeError::Deadline(format!("it took longer than {deadline:?}"))),
        }
    }

    async fn get(&self) -> Result<Option<Trace>, StepError> {
        let trace = self.call(self.api.get_opt(&self.name)).await?;
        Ok(trace.filter(|t| t.metadata.uid.as_ref() == Some(&self.uid)))
    }

    /// Changes metadata of the version that was read, and of no other.
    async fn patch(&self, trace: &Trace, mut metadata: Value) -> Result<Next, StepError> {
        metadata["resourceVersion"] = json!(trace.resource_version());
        let params = PatchParams { field_manager: Some(manager(self.node())), ..PatchParams::default() };
        let patch = Patch::Merge(json!({ "metadata": metadata }));
        next(self.call(self.api.patch(&self.name, &params, &patch)).await)
    }

    /// Applies a part of the status.
    async fn apply(&self, manager: &str, version: Option<String>, status: Value) -> Result<Next, StepError> {
        let mut object = json!({
            "apiVersion": Trace::api_version(&()),
            "kind": Trace::kind(&()),
            "metadata": { "name": self.name, "namespace": self.namespace, "uid": self.uid },
            "status": status,
        });
        if let Some(version) = version {
            object["metadata"]["resourceVersion"] = json!(version);
        }
        let params = PatchParams::apply(manager).force();
        next(self.call(self.api.patch_status(&self.name, &params, &Patch::Apply(object))).await)
    }

    /// Writes the entries of a node, then the summary of all.
    async fn write(&self, entry: &NodeStatus, outputs: &[Output]) -> Result<Next, StepError> {
        self.write_on(None, entry, outputs).await
    }

    /// The same, onto a version of the object and no other.
    async fn write_on(
        &self,
        version: Option<String>,
        entry: &NodeStatus,
        outputs: &[Output],
    ) -> Result<Next, StepError> {
        let status = json!({ "nodes": [entry], "outputs": outputs });
        match self.apply(&manager(&entry.node), version, status).await? {
            Next::Again(after) => self.summarise(&after).await,
            other => Ok(other),
        }
    }

    /// Makes the summary what it should be, on the version of the object that it was computed from.
    async fn summarise(&self, trace: &Trace) -> Result<Next, StepError> {
        let wanted = summary(trace, Timestamp::now());
        let mut found = trace.status.clone().unwrap_or_default();
        found.nodes.clear();
        found.outputs.clear();
        if found == wanted || wanted == TraceStatus::default() {
            return Ok(Next::Again(Box::new(trace.clone())));
        }
        let status = serde_json::to_value(wanted)?;
        match self.apply("gadgetd", trace.resource_version(), status).await? {
            // Somebody wrote a newer part, and then the summary, or will.
            Next::Lost => self.get().await.map(|t| t.map_or(Next::Gone, |t| Next::Again(Box::new(t)))),
            next => Ok(next),
        }
    }

    // --- steps ---

    async fn claim(&self, trace: &Trace, accepted: &Accepted) -> Result<Next, StepError> {
        let mut annotations = serde_json::Map::new();
        for key in machine::asking(trace) {
            annotations.insert(key, Value::Null);
        }
        annotations.insert(ACCEPTED.into(), serde_json::to_string(accepted)?.into());
        let next = self.patch(trace, json!({ "annotations": annotations })).await?;
        if matches!(next, Next::Again(_)) {
            let operation = &accepted.operation;
            tracing::info!(trace = self.who(), id = accepted.id, ?operation, "took an operation");
        }
        Ok(next)
    }

    fn who(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// This node's part of the status, as it is.
    fn entry(&self, trace: &Trace) -> NodeStatus {
        let fresh = || NodeStatus { node: self.node().to_owned(), ..NodeStatus::default() };
        machine::entry(trace, self.node()).cloned().unwrap_or_else(fresh)
    }

    fn outputs(&self, trace: &Trace) -> Vec<Output> {
        outputs_of(trace, self.node())
    }

    async fn perform(
        &self,
        trace: &Trace,
        accepted: &Accepted,
        verdict: Result<Act, Refusal>,
    ) -> Result<Next, StepError> {
        let before = self.entry(trace);
        let entry = NodeStatus {
            operation: accepted.id,
            operation_error: None,
            operation_warning: None,
            ..before.clone()
        };
        let outputs = self.outputs(trace);
        let refused_here = verdict.is_err();
        let next = match verdict {
            Err(refusal) => {
                tracing::info!(trace = self.who(), id = accepted.id, %refusal, "refused an operation");
                self.write(&refused(entry, &refusal), &outputs).await
            }
            Ok(Act::Nothing) => {
                let operation_warning = before.operation_warning;
                self.write(&NodeStatus { operation_warning, ..entry }, &outputs).await
            }
            Ok(Act::Start { session, generate }) => {
                self.start(trace, accepted, entry, session, generate).await
            }
            Ok(Act::Generate { session }) => {
                self.finish(trace, accepted, entry, Some(session), State::Started).await
            }
            Ok(Act::Stop { session }) => self.finish(trace, accepted, entry, session, State::Stopped).await,
        };
        if let Ok(Next::Again(after)) = &next
            && let Some(entry) = machine::entry(after, self.node()).filter(|e| e.operation >= accepted.id)
        {
            let refused = refused_here || entry.operation_error.is_some();
            self.context.settings.observer.performed(&accepted.operation, refused);
        }
        next
    }

    async fn start(
        &self,
        trace: &Trace,
        accepted: &Accepted,
        entry: NodeStatus,
        number: u64,
        generate: bool,
    ) -> Result<Next, StepError> {
        let system = &self.context.settings.system_namespace;
        let recorder = &self.context.parts.recorder;
        let selection = machine::selection(trace.spec.filter.as_ref(), &self.namespace, system);
        let parameters = Parameters::read(trace, Some(accepted));
        let (selection, parameters) = match (selection, parameters) {
            (Ok(selection), Ok(parameters)) => (selection, parameters),
            (Err(refusal), _) | (_, Err(refusal)) => {
                return self.write(&refused(entry, &refusal), &self.outputs(trace)).await;
            }
        };
        let found = part(recorder.find(&selection).await)?;
        let node = (!trace.spec.node.is_empty()).then(|| self.node());
        let warning = match machine::look(&selection, &found, node) {
            Ok(warning) => warning,
            Err(refusal) => return self.write(&refused(entry, &refusal), &self.outputs(trace)).await,
        };
        // First what makes sure that it is released; the object comes back, and this step with it.
        let mut finalizers = trace.finalizers().to_vec();
        let own = finalizer(self.node());
        if !finalizers.contains(&own) {
            finalizers.push(own);
            return self.patch(trace, json!({ "finalizers": finalizers })).await;
        }
        part(recorder.stop(&self.uid, Some(number)).await)?;
        match recorder.start(&self.session(number), &selection).await {
            Ok(()) => {}
            Err(PartError::Refused(text)) => {
                let entry = NodeStatus { operation_error: Some(text), state: None, session: None, ..entry };
                return self.write(&entry, &self.outputs(trace)).await;
            }
            Err(PartError::Unavailable(text)) => return Err(StepError::Part(text)),
        }
        tracing::info!(trace = self.who(), %selection, "records");
        let entry = NodeStatus {
            session: Some(number),
            state: Some(State::Started),
            started: Some(Time(Timestamp::now())),
            timeout_seconds: parameters.timeout.map(|t| t.as_secs()),
            filter: trace.spec.filter.clone(),
            operation_warning: warning,
            progress: None,
            ..entry
        };
        if generate {
            // Nothing can have been recorded yet, so the same as a start; but for its own operation.
            let warning = "This node began to record only now, and has no documents yet".to_owned();
            let operation_warning = Some(entry.operation_warning.clone().unwrap_or(warning));
            return self.write(&NodeStatus { operation_warning, ..entry }, &[]).await;
        }
        let progress = self.progress(&entry, number).await?;
        self.write(&NodeStatus { progress: Some(progress), ..entry }, &[]).await
    }

    /// Makes documents of everything, and puts the recording into `state`.
    async fn finish(
        &self,
        trace: &Trace,
        accepted: &Accepted,
        entry: NodeStatus,
        session: Option<u64>,
        state: State,
    ) -> Result<Next, StepError> {
        let Some(number) = session else {
            let entry = NodeStatus { state: entry.state.clone().map(|_| state), ..entry };
            return self.write(&entry, &self.outputs(trace)).await;
        };
        let parameters = match Parameters::read(trace, Some(accepted)) {
            Ok(parameters) => parameters,
            // Only a stop comes here with such: it stops, and says what it could not make documents with.
            Err(refusal) => {
                let entry = NodeStatus { state: Some(state), ..refused(entry, &refusal) };
                return self.write(&entry, &self.outputs(trace)).await;
            }
        };
        self.adopt(trace, &entry, number).await?;
        let occasion = format!("operation-{}", accepted.id);
        let made = self.make(trace, number, &parameters, Reason::OnDemand, Which::All, &occasion).await?;
        let mut entry = self.made(entry, number, &made).await?;
        if made.groups == 0 {
            entry.operation_warning = Some(self.nothing(trace, &entry, &state));
        }
        entry.state = Some(state);
        tracing::info!(trace = self.who(), documents = made.groups, state = ?entry.state, "made documents");
        self.write(&entry, &made.outputs).await
    }

    /// What to say where nothing was recorded.
    fn nothing(&self, trace: &Trace, entry: &NodeStatus, state: &State) -> String {
        let node =
            if trace.spec.node.is_empty() { String::new() } else { format!(" on node {}", self.node()) };
        let what = self.selection(entry).map_or_else(|_| "What was asked for".to_owned(), |s| s.to_string());
        let now =
            if *state == State::Started { "nothing has been recorded yet" } else { "nothing was recorded" };
        format!("{what} not found{node}: {now}")
    }

    /// The entry after documents were made.
    async fn made(&self, entry: NodeStatus, number: u64, made: &Made) -> Result<NodeStatus, StepError> {
        let mut progress = self.progress(&entry, number).await?;
        progress.dropped += made.dropped;
        let operation_error = joined(made.errors.iter().map(String::as_str)).or(entry.operation_error);
        Ok(NodeStatus { progress: Some(progress), operation_error, ..entry })
    }

    async fn expire(&self, trace: &Trace, number: u64) -> Result<Next, StepError> {
        let entry = self.entry(trace);
        self.adopt(trace, &entry, number).await?;
        let mut entry = match Parameters::read(trace, None) {
            Err(refusal) => refused(entry, &refusal),
            Ok(parameters) => {
                let occasion = format!("timeout-{number}");
                let made =
                    self.make(trace, number, &parameters, Reason::OnDemand, Which::All, &occasion).await?;
                let mut entry = self.made(entry, number, &made).await?;
                if made.groups == 0 {
                    entry.operation_warning = Some(self.nothing(trace, &entry, &State::Completed));
                }
                entry.state = Some(State::Completed);
                return self.write(&entry, &made.outputs).await;
            }
        };
        entry.state = Some(State::Completed);
        self.write(&entry, &self.outputs(trace)).await
    }

    /// Gives up what is recorded here, then the entry where the Trace is another node's, then the finalizer.
    async fn release(&self, trace: &Trace) -> Result<Next, StepError> {
        part(self.context.parts.recorder.stop(&self.uid, None).await)?;
        let deleting = trace.metadata.deletion_timestamp.is_some();
        let elsewhere = !trace.spec.node.is_empty() && trace.spec.node != self.node();
        if elsewhere && !deleting && machine::entry(trace, self.node()).is_some() {
            return self.apply(&manager(self.node()), None, json!({})).await;
        }
        self.give_up_finalizer(trace, self.node()).await
    }

    async fn give_up_finalizer(&self, trace: &Trace, node: &str) -> Result<Next, StepError> {
        let own = finalizer(node);
        let rest: Vec<_> = trace.finalizers().iter().filter(|f| **f != own).collect();
        self.patch(trace, json!({ "finalizers": rest })).await
    }

    // --- recordings ---

    /// What this node records, as it was asked for when the recording began.
    fn selection(&self, entry: &NodeStatus) -> Result<Selection, Refusal> {
        // The rules are applied again: a status is no authority on whose pods a Trace may select.
        machine::selection(entry.filter.as_ref(), &self.namespace, &self.context.settings.system_namespace)
    }

    /// Makes sure that a session is being recorded, also after a restart of this process.
    async fn adopt(&self, trace: &Trace, entry: &NodeStatus, number: u64) -> Result<(), StepError> {
        let selection = self.selection(entry).map_err(|refusal| StepError::Part(refusal.to_string()))?;
        if trace.metadata.deletion_timestamp.is_none() {
            part(self.context.parts.recorder.start(&self.session(number), &selection).await)?;
        }
        Ok(())
    }

    async fn seen(&self, number: u64) -> Result<Seen, StepError> {
        part(self.context.parts.recorder.seen(&self.session(number)).await)
    }

    async fn progress(&self, entry: &NodeStatus, number: u64) -> Result<Progress, StepError> {
        Ok(progress(entry, &self.seen(number).await?))
    }

    /// Whether a recording has come to something that is not in the status.
    async fn has_news(&self, trace: &Trace, number: u64) -> Result<bool, StepError> {
        let entry = self.entry(trace);
        if !trace.finalizers().contains(&finalizer(self.node())) {
            return Ok(true);
        }
        if let Err(error) = self.adopt(trace, &entry, number).await {
            tracing::warn!(trace = self.who(), %error, "cannot go on recording");
            return Ok(true);
        }
        let seen = self.seen(number).await?;
        let outputs = self.outputs(trace);
        let due = seen.ended.iter().any(|id| !documented(&outputs, id));
        let releasable = releases(trace) && !seen.ended.is_empty();
        Ok(due || releasable || entry.progress != Some(progress(&entry, &seen)))
    }

    /// Sees to the containers that ended and to the progress. `Err`: there was nothing to write; look again later.
    async fn record(&self, trace: &Trace, number: u64) -> Result<Result<Next, Duration>, StepError> {
        let own = finalizer(self.node());
        if !trace.finalizers().contains(&own) {
            let finalizers: Vec<_> = trace.finalizers().iter().chain([&own]).collect();
            return Ok(Ok(self.patch(trace, json!({ "finalizers": finalizers })).await?));
        }
        let before = self.entry(trace);
        if let Err(error) = self.adopt(trace, &before, number).await {
            let operation_error = Some(format!("Cannot go on recording: {error}"));
            let entry = NodeStatus { operation_error, ..before.clone() };
            if entry == before {
                return Ok(Err(LATER));
            }
            return Ok(Ok(self.write(&entry, &self.outputs(trace)).await?));
        }
        let seen = self.seen(number).await?;
        let mut outputs = self.outputs(trace);
        if releases(trace) {
            for id in seen.ended.iter().filter(|id| documented(&outputs, id)) {
                part(self.context.parts.recorder.release(&self.session(number), id).await)?;
            }
        }
        let due = seen.ended.iter().any(|id| !documented(&outputs, id));
        let mut entry = before.clone();
        entry.progress = Some(progress(&entry, &seen));
        if seen.containers > 0 && before.progress.as_ref().is_none_or(|p| p.containers == 0) {
            // It said that there was nothing to record.
            entry.operation_warning = None;
        }
        if due {
            match Parameters::read(trace, None) {
                Ok(parameters) => {
                    let made = self
                        .make(trace, number, &parameters, Reason::ContainerEnded, Which::Due, "ended")
                        .await?;
                    entry = self.made(entry, number, &made).await?;
                    outputs = made.outputs;
                }
                Err(refusal) => entry.operation_error = Some(refusal.to_string()),
            }
        }
        if entry == before && outputs == self.outputs(trace) {
            return Ok(Err(self.pause(trace)));
        }
        Ok(Ok(self.write(&entry, &outputs).await?))
    }

    /// How long until there is something to see.
    fn pause(&self, trace: &Trace) -> Duration {
        let progress = self.context.settings.progress.max(LOOK * self.context.recordings());
        machine::remaining(trace, &self.here()).map_or(progress, |rest| rest.min(progress))
    }

    // --- documents ---

    async fn make(
        &self,
        trace: &Trace,
        number: u64,
        parameters: &Parameters,
        reason: Reason,
        which: Which,
        occasion: &str,
    ) -> Result<Made, StepError> {
        let recorder = &self.context.parts.recorder;
        let output_mode = &trace.spec.output_mode;
        let recordings = part(recorder.recordings(&self.session(number)).await)?;
        let groups = groups(&recordings, parameters.merge, output_mode);
        let mut made = Made {
            outputs: self.outputs(trace),
            apart: apart(parameters.merge, output_mode),
            groups: groups.len(),
            errors: BTreeSet::new(),
            dropped: 0,
        };
        for group in &groups {
            let final_already = *output_mode == OutputMode::Stream
                && group.recordings.iter().all(|r| r.ended)
                && !group.is_due(&made.outputs);
            if final_already || (matches!(which, Which::Due) && !group.is_due(&made.outputs)) {
                continue;
            }
            let mut entry = group.entry(self.node());
            entry.time = Some(Time(Timestamp::now()));
            let mut calls = Vec::new();
            let result = self.result(trace, group, parameters, reason, occasion, &mut calls).await;
            note_calls(&mut entry, calls);
            match result {
                Ok(result) => {
                    entry.output = result.output;
                    entry.resource = result.resource;
                    entry.localhost_profile = result.localhost_profile;
                    entry.objection = result.objection;
                    made.place(entry);
                }
                Err(RunError::Empty) => {
                    entry.warning = Some("no system call was recorded: there is no document".into());
                    made.place(entry);
                }
                Err(RunError::Failed(text)) => {
                    let text = format!("gadget {} failed: {text}", trace.spec.gadget);
                    made.failed(group, entry, &text);
                }
                Err(RunError::Refused(text)) => made.failed(group, entry, &text),
                Err(RunError::Unavailable(text)) => return Err(StepError::Part(text)),
            }
        }
        let gone = fit(&mut made.outputs, output_mode, bytes_of_others(trace, self.node()));
        made.dropped = gone.documents;
        let ended = |id: &String| recordings.iter().any(|r| r.ended && r.capture.container.id == *id);
        for id in gone.instances.iter().filter(|id| ended(id)) {
            part(recorder.release(&self.session(number), id).await)?;
        }
        Ok(made)
    }

    /// Makes the document or the object of a group, and takes it where it goes.
    async fn result(
        &self,
        trace: &Trace,
        group: &Group<'_>,
        parameters: &Parameters,
        reason: Reason,
        occasion: &str,
        calls: &mut Vec<Call>,
    ) -> Result<Output, RunError> {
        let refused = |text: String| RunError::Refused(text);
        let target =
            machine::destination(trace, parameters, &self.here()).map_err(|r| refused(r.to_string()))?;
        let pod_given = trace.spec.filter.as_ref().is_some_and(|f| !f.podname.is_empty());
        let name = target.as_ref().map(|target| target.name(&group.subject(pod_given)));
        let name = name.transpose().map_err(|e| refused(e.to_string()))?;
        let external = trace.spec.output_mode == OutputMode::ExternalResource;
        // A container ends once: the id of the latest tells one end from the next.
        let latest = group.latest();
        let occasion = match occasion {
            "ended" => format!("ended-{}", latest.capture.container.id),
            other => other.to_owned(),
        };
        let system = &self.context.settings.system_namespace;
        let object = target.as_ref().zip(name.as_deref()).filter(|_| external).map(|(target, name)| {
            let namespace = target.namespace.as_deref().unwrap_or(&group.namespace);
            ObjectTarget { namespace, name }
        });
        let order = Order {
            trace_namespace: &self.namespace,
            trace_name: &self.name,
            trace_uid: &self.uid,
            node: self.node(),
            namespace: &group.namespace,
            pod: &group.pod,
            container: group.container.as_deref(),
            owner: latest.owner.as_ref(),
            target: object,
            occasion: &occasion,
            confined_to: (self.namespace != *system).then_some(self.namespace.as_str()),
        };
        // What documents are written with by default makes no objects; what does is the default there.
        let formatter = parameters.formatter.as_deref().filter(|name| !external || *name != "oci");
        let run = Run {
            trace: &self.who(),
            gadget: &trace.spec.gadget,
            formatter,
            parameters: &parameters.rest,
            capture: group.capture(),
            reason,
            order,
        };
        let Ran { product, calls: made, objection } = self.context.parts.runner.run(run).await;
        for call in &made {
            self.context.settings.observer.called(&trace.spec.gadget, call);
        }
        *calls = made;
        let document = match product? {
            Product::Object(Written { resource, localhost_profile }) => {
                return Ok(Output {
                    resource: Some(resource),
                    localhost_profile,
                    objection,
                    ..Output::default()
                });
            }
            Product::Document(_) if external => {
                return Err(RunError::Failed("it made a document, and no object".into()));
            }
            Product::Document(document) => document,
        };
        let Some(name) = name else {
            return Ok(Output { output: Some(document.body), objection, ..Output::default() });
        };
        let name = format!("{name}{}", extension(&document.media_type));
        match self.context.parts.files.write(&self.namespace, &name, &document.body).await {
            Ok(path) => Ok(Output { localhost_profile: Some(path), objection, ..Output::default() }),
            Err(PartError::Refused(text)) => Err(refused(text)),
            Err(PartError::Unavailable(text)) => Err(RunError::Unavailable(text)),
        }
    }

    // --- other nodes ---

    /// Nobody but another node does anything about this Trace.
    async fn wait_for(&self, node: &str) -> Result<Action, StepError> {
        let pause = self.attend(&[node], self.context.settings.grace).await?;
        Ok(pause.map_or_else(Action::await_change, Action::requeue))
    }

    /// Sees after a while whether nodes that somebody waits for exist, and answers for those that do not. Gives how long until
    /// it looks again.
    async fn attend(&self, nodes: &[&str], grace: Duration) -> Result<Option<Duration>, StepError> {
        let mut again = None;
        for (node, rest) in nodes.iter().zip(self.context.waits(&self.uid, nodes, grace)) {
            let pause = if rest.is_zero() { self.look_for(node).await? } else { Some(rest) };
            again = again.into_iter().chain(pause).min();
        }
        Ok(again)
    }

    /// Sees whether a node exists, and answers for it if not. If it does: how long until it is looked for again.
    async fn look_for(&self, node: &str) -> Result<Option<Duration>, StepError> {
        // The API server lets no such thing through; one that was there before its definition says so may have it.
        if node.len() > NODE_MAX || !is_subdomain(node) {
            tracing::warn!(trace = self.who(), node, "no node can be called like that");
            return Ok(None);
        }
        let nodes: Api<Node> = Api::all(self.context.client.clone());
        if self.call(nodes.get_opt(node)).await?.is_some() {
            self.context.waits_on(&self.uid, node, PATIENCE);
            return Ok(Some(PATIENCE));
        }
        for _ in 0..STEPS {
            let Some(trace) = self.get().await? else {
                self.gone().await?;
                break;
            };
            let _ = match plan_for_absent(&trace, node, &self.here()) {
                Plan::Claim(accepted) => self.claim(&trace, &accepted).await?,
                Plan::Perform(accepted, Err(refusal)) => {
                    self.answer_for(&trace, node, Some(accepted.id), &refusal).await?
                }
                Plan::Expire { .. } => {
                    let refusal = Refusal::NodeGone { node: node.to_owned() };
                    self.answer_for(&trace, node, None, &refusal).await?
                }
                Plan::Release => self.give_up_finalizer(&trace, node).await?,
                _ => break,
            };
        }
        Ok(None)
    }

    /// Writes for a node that is gone that it records no more. The documents that it made stay.
    async fn answer_for(
        &self,
        trace: &Trace,
        node: &str,
        operation: Option<u64>,
        refusal: &Refusal,
    ) -> Result<Next, StepError> {
        tracing::info!(trace = self.who(), node, %refusal, "answers for a node that is gone");
        let before = machine::entry(trace, node).cloned().unwrap_or_default();
        let recorded = before.state == Some(State::Started);
        let something = before.progress.as_ref().is_some_and(|progress| progress.containers > 0);
        let state = if recorded { Some(State::Stopped) } else { before.state.clone() };
        let operation = operation.unwrap_or(before.operation);
        let entry = NodeStatus { node: node.to_owned(), operation, state, ..before };
        let entry = if trace.spec.node.is_empty() {
            // The others did what was asked for. What this one had recorded nothing of is not missed.
            let operation_warning = (recorded && something).then(|| refusal.to_string());
            NodeStatus { operation_error: None, operation_warning, ..entry }
        } else {
            refused(entry, refusal)
        };
        // It may be there after all, and have written something newer.
        self.write_on(trace.resource_version(), &entry, &outputs_of(trace, node)).await
    }
}

/// The entries of a node's documents, in the order in which it made them.
fn outputs_of(trace: &Trace, node: &str) -> Vec<Output> {
    let outputs = trace.status.iter().flat_map(|s| &s.outputs);
    let mut outputs: Vec<_> = outputs.filter(|o| o.node == node).cloned().collect();
    outputs.sort_by_key(|o| o.sequence);
    outputs
}

/// Notes the calls that a gadget made for an entry, as many as there is room for, and says it if some were denied.
fn note_calls(entry: &mut Output, calls: Vec<Call>) {
    let denied = calls.iter().filter(|call| !call.allowed).count();
    if let Some(first) = calls.iter().find(|call| !call.allowed) {
        let others = if denied > 1 { format!(", and {} more", denied - 1) } else { String::new() };
        let text = format!("the gadget went without a call: {}{others}", first.result);
        entry.warning = Some(entry.warning.take().map_or(text.clone(), |known| format!("{known}; {text}")));
    }
    let room = CALLS_MAX.saturating_sub(denied);
    let mut allowed = 0;
    let (mut kept, mut more) = (Vec::new(), 0);
    for call in calls {
        allowed += usize::from(call.allowed);
        if kept.len() == CALLS_MAX || call.allowed && allowed > room {
            more += 1;
        } else {
            kept.push(call);
        }
    }
    (entry.calls, entry.more_calls) = (kept, more);
}

/// How many characters of one error stand in a Trace. It may be a module's, or a server's, and stands there several times.
const TEXT_MAX: usize = 1024;

fn shortened(text: &str) -> String {
    match text.char_indices().nth(TEXT_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The field manager of a node.
pub(super) fn manager(node: &str) -> String {
    format!("gadgetd-{node}")
}

fn refused(entry: NodeStatus, refusal: &Refusal) -> NodeStatus {
    NodeStatus { operation_error: Some(refusal.to_string()), operation_warning: None, ..entry }
}

/// Whether what ended is forgotten once its document is written: a stream's documents are final.
fn releases(trace: &Trace) -> bool {
    let merge = Parameters::read(trace, None).map_or(Merge::Container, |p| p.merge);
    apart(merge, &trace.spec.output_mode)
}

fn documented(outputs: &[Output], id: &str) -> bool {
    outputs.iter().any(|o| o.ended.iter().any(|ended| ended == id))
}

/// The progress of a node, moved only by what is news: times that differ by rounding are none.
fn progress(entry: &NodeStatus, seen: &Seen) -> Progress {
    let before = entry.progress.clone().unwrap_or_default();
    let since = seen.since_new.and_then(|d| SignedDuration::try_from(d).ok());
    let last_new = since.and_then(|since| Timestamp::now().checked_sub(since).ok());
    let last_new = match (last_new, &before.last_new) {
        (Some(now), Some(before)) if now.duration_since(before.0).abs() < NEWS => Some(before.clone()),
        (Some(now), _) => Timestamp::from_second(now.as_second()).ok().map(Time),
        (None, before) => before.clone(),
    };
    Progress { containers: seen.containers, syscalls: seen.syscalls, last_new, dropped: before.dropped }
}

/// An answer of a part of the node where every failure is one to try again.
fn part<T>(answer: Result<T, PartError>) -> Result<T, StepError> {
    answer.map_err(|error| StepError::Part(error.to_string()))
}

fn next(answer: Result<Trace, KubeError>) -> Result<Next, StepError> {
    match answer {
        Ok(trace) => Ok(Next::Again(Box::new(trace))),
        Err(KubeError::Conflict(_)) => Ok(Next::Lost),
        Err(KubeError::NotFound(_)) => Ok(Next::Gone),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_that_were_denied_come_first() {
        let call = |number: usize, allowed| Call {
            call: format!("get things a/{number}"),
            allowed,
            result: if allowed { "ok".into() } else { format!("denied: get things a/{number}: no") },
            ..Call::default()
        };
        let mut entry = Output { warning: Some("incomplete".into()), ..Output::default() };
        note_calls(&mut entry, (0..20).map(|n| call(n, n != 5 && n < 18)).collect());
        assert_eq!((entry.calls.len(), entry.more_calls), (16, 4));
        assert_eq!(entry.calls.iter().filter(|c| !c.allowed).count(), 3);
        let want = "incomplete; the gadget went without a call: denied: get things a/5: no, and 2 more";
        assert_eq!(entry.warning.as_deref(), Some(want));
        let mut entry = Output::default();
        note_calls(&mut entry, (0..100).map(|n| call(n, false)).collect());
        assert_eq!((entry.calls.len(), entry.more_calls), (16, 84));
        let mut entry = Output::default();
        note_calls(&mut entry, vec![call(0, true)]);
        assert_eq!((entry.calls.len(), entry.more_calls, entry.warning), (1, 0, None));
    }

    #[test]
    fn one_error_takes_bounded_room() {
        assert_eq!(shortened("nö"), "nö");
        let long = shortened(&"ö".repeat(TEXT_MAX + 1));
        assert_eq!((long.chars().count(), long.ends_with("ö…")), (TEXT_MAX + 1, true));
    }
}
