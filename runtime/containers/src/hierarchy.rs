use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Component, Path, PathBuf},
};

use gadgetd_core::CgroupId;
use procfs::{
    ProcError,
    process::{MountInfo, Process},
};
use thiserror::Error;

/// Why something about cgroups failed.
#[derive(Debug, Error)]
pub enum Error {
    /// No cgroup v2 file system in sight.
    #[error(
        "this machine has no cgroup v2 hierarchy mounted; boot with systemd.unified_cgroup_hierarchy=1, \
         or mount one beside version 1: mkdir -p /sys/fs/cgroup/unified && \
         mount -t cgroup2 none /sys/fs/cgroup/unified"
    )]
    NoHierarchy,
    /// Every mount of cgroup v2 shows a branch of it, as in a container.
    #[error(
        "only a part of the cgroup v2 hierarchy is mounted, at {}; run on the host itself, or mount its \
         /sys/fs/cgroup into the container",
        .0.display()
    )]
    PartialHierarchy(PathBuf),
    /// A path that can't be a cgroup to record.
    #[error("no cgroup path: {0}; {1}")]
    Path(String, String),
    /// There is no such process.
    #[error("no process has the id {0}")]
    NoProcess(i32),
    /// Reading what `/proc` says of a process failed.
    #[error("cannot read which cgroup process {0} is in")]
    Proc(i32, #[source] procfs::ProcError),
    /// `/proc` names cgroups from the root of a cgroup namespace, and where that is can't be told.
    #[error(
        "cannot tell where in the hierarchy the root of this cgroup namespace is; run in the host's: \
         nsenter --cgroup --target 1"
    )]
    Namespace,
    /// The cgroup file system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Processes went on appearing, or would not leave.
    #[error("processes are left in {}", .0.display())]
    NotEmpty(PathBuf),
}

impl Error {
    /// For `map_err`: what was tried, and on what.
    pub(crate) fn io<E: Into<io::Error>>(action: &'static str, path: &Path) -> impl FnOnce(E) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source: source.into() }
    }
}

/// The mounted cgroup v2 hierarchy.
///
/// A cgroup is named by its path from the root of the hierarchy, as `/proc/PID/cgroup` has it: `/` is
/// the root, `/kubepods/x` a cgroup below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    mount: PathBuf,
    /// The root of this process's cgroup namespace, without a `/` at its end; `None` if it can't be told.
    namespace: Option<String>,
}

impl Hierarchy {
    /// Finds the mount: `/sys/fs/cgroup`, `/sys/fs/cgroup/unified` beside version 1, or wherever it is.
    pub fn find() -> Result<Self, Error> {
        let mounts = Process::myself().and_then(|p| p.mountinfo()).map_err(|e| Error::Proc(0, e))?;
        // The kernel gives the root this id, and no other cgroup. The table's own word for it is relative to
        // the cgroup namespace: in a container its branch is called `/`, and the true root `/../../..`.
        let is_root = |path: &Path| fs::metadata(path).is_ok_and(|found| found.ino() == 1);
        let MountInfo { mount_point, root, .. } = Self::choose(mounts, is_root)?;
        let host = Self::at(mount_point);
        let namespace = if root == "/" { host.namespace.clone() } else { host.own_namespace()? };
        Ok(Self { namespace, ..host })
    }

    /// Where the root of this process's cgroup namespace is: what the place where it really is has before the place
    /// where its namespace says it is.
    fn own_namespace(&self) -> Result<Option<String>, Error> {
        let own = std::process::id().cast_signed();
        let told = Self::told(own)?;
        let inside = |cgroup: &str| {
            let threads = fs::read_to_string(self.directory(cgroup).join("cgroup.threads"));
            threads.is_ok_and(|text| text.lines().any(|line| line.parse() == Ok(own)))
        };
        let place = self.tree("/").into_iter().map(|(cgroup, _)| cgroup).find(|cgroup| inside(cgroup));
        Ok(place.and_then(|place| {
            Some(place.strip_suffix(told.trim_end_matches('/'))?.trim_end_matches('/').to_owned())
        }))
    }

    fn choose(
        mounts: impl IntoIterator<Item = MountInfo>,
        is_root: impl Fn(&Path) -> bool,
    ) -> Result<MountInfo, Error> {
        let mut partial = None;
        for mount in mounts.into_iter().filter(|m| m.fs_type == "cgroup2") {
            if is_root(&mount.mount_point) {
                return Ok(mount);
            }
            partial = Some(mount.mount_point);
        }
        Err(partial.map_or(Error::NoHierarchy, Error::PartialHierarchy))
    }

    /// The one that is mounted at this directory, for a process in the host's cgroup namespace.
    pub fn at(mount: impl Into<PathBuf>) -> Self {
        Self { mount: mount.into(), namespace: Some(String::new()) }
    }

    /// The directory where the hierarchy is mounted.
    pub fn mount(&self) -> &Path {
        &self.mount
    }

    /// The directory of a cgroup.
    pub fn directory(&self, cgroup: &str) -> PathBuf {
        self.mount.join(cgroup.trim_start_matches('/'))
    }

    /// What a user may write, as a cgroup: a path from the root of the hierarchy, with or without a
    /// leading slash, or the path of a directory below the mount. It need not exist.
    pub fn resolve(&self, given: &str) -> Result<String, Error> {
        let refuse = |why: String| Err(Error::Path(given.to_owned(), why));
        let path = Path::new(given);
        let below = match path.strip_prefix(&self.mount) {
            Ok(below) => below,
            Err(_) if path.starts_with("/sys/fs/cgroup") || path.starts_with(self.mount.join("..")) => {
                return refuse(format!("the cgroup v2 hierarchy is mounted at {}", self.mount.display()));
            }
            Err(_) => path.strip_prefix("/").unwrap_or(path),
        };
        let mut cgroup = String::new();
        for part in below.components() {
            match part {
                Component::Normal(name) => {
                    cgroup.push('/');
                    cgroup.push_str(&name.to_string_lossy());
                }
                Component::CurDir => {}
                _ => return refuse("it must not have `..` in it".into()),
            }
        }
        if cgroup.is_empty() {
            return refuse("the root is every process of the machine; name a cgroup below it".into());
        }
        Ok(cgroup)
    }

    /// The id of a cgroup; `None` while it does not exist.
    pub fn id(&self, cgroup: &str) -> Result<Option<CgroupId>, Error> {
        let directory = self.directory(cgroup);
        match fs::metadata(&directory) {
            Ok(found) => Ok(Some(CgroupId(found.ino()))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io("look at", &directory)(e)),
        }
    }

    /// The cgroup that a process or a thread is in.
    pub fn of_process(&self, pid: i32) -> Result<String, Error> {
        let namespace = self.namespace.as_ref().ok_or(Error::Namespace)?;
        Ok(below(namespace, &Self::told(pid)?))
    }

    /// The cgroups that the living threads of a process are in: one, unless some of them are threaded. None if it has ended.
    pub fn of_threads(&self, pid: i32) -> Result<BTreeSet<String>, Error> {
        let mut found = BTreeSet::new();
        let failed = |e| Error::Proc(pid, e);
        let tasks = match Process::new(pid).and_then(|process| process.tasks()) {
            Err(ProcError::NotFound(_)) => return Ok(found),
            tasks => tasks.map_err(failed)?,
        };
        for task in tasks {
            match task.and_then(|task| task.stat()) {
                // The first thread stays as a zombie until the others have ended.
                Ok(stat) if matches!(stat.state, 'Z' | 'X') => {}
                Ok(stat) => match self.of_process(stat.pid) {
                    Err(Error::NoProcess(_)) => {}
                    cgroup => _ = found.insert(cgroup?),
                },
                Err(ProcError::NotFound(_)) => {}
                Err(e) => return Err(failed(e)),
            }
        }
        Ok(found)
    }

    /// Where a process is, as seen from the root of this process's cgroup namespace.
    fn told(pid: i32) -> Result<String, Error> {
        let gone = |e| match e {
            ProcError::NotFound(_) => Error::NoProcess(pid),
            e => Error::Proc(pid, e),
        };
        let cgroups = Process::new(pid).and_then(|p| p.cgroups()).map_err(gone)?;
        // The line of version 2 is `0::/path`.
        let own = cgroups.into_iter().find(|c| c.hierarchy == 0).ok_or(Error::NoHierarchy)?;
        Ok(own.pathname)
    }

    /// The cgroup of this process.
    pub fn own(&self) -> Result<String, Error> {
        self.of_process(std::process::id().cast_signed())
    }

    /// Whether a cgroup is neither threaded nor the root of a threaded subtree: the kernel lets processes move between it
    /// and a new cgroup below it.
    pub fn is_plain_domain(&self, cgroup: &str) -> Result<bool, Error> {
        let path = self.directory(cgroup).join("cgroup.type");
        match fs::read_to_string(&path) {
            Ok(kind) => Ok(kind.trim_end() == "domain"),
            // The root has no type, and may do both.
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(e) => Err(Error::io("read", &path)(e)),
        }
    }

    /// A cgroup and every one below it that can be seen now, with their ids; the children last.
    /// Nothing if it does not exist.
    pub fn tree(&self, cgroup: &str) -> Vec<(String, CgroupId)> {
        let mut found = Vec::new();
        let mut next = vec![cgroup.to_owned()];
        while let Some(cgroup) = next.pop() {
            let directory = self.directory(&cgroup);
            let (Ok(about), Ok(entries)) = (fs::metadata(&directory), fs::read_dir(&directory)) else {
                continue; // Gone in the meantime.
            };
            let base = cgroup.trim_end_matches('/');
            next.extend(
                entries
                    .flatten()
                    .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
                    .map(|e| format!("{base}/{}", e.file_name().to_string_lossy())),
            );
            found.push((cgroup, CgroupId(about.ino())));
        }
        found
    }
}

/// A path as a cgroup namespace has it, from the true root: `..` leads out of the namespace.
fn below(namespace: &str, path: &str) -> String {
    let mut parts: Vec<_> = namespace.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        if part == ".." {
            parts.pop();
        } else {
            parts.push(part);
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use procfs::{FromRead, process::MountInfos};

    use super::*;

    /// Chooses from a table in which the mounts at `roots` show the root.
    fn choose(mountinfo: &str, roots: &[&str]) -> Result<MountInfo, Error> {
        let mounts = MountInfos::from_read(mountinfo.as_bytes()).expect("a valid table");
        Hierarchy::choose(mounts, |path| roots.iter().any(|root| path == Path::new(root)))
    }

    #[test]
    fn the_mount_is_found() {
        let v1 = "26 22 0:24 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n";
        let hybrid = "27 22 0:25 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
        let pure = "25 22 0:23 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
        let part = "25 22 0:23 /docker/abc /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw\n";
        let unified = "/sys/fs/cgroup/unified";
        let at = |mountinfo: &str, root: &str| choose(mountinfo, &[root]).expect(mountinfo).mount_point;
        assert_eq!(at(&format!("{v1}{hybrid}"), unified), Path::new(unified));
        assert_eq!(at(pure, "/sys/fs/cgroup"), Path::new("/sys/fs/cgroup"));
        assert_eq!(at(&format!("{part}{hybrid}"), unified), Path::new(unified));
        assert!(matches!(choose(v1, &["/sys/fs/cgroup/memory"]), Err(Error::NoHierarchy)));
        assert!(
            matches!(choose(part, &[]), Err(Error::PartialHierarchy(at)) if at == Path::new("/sys/fs/cgroup"))
        );
    }

    #[test]
    fn in_a_container_the_host_s_mount_is_found_beside_its_own() {
        let own = "25 22 0:23 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw\n";
        let host = "26 22 0:23 /../../.. /host/cgroup ro,nosuid - cgroup2 cgroup2 rw\n";
        let found = choose(&format!("{own}{host}"), &["/host/cgroup"]).expect("the host's");
        assert_eq!(found.mount_point, Path::new("/host/cgroup"));
        assert!(matches!(choose(own, &[]), Err(Error::PartialHierarchy(_))));
    }

    #[test]
    fn places_in_a_namespace_are_places_in_the_hierarchy() {
        for (namespace, path, want) in [
            ("", "/", "/"),
            ("", "/a/b", "/a/b"),
            ("/pod/x", "/", "/pod/x"),
            ("/pod/x", "/a", "/pod/x/a"),
            ("/pod/x", "/../y", "/pod/y"),
            ("/pod/x", "/../..", "/"),
        ] {
            assert_eq!(below(namespace, path), want, "{path} in {namespace}");
        }
    }

    #[test]
    fn paths_are_taken_as_users_write_them() {
        let hierarchy = Hierarchy::at("/sys/fs/cgroup/unified");
        for (given, want) in [
            ("/kubepods/x", "/kubepods/x"),
            ("kubepods/x/", "/kubepods/x"),
            ("//kubepods/./x", "/kubepods/x"),
            ("/sys/fs/cgroup/unified/kubepods/x", "/kubepods/x"),
        ] {
            assert_eq!(hierarchy.resolve(given).expect(given), want);
        }
        for given in
            ["", "/", "/sys/fs/cgroup/unified", "/a/../b", "..", "/sys/fs/cgroup/memory/x", "/sys/fs/cgroup"]
        {
            let error = hierarchy.resolve(given).expect_err(given);
            assert!(matches!(error, Error::Path(..)), "{given}: {error}");
        }
    }
}
