//! Traces on Kubernetes: the types, the rules, and the controller that every node runs.
//!
//! Without features this crate is the [`Trace`] and [`Gadget`] objects, their definitions for the API server ([`crds`]) and the
//! pure rules by which Traces work: what a node does about one ([`machine`]), which documents come of it
//! ([`documents`], [`names`]), and how several nodes give one answer ([`summary`]). The command line needs no more, and
//! builds for any system.
//!
//! With the feature `controller` it also has the [`controller`] of a node, which follows those rules and reaches the kernel, the
//! gadgets and files through traits, and the [`adapter`] between the API server and gadgets.
//!
//! ```
//! use gadgetd_kube::{Trace, TraceFilter, TraceSpec};
//!
//! let filter = TraceFilter { podname: "cart-0".into(), ..TraceFilter::default() };
//! let spec = TraceSpec { gadget: "seccomp".into(), filter: Some(filter), ..TraceSpec::default() };
//! let trace = Trace::new("cart", spec);
//! assert_eq!(serde_json::to_value(&trace).unwrap()["spec"]["outputMode"], "Status");
//! ```

#[cfg(feature = "controller")]
pub mod adapter;
#[cfg(feature = "controller")]
pub mod controller;
pub mod crds;
pub mod documents;
mod gadget;
pub mod machine;
pub mod names;
mod schema;
pub mod summary;
mod trace;

pub use gadget::{
    BUILT_IN, CALLS, Gadget, GadgetAsk, GadgetError, GadgetGrant, GadgetLimits, GadgetNode, GadgetParameter,
    GadgetSource, GadgetSpec, GadgetStatus, GrantVerb, Source, default_grants, default_output_modes,
};
pub use trace::{
    ACCEPTED, Call, NodeStatus, OPERATION, OPERATION_PARAMETER, Output, OutputMode, Progress, RunMode, State,
    Trace, TraceFilter, TraceSpec, TraceStatus, finalizer, finalizer_node,
};
