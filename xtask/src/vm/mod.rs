//! The tier `vm`: the tests of the kernel side, on stock kernels of several releases and another architecture.
//!
//! Each machine is emulated, so this works wherever the project builds. It boots a kernel out of Debian's packages with a
//! small system of packages and the compiled tests, runs its [steps](steps::Step), and turns itself off.

mod kernel;
mod machines;
mod programs;
mod qemu;
mod root;
mod steps;

use std::{
    collections::BTreeSet,
    env,
    fmt::Write as _,
    fs,
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use gadgetd_artifacts::{target_dir, workspace};

use self::{
    kernel::Kernel,
    machines::{CONTAINED, MACHINES, Machine},
    programs::Programs,
    root::Layer,
};
use crate::test::{outcome::Outcome, program::Program};

/// Machines that run at the same time.
const AT_ONCE: usize = 2;

/// What a machine may take. Most take three minutes.
const LIMIT: Duration = Duration::from_mins(12);

/// The page that has the table, and what is around it there.
const PAGE: &str = "docs/compatibility.md";
const TABLE: [&str; 2] = ["<!-- The tier `vm` writes this table. -->\n", "<!-- The end of the table. -->\n"];

/// What came of a machine.
struct Row {
    /// What the kernel calls itself.
    version: String,
    architecture: &'static str,
    parameters: &'static str,
    outcomes: Vec<(&'static str, Outcome)>,
}

/// Why there is nothing to say of a machine.
enum Failure {
    /// Its kernel cannot be had here.
    NoKernel(anyhow::Error),
    /// It did not run to its end.
    Broken(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Broken(error.into())
    }
}

/// Runs all machines, or those with the kernel of one release, prints what they print, and returns what came of them.
pub(crate) fn run(programs: &[Program], release: Option<&str>) -> Result<Outcome> {
    let chosen = |machine: &&Machine| release.is_none_or(|release| machine.kernel.release == release);
    let machines: Vec<&Machine> = MACHINES.iter().filter(chosen).collect();
    if let Some(release) = release {
        ensure!(!machines.is_empty(), "there is no machine with the kernel of Debian {release}");
    }
    let folder = target_dir().join("vm");
    fs::create_dir_all(&folder)?;
    let programs = Programs::build(programs, &folder)?;
    let next = AtomicUsize::new(0);
    let rows = Mutex::new(Vec::new());
    let work = || {
        while let Some((index, machine)) =
            machines.iter().enumerate().nth(next.fetch_add(1, Ordering::Relaxed))
        {
            let row = machine.run(&programs, &folder.join(index.to_string()));
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
            Err(Failure::NoKernel(error)) => {
                let Kernel { release, architecture } = machines[index].kernel;
                println!("SKIPPED the kernel of Debian {release} for {architecture}: {error:#}");
                total += if env::var("CI").is_ok_and(|ci| ci == "true") {
                    Outcome { failed: 1, ..Outcome::default() }
                } else {
                    Outcome { skipped: 1, ..Outcome::default() }
                };
            }
            Err(Failure::Broken(error)) => {
                let Machine { kernel, parameters, .. } = &machines[index];
                println!("FAILED {kernel:?} {parameters}: {error:#}");
                total += Outcome { failed: 1, ..Outcome::default() };
            }
        }
    }
    let table = table(&written);
    println!("\n{table}");
    if release.is_none() && env::var_os("UPDATE_DOCS").is_some() {
        write_page(&table)?;
    }
    Ok(total)
}

impl Machine {
    /// Boots it.
    fn run(&self, programs: &Programs, folder: &Path) -> Result<Row, Failure> {
        let start = Instant::now();
        let Kernel { architecture, .. } = self.kernel;
        let kernel = self.kernel.fetch().map_err(Failure::NoKernel)?;
        let layer = Layer::new(folder.to_owned())?;
        let names: BTreeSet<&str> = self.steps.iter().flat_map(steps::Step::programs).copied().collect();
        for name in &names {
            layer.program(programs.find(architecture, name)?, name)?;
        }
        if names.contains("fidelity") || names.contains("enforced") {
            layer.folder(&programs.workloads, "workloads")?;
        }
        layer.write("test/steps", &steps::script(self.prepare, self.steps))?;
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
