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
    /// Connect to registries without TLS. Connections to localhost use TLS only with --ca.
    #[arg(long, conflicts_with = "ca")]
    pub plain_http: bool,

    /// Also trust this certificate authority (a file in PEM), and use TLS for every connection; may be repeated.
    #[arg(long, env = "GADGETD_CA", value_name = "FILE", value_delimiter = ',')]
    pub ca: Vec<PathBuf>,

    /// A host to which registries may redirect for a component, such as `pkg-containers.githubusercontent.com` or
    /// `*.example.com`; may be repeated. gadgetd uses https, does not send the login, and verifies the component.
    #[arg(long = "blob-host", env = "GADGETD_BLOB_HOSTS", value_name = "HOST", value_delimiter = ',')]
    pub blob_hosts: Vec<String>,
}

/// Whose modules are taken out of registries.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = HEADING)]
pub(crate) struct TrustArgs {
    /// Accept modules from registries that are signed with this public key (a file in PEM); may be repeated.
    #[arg(long = "key", value_name = "FILE")]
    pub keys: Vec<PathBuf>,

    /// Accept unsigned modules from registries. With --key, gadgetd still refuses a module that is signed with another
    /// key.
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
