//! The layout of a WebAssembly component as an OCI artifact, as the CNCF's working group on WebAssembly specified it
//! (<https://tag-runtime.cncf.io/wgs/wasm/deliverables/wasm-oci-artifact/>): one layer, the component itself, and a
//! configuration that says what it imports and exports. `wkg`, Spin and others read and write the same.

use std::collections::BTreeMap;

use gadgetd_host::Digest;
use oci_client::manifest::{
    OCI_IMAGE_INDEX_MEDIA_TYPE, OCI_IMAGE_MEDIA_TYPE, OciDescriptor, OciImageManifest,
};
use serde::Serialize;
use serde_json::Value;

use crate::error::Error;

/// The media type of the configuration.
pub const CONFIG: &str = "application/vnd.wasm.config.v0+json";
/// The media type of a component.
pub const LAYER: &str = "application/wasm";

/// What an artifact says about its component, for those who do not run it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// The module's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What it is for, in one line.
    pub summary: String,
    /// The interfaces that it imports.
    pub imports: Vec<String>,
    /// The interfaces that it exports.
    pub exports: Vec<String>,
}

/// The configuration, as `oci-wasm` writes it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Config<'a> {
    created: &'a str,
    architecture: &'a str,
    os: &'a str,
    layer_digests: [String; 1],
    component: Component<'a>,
}

#[derive(Serialize)]
struct Component<'a> {
    exports: &'a [String],
    imports: &'a [String],
}

/// The one layer of an artifact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layer {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

/// The manifest of an artifact for this component, and its configuration. The same component gives the same bytes: no
/// time of day is in them.
pub(crate) fn describe(component: &[u8], about: &About) -> (Vec<u8>, Vec<u8>) {
    let layer = descriptor(LAYER, component);
    let config = Config {
        created: "1970-01-01T00:00:00Z",
        architecture: "wasm",
        os: "wasip2",
        layer_digests: [layer.digest.clone()],
        component: Component { exports: &about.exports, imports: &about.imports },
    };
    let config = serde_json::to_vec(&config).expect("it is plain data");
    let annotations = [("title", &about.name), ("version", &about.version), ("description", &about.summary)];
    let annotations = annotations.into_iter().filter(|(_, value)| !value.is_empty());
    // Debian's registry, among others, takes no annotation of more than one line.
    let one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let annotations: BTreeMap<_, _> = annotations
        .map(|(key, value)| (format!("org.opencontainers.image.{key}"), one_line(value)))
        .collect();
    let manifest = OciImageManifest {
        media_type: Some(OCI_IMAGE_MEDIA_TYPE.to_owned()),
        config: descriptor(CONFIG, &config),
        layers: vec![layer],
        annotations: Some(annotations),
        ..OciImageManifest::default()
    };
    (serde_json::to_vec(&manifest).expect("it is plain data"), config)
}

/// Finds the component in a manifest.
pub(crate) fn read(manifest: &[u8]) -> Result<Layer, Error> {
    let no_module = |reason: String| Err(Error::NoModule(reason));
    let value: Value = match serde_json::from_slice(manifest) {
        Ok(value) => value,
        Err(error) => return no_module(format!("its manifest is not JSON: {error}")),
    };
    if value["mediaType"] == OCI_IMAGE_INDEX_MEDIA_TYPE || value["manifests"].is_array() {
        return no_module("it is an index of several artifacts; name one of them by its digest".to_owned());
    }
    let manifest: OciImageManifest = match serde_json::from_value(value) {
        Ok(manifest) => manifest,
        Err(error) => return no_module(format!("its manifest is none of an OCI artifact: {error}")),
    };
    let shown = |media_type: &str| media_type.chars().take(80).collect::<String>();
    if manifest.config.media_type != CONFIG {
        return no_module(format!(
            "its configuration is of type {:?}, and not {CONFIG}",
            shown(&manifest.config.media_type)
        ));
    }
    let [layer] = manifest.layers.as_slice() else {
        return no_module(format!("it has {} layers, and not one", manifest.layers.len()));
    };
    if layer.media_type != LAYER {
        return no_module(format!("its layer is of type {:?}, and not {LAYER}", shown(&layer.media_type)));
    }
    layer_of(layer)
}

/// What a descriptor promises.
pub(crate) fn layer_of(descriptor: &OciDescriptor) -> Result<Layer, Error> {
    match (Digest::parse(&descriptor.digest), u64::try_from(descriptor.size)) {
        (Some(digest), Ok(size)) => Ok(Layer { digest, size }),
        _ => Err(Error::NoModule("its manifest has no SHA-256 or no size of a layer".to_owned())),
    }
}

/// Describes some content.
pub(crate) fn descriptor(media_type: &str, content: &[u8]) -> OciDescriptor {
    OciDescriptor {
        media_type: media_type.to_owned(),
        digest: Digest::of(content).to_string(),
        size: i64::try_from(content.len()).expect("memory is smaller than that"),
        ..OciDescriptor::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let about = About { name: "mine".into(), summary: "One.\nTwo.".into(), ..About::default() };
        let (manifest, config) = describe(b"component", &about);
        assert_eq!(read(&manifest).unwrap(), Layer { digest: Digest::of(b"component"), size: 9 });
        assert_eq!(describe(b"component", &about), (manifest.clone(), config.clone()));
        let value: Value = serde_json::from_slice(&manifest).unwrap();
        assert_eq!(value["config"]["digest"], Digest::of(&config).to_string());
        assert_eq!(
            value["annotations"],
            json!({ "org.opencontainers.image.title": "mine", "org.opencontainers.image.description": "One. Two." })
        );
    }

    #[test]
    fn other_artifacts_are_told_apart() {
        let (manifest, _) = describe(b"component", &About::default());
        let good: Value = serde_json::from_slice(&manifest).unwrap();
        let change = |pointer: &str, value: Value| {
            let mut manifest = good.clone();
            *manifest.pointer_mut(pointer).unwrap() = value;
            manifest.to_string()
        };
        let layer = good["layers"][0].clone();
        for (manifest, says) in [
            ("<html>".to_owned(), "is not JSON"),
            ("[]".to_owned(), "none of an OCI artifact"),
            (json!({"schemaVersion": 2, "manifests": []}).to_string(), "an index"),
            (change("/config/mediaType", json!("application/vnd.oci.image.config.v1+json")), "image.config"),
            (change("/layers", json!([])), "0 layers"),
            (change("/layers", json!([layer, layer])), "2 layers"),
            (change("/layers/0/mediaType", json!("application/vnd.oci.image.layer.v1.tar")), "layer.v1.tar"),
            (change("/layers/0/size", json!(-1)), "no size"),
            (change("/layers/0/digest", json!("sha512:00")), "no SHA-256"),
        ] {
            let error = read(manifest.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
