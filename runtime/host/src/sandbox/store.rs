//! The data of a wasmtime store: the contexts of all interfaces, put together, and what holds the guest to its limits.

use std::{sync::Arc, time::Duration};

use gadgetd_core::Capture;
use wasmtime::{Engine, Store, UpdateDeadline, component::Linker};

use super::{
    engine::TICK,
    fault::{CallDeadlineExceeded, Fault},
    limits::{GrowthLimiter, Limits},
};
use crate::{
    bindings::{self, params::Param},
    cluster::session::Session,
    contract::{
        captures,
        formatter::{FormatterContext, FormatterView},
        kube::KubeView,
        log::{Log, LogView},
        output::{Output, OutputView},
        params::ParamsContext,
        policy::PolicyContext,
    },
};

/// The data of one instance's store.
pub(crate) struct StoreData {
    pub(crate) log: Log,
    captures: Arc<[Capture]>,
    params: ParamsContext,
    /// Only a gadget has these, and only while it runs.
    gadget: Option<Box<GadgetContexts>>,
    limits: Arc<Limits>,
    limiter: GrowthLimiter,
    /// How many ticks of the clock the current call has seen.
    ticks: u32,
}

/// The contexts of the interfaces that only gadgets import.
pub(crate) struct GadgetContexts {
    pub(crate) output: Output,
    pub(crate) formatter: FormatterContext,
    pub(crate) kube: Session,
}

impl StoreData {
    /// For a module that describes itself, and may call `log` only.
    pub(crate) fn describing(label: Arc<str>, limits: Arc<Limits>) -> Self {
        let (log, limiter) = (Log::new(label, &limits), GrowthLimiter::new(&limits));
        let (captures, params) = (Arc::default(), ParamsContext(None));
        Self { log, captures, params, gadget: None, limits, limiter, ticks: 0 }
    }

    /// For a formatter in a run.
    pub(crate) fn formatting(
        label: Arc<str>,
        limits: Arc<Limits>,
        params: Arc<[Param]>,
        captures: Arc<[Capture]>,
    ) -> Self {
        Self { captures, params: ParamsContext(Some(params)), ..Self::describing(label, limits) }
    }

    /// For a gadget in a run.
    pub(crate) fn generating(
        label: Arc<str>,
        limits: Arc<Limits>,
        params: Arc<[Param]>,
        captures: Arc<[Capture]>,
        gadget: GadgetContexts,
    ) -> Self {
        Self { gadget: Some(Box::new(gadget)), ..Self::formatting(label, limits, params, captures) }
    }

    /// A store that holds its guest to the limits.
    pub(crate) fn into_store(self, engine: &Engine) -> Store<Self> {
        let hostcall_max_bytes = self.limits.hostcall_max_bytes();
        let mut store = Store::new(engine, self);
        store.limiter(|data| &mut data.limiter);
        store.set_hostcall_fuel(hostcall_max_bytes);
        // Called in the guest's own code, and there only, when a tick has passed: so only the time that the guest itself
        // takes is counted. Between ticks other tasks of the thread get their turn.
        store.epoch_deadline_callback(|mut store| {
            let data = store.data_mut();
            data.ticks += 1;
            if TICK * data.ticks > data.limits.call {
                Err(CallDeadlineExceeded.into())
            } else {
                Ok(UpdateDeadline::Yield(1))
            }
        });
        store.set_epoch_deadline(1);
        store
    }

    /// Starts the clock anew, for another call into the guest.
    pub(crate) fn begin_call(&mut self) {
        self.ticks = 0;
    }

    /// Why a call into the guest failed.
    pub(crate) fn fault(&self, error: &wasmtime::Error) -> Fault {
        Fault::of_call(error, &self.limits, self.limiter.denied, self.log.last_error())
    }

    /// The most memory that the module had, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.limiter.memory_bytes()
    }

    /// How long a gadget waited for the formatter and the cluster.
    pub(crate) fn waited(&self) -> Duration {
        self.gadget.as_ref().map_or(Duration::ZERO, |gadget| gadget.formatter.waited + gadget.kube.waited)
    }

    /// The log, and the contexts that only gadgets have.
    pub(crate) fn into_contexts(self) -> (Log, Option<GadgetContexts>) {
        (self.log, self.gadget.map(|gadget| *gadget))
    }
}

/// The functions that modules may import.
pub(crate) struct Linkers {
    pub(crate) gadgets: Linker<StoreData>,
    pub(crate) formatters: Linker<StoreData>,
}

impl Linkers {
    pub(crate) fn new(engine: &Engine) -> wasmtime::Result<Self> {
        let mut formatters = Linker::new(engine);
        captures::add_to_linker(&mut formatters, |data: &StoreData| &data.captures)?;
        bindings::policy::add_to_linker::<_, PolicyContext>(&mut formatters, |_| PolicyContext)?;
        bindings::params::add_to_linker::<_, ParamsContext>(&mut formatters, |data| &mut data.params)?;
        bindings::log::add_to_linker::<_, Log>(&mut formatters, |data| LogView {
            log: &mut data.log,
            denied: &mut data.limiter.denied,
        })?;
        let mut gadgets = formatters.clone();
        bindings::formatter::add_to_linker::<_, FormatterContext>(&mut gadgets, |data| FormatterView {
            formatter: data.gadget.as_mut().map(|gadget| &mut gadget.formatter),
            log: &mut data.log,
        })?;
        bindings::output::add_to_linker::<_, Output>(&mut gadgets, |data| {
            data.gadget.as_deref_mut().map(|GadgetContexts { output, formatter, kube }| OutputView {
                output,
                checked: formatter.last_document.as_ref(),
                cluster: kube,
            })
        })?;
        bindings::kube::add_to_linker::<_, Session>(&mut gadgets, |data| {
            KubeView(data.gadget.as_mut().map(|gadget| &mut gadget.kube))
        })?;
        Ok(Self { gadgets, formatters })
    }
}
