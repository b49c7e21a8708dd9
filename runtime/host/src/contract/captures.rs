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

use crate::bindings::{Capture, captures as wit, interface};

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

/// The context is the run's captures, which `get` takes out of the store's data.
pub(crate) fn add_to_linker<T: 'static>(
    linker: &mut Linker<T>,
    get: fn(&T) -> &[Recording],
) -> wasmtime::Result<()> {
    type Handle = (Resource<Capture>,);
    let mut captures = linker.instance(&interface("captures"))?;
    captures.resource("capture", ResourceType::host::<Capture>(), |_, _| Ok(()))?;
    captures.func_wrap("[method]capture.container", move |store, (handle,): Handle| {
        Ok((wit::Container::from(&recording(get(store.data()), &handle)?.container),))
    })?;
    captures.func_wrap("[method]capture.machine", move |store, (handle,): Handle| {
        Ok((wit::Machine::from(recording(get(store.data()), &handle)?.machine),))
    })?;
    captures.func_wrap("[method]capture.syscalls", move |store, (handle,): Handle| {
        let recording = recording(get(store.data()), &handle)?;
        let lower = |call: &Syscall| WitSyscall::new(*call, recording.machine);
        Ok((recording.syscalls.iter().map(lower).collect::<Vec<_>>(),))
    })?;
    captures.func_wrap("[method]capture.refused", move |store, (handle,): Handle| {
        let recording = recording(get(store.data()), &handle)?;
        let lower = |call: &RefusedCall| WitRefusedCall::new(*call, recording.machine);
        Ok((recording.refused.iter().map(lower).collect::<Vec<_>>(),))
    })?;
    captures.func_wrap("[method]capture.completeness", move |store, (handle,): Handle| {
        Ok((wit::Completeness::from(&recording(get(store.data()), &handle)?.completeness),))
    })?;
    captures.func_wrap("[method]capture.clone", |_, (handle,): Handle| {
        Ok((Resource::<Capture>::new_own(handle.rep()),))
    })
}

/// A handle on each of the run's captures, in their order.
pub(crate) fn handles(captures: &[Recording]) -> Vec<Resource<Capture>> {
    (0..).zip(captures).map(|(index, _)| Resource::new_own(index)).collect()
}

/// The captures behind these handles, each once, in the order of the run.
pub(crate) fn indices(handles: &[Resource<Capture>]) -> Vec<u32> {
    let mut indices: Vec<u32> = handles.iter().map(Resource::rep).collect();
    indices.sort_unstable();
    indices.dedup();
    indices
}

fn recording<'a>(captures: &'a [Recording], handle: &Resource<Capture>) -> wasmtime::Result<&'a Recording> {
    let index = usize::try_from(handle.rep()).unwrap_or(usize::MAX);
    captures.get(index).ok_or_else(|| wasmtime::Error::msg("no such capture"))
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
            // The contract has no case of its own for the others, and can't get one: that would break modules.
            Loss::MissedEvents(n)
            | Loss::SeccompRefused(n)
            | Loss::Refusals(n)
            | Loss::Departures(n)
            | Loss::Undecided(n) => wit::Loss::MissedEvents(n),
        });
        Self { losses: losses.collect(), from_start: completeness.from_start }
    }
}
