//! Trust in the modules of a registry: public keys, and the rule for unsigned modules.

use std::fmt;

use p256::{
    ecdsa::{Signature, VerifyingKey, signature::Verifier},
    pkcs8::{DecodePublicKey, EncodePublicKey, LineEnding, spki},
};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// The modules out of a registry that may be used. By default none.
///
/// A module is used if a signature of it verifies with one of the keys. It is used *without a signature* if
/// `allow_unsigned` says so. A module that has signatures, none of which verifies with any of the keys that are given,
/// is refused either way: somebody signed it, and it was nobody that is trusted.
///
/// A built-in module is a part of gadgetd, and a file is trusted by whoever names it: neither is asked for a signature.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// Whoever signs with one of these is trusted.
    pub keys: Vec<PublicKey>,
    /// Whether a module without any signature may be used. Without keys: whether any module may be.
    pub allow_unsigned: bool,
}

/// A public key for ECDSA signatures on the curve P-256, with SHA-256: what `gadgetd module keygen` and cosign make.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    key: VerifyingKey,
    id: KeyId,
}

/// The name of a key: the SHA-256 of its DER, of which the first 64 bits are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId([u8; 32]);

/// Why a text is no public key.
#[derive(Debug, Error)]
pub enum PublicKeyError {
    /// It is the other half.
    #[error("it is a private key; give the public one, and keep this one to yourself")]
    Private,
    /// It is something else, or a key of another kind.
    #[error(
        "it is no public key for ECDSA with P-256 in PEM, as `gadgetd module keygen` and cosign write it"
    )]
    Kind(#[source] spki::Error),
}

impl PublicKey {
    /// Reads a key from PEM (`-----BEGIN PUBLIC KEY-----`).
    ///
    /// ```
    /// use gadgetd_host::PublicKey;
    ///
    /// let key = PublicKey::from_pem(
    ///     "-----BEGIN PUBLIC KEY-----\n\
    ///      MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEV3+Lxn/0NAhs0EiObh1fZ0qGsy60\n\
    ///      56T5CwCMvRvG6nb0IfkJ5G43hnFLekqjV+L8agS59fAyGGrYkvYPR6krZw==\n\
    ///      -----END PUBLIC KEY-----\n",
    /// )?;
    /// assert_eq!(key.id().to_string().len(), 16);
    /// # Ok::<(), gadgetd_host::PublicKeyError>(())
    /// ```
    pub fn from_pem(pem: &str) -> Result<Self, PublicKeyError> {
        if pem.contains("PRIVATE KEY-----") {
            return Err(PublicKeyError::Private);
        }
        let key = VerifyingKey::from_public_key_pem(pem.trim()).map_err(PublicKeyError::Kind)?;
        Ok(Self::from(key))
    }

    /// As [`PublicKey::from_pem`] reads it.
    pub fn to_pem(&self) -> String {
        self.key.to_public_key_pem(LineEnding::LF).expect("every key has a DER")
    }

    /// Its name.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// Whether this is a signature (ASN.1, in DER) of these bytes with the private key that belongs to this one.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        Signature::from_der(signature).is_ok_and(|signature| self.key.verify(message, &signature).is_ok())
    }
}

impl From<VerifyingKey> for PublicKey {
    fn from(key: VerifyingKey) -> Self {
        let der = key.to_public_key_der().expect("every key has a DER");
        Self { key, id: KeyId(Sha256::digest(der.as_bytes()).into()) }
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.id)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..8].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 | openssl pkey -pubout
    const P384: &str = "-----BEGIN PUBLIC KEY-----\n\
        MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAESUMluMSkp73nqsBnAR8X3YIQ1WHYye+H\n\
        ZaLvGw7pOkOz9TmOAc4rNTHbTqtHw8CmdZiLxmfZUnTaorQT80DLNd4WTMksbdK1\n\
        mEuu9i9WIGsxOZTpLi8QdHyY3v06FJTA\n-----END PUBLIC KEY-----\n";

    #[test]
    fn what_is_no_public_key_is_refused() {
        for text in ["", "nonsense", P384] {
            assert!(matches!(PublicKey::from_pem(text), Err(PublicKeyError::Kind(_))), "{text}");
        }
        let private = "-----BEGIN PRIVATE KEY-----\nMC4=\n-----END PRIVATE KEY-----\n";
        assert!(matches!(PublicKey::from_pem(private), Err(PublicKeyError::Private)));
    }
}
