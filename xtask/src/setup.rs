//! `cargo xtask setup`: from a machine that has Rust to one that can build and test everything.
//!
//! What is there is looked for by what it does (a compiler with a library, a program on `PATH`), never by the name of a
//! package, so parts that came another way, from rustup for one, are used as they are. Only what is missing is
//! installed, from Debian's packages and with `cargo install`.

use std::{
    env, fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use gadgetd_artifacts::{
    cache::tools,
    target::{DEBIAN, Target},
    toolchain::{self, Part, find_program},
    workspace,
};

use crate::{
    debian::{self, Release},
    process::{cargo, is_root, run as run_command, show, succeeds},
};

/// LLVM's major version in [`BPF_LINKER_PACKAGES`]; it must be able to read what Debian's `rustc` writes.
const LLVM: &str = "22";
const BPF_LINKER: &str = "0.13.0";
const BPF_LINKER_PACKAGES: &[&str] = &["llvm-22-dev", "clang-22", "zlib1g-dev"];

/// Which versions of tools the templates ask for: the tests use the same.
const PYTHON: &str = "sdk/templates/python/common/requirements.txt";
const JAVASCRIPT: &str = "sdk/templates/js/common/package.json";

/// Which version of zig links for other systems.
const ZIG: &str = "xtask/requirements.txt";

/// What the machine is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum For {
    /// Building gadgetd.
    Build,
    /// Building for other systems as well.
    Cross,
    /// Running every test as well.
    Test,
}

/// Something that has to be on the machine.
struct Need {
    what: &'static str,
    why: &'static str,
    wanted_for: For,
    /// Whether it is there.
    present: fn(&Need) -> bool,
    /// Debian's packages with it, or with what [`Need::then`] needs.
    packages: &'static [&'static str],
    /// What is left to do when the packages are there.
    then: Option<fn() -> Result<()>>,
    /// How to get it on another system.
    elsewhere: &'static str,
}

const NEEDS: &[Need] = &[
    Need {
        what: "headers of libseccomp",
        why: "`gadgetd confine` loads profiles through it",
        wanted_for: For::Build,
        present: |_| succeeds(Command::new("pkg-config").args(["--atleast-version=2.5", "libseccomp"])),
        packages: &["libseccomp-dev", "pkg-config"],
        elsewhere: "pkg-config and the development files of libseccomp 2.5 or newer",
        ..PROGRAM
    },
    Need {
        what: "Rust compiler with `core` for BPF",
        why: "it compiles the program in the kernel",
        wanted_for: For::Build,
        present: |_| Part::BpfCore.is_present(),
        packages: &["rustc-web", "rust-web-src", "libstd-rust-web-dev-bpf", "rust-web-llvm"],
        elsewhere: "rustup toolchain install nightly --component rust-src",
        ..PROGRAM
    },
    Need {
        what: "bpf-linker",
        why: "it links the program in the kernel",
        wanted_for: For::Build,
        present: |_| Part::BpfLinker.is_present(),
        packages: BPF_LINKER_PACKAGES,
        then: Some(|| run_command(&mut install_bpf_linker())),
        elsewhere: "cargo install bpf-linker",
    },
    Need {
        what: "Rust compiler with `std` for WebAssembly",
        why: "it compiles gadgets and formatters",
        wanted_for: For::Build,
        present: |_| Part::WasmStd.is_present(),
        packages: &["rustc-web", "rust-web-src"],
        elsewhere: "rustup target add wasm32-unknown-unknown",
        ..PROGRAM
    },
    Need {
        what: "wasm-component-ld",
        why: "it links gadgets and formatters as components",
        wanted_for: For::Build,
        present: |_| Part::WasmLinker.is_present(),
        packages: &["lld"],
        then: Some(|| run_command(&mut cargo(["install", "--locked", "wasm-component-ld"]))),
        elsewhere: "a Rust toolchain from rustup, or: cargo install wasm-component-ld, and lld",
    },
    Need {
        what: "Rust compiler with `std` for other systems",
        why: "it compiles for arm64, and kubectl-gadget for Windows",
        wanted_for: For::Cross,
        present: |_| Target::ALL.into_iter().all(|target| Part::Std(target).is_present()),
        packages: &["rustc-web", "rust-web-src"],
        elsewhere: "rustup target add aarch64-unknown-linux-gnu x86_64-unknown-linux-gnu x86_64-pc-windows-gnu",
        ..PROGRAM
    },
    Need {
        what: "zig",
        why: "it links for arm64, and for older C libraries",
        wanted_for: For::Cross,
        present: |_| is_installed(&tools::zig(), ZIG, "bin/zig"),
        packages: &["python3-venv"],
        then: Some(install_zig),
        elsewhere: "Python with its module venv",
    },
    Need {
        what: "static libseccomp for other systems",
        why: "`gadgetd confine` loads profiles through it",
        wanted_for: For::Cross,
        present: |_| Target::ALL.into_iter().all(|target| Part::Libraries(target).is_present()),
        then: Some(fetch_libraries),
        elsewhere: "apt-get and dpkg-deb, with which packages of Debian are unpacked",
        ..PROGRAM
    },
    Need {
        what: "C compiler for Windows",
        why: "kubectl-gadget is for people's machines too",
        wanted_for: For::Cross,
        present: |_| Part::C(Target::WindowsAmd64).is_present(),
        packages: &["gcc-mingw-w64-x86-64-win32"],
        elsewhere: "MinGW-w64: x86_64-w64-mingw32-gcc",
        ..PROGRAM
    },
    program("qemu-aarch64-static", &["qemu-user-static"], "it runs tests that are built for arm64"),
    program("strace", &["strace"], "the recordings are compared with what it sees"),
    program("runc", &["runc"], "containers are recorded and confined with it"),
    program("crun", &["crun"], "containers are recorded and confined with it"),
    program("tini", &["tini"], "the init of containers"),
    program("patchelf", &["patchelf"], "runtimes of other Debian releases get their own C library"),
    Need {
        what: "C compiler for 32 bit",
        why: "a 32-bit program is recorded",
        wanted_for: For::Test,
        present: |_| compiles_32_bit().unwrap_or(false),
        packages: &["gcc", "gcc-multilib"],
        elsewhere: "a gcc for which `gcc -m32` works",
        ..PROGRAM
    },
    Need {
        what: "static busybox",
        why: "the containers of the tests run it",
        wanted_for: For::Test,
        // `ldd` fails on a static program.
        present: |_| find("busybox").is_some_and(|busybox| !succeeds(Command::new("ldd").arg(busybox))),
        packages: &["busybox-static"],
        elsewhere: "a statically linked busybox",
        ..PROGRAM
    },
    program("nginx", &["nginx-light"], "a real server that is recorded"),
    program("redis-server", &["redis-server"], "a real server that is recorded"),
    program("sqlite3", &["sqlite3"], "a real program that is recorded"),
    program("git", &["git"], "a real program that is recorded"),
    program("openssl", &["openssl"], "a real program that is recorded"),
    program("node", &["nodejs"], "a real program that is recorded"),
    program("python3", &["python3"], "a real program that is recorded"),
    program("ssh-keygen", &["openssh-client"], "a real program that is recorded"),
    program("perl", &["perl"], "a real program that is recorded"),
    program("docker-registry", &["docker-registry"], "modules are pushed to it and fetched from it"),
    program("skopeo", &["skopeo"], "it reads and copies modules that were pushed"),
    program("systemd-analyze", &["systemd"], "it reads what the formatter systemd writes"),
    program("chromium", &["chromium"], "it reads what the formatter html writes"),
    program("curl", &["curl"], "it asks the servers that are recorded"),
    program("make", &["make"], "it builds modules in C"),
    program("qemu-system-x86_64", &["qemu-system-x86"], "other kernels boot in it"),
    program("qemu-system-aarch64", &["qemu-system-arm"], "other kernels boot in it"),
    program("cpio", &["cpio"], "the machines that other kernels boot are packed with it"),
    Need {
        what: "clang for WebAssembly, with a C library",
        why: "it compiles modules in C",
        wanted_for: For::Test,
        present: |_| toolchain::wasi_clang().is_some(),
        packages: &["clang-22", "libclang-rt-22-dev-wasm32", "wasi-libc"],
        elsewhere: "a clang for wasm32-wasi with wasi-libc",
        ..PROGRAM
    },
    Need {
        what: "componentize-py",
        why: "it makes modules of Python",
        wanted_for: For::Test,
        present: |_| is_installed(&tools::python(), PYTHON, "bin/componentize-py"),
        packages: &["python3-venv"],
        then: Some(|| install_python(&tools::python(), PYTHON)),
        elsewhere: "Python with its module venv",
    },
    program("npm", &["npm"], "it builds modules in JavaScript"),
    Need {
        what: "jco",
        why: "it makes modules of JavaScript",
        wanted_for: For::Test,
        present: |_| is_installed(&tools::javascript(), JAVASCRIPT, "node_modules/.bin/jco"),
        then: Some(|| run_command(&mut install_javascript())),
        elsewhere: "Node.js 20 or newer, with npm",
        ..PROGRAM
    },
];

/// A program on `PATH` that a test needs.
const PROGRAM: Need = Need {
    what: "",
    why: "",
    wanted_for: For::Test,
    present: |need| find(need.what).is_some(),
    packages: &[],
    then: None,
    elsewhere: "",
};

const fn program(name: &'static str, packages: &'static [&'static str], why: &'static str) -> Need {
    Need { what: name, why, packages, elsewhere: name, ..PROGRAM }
}

impl Need {
    fn is_present(&self) -> bool {
        (self.present)(self)
    }
}

/// `cargo xtask setup`: installs what is missing and lists what is there.
pub(crate) fn run() -> Result<()> {
    ensure(For::Test)?;
    for need in NEEDS {
        eprintln!("  {:40} {}", need.what, need.why);
    }
    eprintln!("Everything that building and testing need is here.");
    Ok(())
}

/// Makes the machine able to do it. Prints nothing if it is.
pub(crate) fn ensure(wanted_for: For) -> Result<()> {
    let missing: Vec<&Need> =
        NEEDS.iter().filter(|need| need.wanted_for <= wanted_for && !need.is_present()).collect();
    if !missing.is_empty() {
        install(&missing)?;
    }
    if wanted_for == For::Test {
        mount_file_systems()?;
    }
    Ok(())
}

fn install(missing: &[&Need]) -> Result<()> {
    for need in missing {
        eprintln!("missing: {} ({})", need.what, need.why);
    }
    let packages = packages_of(missing);
    if !is_debian() {
        bail!(
            "this system is not Debian, so setup installs nothing here; please install:\n{}",
            by_hand(missing)
        );
    }
    if !packages.is_empty() {
        debian::install(&packages).with_context(|| format!("please install:\n{}", by_hand(missing)))?;
    }
    for then in missing.iter().filter(|need| !need.is_present()).filter_map(|need| need.then) {
        then()?;
    }
    match missing.iter().find(|need| !need.is_present()) {
        Some(need) => {
            bail!("{} is still missing after the installation; please install: {}", need.what, need.elsewhere)
        }
        None => Ok(()),
    }
}

fn packages_of(missing: &[&Need]) -> Vec<&'static str> {
    let mut packages: Vec<_> = missing.iter().flat_map(|need| need.packages).copied().collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

fn by_hand(missing: &[&Need]) -> String {
    missing.iter().map(|need| format!("  {}: {}", need.what, need.elsewhere)).collect::<Vec<_>>().join("\n")
}

/// Whether packages are installed with `apt-get` and named as in Debian.
fn is_debian() -> bool {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let mut values =
        release.lines().filter_map(|line| line.strip_prefix("ID=").or(line.strip_prefix("ID_LIKE=")));
    values.any(|value| value.contains("debian")) && find("apt-get").is_some()
}

/// It must be linked with an LLVM that reads the compiler's output: Debian's for Debian's.
fn install_bpf_linker() -> Command {
    let llvm = format!("/usr/lib/llvm-{LLVM}");
    let path = env::var("PATH").unwrap_or_default();
    let feature = format!("llvm-{LLVM}");
    let mut command =
        cargo(["install", "--locked", "bpf-linker", "--version", BPF_LINKER, "--no-default-features"]);
    command.args(["--features", &feature]).env("PATH", format!("{llvm}/bin:{path}")).env("LLVM_PREFIX", llvm);
    // All that takes time in it is LLVM: optimizing the rest, and describing it to a debugger, is a minute for nothing.
    command.env("CARGO_PROFILE_RELEASE_DEBUG", "false").env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0");
    command
}

/// Whether a folder has a program that was installed from this list, and not from another one.
fn is_installed(folder: &Path, list: &str, program: &str) -> bool {
    let list = workspace().join(list);
    let of = |file: &Path| fs::read(file).ok();
    let same = list.file_name().is_some_and(|name| of(&folder.join(name)) == of(&list));
    same && folder.join(program).is_file()
}

/// Makes a virtual environment with what a list names.
fn install_python(folder: &Path, list: &str) -> Result<()> {
    let script = r#"python3 -m venv --clear "$1" && "$1/bin/pip" install --quiet -r "$2" && cp "$2" "$1""#;
    run_command(&mut shell(script, folder, list))
}

/// Zig comes as a module of Python's; what it is called by here is the program itself.
fn install_zig() -> Result<()> {
    install_python(&tools::zig(), ZIG)?;
    let script =
        r#"ln -s "$("$1/bin/python" -c 'import ziglang; print(ziglang.__path__[0])')/zig" "$1/bin/zig""#;
    run_command(&mut shell(script, &tools::zig(), ZIG))
}

fn install_javascript() -> Command {
    let script =
        r#"mkdir -p "$1" && cp "$2" "$1" && npm install --silent --no-audit --no-fund --prefix "$1""#;
    shell(script, &tools::javascript(), JAVASCRIPT)
}

/// Puts what programs for Linux are linked with, and run with in an emulator, where cross builds look for it.
fn fetch_libraries() -> Result<()> {
    for target in Target::ALL {
        if let Some(root) = target.root() {
            let release = Release::open(DEBIAN, target.architecture())?;
            release.unpack(&["libseccomp-dev", "libc6"], &root)?;
        }
    }
    Ok(())
}

fn shell(script: &str, folder: &Path, list: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).arg(folder).arg(workspace().join(list));
    command
}

/// A program on `PATH` or where Debian keeps those for root.
fn find(name: &str) -> Option<PathBuf> {
    let sbin = ["/usr/sbin", "/sbin"].into_iter().map(|folder| Path::new(folder).join(name));
    find_program(name).or_else(|| sbin.into_iter().find(|path| path.is_file()))
}

fn compiles_32_bit() -> Result<bool> {
    let mut gcc = Command::new("gcc");
    gcc.args(["-m32", "-x", "c", "-", "-o", "/dev/null"]).stdin(Stdio::piped()).stderr(Stdio::null());
    let mut child = gcc.spawn()?;
    child.stdin.take().context("gcc has no stdin")?.write_all(b"int main(void) { return 0; }")?;
    Ok(child.wait()?.success())
}

/// Maps are pinned below the one, and the tests look at the other for what the kernel offers.
fn mount_file_systems() -> Result<()> {
    const WANTED: [(&str, &str); 2] = [("bpf", "/sys/fs/bpf"), ("tracefs", "/sys/kernel/tracing")];
    let mounts = fs::read_to_string("/proc/self/mounts").context("cannot read /proc/self/mounts")?;
    for (kind, place) in WANTED {
        let mounted = mounts.lines().any(|line| line.split(' ').skip(1).take(2).eq([place, kind]));
        if mounted {
            continue;
        }
        let mut mount = Command::new("mount");
        mount.args(["-t", kind, kind, place]);
        if !is_root() {
            eprintln!(
                "{place} is not mounted; the tests that need it need root anyway: `sudo {}`",
                show(&mount)
            );
        } else if let Err(error) = run_command(&mut mount) {
            eprintln!("{place} stays without its file system, and tests that need it will say so: {error:#}");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_installed_once() {
        let rust: Vec<&Need> = NEEDS.iter().filter(|need| need.packages.contains(&"rustc-web")).collect();
        assert!(rust.len() > 1, "several needs have it");
        let packages = packages_of(&rust);
        assert_eq!(packages, ["libstd-rust-web-dev-bpf", "rust-web-llvm", "rust-web-src", "rustc-web"]);
    }

    #[test]
    fn another_system_is_told_what_to_install() {
        let needs: Vec<&Need> = NEEDS.iter().collect();
        let text = by_hand(&needs);
        assert_eq!(text.lines().count(), NEEDS.len());
        assert!(text.contains("  bpf-linker: cargo install bpf-linker"), "{text}");
    }
}
