//! The two kinds of modules.

use std::fmt;

/// The two kinds of modules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// From captures to documents.
    Gadget,
    /// From a policy to a document.
    Formatter,
}

impl Role {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gadget => "gadget",
            Self::Formatter => "formatter",
        }
    }

    /// The interfaces that its world imports.
    pub(crate) fn imports(self) -> &'static [&'static str] {
        match self {
            Self::Gadget => &["captures", "policy", "formatter", "params", "output", "kube", "log"],
            Self::Formatter => &["captures", "policy", "params", "log"],
        }
    }

    pub(crate) fn other(self) -> Self {
        match self {
            Self::Gadget => Self::Formatter,
            Self::Formatter => Self::Gadget,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
