//! What a gadget calls: the contract's imports in a component, a test elsewhere.

#[cfg(target_arch = "wasm32")]
use crate::bindings::imports;
use crate::{
    Capture, Document, MadeObject, ObjectHead, Policy, Target, Verdict,
    bindings::imports::kube::{self, Kind},
    formatter, output,
};

/// In a component it is known what is on the other side, so that one imports no more than it calls.
#[cfg(target_arch = "wasm32")]
pub(crate) type HostRef<'a> = &'a mut Contract;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) type HostRef<'a> = &'a mut dyn Host;

/// What is on the other side: the contract's imports, or a test.
pub(crate) trait Host {
    fn format(
        &mut self,
        policy: &Policy,
        about: &[&Capture],
        object: Option<&ObjectHead>,
    ) -> Result<Document, formatter::Error>;
    fn target(&mut self) -> Option<Target>;
    fn emit(&mut self, document: &Document, about: &[&Capture]) -> Result<(), output::Error>;
    fn made(&mut self, object: &MadeObject, about: &[&Capture]) -> Result<(), output::Error>;
    fn judge(&mut self, verdict: &Verdict, about: &[&Capture]) -> Result<(), output::Error>;
    fn discover(&mut self, group: &str, plural: &str) -> Result<Vec<Kind>, kube::Error>;
    fn get(&mut self, kind: &Kind, namespace: Option<&str>, name: &str) -> Result<String, kube::Error>;
    fn list(
        &mut self,
        kind: &Kind,
        namespace: Option<&str>,
        labels: &str,
    ) -> Result<Vec<String>, kube::Error>;
    fn create(&mut self, kind: &Kind, namespace: Option<&str>, object: &str) -> Result<String, kube::Error>;
    fn apply(&mut self, kind: &Kind, namespace: Option<&str>, object: &str) -> Result<String, kube::Error>;
}

/// The imports of the contract.
#[cfg(target_arch = "wasm32")]
pub(crate) struct Contract;

#[cfg(target_arch = "wasm32")]
impl Host for Contract {
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
