//! Programs for other systems than the one that builds: another architecture, another system, or an older C library.
//!
//! ```no_run
//! use gadgetd_artifacts::{cross::cross_build, target::Target};
//!
//! let mut cargo = cross_build(Target::LinuxArm64)?;
//! cargo.args(["--release", "--package", "gadgetd", "--bin", "gadgetd"]);
//! assert!(cargo.status().is_ok_and(|status| status.success()));
//! # Ok::<(), gadgetd_artifacts::toolchain::Missing>(())
//! ```

use std::{
    ffi::OsString,
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{self, Command},
};

use crate::{
    cargo, remap, remaps,
    target::Target,
    target_dir,
    toolchain::{self, CCompiler, Missing},
    workspace,
};

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
    match CCompiler::of(target) {
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
