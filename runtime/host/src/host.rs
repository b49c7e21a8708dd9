//! The host: what all modules and runs of a process share.

use std::{path::PathBuf, sync::Arc};

use thiserror::Error;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{
    modules::{
        cache::{Cache, CacheError},
        registry::Registry,
    },
    sandbox::{compile::Compiler, engine::Engine, limits::Limits, store::Linkers},
};

/// How a host is set up.
#[derive(Clone, Debug, Default)]
pub struct HostConfig {
    /// The limits of modules.
    pub limits: Limits,
    /// Where compiled modules are kept between processes; nowhere, if not given. Nobody but root and the user who runs
    /// this program may be able to write there.
    pub cache_dir: Option<PathBuf>,
    /// Fetches modules from registries; without it they come from gadgetd itself and from files.
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
    pub(crate) engine: Engine,
    pub(crate) linkers: Linkers,
    pub(crate) compiler: Compiler,
    pub(crate) limits: Arc<Limits>,
    pub(crate) cache: Option<Cache>,
    pub(crate) registry: Option<Arc<dyn Registry>>,
    permits: Semaphore,
}

impl Host {
    /// Sets up the engine. Takes a millisecond or so; nothing is compiled yet.
    pub fn new(config: HostConfig) -> Result<Self, HostError> {
        let HostConfig { limits, cache_dir, registry } = config;
        let failed = |error| HostError::Engine(format!("{error:#}"));
        let engine = Engine::new(&limits).map_err(failed)?;
        let linkers = Linkers::new(&engine.wasmtime).map_err(failed)?;
        let compiler = Compiler::new(engine.wasmtime.clone(), limits.compile);
        let cache = cache_dir.map(|dir| Cache::open(&dir, &engine.wasmtime)).transpose()?;
        let permits = Semaphore::new(usize::try_from(limits.runs).unwrap_or(Semaphore::MAX_PERMITS));
        Ok(Self { engine, linkers, compiler, limits: Arc::new(limits), cache, registry, permits })
    }

    /// Waits for the right to have instances. Every permit stands for two of the pool.
    pub(crate) async fn permit(&self) -> SemaphorePermit<'_> {
        self.permits.acquire().await.expect("the semaphore is never closed")
    }
}
