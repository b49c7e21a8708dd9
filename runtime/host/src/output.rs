//! `output`: takes documents from the gadget, and checks them.

use gadgetd_core::{Policy, kube, oci, spo};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use wasmtime::component::Resource;

use crate::{
    bindings::{
        formatter::Document as WitDocument,
        output::{
            Error, Host, MadeObject as WitMadeObject, ResourceTarget as WitTarget, Verdict as WitVerdict,
        },
    },
    captures::{self, Capture},
    log::printable,
    recording::lines,
    state::State,
};

/// The media type of a seccomp profile as the OCI runtime specification has it.
pub const SECCOMP_PROFILE: &str = "application/vnd.oci.seccomp+json";

/// The same as an object of the Security Profiles Operator. It ends in `+json` or `+yaml`.
pub(crate) const SPO_PROFILE: &str = "application/vnd.security-profiles-operator.seccompprofile";

/// What a document costs beside its text: a gadget cannot emit empty ones for ever.
const DOCUMENT_COST: usize = 256;
/// The longest text that says how an object is used, or why something is not as it should be, in bytes.
const LINE_MAX: usize = 1024;

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

/// A document that a gadget handed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Emitted {
    /// The document.
    pub document: Document,
    /// The captures it was made from, as indices into the run's.
    #[serde(default = "first")]
    pub about: Vec<usize>,
}

/// The object that a run asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// Its namespace; for a kind without namespaces, the first part of its name.
    pub namespace: String,
    /// Its name. Where that is taken the gadget chooses one like it.
    pub name: String,
}

/// An object that a gadget made, and says to hold the result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MadeObject {
    /// Its kind.
    pub kind: kube::Resource,
    /// Its namespace, if its kind has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// What to write where it is to be used, such as a `localhostProfile`. One line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<String>,
    /// The captures it was made from, as indices into the run's.
    #[serde(default = "first")]
    pub about: Vec<usize>,
}

/// What a gadget thinks of what was recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    /// Why it is not as it should be, in one line; `None`: it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// The captures that it is about, as indices into the run's.
    #[serde(default = "first")]
    pub about: Vec<usize>,
}

/// What a file that does not say is about: most runs have one capture.
fn first() -> Vec<usize> {
    vec![0]
}

/// What a run emitted so far.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) emitted: Vec<Emitted>,
    pub(crate) made: Vec<MadeObject>,
    pub(crate) verdicts: Vec<Verdict>,
    target: Option<Target>,
    left: usize,
}

impl Output {
    pub(crate) fn new(limit: usize, target: Option<Target>) -> Self {
        Self { emitted: Vec::new(), made: Vec::new(), verdicts: Vec::new(), target, left: limit }
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
        let about = indices(&about);
        let cost = cost(document.media_type.len() + document.body.len(), &about);
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

    fn target(&mut self) -> wasmtime::Result<Option<WitTarget>> {
        self.running("output.target")?;
        let target = self.gadget_run()?.output.target.clone();
        Ok(target.map(|Target { namespace, name }| WitTarget { namespace, name }))
    }

    fn made(
        &mut self,
        object: WitMadeObject,
        about: Vec<Resource<Capture>>,
    ) -> wasmtime::Result<Result<(), Error>> {
        self.running("output.made")?;
        let run = self.gadget_run()?;
        let WitMadeObject { kind, namespace, name, usage } = object;
        let kind = kube::Resource::from(kind);
        if !run.kube.has_made(&kind, namespace.as_deref(), &name) {
            let name = printable(name);
            return Ok(Err(Error::Rejected(format!(
                "the run did not make the object {name:?} that it reports"
            ))));
        }
        if !usage.as_deref().is_none_or(is_line) {
            let reason = format!("how the object {name} is used is not one line of at most {LINE_MAX} bytes");
            return Ok(Err(Error::Rejected(reason)));
        }
        let same = |m: &MadeObject| m.kind == kind && m.namespace == namespace && m.name == name;
        if run.output.made.iter().any(same) {
            return Ok(Err(Error::Rejected(format!("the object {name} is reported twice"))));
        }
        run.output.made.push(MadeObject { kind, namespace, name, usage, about: indices(&about) });
        Ok(Ok(()))
    }

    fn judge(
        &mut self,
        verdict: WitVerdict,
        about: Vec<Resource<Capture>>,
    ) -> wasmtime::Result<Result<(), Error>> {
        self.running("output.judge")?;
        let limit = self.limits.output;
        let run = self.gadget_run()?;
        let about = indices(&about);
        let failure = match verdict {
            WitVerdict::Pass => None,
            WitVerdict::Fail(why) if !why.trim().is_empty() && is_line(&why) => Some(why),
            WitVerdict::Fail(_) => {
                let reason = format!("the reason of a verdict is not one line of at most {LINE_MAX} bytes");
                return Ok(Err(Error::Rejected(reason)));
            }
        };
        let cost = cost(failure.as_ref().map_or(0, String::len), &about);
        if cost > run.output.left {
            return Ok(Err(Error::TooLarge(limit as u64)));
        }
        run.output.left -= cost;
        run.output.verdicts.push(Verdict { failure, about });
        Ok(Ok(()))
    }
}

/// What something of this many bytes takes of the run's output.
fn cost(bytes: usize, about: &[usize]) -> usize {
    bytes + size_of_val(about) + DOCUMENT_COST
}

fn is_line(text: &str) -> bool {
    text.len() <= LINE_MAX && !text.chars().any(char::is_control)
}

fn indices(about: &[Resource<Capture>]) -> Vec<usize> {
    captures::indices(about).into_iter().filter_map(|index| usize::try_from(index).ok()).collect()
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
    let Some(profile) = profile(document)? else { return Ok(()) };
    profile.policy.validate().map_err(|error| format!("the document is no sound profile: {error}"))
}

/// The profile that a document says it is; `None` where it is something else.
pub(crate) fn profile(document: &Document) -> Result<Option<oci::Profile>, String> {
    if document.media_type == SECCOMP_PROFILE {
        let profile = oci::parse(document.body.as_bytes());
        return profile.map(Some).map_err(|error| format!("the document is no seccomp profile: {error}"));
    }
    let Some(syntax) = document.media_type.strip_prefix(SPO_PROFILE) else { return Ok(None) };
    let object = match syntax {
        "+json" => serde_json::from_str(&document.body).map_err(|error| error.to_string()),
        "+yaml" => serde_saphyr::from_str(&document.body).map_err(|error| error.to_string()),
        _ => return Ok(None),
    };
    let object: Value =
        object.map_err(|error| format!("the document cannot be read: {}", printable(error)))?;
    object_profile(object).map(Some)
}

/// The profile that a `SeccompProfile` object is.
pub(crate) fn object_profile(object: Value) -> Result<oci::Profile, String> {
    let policy: Result<Policy, _> = spo::parse(object);
    let policy = policy.map_err(|error| format!("the document is no {}: {error}", spo::KIND))?;
    Ok(oci::Profile { policy, flags: Vec::new() })
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
