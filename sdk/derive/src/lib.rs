//! The derives of [`gadget-sdk`](https://docs.rs/gadget-sdk): from a struct to the parameters of a module, and from an
//! enum to the words of one. Modules use them by way of the SDK, where they are described.
//!
//! ```
//! use gadget_sdk::{Choice, Parameters};
//!
//! #[derive(Parameters)]
//! struct Options {
//!     /// What to call them.
//!     #[param(default = "calls")]
//!     unit: String,
//!     /// Which of them.
//!     #[param(default = Phase::All)]
//!     phase: Phase,
//! }
//!
//! #[derive(Choice)]
//! enum Phase {
//!     All,
//!     Application,
//! }
//!
//! assert_eq!(Options::specs()[0].help, "What to call them.");
//! assert_eq!(Phase::WORDS, ["all", "application"]);
//! ```

mod attributes;
mod choice;
mod parameters;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Makes a struct the parameters of a module: see `gadget_sdk::Parameters`.
#[proc_macro_derive(Parameters, attributes(param))]
pub fn parameters(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    parameters::derive(input).unwrap_or_else(|error| error.to_compile_error()).into()
}

/// Makes an enum the words of a parameter: see `gadget_sdk::Choice`.
#[proc_macro_derive(Choice, attributes(param))]
pub fn choice(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    choice::derive(input).unwrap_or_else(|error| error.to_compile_error()).into()
}
