//! `cargo xtask runtimes`: runc and crun of other Debian releases, beside this machine's own.
//!
//! A program of a newer release needs that release's C library, so each is unpacked with all libraries that it needs,
//! and told where they are. It can't be started through the other loader instead: runc starts `/proc/self/exe` again.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use gadgetd_artifacts::cache::runtimes::{self, RELEASES};

use crate::{
    debian::{self, Release},
    files,
    process::output,
};

/// Both runtimes, by the names of their packages and programs.
const RUNTIMES: [&str; 2] = ["runc", "crun"];

/// Fetches what is missing. A release that can't be had is named, and its tests are skipped; with `CI=true` they fail.
pub(crate) fn provide() -> Result<()> {
    for (release, sources) in RELEASES {
        let folder = runtimes::folder(release);
        let _lock =
            files::lock(&folder, || eprintln!("waiting for another fetch of the runtimes of {release}"))?;
        if RUNTIMES.iter().all(|name| runtimes::program(release, name).is_file()) {
            continue;
        }
        eprintln!("fetching {} of Debian {release}", RUNTIMES.join(" and "));
        let failure = runtimes::failure(release);
        match fetch(sources, &folder) {
            Ok(()) if failure.exists() => fs::remove_file(failure)?,
            Ok(()) => {}
            Err(error) => {
                eprintln!("SKIPPED the runtimes of Debian {release}: {error:#}");
                fs::write(failure, format!("{error:#}"))?;
            }
        }
    }
    Ok(())
}

/// `cargo xtask runtimes`.
pub(crate) fn run() -> Result<()> {
    provide()?;
    for (release, _) in RELEASES {
        for name in RUNTIMES {
            let program = runtimes::program(release, name);
            ensure!(program.is_file(), "there is no {name} of Debian {release}");
            println!("{}: {}", program.display(), version(&program)?);
        }
    }
    Ok(())
}

/// Makes `folder/bin` from the first of the releases that has its packages.
fn fetch(sources: &[&str], folder: &Path) -> Result<()> {
    let root = folder.join("root");
    let mut result = Ok(());
    for source in sources {
        result = Release::open(source, &debian::architecture()?)
            .and_then(|release| release.unpack(&release.closure(&RUNTIMES)?, &root));
        match &result {
            Ok(()) => break,
            Err(error) => eprintln!("no runtimes of Debian {source}: {error:#}"),
        }
    }
    result?;
    let loader = loader(&root)?;
    let libraries = loader.parent().context("the loader is in no folder")?;
    fs::create_dir_all(folder.join("bin"))?;
    for name in RUNTIMES {
        let part = folder.join(name);
        let places = ["usr/sbin", "usr/bin"].map(|place| root.join(place).join(name));
        let program = places.iter().find(|place| place.is_file());
        fs::copy(program.with_context(|| format!("the packages have no program {name}"))?, &part)?;
        let mut patchelf = Command::new("patchelf");
        patchelf.arg("--set-interpreter").arg(&loader).args(["--force-rpath", "--set-rpath"]).arg(libraries);
        output(patchelf.arg(&part)).context("patchelf does not run: `cargo xtask setup` installs it")?;
        version(&part)?;
        fs::rename(part, folder.join("bin").join(name))?;
    }
    Ok(())
}

/// The first line that a runtime says of itself.
fn version(program: &Path) -> Result<String> {
    let said = output(Command::new(program).arg("--version"))?;
    Ok(said.lines().next().unwrap_or_default().to_owned())
}

/// The loader of dynamic programs, in the folder of the libraries: `usr/lib/x86_64-linux-gnu`.
fn loader(root: &Path) -> Result<PathBuf> {
    let libraries = root.join("usr/lib");
    let mut all = files::below(&libraries)?.into_iter().map(|file| libraries.join(file));
    let is_loader =
        |file: &PathBuf| file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ld-linux"));
    all.find(is_loader).with_context(|| format!("there is no loader below {}", libraries.display()))
}
