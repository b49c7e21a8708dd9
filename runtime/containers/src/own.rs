use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use gadgetd_core::CgroupId;
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
    process::{Pid, Signal, kill_process},
};

use crate::{Error, Hierarchy, State, Watch, process_of};

/// How long killed or moved processes may take to be gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// What becomes of the processes that are in a cgroup of ours when it is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leftovers {
    /// They came from a command of ours, and are killed.
    Kill,
    /// They were moved in, and are moved back to the parent cgroup.
    MoveToParent,
}

/// A cgroup that we made, `gadgetd-<pid>-<n>`. It is removed when this is dropped.
///
/// It is locked (`flock(2)` on its directory) for as long as its maker lives, so that
/// [`OwnCgroup::sweep`] can tell one that was left behind by a maker that was killed.
#[derive(Debug)]
pub struct OwnCgroup {
    hierarchy: Hierarchy,
    cgroup: String,
    id: CgroupId,
    leftovers: Leftovers,
    lock: Option<File>,
}

impl OwnCgroup {
    /// Makes a new cgroup below `parent`.
    ///
    /// A cgroup with processes can't pass controllers on to its children, so one that is made below
    /// the cgroup of a live process has none, and may have processes itself, whatever its siblings
    /// do: the kernel's "no internal processes" rule can't be in the way.
    pub fn create(hierarchy: &Hierarchy, parent: &str, leftovers: Leftovers) -> Result<Self, Error> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        loop {
            let n = MADE.fetch_add(1, Ordering::Relaxed);
            let cgroup = format!("{}/gadgetd-{}-{n}", parent.trim_end_matches('/'), std::process::id());
            let directory = hierarchy.directory(&cgroup);
            match fs::create_dir(&directory) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(e) => return Err(Error::io("make the cgroup", &directory)(e)),
            }
            // Until it is locked, a sweep by another process may take it for a stale one.
            let Some(lock) = lock(&directory)? else { continue };
            if let Some(id) = hierarchy.id(&cgroup)? {
                return Ok(Self { hierarchy: hierarchy.clone(), cgroup, id, leftovers, lock: Some(lock) });
            }
        }
    }

    /// Its path from the root of the hierarchy.
    pub fn cgroup(&self) -> &str {
        &self.cgroup
    }

    /// Its name, the last part of its path.
    pub fn name(&self) -> &str {
        self.cgroup.rsplit('/').next().unwrap_or_default()
    }

    /// Its id.
    pub fn id(&self) -> CgroupId {
        self.id
    }

    /// Its `cgroup.procs`, open for writing: a process that writes `0` to it moves itself in.
    pub fn entrance(&self) -> Result<File, Error> {
        let path = self.directory().join("cgroup.procs");
        File::options().write(true).open(&path).map_err(Error::io("open", &path))
    }

    /// Moves a process with all its threads in; `false` if it was gone already.
    pub fn add(&self, pid: i32) -> Result<bool, Error> {
        move_process(&self.directory(), pid)
    }

    /// The processes in it and below it.
    pub fn processes(&self) -> Result<BTreeSet<i32>, Error> {
        processes(&self.hierarchy, &self.cgroup)
    }

    /// Sends a signal to every process in it and below it, and returns how many there were.
    pub fn signal(&self, signal: Signal) -> Result<usize, Error> {
        let processes = self.processes()?;
        for pid in processes.iter().filter_map(|pid| Pid::from_raw(*pid)) {
            // One that has gone in the meantime needs no signal.
            let _ = kill_process(pid, signal);
        }
        Ok(processes.len())
    }

    /// Kills every process in it and below it, none excepted, and does not wait for them to be gone.
    pub fn kill(&self) -> Result<(), Error> {
        let all = self.directory().join("cgroup.kill");
        fs::write(&all, "1").map_err(Error::io("write to", &all))
    }

    /// Follows this cgroup.
    pub fn watch(&self) -> Result<Watch, Error> {
        Watch::new(&self.hierarchy, &self.cgroup)
    }

    /// Clears the cgroup as [`Leftovers`] says, and removes it with every cgroup below it.
    pub fn remove(mut self) -> Result<(), Error> {
        self.clear()
    }

    fn clear(&mut self) -> Result<(), Error> {
        if self.lock.is_none() {
            return Ok(());
        }
        match self.leftovers {
            Leftovers::Kill => {
                self.kill()?;
                let left = self.watch()?.wait_for(&[State::Empty, State::Missing], PATIENCE)?;
                if left == State::Populated {
                    return Err(Error::NotEmpty(self.directory()));
                }
            }
            Leftovers::MoveToParent => move_to_parent(&self.hierarchy, &self.cgroup)?,
        }
        remove_tree(&self.hierarchy, &self.cgroup)?;
        self.lock = None;
        Ok(())
    }

    fn directory(&self) -> PathBuf {
        self.hierarchy.directory(&self.cgroup)
    }

    /// Removes cgroups that a maker left behind who was killed, wherever they are, and returns
    /// their paths. What still runs in them is moved to the parent, and goes on undisturbed.
    pub fn sweep(hierarchy: &Hierarchy) -> Result<Vec<String>, Error> {
        let mut swept = Vec::new();
        for (cgroup, _) in hierarchy.tree("/") {
            if !is_ours(&cgroup) {
                continue;
            }
            // Locked: its maker lives. Gone: it has just removed it.
            let Ok(Some(_lock)) = lock(&hierarchy.directory(&cgroup)) else { continue };
            move_to_parent(hierarchy, &cgroup)?;
            remove_tree(hierarchy, &cgroup)?;
            swept.push(cgroup);
        }
        Ok(swept)
    }
}

impl Drop for OwnCgroup {
    fn drop(&mut self) {
        // For the ways out that can't report; the others call `remove`. The next sweep has what is left.
        let _ = self.clear();
    }
}

/// Whether the last part of a path is a name that we give.
fn is_ours(cgroup: &str) -> bool {
    let number = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    let name = cgroup.rsplit('/').next().and_then(|name| name.strip_prefix("gadgetd-"));
    name.and_then(|rest| rest.split_once('-')).is_some_and(|(pid, n)| number(pid) && number(n))
}

/// Locks a cgroup's directory; `None` if somebody else has the lock, or the directory is gone.
fn lock(directory: &Path) -> Result<Option<File>, Error> {
    let file = match File::open(directory) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io("open", directory)(e)),
    };
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(e) => Err(Error::io("lock", directory)(e)),
    }
}

/// The processes that have a thread in a cgroup or below it.
///
/// By their threads: a threaded cgroup does not tell its processes, nor is one told whose first thread ended before it came.
fn processes(hierarchy: &Hierarchy, cgroup: &str) -> Result<BTreeSet<i32>, Error> {
    let mut found = BTreeSet::new();
    for (cgroup, _) in hierarchy.tree(cgroup) {
        let path = hierarchy.directory(&cgroup).join("cgroup.threads");
        match fs::read_to_string(&path) {
            Ok(text) => {
                // 0 stands for a thread of another pid namespace, which can't be named from here.
                for thread in text.lines().filter_map(|l| l.parse().ok()).filter(|id: &i32| *id > 0) {
                    found.extend(process_of(thread)?);
                }
            }
            // Removed in the meantime.
            Err(e) if e.kind() == io::ErrorKind::NotFound || errno(&e) == Some(Errno::NODEV) => {}
            Err(e) => return Err(Error::io("read", &path)(e)),
        }
    }
    Ok(found)
}

fn move_process(directory: &Path, pid: i32) -> Result<bool, Error> {
    let procs = directory.join("cgroup.procs");
    let mut file = File::options().write(true).open(&procs).map_err(Error::io("open", &procs))?;
    match file.write_all(pid.to_string().as_bytes()) {
        Ok(()) => Ok(true),
        Err(e) if errno(&e) == Some(Errno::SRCH) => Ok(false),
        Err(e) => Err(Error::io("move a process to", &procs)(e)),
    }
}

/// Moves every process in a cgroup and below it to the cgroup's parent.
fn move_to_parent(hierarchy: &Hierarchy, cgroup: &str) -> Result<(), Error> {
    let parent = hierarchy.directory(cgroup.rsplit_once('/').map_or("/", |(parent, _)| parent));
    let watch = Watch::new(hierarchy, cgroup)?;
    let deadline = Instant::now() + PATIENCE;
    // What forks while it is moved leaves children behind for the next round.
    while watch.state()? == State::Populated {
        if Instant::now() > deadline {
            return Err(Error::NotEmpty(hierarchy.directory(cgroup)));
        }
        let mut moved = false;
        for pid in processes(hierarchy, cgroup)? {
            moved |= move_process(&parent, pid)?;
        }
        if !moved {
            // What is left is about to exit.
            watch.wait_for(&[State::Empty, State::Missing], Duration::from_millis(10))?;
        }
    }
    Ok(())
}

/// Removes an empty cgroup and the empty ones below it.
fn remove_tree(hierarchy: &Hierarchy, cgroup: &str) -> Result<(), Error> {
    for (cgroup, _) in hierarchy.tree(cgroup).iter().rev() {
        let directory = hierarchy.directory(cgroup);
        match fs::remove_dir(&directory) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io("remove the cgroup", &directory)(e));
            }
            _ => {}
        }
    }
    Ok(())
}

fn errno(error: &io::Error) -> Option<Errno> {
    Errno::from_io_error(error)
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;

    #[test]
    fn only_our_names_are_ours() {
        assert!(is_ours("/gadgetd-1-0"));
        assert!(is_ours("/kubepods/x/gadgetd-4242-17"));
        for other in
            ["/", "/gadgetd", "/gadgetd-", "/gadgetd-1", "/gadgetd-1-", "/gadgetd-x-1", "/gadgetd-1-0/x"]
        {
            assert!(!is_ours(other), "{other}");
        }
    }

    /// The hierarchy, and the cgroup to work in; `None`, said loudly, where cgroups can't be made.
    fn place() -> Option<(Hierarchy, String)> {
        let found = Hierarchy::find().and_then(|h| {
            let own = h.own()?;
            OwnCgroup::create(&h, &own, Leftovers::Kill)?.remove()?;
            Ok((h, own))
        });
        found
            .inspect_err(|e| {
                assert!(std::env::var_os("CI").is_none(), "cgroups can't be made here: {e}");
                eprintln!("SKIPPED: cgroups can't be made here: {e}; run `sudo -E cargo test --release -p gadgetd-containers`");
            })
            .ok()
    }

    /// A process that lives until its standard input closes, or it is killed.
    fn process() -> Child {
        Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("cat runs")
    }

    fn pid(child: &Child) -> i32 {
        i32::try_from(child.id()).expect("a pid")
    }

    #[test]
    fn processes_are_killed_and_cgroups_below_removed() {
        let Some((hierarchy, parent)) = place() else { return };
        let own = OwnCgroup::create(&hierarchy, &parent, Leftovers::Kill).unwrap();
        assert_eq!(hierarchy.id(own.cgroup()).unwrap(), Some(own.id()));
        let watch = own.watch().unwrap();
        assert_eq!(watch.state().unwrap(), State::Empty);

        let below = own.directory().join("below");
        fs::create_dir(&below).unwrap();
        let (mut one, mut two) = (process(), process());
        assert!(own.add(pid(&one)).unwrap());
        assert!(move_process(&below, pid(&two)).unwrap());
        assert_eq!(hierarchy.of_process(pid(&one)).unwrap(), own.cgroup());
        assert_eq!(own.processes().unwrap(), BTreeSet::from([pid(&one), pid(&two)]));
        assert_eq!(watch.state().unwrap(), State::Populated);

        own.kill().unwrap();
        assert_eq!(watch.wait_for(&[State::Empty], PATIENCE).unwrap(), State::Empty);
        let (_, _) = (one.wait().unwrap(), two.wait().unwrap());
        let directory = own.directory();
        own.remove().unwrap();
        assert!(!directory.exists());
        assert_eq!(watch.state().unwrap(), State::Missing);
    }

    #[test]
    fn moved_processes_go_back() {
        let Some((hierarchy, parent)) = place() else { return };
        let mut child = process();
        let before = hierarchy.of_process(pid(&child)).unwrap();
        let own = OwnCgroup::create(&hierarchy, &parent, Leftovers::MoveToParent).unwrap();
        assert!(own.add(pid(&child)).unwrap());
        drop(own);
        assert_eq!(hierarchy.of_process(pid(&child)).unwrap(), before);
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success(), "it must have gone on undisturbed");
    }

    #[test]
    fn processes_of_threaded_cgroups_go_back_too() {
        let Some((hierarchy, parent)) = place() else { return };
        let mut child = process();
        let before = hierarchy.of_process(pid(&child)).unwrap();
        let own = OwnCgroup::create(&hierarchy, &parent, Leftovers::MoveToParent).unwrap();
        let threaded = own.directory().join("threaded");
        fs::create_dir(&threaded).unwrap();
        fs::write(threaded.join("cgroup.type"), "threaded").unwrap();
        assert!(own.add(pid(&child)).unwrap());
        fs::write(threaded.join("cgroup.threads"), pid(&child).to_string()).unwrap();
        assert_eq!(own.processes().unwrap(), BTreeSet::from([pid(&child)]));
        own.remove().unwrap();
        assert_eq!(hierarchy.of_process(pid(&child)).unwrap(), before);
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success(), "it must have gone on undisturbed");
    }

    #[test]
    fn stale_cgroups_are_swept_and_live_ones_kept() {
        let Some((hierarchy, parent)) = place() else { return };
        let live = OwnCgroup::create(&hierarchy, &parent, Leftovers::Kill).unwrap();
        // What a maker leaves behind who is killed: the cgroup, not locked, and a process.
        let stale = format!("{}/gadgetd-1-4242", parent.trim_end_matches('/'));
        let directory = hierarchy.directory(&stale);
        fs::create_dir(&directory).unwrap();
        let mut child = process();
        assert!(move_process(&directory, pid(&child)).unwrap());

        assert!(OwnCgroup::sweep(&hierarchy).unwrap().contains(&stale));
        assert!(!directory.exists());
        assert!(live.directory().exists());
        assert_eq!(hierarchy.of_process(pid(&child)).unwrap(), parent);
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success(), "it must have gone on undisturbed");
    }

    #[test]
    fn a_cgroup_is_seen_to_appear_level_by_level_and_to_go() {
        let Some((hierarchy, _)) = place() else { return };
        let top = OwnCgroup::create(&hierarchy, "/", Leftovers::Kill).unwrap();
        let cgroup = format!("{}/pod/container", top.cgroup());
        let watch = Watch::new(&hierarchy, &cgroup).unwrap();
        assert_eq!(watch.state().unwrap(), State::Missing);

        let directory = hierarchy.directory(&cgroup);
        std::thread::scope(|threads| {
            let seen = threads.spawn(|| watch.wait_for(&[State::Empty], PATIENCE));
            fs::create_dir_all(&directory).unwrap();
            assert_eq!(seen.join().unwrap().unwrap(), State::Empty);
            let seen = threads.spawn(|| watch.wait_for(&[State::Populated], PATIENCE));
            let mut child = process();
            move_process(&directory, pid(&child)).unwrap();
            assert_eq!(seen.join().unwrap().unwrap(), State::Populated);
            let seen = threads.spawn(|| watch.wait_for(&[State::Missing], PATIENCE));
            drop(child.stdin.take());
            child.wait().unwrap();
            fs::remove_dir(&directory).unwrap();
            assert_eq!(seen.join().unwrap().unwrap(), State::Missing);
        });
        assert_eq!(hierarchy.id(&cgroup).unwrap(), None);
    }
}
