//! `cargo xtask dist`: everything that a release consists of, in `target/dist`.
//!
//! The same commit gives the same bytes: nothing has a time, an owner or a path of the machine in it.

mod archive;
mod krew;
mod programs;
mod provenance;
mod sbom;

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use gadgetd_artifacts::{target_dir, workspace};
use sha2::{Digest as _, Sha256};

use crate::{files, process::output, setup};
use programs::Program;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Systems that people have, and that nothing here links for.
const LEFT_OUT: &str = "NOT BUILT: kubectl-gadget for macOS (darwin amd64 and arm64). It links with Apple's frameworks Security and \
    CoreFoundation, which come with Xcode alone.";

/// Builds a release from a clean tree, and says how large its parts are.
pub(crate) fn run() -> Result<()> {
    let git = |arguments: &[&str]| output(Command::new("git").args(arguments).current_dir(workspace()));
    let changed = git(&["status", "--porcelain"])?;
    ensure!(changed.is_empty(), "a release is made of a commit, but these files are not in one:\n{changed}");
    let commit = git(&["rev-parse", "HEAD"])?;
    setup::ensure(setup::For::Cross)?;
    sbom::provide()?;
    let work = tempfile::tempdir_in(target_dir())?;
    let built = programs::build(work.path())?;

    let to = work.path().join("dist");
    fs::create_dir(&to)?;
    package(&built, &to)?;
    sbom::write(&built, &to)?;
    let compilers = [
        ("rustc".to_owned(), output(Command::new("rustc").arg("--version"))?),
        ("cross".to_owned(), output(Command::new("/usr/bin/rustc").arg("--version")).unwrap_or_default()),
        ("zig".to_owned(), fs::read_to_string(workspace().join("xtask/requirements.txt"))?.trim().to_owned()),
    ];
    let statement = provenance::statement(&sums(&to)?, &commit, &compilers);
    fs::write(to.join("provenance.intoto.json"), serde_json::to_vec_pretty(&statement)?)?;
    let all = sums(&to)?;
    let lines: Vec<String> = all.iter().map(|(name, sum)| format!("{sum}  {name}\n")).collect();
    fs::write(to.join("SHA256SUMS"), lines.concat())?;

    let place = target_dir().join("dist");
    if place.exists() {
        fs::remove_dir_all(&place).with_context(|| format!("cannot remove {}", place.display()))?;
    }
    fs::rename(&to, &place).with_context(|| format!("cannot make {}", place.display()))?;
    for (name, _) in &all {
        eprintln!("{:>10} KiB  {name}", fs::metadata(place.join(name))?.len().div_ceil(1024));
    }
    eprintln!("{LEFT_OUT}");
    println!("{}", place.display());
    programs::check_sizes(&built)
}

/// Writes everything that is made of programs into a folder.
fn package(built: &[Program], to: &Path) -> Result<()> {
    archives(built, to)?;
    let chart = to.join(format!("gadgetd-chart-{VERSION}.tgz"));
    folder(&workspace().join("deploy/charts/gadgetd"), "gadgetd", &chart)?;
    manifests(&image(built, to)?, to)?;
    let runs = |one: &&Program| one.name == "kubectl-gadget" && one.runs_here();
    let plugin = built.iter().find(runs).context("no kubectl-gadget was built that this machine can run")?;
    explanations(&plugin.stripped, to)
}

/// Writes an archive for each program, and the manifest for krew.
fn archives(built: &[Program], to: &Path) -> Result<()> {
    let root = workspace();
    let licences = ["LICENSE-APACHE", "LICENSE-MIT", "README.md"].map(|name| (name, root.join(name)));
    let mut plugins = Vec::new();
    for program in built {
        let archive = archive::name(program.name, VERSION, program.target);
        let folder = archive.trim_end_matches(".tar.gz");
        // krew finds the program at the top, and so does whoever unpacks it by hand.
        let mut entries: Vec<archive::Entry<'_>> =
            vec![(format!("{}{}", program.name, program.target.suffix()), 0o755, &program.stripped)];
        entries.extend(licences.iter().map(|(name, from)| ((*name).to_owned(), 0o644, from.as_path())));
        archive::write(&to.join(&archive), &entries)?;
        if let Some(symbols) = &program.symbols {
            let entry = (format!("{}.debug", program.name), 0o644, symbols.as_path());
            archive::write(&to.join(format!("{folder}-debug.tar.gz")), &[entry])?;
        }
        if program.name == "kubectl-gadget" {
            plugins.push((program.target, sum(&to.join(&archive))?));
        }
    }
    let head = fs::read_to_string(root.join("deploy/krew/gadgetd.yaml"))?;
    fs::write(to.join("gadgetd.yaml"), krew::manifest(&head, VERSION, &plugins)?)?;
    Ok(())
}

/// Packs all files of a folder.
fn folder(from: &Path, name: &str, to: &Path) -> Result<()> {
    let files = files::below(from)?;
    let paths: Vec<PathBuf> = files.iter().map(|file| from.join(file)).collect();
    let entries: Vec<archive::Entry<'_>> = files
        .iter()
        .zip(&paths)
        .map(|(file, path)| (format!("{name}/{file}"), 0o644, path.as_path()))
        .collect();
    archive::write(to, &entries)
}

/// The image for every architecture that gadgetd was built for; returns its digest.
fn image(built: &[Program], to: &Path) -> Result<String> {
    let work = tempfile::tempdir_in(to)?;
    let mut images = Vec::new();
    for program in built.iter().filter(|program| program.name == "gadgetd") {
        let architecture = program.target.architecture();
        let layer = work.path().join(format!("{architecture}.tar"));
        let packed = layer.with_extension("tar.gz");
        let root = program.target.root().context("gadgetd is for Linux")?;
        gadgetd_image::rootfs_from(&program.stripped, &root, &layer)?;
        archive::pack(&layer, &packed)?;
        images.push(gadgetd_image::image().architecture(architecture).packed_layer(layer, packed));
    }
    gadgetd_image::write_index(&images, &to.join(format!("gadgetd-{VERSION}-image.tar")))
}

/// The manifests, which name the image by its digest.
fn manifests(digest: &str, to: &Path) -> Result<()> {
    let tag = gadgetd_image::reference();
    let work = tempfile::tempdir_in(to)?;
    let deploy = workspace().join("deploy");
    let mut named = 0;
    for part in ["base", "crds", "distributions"] {
        for file in files::below(&deploy.join(part))? {
            let text = fs::read_to_string(deploy.join(part).join(&file))?;
            named += text.matches(&tag).count();
            let path = work.path().join(part).join(&file);
            fs::create_dir_all(path.parent().context("a file is in a folder")?)?;
            fs::write(path, text.replace(&tag, &format!("{}@{digest}", gadgetd_image::REPOSITORY)))?;
        }
    }
    ensure!(named > 0, "no manifest in deploy names the image {tag}");
    folder(work.path(), "gadgetd-manifests", &to.join(format!("gadgetd-manifests-{VERSION}.tar.gz")))
}

/// Completions and man pages, which the command writes itself.
fn explanations(plugin: &Path, to: &Path) -> Result<()> {
    let work = tempfile::tempdir_in(to)?;
    for shell in ["bash", "zsh", "fish"] {
        let text = output(Command::new(plugin).args(["completion", shell]))?;
        fs::write(work.path().join(format!("kubectl-gadget.{shell}")), text + "\n")?;
    }
    let man = work.path().join("man");
    fs::create_dir(&man)?;
    output(Command::new(plugin).arg("man").arg(&man))?;
    folder(work.path(), "kubectl-gadget", &to.join(format!("kubectl-gadget-completions-{VERSION}.tar.gz")))
}

/// The SHA-256 of every file of a folder.
fn sums(folder: &Path) -> Result<Vec<(String, String)>> {
    files::below(folder)?.into_iter().map(|name| Ok((name.clone(), sum(&folder.join(&name))?))).collect()
}

fn sum(file: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    io::copy(&mut File::open(file).with_context(|| format!("cannot read {}", file.display()))?, &mut hash)?;
    Ok(format!("{:x}", hash.finalize()))
}

#[cfg(test)]
mod tests {
    use gadgetd_artifacts::target::Target;

    use super::*;

    fn programs(folder: &Path) -> Result<Vec<Program>> {
        let fake = |name: &'static str, target: Target| -> Result<Program> {
            let stripped = folder.join(format!("{name}-{target}"));
            fs::write(&stripped, format!("{name} for {target}"))?;
            Ok(Program { name, target, stripped, symbols: None })
        };
        [Target::LinuxAmd64, Target::LinuxArm64, Target::WindowsAmd64]
            .into_iter()
            .map(|target| fake("kubectl-gadget", target))
            .collect()
    }

    #[test]
    fn the_manifest_for_krew_names_what_is_there_and_its_sums() -> Result<()> {
        let work = tempfile::tempdir()?;
        let built = programs(work.path())?;
        let (one, two) = (work.path().join("one"), work.path().join("two"));
        for to in [&one, &two] {
            fs::create_dir(to)?;
            archives(&built, to)?;
        }
        assert_eq!(sums(&one)?, sums(&two)?, "equal programs, equal bytes");
        let manifest = fs::read_to_string(one.join("gadgetd.yaml"))?;
        let after = |mark: &str| -> Vec<String> {
            manifest.lines().filter_map(|line| line.trim().strip_prefix(mark)).map(str::to_owned).collect()
        };
        let (uris, written) = (after("uri: "), after("sha256: "));
        assert_eq!((uris.len(), written.len()), (3, 3), "{manifest}");
        for (uri, written) in uris.iter().zip(written) {
            let name = uri.rsplit('/').next().unwrap_or_default();
            assert_eq!(sum(&one.join(name))?, written, "{name}");
        }
        Ok(())
    }

    #[test]
    fn manifests_name_the_image_by_its_digest() -> Result<()> {
        let to = tempfile::tempdir()?;
        manifests("sha256:c0ffee", to.path())?;
        let packed = File::open(to.path().join(format!("gadgetd-manifests-{VERSION}.tar.gz")))?;
        let mut text = String::new();
        io::Read::read_to_string(&mut flate2::read::GzDecoder::new(packed), &mut text)?;
        assert!(text.contains("image: ghcr.io/gadgetd/gadgetd@sha256:c0ffee\n"));
        assert!(!text.contains(&gadgetd_image::reference()));
        Ok(())
    }
}
