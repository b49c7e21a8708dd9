//! What every module says of itself.

pub use crate::bindings::module::{Capability, Description, Verb};
use crate::params::{Parameters, Spec};

/// What gadgets and formatters have in common.
pub trait Module {
    /// The module's name, version, summary, parameters and capabilities. The host calls it before a run.
    ///
    /// ```
    /// use gadget_sdk::{Description, Module, Parameters};
    ///
    /// struct Hello;
    ///
    /// #[derive(Parameters)]
    /// struct Options {
    ///     /// What to say.
    ///     #[param(default = "Hello")]
    ///     greeting: String,
    /// }
    ///
    /// impl Module for Hello {
    ///     fn describe() -> Description {
    ///         Description::new("hello", env!("CARGO_PKG_VERSION"), "Greets every container.")
    ///             .params::<Options>()
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

    /// Adds the parameters of a struct: see [`Parameters`].
    #[must_use]
    pub fn params<T: Parameters>(mut self) -> Self {
        self.params.extend(T::specs());
        self
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
