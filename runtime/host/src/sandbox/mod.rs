//! Where modules run: the engine, the limits, the data of a store, and what ends a guest.

pub(crate) mod compile;
pub(crate) mod engine;
pub(crate) mod fault;
pub(crate) mod limits;
pub(crate) mod store;
