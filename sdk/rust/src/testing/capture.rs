//! Captures of plain data.

use crate::{
    Abi, Capture, Completeness, Container, Loss, Machine, Phases, Pod, Refusal, RefusedCall, Syscall,
};

/// Starts the recording of a command of this name: on x86-64, from its first process on, nothing lost.
pub fn capture(name: &str) -> CaptureBuilder {
    let container = Container {
        id: format!("id-of-{name}"),
        name: Some(name.to_owned()),
        pod: None,
        image: None,
        image_digest: None,
        runtime: None,
        cgroup: format!("/{name}"),
    };
    let completeness = Completeness { losses: Vec::new(), from_start: true };
    let (syscalls, refused) = (Vec::new(), Vec::new());
    CaptureBuilder { container, machine: Machine::X86_64, syscalls, refused, completeness }
}

/// Makes a [`Capture`] of plain data.
#[derive(Clone, Debug)]
pub struct CaptureBuilder {
    container: Container,
    machine: Machine,
    syscalls: Vec<Syscall>,
    refused: Vec<RefusedCall>,
    completeness: Completeness,
}

impl CaptureBuilder {
    /// Adds a call. Its name is `None` where the kernel's tables have none.
    #[must_use]
    pub fn call<'a>(
        mut self,
        abi: Abi,
        number: u32,
        name: impl Into<Option<&'a str>>,
        phases: Phases,
    ) -> Self {
        let name = name.into().map(str::to_owned);
        self.syscalls.push(Syscall { abi, number, name, phases });
        self
    }

    /// Adds a call that a seccomp filter refused. Its name is `None` where the kernel's tables have none.
    #[must_use]
    pub fn refused<'a>(
        mut self,
        abi: Abi,
        number: u32,
        name: impl Into<Option<&'a str>>,
        answer: Refusal,
    ) -> Self {
        let name = name.into().map(str::to_owned);
        self.refused.push(RefusedCall { abi, number, name, answer });
        self
    }

    /// The machine it was recorded on.
    #[must_use]
    pub fn machine(mut self, machine: Machine) -> Self {
        self.machine = machine;
        self
    }

    /// Makes it the container of a pod.
    #[must_use]
    pub fn pod(mut self, namespace: &str, name: &str) -> Self {
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        self.container.pod =
            Some(Pod { uid: format!("uid-of-{name}"), node: "node-1".into(), namespace, name });
        self
    }

    /// Whatever else there is to say of the container.
    #[must_use]
    pub fn container(mut self, change: impl FnOnce(&mut Container)) -> Self {
        change(&mut self.container);
        self
    }

    /// Something was lost.
    #[must_use]
    pub fn loss(mut self, loss: Loss) -> Self {
        self.completeness.losses.push(loss);
        self
    }

    /// The container already ran when the recording began.
    #[must_use]
    pub fn already_running(mut self) -> Self {
        self.completeness.from_start = false;
        self
    }

    /// The capture, its calls ordered as the host orders them.
    pub fn build(mut self) -> Capture {
        self.syscalls.sort_by_key(|call| (call.abi, call.number));
        self.refused.sort_by_key(|call| (call.abi, call.number));
        Capture::new(self.container, self.machine, self.syscalls, self.refused, self.completeness)
    }
}
