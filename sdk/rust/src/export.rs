//! The other end of the export macros: from the contract's calls to the traits.

use std::{marker::PhantomData, panic, sync::Once};

use crate::{
    Capture, Description, Document, Formatter, Gadget, Module, ObjectHead, Params, Policy, Run,
    bindings::{self, imports},
    formatter, gadget,
    host::Contract,
};

/// Implements the contract for a module.
pub struct Component<T>(PhantomData<T>);

impl<T: Module> bindings::module::Guest for Component<T> {
    fn describe() -> Description {
        log_panics();
        T::describe()
    }
}

impl<T: Gadget> bindings::gadget::Guest for Component<T> {
    fn generate(
        reason: gadget::Reason,
        captures: Vec<imports::captures::Capture>,
    ) -> Result<(), gadget::Error> {
        log_panics();
        let captures = captures.into_iter().map(Capture::from).collect();
        T::generate(&mut Run::new(reason, Params::of_this_run(), &mut Contract), captures)
    }
}

impl<T: Formatter> bindings::formatter::Guest for Component<T> {
    fn format(
        policy: Policy,
        about: Vec<imports::captures::Capture>,
        object: Option<bindings::formatter::ObjectHead>,
    ) -> Result<bindings::formatter::Document, bindings::formatter::Error> {
        log_panics();
        let about: Vec<_> = about.into_iter().map(Capture::from).collect();
        let about: Vec<_> = about.iter().collect();
        let params = Params::of_this_run();
        let document = match object {
            None => T::format(&params, &policy, &about),
            Some(object) => {
                let bindings::formatter::ObjectHead { api_version, kind, namespace, name, attempt } = object;
                let object = ObjectHead { api_version, kind, namespace, name, attempt };
                T::format_object(&params, &policy, &about, &object)
            }
        };
        match document {
            Ok(Document { media_type, body }) => Ok(bindings::formatter::Document { media_type, body }),
            Err(error) => Err(match error {
                formatter::Error::Unsupported(why) => bindings::formatter::Error::Unsupported(why),
                formatter::Error::InvalidParameter(why) => bindings::formatter::Error::InvalidParameter(why),
                formatter::Error::Rejected(why) => bindings::formatter::Error::Rejected(why),
                formatter::Error::Failed(why) => bindings::formatter::Error::Failed(why),
            }),
        }
    }
}

/// A panic ends the module with a bare trap; the log is the only way to tell anybody why.
fn log_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| panic::set_hook(Box::new(|info| crate::log::error(&info.to_string(), &[]))));
}
