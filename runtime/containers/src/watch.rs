use std::{
    fs, io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::inotify::{self, CreateFlags, WatchFlags},
    io::Errno,
};

use crate::{Error, Hierarchy};

/// What a cgroup looks like at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It does not exist, or no longer.
    Missing,
    /// It exists, and neither it nor a cgroup below it has a process.
    Empty,
    /// There are processes in it or below it.
    Populated,
}

/// Follows a cgroup, which need not exist yet, without polling.
///
/// Its descriptor becomes readable when [`Watch::state`] may have changed.
#[derive(Debug)]
pub struct Watch {
    inotify: OwnedFd,
    mount: PathBuf,
    directory: PathBuf,
}

impl Watch {
    /// Begins to follow a cgroup.
    pub fn new(hierarchy: &Hierarchy, cgroup: &str) -> Result<Self, Error> {
        let directory = hierarchy.directory(cgroup);
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
            .map_err(Error::io("watch", &directory))?;
        Ok(Self { inotify, mount: hierarchy.mount().to_owned(), directory })
    }

    /// What the cgroup looks like now. A change after this call makes the descriptor readable.
    pub fn state(&self) -> Result<State, Error> {
        self.drain();
        loop {
            // First watch, then look: what changes in between is seen twice, never missed.
            let events = self.directory.join("cgroup.events");
            let watched = self.add(&self.directory, WatchFlags::CREATE | WatchFlags::DELETE)?
                && self.add(&events, WatchFlags::MODIFY)?;
            // Its removal is only told by the directory it was in.
            let (parent, missing) = self.watch_nearest_parent()?;
            if watched {
                match fs::read_to_string(&events) {
                    Ok(text) if text.lines().any(|l| l == "populated 1") => return Ok(State::Populated),
                    Ok(_) => return Ok(State::Empty),
                    // Removed while it was read.
                    Err(e) if e.raw_os_error() == Some(Errno::NODEV.raw_os_error()) => {
                        return Ok(State::Missing);
                    }
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                    Err(e) => return Err(Error::io("read", &events)(e)),
                }
            } else if !parent.join(missing).exists() {
                return Ok(State::Missing);
            }
        }
    }

    /// Waits until the state is one of these, and returns it; or, at the deadline, whatever it is.
    pub fn wait_for(&self, states: &[State], timeout: Duration) -> Result<State, Error> {
        let deadline = Instant::now() + timeout;
        loop {
            let state = self.state()?;
            let left = deadline.saturating_duration_since(Instant::now());
            if states.contains(&state) || left.is_zero() {
                return Ok(state);
            }
            let left = Timespec::try_from(left).ok();
            match poll(&mut [PollFd::new(&self.inotify, PollFlags::IN)], left.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(e) => return Err(Error::io("watch", &self.directory)(e)),
            }
        }
    }

    /// Watches the nearest directory above the cgroup that exists; returns it and the name that is
    /// looked for in it.
    fn watch_nearest_parent(&self) -> Result<(PathBuf, &Path), Error> {
        let mut missing = self.directory.as_path();
        for parent in self.directory.ancestors().skip(1) {
            if self.add(parent, WatchFlags::CREATE | WatchFlags::DELETE)? {
                let name = missing.strip_prefix(parent).unwrap_or(missing);
                return Ok((parent.to_owned(), name));
            }
            if parent == self.mount {
                break;
            }
            missing = parent;
        }
        Err(Error::NoHierarchy)
    }

    /// Adds a watch, or refreshes the one there is; `false` if there is nothing at the path.
    fn add(&self, path: &Path, flags: WatchFlags) -> Result<bool, Error> {
        match inotify::add_watch(&self.inotify, path, flags) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT | Errno::NODEV) => Ok(false),
            Err(e) => Err(Error::io("watch", path)(e)),
        }
    }

    /// Forgets what was told so far; only that something changed matters.
    fn drain(&self) {
        let mut buffer = [0; 4096];
        while rustix::io::read(&self.inotify, &mut buffer).is_ok_and(|n| n > 0) {}
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

impl AsRawFd for Watch {
    fn as_raw_fd(&self) -> RawFd {
        self.inotify.as_raw_fd()
    }
}
