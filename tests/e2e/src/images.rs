//! Images made on this machine from Debian's packages: nothing is ever pulled.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use gadgetd_image::Layer;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::process::run;

/// An image that the tests run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Image {
    /// Holds the namespaces of a pod.
    Pause,
    /// Debian's static busybox, with a link for every applet in `/bin`.
    Busybox,
    /// The workload of the project's demo: nginx, uwsgi and flask under supervisord, which serve `/app/main.py` on
    /// port 80. It stands in for the image of that name.
    Demo,
}

impl Image {
    /// The name by which pods refer to it.
    pub fn reference(self) -> &'static str {
        match self {
            Self::Pause => "docker.io/gadgetd/pause:1",
            Self::Busybox => "docker.io/library/busybox:latest",
            Self::Demo => "docker.io/tiangolo/uwsgi-nginx-flask:latest",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Busybox => "busybox",
            Self::Demo => "demo",
        }
    }

    fn config(self) -> Value {
        match self {
            // As the first process of its namespace it gets only the signals that it handles.
            Self::Pause => json!({
                "Entrypoint": ["/bin/sh", "-c", "trap 'exit 0' TERM INT; while :; do sleep 86400 & wait $!; done"],
            }),
            Self::Busybox => json!({"Env": ["PATH=/bin"], "Cmd": ["sh"]}),
            Self::Demo => json!({
                "Env": [
                    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                    "PYTHONPATH=/app",
                    "UWSGI_INI=/app/uwsgi.ini",
                ],
                "WorkingDir": "/app",
                "ExposedPorts": {"80/tcp": {}},
                "Entrypoint": ["/entrypoint.sh"],
                "Cmd": ["/start.sh"],
            }),
        }
    }
}

/// Returns the archive of an image, from the cache or newly made.
///
/// # Errors
/// Where a tool that makes it is missing: `busybox-static`, or `mmdebstrap` (which takes root) for the demo.
pub fn build(image: Image) -> Result<PathBuf> {
    let folder = gadgetd_artifacts::cache::root().join("images");
    fs::create_dir_all(&folder)?;
    // Another recipe is another file.
    let mut recipe = Sha256::new_with_prefix(include_bytes!("images.rs"));
    for (_, _, content) in DEMO {
        recipe.update(content);
    }
    let archive = folder.join(format!("{}-{}.tar", image.name(), &format!("{:x}", recipe.finalize())[..12]));
    let lock = File::create(folder.join("lock"))?;
    lock.lock()?;
    if !archive.exists() {
        let work = tempfile::Builder::new().prefix("making-").tempdir_in(&folder)?;
        let layers = match image {
            Image::Pause | Image::Busybox => vec![busybox(work.path())?],
            Image::Demo => vec![debian(work.path())?, demo(work.path())?],
        };
        let made = work.path().join("image.tar");
        let empty = gadgetd_image::Image::new(image.reference(), image.config());
        layers.into_iter().fold(empty, gadgetd_image::Image::layer).write(&made)?;
        for older in fs::read_dir(&folder)?.filter_map(|entry| Some(entry.ok()?.path())) {
            if older
                .file_name()
                .is_some_and(|it| it.to_string_lossy().starts_with(&format!("{}-", image.name())))
            {
                fs::remove_file(older)?;
            }
        }
        fs::rename(made, &archive)?;
    }
    Ok(archive)
}

fn busybox(work: &Path) -> Result<PathBuf> {
    let path = work.join("busybox.tar");
    let program = ["/bin/busybox", "/usr/bin/busybox"].iter().find_map(|path| fs::read(path).ok());
    let program = program.context("there is no busybox; apt-get install busybox-static")?;
    let applets = String::from_utf8(run(Command::new("busybox").arg("--list"))?)?;

    let mut layer = Layer::create(&path)?;
    for folder in ["bin", "etc", "home", "root", "var"] {
        layer.folder(folder, 0o755)?;
    }
    layer.folder("tmp", 0o1777)?;
    layer.file("bin/busybox", 0o755, &program)?;
    for applet in applets.lines().filter(|applet| *applet != "busybox") {
        layer.link(&format!("bin/{applet}"), "busybox")?;
    }
    layer.file(
        "etc/passwd",
        0o644,
        b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n",
    )?;
    layer.file("etc/group", 0o644, b"root:x:0:\nnogroup:x:65534:\n")?;
    layer.finish()?;
    Ok(path)
}

/// A Debian with what the demo's workload needs, from the machine's own package sources.
fn debian(work: &Path) -> Result<PathBuf> {
    eprintln!("making the demo's image from Debian packages (once; a minute or two)");
    let path = work.join("debian.tar");
    let sources = sources()?;
    run(Command::new("mmdebstrap")
        .args(["--mode=root", "--variant=essential", "--format=tar"])
        .arg("--include=nginx-light,uwsgi-core,uwsgi-plugin-python3,python3-flask,supervisor")
        .args(["--aptopt=APT::Sandbox::User \"root\"", "--dpkgopt=path-exclude=/usr/share/doc/*"])
        .args(["--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/locale/*"])
        .arg(codename()?)
        .arg(&path)
        .args(sources))
    .context("a Debian for the demo's image")?;
    Ok(path)
}

fn codename() -> Result<String> {
    let release = fs::read_to_string("/etc/os-release")?;
    let codename = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    Ok(codename.context("/etc/os-release names no release: this takes Debian")?.to_owned())
}

/// The files in which the machine's apt has its sources.
fn sources() -> Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = fs::read_dir("/etc/apt/sources.list.d")?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|kind| kind == "sources"))
        .collect();
    let list = PathBuf::from("/etc/apt/sources.list");
    files.extend(list.exists().then_some(list));
    ensure!(!files.is_empty(), "apt has no sources");
    Ok(files)
}

/// Path, mode and content of the files that the demo's image has over a plain Debian.
const DEMO: &[(&str, u32, &str)] = &[
    ("app/main.py", 0o644, include_str!("../images/demo/main.py")),
    ("app/uwsgi.ini", 0o644, include_str!("../images/demo/app-uwsgi.ini")),
    ("etc/uwsgi.ini", 0o644, include_str!("../images/demo/uwsgi.ini")),
    ("etc/nginx/nginx.conf", 0o644, include_str!("../images/demo/nginx.conf")),
    ("etc/supervisor/supervisord.conf", 0o644, include_str!("../images/demo/supervisord.conf")),
    ("entrypoint.sh", 0o755, include_str!("../images/demo/entrypoint.sh")),
    ("start.sh", 0o755, include_str!("../images/demo/start.sh")),
];

/// What makes a workload of it: configuration, and the scripts by which the container starts.
fn demo(work: &Path) -> Result<PathBuf> {
    let path = work.join("demo.tar");
    let mut layer = Layer::create(&path)?;
    layer.folder("app", 0o755)?;
    layer.folder("var/log/nginx", 0o755)?;
    for (path, mode, content) in DEMO {
        layer.file(path, *mode, content.as_bytes())?;
    }
    layer.finish()?;
    Ok(path)
}
