//! Log lines. The host tags them with the module and the run.
//!
//! In a native test they are collected: see [`testing`](crate::testing).

#[cfg(not(target_arch = "wasm32"))]
pub use self::sink::Line;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use self::sink::collect;
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
    sink::log(level, message, fields);
}

/// Where lines go outside a component.
#[cfg(not(target_arch = "wasm32"))]
mod sink {
    use std::{cell::RefCell, fmt};

    use super::{Field, Level};

    /// A line that was logged.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Line {
        /// How bad it is.
        pub level: Level,
        /// What it says.
        pub message: String,
        /// What it says it of.
        pub fields: Vec<Field>,
    }

    impl fmt::Display for Line {
        /// `warn: message name=value`
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let level = match self.level {
                Level::Debug => "debug",
                Level::Info => "info",
                Level::Warn => "warn",
                Level::Error => "error",
            };
            write!(f, "{level}: {}", self.message)?;
            self.fields.iter().try_for_each(|field| write!(f, " {}={}", field.name, field.value))
        }
    }

    thread_local! {
        // Some while a gadget runs on this thread.
        static LOG: RefCell<Option<Vec<Line>>> = const { RefCell::new(None) };
    }

    pub(super) fn log(level: Level, message: &str, fields: Vec<Field>) {
        let line = Line { level, message: message.to_owned(), fields };
        LOG.with_borrow_mut(|log| match log {
            Some(lines) => lines.push(line),
            None => eprintln!("{line}"),
        });
    }

    /// Runs this, and returns what it logged on this thread.
    pub(crate) fn collect<T>(run: impl FnOnce() -> T) -> (T, Vec<Line>) {
        let outer = LOG.replace(Some(Vec::new()));
        let result = run();
        (result, LOG.replace(outer).unwrap_or_default())
    }
}
