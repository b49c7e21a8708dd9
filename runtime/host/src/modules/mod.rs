//! Modules: where they come from, whom they are trusted from, what they say of themselves, and how they are loaded.

pub(crate) mod cache;
pub(crate) mod description;
pub(crate) mod digest;
pub(crate) mod error;
pub(crate) mod load;
pub(crate) mod loaded;
pub(crate) mod registry;
pub(crate) mod role;
pub(crate) mod source;
pub(crate) mod trust;
pub(crate) mod world;
