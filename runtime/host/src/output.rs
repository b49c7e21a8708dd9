//! `output`: takes documents from the gadget, and checks them.

use gadgetd_core::oci;
use wasmtime::component::Resource;

use crate::{
    bindings::{
        formatter::Document as WitDocument,
        output::{Error, Host},
    },
    captures::{self, Capture},
    state::State,
};

/// The media type of a seccomp profile as the OCI runtime specification has it.
pub const SECCOMP_PROFILE: &str = "application/vnd.oci.seccomp+json";

/// What a document costs beside its text: a gadget cannot emit empty ones for ever.
const DOCUMENT_COST: usize = 256;

/// A finished document. The text holds no control characters but line feeds, carriage returns and tabs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// An RFC 6838 media type.
    pub media_type: String,
    /// The text.
    pub body: String,
}

/// A document that a gadget handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emitted {
    /// The document.
    pub document: Document,
    /// The captures it was made from, as indices into the run's.
    pub about: Vec<usize>,
}

/// What a run emitted so far.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) emitted: Vec<Emitted>,
    left: usize,
}

impl Output {
    pub(crate) fn new(limit: usize) -> Self {
        Self { emitted: Vec::new(), left: limit }
    }
}

impl From<WitDocument> for Document {
    fn from(WitDocument { media_type, body }: WitDocument) -> Self {
        Self { media_type, body }
    }
}

impl Host for State {
    fn emit(
        &mut self,
        document: WitDocument,
        about: Vec<Resource<Capture>>,
    ) -> wasmtime::Result<Result<(), Error>> {
        self.running("output.emit")?;
        let limit = self.limits.output;
        let run = self.gadget_run()?;
        let document = Document::from(document);
        let about: Vec<usize> =
            captures::indices(&about).into_iter().filter_map(|i| usize::try_from(i).ok()).collect();
        let cost = document.media_type.len()
            + document.body.len()
            + about.len() * size_of::<usize>()
            + DOCUMENT_COST;
        if cost > run.output.left {
            return Ok(Err(Error::TooLarge(limit as u64)));
        }
        // What the formatter just wrote was checked when it was written.
        let checked = run.formatter.last.as_ref() == Some(&document);
        if !checked && let Err(reason) = check(&document).and_then(|()| check_profile(&document)) {
            return Ok(Err(Error::Rejected(reason)));
        }
        run.output.left -= cost;
        run.output.emitted.push(Emitted { document, about });
        Ok(Ok(()))
    }
}

/// Checks what every document must hold: a media type, and text that is safe to print.
pub(crate) fn check(document: &Document) -> Result<(), String> {
    if !is_media_type(&document.media_type) {
        return Err("the document's media type is not of the form type/subtype (RFC 6838)".into());
    }
    // Nearly every document is ASCII, where one pass over the bytes tells.
    let plain = |b: &u8| matches!(b, b' '..=b'~' | b'\n' | b'\r' | b'\t');
    if document.body.as_bytes().iter().all(plain) {
        return Ok(());
    }
    let hostile = |c: &char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
    match document.body.chars().find(hostile) {
        Some(c) => Err(format!("the document holds the control character U+{:04X}", u32::from(c))),
        None => Ok(()),
    }
}

fn check_profile(document: &Document) -> Result<(), String> {
    if document.media_type != SECCOMP_PROFILE {
        return Ok(());
    }
    let profile = oci::parse(document.body.as_bytes());
    let profile = profile.map_err(|error| format!("the document is no seccomp profile: {error}"))?;
    profile.policy.validate().map_err(|error| format!("the document is no sound profile: {error}"))
}

/// `type/subtype` of the restricted names of RFC 6838, section 4.2, without parameters.
fn is_media_type(text: &str) -> bool {
    let restricted = |name: &str| {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b);
        (1..=127).contains(&name.len())
            && name.as_bytes()[0].is_ascii_alphanumeric()
            && name.bytes().all(fits)
    };
    text.split_once('/').is_some_and(|(kind, subtype)| restricted(kind) && restricted(subtype))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_are_checked() {
        for good in [SECCOMP_PROFILE, "text/plain", "text/vnd.gadgetd.table"] {
            assert!(is_media_type(good), "{good}");
        }
        for bad in ["", "text", "text/", "/plain", "text/plain; charset=utf-8", "text/a/b", "te\nxt/plain"] {
            assert!(!is_media_type(bad), "{bad:?}");
        }
    }

    #[test]
    fn text_must_be_printable() {
        let document = |body: &str| Document { media_type: "text/plain".into(), body: body.into() };
        assert_eq!(check(&document("a\tb\r\nc ä\n")), Ok(()));
        for bad in ["\0", "a\x1b[2J", "\u{9b}31m", "\x7f"] {
            assert!(check(&document(bad)).is_err(), "{bad:?}");
        }
    }
}
