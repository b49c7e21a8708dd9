//! Why a module cannot be used.

use std::{io, path::PathBuf, sync::Arc};

use thiserror::Error;

use super::role::Role;
use crate::{
    bindings::{CONTRACT, PACKAGE, interface},
    sandbox::fault::ModuleFault,
};

/// Why a module cannot be used.
#[derive(Debug, Error)]
pub enum ModuleError {
    /// No module of that name is built in.
    #[error(
        "there is no {} {name:?}; there are: {}, or give a file as ./NAME.wasm",
        role.map_or("module", Role::name),
        known.join(", ")
    )]
    Unknown {
        /// The kind that was asked for; `None`: either.
        role: Option<Role>,
        /// The name that was given.
        name: String,
        /// The names of all built-in modules, the most similar first.
        known: Vec<&'static str>,
    },
    /// The file cannot be read.
    #[error("cannot read {role} {}", path.display())]
    Read {
        /// The kind that was asked for.
        role: Role,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is larger than [`Limits::module_size`](crate::Limits::module_size).
    #[error("{role} {} is larger than the {limit} that a module may have", path.display())]
    TooLarge {
        /// The kind that was asked for.
        role: Role,
        /// The file.
        path: PathBuf,
        /// The limit.
        limit: String,
    },
    /// It is in a registry, and this host has nobody who fetches from there.
    #[error(
        "cannot fetch {role} {reference}: this host has no access to registries; a file is given as ./NAME.wasm"
    )]
    NoRegistry {
        /// The kind that was asked for.
        role: Role,
        /// Where it is.
        reference: String,
    },
    /// It cannot be fetched, or is not what it should be, or nobody who is trusted signed it.
    #[error("cannot use {role} {reference}")]
    Fetch {
        /// The kind that was asked for.
        role: Role,
        /// Where it is.
        reference: String,
        /// Whether trying again later may help.
        temporary: bool,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The file is something else.
    #[error("{module} is no WebAssembly component: {reason}")]
    NotAComponent {
        /// The module.
        module: Arc<str>,
        /// A description of what the file is instead.
        reason: String,
    },
    /// It is a component and breaks the rules of WebAssembly, or needs more than modules may have.
    #[error("cannot compile {module}: {reason}")]
    Compile {
        /// The module.
        module: Arc<str>,
        /// The compiler's error.
        reason: String,
    },
    /// It cannot be compiled within [`Limits::compile`](crate::Limits::compile).
    #[error("compiling {module} takes more than {limit:?}")]
    CompileTimeout {
        /// The module.
        module: Arc<str>,
        /// The limit.
        limit: std::time::Duration,
    },
    /// A gadget where a formatter was wanted, or the other way round.
    #[error("{module} is a {is}: it exports {} and not {}", interface(is.name()), interface(is.other().name()))]
    WrongRole {
        /// The module.
        module: Arc<str>,
        /// Its kind.
        is: Role,
    },
    /// It is written against another version of the contract.
    #[error(
        "{module} needs {found}; this gadgetd has {PACKAGE}@{CONTRACT}: rebuild it with a matching SDK, or update gadgetd"
    )]
    Version {
        /// The module.
        module: Arc<str>,
        /// The interface that it needs, with its version.
        found: String,
    },
    /// It is for another world.
    #[error("{module} does not export {}", missing.join(", "))]
    Exports {
        /// The module.
        module: Arc<str>,
        /// The interfaces that it should export.
        missing: Vec<String>,
    },
    /// It wants something that modules do not get.
    #[error(
        "{module} imports {}: a module gets no files, network, environment or clock, only the interfaces of \
         {PACKAGE} for a {role}",
        imports.join(", ")
    )]
    Imports {
        /// The module.
        module: Arc<str>,
        /// Its kind.
        role: Role,
        /// The interfaces that it must not import.
        imports: Vec<String>,
    },
    /// An interface of it has the right name and another shape.
    #[error("{module} does not fit {PACKAGE}@{CONTRACT}: {reason}")]
    Shape {
        /// The module.
        module: Arc<str>,
        /// The difference.
        reason: String,
    },
    /// It failed when it was asked to describe itself.
    #[error("cannot ask a module to describe itself: {0}")]
    Describe(ModuleFault),
    /// Its description breaks a rule.
    #[error("{module} describes itself wrongly: {reason}")]
    Description {
        /// The module.
        module: Arc<str>,
        /// The rule.
        reason: String,
    },
}

impl ModuleError {
    /// Whether trying again later may help, with nothing changed here.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Fetch { temporary: true, .. })
    }
}
