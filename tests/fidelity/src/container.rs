//! Containers without a cluster: a bundle made from the machine's own files, run by an OCI runtime.

use std::fmt::{self, Display};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use gadgetd_artifacts::cache::runtimes::{self, RELEASES};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process::{self, DEADLINE, Finished, Io, Running};
use crate::programs;
use crate::tier::{self, Missing};

/// Where the workloads are in a container.
pub const WORKLOADS: &str = "/workloads";

/// The user of containers that do not run as root.
pub const USER: u32 = 1000;

/// An OCI runtime: runc, the reference in Go, or crun, the one in C.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Runtime {
    name: &'static str,
    /// One of [`RELEASES`]; `None`: the one that is installed.
    release: Option<&'static str>,
}

impl Runtime {
    /// runc as it is installed.
    pub const RUNC: Self = Self { name: "runc", release: None };

    /// Both, as installed and of every other Debian release.
    pub fn all() -> Vec<Self> {
        let releases = RELEASES.iter().map(|(release, _)| Some(*release));
        let releases: Vec<_> = [None].into_iter().chain(releases).collect();
        ["runc", "crun"]
            .into_iter()
            .flat_map(|name| releases.iter().map(move |&release| Self { name, release }))
            .collect()
    }

    /// `runc` or `crun`.
    pub fn name(self) -> &'static str {
        self.name
    }

    /// Its program.
    pub fn program(self) -> PathBuf {
        self.release.map_or_else(|| self.name.into(), |release| runtimes::program(release, self.name))
    }

    /// What it lacks to be run here.
    pub fn missing(self) -> Option<Missing> {
        let Some(release) = self.release else { return tier::installed(self.name) };
        (!self.program().is_file()).then(|| {
            let why = fs::read_to_string(runtimes::failure(release));
            let why = why.map_or_else(|_| String::new(), |why| format!(" ({why})"));
            let name = self.name;
            Missing::new(format!("no {name} of Debian {release}{why}: `cargo xtask runtimes` fetches it"))
        })
    }
}

impl Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.release {
            None => f.write_str(self.name),
            Some(release) => write!(f, "{}-{release}", self.name),
        }
    }
}

/// As whom, and how, the container's program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// User and group.
    pub user: u32,
    /// Whether the program and its children can't gain privileges. It decides when a runtime loads the filter.
    pub no_new_privileges: bool,
    /// What else is peculiar.
    pub shape: Shape,
}

/// A peculiarity of a container that changes what a runtime does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// None: a read-only root, Docker's capabilities, pipes.
    Plain,
    /// The root can be written to.
    Writable,
    /// No capability at all.
    Powerless,
    /// The program has a terminal of its own.
    Terminal,
    /// An init is process 1, which starts the program.
    Init,
}

impl Settings {
    /// Every combination of users and privileges, in one shape.
    pub fn all(shape: Shape) -> [Self; 4] {
        [(0, false), (0, true), (USER, false), (USER, true)].map(|(user, no_new_privileges)| Self {
            user,
            no_new_privileges,
            shape,
        })
    }

    fn io(self) -> Io {
        if self.shape == Shape::Terminal { Io::Terminal } else { Io::Pipes }
    }
}

impl Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = if self.user == 0 { "root" } else { "user" };
        let privileges = if self.no_new_privileges { "no-new-privileges" } else { "any-privileges" };
        match self.shape {
            Shape::Plain => write!(f, "{user}-{privileges}"),
            shape => write!(f, "{user}-{privileges}-{}", format!("{shape:?}").to_lowercase()),
        }
    }
}

/// The init that containers get from Docker.
pub const INIT: &str = "tini";

/// The file system of every container: the machine's programs, read-only, with a `/tmp` of the container's own.
pub struct Rootfs {
    directory: TempDir,
    workloads: PathBuf,
}

impl Rootfs {
    /// Makes the directories and links that file systems are mounted over.
    pub fn build(workloads: &Path) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("gadgetd-rootfs-").tempdir()?;
        for name in ["proc", "dev", "tmp", "run", "usr", "etc", "workloads"] {
            fs::create_dir(directory.path().join(name))?;
        }
        // runc gives what it mounts the mode of what is beneath.
        fs::set_permissions(directory.path().join("tmp"), fs::Permissions::from_mode(0o1777))?;
        for name in MERGED {
            let path = Path::new("/").join(name);
            match fs::read_link(&path) {
                Ok(target) => symlink(target, directory.path().join(name))?,
                Err(_) if path.is_dir() => fs::create_dir(directory.path().join(name))?,
                Err(_) => {}
            }
        }
        Ok(Self { directory, workloads: workloads.to_owned() })
    }
}

/// Directories that are links into `/usr` on most machines.
const MERGED: [&str; 5] = ["bin", "sbin", "lib", "lib32", "lib64"];

/// What Docker and containerd give a container.
const CAPABILITIES: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// A container: its name, its bundle, its cgroup, and the runtime that runs it.
pub struct Container<'r> {
    rootfs: &'r Rootfs,
    runtime: Runtime,
    settings: Settings,
    name: String,
    directory: TempDir,
}

impl<'r> Container<'r> {
    /// A container that does not run yet, with a name that no other has.
    pub fn new(rootfs: &'r Rootfs, runtime: Runtime, settings: Settings) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("gadgetd-test-{}-{number}", std::process::id());
        let directory = tempfile::Builder::new().prefix(&format!("{name}-")).tempdir()?;
        Ok(Self { rootfs, runtime, settings, name, directory })
    }

    /// Its cgroup, as a path from the root of the hierarchy.
    pub fn cgroup(&self) -> String {
        format!("/{}", self.name)
    }

    /// A file next to the bundle.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs a command as the container's program, to its end.
    pub fn run(&self, words: &[String], seccomp: Option<&Value>) -> Result<Finished> {
        process::run_with(&mut self.command_to_run(words, seccomp)?, self.settings.io())
    }

    /// Runs a command that copies its stdin to its stdout, and returns when it does.
    pub fn start(&self, words: &[String], seccomp: Option<&Value>) -> Result<Running> {
        let mut running = Running::start(&mut self.command_to_run(words, seccomp)?, self.settings.io())?;
        if !running.answers("ready")? {
            bail!("the container's program does not answer: {}", running.said()?);
        }
        self.until_known()?;
        Ok(running)
    }

    /// Waits until the runtime has written down that the container runs: crun does so when it runs already.
    fn until_known(&self) -> Result<()> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let state = process::run(self.command().args(["state", &self.name]))?;
            let json = serde_json::from_str::<Value>(&state.stdout).unwrap_or_default();
            if json["status"] == "running" {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the runtime does not know the container: {state:#?}");
        }
    }

    fn command_to_run(&self, words: &[String], seccomp: Option<&Value>) -> Result<Command> {
        fs::write(self.file("config.json"), self.config(words, seccomp).to_string())?;
        let mut command = self.command();
        command.args(["run", "--bundle"]).arg(self.directory.path()).arg(&self.name);
        Ok(command)
    }

    /// Runs a command in the running container, as this user and else as the container's settings have it.
    pub fn exec(&self, user: u32, words: &[String]) -> Result<Finished> {
        let process = self.file("process.json");
        fs::write(&process, self.process(user, words).to_string())?;
        let mut command = self.command();
        command.args(["exec", "--process"]).arg(process).arg(&self.name);
        process::run_with(&mut command, self.settings.io())
    }

    /// Ends what [`Self::start`] started: with its stdin, or, if there is an init, with a signal that the init passes on.
    /// It does that with a call of its own, and would do so with any signal, such as those that runc 1.1 passes on by mistake.
    pub fn end(&self, running: Running) -> Result<()> {
        if self.settings.shape != Shape::Init {
            return running.end();
        }
        process::run(self.command().args(["kill", &self.name, "TERM"]))?;
        let finished = running.wait()?;
        ensure!(
            finished.status.code() == Some(128 + 15),
            "the init did not pass on the signal: {finished:#?}"
        );
        Ok(())
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.runtime.program());
        command.arg("--root").arg(self.file("state")).env("PATH", programs::PATH);
        command
    }

    fn process(&self, user: u32, words: &[String]) -> Value {
        let environment = programs::environment("/tmp");
        let environment: Vec<_> = environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut process = json!({
            "terminal": self.settings.shape == Shape::Terminal,
            "user": {"uid": user, "gid": user},
            "args": words,
            "env": environment,
            "cwd": "/tmp",
            "capabilities": {
                "bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES,
            },
            "noNewPrivileges": self.settings.no_new_privileges,
        });
        if self.settings.shape == Shape::Powerless {
            process["capabilities"] = json!({});
        } else if user != 0 {
            // As a node does it: another user starts with none.
            process["capabilities"] = json!({"bounding": CAPABILITIES});
        }
        process
    }

    fn under_init(&self, words: &[String]) -> Vec<String> {
        let init: &[&str] = if self.settings.shape == Shape::Init { &[INIT, "--"] } else { &[] };
        init.iter().copied().map(str::to_owned).chain(words.iter().cloned()).collect()
    }

    fn config(&self, words: &[String], seccomp: Option<&Value>) -> Value {
        let bind = |from: &Path, to: &str| {
            json!({
                "destination": to, "type": "bind", "source": from,
                "options": ["rbind", "ro", "nosuid"],
            })
        };
        let tmpfs = |to: &str, options: &[&str]| json!({"destination": to, "type": "tmpfs", "source": "tmpfs", "options": options});
        let mut mounts = vec![
            json!({"destination": "/proc", "type": "proc", "source": "proc"}),
            tmpfs("/dev", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            json!({
                "destination": "/dev/pts", "type": "devpts", "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
            }),
            tmpfs("/dev/shm", &["nosuid", "noexec", "nodev", "mode=1777"]),
            tmpfs("/tmp", &["nosuid", "nodev", "mode=1777"]),
            tmpfs("/run", &["nosuid", "nodev", "mode=755"]),
            bind(Path::new("/usr"), "/usr"),
            bind(Path::new("/etc"), "/etc"),
            bind(&self.rootfs.workloads, WORKLOADS),
        ];
        for name in MERGED {
            let directory = self.rootfs.directory.path().join(name);
            if directory.is_dir() && !directory.is_symlink() {
                let path = format!("/{name}");
                mounts.push(bind(Path::new(&path), &path));
            }
        }
        let mut config = json!({
            "ociVersion": "1.0.2",
            "process": self.process(self.settings.user, &self.under_init(words)),
            "root": {"path": self.rootfs.directory.path(), "readonly": self.settings.shape != Shape::Writable},
            "hostname": "container",
            "mounts": mounts,
            "linux": {
                "cgroupsPath": self.cgroup(),
                // Without a network namespace: the tests serve on the machine's loopback.
                "namespaces": [{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}],
            },
        });
        if let Some(seccomp) = seccomp {
            config["linux"]["seccomp"] = seccomp.clone();
        }
        config
    }
}

impl Drop for Container<'_> {
    /// Removes what a test that failed left behind.
    fn drop(&mut self) {
        if self.file("state").join(&self.name).exists() {
            let _ = process::run(self.command().args(["delete", "--force", &self.name]));
        }
    }
}

/// Lets crun start containers: it refuses a machine where the v2 hierarchy has a controller while others are v1
/// ("hybrid"). The one controller that is left there by accident is given a v1 mount of its own.
pub struct HybridCgroups {
    mounted: Option<PathBuf>,
}

impl HybridCgroups {
    /// Changes what must be changed; nothing on a machine that has the v2 hierarchy alone.
    pub fn prepare() -> Result<Self> {
        let hybrid = Path::new("/sys/fs/cgroup/unified");
        let controllers = fs::read_to_string(hybrid.join("cgroup.controllers")).unwrap_or_default();
        let controllers = controllers.trim();
        if controllers.is_empty() {
            return Ok(Self { mounted: None });
        }
        ensure!(
            !controllers.contains(' '),
            "the v2 hierarchy of this machine has {controllers}; crun wants none"
        );
        let directory = Path::new("/sys/fs/cgroup").join(controllers);
        fs::create_dir_all(&directory)?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "cgroup", "-o", controllers, "cgroup"]).arg(&directory);
        let mounted = process::run(&mut mount).context("cannot mount")?;
        ensure!(mounted.status.success(), "{mount:?}: {}", mounted.stderr);
        Ok(Self { mounted: Some(directory) })
    }
}

impl Drop for HybridCgroups {
    fn drop(&mut self) {
        if let Some(directory) = &self.mounted {
            let _ = process::run(Command::new("umount").arg(directory));
            let _ = fs::remove_dir(directory);
        }
    }
}
