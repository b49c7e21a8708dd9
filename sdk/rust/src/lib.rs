//! Write gadgets and formatters for gadgetd in Rust.
//!
//! gadgetd records which system calls a container makes. A **gadget** reads recordings
//! ([`Capture`]) and makes documents of them; a **formatter** writes a seccomp [`Policy`] down in
//! some format. Both are WebAssembly components that see what gadgetd hands them and nothing else:
//! no files, no network, no clock. This crate is the contract they are written against (the WIT package
//! `gadget:framework`, one module here for each of its interfaces).
//!
//! ```
//! use gadget_sdk::{Capture, Description, Document, Error, Gadget, Module, Parameters, Run};
//!
//! /// Counts the system calls that each container made.
//! struct Count;
//!
//! /// What it can be told: `--param unit=…`.
//! #[derive(Parameters)]
//! struct Options {
//!     /// What to call them.
//!     #[param(default = "calls")]
//!     unit: String,
//! }
//!
//! impl Module for Count {
//!     fn describe() -> Description {
//!         Description::new("count", env!("CARGO_PKG_VERSION"), "Counts system calls.")
//!             .params::<Options>()
//!     }
//! }
//!
//! impl Gadget for Count {
//!     fn generate(run: &mut Run<'_>, captures: Vec<Capture>) -> Result<(), Error> {
//!         let Options { unit } = run.params().read();
//!         for capture in captures {
//!             let text = format!("{}: {} {unit}\n", capture.container(), capture.syscalls().len());
//!             run.emit(&Document::new("text/plain", text), &[&capture])?;
//!         }
//!         Ok(())
//!     }
//! }
//!
//! gadget_sdk::export_gadget!(Count);
//!
//! // The same code runs natively, for tests:
//! use gadget_sdk::{Abi, Phases, testing};
//!
//! let web = testing::capture("web").call(Abi::Native, 0, "read", Phases::APPLICATION).build();
//! let run = testing::gadget::<Count>().param("unit", "system calls").run(vec![web]);
//! assert_eq!(run.emitted[0].document.body, "web: 1 system calls\n");
//! ```
//!
//! A gadget that makes a policy lets the formatter of the run write it down:
//!
//! ```
//! # use gadget_sdk::{Capture, Error, Policy, Run};
//! # fn example(run: &mut Run<'_>, policy: &Policy, capture: &Capture) -> Result<(), Error> {
//! let document = run.format(policy, &[capture])?;
//! run.emit(&document, &[capture])?;
//! # Ok(())
//! # }
//! ```
//!
//! Where the run asks for an object on a cluster, the gadget makes it itself: see [`Run::target`] and [`kube`].
//!
//! To become a component, the crate is a `cdylib` that is compiled for `wasm32-unknown-unknown` with
//! `wasm-component-ld` as its linker. Where it panics, the message is logged before the host ends the run.

pub mod captures;
pub mod formatter;
pub mod gadget;
pub mod kube;
pub mod log;
pub mod module;
pub mod output;
pub mod params;
pub mod policy;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

mod host;
#[cfg(all(target_arch = "wasm32", feature = "allocator"))]
mod memory;

#[doc(hidden)]
pub mod bindings;
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub mod export;

pub use captures::{
    Abi, Capture, Completeness, Container, Loss, Machine, Phases, Pod, Refusal, RefusedCall, Syscall,
};
pub use formatter::{Document, Formatter, ObjectHead};
pub use gadget::{Error, Gadget, Reason, Run};
pub use module::{Description, Module};
pub use output::{MadeObject, Target, Verdict};
pub use params::{Choice, Parameters, Params, Spec};
pub use policy::{Action, Architecture, Argument, Comparison, Policy, Rule};

/// What the guide says compiles.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/writing-a-gadget.md")]
struct Guide;

/// Makes the crate a gadget component. Compiled for anything but WebAssembly it does nothing.
#[macro_export]
macro_rules! export_gadget {
    ($gadget:ty) => {
        #[cfg(target_arch = "wasm32")]
        #[allow(unsafe_code)]
        const _: () = {
            type Exported = $crate::export::Component<$gadget>;
            $crate::bindings::module::export_module_interface!(
                Exported with_types_in $crate::bindings::module
            );
            $crate::bindings::gadget::export_gadget_interface!(
                Exported with_types_in $crate::bindings::gadget
            );
        };
    };
}

/// Makes the crate a formatter component. Compiled for anything but WebAssembly it does nothing.
#[macro_export]
macro_rules! export_formatter {
    ($formatter:ty) => {
        #[cfg(target_arch = "wasm32")]
        #[allow(unsafe_code)]
        const _: () = {
            type Exported = $crate::export::Component<$formatter>;
            $crate::bindings::module::export_module_interface!(
                Exported with_types_in $crate::bindings::module
            );
            $crate::bindings::formatter::export_formatter_interface!(
                Exported with_types_in $crate::bindings::formatter
            );
        };
    };
}
