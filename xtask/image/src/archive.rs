use std::{
    collections::BTreeMap,
    fs::File,
    io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::Layer;

/// An image that is about to be written.
pub struct Image {
    reference: String,
    config: Value,
    annotations: BTreeMap<String, String>,
    layers: Vec<PathBuf>,
}

impl Image {
    /// One that is known as `reference` (with registry and tag), without layers. `config` is what the image
    /// specification calls so: `Entrypoint`, `Cmd`, `Env`, …
    pub fn new(reference: impl Into<String>, config: Value) -> Self {
        Self { reference: reference.into(), config, annotations: BTreeMap::new(), layers: Vec::new() }
    }

    /// Puts a layer, a tar file, over those that are there.
    #[must_use]
    pub fn layer(mut self, layer: impl Into<PathBuf>) -> Self {
        self.layers.push(layer.into());
        self
    }

    /// Says something about the image, for people: in the manifest, and as a label for tools that know only those.
    #[must_use]
    pub fn annotation(mut self, key: &str, value: impl Into<String>) -> Self {
        self.annotations.insert(key.into(), value.into());
        self
    }

    /// Writes the archive: an OCI image layout, with what older tools need to take it for one of `docker save`.
    pub fn write(&self, to: &Path) -> Result<()> {
        let layers: Vec<Blob> =
            self.layers.iter().map(|layer| Blob::of_file(layer)).collect::<Result<_>>()?;
        let mut config = self.config.clone();
        if !self.annotations.is_empty() {
            config["Labels"] = json!(self.annotations);
        }
        let platform = json!({ "architecture": architecture(), "os": "linux" });
        let mut image = platform.clone();
        image["config"] = config;
        image["rootfs"] = json!({ "type": "layers", "diff_ids": digests(&layers) });
        let image = Blob::of_json("application/vnd.oci.image.config.v1+json", &image)?;
        let manifest = Blob::of_json(
            MANIFEST,
            &json!({
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": image.descriptor(),
                "layers": layers.iter().map(Blob::descriptor).collect::<Vec<_>>(),
                "annotations": self.annotations,
            }),
        )?;
        let (_, tag) = self.reference.rsplit_once(':').context("the image's name has no tag")?;
        let mut entry = manifest.descriptor();
        entry["platform"] = platform;
        entry["annotations"] = json!({
            // What containerd goes by, and what everybody else does.
            "io.containerd.image.name": self.reference,
            "org.opencontainers.image.ref.name": tag,
        });
        let index = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [entry],
        });
        let docker = json!([{
            "Config": image.path(),
            "RepoTags": [self.reference],
            "Layers": layers.iter().map(Blob::path).collect::<Vec<_>>(),
        }]);

        let mut archive = Layer::create(to)?;
        archive.file("oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        archive.file("index.json", 0o644, &serde_json::to_vec(&index)?)?;
        archive.file("manifest.json", 0o644, &serde_json::to_vec(&docker)?)?;
        for blob in [&manifest, &image].into_iter().chain(&layers) {
            match &blob.content {
                Content::Bytes(bytes) => archive.file(&blob.path(), 0o644, bytes)?,
                Content::File(file) => archive.copy(&blob.path(), 0o644, file)?,
            }
        }
        archive.finish()
    }
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// What images call the architecture of this build.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn digests(blobs: &[Blob]) -> Vec<String> {
    blobs.iter().map(|blob| format!("sha256:{}", blob.sha256)).collect()
}

/// A file of the layout that is known by its digest.
struct Blob {
    media_type: &'static str,
    sha256: String,
    size: u64,
    content: Content,
}

enum Content {
    Bytes(Vec<u8>),
    File(PathBuf),
}

impl Blob {
    fn of_json(media_type: &'static str, value: &Value) -> Result<Self> {
        let bytes = serde_json::to_vec(value)?;
        let sha256 = format!("{:x}", Sha256::digest(&bytes));
        Ok(Self { media_type, sha256, size: bytes.len() as u64, content: Content::Bytes(bytes) })
    }

    /// A layer as it is: an archive is packed by whoever sends it, a registry's client for one.
    fn of_file(file: &Path) -> Result<Self> {
        let mut hash = Sha256::new();
        let mut open = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
        let size = io::copy(&mut open, &mut hash)?;
        let sha256 = format!("{:x}", hash.finalize());
        let media_type = "application/vnd.oci.image.layer.v1.tar";
        Ok(Self { media_type, sha256, size, content: Content::File(file.to_owned()) })
    }

    fn path(&self) -> String {
        format!("blobs/sha256/{}", self.sha256)
    }

    fn descriptor(&self) -> Value {
        json!({
            "mediaType": self.media_type,
            "digest": format!("sha256:{}", self.sha256),
            "size": self.size,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Read as _};

    use super::*;

    fn entries(archive: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
        let mut entries = BTreeMap::new();
        for entry in tar::Archive::new(File::open(archive)?).entries()? {
            let mut entry = entry?;
            let mut content = Vec::new();
            entry.read_to_end(&mut content)?;
            entries.insert(entry.path()?.display().to_string(), content);
        }
        Ok(entries)
    }

    #[test]
    fn every_reference_leads_to_a_blob_of_that_digest_and_size() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let at = |name: &str| folder.path().join(name);
        for name in ["a.tar", "b.tar"] {
            let mut layer = Layer::create(&at(name))?;
            layer.folder("etc", 0o755)?;
            layer.file("etc/name", 0o644, name.as_bytes())?;
            layer.link("etc/link", "name")?;
            layer.finish()?;
        }
        let image = Image::new("example.com/team/it:7", json!({ "Cmd": ["/it"] }))
            .layer(at("a.tar"))
            .layer(at("b.tar"))
            .annotation("org.opencontainers.image.version", "7");
        image.write(&at("it.tar"))?;
        let entries = entries(&at("it.tar"))?;

        let blob = |descriptor: &Value| -> Result<Vec<u8>> {
            let digest = descriptor["digest"].as_str().context("a digest")?;
            let path = format!("blobs/{}", digest.replace(':', "/"));
            let content = entries.get(&path).with_context(|| path.clone())?;
            assert_eq!(descriptor["size"], content.len());
            assert_eq!(digest, format!("sha256:{:x}", Sha256::digest(content)));
            Ok(content.clone())
        };
        let index: Value = serde_json::from_slice(&entries["index.json"])?;
        let manifest = &index["manifests"][0];
        assert_eq!(manifest["annotations"]["org.opencontainers.image.ref.name"], "7");
        assert_eq!(manifest["annotations"]["io.containerd.image.name"], "example.com/team/it:7");
        let manifest: Value = serde_json::from_slice(&blob(manifest)?)?;
        let config: Value = serde_json::from_slice(&blob(&manifest["config"])?)?;
        assert_eq!(config["config"]["Labels"]["org.opencontainers.image.version"], "7");
        let layers = manifest["layers"].as_array().context("layers")?;
        let contents: Vec<Vec<u8>> = layers.iter().map(blob).collect::<Result<_>>()?;
        assert_eq!(contents, [fs::read(at("a.tar"))?, fs::read(at("b.tar"))?]);
        let diff_ids: Vec<_> = layers.iter().map(|layer| layer["digest"].clone()).collect();
        assert_eq!(config["rootfs"]["diff_ids"], Value::from(diff_ids));

        let docker: Value = serde_json::from_slice(&entries["manifest.json"])?;
        assert_eq!(docker[0]["RepoTags"][0], "example.com/team/it:7");
        assert!(entries.contains_key(docker[0]["Config"].as_str().context("a path")?));
        Ok(())
    }

    #[test]
    fn what_is_written_twice_is_the_same_twice() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let write = |name: &str| -> Result<Vec<u8>> {
            let layer = folder.path().join(format!("layer-{name}.tar"));
            let mut files = Layer::create(&layer)?;
            files.copy("Cargo.toml", 0o644, Path::new("Cargo.toml"))?;
            files.finish()?;
            let to = folder.path().join(name);
            Image::new("it:1", json!({})).layer(layer).write(&to)?;
            Ok(fs::read(to)?)
        };
        assert!(write("one")? == write("two")?);
        Ok(())
    }
}
