//! Texts for people: safe to print, sizes with their unit, and the name that somebody meant.

use std::borrow::Cow;

/// The longest text of a module that is printed, in bytes. What is beyond is cut.
const PRINTABLE_MAX_BYTES: usize = 4096;
/// How alike two names are, from 0 to 1, if one may be a misspelling of the other.
const MISSPELLING: f64 = 0.75;

/// The text on one line, without anything that a terminal would act on, and cut after [`PRINTABLE_MAX_BYTES`].
pub(crate) fn printable(text: String) -> String {
    let whole = text.len();
    let text = if whole > PRINTABLE_MAX_BYTES {
        format!("{}… (cut: it has {whole} bytes)", &text[..text.floor_char_boundary(PRINTABLE_MAX_BYTES)])
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
        let (plain, escaped) =
            if c.is_control() { (None, Some(c.escape_default())) } else { (Some(c), None) };
        plain.into_iter().chain(escaped.into_iter().flatten())
    };
    Cow::Owned(text.chars().flat_map(escape).collect())
}

/// A size in the largest unit that gives a whole number.
pub(crate) fn size(bytes: usize) -> String {
    match bytes {
        n if n >= 1 << 20 && n.is_multiple_of(1 << 20) => format!("{} MiB", n >> 20),
        n if n >= 1 << 10 && n.is_multiple_of(1 << 10) => format!("{} KiB", n >> 10),
        n => format!("{n} bytes"),
    }
}

/// The known name that a user most probably meant.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    let best = known.max_by(|a, b| similarity(name, a).total_cmp(&similarity(name, b)))?;
    (similarity(name, best) > MISSPELLING).then(|| best.to_owned())
}

/// How alike two names are, from 0 to 1.
pub(crate) fn similarity(a: &str, b: &str) -> f64 {
    strsim::jaro_winkler(a, b)
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
