//! Programs for other systems than the one that builds: another architecture, another system, or an older C library.
//!
//! ```no_run
//! use gadgetd_artifacts::cross::{Target, cross_build};
//!
//! let mut cargo = cross_build(Target::LinuxArm64)?;
//! cargo.args(["--release", "--package", "gadgetd", "--bin", "gadgetd"]);
//! assert!(cargo.status().is_ok_and(|status| status.success()));
//! # Ok::<(), gadgetd_artifacts::toolchain::Missing>(())
//! ```

use std::{
    ffi::OsString,
    fmt, fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{self, Command},
    str::FromStr,
};

use gadgetd_kube_assets::cache;

use crate::{
    cargo, remap, remaps, target_dir,
    toolchain::{self, CCompiler, Missing},
    workspace,
};

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
        (self.os() == "linux").then(|| cache().join(format!("libraries/{DEBIAN}-{}", self.architecture())))
    }

    /// The folder of [`Target::root`] that has libraries of the architecture.
    pub fn libraries(self) -> Option<PathBuf> {
        let name = self.triple().replace("-unknown", "");
        Some(self.root()?.join("usr/lib").join(name))
    }

    /// What compiles C for it and links.
    pub(crate) fn c_compiler(self) -> CCompiler {
        match self {
            Self::LinuxAmd64 | Self::LinuxArm64 => CCompiler::Zig,
            Self::WindowsAmd64 => CCompiler::MinGw,
        }
    }

    fn zig_target(self) -> String {
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

/// A call of `cargo build` in this workspace for another system. What to build, with which profile, is the caller's to add.
/// The programs will be in the folder of the profile below `target/TRIPLE`.
pub fn cross_build(target: Target) -> Result<Command, Missing> {
    cross("build", target)
}

/// The same with `cargo check`: whether it compiles.
pub fn cross_check(target: Target) -> Result<Command, Missing> {
    cross("check", target)
}

fn cross(subcommand: &str, target: Target) -> Result<Command, Missing> {
    let toolchain = toolchain::cross(target)?;
    let mut flags = remaps(&toolchain);
    flags.push(remap(&workspace(), ""));
    let mut cargo = cargo(&toolchain, &flags);
    cargo.current_dir(workspace()).args([subcommand, "--locked", "--target", target.triple()]);
    // The build's own folder, and not one more for each target: what the build scripts make of it is the same.
    cargo.arg("--target-dir").arg(target_dir());
    if toolchain.build_std {
        cargo.arg("-Zbuild-std=std,panic_unwind");
    } else {
        // Build scripts look at it: they would run again, after a build without it.
        cargo.env_remove("RUSTC_BOOTSTRAP");
    }
    let name = target.triple().replace('-', "_");
    // Named here and not in the compiler's flags, which are part of the identity of what is compiled.
    let linker = format!("CARGO_TARGET_{}_LINKER", name.to_uppercase());
    match target.c_compiler() {
        CCompiler::MinGw => {
            cargo.env(linker, &toolchain.linker);
        }
        CCompiler::Zig => {
            let missing = |_| Missing { wanted: target.triple(), part: toolchain::Part::C(target) };
            let wrapper = |what, script: &str| {
                let file = target_dir().join("artifacts/zig").join(format!("{what}-{target}"));
                write_script(&file, script).map(|()| file).map_err(missing)
            };
            let cc = wrapper("cc", &cc_script(&toolchain.linker, &target.zig_target()))?;
            let ar = wrapper("ar", &format!("#!/bin/sh\nexec '{}' ar \"$@\"\n", toolchain.linker.display()))?;
            cargo.env(linker, &cc).env(format!("CC_{name}"), cc).env(format!("AR_{name}"), ar);
        }
    }
    if let Some(libraries) = target.libraries() {
        cargo.env("LIBSECCOMP_LIB_PATH", libraries).env("LIBSECCOMP_LINK_TYPE", "static");
    }
    Ok(cargo)
}

/// Zig has names of its own for targets, and refuses those that others pass on.
fn cc_script(zig: &Path, target: &str) -> String {
    format!(
        "#!/bin/sh\n\
         for argument; do\n  \
           shift\n  \
           case $argument in --target=*) ;; *) set -- \"$@\" \"$argument\" ;; esac\n\
         done\n\
         exec '{}' cc -target {target} \"$@\"\n",
        zig.display()
    )
}

/// Another build may run the script at this moment: it is replaced as a whole, and only if it is another.
fn write_script(file: &Path, content: &str) -> io::Result<()> {
    if fs::read_to_string(file).is_ok_and(|found| found == content) {
        return Ok(());
    }
    let folder = file.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut new = OsString::from(file);
    new.push(format!(".{}", process::id()));
    fs::write(&new, content)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755))?;
    fs::rename(&new, file)
}
