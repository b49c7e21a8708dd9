//! The formatter of a run, in a store of its own, with limits of its own.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use gadgetd_core::Capture;
use wasmtime::Store;

use crate::{
    bindings::params::Param,
    contract::{
        formatter::{Answer, Format, Input, Instance},
        log::Log,
    },
    modules::loaded::Module,
    sandbox::{fault::Fault, limits::ModuleUsage, store::StoreData},
};

/// It is instantiated when the gadget first calls it, and then stays.
pub(crate) struct FormatterInstance {
    module: Arc<Module>,
    params: Arc<[Param]>,
    captures: Arc<[Capture]>,
    store: Option<Store<StoreData>>,
    format: Option<Format>,
    /// The fault that ended it: a module that trapped cannot be entered again.
    ended: Option<Fault>,
    instantiate: Duration,
    run: Duration,
}

impl FormatterInstance {
    pub(crate) fn new(module: Arc<Module>, params: Arc<[Param]>, captures: Arc<[Capture]>) -> Self {
        let (instantiate, run) = (Duration::ZERO, Duration::ZERO);
        Self { module, params, captures, store: None, format: None, ended: None, instantiate, run }
    }
}

impl Instance for FormatterInstance {
    fn format(&mut self, input: Input) -> Answer<'_> {
        Box::pin(async move {
            if let Some(fault) = &self.ended {
                return Err(fault.clone());
            }
            let store = self.store.get_or_insert_with(|| {
                let Module { label, limits, .. } = &*self.module;
                let (params, captures) = (self.params.clone(), self.captures.clone());
                StoreData::formatting(label.clone(), limits.clone(), params, captures)
                    .into_store(self.module.engine())
            });
            let begin = Instant::now();
            store.data_mut().begin_call();
            let format: wasmtime::Result<Format> = match self.format {
                Some(format) => Ok(format),
                None => self.module.start(&mut *store).await,
            };
            let running = Instant::now();
            self.instantiate += running - begin;
            let answer = match format {
                Ok(format) => {
                    self.format = Some(format);
                    format.call_async(&mut *store, input).await.map(|(answer,)| answer)
                }
                Err(error) => Err(error),
            };
            self.run += running.elapsed();
            answer.map_err(|error| {
                let fault = store.data().fault(&error);
                self.ended = Some(fault.clone());
                fault
            })
        })
    }

    fn drain_log(&mut self, log: &mut Log) {
        if let Some(store) = &mut self.store {
            store.data_mut().log.drain_into(log);
        }
    }

    fn usage(&self) -> ModuleUsage {
        let memory = self.store.as_ref().map_or(0, |store| store.data().memory_bytes());
        ModuleUsage { instantiate: self.instantiate, run: self.run, memory }
    }
}
