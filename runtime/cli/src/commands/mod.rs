//! What each subcommand does.

pub(crate) mod advisor;
pub(crate) mod completion;
pub(crate) mod delete;
pub(crate) mod deploy;
pub(crate) mod gadgets;
pub(crate) mod list;
pub(crate) mod run;
pub(crate) mod show;
mod start;
pub(crate) mod stop;
pub(crate) mod undeploy;
pub(crate) mod version;
