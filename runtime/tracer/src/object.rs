//! The eBPF object: its programs and maps, by name.
#![allow(unsafe_code, reason = "plain data crosses to and from the kernel as bytes")]

use std::{
    fs,
    io::{self, BufRead, BufReader},
    os::fd::{AsFd, AsRawFd},
    thread,
};

use aya::{
    Btf, Ebpf, EbpfError, EbpfLoader, Pod, include_bytes_aligned,
    maps::{Array, HashMap, MapData, MapError, Queue, RingBuf},
    programs::{
        BtfTracePoint, ProgramError, RawTracePoint, RawTracePointRunOptions, TestRun,
        tp_btf::BtfTracePointLinkId,
    },
};
use gadgetd_ebpf_common::{Event, Kernel, Losses, Owner, Slot};

use crate::{LoadError, TracerError, kernel};

/// Programs and the tracepoints they belong to, in the order in which they are attached: the one that uses what the
/// others keep up to date comes last.
const PROGRAMS: [(&str, &str); 7] = [
    ("fork", "sched_process_fork"),
    ("exec", "sched_process_exec"),
    ("attach", "cgroup_attach_task"),
    ("mkdir", "cgroup_mkdir"),
    ("populated", "cgroup_notify_populated"),
    ("rmdir", "cgroup_rmdir"),
    ("sys_enter", "sys_enter"),
];

/// The tracepoints that the kernel must have.
pub(crate) const TRACEPOINTS: [&str; PROGRAMS.len()] = {
    let mut tracepoints = [""; PROGRAMS.len()];
    let mut index = 0;
    while index < PROGRAMS.len() {
        tracepoints[index] = PROGRAMS[index].1;
        index += 1;
    }
    tracepoints
};

/// A program that is only ever run by user space: it makes the others forget what they have looked up.
const INVALIDATE: &str = "invalidate";

/// A type of the shared layouts, as the value of a map or a global.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Shared<T>(pub(crate) T);

// SAFETY: the shared layouts are `repr(C)` structures of integers without padding.
unsafe impl Pod for Shared<Kernel> {}
// SAFETY: as above.
unsafe impl Pod for Shared<Losses> {}
// SAFETY: as above.
unsafe impl Pod for Shared<Owner> {}
// SAFETY: as above.
unsafe impl Pod for Shared<Slot> {}

/// The loaded object.
pub(crate) struct Object {
    programs: Ebpf,
    links: Vec<(&'static str, BtfTracePointLinkId)>,
    pub(crate) cgroups: HashMap<MapData, u64, u32>,
    pub(crate) slots: Array<MapData, Shared<Slot>>,
    pub(crate) owners: Array<MapData, Shared<Owner>>,
    pub(crate) free: Queue<MapData, u32>,
    pub(crate) losses: Array<MapData, Shared<Losses>>,
    pub(crate) enrol_new: Array<MapData, u64>,
    pub(crate) events: RingBuf<MapData>,
}

impl Object {
    /// Loads programs and maps; attaches nothing.
    pub(crate) fn load(slots: u32) -> Result<Self, LoadError> {
        // Reading the kernel's BTF takes most of the time, and aya reads it twice.
        let btf = thread::spawn(Btf::from_sys_fs);
        let kernel = Shared(kernel::inspect()?);
        // Room for child cgroups: most containers have none, some (systemd) dozens.
        let cgroups = slots.saturating_mul(8).max(1_024);
        // Room for an event of each (24 bytes); a power of two.
        let events = slots.saturating_mul(32).next_power_of_two().max(4_096);
        let mut ebpf = EbpfLoader::new()
            .override_global("KERNEL", &kernel, true)
            .map_max_entries("CGROUPS", cgroups)
            .map_max_entries("SLOTS", slots)
            .map_max_entries("OWNERS", slots)
            .map_max_entries("FREE", slots)
            .map_max_entries("EVENTS", events)
            // Storage of tasks: user space has no use for it.
            .allow_unsupported_maps()
            .load(include_bytes_aligned!(env!("EBPF_OBJECT")))
            .map_err(|error| load_error(error, slots, cgroups, events))?;

        let btf = btf.join().map_err(|_| faulty("reading the kernel's BTF panicked"))?.map_err(faulty)?;
        for (name, tracepoint) in PROGRAMS {
            let program = btf_tracepoint(&mut ebpf, name).map_err(faulty)?;
            program.load(tracepoint, &btf).map_err(|error| program_error(name, error))?;
        }
        raw_tracepoint(&mut ebpf, INVALIDATE)
            .map_err(faulty)?
            .load()
            .map_err(|error| program_error(INVALIDATE, error))?;

        let mut map = |name: &str| ebpf.take_map(name).ok_or_else(|| faulty(format!("it has no map {name}")));
        Ok(Self {
            cgroups: map("CGROUPS")?.try_into().map_err(faulty)?,
            slots: map("SLOTS")?.try_into().map_err(faulty)?,
            owners: map("OWNERS")?.try_into().map_err(faulty)?,
            free: map("FREE")?.try_into().map_err(faulty)?,
            losses: map("LOSSES")?.try_into().map_err(faulty)?,
            enrol_new: map("ENROL_NEW")?.try_into().map_err(faulty)?,
            events: map("EVENTS")?.try_into().map_err(faulty)?,
            programs: ebpf,
            links: Vec::new(),
        })
    }

    pub(crate) fn is_attached(&self) -> bool {
        !self.links.is_empty()
    }

    /// Attaches every program. If one can't be, none is.
    pub(crate) fn attach(&mut self) -> Result<(), TracerError> {
        for (name, _) in PROGRAMS {
            if name == "sys_enter" {
                // What it looked up when it was last attached may have changed since.
                self.invalidate()?;
            }
            let attached = btf_tracepoint(&mut self.programs, name).and_then(BtfTracePoint::attach);
            match attached {
                Ok(link) => self.links.push((name, link)),
                Err(error) => {
                    self.detach();
                    return Err(TracerError::Attach { name, source: error.into() });
                }
            }
        }
        Ok(())
    }

    /// Detaches every program.
    pub(crate) fn detach(&mut self) {
        // The one that costs something goes first.
        while let Some((name, link)) = self.links.pop() {
            let detached = btf_tracepoint(&mut self.programs, name).and_then(|program| program.detach(link));
            if let Err(error) = detached {
                tracing::error!(program = name, %error, "cannot detach a program from the kernel");
            }
        }
    }

    /// Makes the programs forget which task belongs to which slot.
    pub(crate) fn invalidate(&mut self) -> Result<(), TracerError> {
        raw_tracepoint(&mut self.programs, INVALIDATE)
            .and_then(|program| program.test_run(RawTracePointRunOptions::new()))
            .map_err(|error| TracerError::Notify(error.into()))?;
        Ok(())
    }

    /// What the kernel side has told since the last call.
    pub(crate) fn told(&mut self) -> Vec<Event> {
        let mut told = Vec::new();
        while let Some(item) = self.events.next() {
            let word = |at: usize| item.get(at..at + 8)?.try_into().ok().map(u64::from_ne_bytes);
            if let (Some(cgroup), Some(kind)) = (word(0), word(8)) {
                told.push(Event { cgroup, kind });
            }
        }
        told
    }

    /// Events that the kernel did not hand to a program because it was running already on that CPU.
    pub(crate) fn missed(&self) -> Result<u64, TracerError> {
        let mut missed = 0;
        for (name, _) in PROGRAMS {
            let program = self.programs.program(name).and_then(|program| program.fd().ok());
            if let Some(fd) = program {
                missed += recursion_misses(fd.as_fd()).map_err(TracerError::Missed)?;
            }
        }
        Ok(missed)
    }
}

/// The kernel tells about a program in the description of its file; before 5.12 it did not count misses.
fn recursion_misses(program: impl AsFd) -> io::Result<u64> {
    let info = fs::File::open(format!("/proc/self/fdinfo/{}", program.as_fd().as_raw_fd()))?;
    for line in BufReader::new(info).lines() {
        if let Some(count) = line?.strip_prefix("recursion_misses:") {
            return count.trim().parse().map_err(io::Error::other);
        }
    }
    Ok(0)
}

fn btf_tracepoint<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut BtfTracePoint, ProgramError> {
    ebpf.program_mut(name).ok_or(ProgramError::UnexpectedProgramType)?.try_into()
}

fn raw_tracepoint<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut RawTracePoint, ProgramError> {
    ebpf.program_mut(name).ok_or(ProgramError::UnexpectedProgramType)?.try_into()
}

fn faulty(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> LoadError {
    LoadError::Object(error.into())
}

fn load_error(error: EbpfError, slots: u32, cgroups: u32, events: u32) -> LoadError {
    match error {
        EbpfError::MapError(MapError::CreateError { io_error, .. }) if is_refusal(&io_error) => {
            LoadError::Refused(io_error)
        }
        EbpfError::MapError(MapError::CreateError { name, io_error }) => {
            let kib = map_kib(&name, slots, cgroups, events);
            LoadError::Map { name, kib, source: io_error }
        }
        error => faulty(error),
    }
}

/// Whether the kernel refused because of who asks. (The verifier's refusal of a program is `EACCES`.)
fn is_refusal(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::PERM.raw_os_error())
}

/// About what a map takes.
fn map_kib(name: &str, slots: u32, cgroups: u32, events: u32) -> u64 {
    /// Of a hash map's element and its bucket.
    const HASH_ELEMENT: usize = 80;
    let (bytes, count) = match name {
        "CGROUPS" => (HASH_ELEMENT, cgroups),
        "SLOTS" => (size_of::<Slot>(), slots),
        "OWNERS" => (size_of::<Owner>(), slots),
        "FREE" => (size_of::<u32>(), slots),
        "EVENTS" => (1, events),
        _ => (size_of::<Slot>(), 1),
    };
    (bytes as u64 * u64::from(count)).div_ceil(1024)
}

fn program_error(name: &'static str, error: ProgramError) -> LoadError {
    match error {
        ProgramError::LoadError { io_error, .. } if is_refusal(&io_error) => LoadError::Refused(io_error),
        ProgramError::LoadError { io_error, verifier_log } => {
            tracing::debug!(program = name, "the verifier's log:\n{verifier_log}");
            LoadError::Program { name, source: ProgramError::IOError(io_error).into() }
        }
        error => LoadError::Program { name, source: error.into() },
    }
}
