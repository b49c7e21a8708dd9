//! Which compilers this machine has for eBPF, WebAssembly and other systems.
//!
//! Nothing is downloaded or installed here, and nothing is run but `rustc --print sysroot` of the active toolchain.

use std::{
    env,
    ffi::OsStr,
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{EBPF_TARGET, WASM_TARGET, cache::tools, target::Target};

/// The compiler that Debian's packages install, outside of rustup.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// The C compiler for Windows, as all distributions call it.
const MINGW: &str = "x86_64-w64-mingw32-gcc";

/// A part of a toolchain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// A compiler with `core` for BPF.
    BpfCore,
    /// The linker of eBPF programs.
    BpfLinker,
    /// A compiler with the standard library for WebAssembly.
    WasmStd,
    /// The linker of components.
    WasmLinker,
    /// A compiler with the standard library for another system.
    Std(Target),
    /// A C compiler for another system, which links as well.
    C(Target),
    /// C libraries for another system.
    Libraries(Target),
}

impl Part {
    /// Whether this machine has it.
    pub fn is_present(self) -> bool {
        match self {
            Self::BpfCore => bpf_compiler().is_some(),
            Self::BpfLinker => bpf_linker().is_some(),
            Self::WasmStd => wasm_compiler().is_some(),
            Self::WasmLinker => wasm_linker().is_some(),
            Self::Std(target) => cross_compiler(target).is_some(),
            Self::C(target) => CCompiler::of(target).find().is_some(),
            Self::Libraries(target) => has_libraries(target),
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BpfCore => "a Rust compiler with `core` for BPF",
            Self::BpfLinker => "bpf-linker",
            Self::WasmStd => "a Rust compiler with `std` for WebAssembly",
            Self::WasmLinker => "wasm-component-ld",
            Self::Std(target) => return write!(f, "a Rust compiler with `std` for {target}"),
            Self::C(target) => CCompiler::of(*target).name(),
            Self::Libraries(target) => return write!(f, "a static libseccomp for {target}"),
        })
    }
}

/// A part that a build needs and the machine does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{wanted} cannot be built on this machine because {part} is missing: run `cargo xtask setup`")]
pub struct Missing {
    /// What cannot be built.
    pub wanted: &'static str,
    /// What it needs.
    pub part: Part,
}

/// A compiler with all it needs to build for one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Toolchain {
    /// The compiler.
    pub rustc: PathBuf,
    /// Where its libraries are.
    pub sysroot: PathBuf,
    /// The cargo that calls it.
    pub cargo: PathBuf,
    /// What links its output.
    pub linker: PathBuf,
    /// Whether the standard library has to be compiled along.
    pub build_std: bool,
}

/// The toolchain for the eBPF program: the first of Debian's compiler and rustup's nightlies that has `core` for BPF,
/// compiled or as source.
pub fn ebpf() -> Result<Toolchain, Missing> {
    let missing = |part| Missing { wanted: "the eBPF program", part };
    let linker = bpf_linker().ok_or(missing(Part::BpfLinker))?;
    let (compiler, build_std) = bpf_compiler().ok_or(missing(Part::BpfCore))?;
    Ok(compiler.into_toolchain(linker, build_std))
}

/// The toolchain for the components: the active one if it has the target, else the first of rustup's nightlies and
/// Debian's compiler that can compile the standard library for it.
pub fn wasm() -> Result<Toolchain, Missing> {
    let missing = |part| Missing { wanted: "the gadgets", part };
    let linker = wasm_linker().ok_or(missing(Part::WasmLinker))?;
    let (compiler, build_std) = wasm_compiler().ok_or(missing(Part::WasmStd))?;
    Ok(compiler.into_toolchain(linker, build_std))
}

/// The toolchain for another system, found as that for the components is.
pub(crate) fn cross(target: Target) -> Result<Toolchain, Missing> {
    let missing = |part| Missing { wanted: target.triple(), part };
    let linker = CCompiler::of(target).find().ok_or(missing(Part::C(target)))?;
    let (compiler, build_std) = cross_compiler(target).ok_or(missing(Part::Std(target)))?;
    if !has_libraries(target) {
        return Err(missing(Part::Libraries(target)));
    }
    Ok(compiler.into_toolchain(linker, build_std))
}

fn cross_compiler(target: Target) -> Option<(Compiler, bool)> {
    wasm_candidates().find_map(|compiler| compiler.for_target(target.triple()))
}

fn has_libraries(target: Target) -> bool {
    target.libraries().is_none_or(|folder| folder.join("libseccomp.a").is_file())
}

/// What compiles C for another system, and links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CCompiler {
    /// It has the headers and libraries of other systems with it.
    Zig,
    /// For Windows.
    MinGw,
}

impl CCompiler {
    pub(crate) fn of(target: Target) -> Self {
        if target.os() == "windows" { Self::MinGw } else { Self::Zig }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Zig => "zig",
            Self::MinGw => MINGW,
        }
    }

    /// Zig of the version that this project asks for, else another.
    fn find(self) -> Option<PathBuf> {
        let ours = (self == Self::Zig).then(|| tools::zig().join("bin/zig")).filter(|zig| zig.is_file());
        ours.or_else(|| find_program(self.name()))
    }
}

fn bpf_compiler() -> Option<(Compiler, bool)> {
    debian().into_iter().chain(nightlies()).find_map(|compiler| compiler.for_target(EBPF_TARGET))
}

fn bpf_linker() -> Option<PathBuf> {
    find_program("bpf-linker")
}

fn wasm_compiler() -> Option<(Compiler, bool)> {
    wasm_candidates().find_map(|compiler| compiler.for_target(WASM_TARGET))
}

/// The linker of components, wherever on this machine it is.
pub fn wasm_linker() -> Option<PathBuf> {
    let mut shipped = wasm_candidates().map(|compiler| compiler.tools().join("wasm-component-ld"));
    shipped
        .find(|linker| linker.is_file() && wasm_ld(linker).is_some())
        .or_else(|| find_program("wasm-component-ld"))
}

fn wasm_candidates() -> impl Iterator<Item = Compiler> {
    active().into_iter().chain(nightlies()).chain(debian())
}

/// A call of Rust's own `objcopy`, which knows the programs of every architecture; that of the machine's C compiler knows
/// its own.
pub fn objcopy() -> Option<Command> {
    let mut all = wasm_candidates().map(|compiler| (compiler.tools().join("rust-objcopy"), compiler.sysroot));
    let (program, sysroot) = all.find(|(program, _)| program.is_file())?;
    let mut command = Command::new(program);
    // It is linked with the compiler's LLVM, and does not look there by itself.
    command.env("LD_LIBRARY_PATH", sysroot.join("lib"));
    Some(command)
}

/// The `wasm-ld` that rustup ships beside its `wasm-component-ld`, which would otherwise look on `PATH`.
pub fn wasm_ld(component_ld: &Path) -> Option<PathBuf> {
    Some(component_ld.parent()?.join("gcc-ld/wasm-ld")).filter(|path| path.is_file())
}

/// The first clang that has a C library for WebAssembly and what else it links with.
pub fn wasi_clang() -> Option<PathBuf> {
    let versions = (16..=30).rev().map(|version| format!("clang-{version}"));
    let names = std::iter::once("clang".to_owned()).chain(versions);
    names.filter_map(|name| find_program(&name)).find(|clang| {
        ["libc.a", "crt1-reactor.o"].iter().all(|file| knows(clang, &format!("--print-file-name={file}")))
            && knows(clang, "--print-libgcc-file-name")
    })
}

/// Whether the file of which the compiler knows the name is there.
fn knows(clang: &Path, question: &str) -> bool {
    let mut command = Command::new(clang);
    command.args(["--target=wasm32-wasi", "-Wno-deprecated", question]);
    command
        .output()
        .is_ok_and(|answer| Path::new(String::from_utf8_lossy(&answer.stdout).trim_end()).is_file())
}

/// A program of this name on `PATH` or where `cargo install` puts it.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = env::split_paths(&path).collect();
    folders.push(cargo_home().join("bin"));
    folders.into_iter().map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Cargo's own folder.
pub(crate) fn cargo_home() -> PathBuf {
    env::var_os("CARGO_HOME").map_or_else(|| home().join(".cargo"), PathBuf::from)
}

/// The folders that the standard library's source is in, if it is there: as named below the sysroot, and where that
/// name leads (Debian's is a symbolic link).
pub(crate) fn rust_src(sysroot: &Path) -> Vec<PathBuf> {
    let source = sysroot.join("lib/rustlib/src/rust");
    let Ok(real) = source.canonicalize() else { return Vec::new() };
    if real == source { vec![source] } else { vec![source, real] }
}

/// A compiler on this machine.
#[derive(Debug, Clone)]
struct Compiler {
    rustc: PathBuf,
    sysroot: PathBuf,
}

impl Compiler {
    fn at(sysroot: PathBuf) -> Option<Self> {
        let rustc = sysroot.join("bin/rustc");
        rustc.is_file().then_some(Self { rustc, sysroot })
    }

    fn libraries(&self) -> PathBuf {
        self.sysroot.join("lib/rustlib")
    }

    /// The compiler itself and whether it has to compile the library first, if it can build for this target at all.
    fn for_target(self, target: &str) -> Option<(Self, bool)> {
        let compiled = has_core(&self.libraries().join(target).join("lib"));
        let source = self.libraries().join("src/rust/library/core/src/lib.rs").is_file();
        (compiled || source).then_some((self, !compiled))
    }

    /// Where a toolchain keeps the tools that only it uses.
    fn tools(&self) -> PathBuf {
        let host = format!("{}-unknown-linux-gnu", env::consts::ARCH);
        self.libraries().join(host).join("bin")
    }

    fn into_toolchain(self, linker: PathBuf, build_std: bool) -> Toolchain {
        let beside = self.sysroot.join("bin/cargo");
        let cargo = if beside.is_file() { beside } else { outer_cargo() };
        Toolchain { rustc: self.rustc, sysroot: self.sysroot, cargo, linker, build_std }
    }
}

fn has_core(folder: &Path) -> bool {
    let Ok(entries) = fs::read_dir(folder) else { return false };
    entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("libcore-"))
}

/// The compiler that cargo uses here.
fn active() -> Option<Compiler> {
    // Cargo's build scripts are told; anything else asks as cargo would.
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(&rustc).args(["--print", "sysroot"]).output().ok()?;
    let sysroot = String::from_utf8(output.stdout).ok()?;
    Compiler::at(PathBuf::from(sysroot.trim_end()))
}

fn debian() -> Option<Compiler> {
    let rustc = PathBuf::from(DEBIAN_RUSTC);
    // Other distributions have rustup's own proxy there, without libraries.
    (rustc.is_file() && Path::new("/usr/lib/rustlib").is_dir())
        .then(|| Compiler { rustc, sysroot: PathBuf::from("/usr") })
}

/// The nightly toolchains of rustup, the plain `nightly` first.
fn nightlies() -> Vec<Compiler> {
    let rustup = env::var_os("RUSTUP_HOME").map_or_else(|| home().join(".rustup"), PathBuf::from);
    let Ok(entries) = fs::read_dir(rustup.join("toolchains")) else { return Vec::new() };
    let is_nightly = |path: &PathBuf| {
        path.file_name().and_then(OsStr::to_str).is_some_and(|name| name.starts_with("nightly"))
    };
    let mut folders: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(is_nightly).collect();
    folders.sort_by_key(|path| (path.as_os_str().len(), path.clone()));
    folders.into_iter().filter_map(Compiler::at).collect()
}

/// The cargo that runs us.
fn outer_cargo() -> PathBuf {
    env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from)
}

fn home() -> PathBuf {
    env::var_os("HOME").map_or_else(|| "/root".into(), PathBuf::from)
}
