use std::{io, path::PathBuf};

use aya::{maps::MapError, programs::ProgramError};
use gadgetd_core::CgroupId;
use thiserror::Error;

use crate::{btf::BtfError, pins::PinsError};

/// Why the tracer could not be loaded.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The process may not load eBPF.
    #[error("recording needs more rights than this process has: {} missing; run as root", .0.join(", "))]
    Capabilities(Vec<&'static str>),
    /// The process has the rights, but not where they count.
    #[error(
        "the kernel refused eBPF although this process has the rights; it is probably in a user namespace (a rootless \
         container), or the kernel is locked down: run as root on the host itself"
    )]
    Refused(#[source] io::Error),
    /// The kernel lacks something that later ones have.
    #[error(
        "Linux {release} has no {feature}, which came with Linux {since}: gadgetd needs that one or a newer one"
    )]
    TooOld {
        /// What the kernel calls itself.
        release: String,
        /// What it lacks.
        feature: &'static str,
        /// The first release that has it.
        since: &'static str,
    },
    /// The kernel lets no eBPF program read its memory.
    #[error(
        "the kernel is locked down in the mode \"confidentiality\", in which no eBPF program may read its memory; gadgetd \
         records in the modes \"none\" and \"integrity\" (the kernel's parameter lockdown=, or secure boot, decides)"
    )]
    Lockdown,
    /// The kernel was built without BTF.
    #[error("this kernel does not describe itself: it needs CONFIG_DEBUG_INFO_BTF=y; cannot read {}", path.display())]
    NoBtf {
        /// Where it should be.
        path: PathBuf,
        /// What reading it gave.
        source: io::Error,
    },
    /// The kernel's BTF can't be understood.
    #[error("cannot understand the kernel's BTF in {}", path.display())]
    Btf {
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it.
        source: BadBtf,
    },
    /// The kernel has no such field: it is older or newer than what the program was made for.
    #[error("this kernel's struct {structure} has no field {field}: it is older or newer than gadgetd knows")]
    MissingField {
        /// The structure.
        structure: &'static str,
        /// The field.
        field: &'static str,
    },
    /// The kernel has no such tracepoint.
    #[error(
        "this kernel has no tracepoint {0}: it must be built with CONFIG_FTRACE_SYSCALLS and CONFIG_CGROUPS"
    )]
    MissingTracepoint(&'static str),
    /// No usable cgroup v2 hierarchy.
    #[error(transparent)]
    Cgroups(#[from] gadgetd_containers::Error),
    /// The number of slots is out of range.
    #[error("{0} containers at once can't be recorded: it must be 1 to {max}", max = crate::TracerOptions::MAX_SLOTS)]
    Slots(u32),
    /// There is too little memory for a map.
    #[error(
        "there is no memory for what is recorded: the map {name} takes {kib} KiB; give the cgroup that \
         gadgetd runs in more memory, or on a node let it record fewer containers at once (`gadgetd serve --slots`)"
    )]
    Memory {
        /// Its name.
        name: String,
        /// About how much memory it takes.
        kib: u64,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel refused a map.
    #[error("the kernel refused the map {name} ({kib} KiB)")]
    Map {
        /// Its name.
        name: String,
        /// About how much memory it takes.
        kib: u64,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel refused a program. The verifier's log is logged at level debug.
    #[error("the kernel refused the program {name}; the verifier's reasons are in the log at level debug")]
    Program {
        /// Its name.
        name: &'static str,
        /// What the kernel said.
        source: Box<ProgramError>,
    },
    /// What is recorded could not outlive the process, or what an earlier one left cannot be taken over.
    #[error(transparent)]
    Pins(#[from] PinsError),
    /// What an earlier process left unfinished cannot be brought to an end.
    #[error("cannot go on with what an earlier gadgetd recorded")]
    Adoption(#[source] TracerError),
    /// The eBPF object that gadgetd was built with is not what it should be.
    #[error("the embedded eBPF object is faulty; this is a fault in gadgetd's build")]
    Object(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What is wrong with a kernel's BTF.
#[derive(Debug, Error)]
#[error(transparent)]
pub struct BadBtf(#[from] BtfError);

/// Why a loaded tracer could not do what it was asked.
#[derive(Debug, Error)]
pub enum TracerError {
    /// A program could not be attached.
    #[error("cannot attach the program {name} to the kernel")]
    Attach {
        /// Its name.
        name: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// What is recorded could not outlive the process.
    #[error(transparent)]
    Pins(#[from] PinsError),
    /// A program that user space runs did not run.
    #[error("cannot tell the kernel side that the recorded cgroups have changed")]
    Notify(#[source] io::Error),
    /// Access to a map failed.
    #[error("cannot access the kernel side's map {name}")]
    Map {
        /// Its name.
        name: &'static str,
        /// What the kernel said.
        source: MapError,
    },
    /// There is no such cgroup.
    #[error("there is no cgroup v2 with the id {}", .0.0)]
    NoCgroup(CgroupId),
    /// The cgroup has no slot.
    #[error("the cgroup with the id {} is not being recorded", .0.0)]
    NotEnrolled(CgroupId),
    /// All slots are in use.
    #[error("all {0} slots are in use; stop a recording, or start gadgetd with room for more containers")]
    SlotsExhausted(u32),
    /// Waiting for programs that still use a slot failed.
    #[error("cannot wait for running programs of the kernel side")]
    Wait(#[source] io::Error),
    /// Counters of the programs can't be read.
    #[error("cannot read how many events the kernel side missed")]
    Missed(#[source] io::Error),
}
