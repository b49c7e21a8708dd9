//! The systems that programs are built for.

use std::{fmt, path::PathBuf, str::FromStr};

use crate::cache;

/// The oldest glibc that the programs for Linux run with: that of Debian 11 and Ubuntu 20.04.
pub const GLIBC: &str = "2.31";

/// The release of Debian whose libraries are linked with: they must not need more than [`GLIBC`] has.
pub const DEBIAN: &str = "bookworm";

/// A system that programs are built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Linux on 64-bit x86, with [`GLIBC`].
    LinuxAmd64,
    /// Linux on 64-bit Arm, with [`GLIBC`].
    LinuxArm64,
    /// Windows on 64-bit x86, with the tools of MinGW, which other systems have too.
    WindowsAmd64,
}

impl Target {
    /// Every target.
    pub const ALL: [Self; 3] = [Self::LinuxAmd64, Self::LinuxArm64, Self::WindowsAmd64];

    /// The name that Rust has for it.
    pub fn triple(self) -> &'static str {
        match self {
            Self::LinuxAmd64 => "x86_64-unknown-linux-gnu",
            Self::LinuxArm64 => "aarch64-unknown-linux-gnu",
            Self::WindowsAmd64 => "x86_64-pc-windows-gnu",
        }
    }

    /// The system, as Go, container images and krew call it: `linux`, `windows`.
    pub fn os(self) -> &'static str {
        match self {
            Self::LinuxAmd64 | Self::LinuxArm64 => "linux",
            Self::WindowsAmd64 => "windows",
        }
    }

    /// The architecture, as Go, container images, krew and Debian call it: `amd64`, `arm64`.
    pub fn architecture(self) -> &'static str {
        match self {
            Self::LinuxAmd64 | Self::WindowsAmd64 => "amd64",
            Self::LinuxArm64 => "arm64",
        }
    }

    /// What programs end with.
    pub fn suffix(self) -> &'static str {
        if self == Self::WindowsAmd64 { ".exe" } else { "" }
    }

    /// Where the C libraries of this target are: the root of a Debian that is not installed, into which `cargo xtask
    /// setup` unpacks libseccomp, which gadgetd links with, and the C library, with which an emulator runs the programs. `None`
    /// where nothing is linked with.
    pub fn root(self) -> Option<PathBuf> {
        (self.os() == "linux")
            .then(|| cache::root().join(format!("libraries/{DEBIAN}-{}", self.architecture())))
    }

    /// The folder of [`Target::root`] that has libraries of the architecture.
    pub fn libraries(self) -> Option<PathBuf> {
        let name = self.triple().replace("-unknown", "");
        Some(self.root()?.join("usr/lib").join(name))
    }

    /// As zig calls it, with the C library's version.
    pub(crate) fn zig_target(self) -> String {
        format!("{}.{GLIBC}", self.triple().replace("-unknown", ""))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.triple())
    }
}

/// No [`Target`] has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("nothing is built for {0}; choose one of {all}", all = Target::ALL.map(Target::triple).join(", "))]
pub struct UnknownTarget(String);

impl FromStr for Target {
    type Err = UnknownTarget;

    fn from_str(triple: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|target| target.triple() == triple);
        found.ok_or_else(|| UnknownTarget(triple.to_owned()))
    }
}
