//! `log`: a module's lines, bounded, made safe to print, and handed to `tracing` as well.

use std::{borrow::Cow, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    bindings::log::{Field, Host, Level as WitLevel},
    limits::Limits,
    state::State,
};

/// The longest message or value of a field, in bytes. What is beyond is cut.
const TEXT_MAX: usize = 4096;
/// The most fields in one line.
const FIELDS_MAX: usize = 32;

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
    /// Which module: `gadget seccomp`.
    pub module: Arc<str>,
    /// How important it is.
    pub level: Level,
    /// What it says.
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

/// The lines of one module in one run.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) lines: Vec<LogLine>,
    pub(crate) dropped: u64,
    lines_left: usize,
    bytes_left: usize,
    last_error: Option<String>,
}

impl Log {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            lines: Vec::new(),
            dropped: 0,
            lines_left: limits.log_lines,
            bytes_left: limits.log_bytes,
            last_error: None,
        }
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

impl Host for State {
    fn log(&mut self, level: WitLevel, message: String, fields: Vec<Field>) -> wasmtime::Result<()> {
        let level = match level {
            WitLevel::Debug => Level::Debug,
            WitLevel::Info => Level::Info,
            WitLevel::Warn => Level::Warn,
            WitLevel::Error => Level::Error,
        };
        if level == Level::Error {
            // Whoever can still report an error did not fail for want of memory alone.
            self.grants.refused = None;
        }
        let fields = fields.into_iter().take(FIELDS_MAX);
        let fields = fields.map(|f| (printable(f.name), printable(f.value))).collect();
        self.log.push(LogLine { module: self.module.clone(), level, message: printable(message), fields });
        Ok(())
    }
}

/// The text on one line, without anything that a terminal would act on, and not longer than [`TEXT_MAX`].
pub(crate) fn printable(text: String) -> String {
    let whole = text.len();
    let text = if whole > TEXT_MAX {
        format!("{}… (cut: it has {whole} bytes)", &text[..text.floor_char_boundary(TEXT_MAX)])
    } else {
        text
    };
    match escaped(&text) {
        Cow::Borrowed(_) => text,
        Cow::Owned(escaped) => escaped,
    }
}

fn escaped(text: &str) -> Cow<'_, str> {
    if !text.chars().any(char::is_control) {
        return Cow::Borrowed(text);
    }
    let escape = |c: char| {
        let (kept, escaped) = if c.is_control() { (None, Some(c.escape_default())) } else { (Some(c), None) };
        kept.into_iter().chain(escaped.into_iter().flatten())
    };
    Cow::Owned(text.chars().flat_map(escape).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(level: Level, message: &str) -> LogLine {
        LogLine { module: "gadget x".into(), level, message: message.into(), fields: vec![] }
    }

    #[test]
    fn text_is_made_safe_for_a_terminal() {
        assert_eq!(printable("plain, ünïcode".into()), "plain, ünïcode");
        assert_eq!(printable("two\nlines \x1b[31m\u{9b}x".into()), "two\\nlines \\u{1b}[31m\\u{9b}x");
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        let cut = printable("é".repeat(4000));
        assert!(cut.starts_with(&"é".repeat(2048)) && cut.ends_with("… (cut: it has 8000 bytes)"), "{cut}");
    }

    #[test]
    fn lines_and_bytes_are_capped_and_counted() {
        let mut log = Log::new(&Limits { log_lines: 2, log_bytes: 10, ..Limits::default() });
        log.push(line(Level::Info, "1234"));
        log.push(line(Level::Info, "1234567"));
        log.push(line(Level::Info, "123456"));
        log.push(line(Level::Error, ""));
        let kept: Vec<_> = log.lines.iter().map(|l| l.message.as_str()).collect();
        assert_eq!((kept.as_slice(), log.dropped), (["1234", "123456"].as_slice(), 2));
        assert_eq!(log.last_error(), Some(""));
    }
}
