//! The domain of gadgetd, and nothing of the machinery around it.
//!
//! What a recording is ([`Capture`]: which [`Container`] made which [`Syscall`]s, which a filter
//! refused, and what the recording may have missed), what is made of it ([`Policy`]), and the traits through which the
//! rest of gadgetd reaches the kernel ([`SyscallSource`], [`CgroupSource`]). No eBPF, WebAssembly, Kubernetes or async runtime is
//! known here; the crates that know them depend on this one.
//!
//! ```
//! use gadgetd_core::{Abi, Machine, Phases, Syscall};
//!
//! let call = Syscall { abi: Abi::Compat, number: 5, phases: Phases::APPLICATION };
//! // 5 is `fstat` for a 64-bit program, and `open` for a 32-bit one.
//! assert_eq!(call.name(Machine::X86_64), Some("open"));
//! ```

mod abi;
mod capture;
mod container;
pub mod kube;
pub mod oci;
pub mod parameter;
pub mod policy;
mod refused;
mod source;
pub mod spo;
mod syscall;
mod x32_table;

pub use abi::{Abi, Machine};
pub use capture::{Capture, Completeness, Loss};
pub use container::{Container, Pod};
pub use policy::Policy;
pub use refused::{Refusal, RefusedCall};
pub use source::{CgroupEvent, CgroupId, CgroupSource, Enrolled, Entry, NewCgroups, Recorded, SyscallSource};
pub use syscall::{Phases, Syscall, syscall_number};
