//! Between the words of the SDK, in which tests are written, and those of the host.

use gadget_sdk::{
    self as sdk,
    kube::Kind,
    testing::{KubeCall, Line},
};
use gadgetd_core::{self as core, kube::Resource};
use gadgetd_host::{LogLine, recording::KubeRequest};
use serde_json::Value;

pub(crate) fn capture(capture: &sdk::Capture) -> core::Capture {
    let sdk::Container { id, name, pod, image, image_digest, runtime, cgroup } = capture.container().clone();
    let pod =
        pod.map(|pod| core::Pod { namespace: pod.namespace, name: pod.name, uid: pod.uid, node: pod.node });
    let abi = |abi| match abi {
        sdk::Abi::Native => core::Abi::Native,
        sdk::Abi::Compat => core::Abi::Compat,
        sdk::Abi::X32 => core::Abi::X32,
    };
    let refused = |call: &sdk::RefusedCall| core::RefusedCall {
        abi: abi(call.abi),
        number: call.number,
        answer: match call.answer {
            sdk::Refusal::Errno(errno) => core::Refusal::Errno(errno),
            sdk::Refusal::Signal => core::Refusal::Signal,
        },
    };
    let syscall = |call: &sdk::Syscall| core::Syscall {
        abi: abi(call.abi),
        number: call.number,
        phases: core::Phases {
            runtime: call.phases.contains(sdk::Phases::RUNTIME),
            application: call.phases.contains(sdk::Phases::APPLICATION),
        },
    };
    let loss = |loss: &sdk::Loss| match *loss {
        sdk::Loss::UnknownNumbers(n) => core::Loss::UnknownNumbers(n),
        sdk::Loss::ForeignRuntimeCalls(n) => core::Loss::ForeignRuntimeCalls(n),
        sdk::Loss::SlotsExhausted(n) => core::Loss::SlotsExhausted(n),
        sdk::Loss::ChildCgroups(n) => core::Loss::ChildCgroups(n),
        sdk::Loss::Phases(n) => core::Loss::Phases(n),
        sdk::Loss::MissedEvents(n) => core::Loss::MissedEvents(n),
    };
    let completeness = capture.completeness();
    core::Capture {
        container: core::Container { id, name, pod, image, image_digest, runtime, cgroup },
        machine: match capture.machine() {
            sdk::Machine::X8664 => core::Machine::X86_64,
            sdk::Machine::Aarch64 => core::Machine::Aarch64,
        },
        syscalls: capture.syscalls().iter().map(syscall).collect(),
        refused: capture.refused().iter().map(refused).collect(),
        completeness: core::Completeness {
            losses: completeness.losses.iter().map(loss).collect(),
            from_start: completeness.from_start,
        },
    }
}

pub(crate) fn reason(reason: sdk::Reason) -> gadgetd_host::Reason {
    match reason {
        sdk::Reason::OnDemand => gadgetd_host::Reason::OnDemand,
        sdk::Reason::ContainerEnded => gadgetd_host::Reason::ContainerEnded,
    }
}

pub(crate) fn document(document: gadgetd_host::Document) -> sdk::Document {
    sdk::Document { media_type: document.media_type, body: document.body }
}

pub(crate) fn made(object: gadgetd_host::MadeObject) -> sdk::MadeObject {
    let gadgetd_host::MadeObject { kind: of, namespace, name, usage, .. } = object;
    sdk::MadeObject { kind: kind(&of), namespace, name, usage }
}

pub(crate) fn verdict(verdict: gadgetd_host::Verdict) -> sdk::Verdict {
    verdict.failure.map_or(sdk::Verdict::Pass, sdk::Verdict::Fail)
}

pub(crate) fn kind(resource: &Resource) -> Kind {
    let Resource { group, version, plural, kind: name, namespaced } = resource.clone();
    Kind { group, version, plural, name, namespaced }
}

pub(crate) fn resource(kind: Kind) -> Resource {
    let Kind { group, version, plural, name, namespaced } = kind;
    Resource { group, version, plural, kind: name, namespaced }
}

pub(crate) fn call(call: &KubeRequest) -> KubeCall {
    // What was no JSON is kept as it was written.
    let written = |object: &Value| object.as_str().map_or_else(|| object.to_string(), str::to_owned);
    match call.clone() {
        KubeRequest::Discover { group, plural } => KubeCall::Discover { group, plural },
        KubeRequest::Get { kind: of, namespace, name } => KubeCall::Get { kind: kind(&of), namespace, name },
        KubeRequest::List { kind: of, namespace, labels } => {
            KubeCall::List { kind: kind(&of), namespace, labels }
        }
        KubeRequest::Create { kind: of, namespace, object } => {
            KubeCall::Create { kind: kind(&of), namespace, object: written(&object) }
        }
        KubeRequest::Apply { kind: of, namespace, object } => {
            KubeCall::Apply { kind: kind(&of), namespace, object: written(&object) }
        }
    }
}

pub(crate) fn line(line: LogLine) -> Line {
    let LogLine { level, message, fields, .. } = line;
    let level = match level {
        gadgetd_host::Level::Debug => sdk::log::Level::Debug,
        gadgetd_host::Level::Info => sdk::log::Level::Info,
        gadgetd_host::Level::Warn => sdk::log::Level::Warn,
        gadgetd_host::Level::Error => sdk::log::Level::Error,
    };
    let fields = fields.into_iter().map(|(name, value)| sdk::log::Field { name, value }).collect();
    Line { level, message, fields }
}
