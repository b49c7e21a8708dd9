//! What a gadget does.

pub use crate::bindings::gadget::{Error, Reason};
#[cfg(target_arch = "wasm32")]
use crate::host::Host as _;
use crate::{
    Capture, Document, MadeObject, Module, ObjectHead, Params, Policy, Target, Verdict, formatter,
    host::HostRef,
    kube::{self, Kube},
    output,
};

/// A module that makes documents from recordings.
///
/// Make it a component with [`export_gadget!`](crate::export_gadget).
pub trait Gadget: Module {
    /// Reads the captures, ordered by container, and [emits](Run::emit) documents; or, where the run asks for an
    /// [object](Run::target), makes that and [reports](Run::made) it.
    ///
    /// There may be thousands of captures. What was read of one stays in memory until it is dropped, so take
    /// them one by one where that is possible.
    fn generate(run: &mut Run<'_>, captures: Vec<Capture>) -> Result<(), Error>;
}

/// One run of a gadget: what was asked of it, and what it may do.
pub struct Run<'a> {
    reason: Reason,
    params: Params,
    host: HostRef<'a>,
}

impl<'a> Run<'a> {
    pub(crate) fn new(reason: Reason, params: Params, host: HostRef<'a>) -> Self {
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
        self.host.format(policy, about, None)
    }

    /// Lets the formatter write the policy down as this object.
    pub fn format_object(
        &mut self,
        policy: &Policy,
        about: &[&Capture],
        object: &ObjectHead,
    ) -> Result<Document, formatter::Error> {
        self.host.format(policy, about, Some(object))
    }

    /// The object that the run asks for. `None`: it asks for documents.
    pub fn target(&mut self) -> Option<Target> {
        self.host.target()
    }

    /// The cluster.
    pub fn kube(&mut self) -> Kube<'_> {
        Kube { host: self.host }
    }

    /// Hands over one document, and says which captures it was made from.
    pub fn emit(&mut self, document: &Document, about: &[&Capture]) -> Result<(), output::Error> {
        self.host.emit(document, about)
    }

    /// Reports an object that holds the result, which this run made or applied, and says which captures it was made
    /// from.
    pub fn made(&mut self, object: &MadeObject, about: &[&Capture]) -> Result<(), output::Error> {
        self.host.made(object, about)
    }

    /// Says whether what was recorded is as it should be, for a pipeline to decide by: `gadgetd run` ends with another
    /// exit status if not. It is said besides the result; a gadget that only reports says nothing.
    ///
    /// ```
    /// use gadget_sdk::{Capture, Error, Run, Verdict};
    ///
    /// fn no_tracing(run: &mut Run<'_>, capture: &Capture) -> Result<(), Error> {
    ///     let traces = capture.syscalls().iter().any(|call| call.name.as_deref() == Some("ptrace"));
    ///     let verdict = if traces { Verdict::Fail("it traces".into()) } else { Verdict::Pass };
    ///     Ok(run.judge(&verdict, &[capture])?)
    /// }
    /// ```
    pub fn judge(&mut self, verdict: &Verdict, about: &[&Capture]) -> Result<(), output::Error> {
        self.host.judge(verdict, about)
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

impl From<kube::Error> for Error {
    fn from(error: kube::Error) -> Self {
        Self::Kube(error)
    }
}
