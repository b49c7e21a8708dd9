//! The file system of a virtual machine: packages of Debian, and the programs under test.

use std::{
    fs::{self, File},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use gadgetd_artifacts::toolchain;

use crate::{debian::Release, files, process::output};

/// What the tests need beside the programs under test.
const PACKAGES: &[&str] = &[
    "bash",
    "busybox-static",
    "coreutils",
    "crun",
    "libseccomp2",
    "mount",
    "python3",
    "runc",
    "strace",
    "util-linux",
];

/// The release that it is of. The programs under test are built on it, or on an older one.
const RELEASE: &str = "bookworm";

/// Folders of packages that only people read.
const UNUSED: &[&str] = &["usr/share/doc", "usr/share/locale", "usr/share/man", "usr/share/info"];

/// The first program: it makes an ordinary root of what the kernel unpacked, which nothing can `pivot_root` away from.
const INIT: &str = "#!/bin/busybox sh
/bin/busybox mount -t tmpfs -o mode=755,size=90% tmpfs /new
for folder in bin etc lib lib64 sbin steps test usr var; do
    [ -e /$folder ] && /bin/busybox cp -a /$folder /new
done
exec /bin/busybox switch_root /new /bin/busybox sh /test/begin
";

/// The second: mounts what every system has, and runs the steps.
const BEGIN: &str =
    "export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root CI=true
busybox mkdir -p /proc /sys /dev /tmp /run /root
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/shm
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -t tmpfs tmpfs /run
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tracefs tracefs /sys/kernel/tracing
mount -t securityfs securityfs /sys/kernel/security
ip link set lo up
cd /root
sh /test/steps
poweroff -f
";

/// An archive of packages for one architecture: those that every machine has, and more.
pub(super) fn base(architecture: &str, more: &[&str]) -> Result<PathBuf> {
    let release = Release::open(RELEASE, architecture)?;
    let name = [&[RELEASE, architecture], more].concat().join("-");
    let folder = gadgetd_artifacts::cache::root().join("vm").join(name);
    let archive = folder.with_extension("cpio");
    release.unpack(&release.closure(&[PACKAGES, more].concat())?, &folder)?;
    if !archive.is_file() {
        for unused in UNUSED {
            let unused = folder.join(unused);
            if unused.is_dir() {
                fs::remove_dir_all(unused)?;
            }
        }
        pack(&folder, &archive)?;
    }
    Ok(archive)
}

/// What one machine has on top of the packages.
pub(super) struct Layer {
    folder: PathBuf,
}

impl Layer {
    /// A new one, in this folder.
    pub(super) fn new(folder: PathBuf) -> Result<Self> {
        if folder.is_dir() {
            fs::remove_dir_all(&folder)?;
        }
        for name in ["new", "test", "etc"] {
            fs::create_dir_all(folder.join(name))?;
        }
        let layer = Self { folder };
        layer.write("init", INIT)?;
        layer.write("test/begin", BEGIN)?;
        layer.write("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n")?;
        layer.write("etc/group", "root:x:0:\nnogroup:x:65534:\n")?;
        Ok(layer)
    }

    /// Writes a file that can be run.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<()> {
        let file = self.folder.join(name);
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?)
    }

    /// Copies a program without what is for debuggers: most of a test program is.
    pub(super) fn program(&self, from: &Path, name: &str) -> Result<()> {
        let mut command = toolchain::objcopy().context("the Rust toolchain has no rust-objcopy")?;
        output(command.arg("--strip-all").arg(from).arg(self.folder.join("test").join(name))).map(drop)
    }

    /// Copies a folder with files in it.
    pub(super) fn folder(&self, from: &Path, name: &str) -> Result<()> {
        let to = self.folder.join("test").join(name);
        fs::create_dir_all(&to)?;
        for file in fs::read_dir(from).with_context(|| format!("cannot list {}", from.display()))? {
            let file = file?;
            fs::copy(file.path(), to.join(file.file_name()))?;
        }
        Ok(())
    }

    /// Writes the file that a machine boots with: the packages, and over them this layer.
    pub(super) fn image(&self, base: &Path) -> Result<PathBuf> {
        let mut shell = self.folder.join("bin");
        fs::create_dir_all(&shell)?;
        shell.push("sh");
        if !shell.exists() {
            symlink("busybox", &shell)?;
        }
        let image = self.folder.with_extension("cpio");
        fs::copy(base, &image)?;
        // The kernel unpacks one archive after the other.
        let file = File::options().append(true).open(&image)?;
        archive(&self.folder, file)?;
        Ok(image)
    }
}

fn pack(folder: &Path, to: &Path) -> Result<()> {
    let part = to.with_extension("part");
    archive(folder, File::create(&part)?)?;
    files::place(&part, to)?;
    Ok(fs::remove_file(part)?)
}

/// Appends what is in a folder to a file, as the kernel unpacks it. All of it is root's.
fn archive(folder: &Path, to: File) -> Result<()> {
    let mut find = Command::new("find");
    let mut find = find.current_dir(folder).args([".", "-print0"]).stdout(Stdio::piped()).spawn()?;
    let names = find.stdout.take().context("find has no stdout")?;
    let mut cpio = Command::new("cpio");
    cpio.current_dir(folder).args(["--null", "--create", "--format=newc", "--owner=0:0", "--quiet"]);
    let status = cpio.stdin(names).stdout(to).status().context("cannot start cpio")?;
    ensure!(find.wait()?.success() && status.success(), "cannot make an archive of {}", folder.display());
    Ok(())
}
