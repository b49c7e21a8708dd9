//! The WebAssembly engine: its configuration, and the clock that interrupts guests.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, Thread},
    time::Duration,
};

use wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig};

use super::limits::{INSTANCES_MAX, Limits, MEMORIES_MAX, MEMORY_MAX_BYTES, TABLE_ELEMENTS_MAX, TABLES_MAX};

/// How often a running guest is interrupted, to count its time and to let other tasks run.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// How much of a memory is cleared by writing zeros when its slot is given back, in bytes; the rest is unmapped. It
/// is more than the modules that are shipped touch, so their next run takes no page faults.
const MEMORY_KEEP_RESIDENT_BYTES: usize = 1 << 20;
/// The same of a table.
const TABLE_KEEP_RESIDENT_BYTES: usize = 64 << 10;

pub(crate) struct Engine {
    pub(crate) wasmtime: wasmtime::Engine,
    ticker: Ticker,
}

impl Engine {
    pub(crate) fn new(limits: &Limits) -> wasmtime::Result<Self> {
        let wasmtime = wasmtime::Engine::new(&config(limits))?;
        let ticker = Ticker::start(wasmtime.clone());
        Ok(Self { wasmtime, ticker })
    }

    /// Keeps the clock ticking for as long as the result lives.
    pub(crate) fn tick(&self) -> TickGuard {
        self.ticker.tick()
    }
}

fn config(limits: &Limits) -> Config {
    // Every run has two instances: the gadget's and the formatter's.
    let instances = limits.runs.saturating_mul(2);
    let mut pool = PoolingAllocationConfig::default();
    pool.total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(INSTANCES_MAX))
        .total_memories(instances.saturating_mul(MEMORIES_MAX))
        .total_tables(instances.saturating_mul(TABLES_MAX))
        .total_stacks(instances)
        .max_core_instances_per_component(INSTANCES_MAX)
        .max_memories_per_component(MEMORIES_MAX)
        .max_tables_per_component(TABLES_MAX)
        .table_elements(TABLE_ELEMENTS_MAX)
        // Address space alone: what is used is held to each module's own limit.
        .max_memory_size(MEMORY_MAX_BYTES)
        .linear_memory_keep_resident(MEMORY_KEEP_RESIDENT_BYTES)
        .table_keep_resident(TABLE_KEEP_RESIDENT_BYTES)
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

/// Keeps the clock ticking.
pub(crate) struct TickGuard(Arc<Shared>);

impl Ticker {
    fn start(engine: wasmtime::Engine) -> Self {
        let shared = Arc::new(Shared { running: AtomicUsize::new(0), ended: AtomicBool::new(false) });
        let clock = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            while !clock.ended.load(Ordering::Acquire) {
                if clock.running.load(Ordering::Acquire) == 0 {
                    thread::park();
                } else {
                    thread::sleep(TICK);
                    engine.increment_epoch();
                }
            }
        });
        Self { shared, thread: thread.thread().clone() }
    }

    fn tick(&self) -> TickGuard {
        if self.shared.running.fetch_add(1, Ordering::AcqRel) == 0 {
            self.thread.unpark();
        }
        TickGuard(Arc::clone(&self.shared))
    }
}

impl Drop for TickGuard {
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
