//! Signatures in the form of cosign with a pair of keys.
//!
//! What is signed is a small JSON document, the *simple signing* payload, which names the digest of the artifact's manifest. Payload
//! and signature are a layer of another artifact in the same repository, under the tag `sha256-<hex>.sig`: the payload is the
//! layer's content, the signature an annotation on it.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use gadgetd_host::{Digest, KeyId, Trust};
use oci_client::manifest::{OCI_IMAGE_MEDIA_TYPE, OciDescriptor, OciImageManifest};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{artifact::descriptor, error::Error, key::PrivateKey, reference::Reference};

/// The media type of a payload.
const PAYLOAD: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// The media type of the configuration of a list of signatures.
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// The annotation that holds the signature.
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// What a payload says that it is.
const KIND: &str = "cosign container image signature";
/// How many signatures of one artifact are looked at.
const SIGNATURES_MAX: usize = 32;

/// The tag of an artifact's signatures.
pub(crate) fn tag(artifact: Digest) -> String {
    format!("sha256-{}.sig", artifact.hex())
}

/// A payload and its signature, as they are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Signed {
    pub(crate) payload: String,
    /// In DER.
    pub(crate) signature: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct SimpleSigning {
    critical: Critical,
    optional: Option<Value>,
}

#[derive(Serialize, Deserialize)]
struct Critical {
    identity: Identity,
    image: Image,
    r#type: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Identity {
    docker_reference: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Image {
    docker_manifest_digest: String,
}

impl Signed {
    /// Signs an artifact.
    pub(crate) fn new(reference: &Reference, artifact: Digest, key: &PrivateKey) -> Self {
        let payload = SimpleSigning {
            critical: Critical {
                identity: Identity {
                    docker_reference: format!("{}/{}", reference.registry(), reference.repository()),
                },
                image: Image { docker_manifest_digest: artifact.to_string() },
                r#type: KIND.to_owned(),
            },
            optional: None,
        };
        let payload = serde_json::to_string(&payload).expect("it is plain data");
        let signature = key.sign(payload.as_bytes());
        Self { payload, signature }
    }

    /// The layer that holds it.
    pub(crate) fn layer(&self) -> OciDescriptor {
        let signature = STANDARD.encode(&self.signature);
        OciDescriptor {
            annotations: Some(BTreeMap::from([(SIGNATURE.to_owned(), signature)])),
            ..descriptor(PAYLOAD, self.payload.as_bytes())
        }
    }
}

/// Reads a list of signatures: the layers that hold payloads, with the signature of each.
pub(crate) fn list(manifest: &[u8]) -> Result<Vec<(OciDescriptor, Vec<u8>)>, Error> {
    let list: OciImageManifest =
        serde_json::from_slice(manifest).map_err(|error| Error::Signatures(error.to_string()))?;
    let payloads = list.layers.into_iter().filter(|layer| layer.media_type == PAYLOAD);
    let signed = payloads.filter_map(|layer| {
        let signature = layer.annotations.as_ref()?.get(SIGNATURE)?;
        let signature = STANDARD.decode(signature).ok()?;
        Some((layer, signature))
    });
    Ok(signed.take(SIGNATURES_MAX).collect())
}

/// The list with one more signature: the manifest, its configuration, and whether anything is new.
pub(crate) fn add(list: Option<&[u8]>, signed: &Signed) -> Result<(Vec<u8>, Vec<u8>, bool), Error> {
    let mut manifest = match list {
        Some(manifest) => {
            serde_json::from_slice(manifest).map_err(|error| Error::Signatures(error.to_string()))?
        }
        None => OciImageManifest {
            media_type: Some(OCI_IMAGE_MEDIA_TYPE.to_owned()),
            ..OciImageManifest::default()
        },
    };
    let layer = signed.layer();
    let same = |other: &OciDescriptor| {
        let signature = |layer: &OciDescriptor| layer.annotations.as_ref()?.get(SIGNATURE).cloned();
        other.digest == layer.digest && signature(other) == signature(&layer)
    };
    let new = !manifest.layers.iter().any(same);
    if new {
        manifest.layers.push(layer);
    }
    // What cosign writes there: registries want the configuration of an image.
    let layers: Vec<&str> = manifest.layers.iter().map(|layer| layer.digest.as_str()).collect();
    let config = json!({
        "architecture": "",
        "config": {},
        "created": "0001-01-01T00:00:00Z",
        "history": vec![json!({ "created": "0001-01-01T00:00:00Z" }); layers.len()],
        "os": "",
        "rootfs": { "type": "layers", "diff_ids": layers },
    });
    let config = serde_json::to_vec(&config).expect("it is plain data");
    manifest.config = descriptor(CONFIG, &config);
    let manifest = serde_json::to_vec(&manifest).expect("it is plain data");
    Ok((manifest, config, new))
}

/// What was found out about an artifact's signatures so far.
#[derive(Debug, Default)]
pub(crate) struct Verification {
    looked_at: usize,
    /// What a good signature is for, if not for the artifact.
    other: Option<String>,
}

impl Verification {
    /// Looks at one signature, and says whose it is if it is trusted and for this artifact.
    pub(crate) fn look(&mut self, signed: &Signed, artifact: Digest, trust: &Trust) -> Option<KeyId> {
        self.looked_at += 1;
        let payload = signed.payload.as_bytes();
        let key = trust.keys.iter().find(|key| key.verifies(payload, &signed.signature))?;
        // Only now is the payload anything but bytes of a stranger.
        let SimpleSigning { critical, .. } = serde_json::from_str(&signed.payload).ok()?;
        if critical.r#type != KIND {
            return None;
        }
        if critical.image.docker_manifest_digest != artifact.to_string() {
            self.other.get_or_insert(critical.image.docker_manifest_digest.escape_debug().to_string());
            return None;
        }
        Some(key.id())
    }

    /// Why none of them was good enough.
    pub(crate) fn refusal(self, artifact: Digest, trust: &Trust) -> Error {
        if let Some(signed) = self.other {
            return Error::OtherDigest { digest: artifact, signed };
        }
        let names: Vec<String> = trust.keys.iter().map(|key| key.id().to_string()).collect();
        let keys =
            format!("{} {}", if names.len() == 1 { "key" } else { "any of the keys" }, names.join(", "));
        Error::Stranger { digest: artifact, keys, looked_at: self.looked_at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference() -> Reference {
        Reference::parse("ghcr.io/me/mine:1").unwrap()
    }

    fn trust(keys: &[&PrivateKey]) -> Trust {
        Trust { keys: keys.iter().map(|key| key.public()).collect(), allow_unsigned: false }
    }

    #[test]
    fn a_signature_is_for_one_artifact_and_by_one_key() {
        let (me, other) = (PrivateKey::generate(), PrivateKey::generate());
        let [this, that] = [b"this", b"that"].map(|bytes| Digest::of(bytes));
        let signed = Signed::new(&reference(), this, &me);
        let look = |artifact, trust: &Trust| {
            let mut verification = Verification::default();
            verification.look(&signed, artifact, trust).ok_or_else(|| verification.refusal(artifact, trust))
        };
        assert_eq!(look(this, &trust(&[&me])).unwrap(), me.public().id());
        assert_eq!(look(this, &trust(&[&other, &me])).unwrap(), me.public().id());
        assert!(matches!(look(this, &trust(&[&other])), Err(Error::Stranger { looked_at: 1, .. })));
        assert!(matches!(look(this, &trust(&[])), Err(Error::Stranger { .. })));
        assert!(matches!(look(that, &trust(&[&me])), Err(Error::OtherDigest { .. })));
        // Without the key, not even what it says is believed.
        assert!(matches!(look(that, &trust(&[&other])), Err(Error::Stranger { .. })));
    }

    #[test]
    fn a_signature_of_something_that_is_no_payload_is_none() {
        let key = PrivateKey::generate();
        let digest = Digest::of(b"this");
        let other_kind = Signed::new(&reference(), digest, &key).payload.replace(KIND, "attestation");
        for payload in ["", "{}", &other_kind] {
            let signed = Signed { payload: payload.to_owned(), signature: key.sign(payload.as_bytes()) };
            assert_eq!(Verification::default().look(&signed, digest, &trust(&[&key])), None, "{payload}");
        }
    }

    #[test]
    fn a_list_grows_by_what_is_new() {
        let digest = Digest::of(b"this");
        let [one, two] = [PrivateKey::generate(), PrivateKey::generate()]
            .map(|key| Signed::new(&reference(), digest, &key));
        let (first, _, new) = add(None, &one).unwrap();
        assert!(new);
        assert!(!add(Some(&first), &one).unwrap().2);
        let (both, config, new) = add(Some(&first), &two).unwrap();
        assert!(new);
        let signatures: Vec<Vec<u8>> = list(&both).unwrap().into_iter().map(|(_, s)| s).collect();
        assert_eq!(signatures, [one.signature, two.signature]);
        let config: Value = serde_json::from_slice(&config).unwrap();
        assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), 2);
    }
}
