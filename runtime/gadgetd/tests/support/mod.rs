//! Running gadgetd and looking at what it leaves behind.
#![allow(dead_code, unreachable_pub)] // Each test program uses a part of it, as a module of its own.

pub mod project;

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader, Read, Write},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, Once},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use gadgetd_containers::Hierarchy;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Long enough for anything on a loaded machine; whoever waits longer waits for ever.
pub const DEADLINE: Duration = Duration::from_mins(1);

/// The program under test.
pub const GADGETD: &str = env!("CARGO_BIN_EXE_gadgetd");

/// Whether recording is possible here. If not, says so loudly; with `CI=true` that is a failure.
pub fn can_record() -> bool {
    if rustix::process::geteuid().is_root() {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "recording needs root");
    eprintln!("SKIPPED: recording needs root; run `sudo -E env PATH=$PATH cargo test --release -p gadgetd`");
    false
}

/// Whether a program is there. If not, says so loudly; with `CI=true` that is a failure.
pub fn installed(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
    if !found {
        assert!(std::env::var_os("CI").is_none(), "{program} is not installed");
        eprintln!("SKIPPED: {program} is not installed; run `cargo xtask setup`");
    }
    found
}

/// `gadgetd` with these arguments, and nothing of the environment that would change what it does.
pub fn gadgetd<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(GADGETD);
    command.args(arguments).env_remove("RUST_LOG").env("LC_ALL", "C").stdin(Stdio::null());
    command
}

/// Text that grows while somebody writes it.
#[derive(Clone, Default)]
pub struct Text(Arc<(Mutex<(String, bool)>, Condvar)>);

impl Text {
    pub fn of(mut source: impl Read + Send + 'static) -> (Self, JoinHandle<()>) {
        let text = Self::default();
        let grown = text.clone();
        let reader = thread::spawn(move || {
            let mut buffer = [0; 4096];
            loop {
                // A terminal that nobody has open any more gives EIO.
                let n = source.read(&mut buffer).unwrap_or(0);
                let mut state = grown.0.0.lock().unwrap();
                state.0.push_str(&String::from_utf8_lossy(&buffer[..n]));
                state.1 = n == 0;
                grown.0.1.notify_all();
                if n == 0 {
                    return;
                }
            }
        });
        (text, reader)
    }

    pub fn now(&self) -> String {
        self.0.0.lock().unwrap().0.clone()
    }

    /// Waits until this is in the text.
    pub fn until(&self, wanted: &str) {
        let state = self.0.0.lock().unwrap();
        let missing = |s: &mut (String, bool)| !s.0.contains(wanted) && !s.1;
        let (state, _) = self.0.1.wait_timeout_while(state, DEADLINE, missing).unwrap();
        assert!(state.0.contains(wanted), "no {wanted:?} in: {}", state.0);
    }
}

/// A process that runs, with what it wrote so far. It is killed when this is dropped.
pub struct Running {
    pub child: Child,
    pub stdin: Option<ChildStdin>,
    pub stdout: Text,
    pub stderr: Text,
    readers: Vec<JoinHandle<()>>,
}

/// What is left of a process that has ended.
#[derive(Debug)]
pub struct Finished {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
    pub pid: u32,
}

/// Gives what is started the signals as a shell on a terminal does. Under `nohup`, or in the background of a script,
/// some are ignored; children inherit that, and gadgetd rightly leaves it so.
fn default_signals() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM] {
            #[allow(unsafe_code)]
            // SAFETY: the default disposition runs no code of ours.
            unsafe {
                libc::signal(signal, libc::SIG_DFL)
            };
        }
    });
}

/// Starts a command with its outputs captured.
pub fn start(command: &mut Command) -> Running {
    default_signals();
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let (stdout, one) = Text::of(child.stdout.take().unwrap());
    let (stderr, two) = Text::of(child.stderr.take().unwrap());
    Running { stdin: child.stdin.take(), child, stdout, stderr, readers: vec![one, two] }
}

/// Runs `gadgetd` to its end, and checks that it left nothing behind.
pub fn run<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Finished {
    start(&mut gadgetd(arguments)).finish()
}

impl Running {
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// Writes a line to its standard input.
    pub fn line(&mut self, text: &str) {
        writeln!(self.stdin.as_mut().expect("a pipe"), "{text}").expect("it reads");
    }

    /// Waits for its end, and checks that it left nothing behind.
    pub fn finish(mut self) -> Finished {
        let pid = self.child.id();
        let deadline = Instant::now() + DEADLINE;
        let fd =
            rustix::process::pidfd_open(Pid::from_child(&self.child), rustix::process::PidfdFlags::empty());
        let mut ends = [rustix::event::PollFd::from_borrowed_fd(
            std::os::fd::AsFd::as_fd(fd.as_ref().expect("a pidfd")),
            rustix::event::PollFlags::IN,
        )];
        let left = deadline.saturating_duration_since(Instant::now()).try_into().unwrap();
        let ended = rustix::event::poll(&mut ends, Some(&left)).expect("poll");
        assert!(ended == 1, "it hangs; it said: {}", self.stderr.now());
        let status = self.child.wait().expect("it can be waited for");
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        let finished = Finished { status, stdout: self.stdout.now(), stderr: self.stderr.now(), pid };
        assert_eq!(cgroups_of(pid), [""; 0], "cgroups are left behind: {finished:?}");
        finished
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Finished {
    /// Checks how it ended, and returns it.
    #[track_caller]
    pub fn code(self, code: i32) -> Self {
        assert_eq!(self.status.code().or(self.status.signal().map(|s| -s)), Some(code), "{self:?}");
        self
    }

    /// Checks what it told people.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "no {text:?} in: {self:?}");
        self
    }

    /// The names that the profile on standard output allows.
    #[track_caller]
    pub fn names(&self) -> Vec<String> {
        names(&self.stdout)
    }
}

/// The names that a profile allows.
#[track_caller]
pub fn names(profile: &str) -> Vec<String> {
    let json: Value = serde_json::from_str(profile).unwrap_or_else(|e| panic!("{e}: {profile}"));
    let names = json["syscalls"][0]["names"].as_array().expect("names");
    names.iter().map(|n| n.as_str().expect("a name").to_owned()).collect()
}

pub fn has(names: &[String], name: &str) -> bool {
    names.iter().any(|n| n == name)
}

/// The cgroups that a gadgetd made and that exist.
pub fn cgroups_of(pid: u32) -> Vec<String> {
    let Ok(hierarchy) = Hierarchy::find() else { return Vec::new() };
    let mine = format!("/gadgetd-{pid}-");
    hierarchy.tree("/").into_iter().map(|(cgroup, _)| cgroup).filter(|c| c.contains(&mine)).collect()
}

/// The processes that have this word among their arguments, except those that have none at the moment: zombies, and
/// whoever is in the middle of an exec.
pub fn processes_with(word: &str) -> Vec<i32> {
    let all = procfs::process::all_processes().expect("/proc");
    let with = all.flatten().filter(|p| p.cmdline().is_ok_and(|c| c.iter().any(|argument| argument == word)));
    with.map(|p| p.pid()).collect()
}

/// A number that is in no other command line, so that processes of one test can be told from those of others.
pub fn unique_number() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("7{:07}{:03}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A cgroup name that no other test has.
pub fn cgroup_name() -> String {
    format!("gadgetd-test-{}", unique_number())
}

/// A cgroup for a test, with everything in and below it; both go when this is dropped.
pub struct TestCgroup(pub PathBuf);

impl TestCgroup {
    pub fn make(directory: &Path) -> Self {
        fs::create_dir_all(directory).unwrap();
        Self(directory.to_owned())
    }

    /// Starts a shell script in it: the shell enters before it executes the script.
    pub fn start(&self, script: &str) -> Running {
        let enter = format!("echo $$ > {}/cgroup.procs && exec sh -c '{script}'", self.0.display());
        start(Command::new("sh").args(["-c", &enter]).stdin(Stdio::piped()))
    }
}

impl Drop for TestCgroup {
    fn drop(&mut self) {
        let _ = fs::write(self.0.join("cgroup.kill"), "1");
        let deadline = Instant::now() + DEADLINE;
        while fs::remove_dir(&self.0).is_err_and(|e| e.kind() != std::io::ErrorKind::NotFound) {
            if Instant::now() > deadline {
                eprintln!("{} is left behind", self.0.display());
                return;
            }
            thread::yield_now();
        }
    }
}

/// A bpf file system of a test's own. With it everything goes that is pinned there.
pub struct BpfFs(tempfile::TempDir);

impl BpfFs {
    pub fn mount() -> Self {
        let this = Self(tempfile::tempdir().expect("a folder"));
        let mounted = Command::new("mount").args(["-t", "bpf", "bpf"]).arg(this.0.path()).status();
        assert!(mounted.expect("mount is installed").success());
        this
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for BpfFs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

/// The first line of a file, as soon as there is one in it.
pub fn first_line(source: impl Read) -> String {
    let mut line = String::new();
    BufReader::new(source).read_line(&mut line).expect("a line");
    line
}
