//! The programs that are recorded.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

/// The search path for programs, on the machine and in containers: the machine's own programs, and nothing
/// of the user who runs the tests.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A real program, and how one sees that it did what it is there for.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// Its name in the tests.
    pub name: &'static str,
    /// Program and arguments. `@file` is a workload, made from a file of `workloads/`; `@url` the address
    /// of a server that the tests run.
    pub command: &'static [&'static str],
    /// What must be installed for it, besides the first word of the command.
    pub needs: &'static [&'static str],
    /// A line that it writes when all went well.
    pub says: &'static str,
    /// Calls that it makes for certain. Without them the workload is no test of what it is there for.
    pub makes: &'static [&'static str],
    /// Where it can run again, under the profile of its first run.
    pub repeats: Repeats,
    /// How it can't be recorded, because it does not do there what it is there for.
    pub fails: &'static [Way],
}

/// By which recorder a program is recorded on the machine, and as whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By eBPF, as root.
    Ebpf,
    /// By seccomp notification, as another user than root.
    User,
    /// By seccomp notification, by that user in a user namespace, where it is root.
    Namespace,
}

impl Way {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Ebpf, Self::User, Self::Namespace];

    /// What the names of tests begin with.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Ebpf => "",
            Self::User => "user/",
            Self::Namespace => "namespace/",
        }
    }
}

/// Where a program can run under the profile that an earlier run of it gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeats {
    /// In a container, as root and as another user; and outside.
    AsAnyUser,
    /// In a container as root, and outside.
    AsRoot,
    /// Outside: it does what a container may not.
    OnTheMachine,
    /// Nowhere: which calls it makes is a matter of time, so that one run can't stand for the next.
    Never,
}

const fn program(
    name: &'static str,
    command: &'static [&'static str],
    needs: &'static [&'static str],
    says: &'static str,
    makes: &'static [&'static str],
) -> Program {
    Program { name, command, needs, says, makes, repeats: Repeats::AsAnyUser, fails: &[] }
}

impl Program {
    const fn repeats(self, repeats: Repeats) -> Self {
        Self { repeats, ..self }
    }

    const fn fails(self, fails: &'static [Way]) -> Self {
        Self { fails, ..self }
    }
}

/// Every program.
#[rustfmt::skip]
pub const PROGRAMS: &[Program] = &[
    program("shell-pipeline", &["sh", "@shell.sh"], &[], "shell done", &["pipe2", "dup2", "wait4", "symlinkat"]),
    program("bash-jobs", &["bash", "@jobs.bash"], &[], "bash done", &["setpgid", "kill", "restart_syscall"]),
    program("python-threads", &["python3", "@threads.py"], &[], "python done", &["clone3", "futex", "accept4", "mkdir"]),
    program("nginx", &["sh", "@nginx.sh"], &["nginx", "curl"], "nginx done", &["epoll_wait", "accept4", "writev", "socketpair"]),
    program("redis", &["sh", "@redis.sh"], &["redis-server", "redis-cli"], "redis done", &["epoll_wait", "rename"]),
    program("sqlite", &["sh", "@sqlite.sh"], &["sqlite3"], "sqlite done", &["pwrite64", "fdatasync", "fcntl"]),
    program("git", &["sh", "@git.sh"], &["git"], "git done", &["rename", "link", "mkdir"]),
    program("openssl", &["sh", "@openssl.sh"], &["openssl"], "openssl done", &["accept", "connect", "getrandom"]),
    program("node", &["node", "@server.js"], &[], "node done", &["epoll_pwait", "clone3", "listen"]),
    program("busybox", &["busybox", "sh", "@busybox.sh"], &[], "busybox done", &["vfork", "sendfile", "getdents64"]),
    program("archive", &["sh", "@archive.sh"], &["tar", "gzip"], "archive done", &["linkat", "utimensat", "fchmodat"]),
    program("search", &["sh", "@search.sh"], &["find", "grep", "awk"], "search done", &["fchdir", "unlinkat"]),
    program("perl", &["perl", "@perl.pl"], &[], "perl done", &["flock", "alarm", "socketpair", "rename"]),
    program("ssh-keygen", &["sh", "@keys.sh"], &["ssh-keygen"], "keys done", &["getrandom"])
        .repeats(Repeats::AsRoot), // It wants an entry in the user data base.
    program("curl", &["curl", "--silent", "--show-error", "--fail", "--max-time", "60", "@url"], &[], "served by the test", &["connect", "sendto", "poll"]),
    program("go", &["sh", "@go.sh"], &["runc"], "go done", &["sigaltstack", "sched_getaffinity", "futex"])
        .repeats(Repeats::Never),
    program("static", &["@static"], &[], "static done", &["clone3", "accept4", "unlinkat"]),
    program("vfork", &["@vfork"], &[], "vfork done", &["vfork", "getpgid"]),
    program("io-uring", &["@uring"], &[], "uring done", &["io_uring_setup", "io_uring_enter", "io_uring_register"]),
    program("signals", &["@signals"], &[], "signals done", &["rt_sigreturn", "restart_syscall", "signalfd4", "rt_sigtimedwait"]),
    program("children", &["@children"], &[], "children done", &["getpriority"]),
    program("exec-chain", &["@chain"], &[], "chain done", &["sysinfo", "getsid"]),
    program("privileges", &["@privileges"], &[], "privileges done", &["chroot", "setgroups", "setresuid"])
        .fails(&[Way::Namespace]), // There is nobody else to become.
    program("i386", &["@i386"], &[], "i386 done", &["socketcall", "_llseek", "fstat64", "ugetrlimit", "clock_gettime64", "waitpid"]),
    program("int80", &["@int80"], &[], "int80 done", &["getuid32", "ugetrlimit"]),
    program("x32", &["@x32"], &[], "x32 done", &["getpgrp", "rt_sigpending", "mq_notify"]),
    program("markers", &["@markers"], &[], "markers done", &["pivot_root", "seccomp", "prctl", "getpgid", "getsid"])
        .repeats(Repeats::OnTheMachine)
        .fails(&[Way::User]), // It makes namespaces.
    program("subgroups", &["@subgroups"], &[], "subgroups done", &["getpriority", "sched_get_priority_max", "umask"])
        .repeats(Repeats::OnTheMachine)
        .fails(&[Way::User, Way::Namespace]), // It makes cgroups.
];

impl Program {
    /// The words of its command on this machine; the first is a path.
    pub fn words(&self, workloads: &Workloads) -> Vec<String> {
        let mut words = workloads.words(self.command, workloads.path());
        if let Some(path) = find(&words[0]) {
            words[0] = path.display().to_string();
        }
        words
    }

    /// Whether it got to its end, by what it wrote.
    pub fn is_done(&self, stdout: &str) -> bool {
        stdout.lines().any(|line| line == self.says)
    }
}

/// A program that makes one call, whose number it is given, and ends with the call's errno.
pub const BARE: &str = "bare";

/// The program that makes a call with a number that no table has.
pub const UNKNOWN: Program = program("unknown", &["@unknown"], &[], "unknown done", &[]);

/// The workloads, ready to run.
pub struct Workloads {
    directory: PathBuf,
    url: String,
    _temporary: Option<TempDir>,
}

/// Names a folder in which the workloads stay, for a machine that has no compiler: what is there is used, and if nothing is
/// there they are built.
const KEPT: &str = "GADGETD_WORKLOADS";

/// How the sources that are compiled are; the other files are run as they are.
const GCC: &[&str] = &["-O1", "-Wall", "-Wextra", "-Werror"];
const FREESTANDING: &[&str] = &[
    "-O1",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-static",
    "-nostdlib",
    "-fno-pie",
    "-no-pie",
    "-fno-stack-protector",
];

impl Workloads {
    /// Compiles and copies the workloads into a directory that anyone can read, and starts the server behind `@url`.
    pub fn build() -> Result<Self> {
        let (directory, temporary) = if let Some(kept) = std::env::var_os(KEPT) {
            (PathBuf::from(kept), None)
        } else {
            let temporary = tempfile::Builder::new().prefix("gadgetd-workloads-").tempdir()?;
            fs::set_permissions(temporary.path(), fs::Permissions::from_mode(0o755))?;
            (temporary.path().join("workloads"), Some(temporary))
        };
        if !directory.is_dir() {
            build_all(&directory)?;
        }
        Ok(Self { directory, url: serve()?, _temporary: temporary })
    }

    /// The directory that holds them.
    pub fn path(&self) -> &Path {
        &self.directory
    }

    /// The words of a command, for a place where the workloads are in `directory`.
    pub fn words(&self, command: &[&str], directory: &Path) -> Vec<String> {
        let word = |word: &&str| match word.strip_prefix('@') {
            Some("url") => self.url.clone(),
            Some(file) => directory.join(file).display().to_string(),
            None => (*word).to_owned(),
        };
        command.iter().map(word).collect()
    }
}

/// Fills a new directory next to the one that is wanted, so that it is there whole or not at all.
fn build_all(directory: &Path) -> Result<()> {
    let part = directory.with_extension("part");
    if part.is_dir() {
        fs::remove_dir_all(&part)?;
    }
    fs::create_dir_all(&part)?;
    fs::set_permissions(&part, fs::Permissions::from_mode(0o755))?;
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("workloads");
    for entry in fs::read_dir(&sources).with_context(|| format!("cannot list {}", sources.display()))? {
        build(&entry?.path(), &part)?;
    }
    Ok(fs::rename(part, directory)?)
}

fn build(source: &Path, directory: &Path) -> Result<()> {
    let name = source.file_stem().unwrap_or_default();
    let target = directory.join(name);
    let mut compiler = match source.extension().and_then(|e| e.to_str()) {
        Some("c") => {
            let mut gcc = Command::new("gcc");
            match name.to_str() {
                Some("i386") => gcc.arg("-m32").args(FREESTANDING),
                Some(BARE) => gcc.args(FREESTANDING),
                _ => gcc.args(GCC).arg("-pthread"),
            };
            gcc
        }
        Some("rs") => {
            let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
            rustc.args(["--edition=2024", "-O", "-Ctarget-feature=+crt-static"]);
            rustc
        }
        Some("h") => return Ok(()),
        _ => {
            fs::copy(source, directory.join(source.file_name().unwrap_or_default()))?;
            return Ok(());
        }
    };
    compiler.arg("-o").arg(&target).arg(source);
    let output = compiler.output().with_context(|| format!("cannot run {compiler:?}"))?;
    ensure!(output.status.success(), "{compiler:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Answers every connection in the same way, as long as the tests run.
fn serve() -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}/", listener.local_addr()?);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut stream = stream;
                // One read is the whole request of a client that has no more to say than this.
                let _ = stream.read(&mut [0; 4096]);
                let body = "served by the test\n";
                let _ = write!(stream, "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            });
        }
    });
    Ok(url)
}

/// Where a program is on the [`PATH`].
pub fn find(program: &str) -> Option<PathBuf> {
    std::env::split_paths(PATH).map(|directory| directory.join(program)).find(|file| file.is_file())
}

/// The environment that every program gets.
pub fn environment(home: &str) -> BTreeMap<&'static str, String> {
    BTreeMap::from([
        ("PATH", PATH.to_owned()),
        ("HOME", home.to_owned()),
        ("TMPDIR", home.to_owned()),
        ("LANG", "C.UTF-8".to_owned()),
    ])
}
