//! The eBPF object: its programs and maps, by name.
#![allow(unsafe_code, reason = "plain data crosses to and from the kernel as bytes")]

use std::{
    error::Error as _,
    fs,
    io::{self, BufRead, BufReader},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    thread,
};

use aya::{
    Btf, Ebpf, EbpfError, EbpfLoader, Pod, include_bytes_aligned,
    maps::{Array, HashMap, Map, MapData, MapError, Queue, RingBuf},
    programs::{BtfTracePoint, ProgramError, ProgramFd, RawTracePoint, TracePoint},
};
use gadgetd_ebpf_common::{EnrolNew, Event, Kernel, Losses, Owner, Slot};

use crate::{LoadError, TracerError, bpf, kernel, pins::Pins};

/// The eBPF object file.
pub(crate) static FILE: &[u8] = include_bytes_aligned!(env!("EBPF_OBJECT"));

/// The place in the kernel that a program is attached to.
#[derive(Clone, Copy)]
enum Hook {
    /// A tracepoint, by its name.
    Tracepoint(&'static str),
    /// A trace event, by its category and name.
    Event(&'static str),
}

/// Programs and their tracepoints, in the order in which they are attached: [`SYS_ENTER`] comes after those that keep up to
/// date what it uses, and before those that use what it leaves.
const PROGRAMS: [(&str, &str); 9] = [
    ("fork", "sched_process_fork"),
    ("exec", "sched_process_exec"),
    ("attach", "cgroup_attach_task"),
    ("mkdir", "cgroup_mkdir"),
    ("populated", "cgroup_notify_populated"),
    ("rmdir", "cgroup_rmdir"),
    (SYS_ENTER, "sys_enter"),
    ("sys_exit", "sys_exit"),
    ("exit", "sched_process_exit"),
];

/// The program that records.
const SYS_ENTER: &str = "sys_enter";

/// Programs that stand for others where the kernel would skip those for some tasks: their names, and their trace events.
const ON_EVENTS: [(&str, &str, &str); 3] = [
    ("exec", "exec_event", "sched/sched_process_exec"),
    (SYS_ENTER, "sys_enter_event", "raw_syscalls/sys_enter"),
    ("sys_exit", "sys_exit_event", "raw_syscalls/sys_exit"),
];

/// The programs that are used, in the order of [`PROGRAMS`].
fn programs(on_events: bool) -> [(&'static str, Hook); PROGRAMS.len()] {
    PROGRAMS.map(|(name, tracepoint)| {
        match ON_EVENTS.iter().find(|(instead_of, ..)| on_events && *instead_of == name) {
            Some((_, name, event)) => (*name, Hook::Event(event)),
            None => (name, Hook::Tracepoint(tracepoint)),
        }
    })
}

/// Whether programs are to be attached to trace events, and can be.
fn takes_events(preempts: bool) -> bool {
    let [.., (_, _, event)] = ON_EVENTS;
    let opened = || kernel::trace_event(event).and_then(bpf::open_event);
    match preempts.then(opened) {
        None => false,
        Some(Ok(_)) => true,
        Some(Err(error)) => {
            tracing::warn!(
                "trace events can't be used ({error}): calls that a task makes while another one was preempted are missed, and \
                 counted; it takes tracefs, and CAP_SYS_ADMIN or kernel.perf_event_paranoid=2"
            );
            false
        }
    }
}

/// A program that is only ever run by user space: it makes the others forget what they have looked up.
const INVALIDATE: &str = "invalidate";

/// The maps that user space uses. The programs have more of their own.
const MAPS: [&str; 7] = ["CGROUPS", "SLOTS", "OWNERS", "FREE", "LOSSES", "ENROL_NEW", "EVENTS"];

/// What a map, a program and a program's link are called where they are pinned.
fn map_pin(name: &str) -> String {
    format!("map-{name}")
}

fn program_pin(name: &str) -> String {
    format!("program-{name}")
}

fn link_pin(name: &str) -> String {
    format!("link-{name}")
}

/// A type of the shared layouts, as the value of a map or a global.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Shared<T>(pub(crate) T);

// SAFETY: the shared layouts are `repr(C)` structures of integers without padding.
unsafe impl Pod for Shared<EnrolNew> {}
// SAFETY: as above.
unsafe impl Pod for Shared<Kernel> {}
// SAFETY: as above.
unsafe impl Pod for Shared<Losses> {}
// SAFETY: as above.
unsafe impl Pod for Shared<Owner> {}
// SAFETY: as above.
unsafe impl Pod for Shared<Slot> {}

/// The loaded object.
pub(crate) struct Object {
    /// In the order of [`programs`].
    programs: Vec<OwnedFd>,
    invalidate: OwnedFd,
    /// Whether there are [`ON_EVENTS`] among them.
    on_events: bool,
    /// While it is attached, in the order of [`programs`].
    links: Vec<OwnedFd>,
    /// What is to be pinned, beside programs and links.
    maps: Vec<(&'static str, OwnedFd)>,
    grace_period: bpf::GracePeriod,
    /// Where it is pinned while it is attached, if it is to outlive the process.
    pins: Option<Pins>,
    pub(crate) cgroups: HashMap<MapData, u64, u32>,
    pub(crate) slots: Array<MapData, Shared<Slot>>,
    pub(crate) owners: Array<MapData, Shared<Owner>>,
    pub(crate) free: Queue<MapData, u32>,
    pub(crate) losses: Array<MapData, Shared<Losses>>,
    pub(crate) enrol_new: Array<MapData, Shared<EnrolNew>>,
    pub(crate) events: RingBuf<MapData>,
}

impl Object {
    /// Loads programs and maps; attaches nothing.
    pub(crate) fn load(slots: u32, pins: Option<Pins>) -> Result<Self, LoadError> {
        // Reading the kernel's BTF takes most of the time, and aya reads it twice.
        let btf = thread::spawn(Btf::from_sys_fs);
        let running = kernel::inspect(&PROGRAMS.map(|(_, tracepoint)| tracepoint))?;
        let kernel = Shared(running.kernel);
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
            .load(FILE)
            .map_err(|error| load_error(error, slots, cgroups, events))?;

        let btf = btf.join().map_err(|_| faulty("reading the kernel's BTF panicked"))?.map_err(faulty)?;
        let mut loaded = Vec::new();
        let on_events = takes_events(running.preempts);
        for (name, hook) in programs(on_events) {
            let fd = match hook {
                Hook::Tracepoint(tracepoint) => {
                    let program = btf_tracepoint(&mut ebpf, name).map_err(faulty)?;
                    program.load(tracepoint, &btf).map_err(|error| program_error(name, error))?;
                    owned(program.fd())
                }
                Hook::Event(_) => {
                    let program = trace_event(&mut ebpf, name).map_err(faulty)?;
                    program.load().map_err(|error| program_error(name, error))?;
                    owned(program.fd())
                }
            };
            loaded.push(fd.map_err(faulty)?);
        }
        let program = raw_tracepoint(&mut ebpf, INVALIDATE).map_err(faulty)?;
        program.load().map_err(|error| program_error(INVALIDATE, error))?;
        let invalidate = owned(program.fd()).map_err(faulty)?;

        Self::assemble(loaded, on_events, invalidate, Vec::new(), pins, |name| match ebpf.take_map(name) {
            Some(Map::Array(map) | Map::HashMap(map) | Map::Queue(map) | Map::RingBuf(map)) => Ok(map),
            Some(_) => Err(faulty(format!("its map {name} is of another type"))),
            None => Err(faulty(format!("it has no map {name}"))),
        })
    }

    /// Takes over what is pinned: it is attached.
    pub(crate) fn adopt(pins: Pins) -> Result<Self, LoadError> {
        let get = |name: &str| pins.get(name);
        let on_events = ON_EVENTS.iter().all(|(_, name, _)| get(&program_pin(name)).is_ok());
        let all = programs(on_events);
        let loaded = all.iter().map(|(name, _)| get(&program_pin(name))).collect::<Result<_, _>>()?;
        let links = all.iter().map(|(name, _)| get(&link_pin(name))).collect::<Result<_, _>>()?;
        let invalidate = get(&program_pin(INVALIDATE))?;
        let mut maps = Vec::new();
        for name in MAPS {
            let pin = map_pin(name);
            let map = MapData::from_fd(get(&pin)?).map_err(|error| pins.unreadable(&pin, error))?;
            maps.push((name, map));
        }
        Self::assemble(loaded, on_events, invalidate, links, Some(pins), |name| {
            let index = maps.iter().position(|(pinned, _)| *pinned == name);
            index
                .map(|index| maps.swap_remove(index).1)
                .ok_or_else(|| faulty(format!("it has no map {name}")))
        })
    }

    fn assemble(
        programs: Vec<OwnedFd>,
        on_events: bool,
        invalidate: OwnedFd,
        links: Vec<OwnedFd>,
        pins: Option<Pins>,
        mut take: impl FnMut(&'static str) -> Result<MapData, LoadError>,
    ) -> Result<Self, LoadError> {
        let mut maps = Vec::new();
        let mut map = |name| {
            let map = take(name)?;
            maps.push((name, map.fd().as_fd().try_clone_to_owned().map_err(faulty)?));
            Map::from_map_data(map).map_err(faulty)
        };
        let [cgroups, slots, owners, free, losses, enrol_new, events] = MAPS;
        Ok(Self {
            cgroups: map(cgroups)?.try_into().map_err(faulty)?,
            slots: map(slots)?.try_into().map_err(faulty)?,
            owners: map(owners)?.try_into().map_err(faulty)?,
            free: map(free)?.try_into().map_err(faulty)?,
            losses: map(losses)?.try_into().map_err(faulty)?,
            enrol_new: map(enrol_new)?.try_into().map_err(faulty)?,
            events: map(events)?.try_into().map_err(faulty)?,
            programs,
            on_events,
            invalidate,
            links,
            maps,
            grace_period: bpf::GracePeriod::new().map_err(faulty)?,
            pins,
        })
    }

    pub(crate) fn is_attached(&self) -> bool {
        !self.links.is_empty()
    }

    /// Attaches every program, and pins everything if it is to outlive the process. If that fails, none is attached.
    pub(crate) fn attach(&mut self) -> Result<(), TracerError> {
        let attached = self.attach_all().and_then(|()| self.pin());
        if attached.is_err() {
            self.detach();
        }
        attached
    }

    fn attach_all(&mut self) -> Result<(), TracerError> {
        for ((name, hook), program) in programs(self.on_events).into_iter().zip(&self.programs) {
            if name.starts_with(SYS_ENTER) {
                // What it looked up when it was last attached may have changed since.
                self.invalidate()?;
            }
            let link = match hook {
                Hook::Tracepoint(_) => bpf::attach(program.as_fd()),
                Hook::Event(event) => kernel::trace_event(event)
                    .and_then(bpf::open_event)
                    .and_then(|event| bpf::attach_to_event(program.as_fd(), event.as_fd())),
            };
            self.links.push(link.map_err(|source| TracerError::Attach { name, source })?);
        }
        Ok(())
    }

    fn pin(&self) -> Result<(), TracerError> {
        let Some(pins) = &self.pins else { return Ok(()) };
        let names = || programs(self.on_events).into_iter().map(|(name, _)| name);
        let maps = self.maps.iter().map(|(name, map)| (map_pin(name), map.as_fd()));
        let programs = names().map(program_pin).zip(self.programs.iter().map(AsFd::as_fd));
        let invalidate = [(program_pin(INVALIDATE), self.invalidate.as_fd())];
        let links = names().map(link_pin).zip(self.links.iter().map(AsFd::as_fd));
        Ok(pins.keep(maps.chain(programs).chain(invalidate).chain(links))?)
    }

    /// Detaches every program.
    pub(crate) fn detach(&mut self) {
        let forgotten = self.pins.as_ref().map_or(Ok(()), Pins::forget);
        if let Err(error) = forgotten {
            tracing::error!(%error, source = ?error.source(), "programs stay attached to the kernel");
        }
        // The one that costs something goes first.
        while let Some(link) = self.links.pop() {
            drop(link);
        }
    }

    /// Makes the programs forget which task belongs to which slot.
    pub(crate) fn invalidate(&self) -> Result<(), TracerError> {
        bpf::run(self.invalidate.as_fd()).map_err(TracerError::Notify)
    }

    /// Waits until no program runs that began before.
    pub(crate) fn wait(&self) -> Result<(), TracerError> {
        self.grace_period.wait().map_err(TracerError::Wait)
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
        let missed = self.programs.iter().map(|program| recursion_misses(program.as_fd()));
        missed.sum::<io::Result<_>>().map_err(TracerError::Missed)
    }
}

/// The kernel tells about a program in the description of its file.
fn recursion_misses(program: BorrowedFd<'_>) -> io::Result<u64> {
    let info = fs::File::open(format!("/proc/self/fdinfo/{}", program.as_raw_fd()))?;
    for line in BufReader::new(info).lines() {
        if let Some(count) = line?.strip_prefix("recursion_misses:") {
            return count.trim().parse().map_err(io::Error::other);
        }
    }
    Err(io::Error::other("the kernel does not tell recursion_misses"))
}

fn btf_tracepoint<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut BtfTracePoint, ProgramError> {
    ebpf.program_mut(name).ok_or(ProgramError::UnexpectedProgramType)?.try_into()
}

fn trace_event<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut TracePoint, ProgramError> {
    ebpf.program_mut(name).ok_or(ProgramError::UnexpectedProgramType)?.try_into()
}

fn raw_tracepoint<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut RawTracePoint, ProgramError> {
    ebpf.program_mut(name).ok_or(ProgramError::UnexpectedProgramType)?.try_into()
}

/// A program's descriptor, of our own.
fn owned(program: Result<&ProgramFd, ProgramError>) -> Result<OwnedFd, ProgramError> {
    Ok(program?.as_fd().try_clone_to_owned()?)
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
            if io_error.kind() == io::ErrorKind::OutOfMemory {
                LoadError::Memory { name, kib, source: io_error }
            } else {
                LoadError::Map { name, kib, source: io_error }
            }
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
