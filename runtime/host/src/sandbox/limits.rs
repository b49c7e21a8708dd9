//! The limits of a module and a run, the counters that enforce them, and the usage of a module.

use std::time::Duration;

use wasmtime::ResourceLimiter;

/// The limits of a module and a run. Every limit ends in an error that names it.
#[derive(Clone, Debug)]
pub struct Limits {
    /// How long one call into a module may run in the module's own code: a gadget's whole `generate`, each
    /// `format`, each `describe`. What it waits for in the host does not count.
    pub call: Duration,
    /// How long a run may take in all, with everything in it.
    pub run: Duration,
    /// How long a run waits for one answer of the cluster.
    pub kube_call: Duration,
    /// How large the answer to one call to the cluster may be, in bytes.
    pub kube_answer: usize,
    /// How much memory a module may have, in bytes, all its linear memories together.
    pub memory: usize,
    /// How much a run may emit, in bytes, and how large one document may be.
    pub output: usize,
    /// How many lines a module may log in one run; further ones are counted.
    pub log_lines: usize,
    /// How many bytes a module may log in one run.
    pub log_bytes: usize,
    /// How large a component may be, in bytes.
    pub module_size: u64,
    /// How long compiling a component may take.
    pub compile: Duration,
    /// How many runs there may be at the same time; others wait.
    pub runs: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            call: Duration::from_secs(2),
            run: Duration::from_secs(30),
            kube_call: Duration::from_secs(10),
            kube_answer: 4 << 20,
            memory: 64 << 20,
            output: 16 << 20,
            log_lines: 1000,
            log_bytes: 256 << 10,
            module_size: 32 << 20,
            // A module in Python takes 14 s of a CPU, and a node has other things to do.
            compile: Duration::from_mins(2),
            runs: 8,
        }
    }
}

impl Limits {
    /// How much a module may pass to the host in one call, in bytes: more than a document may have, so that a document
    /// that is somewhat too large is refused with an error, and only an absurd one with a trap.
    pub(crate) fn hostcall_max_bytes(&self) -> usize {
        self.output.saturating_mul(2)
    }
}

/// The most memory that any module can be given, in bytes.
pub const MEMORY_MAX_BYTES: usize = 1 << 30;

/// Linear memories in one module. Rust and C make one, JavaScript in a shell three.
pub(crate) const MEMORIES_MAX: u32 = 4;
/// Core instances in one module. Components made from Python have about 200.
pub(crate) const INSTANCES_MAX: u32 = 256;
/// Tables in one module.
pub(crate) const TABLES_MAX: u32 = 256;
/// Elements in one table.
pub(crate) const TABLE_ELEMENTS_MAX: usize = 20_000;

/// The resources that one module took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ModuleUsage {
    /// How long it took to make its instance.
    pub instantiate: Duration,
    /// How long it ran.
    pub run: Duration,
    /// The most memory that it had, in bytes, all its linear memories together.
    pub memory: usize,
}

/// Lets memories and tables grow up to the limits, and remembers a denial: the trap that follows is its consequence.
#[derive(Debug)]
pub(crate) struct GrowthLimiter {
    memory_max_bytes: usize,
    memory_bytes: usize,
    /// The last denial.
    pub(crate) denied: Option<DeniedGrowth>,
}

/// A resource that could not grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeniedGrowth {
    Memory,
    Table,
}

impl GrowthLimiter {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self { memory_max_bytes: limits.memory.min(MEMORY_MAX_BYTES), memory_bytes: 0, denied: None }
    }

    /// The size of all memories, in bytes. Memories only grow, so it is the most that there was.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }
}

impl ResourceLimiter for GrowthLimiter {
    fn memory_growing(&mut self, now: usize, wanted: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let bytes = self.memory_bytes - now.min(self.memory_bytes) + wanted;
        let allowed = bytes <= self.memory_max_bytes;
        if allowed {
            self.memory_bytes = bytes;
        } else {
            self.denied = Some(DeniedGrowth::Memory);
        }
        Ok(allowed)
    }

    fn table_growing(&mut self, _: usize, wanted: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let allowed = wanted <= TABLE_ELEMENTS_MAX;
        if !allowed {
            self.denied = Some(DeniedGrowth::Table);
        }
        Ok(allowed)
    }

    fn instances(&self) -> usize {
        INSTANCES_MAX as usize
    }

    fn tables(&self) -> usize {
        TABLES_MAX as usize
    }

    fn memories(&self) -> usize {
        MEMORIES_MAX as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_are_counted_together() {
        let mut limiter = GrowthLimiter::new(&Limits { memory: 100, ..Limits::default() });
        assert!(limiter.memory_growing(0, 60, None).unwrap());
        assert!(limiter.memory_growing(0, 40, None).unwrap());
        assert_eq!(limiter.denied, None);
        assert!(!limiter.memory_growing(60, 61, None).unwrap());
        assert_eq!(limiter.memory_bytes(), 100);
        assert_eq!(limiter.denied, Some(DeniedGrowth::Memory));
    }
}
