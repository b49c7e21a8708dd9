//! Which containers a Trace selects.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use super::refusal::Refusal;
use crate::TraceFilter;

/// Which containers to record, with the namespace rules applied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// The pods' namespace; `None`: all of them.
    pub namespace: Option<String>,
    /// The pod's name; `None`: whatever its name.
    pub pod: Option<String>,
    /// Labels that the pod must have.
    pub labels: BTreeMap<String, String>,
    /// The container's name; `None`: all of the pod's.
    pub container: Option<String>,
}

impl fmt::Display for Selection {
    /// The pods, as a person would name them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let namespace = self.namespace.as_deref();
        match (&self.pod, namespace) {
            (Some(pod), Some(namespace)) => write!(f, "Pod {namespace}/{pod}")?,
            (Some(pod), None) => write!(f, "Pod {pod}, in any namespace,")?,
            (None, Some(namespace)) => write!(f, "A pod in namespace {namespace}")?,
            (None, None) => f.write_str("A pod in any namespace")?,
        }
        if !self.labels.is_empty() {
            let labels: Vec<_> = self.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
            write!(f, " with labels {}", labels.join(","))?;
        }
        Ok(())
    }
}

/// A pod of this node that a selection finds, whatever its container name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoundPod {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
    /// The names of all its containers, whether they run or not.
    pub containers: Vec<String>,
}

/// The containers that a filter selects, in a Trace of namespace `own`.
pub fn selection(
    filter: Option<&TraceFilter>,
    own: &str,
    system_namespace: &str,
) -> Result<Selection, Refusal> {
    let given = |word: &str| (!word.is_empty()).then(|| word.to_owned());
    let filter = filter.cloned().unwrap_or_default();
    if filter.podname.is_empty() && filter.labels.is_empty() {
        return Err(Refusal::MissingFilter);
    }
    let mut namespace = given(&filter.namespace);
    // The runtime may read every pod; a user who may write a Trace here may not.
    if own != system_namespace {
        if let Some(asked) = namespace.filter(|asked| asked != own) {
            return Err(Refusal::OtherNamespace { own: own.into(), asked, system: system_namespace.into() });
        }
        namespace = Some(own.to_owned());
    }
    Ok(Selection {
        namespace,
        pod: given(&filter.podname),
        labels: filter.labels,
        container: given(&filter.container_name),
    })
}

/// Checks the pods that a selection finds when a recording is about to start. Returns a warning if there are none yet, and a refusal if
/// none of them has the container.
pub fn check_found(
    selection: &Selection,
    found: &[FoundPod],
    node: Option<&str>,
) -> Result<Option<String>, Refusal> {
    let Some(first) = found.first() else {
        let node = node.map(|node| format!(" on node {node}")).unwrap_or_default();
        return Ok(Some(format!("{selection} not found{node}; it will be recorded from its first call on")));
    };
    match &selection.container {
        Some(container) if !found.iter().any(|f| f.containers.contains(container)) => {
            Err(Refusal::Container {
                container: container.clone(),
                pod: format!("{}/{}", first.namespace, first.pod),
                has: first.containers.clone(),
            })
        }
        _ => Ok(None),
    }
}
