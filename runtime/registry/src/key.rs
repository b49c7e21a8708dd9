//! Private keys: made, read, and used to sign.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use gadgetd_host::PublicKey;
use p256::{
    ecdsa::{Signature, SigningKey, signature::Signer},
    elliptic_curve::Generate,
    pkcs8::{self, DecodePrivateKey, EncodePrivateKey, LineEnding},
};
use thiserror::Error;

/// More than any key has, in bytes.
const FILE_MAX: u64 = 16 << 10;

/// A private key for ECDSA with P-256 and SHA-256.
pub struct PrivateKey(SigningKey);

/// Why a key cannot be read or made.
#[derive(Debug, Error)]
pub enum PrivateKeyError {
    /// The file cannot be read.
    #[error("cannot read the private key {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others can read the file.
    #[error(
        "others than its owner can read {} (mode {mode:04o}), so it is no secret: make a new key, or `chmod 600` it if nobody did",
        path.display()
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It is encrypted.
    #[error("{} is encrypted: {instead}", path.display())]
    Encrypted {
        /// The file.
        path: PathBuf,
        /// What can be done.
        instead: &'static str,
    },
    /// It is something else, or a key of another kind.
    #[error(
        "{} holds no private key for ECDSA with P-256 in PKCS#8 (PEM); `gadgetd module keygen` makes one, and \
         `openssl pkcs8 -topk8 -nocrypt` converts one in the form of SEC 1",
        path.display()
    )]
    Kind {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: pkcs8::Error,
    },
    /// There is something already.
    #[error("{} exists, and nothing is written over a key", .0.display())]
    Exists(PathBuf),
    /// The new key cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl PrivateKey {
    /// Makes a new key, out of the system's random numbers.
    pub fn generate() -> Self {
        Self(SigningKey::generate())
    }

    /// Reads a key from a file (`-----BEGIN PRIVATE KEY-----`) which nobody but its owner may be able to read.
    pub fn read(path: &Path) -> Result<Self, PrivateKeyError> {
        let failed = |source| PrivateKeyError::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(failed(io::Error::other("it is no regular file")));
        }
        let mode = metadata.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(PrivateKeyError::Open { path: path.to_owned(), mode });
        }
        let mut pem = pkcs8::der::zeroize::Zeroizing::new(String::new());
        file.take(FILE_MAX).read_to_string(&mut pem).map_err(failed)?;
        let encrypted = |instead| PrivateKeyError::Encrypted { path: path.to_owned(), instead };
        if pem.contains("ENCRYPTED SIGSTORE PRIVATE KEY") || pem.contains("ENCRYPTED COSIGN PRIVATE KEY") {
            return Err(encrypted(
                "cosign's own form is not read here. Sign with `cosign sign --key FILE`, which counts here too, \
                 or make a key with `gadgetd module keygen`",
            ));
        }
        if pem.contains("ENCRYPTED PRIVATE KEY") {
            return Err(encrypted("decrypt it with `openssl pkcs8 -in FILE -out OTHER`"));
        }
        let key = SigningKey::from_pkcs8_pem(pem.trim());
        key.map(Self).map_err(|source| PrivateKeyError::Kind { path: path.to_owned(), source })
    }

    /// Writes the key to `PREFIX.key`, for its owner alone, and its public half to `PREFIX.pub`, and returns the two
    /// paths. Writes over nothing.
    pub fn write(&self, prefix: &Path) -> Result<(PathBuf, PathBuf), PrivateKeyError> {
        let with = |suffix: &str| {
            let mut path = prefix.as_os_str().to_owned();
            path.push(suffix);
            PathBuf::from(path)
        };
        let (private, public) = (with(".key"), with(".pub"));
        if public.symlink_metadata().is_ok() {
            return Err(PrivateKeyError::Exists(public));
        }
        let pem = self.0.to_pkcs8_pem(LineEnding::LF).expect("every key has a DER");
        create(&private, 0o600, pem.as_bytes())?;
        create(&public, 0o644, self.public().to_pem().as_bytes()).inspect_err(|_| {
            let _ = fs::remove_file(&private);
        })?;
        Ok((private, public))
    }

    /// The other half.
    pub fn public(&self) -> PublicKey {
        PublicKey::from(*self.0.verifying_key())
    }

    /// A signature in DER. It is the same each time: RFC 6979 takes the nonce from key and message.
    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let signature: Signature = self.0.sign(message);
        signature.to_der().as_bytes().to_owned()
    }
}

fn create(path: &Path, mode: u32, content: &[u8]) -> Result<(), PrivateKeyError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AlreadyExists => PrivateKeyError::Exists(path.to_owned()),
        _ => PrivateKeyError::Write { path: path.to_owned(), source },
    };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(failed)?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(|error| {
        let _ = fs::remove_file(path);
        failed(error)
    })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_key_that_was_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let key = PrivateKey::generate();
        let (private, public) = key.write(&folder.path().join("me")).unwrap();
        assert_eq!(private.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let read = PrivateKey::read(&private).unwrap();
        let public = PublicKey::from_pem(&fs::read_to_string(public).unwrap()).unwrap();
        assert_eq!(read.public(), public);
        assert!(public.verifies(b"this", &read.sign(b"this")));
        assert!(!public.verifies(b"that", &read.sign(b"this")));
        assert!(!public.verifies(b"this", b"nonsense"));
        assert!(!PrivateKey::generate().public().verifies(b"this", &read.sign(b"this")));

        for file in ["me.key", "me.pub"] {
            let there = folder.path().join(if file == "me.key" { "me.pub" } else { "me.key" });
            fs::remove_file(&there).unwrap();
            let error = key.write(&folder.path().join("me")).unwrap_err();
            assert!(matches!(&error, PrivateKeyError::Exists(path) if path.ends_with(file)), "{error}");
            assert!(!there.exists(), "half a pair was left");
            fs::write(&there, "").unwrap();
        }
    }

    #[test]
    fn a_key_that_is_not_kept_secret_or_not_understood_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let read = |mode: u32, content: &str| {
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            PrivateKey::read(&path).err().map(|error| error.to_string())
        };
        let block = |kind: &str| format!("-----BEGIN {kind}-----\nMC4=\n-----END {kind}-----\n");
        for (mode, content, says) in [
            (0o640, block("PRIVATE KEY"), "others than its owner can read"),
            (0o604, block("PRIVATE KEY"), "(mode 0604)"),
            (0o600, block("ENCRYPTED SIGSTORE PRIVATE KEY"), "cosign sign --key FILE"),
            (0o600, block("ENCRYPTED PRIVATE KEY"), "openssl pkcs8"),
            (0o600, block("PRIVATE KEY"), "holds no private key"),
            (0o600, block("EC PRIVATE KEY"), "openssl pkcs8 -topk8 -nocrypt"),
            (0o600, "nonsense".into(), "holds no private key"),
        ] {
            let error = read(mode, &content).expect(says);
            assert!(error.contains(says), "{error}");
        }
        assert!(matches!(PrivateKey::read(folder.path()), Err(PrivateKeyError::Read { .. })));
    }

    /// openssl's keys are read here, and it verifies what is signed here.
    #[test]
    fn openssl_agrees() {
        let folder = tempfile::tempdir().unwrap();
        let openssl = |arguments: &[&str]| {
            let output = Command::new("openssl").args(arguments).current_dir(folder.path()).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        };
        openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "key"]);
        openssl(&["pkey", "-in", "key", "-pubout", "-out", "pub"]);
        let path = folder.path().join("key");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let key = PrivateKey::read(&path).unwrap();
        let public = fs::read_to_string(folder.path().join("pub")).unwrap();
        assert_eq!(key.public().to_pem(), public);

        fs::write(folder.path().join("message"), "this").unwrap();
        fs::write(folder.path().join("signature"), key.sign(b"this")).unwrap();
        openssl(&["dgst", "-sha256", "-verify", "pub", "-signature", "signature", "message"]);
        openssl(&["dgst", "-sha256", "-sign", "key", "-out", "signature", "message"]);
        assert!(key.public().verifies(b"this", &fs::read(folder.path().join("signature")).unwrap()));
    }
}
