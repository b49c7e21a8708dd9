//! Runs gadgets and formatters, WebAssembly components, within limits.
//!
//! A gadget turns captures into documents, with the help of a formatter; both are strangers. Each run gives each of
//! them a fresh instance in a store of its own, with a deadline, a memory cap and the few host functions of
//! `sdk/wit`: one source file here for each interface there. The host stands between the two, hands the gadget's
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
mod cache;
mod captures;
mod engine;
mod fault;
mod files;
mod formatter;
mod gadget;
mod kube;
mod limits;
mod log;
mod module;
mod output;
mod params;
mod policy;
pub mod recording;
mod registry;
mod replay;
mod run;
mod state;
mod store;
mod trust;

use std::{num::NonZero, path::PathBuf, sync::Arc};

use thiserror::Error;
use tokio::sync::{Semaphore, SemaphorePermit};

pub use self::{
    cache::CacheError,
    fault::{Fault, ModuleFault},
    files::replace,
    gadget::Reason,
    kube::{Cluster, KubeCall},
    limits::{Limits, MEMORY_MAX},
    log::{Level, LogLine},
    module::{AnyModule, CONTRACT, Capability, Description, Digest, Formatter, Gadget, ModuleError, Role},
    output::{Document, Emitted, MadeObject, SECCOMP_PROFILE, Target, Verdict},
    params::{Kind, ParamError, Params, Spec, Value},
    registry::{FetchError, Fetched, Fetching, Origin, Registry, Source, Wanted},
    replay::{Matching, Recorded},
    run::{ModuleUsage, Report, Run, RunError, Usage},
    store::{ModuleRef, built_in},
    trust::{KeyId, PublicKey, PublicKeyError, Trust},
};

/// How a host is set up.
#[derive(Clone, Debug, Default)]
pub struct HostConfig {
    /// What modules may use.
    pub limits: Limits,
    /// Where compiled modules are kept between processes; nowhere, if not given. Nobody but root and the user who runs
    /// this program may be able to write there.
    pub cache_dir: Option<PathBuf>,
    /// Who fetches modules from registries; without it they come from gadgetd itself and from files.
    pub registry: Option<Arc<dyn Registry>>,
}

/// Why a host cannot be set up.
#[derive(Debug, Error)]
pub enum HostError {
    /// The engine does not start.
    #[error("cannot start the WebAssembly engine: {0}")]
    Engine(String),
    /// The folder for compiled modules cannot be used.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

/// Loads modules and runs them. One is enough for a process.
pub struct Host {
    engine: engine::Engine,
    limits: Arc<Limits>,
    cache: Option<cache::Cache>,
    registry: Option<Arc<dyn Registry>>,
    permits: Semaphore,
    compilers: Arc<Semaphore>,
}

impl Host {
    /// Sets up the engine. Takes a millisecond or so; nothing is compiled yet.
    pub fn new(config: HostConfig) -> Result<Self, HostError> {
        let limits = config.limits;
        let engine = engine::Engine::new(&limits).map_err(|error| HostError::Engine(format!("{error:#}")))?;
        let cache = config.cache_dir.map(|dir| cache::Cache::open(&dir, &engine.wasmtime)).transpose()?;
        let permits = Semaphore::new(usize::try_from(limits.runs).unwrap_or(Semaphore::MAX_PERMITS));
        let compilers = std::thread::available_parallelism().map_or(1, NonZero::get);
        let compilers = Arc::new(Semaphore::new(compilers));
        let registry = config.registry;
        Ok(Self { engine, limits: Arc::new(limits), cache, registry, permits, compilers })
    }

    /// Waits for the right to have instances. Every right stands for two of the pool.
    async fn permit(&self) -> SemaphorePermit<'_> {
        self.permits.acquire().await.expect("the semaphore is never closed")
    }
}
