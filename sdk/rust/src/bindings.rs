//! What wit-bindgen makes of `sdk/wit`. Only this crate sees it, and the code that the export macros expand to.
//!
//! One world per exported interface, because every generated export macro lands in the crate's
//! root, and both kinds of module export `module`. The linker merges the worlds that a module uses.
#![allow(missing_docs, unreachable_pub, unsafe_code, unused_imports)] // Generated.
#![allow(clippy::all, clippy::pedantic, clippy::undocumented_unsafe_blocks)]

pub mod imports {
    wit_bindgen::generate!({
        path: "../wit",
        inline: "
            package gadget:sdk;
            world imports {
                import gadget:framework/captures@0.1.0;
                import gadget:framework/policy@0.1.0;
                import gadget:framework/formatter@0.1.0;
                import gadget:framework/params@0.1.0;
                import gadget:framework/output@0.1.0;
                import gadget:framework/kube@0.1.0;
                import gadget:framework/log@0.1.0;
            }
        ",
        generate_all,
        additional_derives: [PartialEq, Eq],
        additional_derives_ignore: ["capture"],
    });
    pub use self::gadget::framework::*;
}

pub mod module {
    wit_bindgen::generate!({
        path: "../wit",
        inline: "
            package gadget:sdk;
            world module { export gadget:framework/module@0.1.0; }
        ",
        with: {
            "gadget:framework/params@0.1.0": crate::bindings::imports::params,
            "gadget:framework/module@0.1.0": generate,
        },
        additional_derives: [PartialEq, Eq],
        export_macro_name: "export_module_interface",
        pub_export_macro: true,
    });
    pub use self::exports::gadget::framework::module::*;
}

pub mod gadget {
    wit_bindgen::generate!({
        path: "../wit",
        inline: "
            package gadget:sdk;
            world gadget { export gadget:framework/gadget@0.1.0; }
        ",
        with: {
            "gadget:framework/captures@0.1.0": crate::bindings::imports::captures,
            "gadget:framework/policy@0.1.0": crate::bindings::imports::policy,
            "gadget:framework/formatter@0.1.0": crate::bindings::imports::formatter,
            "gadget:framework/output@0.1.0": crate::bindings::imports::output,
            "gadget:framework/kube@0.1.0": crate::bindings::imports::kube,
            "gadget:framework/gadget@0.1.0": generate,
        },
        additional_derives: [PartialEq, Eq],
        export_macro_name: "export_gadget_interface",
        pub_export_macro: true,
    });
    pub use self::exports::gadget::framework::gadget::*;
}

pub mod formatter {
    wit_bindgen::generate!({
        path: "../wit",
        inline: "
            package gadget:sdk;
            world formatter { export gadget:framework/formatter@0.1.0; }
        ",
        with: {
            "gadget:framework/captures@0.1.0": crate::bindings::imports::captures,
            "gadget:framework/policy@0.1.0": crate::bindings::imports::policy,
            "gadget:framework/formatter@0.1.0": generate,
        },
        export_macro_name: "export_formatter_interface",
        pub_export_macro: true,
    });
    pub use self::exports::gadget::framework::formatter::*;
}
