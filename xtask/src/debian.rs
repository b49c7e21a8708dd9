//! Packages of Debian: of any release and architecture, unpacked into a folder; and of this machine's, installed.
//!
//! For the former apt runs with a configuration of its own, below the cache: the mirror of this machine, another release, an empty list
//! of installed packages. So neither root nor the release of this machine matters, and nothing here changes it.
//!
//! ```ignore
//! let trixie = Release::open("trixie", "amd64")?;
//! trixie.unpack(&trixie.closure(&["runc"])?, &folder)?; // folder/usr/bin/runc, folder/usr/lib/…/libc.so.6
//! ```

use std::{
    fs::{self, File},
    io,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    files,
    process::{is_root, output, run, show},
};

/// Signs every release of Debian that its archive still has.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// How long package lists are taken for current.
const LISTS_LAST: Duration = Duration::from_hours(24);

/// Where a folder with unpacked packages says which they are: a file for each, as images without dpkg have it, and as scanners
/// look for it.
pub(crate) const STATUS: &str = gadgetd_image::PACKAGES;

/// How often packages are tried: the lists of a release that moves can be older or newer than its files.
const ATTEMPTS: u64 = 3;

/// A Debian release for one architecture.
pub(crate) struct Release {
    /// As in `deb` lines: `trixie`, `sid`.
    name: String,
    /// apt's options for everything that is asked of this release.
    options: Vec<String>,
    /// One holder at a time, in any process, reads lists and downloads.
    _lock: File,
}

impl Release {
    /// A release by its name, with its binary packages for `architecture` (Debian's word: `amd64`, `arm64`). Waits while
    /// somebody else has it open.
    pub(crate) fn open(name: &str, architecture: &str) -> Result<Self> {
        Self::with(name, architecture, "deb")
    }

    /// The same, with source packages.
    pub(crate) fn open_with_sources(name: &str, architecture: &str) -> Result<Self> {
        Self::with(name, architecture, "deb deb-src")
    }

    fn with(name: &str, architecture: &str, types: &str) -> Result<Self> {
        ensure!(
            Path::new(KEYRING).is_file(),
            "{KEYRING} is missing: packages of Debian {name} can't be verified; install debian-archive-keyring"
        );
        let kind = if types == "deb" { "" } else { "-sources" };
        let state =
            gadgetd_artifacts::cache::root().join("debian").join(format!("{name}-{architecture}{kind}"));
        let lock = files::lock(&state, || eprintln!("waiting for another use of Debian {name}"))?;
        for folder in ["lists/partial", "cache/archives/partial", "sources"] {
            fs::create_dir_all(state.join(folder))?;
        }
        fs::write(
            state.join("sources/debian.sources"),
            format!(
                "Types: {types}\nURIs: {}\nSuites: {name}\nComponents: main\nSigned-By: {KEYRING}\n\
                 Targets: Packages Sources\n",
                mirror()?
            ),
        )?;
        fs::write(state.join("installed"), "")?;
        let options = [
            ("Dir::Etc::SourceList", Path::new("/dev/null").to_owned()),
            ("Dir::Etc::SourceParts", state.join("sources")),
            ("Dir::State::Lists", state.join("lists")),
            ("Dir::State::Status", state.join("installed")),
            ("Dir::Cache", state.join("cache")),
        ];
        let options = options.map(|(key, path)| format!("-o{key}={}", path.display())).into_iter();
        let others = [
            format!("-oAPT::Architecture={architecture}"),
            format!("-oAPT::Architectures={architecture}"),
            // The user that apt downloads as can't enter a cache below /root.
            "-oAPT::Sandbox::User=root".to_owned(),
            "-oAcquire::Retries=3".to_owned(),
        ];
        let release = Self { name: name.to_owned(), options: options.chain(others).collect(), _lock: lock };
        let read = state.join("lists.read");
        let age = fs::metadata(&read).and_then(|file| file.modified()).map(|time| time.elapsed());
        match age {
            Ok(Ok(age)) if age < LISTS_LAST => {}
            // Without a network the old ones may do.
            Ok(_) => release.update().unwrap_or_else(|error| eprintln!("{error:#}")),
            Err(_) => release.update()?,
        }
        fs::write(read, "")?;
        Ok(release)
    }

    /// One of apt's programs, about this release.
    pub(crate) fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.args(&self.options).env("LC_ALL", "C").stdin(Stdio::null());
        command
    }

    fn update(&self) -> Result<()> {
        output(self.apt("apt-get").args(["--error-on=any", "update"]))
            .map(drop)
            .with_context(|| format!("cannot read the package lists of Debian {}", self.name))
    }

    /// The packages that `package` depends on directly, in its own order. `linux-image-cloud-amd64` has one: the newest.
    pub(crate) fn depends(&self, package: &str) -> Result<Vec<String>> {
        let shown = output(self.apt("apt-cache").args(["depends", "--important", package]))?;
        Ok(after("  Depends: ", &shown))
    }

    /// `packages` and everything that they need to run, down to the C library.
    pub(crate) fn closure(&self, packages: &[&str]) -> Result<Vec<String>> {
        let mut simulation = self.apt("apt-get");
        simulation.args(["--simulate", "--no-install-recommends", "install"]).args(packages);
        Ok(after("Inst ", &output(&mut simulation)?))
    }

    /// Unpacks `packages`, one over the other, into `folder`, unless an earlier run has. The folder is whole or absent.
    pub(crate) fn unpack(&self, packages: &[impl AsRef<str>], folder: &Path) -> Result<()> {
        files::once(folder, |part| {
            let download = part.join("download");
            fs::create_dir(&download)?;
            self.download(packages, &download)?;
            for package in fs::read_dir(&download)? {
                let package = package?.path();
                output(Command::new("dpkg-deb").arg("--extract").arg(&package).arg(part))?;
                let name = output(Command::new("dpkg-deb").arg("--field").arg(&package).arg("Package"))?;
                let status = part.join(STATUS);
                fs::create_dir_all(&status)?;
                let fields = output(Command::new("dpkg-deb").arg("--field").arg(&package))?;
                fs::write(status.join(name), fields)?;
            }
            Ok(fs::remove_dir_all(&download)?)
        })
    }

    fn download(&self, packages: &[impl AsRef<str>], folder: &Path) -> Result<()> {
        let mut attempt = 1;
        loop {
            let mut get = self.apt("apt-get");
            get.arg("download").args(packages.iter().map(AsRef::as_ref)).current_dir(folder);
            match output(&mut get) {
                Ok(_) => return Ok(()),
                Err(error) if attempt == ATTEMPTS => return Err(error),
                Err(_) => self.update()?,
            }
            // The mirror may be in the middle of an update of its own.
            thread::sleep(Duration::from_secs(attempt * attempt));
            attempt += 1;
        }
    }
}

/// The mirror of Debian that this machine's apt uses.
fn mirror() -> Result<String> {
    let mut targets = Command::new("apt-get");
    targets.args(["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]);
    let listed = output(&mut targets).context("only apt can fetch packages of Debian")?;
    let first = listed.lines().find(|uri| !uri.contains("security"));
    Ok(first.context("this machine's apt has no sources: /etc/apt/sources.list names no mirror")?.to_owned())
}

/// Installs packages of this machine's release.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    // stdout belongs to the result of whatever needs them.
    let apt_get = |arguments: &[&str]| -> Command {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").arg("--quiet").args(arguments).stdout(io::stderr());
        command
    };
    let install = || apt_get(&[&["install", "--yes", "--no-install-recommends"][..], packages].concat());
    ensure!(
        is_root(),
        "installing needs root: run `sudo {}`, then again what you just ran",
        show(&install())
    );
    // The lists may be missing or old: they are read only if the short way fails.
    run(&mut install()).or_else(|_| run(&mut apt_get(&["update"])).and_then(|()| run(&mut install())))
}

/// This machine's architecture, in Debian's word.
pub(crate) fn architecture() -> Result<String> {
    output(Command::new("dpkg").arg("--print-architecture"))
}

/// The words that follow `prefix`, of the lines that begin with it.
fn after(prefix: &str, text: &str) -> Vec<String> {
    let words = text.lines().filter_map(|line| line.strip_prefix(prefix)?.split_whitespace().next());
    words.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_apt_says_it_would_install_is_the_closure() {
        let said = "The following NEW packages will be installed:\n  libc6 runc\n\
            Inst libc6 (2.43-7 Debian:unstable [amd64]) []\nInst runc (1.3.6+ds1-1 Debian:unstable [amd64])\n\
            Conf libc6 (2.43-7 Debian:unstable [amd64])\n";
        assert_eq!(after("Inst ", said), ["libc6", "runc"]);
    }
}
