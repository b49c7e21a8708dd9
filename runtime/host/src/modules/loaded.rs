//! A module that is loaded, and the handles on it.

use std::{fmt, sync::Arc};

use gadgetd_core::kube::Grant;
use wasmtime::{
    Store,
    component::{
        ComponentExportIndex, ComponentNamedList, InstancePre, Lift, Lower, TypedFunc, types::ComponentItem,
    },
};

use super::{digest::Digest, registry::Source, role::Role};
use crate::{
    bindings::interface,
    cluster::session::Caller,
    contract::module::Description,
    sandbox::{limits::Limits, store::StoreData},
};

/// A module that can run.
#[derive(Clone)]
pub(crate) struct Module {
    pub(crate) label: Arc<str>,
    /// Its limits.
    pub(crate) limits: Arc<Limits>,
    pub(crate) source: Source,
    pub(crate) digest: Digest,
    /// Of the component, in bytes.
    pub(crate) size: usize,
    pub(crate) description: Description,
    pub(crate) pre: InstancePre<StoreData>,
    /// `generate` or `format`.
    pub(crate) main: ComponentExportIndex,
}

impl Module {
    pub(crate) fn engine(&self) -> &wasmtime::Engine {
        self.pre.engine()
    }

    fn imports(&self) -> Vec<(String, Vec<String>)> {
        let engine = self.engine();
        let ty = self.pre.component().component_type();
        let imports = ty.imports(engine).map(|(name, import)| {
            let functions = match import.ty {
                ComponentItem::ComponentInstance(instance) => {
                    let functions = instance.exports(engine).filter_map(|(name, item)| match item.ty {
                        ComponentItem::ComponentFunc(_) => Some(name.to_owned()),
                        _ => None,
                    });
                    functions.collect()
                }
                _ => Vec::new(),
            };
            (name.to_owned(), functions)
        });
        imports.collect()
    }

    /// The module, as the one that calls the cluster.
    pub(crate) fn caller(&self) -> Caller {
        Caller {
            module: self.label.clone(),
            asked: self.description.capabilities.iter().map(Grant::from).collect(),
            timeout: self.limits.kube_call,
            answer_max_bytes: self.limits.kube_answer,
        }
    }

    /// Makes an instance in the store and returns its `generate` or `format`.
    pub(crate) async fn start<P, R>(&self, store: &mut Store<StoreData>) -> wasmtime::Result<TypedFunc<P, R>>
    where
        P: ComponentNamedList + Lower,
        R: ComponentNamedList + Lift,
    {
        let instance = self.pre.instantiate_async(&mut *store).await?;
        instance.get_typed_func(store, self.main)
    }
}

macro_rules! module_handle {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone)]
        pub struct $name(pub(crate) Arc<Module>);

        impl $name {
            /// Its description.
            pub fn description(&self) -> &Description {
                &self.0.description
            }

            /// Its own name, which need not be the one it was asked for by.
            pub fn name(&self) -> &str {
                &self.0.description.name
            }

            /// Of its bytes.
            pub fn digest(&self) -> Digest {
                self.0.digest
            }

            /// How many bytes it has.
            pub fn size(&self) -> usize {
                self.0.size
            }

            /// Where it came from; of a registry's module also who signed it.
            pub fn source(&self) -> &Source {
                &self.0.source
            }

            /// Its imports: the interfaces, and the functions in each.
            pub fn imports(&self) -> Vec<(String, Vec<String>)> {
                self.0.imports()
            }

            /// The same module, with other limits. Its memory never exceeds [`MEMORY_MAX_BYTES`](crate::MEMORY_MAX_BYTES). The
            /// host's limits decide how large a module may be, how long it may be compiled, and how many runs there are.
            #[must_use]
            pub fn with_limits(&self, limits: Limits) -> Self {
                Self(Arc::new(Module { limits: Arc::new(limits), ..Module::clone(&self.0) }))
            }

            /// Its limits.
            pub fn limits(&self) -> &Limits {
                &self.0.limits
            }

            /// As errors and log lines call it: the kind, and the name or file that was asked for.
            pub fn label(&self) -> &str {
                &self.0.label
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{} ({})", self.0.label, self.0.digest)
            }
        }
    };
}

module_handle! {
    /// A gadget that can run. Cheap to clone.
    Gadget
}
module_handle! {
    /// A formatter that can run. Cheap to clone.
    Formatter
}

/// A module of either kind.
#[derive(Clone, Debug)]
pub enum AnyModule {
    /// It makes documents from captures.
    Gadget(Gadget),
    /// It writes policies down.
    Formatter(Formatter),
}

impl AnyModule {
    /// Its kind.
    pub fn role(&self) -> Role {
        match self {
            Self::Gadget(_) => Role::Gadget,
            Self::Formatter(_) => Role::Formatter,
        }
    }

    /// The world that it is for, in the version of this host.
    pub fn world(&self) -> String {
        interface(&format!("{}-module", self.role()))
    }

    /// Its description.
    pub fn description(&self) -> &Description {
        &self.inner().description
    }

    /// Of its bytes.
    pub fn digest(&self) -> Digest {
        self.inner().digest
    }

    /// How many bytes it has.
    pub fn size(&self) -> usize {
        self.inner().size
    }

    /// Where it came from; of a registry's module also who signed it.
    pub fn source(&self) -> &Source {
        &self.inner().source
    }

    /// Its imports: the interfaces, and the functions in each.
    pub fn imports(&self) -> Vec<(String, Vec<String>)> {
        self.inner().imports()
    }

    /// The interfaces that it exports.
    pub fn exports(&self) -> Vec<String> {
        let module = self.inner();
        let exports = module.pre.component().component_type();
        exports.exports(module.engine()).map(|(name, _)| name.to_owned()).collect()
    }

    /// The same module, with other limits; see [`Gadget::with_limits`].
    #[must_use]
    pub fn with_limits(&self, limits: Limits) -> Self {
        match self {
            Self::Gadget(gadget) => Self::Gadget(gadget.with_limits(limits)),
            Self::Formatter(formatter) => Self::Formatter(formatter.with_limits(limits)),
        }
    }

    /// Its limits.
    pub fn limits(&self) -> &Limits {
        &self.inner().limits
    }

    fn inner(&self) -> &Module {
        match self {
            Self::Gadget(Gadget(module)) | Self::Formatter(Formatter(module)) => module,
        }
    }
}
