//! Modules out of a container registry: what the host asks of whoever fetches them, and what it keeps about them.

use std::{error::Error, fmt, future::Future, path::PathBuf, pin::Pin};

use thiserror::Error as ThisError;

use crate::{
    module::Digest,
    trust::{KeyId, Trust},
};

/// Fetches modules from container registries.
///
/// What it gives back is what the host compiles: so it has verified the manifest's signature against
/// [`Wanted::trust`] first, then the layer's size and digest against the manifest, and hands out nothing that has not
/// passed all of it.
pub trait Registry: fmt::Debug + Send + Sync {
    /// Fetches one module.
    fn fetch<'a>(&'a self, wanted: Wanted<'a>) -> Fetching<'a>;
}

/// A module to come.
pub type Fetching<'a> = Pin<Box<dyn Future<Output = Result<Fetched, FetchError>> + Send + 'a>>;

/// Which module, and on which conditions.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// `REGISTRY/REPOSITORY[:TAG][@sha256:…]`, as a user wrote it.
    pub reference: &'a str,
    /// Who must have signed it.
    pub trust: &'a Trust,
    /// How large it may be, in bytes.
    pub limit: u64,
}

/// A module that was fetched and verified.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The component.
    pub bytes: Vec<u8>,
    /// Where it came from.
    pub origin: Origin,
}

/// Where a module in a registry is, and who vouches for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// `REGISTRY/REPOSITORY`, and the tag if one was asked for.
    pub repository: String,
    /// The SHA-256 of its manifest: what a signature signs, and what `@sha256:…` means in a reference.
    pub manifest: Digest,
    /// The key that its signature was verified with; none if it was used unsigned.
    pub signed_by: Option<KeyId>,
}

impl fmt::Display for Origin {
    /// The reference that always means this very module.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.repository, self.manifest)
    }
}

/// Where a module came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// It is a part of gadgetd.
    BuiltIn,
    /// A file.
    File(PathBuf),
    /// A registry.
    Registry(Origin),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn => f.write_str("built in"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Registry(origin) => match origin.signed_by {
                Some(key) => write!(f, "{origin}, signed with key {key}"),
                None => write!(f, "{origin}, not signed"),
            },
        }
    }
}

/// Why a module cannot be fetched.
#[derive(Debug, ThisError)]
#[error("cannot fetch a module")]
pub struct FetchError {
    /// Whether trying again later may help: the registry cannot be reached, or is overloaded.
    pub temporary: bool,
    /// What happened.
    #[source]
    pub reason: Box<dyn Error + Send + Sync>,
}
