//! What the controller of a node works with: one adapter for each trait of [`gadgetd_kube::controller`].
//!
//! The controller decides what is to be done about a Trace and knows no eBPF, WebAssembly or file system. Here stands
//! how a node does it: which containers are recorded for which Trace, how a gadget runs on what was
//! recorded, and where files go. `gadgetd serve` puts the pieces together.
