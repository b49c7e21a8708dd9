//! A finished document, and what every one of them must be.

use serde::{Deserialize, Serialize};

/// A finished document. The text holds no control characters but line feeds, carriage returns and tabs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Document {
    /// An RFC 6838 media type.
    pub media_type: String,
    /// The text.
    #[serde(with = "lines")]
    pub body: String,
}

impl Document {
    /// Checks what every document must hold: a media type, and text that is safe to print.
    pub(crate) fn check(&self) -> Result<(), String> {
        if !is_media_type(&self.media_type) {
            return Err("the document's media type is not of the form type/subtype (RFC 6838)".into());
        }
        // Nearly every document is ASCII, where one pass over the bytes tells.
        let plain = |b: &u8| matches!(b, b' '..=b'~' | b'\n' | b'\r' | b'\t');
        if self.body.as_bytes().iter().all(plain) {
            return Ok(());
        }
        let hostile = |c: &char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
        match self.body.chars().find(hostile) {
            Some(c) => Err(format!("the document holds the control character U+{:04X}", u32::from(c))),
            None => Ok(()),
        }
    }
}

/// `type/subtype` of the restricted names of RFC 6838, section 4.2, without parameters.
fn is_media_type(text: &str) -> bool {
    const RESTRICTED_NAME_BYTES: std::ops::RangeInclusive<usize> = 1..=127;
    let restricted = |name: &str| {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b);
        RESTRICTED_NAME_BYTES.contains(&name.len())
            && name.as_bytes()[0].is_ascii_alphanumeric()
            && name.bytes().all(fits)
    };
    text.split_once('/').is_some_and(|(kind, subtype)| restricted(kind) && restricted(subtype))
}

/// Long texts, as arrays of their lines: so that people can read them, and version control can compare them.
mod lines {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a text, or an array of its lines")]
    enum Text {
        Whole(String),
        Lines(Vec<String>),
    }

    pub(super) fn serialize<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
        if text.contains('\n') {
            serializer.collect_seq(text.split('\n'))
        } else {
            text.serialize(serializer)
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
        Ok(match Text::deserialize(deserializer)? {
            Text::Whole(text) => text,
            Text::Lines(lines) => lines.join("\n"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_are_checked() {
        for good in ["application/vnd.oci.seccomp+json", "text/plain", "text/vnd.gadgetd.table"] {
            assert!(is_media_type(good), "{good}");
        }
        for bad in ["", "text", "text/", "/plain", "text/plain; charset=utf-8", "text/a/b", "te\nxt/plain"] {
            assert!(!is_media_type(bad), "{bad:?}");
        }
    }

    #[test]
    fn text_must_be_printable() {
        let document = |body: &str| Document { media_type: "text/plain".into(), body: body.into() };
        assert_eq!(document("a\tb\r\nc ä\n").check(), Ok(()));
        for bad in ["\0", "a\x1b[2J", "\u{9b}31m", "\x7f"] {
            assert!(document(bad).check().is_err(), "{bad:?}");
        }
    }
}
