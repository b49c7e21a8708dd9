//! The tier `vm`: the tests of the kernel side, on stock kernels of several releases and another architecture.
//!
//! Each machine is emulated, so this works wherever the project builds. It boots a kernel out of Debian's packages with a
//! small system of packages and the compiled tests, runs its [steps](steps::Step), and turns itself off.

mod kernel;
mod qemu;
mod root;
mod steps;

use std::{
    collections::BTreeSet,
    env,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use gadgetd_artifacts::{target_dir, workspace};

use self::{kernel::Kernel, root::Layer, steps::Step};
use crate::{
    process::run as run_command,
    test::{Outcome, Program},
};

/// Machines that run at the same time.
const AT_ONCE: usize = 2;

/// What a machine may take. Most take three minutes.
const LIMIT: Duration = Duration::from_mins(12);

/// The page that has the table, and what is around it there.
const PAGE: &str = "docs/compatibility.md";
const TABLE: [&str; 2] = ["<!-- The tier `vm` writes this table. -->\n", "<!-- The end of the table. -->\n"];

/// One row of the table.
struct Machine {
    kernel: Kernel,
    /// Parameters of the kernel.
    parameters: &'static str,
    /// Packages besides those that every machine has.
    packages: &'static [&'static str],
    steps: &'static [Step],
}

const RECORDS: Step = Step::Tests { shows: "records", program: "kernel", only: &[], under: "" };
const OUTLIVES: Step = Step::Tests {
    shows: "goes on after kill -9",
    program: "pinned",
    only: &[
        "a_recording_goes_on_while_nobody_runs",
        "it_can_be_killed_at_any_moment",
        "what_was_half_done_is_mended",
    ],
    under: "",
};
const FAITHFUL: Step = Step::Tests {
    shows: "equals strace -f",
    program: "fidelity",
    only: &["python-threads", "vfork", "signals", "children", "i386", "int80", "markers", "unknown"],
    under: "",
};
const ENFORCED: Step = Step::Tests {
    shows: "containers under their profile",
    program: "enforced",
    only: &[
        "runc/root-any-privileges/busybox",
        "runc/user-no-new-privileges/exec",
        "crun/root-any-privileges/busybox",
        "crun/user-no-new-privileges/exec",
    ],
    under: "",
};
const EVERYTHING: &[Step] = &[RECORDS, OUTLIVES, FAITHFUL, ENFORCED];

const fn refuses(because: &'static str, sentence: &'static str) -> Step {
    Step::Refuses { because, under: "", arguments: "run seccomp -- true", sentence }
}

/// The machines, those that take longest first.
const MACHINES: &[Machine] = &[
    Machine {
        kernel: Kernel { release: "bookworm", architecture: "amd64" },
        parameters: "lockdown=integrity",
        packages: &[],
        steps: EVERYTHING,
    },
    Machine {
        kernel: Kernel { release: "trixie", architecture: "amd64" },
        // CPUs without a timer tick, where membarrier(2) does not work.
        parameters: "nohz_full=1",
        packages: &[],
        steps: EVERYTHING,
    },
    Machine {
        kernel: Kernel { release: "sid", architecture: "amd64" },
        parameters: "",
        packages: &[],
        steps: EVERYTHING,
    },
    Machine {
        kernel: Kernel { release: "bookworm", architecture: "amd64" },
        parameters: "apparmor=1",
        packages: &["apparmor", "containerd"],
        steps: &[Step::Tests {
            shows: "in a container of containerd, under its AppArmor profile",
            program: "pinned",
            only: &["a_recording_goes_on_while_nobody_runs"],
            under: "sh /test/contained",
        }],
    },
    Machine {
        kernel: Kernel { release: "bullseye", architecture: "amd64" },
        parameters: "",
        packages: &[],
        steps: &[refuses("", "has no eBPF helper bpf_task_pt_regs, which came with Linux 5.15")],
    },
    Machine {
        kernel: Kernel { release: "bookworm", architecture: "amd64" },
        parameters: "lockdown=confidentiality",
        packages: &[],
        steps: &[refuses("", "the kernel is locked down in the mode \"confidentiality\"")],
    },
    Machine {
        kernel: Kernel { release: "trixie", architecture: "amd64" },
        parameters: "",
        packages: &[],
        steps: &[
            refuses(
                "mount -t tmpfs tmpfs /sys/kernel/btf",
                "this kernel does not describe itself: it needs CONFIG_DEBUG_INFO_BTF=y",
            ),
            Step::Refuses {
                because: "umount /sys/kernel/btf",
                arguments: "run seccomp -- true",
                sentence: "it is probably in a user namespace",
                under: "unshare --user --map-root-user",
            },
            Step::Refuses {
                because: A_CLUSTER,
                arguments: "serve --node n --slots 1048576",
                sentence: "there is no memory for what is recorded: the map",
                under: "",
            },
            refuses("umount /sys/fs/cgroup", "this machine has no cgroup v2 hierarchy mounted"),
        ],
    },
];

/// Runs a command as the `DaemonSet` runs gadgetd: in a container of containerd, with the seccomp and `AppArmor` profiles that
/// it gives to every container, and two more capabilities. Pins are outside of /sys, where the latter lets nobody write.
const CONTAINED: &str = r#"mkdir -p /rootfs /var/lib/containerd /run/containerd /sys/fs/bpf/gadgetd
mount --bind / /rootfs
containerd >/run/containerd.log 2>&1 &
until ctr version >/dev/null 2>&1; do kill -0 $! || { cat /run/containerd.log; exit 1; }; done
ctr run --rm --rootfs --seccomp --apparmor-default-profile cri-containerd.apparmor.d --cap-add CAP_BPF --cap-add CAP_PERFMON \
    --mount type=bind,src=/sys/fs/cgroup,dst=/sys/fs/cgroup,options=rbind:rw \
    --mount type=bind,src=/sys/fs/bpf/gadgetd,dst=/pins,options=rbind:rw \
    --mount type=tmpfs,dst=/tmp,options=mode=1777 \
    --env GADGETD_TEST_BPFFS=/pins --env CI=true /rootfs gadgetd \
    sh -c 'grep -q "^cri-containerd.apparmor.d (enforce)" /proc/self/attr/current || exit 1
           if mkdir /sys/fs/bpf/x 2>/dev/null; then echo "the profile does not hold"; exit 1; fi
           exec "$@"' sh "$@"
"#;

/// Lets gadgetd believe that there is a cluster.
const A_CLUSTER: &str = r#"export KUBECONFIG=/root/kubeconfig
echo '{"clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
    "users": [{"name": "u", "user": {}}],
    "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}], "current-context": "c"}' >$KUBECONFIG"#;

/// What came of a machine.
struct Row {
    /// What the kernel calls itself.
    version: String,
    architecture: &'static str,
    parameters: &'static str,
    outcomes: Vec<(&'static str, Outcome)>,
}

/// Runs all machines, prints what they print, and returns what came of them.
pub(crate) fn run(programs: &[Program]) -> Result<Outcome> {
    let folder = target_dir().join("vm");
    fs::create_dir_all(&folder)?;
    let prepared = Prepared::new(programs, &folder)?;
    let next = AtomicUsize::new(0);
    let rows = Mutex::new(Vec::new());
    let work = || {
        while let Some((index, machine)) =
            MACHINES.iter().enumerate().nth(next.fetch_add(1, Ordering::Relaxed))
        {
            let row = machine.run(&prepared, &folder.join(index.to_string()));
            rows.lock().unwrap_or_else(PoisonError::into_inner).push((index, row));
        }
    };
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(work);
        }
    });
    let mut rows = rows.into_inner().unwrap_or_else(PoisonError::into_inner);
    rows.sort_by_key(|(index, _)| *index);

    let mut total = Outcome::default();
    let mut written = Vec::new();
    for (index, row) in rows {
        match row {
            Ok(row) => {
                row.outcomes.iter().for_each(|(_, outcome)| total += *outcome);
                written.push(row);
            }
            Err(error) => {
                let Kernel { release, architecture } = MACHINES[index].kernel;
                println!("SKIPPED the kernel of Debian {release} for {architecture}: {error:#}");
                total += if env::var("CI").is_ok_and(|ci| ci == "true") {
                    Outcome { failed: 1, ..Outcome::default() }
                } else {
                    Outcome { skipped: 1, ..Outcome::default() }
                };
            }
        }
    }
    let table = table(&written);
    println!("\n{table}");
    if env::var_os("UPDATE_DOCS").is_some() {
        write_page(&table)?;
    }
    Ok(total)
}

/// What all machines of an architecture have in common.
struct Prepared {
    workloads: PathBuf,
    programs: Vec<(String, PathBuf)>,
}

impl Prepared {
    fn new(programs: &[Program], folder: &Path) -> Result<Self> {
        let find = |name: &str| {
            let program = programs.iter().find(|program| program.name == name);
            Ok((
                name.to_owned(),
                program.with_context(|| format!("there is no test program {name}"))?.executable.clone(),
            ))
        };
        let mut wanted =
            ["kernel", "pinned", "fidelity", "enforced"].map(find).into_iter().collect::<Result<Vec<_>>>()?;
        wanted.push(("gadgetd".to_owned(), target_dir().join("release/gadgetd")));
        let workloads = folder.join("workloads");
        if workloads.is_dir() {
            fs::remove_dir_all(&workloads)?;
        }
        // The machines have no compiler.
        let (_, fidelity) = &wanted[2];
        let mut build = Command::new(fidelity);
        build.arg("--list").env("GADGETD_WORKLOADS", &workloads).stdout(std::process::Stdio::null());
        run_command(&mut build)?;
        Ok(Self { workloads, programs: wanted })
    }
}

impl Machine {
    fn run(&self, prepared: &Prepared, folder: &Path) -> Result<Row> {
        let start = Instant::now();
        let Kernel { architecture, .. } = self.kernel;
        let kernel = self.kernel.fetch()?;
        let layer = Layer::new(folder.to_owned())?;
        for (name, program) in &prepared.programs {
            layer.program(program, name)?;
        }
        layer.folder(&prepared.workloads, "workloads")?;
        layer.write("test/steps", &steps::script(self.steps))?;
        layer.write("test/contained", CONTAINED)?;
        let root = layer.image(&root::base(architecture, self.packages)?)?;
        let machine = qemu::Machine {
            architecture,
            kernel: &kernel.file,
            root: &root,
            parameters: self.parameters,
            memory: 2_048,
        };
        let console = machine.run(LIMIT)?;
        fs::remove_file(root)?;
        let outcomes = steps::outcomes(self.steps, &console);
        let took = start.elapsed();
        println!(
            "\n== Linux {} {} ({:.0} s)\n{}",
            kernel.version,
            self.parameters,
            took.as_secs_f64(),
            console.join("\n")
        );
        Ok(Row {
            version: kernel.version,
            architecture,
            parameters: self.parameters,
            outcomes: self.steps.iter().map(|step| step.shows()).zip(outcomes).collect(),
        })
    }
}

/// The table in Markdown.
fn table(rows: &[Row]) -> String {
    let shown: BTreeSet<&str> =
        rows.iter().flat_map(|row| row.outcomes.iter().map(|(shows, _)| *shows)).collect();
    let mut table = String::from("| kernel | machine | parameters |");
    for shows in &shown {
        let _ = write!(table, " {shows} |");
    }
    let _ = write!(table, "\n|---|---|---|{}\n", "---|".repeat(shown.len()));
    for row in rows {
        let _ = write!(table, "| {} | {} | {} |", row.version, row.architecture, row.parameters);
        for shows in &shown {
            let mut all = Outcome::default();
            row.outcomes.iter().filter(|(of, _)| of == shows).for_each(|(_, outcome)| all += *outcome);
            let cell = match (all.passed, all.failed) {
                (0, 0) => String::new(),
                (passed, 0) => format!("{passed} of {passed}"),
                (passed, failed) => format!("**{passed} of {}**", passed + failed),
            };
            let _ = write!(table, " {cell} |");
        }
        table.push('\n');
    }
    table
}

fn write_page(table: &str) -> Result<()> {
    let page = workspace().join(PAGE);
    let text = fs::read_to_string(&page).with_context(|| format!("cannot read {PAGE}"))?;
    let [begin, end] = TABLE;
    let (before, rest) = text.split_once(begin).with_context(|| format!("{PAGE} has no table"))?;
    let (_, after) = rest.split_once(end).with_context(|| format!("the table of {PAGE} has no end"))?;
    Ok(fs::write(page, format!("{before}{begin}{table}{end}{after}"))?)
}
