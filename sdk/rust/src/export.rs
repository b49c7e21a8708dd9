//! The other end of the export macros: from the contract's calls to the traits.

use std::{marker::PhantomData, panic, sync::Once};

use crate::{
    Capture, Description, Document, Formatter, Gadget, MadeObject, Module, ObjectHead, Params, Policy, Run,
    Target, Verdict,
    bindings::{self, imports},
    formatter, gadget,
    kube::{self, Kind},
    output,
};

/// Implements the contract for a module.
pub struct Component<T>(PhantomData<T>);

/// The imports of the contract.
pub(crate) struct Contract;

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

impl gadget::Host for Contract {
    fn format(
        &mut self,
        policy: &Policy,
        about: &[&Capture],
        object: Option<&ObjectHead>,
    ) -> Result<Document, formatter::Error> {
        imports::formatter::format(policy, about.iter().map(|c| c.contract().clone()).collect(), object)
    }

    fn target(&mut self) -> Option<Target> {
        imports::output::target()
    }

    fn emit(&mut self, document: &Document, about: &[&Capture]) -> Result<(), output::Error> {
        let about: Vec<_> = about.iter().map(|c| c.contract()).collect();
        imports::output::emit(document, &about)
    }

    fn made(&mut self, object: &MadeObject, about: &[&Capture]) -> Result<(), output::Error> {
        let about: Vec<_> = about.iter().map(|c| c.contract()).collect();
        imports::output::made(object, &about)
    }

    fn judge(&mut self, verdict: &Verdict, about: &[&Capture]) -> Result<(), output::Error> {
        let about: Vec<_> = about.iter().map(|c| c.contract()).collect();
        imports::output::judge(verdict, &about)
    }

    fn discover(&mut self, group: &str, plural: &str) -> Result<Vec<Kind>, kube::Error> {
        imports::kube::discover(group, plural)
    }

    fn get(&mut self, kind: &Kind, namespace: Option<&str>, name: &str) -> Result<String, kube::Error> {
        imports::kube::get(kind, namespace, name)
    }

    fn list(
        &mut self,
        kind: &Kind,
        namespace: Option<&str>,
        labels: &str,
    ) -> Result<Vec<String>, kube::Error> {
        imports::kube::list(kind, namespace, labels)
    }

    fn create(&mut self, kind: &Kind, namespace: Option<&str>, object: &str) -> Result<String, kube::Error> {
        imports::kube::create(kind, namespace, object)
    }

    fn apply(&mut self, kind: &Kind, namespace: Option<&str>, object: &str) -> Result<String, kube::Error> {
        imports::kube::apply(kind, namespace, object)
    }
}

/// A panic ends the module with a bare trap; the log is the only way to tell anybody why.
fn log_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| panic::set_hook(Box::new(|info| crate::log::error(&info.to_string(), &[]))));
}
