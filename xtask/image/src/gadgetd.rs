use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::{Image, Layer};

/// Where the project's images are, without the tag.
pub const REPOSITORY: &str = "ghcr.io/gadgetd/gadgetd";

/// Where an image, or another folder with unpacked packages of Debian, says which they are: a file for each, as images without a
/// package manager have it, and as scanners look for it.
pub const PACKAGES: &str = "var/lib/dpkg/status.d";

const PROGRAM: &str = "usr/bin/gadgetd";

/// The image of this version, as the manifests in `deploy` name it.
pub fn reference() -> String {
    format!("{REPOSITORY}:{}", env!("CARGO_PKG_VERSION"))
}

/// Writes the image with `program`, a gadgetd that was built on this machine, as an archive.
pub fn gadgetd(program: &Path, to: &Path) -> Result<()> {
    let work = tempfile::tempdir()?;
    let layer = work.path().join("layer.tar");
    rootfs(program, &layer)?;
    image().layer(layer).write(to)
}

/// The image without a layer: what it starts, and what it says of itself.
pub fn image() -> Image {
    let config = json!({ "Entrypoint": [format!("/{PROGRAM}")], "Cmd": ["serve"] });
    Image::new(reference(), config)
        .annotation("org.opencontainers.image.title", "gadgetd")
        .annotation(
            "org.opencontainers.image.description",
            "Records which system calls containers make, and runs gadgets on the recordings",
        )
        .annotation("org.opencontainers.image.version", env!("CARGO_PKG_VERSION"))
        .annotation("org.opencontainers.image.source", env!("CARGO_PKG_REPOSITORY"))
        .annotation("org.opencontainers.image.licenses", env!("CARGO_PKG_LICENSE"))
}

/// Writes what is in the image as a tar file: the program, the shared libraries that it is linked with, their licences,
/// and nothing else. No shell, no package manager, no user database.
pub fn rootfs(program: &Path, to: &Path) -> Result<()> {
    let work = tempfile::tempdir()?;
    let libraries = libraries(program)?;
    let mut files = Contents { layer: Layer::create(to)?, folders: BTreeSet::new() };
    files.add(PROGRAM, 0o755, &stripped(program, work.path())?)?;
    for library in &libraries {
        files.add(&inside(library)?, 0o755, library)?;
    }
    for notice in notices(&libraries) {
        files.add(&inside(&notice)?, 0o644, &notice)?;
    }
    files.finish()
}

/// The same of a program that is stripped, for another machine: its libraries come from `root`, an unpacked system of that
/// architecture.
pub fn rootfs_from(program: &Path, root: &Path, to: &Path) -> Result<()> {
    let mut files = Contents { layer: Layer::create(to)?, folders: BTreeSet::new() };
    files.add(PROGRAM, 0o755, program)?;
    for library in libraries_in(program, root)? {
        files.add(&library, 0o755, &resolved(root, &library))?;
    }
    // Those that are linked with statically are there too.
    let mut packages: Vec<String> = Vec::new();
    for package in fs::read_dir(root.join("usr/share/doc"))? {
        packages.extend(package?.file_name().into_string());
    }
    packages.sort_unstable();
    for package in packages {
        for of_it in [format!("usr/share/doc/{package}/copyright"), format!("{PACKAGES}/{package}")] {
            if root.join(&of_it).is_file() {
                files.add(&of_it, 0o644, &root.join(&of_it))?;
            }
        }
    }
    files.finish()
}

/// The shared libraries of a program, and theirs, its loader among them, by their paths in `root`.
fn libraries_in(program: &Path, root: &Path) -> Result<BTreeSet<String>> {
    let (mut found, mut files) = (BTreeSet::new(), vec![program.to_owned()]);
    while let Some(file) = files.pop() {
        let output =
            Command::new("readelf").args(["--wide", "--dynamic", "--program-headers"]).arg(&file).output();
        let text = String::from_utf8(output.context("cannot run readelf (package binutils)")?.stdout)?;
        for name in parse_readelf(&text) {
            let path = in_root(root, &name).with_context(|| {
                format!("{} needs {name}, which is not in {}", file.display(), root.display())
            })?;
            if found.insert(path.clone()) {
                files.push(resolved(root, &path));
            }
        }
    }
    Ok(found)
}

/// Names of libraries, and the path of the loader.
fn parse_readelf(text: &str) -> Vec<String> {
    let after = |line: &str, mark: &str| Some(line.split_once(mark)?.1.split(']').next()?.to_owned());
    let one = |line| after(line, "Shared library: [").or_else(|| after(line, "interpreter: "));
    text.lines().filter_map(one).collect()
}

/// Where a library is: a path of its own, or in a folder that Debian's loader looks into. Not below `/usr`, so that the loader is
/// not there a second time.
fn in_root(root: &Path, name: &str) -> Option<String> {
    let name = name.trim_start_matches('/');
    let folders = ["", "lib/aarch64-linux-gnu/", "lib/x86_64-linux-gnu/"];
    let mut all = folders.iter().map(|folder| format!("{folder}{name}"));
    all.find(|path| resolved(root, path).is_file())
}

/// A file of the system in `root`, where a symbolic link may have a whole path, which means one there.
fn resolved(root: &Path, path: &str) -> PathBuf {
    let file = root.join(path);
    match fs::read_link(&file) {
        Ok(target) => target.strip_prefix("/").map(|inside| root.join(inside)).unwrap_or(file),
        Err(_) => file,
    }
}

/// A layer that gets its folders as its files need them.
struct Contents {
    layer: Layer,
    folders: BTreeSet<PathBuf>,
}

impl Contents {
    fn add(&mut self, path: &str, mode: u32, from: &Path) -> Result<()> {
        let above: Vec<&Path> = Path::new(path).ancestors().skip(1).collect();
        for folder in above.into_iter().rev().filter(|folder| !folder.as_os_str().is_empty()) {
            if self.folders.insert(folder.to_owned()) {
                self.layer.folder(&folder.display().to_string(), 0o755)?;
            }
        }
        self.layer.copy(path, mode, from)
    }

    /// Adds the project's own licences, and writes the end.
    fn finish(mut self) -> Result<()> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        for licence in ["LICENSE-APACHE", "LICENSE-MIT"] {
            self.add(&format!("usr/share/doc/gadgetd/{licence}"), 0o644, &root.join(licence))?;
        }
        self.layer.finish()
    }
}

/// The program without what only a debugger reads, which is most of it.
fn stripped(program: &Path, work: &Path) -> Result<PathBuf> {
    let to = work.join("gadgetd");
    let status = Command::new("strip").arg("--strip-debug").arg("-o").arg(&to).arg(program).status();
    ensure!(status.context("cannot run strip (package binutils)")?.success(), "strip failed");
    Ok(to)
}

/// The shared libraries of a program, its loader among them, where the loader looks for them.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output().context("cannot run ldd")?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(
        output.status.success(),
        "ldd {}: {}",
        program.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    parse_ldd(&text)
}

/// `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)`, `/lib64/ld-linux-x86-64.so.2 (0x…)`, and the vDSO, which is
/// no file.
fn parse_ldd(text: &str) -> Result<Vec<PathBuf>> {
    let mut libraries = BTreeSet::new();
    for line in text.lines().map(str::trim) {
        ensure!(!line.contains("not found"), "the program's libraries are not all here: {line}");
        let path = line.split_once("=> ").map_or(line, |(_, path)| path);
        let path = path.split_once(" (").map_or(path, |(path, _)| path);
        libraries.extend(path.starts_with('/').then(|| PathBuf::from(path)));
    }
    Ok(libraries.into_iter().collect())
}

/// What the packages of these files say about their licences, as far as the machine's package manager knows.
fn notices(files: &[PathBuf]) -> BTreeSet<PathBuf> {
    let mut notices = BTreeSet::new();
    for file in files {
        let real = file.canonicalize().unwrap_or_else(|_| file.clone());
        for path in [file, &real] {
            let Ok(output) = Command::new("dpkg-query").arg("--search").arg(path).output() else { continue };
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let package = text.split([':', ',']).next().unwrap_or_default();
            let notice = Path::new("/usr/share/doc").join(package).join("copyright");
            notices.extend((!package.is_empty() && notice.is_file()).then_some(notice));
        }
    }
    notices
}

/// A path of the machine as one of the image.
fn inside(path: &Path) -> Result<String> {
    let path = path.strip_prefix("/").with_context(|| format!("{} is no whole path", path.display()))?;
    Ok(path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_needs_is_what_its_headers_name() {
        let text = "      [Requesting program interpreter: /lib/ld-linux-aarch64.so.1]\n \
                    0x0000000000000001 (NEEDED)             Shared library: [libc.so.6]\n \
                    0x000000000000000e (SONAME)             Library soname: [libm.so.6]\n";
        assert_eq!(parse_readelf(text), ["/lib/ld-linux-aarch64.so.1", "libc.so.6"]);
    }

    #[test]
    fn libraries_are_what_ldd_says_but_for_the_vdso() -> Result<()> {
        let text = "\tlinux-vdso.so.1 (0x00007ffc)\n\
                    \tlibseccomp.so.2 => /lib/x86_64-linux-gnu/libseccomp.so.2 (0x00007f3)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f4)\n";
        let found = parse_ldd(text)?;
        assert_eq!(
            found.iter().map(|path| path.to_str()).collect::<Vec<_>>(),
            [Some("/lib/x86_64-linux-gnu/libseccomp.so.2"), Some("/lib64/ld-linux-x86-64.so.2")]
        );
        let missing = parse_ldd("\tlibseccomp.so.2 => not found\n").expect_err("it is not here");
        assert!(missing.to_string().contains("libseccomp.so.2"), "{missing}");
        Ok(())
    }
}
