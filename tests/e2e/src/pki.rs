//! The certificates of one cluster.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use serde_json::json;
use tempfile::NamedTempFile;

/// One authority signs for servers and clients alike: this cluster trusts nobody else.
pub(crate) struct Pki {
    folder: PathBuf,
    authority: CertifiedIssuer<'static, KeyPair>,
}

/// The files of a certificate and its key.
pub(crate) struct Pair {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Pki {
    pub(crate) fn new(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "gadgetd-e2e");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        fs::write(folder.join("ca.crt"), authority.pem())?;

        let accounts = KeyPair::generate()?;
        write_key(&folder.join("accounts.key"), &accounts)?;
        fs::write(folder.join("accounts.pub"), accounts.public_key_pem())?;
        // The controller manager signs certificates of the cluster.
        write_key(&folder.join("ca.key"), authority.key())?;
        Ok(Self { folder: folder.to_owned(), authority })
    }

    /// A file of this folder: `ca.crt`, `ca.key`, `accounts.key` and `accounts.pub` are always there.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A certificate for `user` of `group`, as whom its holder is known, valid for the names and addresses of
    /// `hosts`. Made once for each file name.
    pub(crate) fn pair(&self, file: &str, user: &str, group: Option<&str>, hosts: &[&str]) -> Result<Pair> {
        let pair =
            Pair { certificate: self.file(&format!("{file}.crt")), key: self.file(&format!("{file}.key")) };
        if pair.certificate.exists() {
            return Ok(pair);
        }
        let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(hosts)?;
        params.distinguished_name.remove(DnType::CommonName);
        params.distinguished_name.push(DnType::CommonName, user);
        if let Some(group) = group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.authority)?;
        write_key(&pair.key, &key)?;
        fs::write(&pair.certificate, certificate.pem())?;
        Ok(pair)
    }

    /// Writes a kubeconfig for the server at `url`; `user` is how its holder proves who he is.
    pub(crate) fn kubeconfig(&self, name: &str, url: &str, user: &serde_json::Value) -> Result<PathBuf> {
        let path = self.file(&format!("{name}.kubeconfig"));
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{
                "name": "e2e",
                "cluster": {"server": url, "certificate-authority": self.file("ca.crt")},
            }],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": "e2e", "context": {"cluster": "e2e", "user": name}}],
            "current-context": "e2e",
        });
        // Somebody may be reading it: there is never half of it.
        let mut draft = NamedTempFile::new_in(&self.folder)?;
        draft.write_all(&serde_json::to_vec_pretty(&config)?)?;
        draft.persist(&path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}

/// The `user` part of a kubeconfig that has a certificate.
pub(crate) fn by_certificate(pair: &Pair) -> serde_json::Value {
    json!({"client-certificate": pair.certificate, "client-key": pair.key})
}

fn write_key(path: &Path, key: &KeyPair) -> Result<()> {
    Ok(fs::write(path, key.serialize_pem())?)
}
