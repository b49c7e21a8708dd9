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
    architecture: &'static str,
    config: Value,
    annotations: BTreeMap<String, String>,
    layers: Vec<Files>,
}

/// A layer's tar file, and the same packed if that is what travels.
struct Files {
    plain: PathBuf,
    packed: Option<PathBuf>,
}

impl Image {
    /// One that is known as `reference` (with registry and tag), without layers. `config` is what the image
    /// specification calls so: `Entrypoint`, `Cmd`, `Env`, …
    pub fn new(reference: impl Into<String>, config: Value) -> Self {
        let (architecture, annotations) = (architecture(), BTreeMap::new());
        Self { reference: reference.into(), architecture, config, annotations, layers: Vec::new() }
    }

    /// For machines of this architecture, in Go's word (`arm64`), instead of this one's.
    #[must_use]
    pub fn architecture(mut self, architecture: &'static str) -> Self {
        self.architecture = architecture;
        self
    }

    /// Puts a layer, a tar file, over those that are there.
    #[must_use]
    pub fn layer(mut self, layer: impl Into<PathBuf>) -> Self {
        self.layers.push(Files { plain: layer.into(), packed: None });
        self
    }

    /// The same with the tar file packed by gzip, which is what the archive gets: a registry gets the same bytes, so that the image
    /// has the same digest there.
    #[must_use]
    pub fn packed_layer(mut self, layer: impl Into<PathBuf>, packed: impl Into<PathBuf>) -> Self {
        self.layers.push(Files { plain: layer.into(), packed: Some(packed.into()) });
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
        let image = self.assemble()?;
        let mut entry = image.entry();
        entry["annotations"] = names(&self.reference)?;
        let blobs: Vec<&Blob> = image.blobs().collect();
        archive(&entry, &self.docker(&image), &blobs, to)
    }

    fn assemble(&self) -> Result<Assembled> {
        let plain: Vec<Blob> =
            self.layers.iter().map(|layer| Blob::of_file(&layer.plain, LAYER)).collect::<Result<_>>()?;
        let travel = |layer: &Files| match &layer.packed {
            Some(packed) => Blob::of_file(packed, PACKED_LAYER),
            None => Blob::of_file(&layer.plain, LAYER),
        };
        let layers: Vec<Blob> = self.layers.iter().map(travel).collect::<Result<_>>()?;
        let mut config = self.config.clone();
        if !self.annotations.is_empty() {
            config["Labels"] = json!(self.annotations);
        }
        let platform = json!({ "architecture": self.architecture, "os": "linux" });
        let mut image = platform.clone();
        image["config"] = config;
        image["rootfs"] = json!({ "type": "layers", "diff_ids": digests(&plain) });
        let config = Blob::of_json("application/vnd.oci.image.config.v1+json", &image)?;
        let manifest = Blob::of_json(
            MANIFEST,
            &json!({
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": config.descriptor(),
                "layers": layers.iter().map(Blob::descriptor).collect::<Vec<_>>(),
                "annotations": self.annotations,
            }),
        )?;
        Ok(Assembled { platform, config, manifest, layers })
    }

    /// What `docker load` reads.
    fn docker(&self, image: &Assembled) -> Value {
        json!({
            "Config": image.config.path(),
            "RepoTags": [self.reference],
            "Layers": image.layers.iter().map(Blob::path).collect::<Vec<_>>(),
        })
    }
}

/// Writes one archive of images of one name for several architectures, and returns the digest that stands for all of them. Tools that
/// know no index take the first.
pub fn write_index(images: &[Image], to: &Path) -> Result<String> {
    let first = images.first().context("an index of no image")?;
    let assembled: Vec<Assembled> = images.iter().map(Image::assemble).collect::<Result<_>>()?;
    let manifests: Vec<Value> = assembled.iter().map(Assembled::entry).collect();
    let index =
        Blob::of_json(INDEX, &json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests }))?;
    let mut entry = index.descriptor();
    entry["annotations"] = names(&first.reference)?;
    let mut blobs = vec![&index];
    for blob in assembled.iter().flat_map(Assembled::blobs) {
        // Images may share layers.
        if !blobs.iter().any(|there| there.sha256 == blob.sha256) {
            blobs.push(blob);
        }
    }
    archive(&entry, &first.docker(&assembled[0]), &blobs, to)?;
    Ok(format!("sha256:{}", index.sha256))
}

/// An image as blobs.
struct Assembled {
    platform: Value,
    config: Blob,
    manifest: Blob,
    layers: Vec<Blob>,
}

impl Assembled {
    fn entry(&self) -> Value {
        let mut entry = self.manifest.descriptor();
        entry["platform"] = self.platform.clone();
        entry
    }

    fn blobs(&self) -> impl Iterator<Item = &Blob> {
        [&self.manifest, &self.config].into_iter().chain(&self.layers)
    }
}

/// What an image is called: what containerd goes by, and what everybody else does.
fn names(reference: &str) -> Result<Value> {
    let (_, tag) = reference.rsplit_once(':').context("the image's name has no tag")?;
    Ok(json!({ "io.containerd.image.name": reference, "org.opencontainers.image.ref.name": tag }))
}

fn archive(entry: &Value, docker: &Value, blobs: &[&Blob], to: &Path) -> Result<()> {
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [entry] });
    let mut archive = Layer::create(to)?;
    archive.file("oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    archive.file("index.json", 0o644, &serde_json::to_vec(&index)?)?;
    archive.file("manifest.json", 0o644, &serde_json::to_vec(&json!([docker]))?)?;
    for blob in blobs {
        match &blob.content {
            Content::Bytes(bytes) => archive.file(&blob.path(), 0o644, bytes)?,
            Content::File(file) => archive.copy(&blob.path(), 0o644, file)?,
        }
    }
    archive.finish()
}

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const PACKED_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
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

    /// A layer as it is.
    fn of_file(file: &Path, media_type: &'static str) -> Result<Self> {
        let mut hash = Sha256::new();
        let mut open = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
        let size = io::copy(&mut open, &mut hash)?;
        let sha256 = format!("{:x}", hash.finalize());
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
    fn an_index_has_an_image_for_each_architecture() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let at = |name: &str| folder.path().join(name);
        let image = |architecture: &'static str| -> Result<Image> {
            let (plain, packed) = (at(architecture), at(&format!("{architecture}.gz")));
            let mut layer = Layer::create(&plain)?;
            layer.file("it", 0o755, architecture.as_bytes())?;
            layer.finish()?;
            fs::write(&packed, format!("packed {architecture}"))?;
            let image = Image::new("example.com/it:7", json!({})).architecture(architecture);
            Ok(image.packed_layer(plain, packed))
        };
        let digest = write_index(&[image("amd64")?, image("arm64")?], &at("it.tar"))?;
        let entries = entries(&at("it.tar"))?;
        let blob = |digest: &Value| -> Result<Value> {
            let path = format!("blobs/{}", digest.as_str().context("a digest")?.replace(':', "/"));
            Ok(serde_json::from_slice(entries.get(&path).context(path)?)?)
        };
        let outer: Value = serde_json::from_slice(&entries["index.json"])?;
        assert_eq!(outer["manifests"][0]["digest"], digest);
        let index = blob(&outer["manifests"][0]["digest"])?;
        for (entry, architecture) in
            index["manifests"].as_array().context("manifests")?.iter().zip(["amd64", "arm64"])
        {
            assert_eq!(entry["platform"]["architecture"], architecture);
            let manifest = blob(&entry["digest"])?;
            let config = blob(&manifest["config"]["digest"])?;
            assert_eq!(config["architecture"], architecture);
            let plain = format!("sha256:{:x}", Sha256::digest(fs::read(at(architecture))?));
            assert_eq!(config["rootfs"]["diff_ids"][0], plain);
            assert_ne!(manifest["layers"][0]["digest"], plain, "the packed one travels");
        }
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
