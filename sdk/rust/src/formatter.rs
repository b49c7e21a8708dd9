//! From a policy to a document: what a formatter does, and what a gadget asks of one.

pub use crate::bindings::imports::formatter::{Document, Error};
use crate::{Capture, Module, Params, Policy};

/// A module that writes a policy down.
///
/// Make it a component with [`export_formatter!`](crate::export_formatter).
pub trait Formatter: Module {
    /// Writes the policy down. `about` are the captures it was made from, more than one where they
    /// were merged; a format that has no place for them need not look.
    fn format(params: &Params, policy: &Policy, about: &[&Capture]) -> Result<Document, Error>;
}

impl Document {
    /// A document of this [media type](https://www.rfc-editor.org/rfc/rfc6838).
    pub fn new(media_type: &str, body: String) -> Self {
        Self { media_type: media_type.to_owned(), body }
    }
}
