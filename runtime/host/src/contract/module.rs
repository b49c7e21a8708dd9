//! `module`: a module's description of itself.

use gadgetd_core::kube::{Grant, Names, Verb};
use semver::Version;
use wasmtime::component::TypedFunc;

use super::params::Spec;
use crate::bindings::module::{Capability as WitCapability, Description as WitDescription, Verb as WitVerb};

/// `describe`, as it is exported.
pub(crate) type Describe = TypedFunc<(), (WitDescription,)>;

/// A module's description of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Its name: lower case, words joined by `-`.
    pub name: String,
    /// Its version.
    pub version: Version,
    /// One sentence for people.
    pub summary: String,
    /// Its parameters.
    pub params: Vec<Spec>,
    /// The permissions that it asks for on a cluster. A formatter asks for none.
    pub capabilities: Vec<Capability>,
}

/// The permissions that a module asks for on the objects of a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capability {
    /// The API group; empty for the core group.
    pub group: String,
    /// The resource, as its plural.
    pub plural: String,
    /// The verbs that it asks for. To discover the kind goes with any of them.
    pub verbs: Vec<Verb>,
}

impl From<WitCapability> for Capability {
    fn from(WitCapability { group, plural, verbs }: WitCapability) -> Self {
        let verbs = verbs.into_iter().map(|verb| match verb {
            WitVerb::Get => Verb::Get,
            WitVerb::List => Verb::List,
            WitVerb::Create => Verb::Create,
            WitVerb::Apply => Verb::Apply,
        });
        Self { group, plural, verbs: verbs.collect() }
    }
}

impl From<&Capability> for Grant {
    /// A module asks for all namespaces and names; the cluster says in which it gets what it asks for.
    fn from(Capability { group, plural, verbs }: &Capability) -> Self {
        let (group, plural, verbs) = (group.clone(), plural.clone(), verbs.clone());
        Self { group, plural, verbs, namespaces: Names::Any, names: Names::Any }
    }
}
