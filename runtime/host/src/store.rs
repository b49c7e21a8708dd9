//! Where modules come from: built in, or a file.

use std::{
    borrow::Cow,
    fmt,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use crate::{
    fault::bytes,
    module::{ModuleError, Role},
};

type BuiltIn = (&'static str, &'static [u8]);

const GADGETS: [BuiltIn; 2] = [
    ("seccomp", include_bytes!(env!("COMPONENT_SECCOMP_ADVISOR"))),
    ("seccomp-diff", include_bytes!(env!("COMPONENT_SECCOMP_DIFF"))),
];
const FORMATTERS: [BuiltIn; 5] = [
    ("html", include_bytes!(env!("COMPONENT_FORMATTER_HTML"))),
    ("oci", include_bytes!(env!("COMPONENT_FORMATTER_OCI"))),
    ("spo", include_bytes!(env!("COMPONENT_FORMATTER_SPO"))),
    ("systemd", include_bytes!(env!("COMPONENT_FORMATTER_SYSTEMD"))),
    ("table", include_bytes!(env!("COMPONENT_FORMATTER_TABLE"))),
];

/// How a user names a module.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ModuleRef {
    /// One that is a part of gadgetd.
    BuiltIn(String),
    /// A component in a file.
    File(PathBuf),
}

impl ModuleRef {
    /// What has a `/` or ends in `.wasm` is a file, anything else the name of a built-in module.
    ///
    /// ```
    /// use gadgetd_host::ModuleRef;
    ///
    /// assert_eq!(ModuleRef::parse("oci"), ModuleRef::BuiltIn("oci".into()));
    /// assert_eq!(ModuleRef::parse("./mine"), ModuleRef::File("./mine".into()));
    /// ```
    pub fn parse(text: &str) -> Self {
        let is_file = text.contains('/') || Path::new(text).extension().is_some_and(|e| e == "wasm");
        if is_file { Self::File(text.into()) } else { Self::BuiltIn(text.into()) }
    }
}

impl fmt::Display for ModuleRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn(name) => f.write_str(name),
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
        Role::Gadget => &GADGETS,
        Role::Formatter => &FORMATTERS,
    }
}

/// The bytes of a module. `limit` is how many a file may have.
pub(crate) fn fetch(role: Role, module: &ModuleRef, limit: u64) -> Result<Cow<'static, [u8]>, ModuleError> {
    match module {
        ModuleRef::BuiltIn(name) => {
            let found = table(role).iter().find(|(known, _)| known == name);
            let found = found.map(|(_, bytes)| Cow::Borrowed(*bytes));
            found.ok_or_else(|| unknown(role, name))
        }
        ModuleRef::File(path) => read(role, path, limit).map(Cow::Owned),
    }
}

fn unknown(role: Role, name: &str) -> ModuleError {
    let mut known: Vec<&str> = built_in(role).collect();
    known.sort_by(|a, b| likeness(name, b).total_cmp(&likeness(name, a)));
    ModuleError::Unknown { role: Some(role), name: name.to_owned(), known }
}

fn read(role: Role, path: &Path, limit: u64) -> Result<Vec<u8>, ModuleError> {
    let failed = |source| ModuleError::Read { role, path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(failed(std::io::Error::other("it is no regular file")));
    }
    let mut content = Vec::new();
    // One byte more than allowed, and no more than that: the file may grow while it is read.
    file.take(limit + 1).read_to_end(&mut content).map_err(failed)?;
    if content.len() as u64 > limit {
        let limit = bytes(usize::try_from(limit).unwrap_or(usize::MAX));
        return Err(ModuleError::TooLarge { role, path: path.to_owned(), limit });
    }
    Ok(content)
}

/// The known name that a user most probably meant.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    let best = known.max_by(|a, b| likeness(name, a).total_cmp(&likeness(name, b)))?;
    (likeness(name, best) > 0.75).then(|| best.to_owned())
}

fn likeness(a: &str, b: &str) -> f64 {
    strsim::jaro_winkler(a, b)
}
