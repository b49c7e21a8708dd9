//! `cargo xtask kube-assets`: the Kubernetes that the cluster tests start.
//!
//! Debian 12 has no package of a control plane, but it has its source: Kubernetes 1.20.2, and a Go that builds
//! it. Everything is fetched from the machine's own mirror, into the cache and never into the system: the source,
//! Go, and the daemons that Debian does package (etcd, containerd), whose installation would start services. Only
//! the node's tools (iptables, CNI plugins, …) are installed, and only with `--node`.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs::{self, File},
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result, bail, ensure};
use gadgetd_artifacts::cache::kube::{self, Tier, VERSION};

use crate::{
    debian::{self, Release},
    files::{self, once, place},
    process::{end, output},
};

/// The Debian release that has this Kubernetes.
const DEBIAN: &str = "bookworm";

/// The Go of that release.
const GO: &str = "1.19";

/// What a node needs installed; everything else comes from the cache.
const NODE_PACKAGES: &[&str] = &[
    "runc",
    "containernetworking-plugins",
    "iptables",
    "iproute2",
    "conntrack",
    "mmdebstrap",
    "busybox-static",
];

/// Packages whose programs are unpacked into the cache.
const UNPACKED: &[(&str, &[&str])] =
    &[("etcd-server", &["etcd"]), ("containerd", &["containerd", "containerd-shim-runc-v2", "ctr"])];

/// Arguments of `cargo xtask kube-assets`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Also what a node needs: controller-manager, scheduler, kubelet, kube-proxy, kubectl, containerd
    #[arg(long)]
    node: bool,
}

/// Prints the folder that has the programs, so that `export KUBEBUILDER_ASSETS=$(cargo xtask kube-assets)` works.
pub(crate) fn run(args: &Args) -> Result<()> {
    let folder = provide(if args.node { Tier::Node } else { Tier::Api })?;
    println!("{}", folder.display());
    Ok(())
}

/// Finds the programs of `tier`, builds those that are nowhere, and returns their folder.
pub(crate) fn provide(tier: Tier) -> Result<PathBuf> {
    if tier == Tier::Node {
        install(NODE_PACKAGES, "the node tier runs pods with")?;
    }
    if let Some(folder) = tier.find() {
        return Ok(folder);
    }
    if let Some(named) = std::env::var_os("KUBEBUILDER_ASSETS") {
        say(&format!("KUBEBUILDER_ASSETS={} lacks some of {}", named.display(), tier.programs().join(", ")));
    }
    let build = Build::begin()?;
    if !tier.complete(&build.bin) {
        build.run(tier)?;
    }
    Ok(build.bin.clone())
}

/// One build, which holds the lock of the cache.
struct Build {
    bin: PathBuf,
    /// Source, toolchain and object files: removed once all programs are there.
    work: PathBuf,
    log: PathBuf,
    _lock: File,
}

impl Build {
    fn begin() -> Result<Self> {
        let root = kube::folder();
        let (bin, work, log) = (root.join("bin"), root.join("build"), root.join("build.log"));
        let lock = files::lock(&root, || say("waiting for another build of the same programs"))?;
        for folder in [&bin, &work] {
            fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        }
        Ok(Self { bin, work, log, _lock: lock })
    }

    fn run(&self, tier: Tier) -> Result<()> {
        fs::write(&self.log, "")?;
        let start = Instant::now();
        say(&format!("log: {}", self.log.display()));
        let missing: Vec<&str> =
            tier.programs().iter().copied().filter(|program| !self.bin.join(program).is_file()).collect();
        say(&format!("reading the package lists of Debian {DEBIAN}"));
        let debian = Release::open_with_sources(DEBIAN, &debian::architecture()?)?;
        for (package, programs) in UNPACKED {
            if programs.iter().any(|program| missing.contains(program)) {
                let from = self.unpack(&debian, package)?;
                for program in *programs {
                    place(&from.join("usr/bin").join(program), &self.bin.join(program))?;
                }
            }
        }
        let built: Vec<&str> = missing.into_iter().filter(|program| program.starts_with("kube")).collect();
        if !built.is_empty() {
            self.kubernetes(&debian, &built)?;
        }
        if tier == Tier::Node {
            fs::remove_dir_all(&self.work)
                .with_context(|| format!("cannot remove {}", self.work.display()))?;
        } else {
            say(&format!("{} stays, for --node; it may be removed", self.work.display()));
        }
        say(&format!("{} is complete after {} s", self.bin.display(), start.elapsed().as_secs()));
        Ok(())
    }

    /// Unpacks a binary package into the work folder and returns its root.
    fn unpack(&self, debian: &Release, package: &str) -> Result<PathBuf> {
        let root = self.work.join("packages").join(package);
        say(&format!("fetching {package}"));
        debian.unpack(&[package], &root)?;
        Ok(root)
    }

    /// Builds `programs` from Debian's source package.
    fn kubernetes(&self, debian: &Release, programs: &[&str]) -> Result<()> {
        let go = self.go(debian)?;
        let source = go.path.join("src/k8s.io/kubernetes");
        once(&source, |part| {
            install(&["dpkg-dev"], "to unpack a source package it takes")?;
            let version = source_version(debian)?;
            let download = part.join("download");
            fs::create_dir(&download)?;
            let mut get = debian.apt("apt-get");
            get.args(["source", "--quiet", &format!("kubernetes={version}")]).current_dir(&download);
            self.logged(&format!("fetching the source of Kubernetes {VERSION}"), &mut get)?;
            let tree = fs::read_dir(&download)?
                .filter_map(|entry| Some(entry.ok()?.path()))
                .find(|path| path.is_dir())
                .context("apt-get source left no source tree")?;
            for entry in fs::read_dir(tree)? {
                let entry = entry?;
                fs::rename(entry.path(), part.join(entry.file_name()))?;
            }
            fs::remove_dir_all(&download)?;

            // The vendored reflect2 predates Go 1.18: built with today's Go, kube-apiserver dies of a bad pointer
            // as soon as a custom resource with labels is created. Debian has a newer one.
            let package = self.unpack(debian, "golang-github-modern-go-reflect2-dev")?;
            let vendored = part.join("vendor/github.com/modern-go/reflect2");
            fs::remove_dir_all(&vendored)?;
            fs::rename(package.join("usr/share/gocode/src/github.com/modern-go/reflect2"), &vendored)?;
            Ok(())
        })?;

        // The source package leaves out one generated file that kube-apiserver needs.
        let openapi = source.join("pkg/generated/openapi/zz_generated.openapi.go");
        if !openapi.is_file() {
            self.logged("generating the OpenAPI definitions", &mut self.openapi(&go, &source)?)?;
            ensure!(openapi.is_file(), "openapi-gen has not written {}", openapi.display());
        }

        // The tree is older than modules: it is built from a GOPATH, with its own vendor folder. Without the
        // cloud providers and dockershim, which nothing here uses.
        let out = self.work.join("out");
        fs::create_dir_all(&out)?;
        let mut build = go.command(&source);
        build.args(["build", "-tags", "providerless,dockerless", "-ldflags", &stamp()]).arg("-o").arg(&out);
        build.args(programs.iter().map(|program| format!("./cmd/{program}")));
        self.logged(&format!("building {} (many minutes)", programs.join(", ")), &mut build)?;
        for program in programs {
            place(&out.join(program), &self.bin.join(program))?;
        }
        Ok(())
    }

    fn go(&self, debian: &Release) -> Result<Go> {
        let root = self.work.join("go");
        once(&root, |part| {
            // Two packages of one tree, which refer to each other by relative links.
            for package in [format!("golang-{GO}-go"), format!("golang-{GO}-src")] {
                let unpacked = self.unpack(debian, &package)?;
                let mut copy = Command::new("cp");
                copy.arg("-a").arg(unpacked.join("usr")).arg(part);
                self.logged("", &mut copy)?;
            }
            Ok(())
        })?;
        Ok(Go {
            root: root.join(format!("usr/lib/go-{GO}")),
            cache: self.work.join("gocache"),
            path: self.work.join("gopath"),
        })
    }

    fn openapi(&self, go: &Go, source: &Path) -> Result<Command> {
        let generator = self.work.join("openapi-gen");
        let mut build = go.command(source);
        build.arg("build").arg("-o").arg(&generator).arg("./vendor/k8s.io/kube-openapi/cmd/openapi-gen");
        self.logged("building the generator of the OpenAPI definitions", &mut build)?;

        // Every package that asks for it by its tag; the staging modules by their vendored path.
        let mut grep = Command::new("grep");
        grep.args([
            "--recursive",
            "--files-with-matches",
            "--fixed-strings",
            "--include=*.go",
            "+k8s:openapi-gen=",
        ]);
        let tagged = output(grep.args(["pkg", "staging/src/k8s.io"]).current_dir(source))?;
        let unrelated = ["generated", "code-generator", "sample-apiserver", "testapigroup"];
        let folders = tagged.lines().filter_map(|file| Some(file.rsplit_once('/')?.0));
        let folders = folders.filter(|folder| !unrelated.iter().any(|name| folder.contains(name)));
        let packages: BTreeSet<_> = folders
            .map(|folder| format!("k8s.io/kubernetes/{}", folder.replacen("staging/src", "vendor", 1)))
            .collect();
        let mut command = Command::new(generator);
        go.environment(&mut command);
        command
            .current_dir(source)
            .args(["--logtostderr", "-i", &packages.into_iter().collect::<Vec<_>>().join(",")])
            .args(["-p", "k8s.io/kubernetes/pkg/generated/openapi", "-O", "zz_generated.openapi"])
            .args(["-h", "hack/boilerplate/boilerplate.generatego.txt", "-r"])
            .arg(self.work.join("openapi-violations.txt"));
        Ok(command)
    }

    /// Runs `command` with its output in the log; the end of it is shown when it fails.
    fn logged(&self, what: &str, command: &mut Command) -> Result<()> {
        if !what.is_empty() {
            say(what);
        }
        let name = command.get_program().display().to_string();
        let log = File::options().append(true).create(true).open(&self.log)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let status = command.status().with_context(|| format!("cannot run {name}"))?;
        if !status.success() {
            eprintln!("{}", end(&String::from_utf8_lossy(&fs::read(&self.log)?), 20));
            bail!("{name} failed ({status}); all of its output is in {}", self.log.display());
        }
        Ok(())
    }
}

/// A Go toolchain in a folder of its own.
struct Go {
    root: PathBuf,
    cache: PathBuf,
    /// Its `GOPATH`: where sources are.
    path: PathBuf,
}

impl Go {
    fn command(&self, folder: &Path) -> Command {
        let mut command = Command::new(self.root.join("bin/go"));
        command.current_dir(folder);
        self.environment(&mut command);
        command
    }

    fn environment(&self, command: &mut Command) {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let bin = self.root.join("bin");
        let path =
            std::env::join_paths([bin].into_iter().chain(std::env::split_paths(&path))).unwrap_or(path);
        command
            .env("PATH", path)
            .env("GOROOT", &self.root)
            .env("GOPATH", &self.path)
            .env("GOCACHE", &self.cache)
            .envs([("GO111MODULE", "off"), ("GOFLAGS", ""), ("CGO_ENABLED", "0"), ("GOTOOLCHAIN", "local")]);
    }
}

/// The version of Debian's source package that holds [`VERSION`]; it may be spelled `1.20.5+really1.20.2-…`.
fn source_version(debian: &Release) -> Result<String> {
    let text =
        output(debian.apt("apt-cache").args(["showsrc", "--only-source", "kubernetes"])).unwrap_or_default();
    let versions: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("Version: ")).collect();
    let wanted = versions.iter().find(|version| {
        let upstream = version.split_once('-').map_or(**version, |(upstream, _)| upstream);
        upstream.rsplit("really").next() == Some(VERSION)
    });
    wanted.map(ToString::to_string).with_context(|| {
        format!(
            "the mirror has no source package of Kubernetes {VERSION} in Debian {DEBIAN} (it has: {}); \
             set KUBEBUILDER_ASSETS to a folder with etcd and kube-apiserver",
            if versions.is_empty() { "none".to_owned() } else { versions.join(", ") }
        )
    })
}

/// Linker flags: without them every component would call itself v0.0.0, which clients refuse.
fn stamp() -> String {
    let (major, rest) = VERSION.split_once('.').expect("a version has dots");
    let minor = rest.split('.').next().unwrap_or_default();
    let mut flags = "-s -w".to_owned();
    for package in ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"] {
        let variable = format!("k8s.io/kubernetes/vendor/{package}");
        let _ = write!(
            flags,
            " -X {variable}.gitVersion=v{VERSION} -X {variable}.gitMajor={major} \
             -X {variable}.gitMinor={minor} -X {variable}.gitTreeState=clean"
        );
    }
    flags
}

/// Installs what dpkg does not list as installed.
fn install(packages: &[&str], why: &str) -> Result<()> {
    let missing: Vec<&str> = packages.iter().copied().filter(|package| !installed(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    say(&format!("installing: {why} {}", missing.join(", ")));
    debian::install(&missing)
}

fn installed(package: &str) -> bool {
    Command::new("dpkg-query")
        .args(["--show", "--showformat=${db:Status-Status}", package])
        .stderr(Stdio::null())
        .output()
        .is_ok_and(|output| output.stdout == b"installed")
}

fn say(what: &str) {
    if io::stderr().is_terminal() {
        eprintln!("\x1b[2mkube-assets:\x1b[0m {what}");
    } else {
        eprintln!("kube-assets: {what}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stamp_names_the_version_in_parts() {
        let stamp = stamp();
        assert!(stamp.contains("component-base/version.gitVersion=v1.20.2 "), "{stamp}");
        assert!(stamp.contains("client-go/pkg/version.gitMinor=20 "), "{stamp}");
    }
}
