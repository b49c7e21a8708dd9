//! A cluster, as far as a run may use it: the calls of a run, their checks, their audit, and their recording.

pub(crate) mod audit;
pub(crate) mod checks;
pub(crate) mod exchange;
pub(crate) mod script;
pub(crate) mod session;
