//! Rust types and host traits, generated from `sdk/wit`.
//!
//! One world that imports every interface, also those that modules export: so each type of the contract exists
//! once, for both kinds of module. What modules export is called through `TypedFunc`s (see `module.rs`).
#![allow(missing_docs, unreachable_pub, dead_code)] // Generated code.
#![allow(clippy::pedantic)]

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
    with: { "gadget:framework/captures.capture": crate::captures::Capture },
});

pub(crate) use self::gadget::framework::{
    captures, formatter, gadget as gadgets, kube, log, module, output, params, policy,
};
