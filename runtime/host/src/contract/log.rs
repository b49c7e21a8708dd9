//! `log`: a module's lines, bounded, made safe to print, and handed to `tracing` as well.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};
use wasmtime::component::HasData;

use crate::{
    bindings::log::{Field, Host, Level as WitLevel},
    sandbox::limits::{DeniedGrowth, Limits},
    text::printable,
};

/// The most fields in one line; further ones are left out.
const LINE_FIELDS_MAX: usize = 32;

/// How important a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// For the module's author.
    Debug,
    /// For whoever wants to know.
    Info,
    /// Something is not as it should be.
    Warn,
    /// Something failed.
    Error,
}

/// One line that a module logged. The texts hold no control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// The module: `gadget seccomp`.
    pub module: Arc<str>,
    /// How important it is.
    pub level: Level,
    /// The message.
    pub message: String,
    /// Details: names and values.
    pub fields: Vec<(String, String)>,
}

impl fmt::Display for LogLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}{}", self.module, self.message, Fields(&self.fields))
    }
}

struct Fields<'a>(&'a [(String, String)]);

impl fmt::Display for Fields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(name, value)| write!(f, " {name}={value}"))
    }
}

/// The context: the lines of one module in one run.
#[derive(Debug)]
pub(crate) struct Log {
    module: Arc<str>,
    pub(crate) lines: Vec<LogLine>,
    pub(crate) dropped: u64,
    lines_left: usize,
    bytes_left: usize,
    last_error: Option<String>,
}

impl Log {
    pub(crate) fn new(module: Arc<str>, limits: &Limits) -> Self {
        Self {
            module,
            lines: Vec::new(),
            dropped: 0,
            lines_left: limits.log_lines,
            bytes_left: limits.log_bytes,
            last_error: None,
        }
    }

    /// Moves all lines to the end of another log, whose limits they don't count for.
    pub(crate) fn drain_into(&mut self, log: &mut Self) {
        log.lines.append(&mut self.lines);
        log.dropped += std::mem::take(&mut self.dropped);
    }

    /// The last line at level `error`, also if it was dropped.
    pub(crate) fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }

    fn push(&mut self, line: LogLine) {
        if line.level == Level::Error {
            self.last_error = Some(line.message.clone());
        }
        let fields = line.fields.iter().map(|(name, value)| name.len() + value.len());
        let size = line.message.len() + fields.sum::<usize>();
        if self.lines_left == 0 || size > self.bytes_left {
            self.dropped += 1;
            return;
        }
        self.lines_left -= 1;
        self.bytes_left -= size;
        trace(&line);
        self.lines.push(line);
    }
}

fn trace(line: &LogLine) {
    let LogLine { module, level, message, fields } = line;
    let fields = Fields(fields);
    match level {
        Level::Debug => tracing::debug!(target: "gadgetd::module", %module, "{message}{fields}"),
        Level::Info => tracing::info!(target: "gadgetd::module", %module, "{message}{fields}"),
        Level::Warn => tracing::warn!(target: "gadgetd::module", %module, "{message}{fields}"),
        Level::Error => tracing::error!(target: "gadgetd::module", %module, "{message}{fields}"),
    }
}

/// The log, and what the module was denied last.
pub(crate) struct LogView<'a> {
    pub(crate) log: &'a mut Log,
    pub(crate) denied: &'a mut Option<DeniedGrowth>,
}

impl HasData for Log {
    type Data<'a> = LogView<'a>;
}

impl Host for LogView<'_> {
    fn log(&mut self, level: WitLevel, message: String, fields: Vec<Field>) -> wasmtime::Result<()> {
        let level = match level {
            WitLevel::Debug => Level::Debug,
            WitLevel::Info => Level::Info,
            WitLevel::Warn => Level::Warn,
            WitLevel::Error => Level::Error,
        };
        if level == Level::Error {
            // Whoever can still report an error did not fail for want of memory alone.
            *self.denied = None;
        }
        let fields = fields.into_iter().take(LINE_FIELDS_MAX);
        let fields = fields.map(|f| (printable(f.name), printable(f.value))).collect();
        let module = self.log.module.clone();
        self.log.push(LogLine { module, level, message: printable(message), fields });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(level: Level, message: &str) -> LogLine {
        LogLine { module: "gadget x".into(), level, message: message.into(), fields: vec![] }
    }

    #[test]
    fn lines_and_bytes_are_capped_and_counted() {
        let mut log =
            Log::new("gadget x".into(), &Limits { log_lines: 2, log_bytes: 10, ..Limits::default() });
        log.push(line(Level::Info, "1234"));
        log.push(line(Level::Info, "1234567"));
        log.push(line(Level::Info, "123456"));
        log.push(line(Level::Error, ""));
        let kept: Vec<_> = log.lines.iter().map(|l| l.message.as_str()).collect();
        assert_eq!((kept.as_slice(), log.dropped), (["1234", "123456"].as_slice(), 2));
        assert_eq!(log.last_error(), Some(""));
    }
}
