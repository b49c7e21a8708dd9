//! x
#![allow(missing_docs)]

pub mod captures;
pub mod formatter;
pub mod gadget;
pub mod log;
pub mod module;
pub mod output;
pub mod params;
pub mod policy;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

#[doc(hidden)]
pub mod bindings;
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub mod export;

pub use captures::{Abi, Capture, Completeness, Container, Loss, Machine, Phases, Pod, Syscall};
pub use formatter::{Document, Formatter};
pub use gadget::{Error, Gadget, Reason, Run};
pub use module::{Description, Module};
pub use params::{Params, Spec};
pub use policy::{Action, Architecture, Argument, Comparison, Policy, Rule};

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
