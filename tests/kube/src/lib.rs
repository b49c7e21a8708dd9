//! The API tier: the controller of a node, as it is, against a real etcd and kube-apiserver.
//!
//! What the controller needs of its node is scripted here: [`World`] is a node with pods and a kernel that remembers
//! what was recorded, [`Files`] a folder, and [`Advisor`] a gadget, which only makes objects as the real one does. [`Fuse`] kills a controller between any two things
//! that it does to the outside.

mod cluster;
mod fuse;
mod parts;
pub mod spo;

pub use cluster::{
    Cluster, LIMIT, Running, SYSTEM, Tracing, all, make, names, names_in, settings, spec, until,
};
pub use fuse::Fuse;
pub use parts::{Advisor, Files, World};
