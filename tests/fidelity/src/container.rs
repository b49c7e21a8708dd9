//! Containers without a cluster: a bundle made from the machine's own files, run by an OCI runtime.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process::{self, DEADLINE, Finished, Lines};
use crate::programs;

/// Where the workloads are in a container.
pub const WORKLOADS: &str = "/workloads";

/// An OCI runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runtime {
    /// The reference runtime, in Go.
    Runc,
    /// The one in C.
    Crun,
}

impl Runtime {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Runc, Self::Crun];

    /// Its program.
    pub fn program(self) -> &'static str {
        match self {
            Self::Runc => "runc",
            Self::Crun => "crun",
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
}

impl Settings {
    /// Every combination that changes what a runtime does.
    pub const ALL: [Self; 4] = [
        Self { user: 0, no_new_privileges: false },
        Self { user: 0, no_new_privileges: true },
        Self { user: 1000, no_new_privileges: false },
        Self { user: 1000, no_new_privileges: true },
    ];
}

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
        process::run(&mut self.command_to_run(words, seccomp)?)
    }

    /// Runs a command that copies its stdin to its stdout, and returns when it does.
    pub fn start(&self, words: &[String], seccomp: Option<&Value>) -> Result<Running> {
        let mut command = self.command_to_run(words, seccomp)?;
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot run {command:?}"))?;
        let (stdout, stderr) = (Lines::of(child.stdout.take()), Lines::of(child.stderr.take()));
        let mut running = Running { child, stdout, stderr };
        if let Some(stdin) = &mut running.child.stdin {
            writeln!(stdin, "ready").context("the container did not start")?;
        }
        if !running.stdout.until(|line| line == "ready")? {
            running.stderr.until(|_| false)?;
            bail!("the container's program does not answer: {}", running.stderr.seen());
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

    /// Runs a command in the running container, as the container's own settings have it.
    pub fn exec(&self, words: &[String]) -> Result<Finished> {
        let process = self.file("process.json");
        fs::write(&process, self.process(words).to_string())?;
        process::run(self.command().args(["exec", "--process"]).arg(process).arg(&self.name))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.runtime.program());
        command.arg("--root").arg(self.file("state")).env("PATH", programs::PATH);
        command
    }

    fn process(&self, words: &[String]) -> Value {
        let environment = programs::environment("/tmp");
        let environment: Vec<_> = environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut process = json!({
            "terminal": false,
            "user": {"uid": self.settings.user, "gid": self.settings.user},
            "args": words,
            "env": environment,
            "cwd": "/tmp",
            "capabilities": {
                "bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES,
            },
            "noNewPrivileges": self.settings.no_new_privileges,
        });
        if self.settings.user != 0 {
            // As a node does it: another user starts with none.
            process["capabilities"] = json!({"bounding": CAPABILITIES});
        }
        process
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
            "process": self.process(words),
            "root": {"path": self.rootfs.directory.path(), "readonly": true},
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

/// A container whose program copies its stdin to its stdout, for as long as there is a stdin.
pub struct Running {
    child: Child,
    stdout: Lines,
    stderr: Lines,
}

impl Running {
    /// Closes the program's stdin, and waits for the end of the container.
    pub fn end(mut self) -> Result<()> {
        drop(self.child.stdin.take());
        self.stdout.until(|_| false)?;
        self.stderr.until(|_| false)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "the container ended with {status}: {}", self.stderr.seen());
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
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
