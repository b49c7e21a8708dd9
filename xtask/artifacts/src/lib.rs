//! Finds the toolchains for eBPF, WebAssembly and other systems, and builds what gadgetd embeds.
//!
//! Two kinds of code in this project are not for the machine that compiles it: the eBPF program and the
//! components. A build script asks this crate for them, so a plain `cargo build` is all it takes; where a
//! toolchain is missing, the build stops with one sentence that names the command that gets it. `xtask` asks the
//! same questions through [`toolchain`], so what it sets up is what the builds look for.
//!
//! ```no_run
//! // In the build.rs of a crate that embeds the eBPF object:
//! gadgetd_artifacts::rerun_if_changed(gadgetd_artifacts::Sources::Ebpf);
//! let object = gadgetd_artifacts::or_fail(gadgetd_artifacts::ebpf());
//! println!("cargo::rustc-env=EBPF_OBJECT={}", object.display());
//! ```

pub mod cache;
pub mod cross;
pub mod target;
pub mod toolchain;

use std::{
    env,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
};

use toolchain::{Missing, Toolchain};

/// The target of the eBPF program: little-endian BPF, on every architecture that gadgetd runs on.
pub const EBPF_TARGET: &str = "bpfel-unknown-none";
/// The target of the components: nothing of the outside world in it, so a guest imports our WIT and nothing else.
pub const WASM_TARGET: &str = "wasm32-unknown-unknown";
/// What only this workspace has, from its root.
const CONTRACT: &str = "sdk/wit/worlds.wit";
/// The profile of the components, in the workspace's `Cargo.toml`.
pub const WASM_PROFILE: &str = "component";
/// The same for a build script whose own package is compiled without optimization: sooner there, not so fast.
const QUICK_WASM_PROFILE: &str = "component-demo";

/// Why an artifact could not be built.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// A part of a toolchain is not on this machine.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// The nested cargo could not be started.
    #[error("cannot start {}", program.display())]
    Spawn {
        /// What was to be run.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The nested cargo ran and failed; it has already printed why.
    #[error("building {what} failed ({status}): see the compiler's messages")]
    Build {
        /// What was being built.
        what: String,
        /// How cargo ended.
        status: ExitStatus,
    },
    /// The nested cargo succeeded, but what it was to make is not there.
    #[error("cargo built {what}, but there is no {}: is its crate type `cdylib`?", path.display())]
    NotProduced {
        /// What was built.
        what: String,
        /// Where it should be.
        path: PathBuf,
    },
}

/// What an artifact is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sources {
    /// The eBPF program.
    Ebpf,
    /// Gadgets, formatters and what they are written against.
    Components,
}

/// Builds the eBPF program and returns the path of the object file.
///
/// ```no_run
/// let object = gadgetd_artifacts::ebpf()?;
/// assert!(object.is_file());
/// # Ok::<(), gadgetd_artifacts::ArtifactError>(())
/// ```
pub fn ebpf() -> Result<PathBuf, ArtifactError> {
    let what = "the eBPF program";
    run(&mut ebpf_build()?, what)?;
    produced(what, ebpf_target_dir().join(EBPF_TARGET).join("release/gadgetd"))
}

/// The call of cargo that [`ebpf`] makes, for those who want to see what it says.
pub fn ebpf_build() -> Result<Command, Missing> {
    let toolchain = toolchain::ebpf()?;
    let mut flags: Vec<OsString> = vec![
        // BTF is made from debug information, and the kernel needs BTF for maps and `tp_btf` programs.
        "-Cdebuginfo=2".into(),
        "-Clink-arg=--btf".into(),
        // One object serves every machine: the loader tells the program which one it is on. aya asks for a name all the same,
        // and calls types by it.
        "--cfg=bpf_target_arch=\"x86_64\"".into(),
        format!("-Clinker={}", toolchain.linker.display()).into(),
    ];
    flags.extend(remaps(&toolchain));
    flags.push(remap(&workspace(), ""));

    let mut cargo = cargo(&toolchain, &flags);
    cargo.current_dir(workspace().join("ebpf/programs"));
    cargo.args(["build", "--release", "--locked", "--bin", "gadgetd"]);
    cargo.args(["--target", EBPF_TARGET]).arg("--target-dir").arg(ebpf_target_dir());
    if toolchain.build_std {
        cargo.arg("-Zbuild-std=core");
    }
    Ok(cargo)
}

fn ebpf_target_dir() -> PathBuf {
    target_dir().join("artifacts/ebpf")
}

/// Builds packages of this workspace as WebAssembly components and returns the paths of the `.wasm` files, in the
/// same order.
///
/// The packages are libraries of crate type `cdylib`.
///
/// ```no_run
/// let components = gadgetd_artifacts::components(&["seccomp-advisor", "formatter-oci"])?;
/// assert_eq!(components.len(), 2);
/// # Ok::<(), gadgetd_artifacts::ArtifactError>(())
/// ```
pub fn components(packages: &[&str]) -> Result<Vec<PathBuf>, ArtifactError> {
    run(&mut components_build(packages)?, &packages.join(", "))?;
    let folder = components_target_dir().join(WASM_TARGET).join(wasm_profile());
    let file = |package: &str| folder.join(package.replace('-', "_")).with_extension("wasm");
    packages.iter().map(|package| produced(package, file(package))).collect()
}

/// The call of cargo that [`components`] makes, for those who want to see what it says.
pub fn components_build(packages: &[&str]) -> Result<Command, Missing> {
    let mut cargo = component_build()?;
    cargo.current_dir(workspace()).args(["--locked", "--profile", wasm_profile()]);
    cargo.arg("--target-dir").arg(components_target_dir());
    for package in packages {
        cargo.args(["--package", package]);
    }
    Ok(cargo)
}

fn wasm_profile() -> &'static str {
    // Cargo tells build scripts, and nobody else.
    if env::var("OPT_LEVEL").is_ok_and(|level| level == "0") { QUICK_WASM_PROFILE } else { WASM_PROFILE }
}

/// A call of cargo, `cargo build`, that makes components of libraries: its toolchain, its target and its linker. Which
/// libraries, with which profile, and where to, is the caller's to add.
///
/// ```no_run
/// // A project of somebody else's, as its own manifest has it:
/// let mut cargo = gadgetd_artifacts::component_build()?;
/// cargo.current_dir("/home/me/count").arg("--release");
/// assert!(cargo.status().is_ok_and(|status| status.success()));
/// # Ok::<(), gadgetd_artifacts::toolchain::Missing>(())
/// ```
pub fn component_build() -> Result<Command, Missing> {
    let toolchain = toolchain::wasm()?;
    let mut flags: Vec<OsString> = vec![format!("-Clinker={}", toolchain.linker.display()).into()];
    if let Some(wasm_ld) = toolchain::wasm_ld(&toolchain.linker) {
        flags.push(format!("-Clink-arg=--wasm-ld-path={}", wasm_ld.display()).into());
    }
    flags.extend(remaps(&toolchain));

    let mut cargo = cargo(&toolchain, &flags);
    cargo.args(["build", "--lib", "--target", WASM_TARGET]);
    if toolchain.build_std {
        // Without what prints backtraces: there is nothing to print them to.
        cargo.args(["-Zbuild-std=std,panic_abort", "-Zbuild-std-features="]);
    }
    Ok(cargo)
}

fn components_target_dir() -> PathBuf {
    target_dir().join("artifacts/wasm")
}

/// Tells cargo, from a build script, which files make the script run again.
pub fn rerun_if_changed(sources: Sources) {
    let paths: &[&str] = match sources {
        Sources::Ebpf => {
            &["ebpf/common", "ebpf/programs/Cargo.toml", "ebpf/programs/Cargo.lock", "ebpf/programs/src"]
        }
        Sources::Components => &["Cargo.toml", "Cargo.lock", "gadgets", "runtime/core", "sdk"],
    };
    for path in paths {
        println!("cargo::rerun-if-changed={}", workspace().join(path).display());
    }
}

/// The artifact, or the end of the build script with the reason as cargo's error message.
pub fn or_fail<T>(result: Result<T, ArtifactError>) -> T {
    result.unwrap_or_else(|error| {
        let cause = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
        println!("cargo::error={error}{cause}");
        // Cargo shows a script's output only when the script itself fails. A missing toolchain has none, and one
        // sentence is enough; a failed compilation has the compiler's messages.
        std::process::exit(i32::from(!matches!(error, ArtifactError::Missing(_))));
    })
}

/// The root of the workspace: of the package that cargo is building or running right now. This crate's own place would
/// not do: two checkouts that share a target folder share the compiled crate, and with it the place of the first.
pub fn workspace() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let running = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let root =
        |from: &Path| from.ancestors().find(|folder| folder.join(CONTRACT).is_file()).map(PathBuf::from);
    running.as_deref().and_then(root).or_else(|| root(own)).unwrap_or_else(|| own.to_path_buf())
}

/// The target folder of the build that the running program is a part of: cargo marks it with a `CACHEDIR.TAG`.
pub fn target_dir() -> PathBuf {
    let executable = env::current_exe().unwrap_or_default();
    let marked = executable.ancestors().skip(1).find(|folder| folder.join("CACHEDIR.TAG").is_file());
    marked.map_or_else(|| workspace().join("target"), Path::to_path_buf)
}

/// A cargo that knows nothing of the cargo, clippy or rustdoc that runs us: every such variable would change the
/// nested build, and with it what cargo believes to be up to date.
fn cargo(toolchain: &Toolchain, flags: &[OsString]) -> Command {
    let mut command = Command::new(&toolchain.cargo);
    for (name, _) in env::vars_os() {
        let name_text = name.to_string_lossy();
        if belongs_to_outer_build(&name_text) {
            command.env_remove(&name);
        }
    }
    // The compilers found here are release versions; what is unstable in them is only the way they are called.
    command.env("RUSTC", &toolchain.rustc).env("RUSTC_BOOTSTRAP", "1");
    command.env("CARGO_ENCODED_RUSTFLAGS", flags.join(&OsString::from("\x1f")));
    command
}

fn belongs_to_outer_build(name: &str) -> bool {
    const ALL: [&str; 8] =
        ["DEBUG", "HOST", "LD_LIBRARY_PATH", "NUM_JOBS", "OPT_LEVEL", "OUT_DIR", "PROFILE", "TARGET"];
    const BEGIN: [&str; 8] =
        ["CARGO", "CLIPPY_", "DEP_", "MAKEFLAGS", "RUSTC", "RUSTDOC", "RUSTFLAGS", "RUSTUP_TOOLCHAIN"];
    // How to reach a registry is the machine's business, not a build's.
    const KEPT: [&str; 5] =
        ["CARGO_HOME", "CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTRIES_", "CARGO_REGISTRY_"];
    let begins = |list: &[&str]| list.iter().any(|prefix| name.starts_with(prefix));
    (ALL.contains(&name) || begins(&BEGIN)) && !begins(&KEPT)
}

/// Replaces this machine's folders in what ends up in an artifact (panic messages, debug information), so that two
/// machines make the same bytes.
fn remaps(toolchain: &Toolchain) -> Vec<OsString> {
    let mut remaps = vec![remap(&toolchain::cargo_home(), "cargo")];
    for source in toolchain::rust_src(&toolchain.sysroot) {
        remaps.push(remap(&source, "rust"));
    }
    remaps
}

fn remap(from: &Path, to: &str) -> OsString {
    let mut flag = OsString::from("--remap-path-prefix=");
    flag.push(from);
    flag.push("=");
    flag.push(to);
    flag
}

fn run(command: &mut Command, what: &str) -> Result<(), ArtifactError> {
    // A build script's stdout is read by cargo.
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let status = command
        .status()
        .map_err(|source| ArtifactError::Spawn { program: command.get_program().into(), source })?;
    if status.success() { Ok(()) } else { Err(ArtifactError::Build { what: what.to_owned(), status }) }
}

fn produced(what: &str, path: PathBuf) -> Result<PathBuf, ArtifactError> {
    if path.is_file() { Ok(path) } else { Err(ArtifactError::NotProduced { what: what.to_owned(), path }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_the_outer_build_reaches_the_nested_one() {
        let outer = [
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_MAKEFLAGS",
            "CARGO_MANIFEST_DIR",
            "CARGO_PKG_NAME",
            "CARGO_PROFILE_RELEASE_DEBUG",
            "CARGO_TARGET_DIR",
            "CLIPPY_ARGS",
            "DEBUG",
            "DEP_Z_ROOT",
            "LD_LIBRARY_PATH",
            "MAKEFLAGS",
            "OUT_DIR",
            "RUSTC",
            "RUSTC_WORKSPACE_WRAPPER",
            "RUSTDOCFLAGS",
            "RUSTFLAGS",
            "RUSTUP_TOOLCHAIN",
            "TARGET",
        ];
        assert_eq!(
            outer.into_iter().filter(|name| !belongs_to_outer_build(name)).collect::<Vec<_>>(),
            [""; 0]
        );
    }

    #[test]
    fn what_describes_the_machine_stays() {
        let machine = [
            "CARGO_HOME",
            "CARGO_HTTP_PROXY",
            "CARGO_NET_OFFLINE",
            "CARGO_REGISTRIES_CRATES_IO_PROTOCOL",
            "DEBUGINFOD_URLS",
            "HOME",
            "HOSTNAME",
            "HTTPS_PROXY",
            "PATH",
            "RUSTUP_HOME",
            "TMPDIR",
        ];
        assert_eq!(
            machine.into_iter().filter(|name| belongs_to_outer_build(name)).collect::<Vec<_>>(),
            [""; 0]
        );
    }

    #[test]
    fn the_workspace_is_the_one_with_the_contract() {
        assert!(workspace().join(CONTRACT).is_file());
        assert!(target_dir().join("CACHEDIR.TAG").is_file());
    }
}
