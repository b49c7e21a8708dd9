//! Where results go: see [`Run::emit`](crate::Run::emit) and [`Run::made`](crate::Run::made).

pub use crate::bindings::imports::output::{Error, MadeObject, ResourceTarget as Target};
