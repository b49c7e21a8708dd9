//! What users say about registries, and about whom they trust.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use clap::Args;
use gadgetd_host::{PublicKey, Trust};
use gadgetd_registry::{Client, Config, Encryption};

const HEADING: &str = "Modules from registries";

/// How registries are reached.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = HEADING)]
pub(crate) struct RegistryArgs {
    /// Do not encrypt connections to registries. To those on this machine they never are, unless there is a --ca.
    #[arg(long, conflicts_with = "ca")]
    pub plain_http: bool,

    /// Trust this authority too (a file of certificates in PEM), and encrypt every connection; may be repeated.
    #[arg(long, env = "GADGETD_CA", value_name = "FILE", value_delimiter = ',')]
    pub ca: Vec<PathBuf>,

    /// A host that registries may send to for a component, as `pkg-containers.githubusercontent.com` or `*.example.com`; may be
    /// repeated. It is asked by https, without the login, and what it sends is verified.
    #[arg(long = "blob-host", env = "GADGETD_BLOB_HOSTS", value_name = "HOST", value_delimiter = ',')]
    pub blob_hosts: Vec<String>,
}

/// Whose modules are taken out of registries.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = HEADING)]
pub(crate) struct TrustArgs {
    /// Take a module out of a registry if it is signed with the private half of this public key (a file in PEM); may be
    /// repeated.
    #[arg(long = "key", value_name = "FILE")]
    pub keys: Vec<PathBuf>,

    /// Take a module out of a registry even if nobody signed it. If there are keys and it is signed with another, it is
    /// refused all the same.
    #[arg(long)]
    pub allow_unsigned: bool,
}

impl RegistryArgs {
    /// A client that keeps artifacts in this folder.
    pub(crate) fn client(&self, cache_dir: Option<PathBuf>) -> Result<Arc<Client>> {
        self.patient_client(cache_dir, Config::default().deadline)
    }

    /// A client for somebody who is ready to wait this long, as to push through a narrow line.
    pub(crate) fn patient_client(
        &self,
        cache_dir: Option<PathBuf>,
        deadline: Duration,
    ) -> Result<Arc<Client>> {
        let encryption = match (self.plain_http, self.ca.is_empty()) {
            (true, _) => Encryption::Never,
            (false, true) => Encryption::Remote,
            (false, false) => Encryption::Always,
        };
        let authorities = self.ca.iter().map(|file| read(file)).collect::<Result<_>>()?;
        let blob_hosts = self.blob_hosts.clone();
        let config = Config { deadline, encryption, authorities, blob_hosts, cache_dir, ..Config::default() };
        Ok(Arc::new(Client::new(config)))
    }
}

impl TrustArgs {
    /// Reads the keys.
    pub(crate) fn trust(&self) -> Result<Trust> {
        let key = |file: &PathBuf| {
            PublicKey::from_pem(&read(file)?)
                .with_context(|| format!("cannot use {} as a public key", file.display()))
        };
        let keys = self.keys.iter().map(key).collect::<Result<_>>()?;
        Ok(Trust { keys, allow_unsigned: self.allow_unsigned })
    }
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}
