//! Who we are to a registry: what `docker login` and `podman login` wrote down.

use std::{
    env,
    fs::File,
    io::{self, BufReader},
    path::{Path, PathBuf},
};

use docker_credential::{CredentialRetrievalError, DockerCredential, get_credential_from_reader};
use oci_client::secrets::RegistryAuth;
use thiserror::Error;

/// Under which names the login for Docker's own registry is kept: by docker, and by podman.
const DOCKER_HUB: [&str; 2] = ["https://index.docker.io/v1/", "docker.io"];

/// Where logins are looked up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Credentials {
    /// Where other tools have them: `$REGISTRY_AUTH_FILE`, or else `config.json` in `$DOCKER_CONFIG` or `~/.docker`, or
    /// else `containers/auth.json` in `$XDG_RUNTIME_DIR`. The first that exists is used. A credential helper that is
    /// named there is run.
    #[default]
    Usual,
    /// In this file, which has the form of Docker's `config.json`.
    File(PathBuf),
    /// Nowhere: every registry is asked without.
    None,
}

/// Why a login cannot be read.
#[derive(Debug, Error)]
pub enum CredentialsError {
    /// The file cannot be opened.
    #[error("cannot open {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file, or what a credential helper says, makes no sense.
    #[error("cannot use {}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: CredentialRetrievalError,
    },
    /// It is of a kind that is not supported.
    #[error("{} has an identity token; log in with a user name and a password or access token", .0.display())]
    IdentityToken(PathBuf),
}

impl Credentials {
    /// The login for a registry. Blocks: a credential helper may be run.
    pub(crate) fn find(&self, registry: &str) -> Result<RegistryAuth, CredentialsError> {
        let path = match self {
            Self::None => None,
            Self::File(path) => Some(path.clone()),
            Self::Usual => usual(|name| env::var_os(name).map(PathBuf::from)),
        };
        let Some(path) = path else { return Ok(RegistryAuth::Anonymous) };
        let names = if registry == "index.docker.io" { &DOCKER_HUB[..] } else { &[registry] };
        for name in names {
            match look_up(&path, name)? {
                RegistryAuth::Anonymous => {}
                login => return Ok(login),
            }
        }
        Ok(RegistryAuth::Anonymous)
    }
}

/// The login that a file has under a name.
fn look_up(path: &Path, server: &str) -> Result<RegistryAuth, CredentialsError> {
    let path = path.to_owned();
    let open = File::open(&path);
    let file = open.map_err(|source| CredentialsError::Open { path: path.clone(), source })?;
    match get_credential_from_reader(BufReader::new(file), server) {
        Ok(DockerCredential::UsernamePassword(user, password)) => Ok(RegistryAuth::Basic(user, password)),
        Ok(DockerCredential::IdentityToken(_)) => Err(CredentialsError::IdentityToken(path)),
        Err(CredentialRetrievalError::NoCredentialConfigured) => Ok(RegistryAuth::Anonymous),
        Err(CredentialRetrievalError::HelperFailure { stdout, stderr, .. })
            if [&stdout, &stderr].iter().any(|text| text.contains("credentials not found")) =>
        {
            Ok(RegistryAuth::Anonymous)
        }
        Err(source) => Err(CredentialsError::Content { path, source }),
    }
}

/// A file that a variable names must exist; the others may.
fn usual(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    if let Some(file) = variable("REGISTRY_AUTH_FILE") {
        return Some(file);
    }
    let docker = variable("DOCKER_CONFIG").or_else(|| Some(variable("HOME")?.join(".docker")));
    let docker = docker.map(|folder| folder.join("config.json"));
    let podman = variable("XDG_RUNTIME_DIR").map(|folder| folder.join("containers/auth.json"));
    [docker, podman].into_iter().flatten().find(|file| Path::exists(file))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn files_are_looked_for_in_the_usual_order() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let found = || {
            usual(|variable| match variable {
                "HOME" => Some(at("home")),
                "XDG_RUNTIME_DIR" => Some(at("run")),
                _ => None,
            })
        };
        assert_eq!(found(), None);
        for file in ["run/containers/auth.json", "home/.docker/config.json"] {
            fs::create_dir_all(at(file).parent().unwrap()).unwrap();
            fs::write(at(file), "{}").unwrap();
            assert_eq!(found(), Some(at(file)));
        }
        assert_eq!(usual(|_| Some(at("named"))), Some(at("named")));
    }

    #[test]
    fn logins_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        fs::write(
            &path,
            r#"{"auths": {
                "localhost:5000": {"auth": "bWU6c2VjcmV0"},
                "https://index.docker.io/v1/": {"auth": "bWU6aHVi"},
                "token.example.com": {"identitytoken": "x"},
                "broken.example.com": {"auth": "!"}
            }}"#,
        )
        .unwrap();
        let find = |registry: &str| Credentials::File(path.clone()).find(registry);
        let login = |password: &str| RegistryAuth::Basic("me".into(), password.into());
        assert_eq!(find("localhost:5000").unwrap(), login("secret"));
        assert_eq!(find("index.docker.io").unwrap(), login("hub"));
        let podmans = folder.path().join("auth.json");
        fs::write(&podmans, r#"{"auths": {"docker.io": {"auth": "bWU6aHVi"}}}"#).unwrap();
        assert_eq!(Credentials::File(podmans).find("index.docker.io").unwrap(), login("hub"));
        assert_eq!(find("ghcr.io").unwrap(), RegistryAuth::Anonymous);
        assert!(matches!(find("token.example.com"), Err(CredentialsError::IdentityToken(_))));
        assert!(matches!(find("broken.example.com"), Err(CredentialsError::Content { .. })));
        let none = Credentials::File(folder.path().join("none"));
        assert!(matches!(none.find("ghcr.io"), Err(CredentialsError::Open { .. })));
    }
}
