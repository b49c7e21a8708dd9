//! Log lines. The host tags them with the module and the run.
//!
//! In a native test they are collected: see [`testing`](crate::testing).

pub use crate::bindings::imports::log::{Field, Level};

/// For the author of the module.
pub fn debug(message: &str, fields: &[(&str, &str)]) {
    write(Level::Debug, message, fields);
}

/// Worth knowing.
pub fn info(message: &str, fields: &[(&str, &str)]) {
    write(Level::Info, message, fields);
}

/// The result may not be what the user expects.
pub fn warn(message: &str, fields: &[(&str, &str)]) {
    write(Level::Warn, message, fields);
}

/// The module cannot do what it should.
pub fn error(message: &str, fields: &[(&str, &str)]) {
    write(Level::Error, message, fields);
}

fn write(level: Level, message: &str, fields: &[(&str, &str)]) {
    let fields = fields.iter().map(|(name, value)| Field { name: (*name).into(), value: (*value).into() });
    let fields: Vec<_> = fields.collect();
    #[cfg(target_arch = "wasm32")]
    crate::bindings::imports::log::log(level, message, &fields);
    #[cfg(not(target_arch = "wasm32"))]
    crate::testing::log(level, message, fields);
}
