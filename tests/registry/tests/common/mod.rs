//! What all of these tests begin with: a module, keys, and a client with a cache to look into.

#![allow(dead_code)] // Each test program uses a part of it.

use std::{fs, sync::LazyLock, time::Duration};

use gadgetd_host::{Digest, Fetched, Trust};
use gadgetd_registry::{About, Client, Config, Credentials, Error, PrivateKey, Reference};
use gadgetd_registry_tests::Registry;
use tempfile::TempDir;

/// Much more than the module has.
pub(crate) const LIMIT: u64 = 32 << 20;

/// A module that does nothing wrong.
pub(crate) static MODULE: LazyLock<Vec<u8>> = LazyLock::new(|| gadgetd_guests::gadget(None));

/// Somebody who is trusted.
pub(crate) static ME: LazyLock<PrivateKey> = LazyLock::new(PrivateKey::generate);

/// Somebody who is not.
pub(crate) static STRANGER: LazyLock<PrivateKey> = LazyLock::new(PrivateKey::generate);

pub(crate) fn trust(keys: &[&PrivateKey], allow_unsigned: bool) -> Trust {
    Trust { keys: keys.iter().map(|key| key.public()).collect(), allow_unsigned }
}

pub(crate) fn reference(text: &str) -> Reference {
    Reference::parse(text).expect(text)
}

/// Nobody's login is looked up, and nothing takes long.
pub(crate) fn config() -> Config {
    Config { credentials: Credentials::None, deadline: Duration::from_secs(30), ..Config::default() }
}

/// A client, and the folder in which it keeps what it fetched.
pub(crate) struct Fetcher {
    pub(crate) client: Client,
    cache: TempDir,
}

impl Fetcher {
    pub(crate) fn new() -> Self {
        Self::with(config())
    }

    pub(crate) fn with(config: Config) -> Self {
        let cache = tempfile::tempdir().unwrap();
        let config = Config { cache_dir: Some(cache.path().to_owned()), ..config };
        Self { client: Client::new(config), cache }
    }

    pub(crate) async fn fetch(&self, text: &str, trust: &Trust) -> Result<Fetched, Error> {
        self.client.fetch(&reference(text), trust, LIMIT).await
    }

    /// Fetches what must not be had, and looks that nothing was kept of it.
    pub(crate) async fn refused(&self, text: &str, trust: &Trust) -> Error {
        match self.fetch(text, trust).await {
            Ok(fetched) => panic!("{text} was fetched: {}", fetched.origin),
            Err(error) => {
                assert_eq!(self.kept(), Vec::<String>::new(), "something was kept in spite of: {error}");
                error
            }
        }
    }

    /// The names of the files that are kept.
    pub(crate) fn kept(&self) -> Vec<String> {
        let files = fs::read_dir(self.cache.path()).unwrap();
        files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// The folder.
    pub(crate) fn folder(&self) -> &std::path::Path {
        self.cache.path()
    }
}

/// A registry that has the module as `mine:1`, signed by me, and where it is: with its digest.
pub(crate) async fn signed() -> (Registry, String) {
    let registry = Registry::start();
    let pushed = push(&registry, "mine:1").await;
    Client::new(config()).sign(&reference(&pushed), &ME).await.unwrap();
    (registry, pushed)
}

/// Pushes the module, and returns where it is.
pub(crate) async fn push(registry: &Registry, name: &str) -> String {
    let text = format!("{}/{name}", registry.address());
    let about = About { name: "hostile".into(), ..About::default() };
    let digest = Client::new(config()).push(&reference(&text), MODULE.clone(), &about).await.unwrap();
    format!("{text}@{digest}")
}

/// The digest at the end of a reference.
pub(crate) fn digest(text: &str) -> Digest {
    Digest::parse(text.split_once('@').expect("it has a digest").1).unwrap()
}
