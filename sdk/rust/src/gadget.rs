//! What a gadget does.

pub use crate::bindings::gadget::{Error, Reason};
use crate::{Capture, Document, Module, Params, Policy, formatter, output};

/// A module that makes documents from recordings.
///
/// Make it a component with [`export_gadget!`](crate::export_gadget).
pub trait Gadget: Module {
    /// Reads the captures, ordered by container, and [emits](Run::emit) documents.
    ///
    /// There may be thousands of captures. What was read of one stays in memory until it is dropped, so take
    /// them one by one where that is possible.
    fn generate(run: &mut Run<'_>, captures: Vec<Capture>) -> Result<(), Error>;
}

/// One run of a gadget: what was asked of it, and what it may do.
pub struct Run<'a> {
    reason: Reason,
    params: Params,
    host: &'a mut dyn Host,
}

/// What is on the other side: the contract's imports, or a test.
pub(crate) trait Host {
    fn format(&mut self, policy: &Policy, about: &[&Capture]) -> Result<Document, formatter::Error>;
    fn emit(&mut self, document: &Document, about: &[&Capture]) -> Result<(), output::Error>;
}

impl<'a> Run<'a> {
    pub(crate) fn new(reason: Reason, params: Params, host: &'a mut dyn Host) -> Self {
        Self { reason, params, host }
    }

    /// Why the gadget runs.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// The gadget's own parameters. The formatter has its own.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// Lets the formatter that was chosen for the run write the policy down. `about` are the captures
    /// it was made from.
    pub fn format(&mut self, policy: &Policy, about: &[&Capture]) -> Result<Document, formatter::Error> {
        self.host.format(policy, about)
    }

    /// Hands over one document, and says which captures it was made from.
    pub fn emit(&mut self, document: &Document, about: &[&Capture]) -> Result<(), output::Error> {
        self.host.emit(document, about)
    }
}

impl From<formatter::Error> for Error {
    fn from(error: formatter::Error) -> Self {
        Self::Format(error)
    }
}

impl From<output::Error> for Error {
    fn from(error: output::Error) -> Self {
        Self::Output(error)
    }
}
