//! `formatter`: what the gadget imports and the formatter exports; the host stands between the two.
//!
//! The policy is checked before the formatter sees it, and the document after: a profile must say what the policy
//! said, or the gadget gets an error instead.

use std::{
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use gadgetd_core::Policy;
use wasmtime::component::{HasData, Resource, TypedFunc};

use super::log::Log;
use crate::{
    bindings::{
        Capture,
        formatter::{Document as WitDocument, Error, Host, ObjectHead},
        policy::Policy as WitPolicy,
    },
    document::Document,
    profile,
    sandbox::{
        fault::{ContractViolation, Fault},
        limits::ModuleUsage,
    },
    text::printable,
};

/// `format`, as it is exported. The policy is shared, so that it is still there to be compared afterwards.
pub(crate) type Format = TypedFunc<Input, (Result<WitDocument, Error>,)>;
pub(crate) type Input = (Arc<WitPolicy>, Vec<Resource<Capture>>, Option<ObjectHead>);

/// A formatter's answer to come, or what ended the formatter.
pub(crate) type Answer<'a> =
    Pin<Box<dyn Future<Output = Result<Result<WitDocument, Error>, Fault>> + Send + 'a>>;

/// An instance of a formatter, in a store of its own.
pub(crate) trait Instance: Send {
    /// Calls the formatter.
    fn format(&mut self, input: Input) -> Answer<'_>;

    /// Moves what it logged to the end of `log`.
    fn drain_log(&mut self, log: &mut Log);

    /// The usage of its calls so far.
    fn usage(&self) -> ModuleUsage;
}

/// The context: the formatter that the run chose.
pub(crate) struct FormatterContext {
    label: Arc<str>,
    document_max_bytes: usize,
    pub(crate) instance: Box<dyn Instance>,
    /// How the last call failed, if it did.
    pub(crate) fault: Option<Fault>,
    /// The last document that it wrote and that passed the checks.
    pub(crate) last_document: Option<Document>,
    /// How long the gadget waited for it.
    pub(crate) waited: Duration,
}

impl FormatterContext {
    pub(crate) fn new(label: Arc<str>, document_max_bytes: usize, instance: Box<dyn Instance>) -> Self {
        let waited = Duration::ZERO;
        Self { label, document_max_bytes, instance, fault: None, last_document: None, waited }
    }

    async fn format(
        &mut self,
        policy: Policy,
        about: Vec<Resource<Capture>>,
        object: Option<ObjectHead>,
    ) -> Result<Document, Error> {
        self.fault = None;
        // A gadget that makes a bad policy is at fault itself.
        policy.validate().map_err(|error| Error::Rejected(error.to_string()))?;
        let policy = Arc::new(WitPolicy::from(policy));
        let input = (Arc::clone(&policy), about, object.clone());
        let (fault, error) = match self.instance.format(input).await {
            Ok(Ok(document)) => {
                let document = Document::from(document);
                let policy = Arc::unwrap_or_clone(policy).into();
                match self.check(&document, &policy, object.as_ref()) {
                    Ok(()) => {
                        self.last_document = Some(document.clone());
                        return Ok(document);
                    }
                    Err(fault) => {
                        let error = Error::Rejected(format!("{} {fault}", self.label));
                        (fault, error)
                    }
                }
            }
            Ok(Err(error)) => (Fault::from(error.clone()), error),
            Err(fault) => {
                let error = Error::Failed(format!("{} {fault}", self.label));
                (fault, error)
            }
        };
        self.fault = Some(fault);
        Err(error)
    }

    fn check(&self, document: &Document, policy: &Policy, object: Option<&ObjectHead>) -> Result<(), Fault> {
        if document.body.len() > self.document_max_bytes {
            return Err(Fault::Output(self.document_max_bytes));
        }
        profile::check_written(document, policy, object).map_err(Fault::Rejected)
    }
}

/// The formatter, if the gadget may call it, and the log that its lines go to.
pub(crate) struct FormatterView<'a> {
    pub(crate) formatter: Option<&'a mut FormatterContext>,
    pub(crate) log: &'a mut Log,
}

impl HasData for FormatterContext {
    type Data<'a> = FormatterView<'a>;
}

impl Host for FormatterView<'_> {
    async fn format(
        &mut self,
        policy: WitPolicy,
        about: Vec<Resource<Capture>>,
        object: Option<ObjectHead>,
    ) -> wasmtime::Result<Result<WitDocument, Error>> {
        let Self { formatter, log } = self;
        let formatter =
            formatter.as_deref_mut().ok_or_else(|| ContractViolation::in_describe("formatter.format"))?;
        let about = super::captures::indices(&about).into_iter().map(Resource::new_own).collect();
        let begin = Instant::now();
        let result = formatter.format(policy.into(), about, object).await;
        formatter.instance.drain_log(log);
        formatter.waited += begin.elapsed();
        Ok(result.map(|Document { media_type, body }| WitDocument { media_type, body }))
    }
}

impl From<WitDocument> for Document {
    fn from(WitDocument { media_type, body }: WitDocument) -> Self {
        Self { media_type, body }
    }
}

/// A formatter's error, as its fault.
impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        match error {
            Error::Unsupported(text) => Self::Unsupported(printable(text)),
            Error::InvalidParameter(text) => Self::InvalidParameter(printable(text)),
            Error::Rejected(text) => Self::Rejected(printable(text)),
            Error::Failed(text) => Self::Failed(printable(text)),
        }
    }
}
