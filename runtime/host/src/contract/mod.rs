//! The functions that modules may call: one file for each interface of `sdk/wit`, under the same name as there and in `sdk/rust`.
//!
//! Each file has the interface's context, which a run keeps for one instance, and implements the generated host trait
//! on a view that borrows it. No interface knows the store: `sandbox/store.rs` puts the contexts together.

pub(crate) mod captures;
pub(crate) mod formatter;
pub(crate) mod gadget;
pub(crate) mod kube;
pub(crate) mod log;
pub(crate) mod module;
pub(crate) mod output;
pub(crate) mod params;
pub(crate) mod policy;
