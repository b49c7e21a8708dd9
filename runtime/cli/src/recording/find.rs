//! Finds a recording by what a person calls it.

use std::collections::BTreeSet;

use anyhow::{Result, anyhow, bail};
use gadgetd_kube::Trace;
use kube::{ResourceExt as _, api::ListParams};

use crate::{
    connection::{Connection, InTime as _},
    errors::{Explain as _, Needs, explained, is_forbidden, is_not_found},
    target::ID,
};

/// Finds one by its id, or by the name of its Trace, with or without the namespace.
pub(super) async fn find(connection: &Connection, id: &str) -> Result<Trace> {
    let mut looked = Looked { named: connection.namespace_given || id.contains('/'), ..Looked::default() };
    let mut found = None;
    let places = if let Some(place) = id.split_once('/') {
        vec![place]
    } else {
        found = by_id(connection, id, &mut looked).await?;
        namespaces(connection).into_iter().map(|namespace| (namespace, id)).collect()
    };
    for (namespace, name) in places {
        if found.is_none() {
            found = by_name(connection, namespace, name, &mut looked).await?;
        }
    }
    found.ok_or_else(|| looked.in_vain(id))
}

/// Where something was looked for.
#[derive(Debug, Default)]
struct Looked {
    /// Whether somebody named the namespace. Otherwise, one that may not be seen is passed over.
    named: bool,
    /// Whether all namespaces could be seen at once.
    everywhere: bool,
    /// The namespaces in which it is not.
    seen: BTreeSet<String>,
    /// Those that may not be seen.
    hidden: BTreeSet<String>,
}

impl Looked {
    /// Takes down what was found in a namespace; `None`: nothing, or it may not be seen.
    fn found<T>(&mut self, namespace: &str, found: kube::Result<T>) -> kube::Result<Option<T>> {
        match found {
            Err(error) if is_forbidden(&error) && !self.named => {
                self.hidden.insert(namespace.to_owned());
                Ok(None)
            }
            found => {
                self.seen.insert(namespace.to_owned());
                found.map(Some)
            }
        }
    }

    /// It was not found.
    fn in_vain(&self, id: &str) -> anyhow::Error {
        let names = |all: &BTreeSet<String>| {
            let all: Vec<_> = all.iter().map(|name| format!("namespace {name}")).collect();
            all.join(", ")
        };
        let seen = if self.everywhere { "any namespace".to_owned() } else { names(&self.seen) };
        if self.hidden.is_empty() {
            return anyhow!(
                "there is no recording {id} in {seen}; see which there are: kubectl gadget list. In another namespace, name it with \
                 -n"
            );
        }
        let hidden = names(&self.hidden);
        let seen = if seen.is_empty() { seen } else { format!(" in {seen}") };
        anyhow!(
            "there is no recording {id} that you may see{seen}; in {hidden} you may see none: name the namespace that it is in \
             with -n"
        )
    }
}

/// The namespaces in which recordings are looked for that may be anywhere, where not all namespaces may be seen.
fn namespaces(connection: &Connection) -> Vec<&str> {
    let mut namespaces = vec![connection.namespace.as_str()];
    if !connection.namespace_given && connection.namespace != connection.system {
        namespaces.push(&connection.system);
    }
    namespaces
}

async fn by_id(connection: &Connection, id: &str, looked: &mut Looked) -> Result<Option<Trace>> {
    // An id is the value of a label.
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if id.is_empty() || id.len() > 63 || !id.chars().all(plain) {
        return Ok(None);
    }
    let with_id = ListParams::default().labels(&format!("{ID}={id}"));
    if !connection.namespace_given {
        match connection.all_traces().list(&with_id).in_time().await {
            Ok(found) => {
                looked.everywhere = true;
                return one(found.items, id);
            }
            Err(error) if is_forbidden(&error) => {}
            Err(error) => return Err(unlisted(&error, None)),
        }
    }
    for namespace in namespaces(connection) {
        let found = looked.found(namespace, connection.traces(namespace).list(&with_id).in_time().await);
        let found = found.map_err(|error| unlisted(&error, Some(namespace)))?;
        if let Some(trace) = one(found.map(|list| list.items).unwrap_or_default(), id)? {
            return Ok(Some(trace));
        }
    }
    Ok(None)
}

fn one(mut found: Vec<Trace>, id: &str) -> Result<Option<Trace>> {
    if found.len() > 1 {
        let names: Vec<_> =
            found.iter().map(|t| format!("{}/{}", t.namespace().unwrap_or_default(), t.name_any())).collect();
        bail!("{id} is the id of several Traces: name the one that you mean, of {}", names.join(", "));
    }
    Ok(found.pop())
}

async fn by_name(
    connection: &Connection,
    namespace: &str,
    name: &str,
    looked: &mut Looked,
) -> Result<Option<Trace>> {
    // A name that cannot be one would be a path of its own.
    if !gadgetd_kube::names::is_subdomain(name) {
        return Ok(None);
    }
    let found = looked.found(namespace, connection.traces(namespace).get_opt(name).in_time().await);
    let found = found.explain(format_args!("read {namespace}/{name}"), Needs::User(Some(namespace)))?;
    Ok(found.flatten())
}

/// An error for a list of Traces that was not to be had.
pub(crate) fn unlisted(error: &kube::Error, namespace: Option<&str>) -> anyhow::Error {
    if is_not_found(error) {
        return anyhow!(
            "the runtime is not deployed: the cluster does not know Traces; type: kubectl gadget deploy"
        );
    }
    explained(error, "list recordings", Needs::User(namespace))
}
