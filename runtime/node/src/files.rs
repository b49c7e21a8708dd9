//! Files below the folder that the kubelet reads seccomp profiles from.

use std::{
    fs, io,
    path::{Component, Path, PathBuf},
};

use cap_std::{ambient_authority, fs::Dir};
use gadgetd_host::replace;
use gadgetd_kube::controller::{FileSink, NodeError};
use tokio::task::spawn_blocking;

/// The folder of our files below that of the kubelet.
const SUBFOLDER: &str = "gadgetd";

/// How many files there may be for one namespace. Nothing removes them, because pods may use them; and who may write Traces in one
/// namespace must not fill the disk of all.
const NAMESPACE_FILES_MAX: usize = 1024;

/// How many bytes they may have together.
const NAMESPACE_BYTES_MAX: u64 = 64 << 20;

/// Profiles as files of this node: `gadgetd/<namespace>/<name>`, below the kubelet's folder.
///
/// Every access goes through a handle on that folder, so no name and no link leads out of it.
#[derive(Clone, Debug)]
pub struct SeccompFiles {
    root: PathBuf,
}

impl SeccompFiles {
    /// Those below the folder from which the kubelet reads profiles, usually `/var/lib/kubelet/seccomp`. It is made
    /// with the first file if it is not there.
    pub fn below(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }
}

impl FileSink for SeccompFiles {
    async fn write(&self, namespace: &str, name: &str, body: &str) -> Result<String, NodeError> {
        let path = format!("{SUBFOLDER}/{namespace}/{name}");
        for part in [namespace, name] {
            if !is_plain(part) {
                return Err(NodeError::Refused(format!(
                    "{path} is no name for a file: {part:?} is no part of one"
                )));
            }
        }
        let (root, folder) = (self.root.clone(), format!("{SUBFOLDER}/{namespace}"));
        let (file, body) = (name.to_owned(), body.to_owned());
        let written = spawn_blocking(move || write(&root, &folder, &file, &body)).await;
        let outcome = written.unwrap_or_else(|error| Err(io::Error::other(error)));
        match outcome {
            Ok(()) => Ok(path),
            Err(error) => {
                let text = format!("cannot write {}: {error}", self.root.join(&path).display());
                Err(if is_lasting(&error) { NodeError::Refused(text) } else { NodeError::Unavailable(text) })
            }
        }
    }
}

/// Whether a text is one part of a path, and not one with a meaning of its own.
fn is_plain(part: &str) -> bool {
    let mut parts = Path::new(part).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(only)), None) if only == part)
}

/// Whether trying again is of no use before somebody did something about it.
fn is_lasting(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::PermissionDenied
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::IsADirectory
            | io::ErrorKind::InvalidFilename
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::InvalidInput
    )
}

fn write(root: &Path, folder: &str, name: &str, body: &str) -> io::Result<()> {
    fs::create_dir_all(root)?;
    let root = Dir::open_ambient_dir(root, ambient_authority())?;
    root.create_dir_all(folder)?;
    let folder = root.open_dir(folder)?;
    make_room(&folder, name, body.len() as u64)?;
    replace(&folder, name.as_ref(), None, body.as_bytes())
}

/// Whether a file fits beside the others of its folder.
fn make_room(folder: &Dir, name: &str, size: u64) -> io::Result<()> {
    let (mut files, mut bytes) = (1, size);
    for entry in folder.entries()? {
        let entry = entry?;
        if entry.file_name() != name {
            files += 1;
            // One that went meanwhile takes no room.
            bytes += entry.metadata().map_or(0, |metadata| metadata.len());
        }
    }
    if files <= NAMESPACE_FILES_MAX && bytes <= NAMESPACE_BYTES_MAX {
        return Ok(());
    }
    let text = format!(
        "its folder would have {files} files of together {} MiB; there may be {NAMESPACE_FILES_MAX} and {} MiB: remove those that \
         no pod uses",
        bytes.div_ceil(1 << 20),
        NAMESPACE_BYTES_MAX >> 20,
    );
    Err(io::Error::new(io::ErrorKind::QuotaExceeded, text))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[tokio::test]
    async fn a_file_is_where_the_kubelet_looks_for_it() {
        let base = tempfile::tempdir().unwrap();
        let root = base.path().join("kubelet/seccomp");
        let files = SeccompFiles::below(&root);
        for body in ["one", "two"] {
            assert_eq!(
                files.write("shop", "cart-0_app.json", body).await.unwrap(),
                "gadgetd/shop/cart-0_app.json"
            );
            assert_eq!(fs::read_to_string(root.join("gadgetd/shop/cart-0_app.json")).unwrap(), body);
        }
        assert_eq!(fs::read_dir(root.join("gadgetd/shop")).unwrap().count(), 1, "a draft was left behind");
    }

    #[tokio::test]
    async fn nothing_leads_out() {
        let base = tempfile::tempdir().unwrap();
        let root = base.path().join("seccomp");
        let outside = base.path().join("outside");
        fs::create_dir_all(root.join("gadgetd")).unwrap();
        fs::create_dir_all(&outside).unwrap();
        fs::write(outside.join("file"), "untouched").unwrap();
        let files = SeccompFiles::below(&root);
        let absolute = outside.join("file").display().to_string();
        let names = ["..", ".", "", "/", "../x", "a/b", "a/../b", "./a", "a/", &absolute, "\0"];
        for name in names {
            let error = files.write("shop", name, "x").await.expect_err(name);
            assert!(matches!(error, NodeError::Refused(_)), "{name:?}: {error:?}");
            files.write(name, "x", "x").await.expect_err(name);
        }
        // Links that somebody left there.
        symlink(&outside, root.join("gadgetd/away")).unwrap();
        symlink("../../outside", root.join("gadgetd/up")).unwrap();
        for namespace in ["away", "up"] {
            files.write(namespace, "file", "x").await.expect_err(namespace);
        }
        fs::create_dir_all(root.join("gadgetd/shop")).unwrap();
        symlink(outside.join("file"), root.join("gadgetd/shop/link")).unwrap();
        files.write("shop", "link", "x").await.unwrap();
        assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "untouched");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn a_namespace_has_bounded_room() {
        let base = tempfile::tempdir().unwrap();
        let files = SeccompFiles::below(base.path());
        files.write("shop", "0.json", "x").await.unwrap();
        let folder = base.path().join("gadgetd/shop");
        for number in 1..NAMESPACE_FILES_MAX {
            fs::write(folder.join(format!("{number}.json")), "x").unwrap();
        }
        let full =
            |text: &str| format!("cannot write {}/new.json: its folder would have {text}", folder.display());
        let refused = files.write("shop", "new.json", "x").await;
        let text =
            full("1025 files of together 1 MiB; there may be 1024 and 64 MiB: remove those that no pod uses");
        assert_eq!(refused, Err(NodeError::Refused(text)));
        // What is there can be renewed, and others have their own.
        files.write("shop", "7.json", "y").await.unwrap();
        files.write("bank", "new.json", "x").await.unwrap();
        fs::remove_file(folder.join("1.json")).unwrap();
        let large = fs::File::create(folder.join("2.json")).unwrap();
        large.set_len(NAMESPACE_BYTES_MAX).unwrap();
        let refused = files.write("shop", "new.json", "x").await.unwrap_err().to_string();
        assert!(refused.starts_with(&full("1024 files of together 65 MiB")), "{refused}");
        files.write("shop", "2.json", "x").await.unwrap();
        files.write("shop", "new.json", "x").await.unwrap();
    }

    #[tokio::test]
    async fn what_cannot_be_written_is_named() {
        let base = tempfile::tempdir().unwrap();
        fs::write(base.path().join("seccomp"), "no folder").unwrap();
        let files = SeccompFiles::below(&base.path().join("seccomp"));
        let error = files.write("shop", "cart-0.json", "x").await.unwrap_err().to_string();
        assert!(error.contains("seccomp/gadgetd/shop/cart-0.json"), "{error}");
    }
}
