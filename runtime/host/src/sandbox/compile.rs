//! Compiling components, bounded in time and in number.

use std::{borrow::Cow, num::NonZero, sync::Arc, time::Duration};

use thiserror::Error;
use tokio::sync::Semaphore;
use wasmtime::{Engine, component::Component};

use crate::text::printable;

/// Why a component is not compiled.
#[derive(Debug, Error)]
pub(crate) enum CompileError {
    #[error("compiling takes more than {0:?}")]
    Timeout(Duration),
    #[error("{0}")]
    Refused(String),
}

/// Compiles components, as many at the same time as there are CPUs.
pub(crate) struct Compiler {
    engine: Engine,
    permits: Arc<Semaphore>,
    timeout: Duration,
}

impl Compiler {
    pub(crate) fn new(engine: Engine, timeout: Duration) -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self { engine, permits: Arc::new(Semaphore::new(cpus)), timeout }
    }

    /// Compiles a component. Takes tens of milliseconds for a small one, and seconds for an interpreter.
    pub(crate) async fn compile(&self, bytes: Cow<'static, [u8]>) -> Result<Component, CompileError> {
        let (engine, permits) = (self.engine.clone(), Arc::clone(&self.permits));
        let compiling = async move {
            let permit = permits.acquire_owned().await;
            // Nothing can end a compiler. One that nobody waits for any more keeps its permit until it is done, so that no
            // more than these are ever at work.
            let compile = move || {
                let _permit = permit;
                Component::from_binary(&engine, &bytes)
            };
            tokio::task::spawn_blocking(compile).await
        };
        let compiled = tokio::time::timeout(self.timeout, compiling)
            .await
            .map_err(|_| CompileError::Timeout(self.timeout))?;
        compiled
            .map_err(|_| CompileError::Refused("the compiler gave up".to_owned()))?
            .map_err(|error| CompileError::Refused(printable(format!("{error:#}"))))
    }
}
