//! Modules in container registries: the interface to what fetches them, and the origin that the host remembers.

use std::{error::Error, fmt, future::Future, path::PathBuf, pin::Pin};

use thiserror::Error as ThisError;

use super::{
    digest::Digest,
    trust::{KeyId, Trust},
};

/// Fetches modules from container registries.
///
/// The host compiles the result. So an implementation verifies the manifest's signature against
/// [`FetchRequest::trust`] first, then the layer's size and digest against the manifest, and returns a module only if
/// all of it passes.
pub trait Registry: fmt::Debug + Send + Sync {
    /// Fetches one module.
    fn fetch<'a>(&'a self, request: FetchRequest<'a>) -> FetchFuture<'a>;
}

/// A module to come.
pub type FetchFuture<'a> = Pin<Box<dyn Future<Output = Result<Fetched, FetchError>> + Send + 'a>>;

/// A module to fetch, and the conditions.
#[derive(Clone, Copy, Debug)]
pub struct FetchRequest<'a> {
    /// `REGISTRY/REPOSITORY[:TAG][@sha256:…]`, as a user wrote it.
    pub reference: &'a str,
    /// The keys of which one must have signed it.
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
    /// The cause.
    #[source]
    pub reason: Box<dyn Error + Send + Sync>,
}
