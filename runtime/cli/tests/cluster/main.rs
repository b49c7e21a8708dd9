//! `kubectl-gadget` against a real API server, the way a person drives it. Nodes are played: their controllers are real,
//! what they record is scripted.

mod errors;
mod install;
mod recordings;
mod run;
mod support;
