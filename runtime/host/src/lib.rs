//! Runs gadgets and formatters, WebAssembly components, within limits.
//!
//! A gadget turns captures into documents, with the help of a formatter; both are strangers. Each run gives each of
//! them a fresh instance in a store of its own, with a deadline, a memory cap and the few host functions of
//! `sdk/wit`: one file in `contract/` for each interface there. The host stands between the two, hands the gadget's
//! policy to the formatter, and checks both the policy and the document.
//!
//! ```
//! use gadgetd_core::{Abi, Capture, Completeness, Container, Machine, Phases, Syscall};
//! use gadgetd_host::{Host, HostConfig, ModuleRef, Params, Reason, Run};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let host = Host::new(HostConfig::default())?;
//! let gadget = host.gadget(&ModuleRef::parse("seccomp")).await?;
//! let formatter = host.formatter(&ModuleRef::parse("oci")).await?;
//! let params = Params::resolve(&gadget, &formatter, ["default-errno=38"])?;
//!
//! let read = Syscall { abi: Abi::Native, number: 0, phases: Phases::APPLICATION };
//! let capture = Capture {
//!     container: Container { id: "demo".into(), ..Container::default() },
//!     machine: Machine::X86_64,
//!     syscalls: vec![read],
//!     refused: Vec::new(),
//!     completeness: Completeness::default(),
//! };
//! let run = Run {
//!     gadget: &gadget,
//!     formatter: &formatter,
//!     params,
//!     captures: [capture].into(),
//!     reason: Reason::OnDemand,
//!     target: None,
//!     cluster: None,
//! };
//! let report = host.run(run).await?;
//! assert!(report.documents[0].document.body.contains(r#""read""#));
//! # Ok(())
//! # }
//! ```

mod bindings;
mod cluster;
mod contract;
mod document;
mod files;
mod host;
mod modules;
mod profile;
pub mod recording;
mod run;
mod sandbox;
mod text;

pub use self::{
    bindings::CONTRACT,
    cluster::{audit::KubeCall, script::Matching, session::Cluster},
    contract::{
        gadget::Reason,
        log::{Level, LogLine},
        module::{Capability, Description},
        output::{Emitted, MadeObject, Target, Verdict},
        params::{Kind, Spec, Value},
    },
    document::Document,
    files::replace,
    host::{Host, HostConfig, HostError},
    modules::{
        cache::CacheError,
        digest::Digest,
        error::ModuleError,
        loaded::{AnyModule, Formatter, Gadget},
        registry::{FetchError, FetchFuture, FetchRequest, Fetched, Origin, Registry, Source},
        role::Role,
        source::{ModuleRef, built_in},
        trust::{KeyId, PublicKey, PublicKeyError, Trust},
    },
    profile::SECCOMP_PROFILE,
    recording::replay::RecordedRun,
    run::{
        Report, Run, RunError, Usage,
        params::{ParamError, Params},
    },
    sandbox::{
        fault::{Fault, ModuleFault},
        limits::{Limits, MEMORY_MAX_BYTES, ModuleUsage},
    },
};
