//! The neutral seccomp policy: the terms of the OCI runtime specification, and no file format.

pub use crate::bindings::imports::policy::{Action, Architecture, Argument, Comparison, Policy, Rule};

impl Architecture {
    /// 64-bit x86.
    pub const X86_64: Self = Self::X8664;
}

impl Rule {
    /// These calls may run, whatever their arguments.
    pub fn allow(names: Vec<String>) -> Self {
        Self { names, action: Action::Allow, args: Vec::new() }
    }
}
