//! Stock kernels, out of the packages of Debian's releases.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::{debian::Release, files};

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
        let folder = gadgetd_artifacts::cache::root().join("kernels").join(&package);
        // From some release on the image itself is in a package beside the one of that name.
        let binary = package.replacen("image", "binary", 1);
        let packages = release.closure(&[&package])?;
        let wanted: Vec<_> =
            packages.into_iter().filter(|name| [&package, &binary].contains(&name)).collect();
        release.unpack(&wanted, &folder)?;
        // `boot/vmlinuz-VERSION`, or elsewhere.
        let image = files::below(&folder)?.into_iter().find(|file| file.contains("/vmlinuz"));
        let file = folder.join(image.with_context(|| format!("the package {package} has no image"))?);
        let version = package.trim_start_matches("linux-image-").to_owned();
        Ok(Image { file, version })
    }
}
