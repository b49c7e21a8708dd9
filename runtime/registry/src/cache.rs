//! Artifacts that were fetched and verified, kept as files.
//!
//! Nothing here is believed: a manifest is known by its digest, a component by the digest in the manifest, and a signature is
//! verified again, with the keys that count then. So a file that was damaged or exchanged is one that is not there.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Read, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

use gadgetd_host::Digest;

use crate::{
    artifact::{self, Layer},
    signature::Signed,
};

/// How much is kept, in bytes. The oldest files go first.
const SIZE_MAX: u64 = 256 << 20;
/// More than a manifest or a signature has.
const SMALL_MAX: u64 = 2 << 20;

#[derive(Debug)]
pub(crate) struct Cache(PathBuf);

/// An artifact that is kept.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) component: Vec<u8>,
    /// The signature that it was accepted for, if it was for one.
    pub(crate) signed: Option<Signed>,
}

impl Cache {
    /// Opens the folder, and makes it if it does not exist.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        Ok(Self(folder.to_owned()))
    }

    /// The artifact whose manifest has this digest.
    pub(crate) fn load(&self, digest: Digest) -> Option<Kept> {
        let manifest = self.read(&manifest_name(digest), SMALL_MAX)?;
        if Digest::of(&manifest) != digest {
            tracing::warn!("{} is damaged: fetching again", self.0.join(manifest_name(digest)).display());
            return None;
        }
        let component = self.component(artifact::read(&manifest).ok()?)?;
        let signed = self.read(&signature_name(digest), SMALL_MAX);
        let signed = signed.and_then(|signed| serde_json::from_slice(&signed).ok());
        Some(Kept { component, signed })
    }

    /// The component with this digest.
    pub(crate) fn component(&self, layer: Layer) -> Option<Vec<u8>> {
        let name = component_name(layer);
        let component = self.read(&name, layer.size)?;
        if Digest::of(&component) != layer.digest {
            tracing::warn!("{} is damaged: fetching again", self.0.join(name).display());
            return None;
        }
        Some(component)
    }

    /// Keeps an artifact that passed every check. That it cannot be kept is no reason to fail.
    pub(crate) fn save(&self, manifest: &[u8], layer: Layer, kept: &Kept) {
        let digest = Digest::of(manifest);
        let signature = kept.signed.as_ref().map(|signed| serde_json::to_vec(signed).expect("plain data"));
        let saved = self
            .write(&component_name(layer), &kept.component)
            .and_then(|()| match &signature {
                Some(signature) => self.write(&signature_name(digest), signature),
                None => Ok(()),
            })
            .and_then(|()| self.write(&manifest_name(digest), manifest))
            .and_then(|()| self.prune(SIZE_MAX));
        if let Err(error) = saved {
            tracing::warn!("cannot keep a module in {}: {error}", self.0.display());
        }
    }

    fn read(&self, name: &str, limit: u64) -> Option<Vec<u8>> {
        let mut content = Vec::new();
        let file = File::open(self.0.join(name)).ok()?;
        // One byte more than it may have, so that one that is too long has another digest.
        file.take(limit + 1).read_to_end(&mut content).ok()?;
        Some(content)
    }

    /// The file appears whole or not at all.
    fn write(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let mut draft = tempfile::NamedTempFile::new_in(&self.0)?;
        draft.write_all(content)?;
        draft.as_file().sync_all()?;
        draft.persist(self.0.join(name))?;
        Ok(())
    }

    fn prune(&self, limit: u64) -> io::Result<()> {
        let mut files: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            files.push((metadata.modified()?, metadata.len(), entry.path()));
        }
        files.sort_unstable_by(|a, b| b.cmp(a));
        let mut total = 0;
        for (_, size, path) in files {
            total += size;
            if total > limit {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

fn manifest_name(digest: Digest) -> String {
    format!("{}.manifest", digest.hex())
}

fn signature_name(digest: Digest) -> String {
    format!("{}.signature", digest.hex())
}

fn component_name(layer: Layer) -> String {
    format!("{}.wasm", layer.digest.hex())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::About;

    #[test]
    fn what_was_damaged_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(&folder.path().join("a/b")).unwrap();
        let (manifest, _) = artifact::describe(b"component", &About::default());
        let (digest, layer) = (Digest::of(&manifest), artifact::read(&manifest).unwrap());
        let kept = || {
            let signed = Signed { payload: "{}".into(), signature: vec![1] };
            Kept { component: b"component".to_vec(), signed: Some(signed) }
        };
        assert_eq!(cache.load(digest), None);
        cache.save(&manifest, layer, &kept());
        assert_eq!(cache.load(digest), Some(kept()));
        for (file, content, left) in [
            (signature_name(digest), "nonsense", Some(Kept { signed: None, ..kept() })),
            (component_name(layer), "componenT", None),
            (component_name(layer), "component and more", None),
            (component_name(layer), "comp", None),
            (manifest_name(digest), "{}", None),
        ] {
            cache.save(&manifest, layer, &kept());
            fs::write(cache.0.join(file), content).unwrap();
            assert_eq!(cache.load(digest), left, "{content}");
        }
    }

    #[test]
    fn the_oldest_files_go_first() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        for (age, name) in [(3, "c"), (1, "a"), (2, "b")] {
            cache.write(name, &[0; 10]).unwrap();
            let time = SystemTime::now() - std::time::Duration::from_secs(age * 60);
            File::open(folder.path().join(name)).unwrap().set_modified(time).unwrap();
        }
        cache.prune(20).unwrap();
        assert!(cache.read("a", 10).is_some() && cache.read("b", 10).is_some());
        assert!(cache.read("c", 10).is_none());
    }
}
