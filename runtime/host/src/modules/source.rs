//! Where modules come from: built in, a file, or a registry.

use std::{
    borrow::Cow,
    fmt,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use super::{
    error::ModuleError,
    registry::{FetchRequest, Fetched, Registry, Source},
    role::Role,
    trust::Trust,
};
use crate::text::{similarity, size};

type BuiltIn = (&'static str, &'static [u8]);

const GADGETS: &[BuiltIn] = &[
    ("seccomp", include_bytes!(env!("COMPONENT_SECCOMP_ADVISOR"))),
    #[cfg(feature = "all-modules")]
    ("seccomp-diff", include_bytes!(env!("COMPONENT_SECCOMP_DIFF"))),
];
const FORMATTERS: &[BuiltIn] = &[
    #[cfg(feature = "all-modules")]
    ("html", include_bytes!(env!("COMPONENT_FORMATTER_HTML"))),
    ("oci", include_bytes!(env!("COMPONENT_FORMATTER_OCI"))),
    #[cfg(feature = "all-modules")]
    ("spo", include_bytes!(env!("COMPONENT_FORMATTER_SPO"))),
    #[cfg(feature = "all-modules")]
    ("systemd", include_bytes!(env!("COMPONENT_FORMATTER_SYSTEMD"))),
    #[cfg(feature = "all-modules")]
    ("table", include_bytes!(env!("COMPONENT_FORMATTER_TABLE"))),
];

/// How a user names a module.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ModuleRef {
    /// One that is a part of gadgetd.
    BuiltIn(String),
    /// A component in a file.
    File(PathBuf),
    /// A component in a container registry, as `REGISTRY/REPOSITORY[:TAG][@sha256:…]`.
    Registry(String),
}

impl ModuleRef {
    /// A text that begins with `/`, `./` or `../`, or ends in `.wasm`, is a file; any other with a `/` is in a registry; and
    /// the rest are names of built-in modules.
    ///
    /// ```
    /// use gadgetd_host::ModuleRef;
    ///
    /// assert_eq!(ModuleRef::parse("oci"), ModuleRef::BuiltIn("oci".into()));
    /// assert_eq!(ModuleRef::parse("./mine"), ModuleRef::File("./mine".into()));
    /// assert_eq!(ModuleRef::parse("target/mine.wasm"), ModuleRef::File("target/mine.wasm".into()));
    /// assert_eq!(ModuleRef::parse("ghcr.io/me/mine:1.0"), ModuleRef::Registry("ghcr.io/me/mine:1.0".into()));
    /// ```
    pub fn parse(text: &str) -> Self {
        let is_path = ["/", "./", "../"].iter().any(|start| text.starts_with(start));
        if is_path || Path::new(text).extension().is_some_and(|e| e == "wasm") {
            Self::File(text.into())
        } else if text.contains('/') {
            Self::Registry(text.into())
        } else {
            Self::BuiltIn(text.into())
        }
    }
}

impl fmt::Display for ModuleRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn(name) | Self::Registry(name) => f.write_str(name),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// The names of the modules of one kind that are a part of gadgetd.
pub fn built_in(role: Role) -> impl Iterator<Item = &'static str> {
    table(role).iter().map(|(name, _)| *name)
}

fn table(role: Role) -> &'static [BuiltIn] {
    match role {
        Role::Gadget => GADGETS,
        Role::Formatter => FORMATTERS,
    }
}

/// The bytes of a module, no more than `max_bytes`, and where they came from.
pub(crate) async fn fetch(
    role: Role,
    module: &ModuleRef,
    trust: &Trust,
    max_bytes: u64,
    registry: Option<&dyn Registry>,
) -> Result<(Cow<'static, [u8]>, Source), ModuleError> {
    match module {
        ModuleRef::BuiltIn(name) => {
            let found = table(role).iter().find(|(known, _)| known == name);
            let (_, bytes) = found.ok_or_else(|| unknown(role, name))?;
            Ok((Cow::Borrowed(*bytes), Source::BuiltIn))
        }
        ModuleRef::File(path) => {
            let bytes = read(role, path, max_bytes)?;
            Ok((Cow::Owned(bytes), Source::File(path.clone())))
        }
        ModuleRef::Registry(reference) => {
            let no_registry = || ModuleError::NoRegistry { role, reference: reference.clone() };
            let registry = registry.ok_or_else(no_registry)?;
            let fetched = registry.fetch(FetchRequest { reference, trust, limit: max_bytes }).await;
            let Fetched { bytes, origin } = fetched.map_err(|error| ModuleError::Fetch {
                role,
                reference: reference.clone(),
                temporary: error.temporary,
                source: error.reason,
            })?;
            Ok((Cow::Owned(bytes), Source::Registry(origin)))
        }
    }
}

fn unknown(role: Role, name: &str) -> ModuleError {
    let mut known: Vec<&str> = built_in(role).collect();
    known.sort_by(|a, b| similarity(name, b).total_cmp(&similarity(name, a)));
    ModuleError::Unknown { role: Some(role), name: name.to_owned(), known }
}

fn read(role: Role, path: &Path, max_bytes: u64) -> Result<Vec<u8>, ModuleError> {
    let failed = |source| ModuleError::Read { role, path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(failed(std::io::Error::other("it is no regular file")));
    }
    let mut content = Vec::new();
    // One byte more than allowed, and no more than that: the file may grow while it is read.
    file.take(max_bytes + 1).read_to_end(&mut content).map_err(failed)?;
    if content.len() as u64 > max_bytes {
        let limit = size(usize::try_from(max_bytes).unwrap_or(usize::MAX));
        return Err(ModuleError::TooLarge { role, path: path.to_owned(), limit });
    }
    Ok(content)
}
