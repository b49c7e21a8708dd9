//! Captures in a file: with the names of calls, and with what is usual left out.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use gadgetd_core::{
    Abi, Capture, Completeness, Container, Loss, Machine, Phases, Pod, Refusal, RefusedCall, Syscall,
    syscall_number,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CaptureFile {
    container: ContainerFile,
    #[serde(default = "usual_machine")]
    machine: Machine,
    /// Whether the recording was on before the container's first process.
    #[serde(default = "yes")]
    from_start: bool,
    #[serde(default)]
    losses: Vec<Loss>,
    #[serde(default)]
    syscalls: Vec<Group>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    refused: Vec<RefusedGroup>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ContainerFile {
    /// The name, if it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pod: Option<PodFile>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    image: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    image_digest: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    runtime: Option<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    cgroup: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PodFile {
    namespace: String,
    name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    uid: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    node: String,
}

/// The calls of one ABI that were made in the same phases.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    #[serde(default = "usual_abi")]
    abi: Abi,
    #[serde(default)]
    phase: Phase,
    /// Names, or numbers where the tables have no name, with blanks between them.
    calls: String,
}

/// The calls of one ABI that a filter answered in the same way.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RefusedGroup {
    #[serde(default = "usual_abi")]
    abi: Abi,
    answer: Refusal,
    /// As in [`Group`].
    calls: String,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Phase {
    Runtime,
    #[default]
    Application,
    Both,
    /// Nobody knows.
    None,
}

fn usual_machine() -> Machine {
    Machine::X86_64
}

fn usual_abi() -> Abi {
    Abi::Native
}

fn yes() -> bool {
    true
}

pub(super) fn serialize<S: Serializer>(captures: &[Capture], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(captures.iter().map(CaptureFile::from))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<[Capture]>, D::Error> {
    /// Converted one by one, so that an error says which one it is about.
    struct Read(Capture);

    impl<'de> Deserialize<'de> for Read {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            CaptureFile::deserialize(deserializer)?.read().map(Self).map_err(D::Error::custom)
        }
    }

    let captures = Vec::<Read>::deserialize(deserializer)?;
    Ok(captures.into_iter().map(|Read(capture)| capture).collect())
}

impl From<&Capture> for CaptureFile {
    fn from(capture: &Capture) -> Self {
        let Capture { container, machine, syscalls, refused, completeness } = capture;
        let Completeness { losses, from_start } = completeness.clone();
        let mut syscalls_by: Vec<Group> = Vec::new();
        for call in syscalls {
            let phase = Phase::from(call.phases);
            let text = text(call.abi, call.number, call.name(*machine), *machine);
            match syscalls_by.iter_mut().find(|group| group.abi == call.abi && group.phase == phase) {
                Some(group) => group.calls.extend([" ", &text]),
                None => syscalls_by.push(Group { abi: call.abi, phase, calls: text }),
            }
        }
        let mut refused_by: Vec<RefusedGroup> = Vec::new();
        for call in refused {
            let text = text(call.abi, call.number, call.name(*machine), *machine);
            match refused_by.iter_mut().find(|group| group.abi == call.abi && group.answer == call.answer) {
                Some(group) => group.calls.extend([" ", &text]),
                None => refused_by.push(RefusedGroup { abi: call.abi, answer: call.answer, calls: text }),
            }
        }
        let container = ContainerFile::from(container.clone());
        let (machine, syscalls, refused) = (*machine, syscalls_by, refused_by);
        Self { container, machine, from_start, losses, syscalls, refused }
    }
}

/// Its name, if that leads back to it.
fn text(abi: Abi, number: u32, name: Option<&str>, machine: Machine) -> String {
    let name = name.filter(|name| syscall_number(machine, abi, name) == Some(number));
    name.map_or_else(|| number.to_string(), str::to_owned)
}

impl CaptureFile {
    fn read(self) -> Result<Capture, String> {
        let Self { container, machine, from_start, losses, syscalls, refused } = self;
        let mut calls: BTreeMap<(Abi, u32), Phases> = BTreeMap::new();
        for Group { abi, phase, calls: texts } in syscalls {
            let made = Phases::from(phase);
            for text in texts.split_whitespace() {
                let number = number(text, machine, abi)?;
                let phases = calls.entry((abi, number)).or_default();
                phases.runtime |= made.runtime;
                phases.application |= made.application;
            }
        }
        let calls = calls.into_iter().map(|((abi, number), phases)| Syscall { abi, number, phases });
        let mut in_vain = BTreeSet::new();
        for RefusedGroup { abi, answer, calls: texts } in refused {
            for text in texts.split_whitespace() {
                in_vain.insert(RefusedCall { abi, number: number(text, machine, abi)?, answer });
            }
        }
        Ok(Capture {
            container: container.read()?,
            machine,
            syscalls: calls.collect(),
            refused: in_vain.into_iter().collect(),
            completeness: Completeness { losses, from_start },
        })
    }
}

fn number(text: &str, machine: Machine, abi: Abi) -> Result<u32, String> {
    let number = syscall_number(machine, abi, text).or_else(|| text.parse().ok());
    number.ok_or_else(|| format!("there is no system call {text:?} in the {abi} ABI of this machine"))
}

impl From<Container> for ContainerFile {
    fn from(container: Container) -> Self {
        let Container { id, name, pod, image, image_digest, runtime, cgroup } = container;
        let pod = pod.map(|Pod { namespace, name, uid, node }| PodFile { namespace, name, uid, node });
        Self { id: Some(id), name, pod, image, image_digest, runtime, cgroup }
    }
}

impl ContainerFile {
    fn read(self) -> Result<Container, String> {
        let Self { id, name, pod, image, image_digest, runtime, cgroup } = self;
        let id = id.or_else(|| name.clone()).ok_or("the container has neither an `id` nor a `name`")?;
        let pod = pod.map(|PodFile { namespace, name, uid, node }| Pod { namespace, name, uid, node });
        Ok(Container { id, name, pod, image, image_digest, runtime, cgroup })
    }
}

impl From<Phases> for Phase {
    fn from(phases: Phases) -> Self {
        match (phases.runtime, phases.application) {
            (true, true) => Self::Both,
            (true, false) => Self::Runtime,
            (false, true) => Self::Application,
            (false, false) => Self::None,
        }
    }
}

impl From<Phase> for Phases {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Both => Self::BOTH,
            Phase::Runtime => Self::RUNTIME,
            Phase::Application => Self::APPLICATION,
            Phase::None => Self::default(),
        }
    }
}
