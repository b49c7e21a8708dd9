//! The rules by which a Trace works: what a node has to do about one, given the object as it is.
//!
//! These are pure functions. [`plan()`] returns the next step for a Trace; the controller takes it, and asks again. Every step is
//! idempotent, so that a crash between any two of them changes no outcome.
//!
//! **How an operation is taken.** The annotation `operation` is a message that any node concerned may find. One
//! of them replaces it, in a single write that holds only for the version of the object that was read, by the
//! annotation `accepted`: the same operation under a number ([`Accepted::id`]). Whoever loses that race finds
//! the number. Each node then carries the operation out and writes the number into its own part of the status.
//! A node that dies in between finds a number that it has not written, and carries the operation out (again).
//!
//! **Sessions.** From a start to the next stop is a session, named by the number of the start. What the kernel
//! side records is keyed by it, so that a recording of an earlier session is never taken for the present one.

mod absent;
mod check;
mod nodes;
mod operation;
mod parameters;
mod plan;
mod refusal;
mod selection;

use k8s_openapi::jiff::Timestamp;

pub use self::{
    absent::plan_for_absent,
    check::destination,
    nodes::{lagging_nodes, node_status, rank, time_left, time_left_of_others},
    operation::{Accepted, Operation, accepted, request_annotations},
    parameters::{Merge, Parameters},
    plan::{Plan, Task, plan},
    refusal::Refusal,
    selection::{FoundPod, Selection, check_found, selection},
};
use crate::OutputMode;

/// A gadget that this node knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gadget {
    /// Its name, as `spec.gadget` has it.
    pub name: String,
    /// The output modes that make sense for it.
    pub output_modes: Vec<OutputMode>,
    /// Whether it can run here.
    pub availability: Availability,
}

/// Whether a gadget can run on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Availability {
    /// It can.
    Available,
    /// Its module is being fetched.
    Pending,
    /// It cannot, and why.
    Unavailable(String),
}

/// The node that asks, and what it knows.
#[derive(Clone, Copy, Debug)]
pub struct NodeView<'a> {
    /// The name of this node.
    pub node: &'a str,
    /// The runtime's own namespace.
    pub system_namespace: &'a str,
    /// The gadgets that this node can run.
    pub gadgets: &'a [Gadget],
    /// The time.
    pub now: Timestamp,
}

#[cfg(test)]
mod tests;
