//! What the host keeps for one instance of a module: the data of its wasmtime store.

use std::{sync::Arc, time::Duration};

use gadgetd_core::Capture;
use wasmtime::{Engine, Store, UpdateDeadline};

use crate::{
    bindings::params::Param,
    engine::TICK,
    fault::{Breach, Overrun},
    formatter::Session,
    kube,
    limits::{Grants, Limits},
    log::Log,
    output::Output,
};

pub(crate) struct State {
    /// The module, as people know it: `gadget seccomp`.
    pub(crate) module: Arc<str>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) grants: Grants,
    pub(crate) log: Log,
    pub(crate) params: Arc<[Param]>,
    /// The run's captures; a module reaches those that it has handles on.
    pub(crate) captures: Arc<[Capture]>,
    doing: Doing,
    /// How many ticks of the clock the current call has seen.
    ticks: u32,
    /// How long the module waited for the formatter and the cluster.
    pub(crate) waited: Duration,
}

enum Doing {
    /// Answering `describe`, where only `log` may be called.
    Describe,
    Format,
    Generate(Box<GadgetRun>),
}

/// What only a gadget has.
pub(crate) struct GadgetRun {
    pub(crate) output: Output,
    pub(crate) formatter: Session,
    pub(crate) kube: kube::Session,
}

impl State {
    pub(crate) fn describing(module: Arc<str>, limits: Arc<Limits>) -> Self {
        Self::new(module, limits, Arc::default(), Arc::default(), Doing::Describe)
    }

    pub(crate) fn formatting(
        module: Arc<str>,
        limits: Arc<Limits>,
        params: Arc<[Param]>,
        captures: Arc<[Capture]>,
    ) -> Self {
        Self::new(module, limits, params, captures, Doing::Format)
    }

    pub(crate) fn generating(
        module: Arc<str>,
        limits: Arc<Limits>,
        params: Arc<[Param]>,
        captures: Arc<[Capture]>,
        run: GadgetRun,
    ) -> Self {
        Self::new(module, limits, params, captures, Doing::Generate(Box::new(run)))
    }

    fn new(
        module: Arc<str>,
        limits: Arc<Limits>,
        params: Arc<[Param]>,
        captures: Arc<[Capture]>,
        doing: Doing,
    ) -> Self {
        let grants = Grants::new(&limits);
        let log = Log::new(&limits);
        Self { module, limits, grants, log, params, captures, doing, ticks: 0, waited: Duration::ZERO }
    }

    /// A store that holds its guest to the limits.
    pub(crate) fn into_store(self, engine: &Engine) -> Store<Self> {
        let argument = self.limits.argument();
        let mut store = Store::new(engine, self);
        store.limiter(|state| &mut state.grants);
        store.set_hostcall_fuel(argument);
        // Called in the guest's own code, and there only, when a tick has passed: so what counts is the time that
        // the guest itself takes. Between ticks other tasks of the thread get their turn.
        store.epoch_deadline_callback(|mut store| {
            let state = store.data_mut();
            state.ticks += 1;
            if TICK * state.ticks > state.limits.call {
                Err(Overrun.into())
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

    /// Ends the guest that calls `function` while it describes itself.
    pub(crate) fn running(&self, function: &str) -> wasmtime::Result<()> {
        match self.doing {
            Doing::Describe => Err(Breach(format!("`describe` must not call `{function}`")).into()),
            Doing::Format | Doing::Generate(_) => Ok(()),
        }
    }

    /// The gadget's part. The linker gives the functions that need it to gadgets only.
    pub(crate) fn gadget_run(&mut self) -> wasmtime::Result<&mut GadgetRun> {
        match &mut self.doing {
            Doing::Generate(run) => Ok(run),
            Doing::Describe | Doing::Format => Err(Breach("only a running gadget may do that".into()).into()),
        }
    }

    /// Takes over what the gadget's formatter has logged so far.
    pub(crate) fn drain_formatter_log(&mut self) {
        if let Doing::Generate(run) = &mut self.doing {
            run.formatter.drain_log(&mut self.log);
        }
    }

    /// The most memory that the module had, in bytes.
    pub(crate) fn memory(&self) -> usize {
        self.grants.used()
    }

    /// The log, and the gadget's part if this was one.
    pub(crate) fn into_parts(self) -> (Log, Option<GadgetRun>) {
        match self.doing {
            Doing::Generate(run) => (self.log, Some(*run)),
            Doing::Describe | Doing::Format => (self.log, None),
        }
    }
}
