//! The status of Gadget objects: each node writes whether it can run the module, and one of them the summary.

use std::time::Duration;

use gadgetd_core::kube::KubeError;
use k8s_openapi::{
    api::core::v1::Node,
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};
use kube::{
    Api, Client, Resource as _, ResourceExt as _,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{
    Gadget, GadgetNode, GadgetStatus,
    controller::{
        Settings, call, field_manager,
        node::{InstallError, Installed},
    },
};

/// How often a summary is computed anew because somebody else changed the object first.
const SUMMARY_ATTEMPTS: usize = 8;

/// The status of Gadget objects.
pub(super) struct StatusWriter {
    pub(super) api: Api<Gadget>,
    nodes: Api<Node>,
    settings: Settings,
}

impl StatusWriter {
    pub(super) fn new(client: Client, settings: Settings) -> Self {
        Self { api: Api::all(client.clone()), nodes: Api::all(client), settings }
    }

    /// Writes whether this node could install the module of an object.
    pub(super) async fn report(
        &self,
        object: &Gadget,
        outcome: &Result<Installed, InstallError>,
    ) -> Result<(), KubeError> {
        let entry = GadgetNode {
            node: self.settings.node.clone(),
            generation: object.metadata.generation.unwrap_or_default(),
            ready: outcome.is_ok(),
            reason: outcome.as_ref().err().map(ToString::to_string),
        };
        let status = json!({ "nodes": [entry] });
        let mut after = self.apply(object, &field_manager(&self.settings.node), None, status).await?;
        for _ in 0..SUMMARY_ATTEMPTS {
            let wanted = summary(&after, outcome.as_ref().ok(), Timestamp::now());
            match self.write_summary(&after, wanted).await {
                Err(KubeError::Conflict(_)) => after = self.call(self.api.get(&object.name_any())).await?,
                answer => return answer,
            }
        }
        Ok(())
    }

    /// The nodes that have handled the present generation of an object.
    fn current(object: &Gadget) -> impl Iterator<Item = &str> {
        let nodes = object.status.iter().flat_map(|status| &status.nodes);
        nodes.filter(|n| Some(n.generation) == object.metadata.generation).map(|n| n.node.as_str())
    }

    /// Whether this node writes the summary: the first of the up-to-date nodes does.
    fn writes_summary(&self, object: &Gadget) -> bool {
        Self::current(object).min() == Some(&self.settings.node)
    }

    /// The other nodes that keep an object from being ready.
    fn unready_nodes<'a>(&self, object: &'a Gadget) -> impl Iterator<Item = &'a str> {
        let nodes = object.status.iter().flat_map(|status| &status.nodes);
        let unready = nodes.filter(|n| !n.ready || Some(n.generation) != object.metadata.generation);
        unready.map(|n| n.node.as_str()).filter(|node| *node != self.settings.node)
    }

    /// When to check whether the nodes that keep the object from being ready still exist: after the nodes whose names come first,
    /// which mostly have done so by then. `None` if this node is not up to date, or all others are ready.
    pub(super) fn recheck_after(&self, object: &Gadget) -> Option<Duration> {
        if !Self::current(object).any(|node| node == self.settings.node) {
            return None;
        }
        self.unready_nodes(object).next()?;
        let before = Self::current(object).filter(|node| *node < self.settings.node.as_str()).count();
        let turns = u32::try_from(before).unwrap_or(u32::MAX).saturating_add(1);
        Some(self.settings.cleanup_interval.saturating_mul(turns))
    }

    /// Removes the entries of nodes that no longer exist. Returns whether nodes remain to wait for.
    pub(super) async fn remove_gone_nodes(&self, object: &Gadget) -> bool {
        let mut left = false;
        for node in self.unready_nodes(object) {
            match self.remove_if_gone(object, node).await {
                Ok(gone) => left |= !gone,
                Err(KubeError::NotFound(_)) => {}
                Err(error) => {
                    tracing::warn!(gadget = object.name_any(), node, %error, "cannot tell whether a node is gone");
                    left = true;
                }
            }
        }
        // The node that wrote the summary may be one of them.
        if let Ok(after) = self.call(self.api.get(&object.name_any())).await {
            self.refresh_summary(&after).await;
        }
        left
    }

    /// Removes the entry of a node if that no longer exists. Returns whether it did.
    async fn remove_if_gone(&self, object: &Gadget, node: &str) -> Result<bool, KubeError> {
        match self.call(self.nodes.get_metadata(node)).await {
            Ok(_) => Ok(false),
            Err(KubeError::NotFound(_)) => {
                self.apply(object, &field_manager(node), None, json!({})).await.map(|_| true)
            }
            Err(error) => Err(error),
        }
    }

    /// Brings the summary up to date after another node reported: one node does so for all.
    pub(super) async fn refresh_if_writer(&self, object: &Gadget) {
        if self.writes_summary(object) {
            self.refresh_summary(object).await;
        }
    }

    /// Brings the summary up to date.
    async fn refresh_summary(&self, object: &Gadget) {
        let wanted = summary(object, None, Timestamp::now());
        match self.write_summary(object, wanted).await {
            // The other change leads to another event.
            Ok(()) | Err(KubeError::Conflict(_) | KubeError::NotFound(_)) => {}
            Err(error) => {
                tracing::warn!(gadget = object.name_any(), %error, "cannot write the status of a Gadget");
            }
        }
    }

    async fn write_summary(&self, object: &Gadget, wanted: GadgetStatus) -> Result<(), KubeError> {
        let mut found = object.status.clone().unwrap_or_default();
        found.nodes.clear();
        if found == wanted {
            return Ok(());
        }
        let wanted = serde_json::to_value(wanted).map_err(|error| KubeError::Invalid(error.to_string()))?;
        self.apply(object, "gadgetd", object.resource_version(), wanted).await.map(drop)
    }

    async fn apply(
        &self,
        object: &Gadget,
        manager: &str,
        version: Option<String>,
        status: Value,
    ) -> Result<Gadget, KubeError> {
        let name = object.name_any();
        let mut patch = json!({
            "apiVersion": Gadget::api_version(&()),
            "kind": Gadget::kind(&()),
            "metadata": { "name": name, "uid": object.metadata.uid },
            "status": status,
        });
        if let Some(version) = version {
            patch["metadata"]["resourceVersion"] = json!(version);
        }
        let params = PatchParams::apply(manager).force();
        self.call(self.api.patch_status(&name, &params, &Patch::Apply(patch))).await
    }

    async fn call<T>(&self, request: impl Future<Output = kube::Result<T>>) -> Result<T, KubeError> {
        call(self.settings.request_timeout, request).await
    }
}

/// The status without the entries of the nodes. The description of the module stays if `installed` does not bring a new one.
fn summary(object: &Gadget, installed: Option<&Installed>, now: Timestamp) -> GadgetStatus {
    let found = object.status.clone().unwrap_or_default();
    let generation = object.metadata.generation.unwrap_or_default();
    let condition = ready(&found, generation, now);
    match installed {
        Some(Installed { role, version, summary, digest, verified_by, parameters, asks }) => {
            let some = |text: &String| Some(text.clone());
            GadgetStatus {
                role: some(role),
                version: some(version),
                summary: some(summary),
                digest: some(digest),
                verified_by: some(verified_by),
                parameters: parameters.clone(),
                asks: asks.clone(),
                nodes: Vec::new(),
                conditions: vec![condition],
            }
        }
        None => GadgetStatus { nodes: Vec::new(), conditions: vec![condition], ..found },
    }
}

fn ready(found: &GadgetStatus, generation: i64, now: Timestamp) -> Condition {
    let current = || found.nodes.iter().filter(|n| n.generation == generation);
    let failed: Vec<_> = current().filter(|n| !n.ready).collect();
    let outdated = found.nodes.iter().filter(|n| n.generation != generation).count();
    let (status, reason, message) = match failed.as_slice() {
        [] if outdated > 0 => ("Unknown", "Installing", format!("{} still to look at it", nodes(outdated))),
        [] => ("True", "Installed", format!("it can run on {}", nodes(current().count()))),
        [first, ..] => {
            let why = first.reason.as_deref().unwrap_or("no reason is known");
            (
                "False",
                "NotInstalled",
                format!("it cannot run on {}: {}: {why}", nodes(failed.len()), first.node),
            )
        }
    };
    let before = found.conditions.iter().find(|c| c.type_ == "Ready");
    let since = before.filter(|c| c.status == status).map(|c| c.last_transition_time.clone());
    Condition {
        type_: "Ready".to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation: Some(generation),
        last_transition_time: since
            .unwrap_or_else(|| Time(Timestamp::from_second(now.as_second()).unwrap_or(now))),
    }
}

fn nodes(count: usize) -> String {
    if count == 1 { "1 node".to_owned() } else { format!("{count} nodes") }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node, the generation that it looked at, and why it cannot run it.
    type Row = (&'static str, i64, Option<&'static str>);

    fn status(nodes: &[Row]) -> GadgetStatus {
        let node = |(node, generation, reason): &Row| GadgetNode {
            node: (*node).into(),
            generation: *generation,
            ready: reason.is_none(),
            reason: reason.map(str::to_owned),
        };
        GadgetStatus { nodes: nodes.iter().map(node).collect(), ..GadgetStatus::default() }
    }

    #[test]
    fn it_is_ready_when_it_is_everywhere() {
        let rows: [(&[Row], &str, &str); 4] = [
            (&[("a", 2, None), ("b", 2, None)], "True", "it can run on 2 nodes"),
            (&[("a", 2, None), ("b", 1, None)], "Unknown", "1 node still to look at it"),
            (&[("a", 2, Some("no key")), ("b", 1, None)], "False", "it cannot run on 1 node: a: no key"),
            (&[("a", 2, None), ("b", 1, Some("old news"))], "Unknown", "1 node still to look at it"),
        ];
        for (nodes, want, message) in rows {
            let found = ready(&status(nodes), 2, Timestamp::UNIX_EPOCH);
            assert_eq!((found.status.as_str(), found.message.as_str()), (want, message));
        }
    }

    #[test]
    fn the_time_of_a_condition_is_that_of_its_change() {
        let mut found = status(&[("a", 1, None)]);
        found.conditions.push(ready(&found, 1, Timestamp::UNIX_EPOCH));
        let later = Timestamp::from_second(60).unwrap();
        assert_eq!(ready(&found, 1, later).last_transition_time.0, Timestamp::UNIX_EPOCH);
        found.nodes[0].ready = false;
        assert_eq!(ready(&found, 1, later).last_transition_time.0, later);
    }
}
