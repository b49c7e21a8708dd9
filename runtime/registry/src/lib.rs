//! Modules in container registries: pushes, signs, verifies and fetches them.
//!
//! A module is an OCI artifact in the layout that the WebAssembly world agreed on, and its signatures are those of cosign
//! with a pair of keys; other tools can read and write both. A registry is not trusted: what it sends has a largest size, each wait
//! has an end, a manifest must be signed by somebody who is trusted before the component is asked for, and the component must
//! be what the manifest says. [`Client`] is what the host asks for modules.
//!
//! ```no_run
//! use std::{path::Path, sync::Arc};
//!
//! use gadgetd_host::{Host, HostConfig, ModuleRef, PublicKey, Trust};
//! use gadgetd_registry::{About, Client, Config, PrivateKey, Reference};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let registry = Arc::new(Client::new(Config::default()));
//!
//! // Whoever writes a module pushes and signs it …
//! let tag = Reference::parse("ghcr.io/me/count:1.0")?;
//! let digest = registry.push(&tag, std::fs::read("count.wasm")?, &About::default()).await?;
//! let pushed = Reference::parse(&format!("ghcr.io/me/count:1.0@{digest}"))?;
//! registry.sign(&pushed, &PrivateKey::read(Path::new("me.key"))?).await?;
//!
//! // … and whoever trusts them runs it.
//! let key = PublicKey::from_pem(&std::fs::read_to_string("me.pub")?)?;
//! let trust = Trust { keys: vec![key], allow_unsigned: false };
//! let host = Host::new(HostConfig { registry: Some(registry), ..HostConfig::default() })?;
//! let gadget = host.gadget_from(&ModuleRef::parse("ghcr.io/me/count:1.0"), &trust).await?;
//! println!("{}", gadget.source());
//! # Ok(())
//! # }
//! ```

mod artifact;
mod cache;
mod client;
mod credentials;
mod error;
mod key;
mod reference;
mod session;
mod signature;

pub use self::{
    artifact::{About, CONFIG as CONFIG_MEDIA_TYPE, LAYER as LAYER_MEDIA_TYPE},
    client::{Client, Config, Encryption},
    credentials::{Credentials, CredentialsError},
    error::{Error, Part},
    key::{PrivateKey, PrivateKeyError},
    reference::{Reference, ReferenceError},
};
