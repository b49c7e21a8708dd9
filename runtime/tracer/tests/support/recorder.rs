//! A process of its own that records, and that can be killed: the test program, started with another word.

use std::{
    env,
    error::Error,
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use gadgetd_core::{CgroupId, CgroupSource, Entry, NewCgroups};
use gadgetd_tracer::{Tracer, TracerOptions};

/// The word.
const RECORD: &str = "record";

pub(crate) fn options(folder: &Path, slots: u32) -> TracerOptions {
    TracerOptions { slots, pin: Some(folder.to_owned()) }
}

/// Whether this process is to be a recorder; then it was one.
pub(crate) fn was_one() -> bool {
    let given: Vec<_> = env::args().skip(1).collect();
    let [word, slots, folder] = &given[..] else { return false };
    if word == RECORD {
        record(&options(Path::new(folder), slots.parse().expect("a number")));
    }
    word == RECORD
}

/// Does what it is told, line by line, and answers each with one.
fn record(options: &TracerOptions) {
    let mut tracer = match Tracer::load(options) {
        Ok(tracer) => tracer,
        Err(error) => return println!("{}", chain(&error)),
    };
    println!("Ok(())");
    for line in io::stdin().lines() {
        let line = line.expect("readable");
        let words: Vec<_> = line.split(' ').collect();
        let id = |word: &str| CgroupId(word.parse().expect("a number"));
        let done = match words[..] {
            ["enrol", cgroup] => tracer.enrol(id(cgroup), Entry::Application),
            ["enrol-runtime", cgroup] => tracer.enrol(id(cgroup), Entry::Runtime),
            ["release", cgroup] => tracer.release(id(cgroup)),
            ["new", on] => tracer.enrol_new(if on == "on" { NewCgroups::All } else { NewCgroups::None }),
            ["churn", ref cgroups @ ..] => loop {
                for cgroup in cgroups {
                    println!("{:?}", tracer.enrol(id(cgroup), Entry::Application));
                }
                for cgroup in cgroups {
                    println!("{:?}", tracer.release(id(cgroup)));
                }
            },
            _ => panic!("what is {line}?"),
        };
        println!("{done:?}");
    }
}

/// An error with everything that led to it, in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// Such a process. It is killed when it is dropped.
pub(crate) struct Recorder {
    process: Child,
    tell: ChildStdin,
    said: BufReader<ChildStdout>,
}

impl Recorder {
    /// Starts one, with no more rights than a node of a cluster gives it.
    pub(crate) fn start(folder: &Path, slots: u32) -> Self {
        let program = env::current_exe().expect("it runs");
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set=-all,+bpf,+perfmon", "--inh-caps=-all"]).arg(program);
        command.args([RECORD, &slots.to_string()]).arg(folder);
        let mut process =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("setpriv is installed");
        let tell = process.stdin.take().expect("a pipe");
        let said = BufReader::new(process.stdout.take().expect("a pipe"));
        let mut this = Self { process, tell, said };
        this.is_fine();
        this
    }

    /// Tells it to do something, and waits until it has.
    pub(crate) fn does(&mut self, what: &str) {
        self.is_told(what);
        self.is_fine();
    }

    pub(crate) fn is_told(&mut self, what: &str) {
        writeln!(self.tell, "{what}").expect("it listens");
    }

    /// Waits for its next answer.
    pub(crate) fn is_fine(&mut self) {
        let mut line = String::new();
        self.said.read_line(&mut line).expect("it speaks");
        assert_eq!(line.trim_end(), "Ok(())");
    }

    /// Kills it, and waits until it is gone.
    pub(crate) fn killed(mut self) {
        self.process.kill().expect("it runs");
        let status = self.process.wait().expect("a child of ours");
        assert_eq!(status.signal(), Some(libc::SIGKILL));
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A bpf file system of its own. With it everything goes that is pinned there.
pub(crate) struct BpfFs {
    folder: PathBuf,
    /// `None`: it was there before.
    mounted: Option<tempfile::TempDir>,
}

/// Names a folder on a bpf file system, for a process that may not mount one.
const GIVEN: &str = "GADGETD_TEST_BPFFS";

impl BpfFs {
    pub(crate) fn mount() -> Self {
        if let Some(folder) = env::var_os(GIVEN) {
            return Self { folder: folder.into(), mounted: None };
        }
        let folder = tempfile::tempdir().expect("a folder");
        let mounted = Command::new("mount").args(["-t", "bpf", "bpf"]).arg(folder.path()).status();
        assert!(mounted.expect("mount is installed").success());
        Self { folder: folder.path().to_owned(), mounted: Some(folder) }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.folder
    }

    /// The folder for pins.
    pub(crate) fn folder(&self) -> PathBuf {
        self.folder.join("gadgetd")
    }
}

impl Drop for BpfFs {
    fn drop(&mut self) {
        if let Some(folder) = &self.mounted {
            let _ = Command::new("umount").arg("--lazy").arg(folder.path()).status();
        }
    }
}
