//! Stock kernels, out of the packages of Debian's releases.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::debian::Release;

/// A kernel as Debian ships it for virtual machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kernel {
    /// The release of Debian that it is of.
    pub release: &'static str,
    /// Debian's word for the machine.
    pub architecture: &'static str,
}

/// A kernel that is there.
pub(super) struct Image {
    /// The file to boot.
    pub file: PathBuf,
    /// What it calls itself: `6.1.0-50-cloud-amd64`.
    pub version: String,
}

impl Kernel {
    /// Fetches the newest kernel of the release, unless it is there.
    pub(super) fn fetch(self) -> Result<Image> {
        let release = Release::open(self.release, self.architecture)?;
        let newest = format!("linux-image-cloud-{}", self.architecture);
        let package = release.depends(&newest)?.into_iter().find(|name| name.starts_with("linux-image-"));
        let package =
            package.with_context(|| format!("{newest} of Debian {} names no kernel", self.release))?;
        let folder = gadgetd_kube_assets::cache().join("kernels").join(&package);
        // From some release on the image itself is in a package beside the one of that name.
        let binary = package.replacen("image", "binary", 1);
        let packages = release.closure(&[&package])?;
        let wanted: Vec<_> =
            packages.into_iter().filter(|name| [&package, &binary].contains(&name)).collect();
        release.unpack(&wanted, &folder)?;
        let file = image(&folder).with_context(|| format!("the package {package} has no image"))?;
        let version = package.trim_start_matches("linux-image-").to_owned();
        Ok(Image { file, version })
    }
}

/// The image of a kernel package, wherever in it: `/boot/vmlinuz-VERSION`.
fn image(folder: &Path) -> Option<PathBuf> {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).ok()?.flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(path);
            } else if entry.file_name().to_string_lossy().starts_with("vmlinuz") {
                return Some(path);
            }
        }
    }
    None
}
