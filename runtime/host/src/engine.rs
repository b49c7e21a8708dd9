//! The WebAssembly engine: its configuration, its clock, and the compiler.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, Thread},
    time::Duration,
};

use wasmtime::{
    Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig,
    component::{Component, Linker},
};

use crate::{
    bindings, captures,
    limits::{INSTANCES, Limits, MEMORIES, MEMORY_MAX, TABLE_ELEMENTS, TABLES},
    state::State,
};

/// How often a running guest is interrupted, to count its time and to let other tasks run.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// How much of a memory is cleared by writing zeros when its slot is given back, in bytes; the rest is unmapped. It
/// is more than the modules that are shipped touch, so their next run takes no page faults.
const KEEP_RESIDENT: usize = 1 << 20;

pub(crate) struct Engine {
    pub(crate) wasmtime: wasmtime::Engine,
    /// What gadgets may import.
    pub(crate) gadgets: Linker<State>,
    /// What formatters may import.
    pub(crate) formatters: Linker<State>,
    ticker: Ticker,
}

impl Engine {
    pub(crate) fn new(limits: &Limits) -> wasmtime::Result<Self> {
        let wasmtime = wasmtime::Engine::new(&config(limits))?;
        let mut formatters = Linker::new(&wasmtime);
        captures::add_to_linker(&mut formatters)?;
        bindings::policy::add_to_linker::<State, Itself>(&mut formatters, Itself::of)?;
        bindings::params::add_to_linker::<State, Itself>(&mut formatters, Itself::of)?;
        bindings::log::add_to_linker::<State, Itself>(&mut formatters, Itself::of)?;
        let mut gadgets = formatters.clone();
        bindings::formatter::add_to_linker::<State, Itself>(&mut gadgets, Itself::of)?;
        bindings::output::add_to_linker::<State, Itself>(&mut gadgets, Itself::of)?;
        bindings::kube::add_to_linker::<State, Itself>(&mut gadgets, Itself::of)?;
        let ticker = Ticker::start(wasmtime.clone());
        Ok(Self { wasmtime, gadgets, formatters, ticker })
    }

    /// Keeps the clock ticking for as long as the result lives.
    pub(crate) fn tick(&self) -> Ticking {
        self.ticker.tick()
    }

    /// Compiles a component. Takes tens of milliseconds for a small one, and seconds for an interpreter.
    pub(crate) fn compile(engine: &wasmtime::Engine, bytes: &[u8]) -> wasmtime::Result<Component> {
        Component::from_binary(engine, bytes)
    }
}

/// The host functions work on the store's data as a whole.
struct Itself;

impl Itself {
    fn of(state: &mut State) -> &mut State {
        state
    }
}

impl wasmtime::component::HasData for Itself {
    type Data<'a> = &'a mut State;
}

fn config(limits: &Limits) -> Config {
    // Every run has two instances: the gadget's and the formatter's.
    let instances = limits.runs.saturating_mul(2);
    let mut pool = PoolingAllocationConfig::default();
    pool.total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(INSTANCES))
        .total_memories(instances.saturating_mul(MEMORIES))
        .total_tables(instances.saturating_mul(TABLES))
        .total_stacks(instances)
        .max_core_instances_per_component(INSTANCES)
        .max_memories_per_component(MEMORIES)
        .max_tables_per_component(TABLES)
        .table_elements(TABLE_ELEMENTS)
        // Address space alone: what is used is held to each module's own limit.
        .max_memory_size(MEMORY_MAX)
        .linear_memory_keep_resident(KEEP_RESIDENT)
        .table_keep_resident(64 << 10)
        .pagemap_scan(Enabled::Auto);
    let mut config = Config::new();
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .epoch_interruption(true)
        .concurrency_support(false)
        .wasm_relaxed_simd(false)
        .wasm_memory64(false);
    config
}

/// A thread that advances the engine's epoch, while anything runs.
struct Ticker {
    shared: Arc<Shared>,
    thread: Thread,
}

struct Shared {
    running: AtomicUsize,
    ended: AtomicBool,
}

/// Something runs.
pub(crate) struct Ticking(Arc<Shared>);

impl Ticker {
    fn start(engine: wasmtime::Engine) -> Self {
        let shared = Arc::new(Shared { running: AtomicUsize::new(0), ended: AtomicBool::new(false) });
        let theirs = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            while !theirs.ended.load(Ordering::Acquire) {
                if theirs.running.load(Ordering::Acquire) == 0 {
                    thread::park();
                } else {
                    thread::sleep(TICK);
                    engine.increment_epoch();
                }
            }
        });
        Self { shared, thread: thread.thread().clone() }
    }

    fn tick(&self) -> Ticking {
        if self.shared.running.fetch_add(1, Ordering::AcqRel) == 0 {
            self.thread.unpark();
        }
        Ticking(Arc::clone(&self.shared))
    }
}

impl Drop for Ticking {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Release);
        self.thread.unpark();
    }
}
