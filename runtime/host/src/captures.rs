//! `captures`: recordings, handed out as resources.
//!
//! A handle's number in the host is the index of the capture in the run. Guests cannot make handles, so a module
//! reaches what it was handed and nothing else; giving a handle back frees nothing, for the captures are the run's.
//!
//! The functions are linked by hand, unlike those of the other interfaces: only so can a name go from the system call
//! tables into the guest's memory without a copy. The linker checks the types against the component's own.

use gadgetd_core::{
    Abi, Capture as Recording, Completeness, Container, Loss, Machine, Phases, Refusal, RefusedCall, Syscall,
};
use wasmtime::component::{ComponentType, Linker, Lower, Resource, ResourceType};

use crate::{bindings::captures as wit, module::interface, state::State};

/// The resource `capture`.
#[derive(Debug)]
#[allow(unreachable_pub)] // The generated code re-exports it.
pub enum Capture {}

#[derive(ComponentType, Lower)]
#[component(record)]
struct WitSyscall {
    abi: wit::Abi,
    number: u32,
    name: Option<&'static str>,
    phases: wit::Phases,
}

#[derive(ComponentType, Lower)]
#[component(record)]
struct WitRefusedCall {
    abi: wit::Abi,
    number: u32,
    name: Option<&'static str>,
    answer: wit::Refusal,
}

pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    type Handle = (Resource<Capture>,);
    let mut captures = linker.instance(&interface("captures"))?;
    captures.resource("capture", ResourceType::host::<Capture>(), |_, _| Ok(()))?;
    captures.func_wrap("[method]capture.container", |store, (of,): Handle| {
        Ok((wit::Container::from(&recording(store.data(), &of)?.container),))
    })?;
    captures.func_wrap("[method]capture.machine", |store, (of,): Handle| {
        Ok((wit::Machine::from(recording(store.data(), &of)?.machine),))
    })?;
    captures.func_wrap("[method]capture.syscalls", |store, (of,): Handle| {
        let recording = recording(store.data(), &of)?;
        let lower = |call: &Syscall| WitSyscall::new(*call, recording.machine);
        Ok((recording.syscalls.iter().map(lower).collect::<Vec<_>>(),))
    })?;
    captures.func_wrap("[method]capture.refused", |store, (of,): Handle| {
        let recording = recording(store.data(), &of)?;
        let lower = |call: &RefusedCall| WitRefusedCall::new(*call, recording.machine);
        Ok((recording.refused.iter().map(lower).collect::<Vec<_>>(),))
    })?;
    captures.func_wrap("[method]capture.completeness", |store, (of,): Handle| {
        Ok((wit::Completeness::from(&recording(store.data(), &of)?.completeness),))
    })?;
    captures.func_wrap("[method]capture.clone", |_, (of,): Handle| Ok((handle(of.rep()),)))
}

/// A handle on the capture with this index.
pub(crate) fn handle(index: u32) -> Resource<Capture> {
    Resource::new_own(index)
}

/// The captures behind these handles, each once, in the order of the run.
pub(crate) fn indices(handles: &[Resource<Capture>]) -> Vec<u32> {
    let mut indices: Vec<u32> = handles.iter().map(Resource::rep).collect();
    indices.sort_unstable();
    indices.dedup();
    indices
}

fn recording<'a>(state: &'a State, of: &Resource<Capture>) -> wasmtime::Result<&'a Recording> {
    let index = usize::try_from(of.rep()).unwrap_or(usize::MAX);
    state.captures.get(index).ok_or_else(|| wasmtime::Error::msg("no such capture"))
}

impl WitSyscall {
    fn new(call: Syscall, machine: Machine) -> Self {
        Self {
            abi: call.abi.into(),
            number: call.number,
            name: call.name(machine),
            phases: call.phases.into(),
        }
    }
}

impl WitRefusedCall {
    fn new(call: RefusedCall, machine: Machine) -> Self {
        Self {
            abi: call.abi.into(),
            number: call.number,
            name: call.name(machine),
            answer: match call.answer {
                Refusal::Errno(errno) => wit::Refusal::Errno(errno),
                Refusal::Signal => wit::Refusal::Signal,
            },
        }
    }
}

impl From<Abi> for wit::Abi {
    fn from(abi: Abi) -> Self {
        match abi {
            Abi::Native => Self::Native,
            Abi::Compat => Self::Compat,
            Abi::X32 => Self::X32,
        }
    }
}

impl From<Phases> for wit::Phases {
    fn from(phases: Phases) -> Self {
        let mut flags = Self::empty();
        if phases.runtime {
            flags |= Self::RUNTIME;
        }
        if phases.application {
            flags |= Self::APPLICATION;
        }
        flags
    }
}

impl From<Machine> for wit::Machine {
    fn from(machine: Machine) -> Self {
        match machine {
            Machine::X86_64 => Self::X8664,
            Machine::Aarch64 => Self::Aarch64,
        }
    }
}

impl From<&Container> for wit::Container {
    fn from(container: &Container) -> Self {
        Self {
            id: container.id.clone(),
            name: container.name.clone(),
            pod: container.pod.as_ref().map(|pod| wit::Pod {
                namespace: pod.namespace.clone(),
                name: pod.name.clone(),
                uid: pod.uid.clone(),
                node: pod.node.clone(),
            }),
            image: container.image.clone(),
            image_digest: container.image_digest.clone(),
            runtime: container.runtime.clone(),
            cgroup: container.cgroup.clone(),
        }
    }
}

impl From<&Completeness> for wit::Completeness {
    fn from(completeness: &Completeness) -> Self {
        let losses = completeness.losses.iter().map(|loss| match *loss {
            Loss::UnknownNumbers(n) => wit::Loss::UnknownNumbers(n),
            Loss::ForeignRuntimeCalls(n) => wit::Loss::ForeignRuntimeCalls(n),
            Loss::SlotsExhausted(n) => wit::Loss::SlotsExhausted(n),
            Loss::ChildCgroups(n) => wit::Loss::ChildCgroups(n),
            Loss::Phases(n) => wit::Loss::Phases(n),
            // The contract has no case of its own for the latter, and can't get one: that would break modules.
            Loss::MissedEvents(n) | Loss::SeccompRefused(n) | Loss::Refusals(n) => wit::Loss::MissedEvents(n),
        });
        Self { losses: losses.collect(), from_start: completeness.from_start }
    }
}
