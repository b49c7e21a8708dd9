//! `REGISTRY/REPOSITORY[:TAG][@sha256:…]`.

use std::{fmt, net::IpAddr};

use gadgetd_host::Digest;
use oci_client::{ParseError, Reference as OciReference};
use reqwest::Url;
use thiserror::Error;

/// Where an artifact is. Without tag and digest it is the tag `latest`; with both, the digest says which one.
///
/// Unlike container engines this takes no registry for granted: `me/mine` is nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    inner: OciReference,
    digest: Option<Digest>,
}

/// Why a text is no reference.
#[derive(Debug, Error)]
pub enum ReferenceError {
    /// It has no registry.
    #[error(
        "{0:?} names no registry: write REGISTRY/REPOSITORY:TAG, as ghcr.io/me/mine:1.0 (a file: ./PATH)"
    )]
    Registry(String),
    /// No server can be called like that.
    #[error("{0:?} names no server that there can be: write HOST/… or HOST:PORT/…, with a port up to 65535")]
    Server(String),
    /// It has a digest that is not SHA-256.
    #[error("{0:?} has another digest than SHA-256 in lower case")]
    Digest(String),
    /// It is wrong in another way.
    #[error("{text:?} is no reference to an artifact in a registry")]
    Form {
        /// What was given.
        text: String,
        /// What is wrong with it.
        source: ParseError,
    },
    /// It has no tag, where something is to get a name.
    #[error("{0} has a digest, and what is pushed is only then known by its own: name a tag")]
    NoTag(Reference),
}

impl Reference {
    /// Reads a reference.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        let registry = text.split_once('/').map_or("", |(registry, _)| registry);
        if registry != "localhost" && !registry.contains(['.', ':']) {
            return Err(ReferenceError::Registry(text.to_owned()));
        }
        let parsed = text.parse::<OciReference>();
        let inner = parsed.map_err(|source| ReferenceError::Form { text: text.to_owned(), source })?;
        if Url::parse(&format!("https://{}/", inner.resolve_registry())).is_err() {
            return Err(ReferenceError::Server(text.to_owned()));
        }
        let digest = match inner.digest().map(Digest::parse) {
            Some(None) => return Err(ReferenceError::Digest(text.to_owned())),
            Some(digest) => digest,
            None => None,
        };
        Ok(Self { inner, digest })
    }

    /// The host, and the port if there is one.
    pub fn registry(&self) -> &str {
        self.inner.registry()
    }

    /// The path below the registry.
    pub fn repository(&self) -> &str {
        self.inner.repository()
    }

    /// The digest of the manifest, if it is said.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// Without the digest.
    pub fn name(&self) -> String {
        let Self { inner, .. } = self;
        let tag = inner.tag().map(|tag| format!(":{tag}")).unwrap_or_default();
        format!("{}/{}{tag}", inner.registry(), inner.repository())
    }

    /// The host that is asked.
    pub(crate) fn server(&self) -> &str {
        self.inner.resolve_registry()
    }

    /// What stands for the manifest in the URL of one.
    pub(crate) fn manifest(&self) -> String {
        match (self.digest, self.inner.tag()) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.unwrap_or("latest").to_owned(),
        }
    }

    /// In the same repository, another tag.
    pub(crate) fn with_tag(&self, tag: String) -> OciReference {
        OciReference::with_tag(self.registry().to_owned(), self.repository().to_owned(), tag)
    }

    /// The tag that is to be pushed to.
    pub(crate) fn to_push(&self) -> Result<&OciReference, ReferenceError> {
        match self.digest {
            Some(_) => Err(ReferenceError::NoTag(self.clone())),
            None => Ok(&self.inner),
        }
    }

    /// Whether the registry is on this machine, so that nobody is between it and us.
    pub(crate) fn is_local(&self) -> bool {
        let host = self.server();
        let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read() {
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let digest = format!("sha256:{hex}");
        for (text, name, manifest, local) in [
            ("ghcr.io/me/mine", "ghcr.io/me/mine:latest", "latest", false),
            ("ghcr.io/me/mine:1.0", "ghcr.io/me/mine:1.0", "1.0", false),
            ("localhost/mine:1", "localhost/mine:1", "1", true),
            ("localhost:5000/mine:1", "localhost:5000/mine:1", "1", true),
            ("127.8.0.1:5000/a/b/c:1", "127.8.0.1:5000/a/b/c:1", "1", true),
            ("localhost.example.com/mine:1", "localhost.example.com/mine:1", "1", false),
            (&format!("ghcr.io/me/mine@{digest}"), "ghcr.io/me/mine", &digest, false),
            (&format!("ghcr.io/me/mine:1@{digest}"), "ghcr.io/me/mine:1", &digest, false),
        ] {
            let reference = Reference::parse(text).expect(text);
            assert_eq!(reference.name(), name, "{text}");
            assert_eq!(reference.manifest(), manifest, "{text}");
            assert_eq!(reference.is_local(), local, "{text}");
        }
        for text in ["", "mine", "me/mine", "target/mine", "/x", "ghcr.io/", "ghcr.io/Mine", "ghcr.io/a:b:c"]
        {
            assert!(Reference::parse(text).is_err(), "{text}");
        }
        // They have the form, and no server is called so.
        for text in ["ghcr.io:99999/x", "registry.123/x", "999.1.1.1/x", "xn--a.io/x"] {
            assert!(matches!(Reference::parse(text), Err(ReferenceError::Server(_))), "{text}");
        }
        for digest in ["sha256:12", &format!("sha256:{}", hex.to_uppercase()), &format!("sha512:{hex}{hex}")]
        {
            assert!(Reference::parse(&format!("ghcr.io/me/mine@{digest}")).is_err(), "{digest}");
        }
    }
}
