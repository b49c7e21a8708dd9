//! What is counted, for Prometheus.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
};

use gadgetd_core::Loss;
use gadgetd_kube::{Call, controller::Observer, machine::Operation};
use gadgetd_node::Status;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, info::Info},
    registry::Registry,
};

/// The media type of the text.
pub(super) const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Everything that is counted.
pub(super) struct Metrics {
    registry: Registry,
    ready: Gauge,
    recordings: Gauge,
    containers: Family<StateLabel, Gauge>,
    slots: Gauge,
    losses: Family<KindLabel, Counter>,
    operations: Family<OperationLabels, Counter>,
    calls: Family<CallLabels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabels {
    operation: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    gadget: String,
    decision: &'static str,
    outcome: &'static str,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    pub(super) fn new(slots: u32) -> Arc<Self> {
        let mut this = Self {
            registry: Registry::with_prefix("gadgetd"),
            ready: Gauge::default(),
            recordings: Gauge::default(),
            containers: Family::default(),
            slots: Gauge::default(),
            losses: Family::default(),
            operations: Family::default(),
            calls: Family::default(),
        };
        let all = &mut this.registry;
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        all.register("build", "What runs here", version);
        all.register("ready", "Whether this node can record: 1 or 0", this.ready.clone());
        all.register("recordings", "Traces that are recorded on this node", this.recordings.clone());
        all.register(
            "containers",
            "Containers that are recorded, and those that ended and are held for their documents",
            this.containers.clone(),
        );
        all.register("slots_used", "Slots of the kernel side that are in use", this.slots.clone());
        let limit: Gauge = Gauge::default();
        limit.set(slots.into());
        all.register("slots_limit", "Slots that there are", limit);
        all.register("losses", "What recordings lost, by kind", this.losses.clone());
        all.register(
            "operations",
            "Operations on Traces that this node carried out, refused, or failed at",
            this.operations.clone(),
        );
        all.register(
            "kube_calls",
            "Calls to the cluster that gadgets made, or were denied",
            this.calls.clone(),
        );
        // What is zero is told as well: an alert on it can then be written before it ever happens.
        for kind in KINDS {
            drop(this.losses.get_or_create(&KindLabel { kind }));
        }
        Arc::new(this)
    }

    /// Everything as text, with what the recorder says; `None` if it says nothing.
    pub(super) fn text(&self, status: Option<&Status>, losses: &[Loss]) -> Result<String, fmt::Error> {
        let ready = status.is_some_and(|s| s.kernel.is_ok() && s.pods.is_ok() && s.traces);
        self.ready.set(ready.into());
        if let Some(status) = status {
            self.recordings.set(number(status.sessions));
            for (state, count) in [("running", status.running), ("ended", status.ended)] {
                self.containers.get_or_create(&StateLabel { state }).set(number(count));
            }
            self.slots.set(number(status.slots));
        }
        for loss in losses {
            let (kind, count) = kind(*loss);
            // Counted for what is recorded now and for what was: it never falls.
            let counter = self.losses.get_or_create_owned(&KindLabel { kind });
            counter.inner().fetch_max(count, Ordering::Relaxed);
        }
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl Observer for Metrics {
    fn performed(&self, operation: &Operation, refused: bool) {
        let operation = match operation {
            Operation::Start => "start",
            Operation::Generate => "generate",
            Operation::Stop => "stop",
            Operation::Other(_) => "other",
        };
        let outcome = if refused { "refused" } else { "done" };
        self.operations.get_or_create(&OperationLabels { operation, outcome }).inc();
    }

    fn called(&self, gadget: &str, call: &Call) {
        let decision = if call.allowed { "allowed" } else { "denied" };
        let outcome = if call.result == "ok" { "ok" } else { "error" };
        let labels = CallLabels { gadget: gadget.to_owned(), decision, outcome };
        self.calls.get_or_create(&labels).inc();
    }
}

const KINDS: [&str; 10] = [
    "unknown-numbers",
    "foreign-runtime-calls",
    "slots-exhausted",
    "child-cgroups",
    "phases",
    "missed-events",
    "seccomp-refused",
    "refusals",
    "departures",
    "undecided",
];

fn kind(loss: Loss) -> (&'static str, u64) {
    let (index, count) = match loss {
        Loss::UnknownNumbers(n) => (0, n),
        Loss::ForeignRuntimeCalls(n) => (1, n),
        Loss::SlotsExhausted(n) => (2, n),
        Loss::ChildCgroups(n) => (3, n),
        Loss::Phases(n) => (4, n),
        Loss::MissedEvents(n) => (5, n),
        Loss::SeccompRefused(n) => (6, n),
        Loss::Refusals(n) => (7, n),
        Loss::Departures(n) => (8, n),
        Loss::Undecided(n) => (9, n),
    };
    (KINDS[index], count)
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_told() {
        let metrics = Metrics::new(8_192);
        metrics.performed(&Operation::Start, false);
        metrics.performed(&Operation::Other("dance".into()), true);
        let call = Call { allowed: true, result: "ok".into(), ..Call::default() };
        metrics.called("note", &call);
        metrics.called("note", &Call { allowed: false, result: "denied: no".into(), ..call });
        let status = Status {
            kernel: Ok(()),
            pods: Ok(()),
            traces: true,
            sessions: 2,
            running: 3,
            ended: 1,
            slots: 5,
        };
        let text = metrics.text(Some(&status), &[Loss::Phases(7)]).unwrap();
        for line in [
            "gadgetd_ready 1",
            "gadgetd_recordings 2",
            r#"gadgetd_containers{state="running"} 3"#,
            r#"gadgetd_containers{state="ended"} 1"#,
            "gadgetd_slots_used 5",
            "gadgetd_slots_limit 8192",
            r#"gadgetd_losses_total{kind="phases"} 7"#,
            r#"gadgetd_losses_total{kind="slots-exhausted"} 0"#,
            r#"gadgetd_operations_total{operation="start",outcome="done"} 1"#,
            r#"gadgetd_operations_total{operation="other",outcome="refused"} 1"#,
            r#"gadgetd_kube_calls_total{gadget="note",decision="allowed",outcome="ok"} 1"#,
            r#"gadgetd_kube_calls_total{gadget="note",decision="denied",outcome="error"} 1"#,
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        // Nobody answers: not ready, and what was counted stays.
        let text = metrics.text(None, &[]).unwrap();
        assert!(text.contains("gadgetd_ready 0") && text.contains(r#"{kind="phases"} 7"#), "{text}");
    }
}
