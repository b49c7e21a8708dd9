//! How far each node of a Trace has come.

use std::time::Duration;

use super::{NodeView, operation::accepted};
use crate::{NodeStatus, State, Trace};

/// The status of one node.
pub fn node_status<'a>(trace: &'a Trace, node: &str) -> Option<&'a NodeStatus> {
    trace.status.iter().flat_map(|s| &s.nodes).find(|n| n.node == node)
}

/// How long until this node's recording ends by itself; `None` if it does not.
pub fn time_left(trace: &Trace, view: &NodeView<'_>) -> Option<Duration> {
    time_left_of(node_status(trace, view.node)?, view)
}

fn time_left_of(entry: &NodeStatus, view: &NodeView<'_>) -> Option<Duration> {
    let timeout = entry.timeout_seconds?;
    let elapsed = view.now.duration_since(entry.started.as_ref()?.0);
    let elapsed = Duration::try_from(elapsed).unwrap_or(Duration::ZERO);
    Some(Duration::from_secs(timeout).saturating_sub(elapsed))
}

/// Whether a node has an operation or a timeout that it should have handled by now.
pub(super) fn is_lagging(trace: &Trace, entry: &NodeStatus, view: &NodeView<'_>) -> bool {
    let time_is_over =
        || entry.state == Some(State::Started) && time_left_of(entry, view) == Some(Duration::ZERO);
    accepted(trace).is_some_and(|a| a.id > entry.operation) || time_is_over()
}

/// The other nodes that a Trace of all nodes waits for. They may no longer exist.
pub fn lagging_nodes<'a>(trace: &'a Trace, view: &NodeView<'_>) -> Vec<&'a str> {
    if !trace.spec.node.is_empty() || trace.metadata.deletion_timestamp.is_some() {
        return Vec::new();
    }
    let others = trace.status.iter().flat_map(|s| &s.nodes).filter(|n| n.node != view.node);
    others.filter(|n| is_lagging(trace, n, view)).map(|n| n.node.as_str()).collect()
}

/// How long until another node's recording reaches its timeout. Until then there may be no event, and if that node is gone, there is
/// none afterwards.
pub fn time_left_of_others(trace: &Trace, view: &NodeView<'_>) -> Option<Duration> {
    if trace.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let counts = |node: &str| trace.spec.node.is_empty() || trace.spec.node == node;
    let others = trace.status.iter().flat_map(|s| &s.nodes);
    let others = others.filter(|n| n.node != view.node && counts(&n.node) && n.state == Some(State::Started));
    others.filter_map(|n| time_left_of(n, view)).filter(|rest| !rest.is_zero()).min()
}

/// How many nodes that do not lag come before this one. The first checks the lagging ones; the others wait longer, in case the first
/// is gone as well.
pub fn rank(trace: &Trace, view: &NodeView<'_>) -> usize {
    let nodes = trace.status.iter().flat_map(|s| &s.nodes);
    nodes.filter(|n| n.node.as_str() < view.node && !is_lagging(trace, n, view)).count()
}
