//! What was recorded: which container made which system calls.

use std::{cell::OnceCell, fmt};

pub use crate::bindings::imports::captures::{
    Abi, Completeness, Container, Loss, Machine, Phases, Pod, Refusal, RefusedCall, Syscall,
};
use crate::{Architecture, bindings::imports::captures::Capture as Handle};

/// The recording of one container. It does not change while the module runs.
///
/// Nothing is copied into the module before it is asked for, and then once: a formatter that only
/// wants the container's name does not pay for the calls.
///
/// On the node it stands for a recording that the host holds; [`Capture::new`] makes one of plain
/// data, for tests.
#[derive(Debug)]
pub struct Capture {
    // None: plain data, every cell is set.
    handle: Option<Handle>,
    container: OnceCell<Container>,
    machine: OnceCell<Machine>,
    syscalls: OnceCell<Vec<Syscall>>,
    refused: OnceCell<Vec<RefusedCall>>,
    completeness: OnceCell<Completeness>,
}

impl Capture {
    /// A recording of plain data.
    pub fn new(
        container: Container,
        machine: Machine,
        syscalls: Vec<Syscall>,
        refused: Vec<RefusedCall>,
        completeness: Completeness,
    ) -> Self {
        Self {
            handle: None,
            container: container.into(),
            machine: machine.into(),
            syscalls: syscalls.into(),
            refused: refused.into(),
            completeness: completeness.into(),
        }
    }

    /// Who made the calls.
    pub fn container(&self) -> &Container {
        self.container.get_or_init(|| self.handle().container())
    }

    /// The machine whose system call tables apply.
    pub fn machine(&self) -> Machine {
        *self.machine.get_or_init(|| self.handle().machine())
    }

    /// The calls, each once, ordered by ABI and number.
    pub fn syscalls(&self) -> &[Syscall] {
        self.syscalls.get_or_init(|| self.handle().syscalls())
    }

    /// The calls that a seccomp filter refused while it was recorded, each once with each answer, ordered by ABI and number.
    pub fn refused(&self) -> &[RefusedCall] {
        self.refused.get_or_init(|| self.handle().refused())
    }

    /// What the recording lost, and how it began.
    pub fn completeness(&self) -> &Completeness {
        self.completeness.get_or_init(|| self.handle().completeness())
    }

    fn handle(&self) -> &Handle {
        self.handle.as_ref().expect("a capture of plain data has all its parts")
    }

    #[cfg(target_arch = "wasm32")]
    pub(crate) fn contract(&self) -> &Handle {
        self.handle()
    }
}

#[cfg(target_arch = "wasm32")]
impl From<Handle> for Capture {
    fn from(handle: Handle) -> Self {
        Self {
            handle: Some(handle),
            container: OnceCell::new(),
            machine: OnceCell::new(),
            syscalls: OnceCell::new(),
            refused: OnceCell::new(),
            completeness: OnceCell::new(),
        }
    }
}

impl Machine {
    /// 64-bit x86.
    pub const X86_64: Self = Self::X8664;

    /// What a program's calls are of, by the ABI that it makes them with; the native architecture first.
    pub fn architectures(self) -> &'static [(Abi, Architecture)] {
        match self {
            Self::X86_64 => &[
                (Abi::Native, Architecture::X86_64),
                (Abi::Compat, Architecture::X86),
                (Abi::X32, Architecture::X32),
            ],
            Self::Aarch64 => &[(Abi::Native, Architecture::Aarch64), (Abi::Compat, Architecture::Arm)],
        }
    }
}

impl Refusal {
    /// As a kernel answers that does not have the call: `ENOSYS`. Programs then do without it.
    pub const MISSING: Self = Self::Errno(Some(38));
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Errno(Some(1)) => f.write_str("EPERM"),
            Self::Errno(Some(38)) => f.write_str("ENOSYS"),
            Self::Errno(Some(errno)) => write!(f, "errno {errno}"),
            Self::Errno(None) => f.write_str("an errno"),
            Self::Signal => f.write_str("SIGSYS"),
        }
    }
}

impl fmt::Display for RefusedCall {
    /// The call and the answer: `clone3 (ENOSYS)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { abi, number, name, answer } = self;
        match name {
            Some(name) => write!(f, "{name} ({answer})"),
            None => write!(f, "number {number} of the {abi} ABI ({answer})"),
        }
    }
}

impl Default for Phases {
    fn default() -> Self {
        Self::empty()
    }
}

impl fmt::Display for Abi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::Compat => "compat",
            Self::X32 => "x32",
        })
    }
}

impl fmt::Display for Phases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.contains(Self::RUNTIME), self.contains(Self::APPLICATION)) {
            (true, true) => "runtime, application",
            (true, false) => "runtime",
            (false, true) => "application",
            (false, false) => "none",
        })
    }
}

impl fmt::Display for Container {
    /// The shortest text that tells a person which container is meant: `namespace/pod/name`, or the name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(pod) = &self.pod {
            write!(f, "{}/{}/", pod.namespace, pod.name)?;
        }
        f.write_str(self.name.as_ref().unwrap_or(&self.id))
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownNumbers(n) => write!(f, "{n} calls with a number that no table has"),
            Self::ForeignRuntimeCalls(n) => write!(f, "{n} calls of the OCI runtime in a foreign ABI"),
            Self::SlotsExhausted(n) => write!(f, "{n} new cgroups for which no slot was free"),
            Self::ChildCgroups(n) => {
                write!(f, "{n} cgroups made inside the container that could not be followed")
            }
            Self::Phases(n) => write!(f, "{n} processes whose phase could not be kept"),
            Self::MissedEvents(n) => write!(f, "{n} events that the kernel did not deliver"),
        }
    }
}
