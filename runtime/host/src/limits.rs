//! What a module may use, and the counters that hold it to that.

use std::time::Duration;

use wasmtime::ResourceLimiter;

/// What a module and a run may use. Every limit ends in an error that names it.
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
    pub(crate) fn argument(&self) -> usize {
        self.output.saturating_mul(2)
    }
}

/// The most memory that any module can be given, in bytes.
pub const MEMORY_MAX: usize = 1 << 30;

/// Linear memories in one module. Rust and C make one, JavaScript in a shell three.
pub(crate) const MEMORIES: u32 = 4;
/// Core instances in one module. Components made from Python have about 200.
pub(crate) const INSTANCES: u32 = 256;
/// Tables in one module.
pub(crate) const TABLES: u32 = 256;
/// Elements in one table.
pub(crate) const TABLE_ELEMENTS: usize = 20_000;

/// Grants memory and tables up to the limits, and remembers a refusal: the trap that follows is its consequence.
#[derive(Debug)]
pub(crate) struct Grants {
    memory: usize,
    used: usize,
    /// What was refused last.
    pub(crate) refused: Option<Refused>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Memory,
    Table,
}

impl Grants {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self { memory: limits.memory.min(MEMORY_MAX), used: 0, refused: None }
    }

    /// What was granted, in bytes. Memories only grow, so it is the most that there was.
    pub(crate) fn used(&self) -> usize {
        self.used
    }
}

impl ResourceLimiter for Grants {
    fn memory_growing(&mut self, now: usize, wanted: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let used = self.used - now.min(self.used) + wanted;
        let granted = used <= self.memory;
        if granted {
            self.used = used;
        } else {
            self.refused = Some(Refused::Memory);
        }
        Ok(granted)
    }

    fn table_growing(&mut self, _: usize, wanted: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let granted = wanted <= TABLE_ELEMENTS;
        if !granted {
            self.refused = Some(Refused::Table);
        }
        Ok(granted)
    }

    fn instances(&self) -> usize {
        INSTANCES as usize
    }

    fn tables(&self) -> usize {
        TABLES as usize
    }

    fn memories(&self) -> usize {
        MEMORIES as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_are_counted_together() {
        let mut grants = Grants::new(&Limits { memory: 100, ..Limits::default() });
        assert!(grants.memory_growing(0, 60, None).unwrap());
        assert!(grants.memory_growing(0, 40, None).unwrap());
        assert_eq!(grants.refused, None);
        assert!(!grants.memory_growing(60, 61, None).unwrap());
        assert_eq!(grants.used(), 100);
        assert_eq!(grants.refused, Some(Refused::Memory));
    }
}
