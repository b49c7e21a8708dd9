//! `output`: takes documents, objects and verdicts from the gadget, and checks them.

use gadgetd_core::kube;
use serde::{Deserialize, Serialize};
use wasmtime::component::{HasData, Resource};

use super::captures;
use crate::{
    bindings::{
        Capture,
        formatter::Document as WitDocument,
        output::{
            Error, Host, MadeObject as WitMadeObject, ResourceTarget as WitTarget, Verdict as WitVerdict,
        },
    },
    cluster::session::Session,
    document::Document,
    profile,
    sandbox::fault::ContractViolation,
    text::printable,
};

/// The cost of a document or verdict beside its text, in bytes: a gadget cannot emit empty ones for ever.
const ITEM_COST_BYTES: usize = 256;
/// The longest text that says how an object is used, or why something is not as it should be, in bytes.
const LINE_MAX_BYTES: usize = 1024;

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
    /// The text to write where it is to be used, such as a `localhostProfile`. One line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<String>,
    /// The captures it was made from, as indices into the run's.
    #[serde(default = "first")]
    pub about: Vec<usize>,
}

/// A gadget's judgement of what was recorded.
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

/// The default of `about` in files: most runs have one capture.
fn first() -> Vec<usize> {
    vec![0]
}

/// The context: what a run emitted so far, and what it was asked for.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) documents: Vec<Emitted>,
    pub(crate) objects: Vec<MadeObject>,
    pub(crate) verdicts: Vec<Verdict>,
    target: Option<Target>,
    max_bytes: usize,
    bytes_left: usize,
}

impl Output {
    pub(crate) fn new(max_bytes: usize, target: Option<Target>) -> Self {
        let (documents, objects, verdicts) = (Vec::new(), Vec::new(), Vec::new());
        Self { documents, objects, verdicts, target, max_bytes, bytes_left: max_bytes }
    }

    /// How many bytes would be left after something with this many.
    fn left_after(&self, bytes: usize, about: &[usize]) -> Result<usize, Error> {
        let cost = bytes + size_of_val(about) + ITEM_COST_BYTES;
        self.bytes_left.checked_sub(cost).ok_or(Error::TooLarge(self.max_bytes as u64))
    }
}

/// The output, and what decides about it.
pub(crate) struct OutputView<'a> {
    pub(crate) output: &'a mut Output,
    /// A document that has passed the checks.
    pub(crate) checked: Option<&'a Document>,
    /// Knows which objects the run wrote.
    pub(crate) cluster: &'a Session,
}

impl HasData for Output {
    /// There is none while the module describes itself.
    type Data<'a> = Option<OutputView<'a>>;
}

impl Host for Option<OutputView<'_>> {
    fn emit(
        &mut self,
        document: WitDocument,
        about: Vec<Resource<Capture>>,
    ) -> wasmtime::Result<Result<(), Error>> {
        Ok(active(self, "output.emit")?.emit(document.into(), indices(&about)))
    }

    fn target(&mut self) -> wasmtime::Result<Option<WitTarget>> {
        let target = active(self, "output.target")?.output.target.clone();
        Ok(target.map(|Target { namespace, name }| WitTarget { namespace, name }))
    }

    fn made(
        &mut self,
        object: WitMadeObject,
        about: Vec<Resource<Capture>>,
    ) -> wasmtime::Result<Result<(), Error>> {
        let WitMadeObject { kind, namespace, name, usage } = object;
        let object = MadeObject { kind: kind.into(), namespace, name, usage, about: indices(&about) };
        Ok(active(self, "output.made")?.report_object(object).map_err(Error::Rejected))
    }

    fn judge(
        &mut self,
        verdict: WitVerdict,
        about: Vec<Resource<Capture>>,
    ) -> wasmtime::Result<Result<(), Error>> {
        Ok(active(self, "output.judge")?.judge(verdict, indices(&about)))
    }
}

fn active<'a, 'b>(
    view: &'a mut Option<OutputView<'b>>,
    function: &str,
) -> wasmtime::Result<&'a mut OutputView<'b>> {
    Ok(view.as_mut().ok_or_else(|| ContractViolation::in_describe(function))?)
}

impl OutputView<'_> {
    fn emit(&mut self, document: Document, about: Vec<usize>) -> Result<(), Error> {
        let left = self.output.left_after(document.media_type.len() + document.body.len(), &about)?;
        if self.checked != Some(&document) {
            profile::check_emitted(&document).map_err(Error::Rejected)?;
        }
        self.output.bytes_left = left;
        self.output.documents.push(Emitted { document, about });
        Ok(())
    }

    fn report_object(&mut self, object: MadeObject) -> Result<(), String> {
        let MadeObject { kind, namespace, name, usage, .. } = &object;
        if !self.cluster.has_written(kind, namespace.as_deref(), name) {
            let name = printable(name.clone());
            return Err(format!("the run did not make the object {name:?} that it reports"));
        }
        if !usage.as_deref().is_none_or(is_line) {
            return Err(format!(
                "how the object {name} is used is not one line of at most {LINE_MAX_BYTES} bytes"
            ));
        }
        let same = |m: &MadeObject| m.kind == *kind && m.namespace == *namespace && m.name == *name;
        if self.output.objects.iter().any(same) {
            return Err(format!("the object {name} is reported twice"));
        }
        self.output.objects.push(object);
        Ok(())
    }

    fn judge(&mut self, verdict: WitVerdict, about: Vec<usize>) -> Result<(), Error> {
        let failure = match verdict {
            WitVerdict::Pass => None,
            WitVerdict::Fail(why) if !why.trim().is_empty() && is_line(&why) => Some(why),
            WitVerdict::Fail(_) => {
                let reason =
                    format!("the reason of a verdict is not one line of at most {LINE_MAX_BYTES} bytes");
                return Err(Error::Rejected(reason));
            }
        };
        self.output.bytes_left = self.output.left_after(failure.as_ref().map_or(0, String::len), &about)?;
        self.output.verdicts.push(Verdict { failure, about });
        Ok(())
    }
}

fn is_line(text: &str) -> bool {
    text.len() <= LINE_MAX_BYTES && !text.chars().any(char::is_control)
}

fn indices(about: &[Resource<Capture>]) -> Vec<usize> {
    captures::indices(about).into_iter().filter_map(|index| usize::try_from(index).ok()).collect()
}
