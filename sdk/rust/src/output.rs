//! Where results go: see [`Run::emit`](crate::Run::emit).

pub use crate::bindings::imports::output::Error;
