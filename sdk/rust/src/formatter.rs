//! From a policy to a document: what a formatter does, and what a gadget asks of one.

pub use crate::bindings::imports::formatter::{Document, Error, ObjectHead};
use crate::{Capture, Module, Params, Policy};

/// A module that writes a policy down.
///
/// Make it a component with [`export_formatter!`](crate::export_formatter).
pub trait Formatter: Module {
    /// Writes the policy down. `about` are the captures it was made from, more than one where they
    /// were merged; a format that has no place for them need not look.
    fn format(params: &Params, policy: &Policy, about: &[&Capture]) -> Result<Document, Error>;

    /// Writes the policy down as this object of a cluster, in JSON.
    ///
    /// ```
    /// use gadget_sdk::{
    ///     Capture, Description, Document, Formatter, Module, ObjectHead, Params, Policy, formatter::Error,
    /// };
    ///
    /// /// Writes the names of what is allowed into a `ConfigMap`.
    /// struct Names;
    ///
    /// impl Module for Names {
    ///     fn describe() -> Description {
    ///         Description::new("names", env!("CARGO_PKG_VERSION"), "The names of what is allowed.")
    ///     }
    /// }
    ///
    /// impl Formatter for Names {
    ///     fn format(_: &Params, policy: &Policy, _: &[&Capture]) -> Result<Document, Error> {
    ///         Ok(Document::new("text/plain", policy.rules[0].names.join("\n")))
    ///     }
    ///
    ///     fn format_object(
    ///         _: &Params,
    ///         policy: &Policy,
    ///         _: &[&Capture],
    ///         object: &ObjectHead,
    ///     ) -> Result<Document, Error> {
    ///         if (object.api_version.as_str(), object.kind.as_str()) != ("v1", "ConfigMap") {
    ///             return Err(Error::Unsupported(format!("it writes no {}", object.kind)));
    ///         }
    ///         let namespace = object.namespace.as_deref().unwrap_or_default();
    ///         let (name, names) = (&object.name, policy.rules[0].names.join(" "));
    ///         let body = format!(
    ///             r#"{{"apiVersion": "v1", "kind": "ConfigMap",
    ///                 "metadata": {{"namespace": "{namespace}", "name": "{name}"}},
    ///                 "data": {{"names": "{names}"}}}}"#
    ///         );
    ///         Ok(Document::new("application/json", body))
    ///     }
    /// }
    /// ```
    fn format_object(
        params: &Params,
        policy: &Policy,
        about: &[&Capture],
        object: &ObjectHead,
    ) -> Result<Document, Error> {
        let _ = (params, policy, about);
        Err(Error::Unsupported(format!("this formatter writes documents, and no {} objects", object.kind)))
    }
}

impl Document {
    /// A document of this [media type](https://www.rfc-editor.org/rfc/rfc6838).
    pub fn new(media_type: &str, body: String) -> Self {
        Self { media_type: media_type.to_owned(), body }
    }
}
