//! A recording: a Trace on the API server, and what nodes do about it.

mod find;
mod watch;

use std::{
    future::Future,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};
use gadgetd_kube::{
    OPERATION, Trace, finalizer_node,
    machine::{self, Operation},
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio::time::sleep;

pub(crate) use self::{
    find::unlisted,
    watch::{Settled, Watch},
};
use crate::{
    connection::{Connection, InTime as _},
    errors::{Explain as _, Needs, explained, is_not_found, is_unreachable},
    target::{Wanted, object, subject},
};

/// The pause before another attempt.
pub(crate) const AGAIN: Duration = Duration::from_millis(300);

/// A Trace that is there.
#[derive(Clone)]
pub(crate) struct Recording {
    api: Api<Trace>,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// A Trace that could not be made, as far as that is known.
#[derive(Debug)]
pub(crate) struct Unmade {
    pub error: anyhow::Error,
    /// Whether there may be one all the same: only the answer is missing.
    pub perhaps: bool,
}

impl Unmade {
    /// By somebody who did not want to wait for the answer.
    pub(crate) fn interrupted() -> Self {
        Self { error: anyhow!("interrupted: nothing was recorded"), perhaps: true }
    }
}

impl Recording {
    /// Makes the Trace; it starts as soon as a node sees it.
    pub(crate) async fn create(
        connection: &Connection,
        wanted: &Wanted,
        id: &str,
    ) -> Result<(Self, Trace), Unmade> {
        let this = Self::of(connection, &object(wanted, id));
        let namespace = &this.namespace;
        let error = match this.api.create(&PostParams::default(), &object(wanted, id)).in_time().await {
            Ok(trace) => return Ok((this, trace)),
            Err(error) => error,
        };
        let explanation = match &error {
            kube::Error::Api(status) if status.details.as_ref().is_some_and(|d| d.kind == "namespaces") => {
                anyhow!(
                    "there is no namespace {namespace}: see `kubectl get namespaces`, and name one with -n"
                )
            }
            error => {
                let what = format_args!(
                    "record {}: a Trace in namespace {namespace} cannot be made",
                    subject(&wanted.spec)
                );
                explained(error, what, Needs::User(Some(namespace)))
            }
        };
        Err(Unmade { error: explanation, perhaps: is_unreachable(&error) })
    }

    /// The one that a Trace is.
    pub(crate) fn of(connection: &Connection, trace: &Trace) -> Self {
        let namespace = trace.namespace().unwrap_or_default();
        Self { api: connection.traces(&namespace), namespace, name: trace.name_any() }
    }

    /// Finds one by its id, or by the name of its Trace, with or without the namespace.
    pub(crate) async fn find(connection: &Connection, id: &str) -> Result<(Self, Trace)> {
        let trace = find::find(connection, id).await?;
        Ok((Self::of(connection, &trace), trace))
    }

    /// Watches it from a state of it that is known.
    pub(crate) fn watch(&self, trace: Trace) -> Watch {
        Watch::new(self.api.clone(), trace)
    }

    /// Asks for an operation, unless somebody has; gives the number of the operation before it. Where the API server
    /// cannot be reached, it tries for a while.
    pub(crate) async fn ask(&self, operation: &str, trace: &Trace, patience: Duration) -> Result<u64> {
        let begun = Instant::now();
        let what = || format!("{operation} {}/{}", self.namespace, self.name);
        let needs = Needs::User(Some(&self.namespace));
        let mut trace = trace.clone();
        loop {
            if let Some(before) = asked(&trace, operation) {
                return Ok(before);
            }
            // On this version alone: a second stop would be one too many.
            let patch = Patch::Merge(json!({ "metadata": {
                "annotations": { OPERATION: operation },
                "resourceVersion": trace.resource_version(),
            } }));
            match self.api.patch(&self.name, &PatchParams::default(), &patch).in_time().await {
                Ok(_) => return Ok(machine::accepted(&trace).map_or(0, |accepted| accepted.id)),
                Err(kube::Error::Api(status)) if status.is_conflict() => {}
                Err(error) if is_unreachable(&error) && begun.elapsed() < patience => sleep(AGAIN).await,
                Err(error) => return Err(explained(&error, what(), needs)),
            }
            match self.api.get(&self.name).in_time().await {
                Ok(now) => trace = now,
                Err(error) if is_unreachable(&error) && begun.elapsed() < patience => {}
                Err(error) => return Err(explained(&error, what(), needs)),
            }
        }
    }

    /// Deletes it. Nodes that record for it see to that themselves.
    pub(crate) async fn delete(&self) -> Result<()> {
        match self.api.delete(&self.name, &DeleteParams::default()).in_time().await {
            Err(error) if !is_not_found(&error) => {
                let what = format_args!("delete {}/{}", self.namespace, self.name);
                Err(explained(&error, what, Needs::User(Some(&self.namespace))))
            }
            _ => Ok(()),
        }
    }

    /// The object as it is; `None`: it is gone.
    pub(crate) async fn get(&self) -> Result<Option<Trace>> {
        let what = format_args!("read {}/{}", self.namespace, self.name);
        self.api.get_opt(&self.name).in_time().await.explain(what, Needs::User(Some(&self.namespace)))
    }

    /// Takes the finalizers of nodes away, of those that `given_up` names: what they record for it ends when they see
    /// that it is gone.
    pub(crate) async fn give_up(&self, trace: &Trace, given_up: impl Fn(&str) -> bool) -> Result<()> {
        let keep = |f: &&String| finalizer_node(f).is_none_or(|node| !given_up(node));
        let rest: Vec<_> = trace.finalizers().iter().filter(keep).collect();
        if rest.len() == trace.finalizers().len() {
            return Ok(());
        }
        let patch =
            json!({ "metadata": { "finalizers": rest, "resourceVersion": trace.resource_version() } });
        match self.api.patch(&self.name, &PatchParams::default(), &Patch::Merge(patch)).in_time().await {
            // Somebody changed it, or it is gone: whoever wants to tries again.
            Err(kube::Error::Api(status)) if status.code == 409 || status.code == 404 => Ok(()),
            answer => {
                let what = format_args!("give up {}/{}", self.namespace, self.name);
                answer.map(drop).explain(what, Needs::User(Some(&self.namespace)))
            }
        }
    }
}

/// Whether an operation is asked for already, or was taken as the last; then the number of the one before it.
fn asked(trace: &Trace, operation: &str) -> Option<u64> {
    let accepted = machine::accepted(trace);
    match trace.annotations().get(OPERATION) {
        Some(asked) => (asked == operation).then(|| accepted.map_or(0, |accepted| accepted.id)),
        // To generate twice is to generate twice.
        None if operation == "stop" => accepted
            .filter(|accepted| accepted.operation == Operation::Stop)
            .map(|accepted| accepted.id.saturating_sub(1)),
        None => None,
    }
}

/// Somebody did not want to wait.
#[derive(Debug)]
pub(crate) struct Interrupted;

/// Waits for something, unless a second thought comes first.
pub(crate) async fn unless<T>(
    what: impl Future<Output = T>,
    interrupt: impl Future<Output = ()>,
) -> Result<T, Interrupted> {
    tokio::select! {
        biased;
        () = interrupt => Err(Interrupted),
        done = what => Ok(done),
    }
}

#[cfg(test)]
mod tests {
    use super::{watch::tests::trace, *};

    #[test]
    fn nobody_stops_twice() {
        assert_eq!(asked(&trace(false, 0, &[], None), "stop"), None);
        assert_eq!(asked(&trace(true, 0, &[], None), "stop"), Some(0));
        assert_eq!(asked(&trace(true, 4, &[], None), "stop"), Some(4));
        assert_eq!(asked(&trace(false, 4, &[], None), "stop"), Some(3));
        assert_eq!(asked(&trace(false, 4, &[], None), "generate"), None);
        assert_eq!(asked(&trace(true, 4, &[], None), "generate"), None);
    }
}
