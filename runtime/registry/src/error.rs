//! What can go wrong between a registry and a module that may be used.

use std::{fmt, time::Duration};

use gadgetd_host::{Digest, FetchError};
use oci_client::secrets::RegistryAuth;
use thiserror::Error;

use crate::{
    credentials::CredentialsError,
    reference::{Reference, ReferenceError},
};

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The artifact's manifest.
    Manifest,
    /// The component.
    Layer,
    /// The list of the artifact's signatures.
    Signatures,
    /// What one signature signs.
    Payload,
    /// The right to ask for any of these.
    Token,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Manifest => "manifest",
            Self::Layer => "component",
            Self::Signatures => "list of signatures",
            Self::Payload => "signature",
            Self::Token => "access token",
        })
    }
}

/// Why an artifact cannot be fetched, verified, signed or pushed. Nothing is kept of one that fails.
#[derive(Debug, Error)]
pub enum Error {
    /// What should be a reference is none.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// The login for the registry cannot be read.
    #[error("cannot read the credentials for {registry}")]
    Credentials {
        /// The registry.
        registry: String,
        /// Why.
        source: CredentialsError,
    },
    /// There is no way in which the artifact could be trusted.
    #[error("no key is given to verify it with, and unsigned modules are not allowed")]
    NobodyIsTrusted,
    /// TLS or the certificates of this machine cannot be set up.
    #[error("cannot set up a client for registries")]
    Client(#[source] reqwest::Error),
    /// No connection.
    #[error("cannot reach the registry {registry}")]
    Unreachable {
        /// The registry.
        registry: String,
        /// Why.
        source: reqwest::Error,
    },
    /// A connection, and then nothing.
    #[error("the registry {registry} says nothing for {}", humantime(*.waited))]
    Silent {
        /// The registry.
        registry: String,
        /// For so long.
        waited: Duration,
    },
    /// It all takes too long.
    #[error("the registry {registry} takes more than {} in all", humantime(*.limit))]
    Deadline {
        /// The registry.
        registry: String,
        /// The limit.
        limit: Duration,
    },
    /// It does not speak HTTP as it should.
    #[error("the registry {registry} does not answer as a registry does")]
    Protocol {
        /// The registry.
        registry: String,
        /// What is wrong.
        source: reqwest::Error,
    },
    /// It wants to know who asks, in a way that is not known, or that would tell others.
    #[error("the registry {registry} asks for a login in a way that cannot be followed: {reason}")]
    Challenge {
        /// The registry.
        registry: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Not allowed.
    #[error(
        "the registry {registry} gives no access to {repository} {}",
        if *.known { "with the login that is stored for it" } else { "without a login: use `docker login`" }
    )]
    Denied {
        /// The registry.
        registry: String,
        /// The repository.
        repository: String,
        /// Whether there was a login for it.
        known: bool,
    },
    /// It is not there.
    #[error("there is no {part} at {place}")]
    NotFound {
        /// What was asked for.
        part: Part,
        /// Where.
        place: String,
    },
    /// Another answer than the wanted one.
    #[error("the registry {registry} answers {status} for the {part}{}", saying(.message))]
    Status {
        /// The registry.
        registry: String,
        /// What was asked for.
        part: Part,
        /// The HTTP status.
        status: u16,
        /// What the registry says about it, if anything.
        message: String,
    },
    /// It wants somebody else to be asked.
    #[error(
        "the registry {registry} sends for the {part} to {to}, and is not trusted to{}",
        if *.part == Part::Layer { "; allow that host for components if it is the registry's own" } else { "" }
    )]
    Redirect {
        /// The registry.
        registry: String,
        /// What was asked for.
        part: Part,
        /// Where to.
        to: String,
    },
    /// More than anything of its kind has.
    #[error("the {part} has more than {limit} bytes, which is what one may have")]
    TooLarge {
        /// What was asked for.
        part: Part,
        /// The limit, in bytes.
        limit: u64,
    },
    /// More than the manifest says.
    #[error("the {part} is longer than the {declared} bytes that its manifest declares")]
    Longer {
        /// What was asked for.
        part: Part,
        /// So many bytes it should have.
        declared: u64,
    },
    /// Less than there should be.
    #[error("the {part} ends after {received} of {declared} bytes")]
    Truncated {
        /// What was asked for.
        part: Part,
        /// So many bytes came.
        received: u64,
        /// So many should have.
        declared: u64,
    },
    /// Not what was asked for.
    #[error("the {part} is not what was asked for: its digest is {found}, and not {wanted}")]
    Tampered {
        /// What was asked for.
        part: Part,
        /// The digest that it should have.
        wanted: Digest,
        /// The digest that it has.
        found: Digest,
    },
    /// Something else is there.
    #[error("it is no WebAssembly artifact: {0}")]
    NoModule(String),
    /// Its signatures are in a form that is not known.
    #[error("its signatures are not in cosign's form: {0}")]
    Signatures(String),
    /// Nobody signed it.
    #[error("{0} is not signed, and unsigned modules are not allowed")]
    Unsigned(Digest),
    /// Somebody else signed it.
    #[error("{digest} is signed, but not with {keys}: {looked_at} signatures were looked at")]
    Stranger {
        /// The artifact.
        digest: Digest,
        /// The keys that were given.
        keys: String,
        /// How many signatures there were.
        looked_at: usize,
    },
    /// The signature is good, and for something else.
    #[error("the signature at {digest} is good, and for {signed}: it was copied there")]
    OtherDigest {
        /// The artifact.
        digest: Digest,
        /// What the signature says.
        signed: String,
    },
    /// What is pushed does not arrive.
    #[error("cannot push to {registry}: {reason}")]
    Push {
        /// The registry.
        registry: String,
        /// Why.
        reason: String,
    },
}

impl Error {
    /// No access, with this login.
    pub(crate) fn denied(reference: &Reference, login: &RegistryAuth) -> Self {
        Self::Denied {
            registry: reference.registry().to_owned(),
            repository: reference.repository().to_owned(),
            known: *login != RegistryAuth::Anonymous,
        }
    }

    /// Whether trying again later may help, with nothing changed here or there.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::Silent { .. }
            | Self::Deadline { .. }
            | Self::Protocol { .. }
            | Self::Truncated { .. } => true,
            Self::Status { status, .. } => *status == 429 || *status >= 500,
            _ => false,
        }
    }
}

impl From<Error> for FetchError {
    fn from(error: Error) -> Self {
        Self { temporary: error.is_temporary(), reason: error.into() }
    }
}

fn humantime(time: Duration) -> String {
    match time.subsec_millis() {
        0 => format!("{} s", time.as_secs()),
        _ => format!("{} ms", time.as_millis()),
    }
}

fn saying(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}
