//! What every module says of itself.

pub use crate::bindings::module::{Capability, Description, Verb};
use crate::params::Spec;

/// What gadgets and formatters have in common.
pub trait Module {
    /// The module's name, version, summary, parameters and capabilities. The host calls it before a run.
    ///
    /// ```
    /// use gadget_sdk::{Description, Module, Spec};
    ///
    /// struct Hello;
    ///
    /// impl Module for Hello {
    ///     fn describe() -> Description {
    ///         Description::new("hello", env!("CARGO_PKG_VERSION"), "Greets every container.")
    ///             .param(Spec::text("greeting", "What to say.").or("Hello"))
    ///     }
    /// }
    /// ```
    fn describe() -> Description;
}

impl Description {
    /// A module without parameters. The name is lower case, its words joined by `-`; the version is a
    /// [semantic version](https://semver.org); the summary is one sentence for people.
    pub fn new(name: &str, version: &str, summary: &str) -> Self {
        Self {
            name: name.into(),
            version: version.into(),
            summary: summary.into(),
            params: Vec::new(),
            capabilities: Vec::new(),
        }
    }

    /// Adds a parameter.
    #[must_use]
    pub fn param(mut self, spec: Spec) -> Self {
        self.params.push(spec);
        self
    }

    /// Asks to do this on a cluster, with objects of a kind that is called `plural` in paths: see
    /// [`kube`](crate::kube). The core group is `""`. To discover the kind goes with any verb. What the cluster does
    /// not grant is denied when it is tried.
    #[must_use]
    pub fn capability(mut self, group: &str, plural: &str, verbs: &[Verb]) -> Self {
        self.capabilities.push(Capability {
            group: group.into(),
            plural: plural.into(),
            verbs: verbs.to_vec(),
        });
        self
    }
}
