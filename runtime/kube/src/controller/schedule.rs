//! What no event reports and has to be polled: nodes that lag behind, and active recordings.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// What is polled, for all Traces.
#[derive(Default)]
pub(super) struct Schedule {
    /// Nodes that a Trace waits for, by its uid, and when to check whether they exist.
    waiting: Mutex<HashMap<String, HashMap<String, Instant>>>,
    /// The uids of the Traces for which this node records.
    recording: Mutex<HashSet<String>>,
}

impl Schedule {
    /// Sets the nodes that a Trace waits for. Returns how long until each is due to be checked: `grace` after it was first
    /// waited for.
    pub(super) fn due_in(&self, uid: &str, nodes: &[&str], grace: Duration) -> Vec<Duration> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if nodes.is_empty() {
            waiting.remove(uid);
            return Vec::new();
        }
        let of_trace = waiting.entry(uid.to_owned()).or_default();
        of_trace.retain(|node, _| nodes.contains(&node.as_str()));
        let now = Instant::now();
        let due = |node: &&str| *of_trace.entry((*node).to_owned()).or_insert(now + grace);
        nodes.iter().map(due).map(|due| due.saturating_duration_since(now)).collect()
    }

    /// Checks a node that exists, and may answer yet, again after `pause`.
    pub(super) fn recheck_node(&self, uid: &str, node: &str, pause: Duration) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.entry(uid.to_owned()).or_default().insert(node.to_owned(), Instant::now() + pause);
    }

    /// Notes whether this node records for a Trace.
    pub(super) fn set_active(&self, uid: &str, active: bool) {
        let mut recording = self.recording.lock().unwrap_or_else(PoisonError::into_inner);
        if active {
            recording.insert(uid.to_owned());
        } else {
            recording.remove(uid);
        }
    }

    /// For how many Traces this node records.
    pub(super) fn active(&self) -> u32 {
        let recording = self.recording.lock().unwrap_or_else(PoisonError::into_inner);
        u32::try_from(recording.len()).unwrap_or(u32::MAX)
    }

    /// Forgets all but these Traces: kube does not report deleted ones.
    pub(super) fn retain(&self, traces: &HashSet<String>) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).retain(|uid, _| traces.contains(uid));
        self.recording.lock().unwrap_or_else(PoisonError::into_inner).retain(|uid| traces.contains(uid));
    }
}
