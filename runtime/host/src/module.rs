//! `module`: what modules say of themselves, and how a file becomes one that can run.

use std::{collections::BTreeSet, fmt, io, path::PathBuf, sync::Arc};

use gadgetd_core::kube::Verb;
use semver::Version;
use sha2::Digest as _;
use thiserror::Error;
use wasmtime::{
    Store,
    component::{
        Component, ComponentExportIndex, ComponentNamedList, InstancePre, Lift, Lower, Resource, TypedFunc,
        types::ComponentItem,
    },
};

use crate::{
    Host,
    bindings::{
        gadgets::{Error as GadgetError, Reason as WitReason},
        module::{Capability as WitCapability, Description as WitDescription, Verb as WitVerb},
    },
    captures::Capture,
    engine::Engine,
    fault::{Fault, ModuleFault},
    formatter::Format,
    limits::Limits,
    log::printable,
    params::Spec,
    registry::Source,
    state::State,
    store::ModuleRef,
    trust::Trust,
};

const PACKAGE: &str = "gadget:framework";
/// The version of the contract that this host speaks.
pub const CONTRACT: Version = Version::new(0, 1, 0);

/// The longest text in a description, in bytes.
const TEXT_MAX: usize = 1000;
/// The longest name, in bytes.
const NAME_MAX: usize = 64;
/// The most parameters of one module.
const PARAMS_MAX: usize = 64;
/// The most kinds of objects that one module may ask for.
const CAPABILITIES_MAX: usize = 64;

/// `generate`, as it is exported.
pub(crate) type Generate = TypedFunc<(WitReason, Vec<Resource<Capture>>), (Result<(), GadgetError>,)>;

/// The name of an interface of the contract.
pub(crate) fn interface(name: &str) -> String {
    format!("{PACKAGE}/{name}@{CONTRACT}")
}

/// The two kinds of modules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// From captures to documents.
    Gadget,
    /// From a policy to a document.
    Formatter,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Gadget => "gadget",
            Self::Formatter => "formatter",
        }
    }

    fn imports(self) -> &'static [&'static str] {
        match self {
            Self::Gadget => &["captures", "policy", "formatter", "params", "output", "kube", "log"],
            Self::Formatter => &["captures", "policy", "params", "log"],
        }
    }

    fn other(self) -> Self {
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

/// The SHA-256 of a component, or of what a registry has.
///
/// ```
/// use gadgetd_host::Digest;
///
/// let digest = Digest::of(b"");
/// assert_eq!(digest.to_string(), "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
/// assert_eq!(Digest::parse(&digest.to_string()), Some(digest));
/// assert_eq!(Digest::parse("sha256:E3"), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// Reads what [`Digest`] is displayed as: `sha256:` and 64 hexadecimal digits in lower case.
    pub fn parse(text: &str) -> Option<Self> {
        let hex = text.strip_prefix("sha256:").filter(|hex| hex.len() == 64)?;
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let mut digest = [0; 32];
        for (byte, pair) in digest.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Self(digest))
    }

    /// 64 hexadecimal digits.
    pub fn hex(&self) -> String {
        self.0.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
    }
}

impl fmt::Display for Digest {
    /// As container registries write it: `sha256:…`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

/// What a module says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Its name: lower case, words joined by `-`.
    pub name: String,
    /// Its version.
    pub version: Version,
    /// One sentence for people.
    pub summary: String,
    /// What it can be told.
    pub params: Vec<Spec>,
    /// What it asks to do on a cluster. A formatter asks for nothing.
    pub capabilities: Vec<Capability>,
}

/// What a module asks to do with the objects of a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capability {
    /// The API group; empty for the core group.
    pub group: String,
    /// The resource, as its plural.
    pub plural: String,
    /// What it asks to do. To discover the kind goes with any of them.
    pub verbs: Vec<Verb>,
}

/// A module that can run.
#[derive(Clone)]
pub(crate) struct Module {
    pub(crate) label: Arc<str>,
    /// What it may use.
    pub(crate) limits: Arc<Limits>,
    source: Source,
    digest: Digest,
    size: usize,
    pub(crate) description: Description,
    pre: InstancePre<State>,
    /// `generate` or `format`.
    main: ComponentExportIndex,
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

    /// Makes an instance in the store and returns its `generate` or `format`.
    pub(crate) async fn start<P, R>(&self, store: &mut Store<State>) -> wasmtime::Result<TypedFunc<P, R>>
    where
        P: ComponentNamedList + Lower,
        R: ComponentNamedList + Lift,
    {
        let instance = self.pre.instantiate_async(&mut *store).await?;
        instance.get_typed_func(store, self.main)
    }
}

macro_rules! handle {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone)]
        pub struct $name(pub(crate) Arc<Module>);

        impl $name {
            /// What it says of itself.
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

            /// What it imports: the interfaces, and the functions in each.
            pub fn imports(&self) -> Vec<(String, Vec<String>)> {
                self.0.imports()
            }

            /// The same module, with other limits. Of memory it never gets more than [`MEMORY_MAX`](crate::MEMORY_MAX); how large a module may
            /// be, how long it may be compiled, and how many runs there are, is the host's to say.
            #[must_use]
            pub fn with_limits(&self, limits: Limits) -> Self {
                Self(Arc::new(Module { limits: Arc::new(limits), ..Module::clone(&self.0) }))
            }

            /// What it may use.
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

handle! {
    /// A gadget that can run. Cheap to clone.
    Gadget
}
handle! {
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
    /// Which kind it is.
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

    /// What it says of itself.
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

    /// What it imports: the interfaces, and the functions in each.
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

    /// What it may use.
    pub fn limits(&self) -> &Limits {
        &self.inner().limits
    }

    fn inner(&self) -> &Module {
        match self {
            Self::Gadget(Gadget(module)) | Self::Formatter(Formatter(module)) => module,
        }
    }
}

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
        /// What was wanted; `None`: either.
        role: Option<Role>,
        /// What was given.
        name: String,
        /// What there is, the most similar first.
        known: Vec<&'static str>,
    },
    /// The file cannot be read.
    #[error("cannot read {role} {}", path.display())]
    Read {
        /// What was wanted.
        role: Role,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is larger than [`Limits::module_size`](crate::Limits::module_size).
    #[error("{role} {} is larger than the {limit} that a module may have", path.display())]
    TooLarge {
        /// What was wanted.
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
        /// What was wanted.
        role: Role,
        /// Where it is.
        reference: String,
    },
    /// It cannot be fetched, or is not what it should be, or nobody who is trusted signed it.
    #[error("cannot use {role} {reference}")]
    Fetch {
        /// What was wanted.
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
    NoComponent {
        /// The module.
        module: Arc<str>,
        /// What it is instead.
        reason: String,
    },
    /// It is a component and breaks the rules of WebAssembly, or needs more than modules may have.
    #[error("cannot compile {module}: {reason}")]
    Compile {
        /// The module.
        module: Arc<str>,
        /// What the compiler says.
        reason: String,
    },
    /// It cannot be compiled within [`Limits::compile`](crate::Limits::compile).
    #[error("compiling {module} takes more than {limit:?}")]
    Slow {
        /// The module.
        module: Arc<str>,
        /// The limit.
        limit: std::time::Duration,
    },
    /// A gadget where a formatter was wanted, or the other way round.
    #[error("{module} is a {is}: it exports {} and not {}", interface(is.name()), interface(is.other().name()))]
    OtherRole {
        /// The module.
        module: Arc<str>,
        /// What it is.
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
        /// What it should export.
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
        /// What it wants.
        imports: Vec<String>,
    },
    /// An interface of it has the right name and another shape.
    #[error("{module} does not fit {PACKAGE}@{CONTRACT}: {reason}")]
    Shape {
        /// The module.
        module: Arc<str>,
        /// What differs.
        reason: String,
    },
    /// It failed when it was asked to describe itself.
    #[error("cannot ask a module to describe itself: {0}")]
    Describe(ModuleFault),
    /// What it says of itself breaks a rule.
    #[error("{module} describes itself wrongly: {reason}")]
    Description {
        /// The module.
        module: Arc<str>,
        /// Which rule.
        reason: String,
    },
}

impl ModuleError {
    /// Whether trying again later may help, with nothing changed here.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Fetch { temporary: true, .. })
    }
}

impl Host {
    /// Gets a gadget ready to run: reads, checks and compiles it, and asks it to describe itself. None out of a registry:
    /// that takes [`Host::gadget_from`], and somebody who is trusted.
    pub async fn gadget(&self, module: &ModuleRef) -> Result<Gadget, ModuleError> {
        self.gadget_from(module, &Trust::default()).await
    }

    /// Gets a gadget ready to run, as [`Host::gadget`] does, if it comes from whom this trusts.
    pub async fn gadget_from(&self, module: &ModuleRef, trust: &Trust) -> Result<Gadget, ModuleError> {
        Ok(Gadget(Arc::new(self.load(Role::Gadget, module, trust).await?)))
    }

    /// Gets a formatter ready to run, as [`Host::gadget`] does.
    pub async fn formatter(&self, module: &ModuleRef) -> Result<Formatter, ModuleError> {
        self.formatter_from(module, &Trust::default()).await
    }

    /// Gets a formatter ready to run, as [`Host::gadget`] does, if it comes from whom this trusts.
    pub async fn formatter_from(&self, module: &ModuleRef, trust: &Trust) -> Result<Formatter, ModuleError> {
        Ok(Formatter(Arc::new(self.load(Role::Formatter, module, trust).await?)))
    }

    /// Gets a module of either kind ready to run, as [`Host::gadget`] does.
    pub async fn module(&self, module: &ModuleRef) -> Result<AnyModule, ModuleError> {
        self.module_from(module, &Trust::default()).await
    }

    /// Gets a module of either kind ready to run, as [`Host::gadget`] does, if it comes from whom this trusts.
    pub async fn module_from(&self, module: &ModuleRef, trust: &Trust) -> Result<AnyModule, ModuleError> {
        let formatter = async || self.formatter_from(module, trust).await.map(AnyModule::Formatter);
        match self.gadget_from(module, trust).await {
            Ok(gadget) => Ok(AnyModule::Gadget(gadget)),
            Err(ModuleError::OtherRole { .. }) => formatter().await,
            Err(ModuleError::Unknown { name, known, .. }) => match formatter().await {
                Err(ModuleError::Unknown { known: formatters, .. }) => {
                    let known = known.into_iter().chain(formatters).collect();
                    Err(ModuleError::Unknown { role: None, name, known })
                }
                found => found,
            },
            Err(error) => Err(error),
        }
    }

    async fn load(&self, role: Role, module: &ModuleRef, trust: &Trust) -> Result<Module, ModuleError> {
        let label: Arc<str> = format!("{role} {module}").into();
        let (bytes, source) = self.fetch(role, module, trust).await?;
        let (digest, size) = (Digest::of(&bytes), bytes.len());
        recognize(&bytes).map_err(|reason| ModuleError::NoComponent {
            module: label.clone(),
            reason: reason.to_owned(),
        })?;
        let component = self.compiled(&label, &digest, bytes).await?;
        check_world(&component, role, &label)?;

        let shape = |error: wasmtime::Error| ModuleError::Shape {
            module: label.clone(),
            reason: printable(format!("{error:#}")),
        };
        let linker = match role {
            Role::Gadget => &self.engine.gadgets,
            Role::Formatter => &self.engine.formatters,
        };
        let pre = linker.instantiate_pre(&component).map_err(shape)?;
        let export = |interface_name: &str, function: &str| {
            let instance = component.get_export_index(None, &*interface(interface_name));
            let found = instance.and_then(|i| component.get_export_index(Some(&i), function));
            found.ok_or_else(|| shape(wasmtime::Error::msg(format!("it has no function `{function}`"))))
        };
        let main = match role {
            Role::Gadget => export("gadget", "generate")?,
            Role::Formatter => export("formatter", "format")?,
        };
        let describe = export("module", "describe")?;

        let _permit = self.permit().await;
        let _ticking = self.engine.tick();
        let mut store =
            State::describing(label.clone(), self.limits.clone()).into_store(&self.engine.wasmtime);
        let described = async {
            let instance = pre.instantiate_async(&mut store).await?;
            let describe = instance.get_typed_func::<(), (WitDescription,)>(&mut store, describe);
            let checked = describe.and_then(|describe| {
                match role {
                    Role::Gadget => drop::<Generate>(instance.get_typed_func(&mut store, main)?),
                    Role::Formatter => drop::<Format>(instance.get_typed_func(&mut store, main)?),
                }
                Ok(describe)
            });
            match checked {
                Ok(describe) => describe.call_async(&mut store, ()).await.map(|(d,)| Ok(d)),
                Err(error) => Ok(Err(error)),
            }
        };
        let described = described.await.map_err(|error| {
            let fault = Fault::of(&error, store.data());
            ModuleError::Describe(ModuleFault { module: label.clone(), fault })
        })?;
        let description = check_description(role, described.map_err(shape)?)
            .map_err(|reason| ModuleError::Description { module: label.clone(), reason })?;
        tracing::info!(%source, %digest, "{label} is ready: {} {}", description.name, description.version);
        let limits = self.limits.clone();
        Ok(Module { label, limits, source, digest, size, description, pre, main })
    }

    async fn compiled(
        &self,
        label: &Arc<str>,
        digest: &Digest,
        bytes: std::borrow::Cow<'static, [u8]>,
    ) -> Result<Component, ModuleError> {
        let engine = &self.engine.wasmtime;
        if let Some(component) = self.cache.as_ref().and_then(|cache| cache.load(engine, digest)) {
            return Ok(component);
        }
        let theirs = engine.clone();
        let compilers = self.compilers.clone();
        let compiling = async move {
            let permit = compilers.acquire_owned().await;
            // Nothing can end a compiler. One that nobody waits for any more keeps its place until it is done, so that no
            // more than these are ever at work.
            let compile = move || {
                let _at_work = permit;
                Engine::compile(&theirs, &bytes)
            };
            tokio::task::spawn_blocking(compile).await
        };
        let limit = self.limits.compile;
        let compiled = tokio::time::timeout(limit, compiling)
            .await
            .map_err(|_| ModuleError::Slow { module: label.clone(), limit })?;
        let refused = |reason: String| ModuleError::Compile { module: label.clone(), reason };
        let component = compiled
            .map_err(|_| refused("the compiler gave up".to_owned()))?
            .map_err(|error| refused(printable(format!("{error:#}"))))?;
        if let Some(cache) = &self.cache {
            cache.save(digest, &component);
        }
        Ok(component)
    }
}

/// Tells a component from what else people have in files.
fn recognize(bytes: &[u8]) -> Result<(), &'static str> {
    const HEADER: usize = 8;
    match bytes.get(..HEADER) {
        Some(b"\0asm\x0d\0\x01\0") => Ok(()),
        Some(b"\0asm\x01\0\0\0") => Err(
            "it is a core module; link it with wasm-component-ld, or wrap it with `wasm-tools component new`",
        ),
        Some(header) if header.starts_with(b"\0asm") => {
            Err("it has a version of the format that is not known")
        }
        _ if bytes.is_empty() => Err("it is empty"),
        _ if std::str::from_utf8(bytes).is_ok() => Err("it is text"),
        _ => Err("it does not begin as WebAssembly does"),
    }
}

/// Compares the names of what the component imports and exports with what its kind may and must.
fn check_world(component: &Component, role: Role, label: &Arc<str>) -> Result<(), ModuleError> {
    let engine = component.engine();
    let ty = component.component_type();
    let exports: Vec<&str> = ty.exports(engine).map(|(name, _)| name).collect();
    let imports: Vec<&str> = ty.imports(engine).map(|(name, _)| name).collect();
    let module = || label.clone();

    for name in exports.iter().chain(&imports) {
        if let Some((_, version)) = ours(name)
            && !version.is_some_and(|version| compatible(&CONTRACT, version))
        {
            return Err(ModuleError::Version { module: module(), found: printable((*name).to_owned()) });
        }
    }
    let has = |interface: &str| exports.iter().any(|name| ours(name).is_some_and(|(i, _)| i == interface));
    let missing: Vec<&str> = ["module", role.name()].into_iter().filter(|i| !has(i)).collect();
    if missing.contains(&role.name()) && has(role.other().name()) {
        return Err(ModuleError::OtherRole { module: module(), is: role.other() });
    }
    if !missing.is_empty() {
        let missing = missing.into_iter().map(interface).collect();
        return Err(ModuleError::Exports { module: module(), missing });
    }
    let foreign = |name: &&&str| !ours(name).is_some_and(|(i, _)| role.imports().contains(&i));
    let imports: Vec<_> = imports.iter().filter(foreign).map(|name| printable((*name).to_owned())).collect();
    if imports.is_empty() { Ok(()) } else { Err(ModuleError::Imports { module: module(), role, imports }) }
}

/// Splits the name of an interface of our package.
fn ours(name: &str) -> Option<(&str, Option<&str>)> {
    let rest = name.strip_prefix(PACKAGE)?.strip_prefix('/')?;
    Some(rest.split_once('@').map_or((rest, None), |(interface, version)| (interface, Some(version))))
}

/// Whether a host of the contract `ours` has what a component of this version needs: within a major version (before 1.0: a
/// minor one) the contract only grows, so an older component lacks nothing, and a newer one may.
fn compatible(ours: &Version, version: &str) -> bool {
    let series = |v: &Version| (v.major, if v.major == 0 { v.minor } else { 0 });
    Version::parse(version).is_ok_and(|v| series(&v) == series(ours) && v.pre.is_empty() && v <= *ours)
}

fn check_description(role: Role, described: WitDescription) -> Result<Description, String> {
    let WitDescription { name, version, summary, params, capabilities } = described;
    check_name(&name).map_err(|e| format!("its name {e}"))?;
    let version = Version::parse(&version).map_err(|e| format!("its version is not semantic: {e}"))?;
    check_text(&summary).map_err(|e| format!("its summary {e}"))?;
    if params.len() > PARAMS_MAX {
        return Err(format!("it has {} parameters, more than {PARAMS_MAX}", params.len()));
    }
    let params: Vec<Spec> = params.into_iter().map(Spec::from).collect();
    let mut names = BTreeSet::new();
    for spec in &params {
        check_name(&spec.name).map_err(|e| format!("the name of a parameter {e}"))?;
        check_spec(spec).map_err(|e| format!("parameter {} {e}", spec.name))?;
        if !names.insert(&spec.name) {
            return Err(format!("parameter {} stands twice", spec.name));
        }
    }
    if role == Role::Formatter && !capabilities.is_empty() {
        return Err("it asks for objects of a cluster, which is for gadgets".to_owned());
    }
    let capabilities: Vec<_> = capabilities.into_iter().map(Capability::from).collect();
    check_capabilities(&capabilities)?;
    Ok(Description { name, version, summary, params, capabilities })
}

fn check_capabilities(capabilities: &[Capability]) -> Result<(), String> {
    if capabilities.len() > CAPABILITIES_MAX {
        return Err(format!(
            "it asks for {} kinds of objects, more than {CAPABILITIES_MAX}",
            capabilities.len()
        ));
    }
    let mut kinds = BTreeSet::new();
    for Capability { group, plural, verbs } in capabilities {
        if !is_group(group) || !is_label(plural) {
            return Err(format!(
                "it asks for {plural:?} of group {group:?}, which no kind of object is called"
            ));
        }
        if verbs.is_empty() {
            return Err(format!("it asks for {plural}, and not what to do with them"));
        }
        if !kinds.insert((group, plural)) {
            return Err(format!("it asks for {plural} twice"));
        }
    }
    Ok(())
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

/// Whether this can be an API group: empty, or labels joined by dots.
pub(crate) fn is_group(text: &str) -> bool {
    text.is_empty() || text.len() <= 253 && text.split('.').all(is_label)
}

/// An RFC 1123 label.
pub(crate) fn is_label(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&text.len()) && text.bytes().all(fits) && !text.starts_with('-') && !text.ends_with('-')
}

fn check_spec(spec: &Spec) -> Result<(), String> {
    use crate::params::Kind;
    check_text(&spec.help).map_err(|e| format!("has a help text that {e}"))?;
    if let Kind::Choice(words) = &spec.kind {
        let mut seen = BTreeSet::new();
        for word in words {
            check_text(word).map_err(|e| format!("has a choice that {e}"))?;
            if !seen.insert(word) {
                return Err(format!("has the choice {word} twice"));
            }
        }
        if words.is_empty() {
            return Err("has nothing to choose from".to_owned());
        }
    }
    match &spec.default {
        Some(default) if !spec.kind.has(default) => {
            Err(format!("has a default that it does not accept: it takes {}", spec.kind))
        }
        _ => Ok(()),
    }
}

/// Lower case, words joined by `-`.
fn check_name(name: &str) -> Result<(), String> {
    let is_word = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_lowercase())
            && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    };
    if name.is_empty() {
        Err("is empty".to_owned())
    } else if name.len() > NAME_MAX {
        Err(format!("is longer than {NAME_MAX} bytes"))
    } else if name.split('-').all(is_word) {
        Ok(())
    } else {
        Err(format!("is not of lower-case words joined by `-`: {name:?}"))
    }
}

/// One line for people.
fn check_text(text: &str) -> Result<(), String> {
    if text.trim().is_empty() {
        Err("is empty".to_owned())
    } else if text.len() > TEXT_MAX {
        Err(format!("is longer than {TEXT_MAX} bytes"))
    } else if text.chars().any(char::is_control) {
        Err("holds control characters".to_owned())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_newer_and_of_the_same_series_is_compatible() {
        let rows = [
            ("0.1.0", "0.1.0", true),
            ("0.1.3", "0.1.0", true),
            ("0.1.3", "0.1.3", true),
            ("0.1.3", "0.1.4", false),
            ("0.1.3", "0.1.2-rc.1", false),
            ("0.2.0", "0.1.0", false),
            ("0.1.0", "0.2.0", false),
            ("1.4.0", "1.0.0", true),
            ("1.4.0", "1.3.9", true),
            ("1.4.0", "1.5.0", false),
            ("2.0.0", "1.4.0", false),
            ("0.1.0", "new", false),
        ];
        for (ours, theirs, want) in rows {
            assert_eq!(compatible(&Version::parse(ours).unwrap(), theirs), want, "{theirs} on {ours}");
        }
    }
}
