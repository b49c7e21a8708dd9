//! t
use crate::log::{Field, Level};
pub(crate) fn log(level: Level, message: &str, fields: Vec<Field>) { eprintln!("{level:?} {message} {fields:?}"); }
