//! Rust types and host traits, generated from `sdk/wit`, and the name and version of that contract.
//!
//! One world that imports every interface, also those that modules export: so each type of the contract exists
//! once, for both kinds of module. What modules export is called through `TypedFunc`s.

use semver::Version;

/// The package that all interfaces are in.
pub(crate) const PACKAGE: &str = "gadget:framework";
/// The version of the contract that this host speaks.
pub const CONTRACT: Version = Version::new(0, 1, 0);

/// The full name of an interface of the contract.
pub(crate) fn interface(name: &str) -> String {
    format!("{PACKAGE}/{name}@{CONTRACT}")
}

/// The resource `capture`. Its representation is the index of the capture in the run.
#[derive(Debug)]
#[allow(unreachable_pub)] // The generated code re-exports it.
pub enum Capture {}

pub(crate) use self::generated::gadget::framework::{
    captures, formatter, gadget, kube, log, module, output, params, policy,
};

#[allow(missing_docs, unreachable_pub, dead_code, reason = "generated code")]
#[allow(clippy::pedantic, reason = "generated code")]
mod generated {
    wasmtime::component::bindgen!({
        path: "../../sdk/wit",
        inline: "
            package gadgetd:host;
            world contract {
                import gadget:framework/captures@0.1.0;
                import gadget:framework/policy@0.1.0;
                import gadget:framework/formatter@0.1.0;
                import gadget:framework/params@0.1.0;
                import gadget:framework/output@0.1.0;
                import gadget:framework/kube@0.1.0;
                import gadget:framework/log@0.1.0;
                import gadget:framework/module@0.1.0;
                import gadget:framework/gadget@0.1.0;
            }
        ",
        imports: {
            "gadget:framework/formatter.format": async | trappable,
            "gadget:framework/kube": async | trappable,
            default: trappable,
        },
        with: { "gadget:framework/captures.capture": crate::bindings::Capture },
    });
}
