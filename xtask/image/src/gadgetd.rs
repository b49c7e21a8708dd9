use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::{Image, Layer};

/// Where the project's images are, without the tag.
pub const REPOSITORY: &str = "ghcr.io/gadgetd/gadgetd";

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
    let config = json!({ "Entrypoint": [format!("/{PROGRAM}")], "Cmd": ["serve"] });
    Image::new(reference(), config)
        .layer(layer)
        .annotation("org.opencontainers.image.title", "gadgetd")
        .annotation(
            "org.opencontainers.image.description",
            "Records which system calls containers make, and runs gadgets on the recordings",
        )
        .annotation("org.opencontainers.image.version", env!("CARGO_PKG_VERSION"))
        .annotation("org.opencontainers.image.source", env!("CARGO_PKG_REPOSITORY"))
        .annotation("org.opencontainers.image.licenses", env!("CARGO_PKG_LICENSE"))
        .write(to)
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
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for licence in ["LICENSE-APACHE", "LICENSE-MIT"] {
        files.add(&format!("usr/share/doc/gadgetd/{licence}"), 0o644, &root.join(licence))?;
    }
    files.layer.finish()
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
