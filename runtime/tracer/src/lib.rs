//! Loads the eBPF program, tells it which cgroups to record, and reads what it recorded.
//!
//! [`Tracer`] is the kernel's side of [`CgroupSource`](gadgetd_core::CgroupSource). Loading it needs root (or `CAP_BPF`, `CAP_PERFMON` and
//! `CAP_SYS_ADMIN`'s successors), a kernel with BTF, and a cgroup v2 hierarchy; [`LoadError`] says which is missing.
//! While nothing is enrolled nothing is attached, and the machine runs as if there were no tracer. With [a
//! folder to pin](TracerOptions::pin) things in, what is recorded outlives the process, and the next one goes on with it.
//!
//! ```no_run
//! use gadgetd_core::{CgroupId, CgroupSource, Entry, Machine, SyscallSource};
//! use gadgetd_tracer::{Tracer, TracerOptions};
//!
//! let mut tracer = Tracer::load(&TracerOptions::default())?;
//! let cgroup = CgroupId(4242); // the inode number of its directory
//! tracer.enrol(cgroup, Entry::Runtime)?;
//! let recorded = tracer.read(cgroup)?;
//! for call in &recorded.syscalls {
//!     println!("{}", call.name(Machine::current()).unwrap_or("?"));
//! }
//! tracer.release(cgroup)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod bpf;
mod btf;
mod error;
mod kernel;
mod object;
mod pins;
mod slot;
mod tracer;

pub use error::{LoadError, TracerError};
pub use pins::PinsError;
pub use tracer::{Tracer, TracerOptions};
