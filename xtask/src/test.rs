//! `cargo xtask test`: the tiers, and what came of them.
//!
//! Everything is compiled by one call of cargo, with one set of features, and the test programs are then run tier by
//! tier: nothing compiles twice, and the time of a tier is the time of its tests.

use std::{
    fmt::{self, Write as _},
    io::{BufRead as _, BufReader},
    ops::AddAssign,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use serde_json::Value;

use crate::{
    kube_assets,
    process::{cargo, show},
    runtimes, setup, vm,
};

/// Tests that cost alike and need alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tier {
    /// The domain, the gadgets and formatters compiled for this machine, the SDK, the examples in the documentation
    Pure,
    /// Real components, good and hostile, in the host, and out of a real registry
    Host,
    /// Modules in Rust, Python, JavaScript and C, built from templates and examples with the tools of their languages
    Languages,
    /// The real eBPF program and the command line, compared with strace; needs root
    Kernel,
    /// Profiles enforced by runc and crun; needs root
    Enforced,
    /// The controller, and `gadgetd serve`, against a real API server, which is built first; the latter needs root
    Api,
    /// What the tiers `kernel` and `enforced` try, on stock kernels from the oldest to the newest, in emulated machines
    Vm,
    /// Pods on a real node, which is built first; needs root. `cargo xtask e2e` runs it
    Node,
}

impl Tier {
    /// What runs when no tier is named.
    const USUAL: [Self; 7] =
        [Self::Pure, Self::Host, Self::Languages, Self::Kernel, Self::Enforced, Self::Api, Self::Vm];

    /// The tier of a test program. What is not known to need anything is pure.
    fn of(package: &str, target: &str) -> Self {
        match (package, target) {
            (_, "enforced") => Self::Enforced,
            ("gadgetd", "projects" | "hostile") => Self::Languages,
            ("gadgetd-e2e", "gadgetd_e2e" | "gadgetd-e2e") => Self::Pure,
            ("gadgetd-kube-tests", _)
            | ("gadgetd-e2e", "api_server")
            | ("gadgetd", "gadgets" | "serve")
            | ("gadgetd-cli", "cluster") => Self::Api,
            ("gadgetd-e2e", _) => Self::Node,
            ("gadgetd-host" | "gadgetd-guests" | "gadget-testing" | "gadgetd-registry-tests", _)
            | ("gadgetd-node", "objects")
            | ("gadgetd", "distribution") => Self::Host,
            (
                "gadgetd" | "gadgetd-bench" | "gadgetd-containers" | "gadgetd-fidelity" | "gadgetd-tracer",
                _,
            ) => Self::Kernel,
            _ => Self::Pure,
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.pad(value.as_ref().map_or("", |value| value.get_name()))
    }
}

/// What came of some tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Outcome {
    pub passed: u32,
    pub failed: u32,
    pub skipped: u32,
}

impl AddAssign for Outcome {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// A compiled test program.
pub(crate) struct Program {
    tier: Tier,
    /// As in its manifest.
    pub name: String,
    pub executable: PathBuf,
    /// Tests run in the folder of their package, as with `cargo test`.
    folder: PathBuf,
}

/// Runs the tiers, the usual ones if none is named, and prints a table of what came of them.
pub(crate) fn run(tiers: &[Tier], kernel: Option<&str>) -> Result<()> {
    let tiers = if tiers.is_empty() { &Tier::USUAL } else { tiers };
    setup::ensure(setup::For::Test)?;
    if tiers.contains(&Tier::Node) {
        kube_assets::provide(gadgetd_kube_assets::Tier::Node)?;
    } else if tiers.contains(&Tier::Api) {
        kube_assets::provide(gadgetd_kube_assets::Tier::Api)?;
    }
    if tiers.contains(&Tier::Enforced) {
        runtimes::provide()?;
    }
    let programs = match compile(cargo(["build", "--release", "--locked", "--workspace", "--all-targets"])) {
        Ok(programs) => programs,
        Err(error) => {
            eprintln!("error: {error:#}");
            println!("{}", Outcome { failed: 1, ..Outcome::default() });
            std::process::exit(1);
        }
    };

    let mut total = Outcome::default();
    let mut table = String::new();
    for &tier in tiers {
        println!("\n==== {tier} ====");
        let start = Instant::now();
        let outcome = run_tier(tier, &programs, kernel)?;
        let Outcome { passed, failed, skipped } = outcome;
        let seconds = start.elapsed().as_secs_f64();
        writeln!(table, "{tier:10} {passed:>7} {failed:>7} {skipped:>8} {seconds:>9.1}")?;
        total += outcome;
    }
    println!(
        "\n{:10} {:>7} {:>7} {:>8} {:>9}\n{table}\n{total}",
        "tier", "passed", "failed", "skipped", "seconds"
    );
    // The line above is the last one that a reader wants to see.
    std::process::exit(i32::from(total.failed > 0));
}

/// Compiles, and returns the tests among what was compiled.
pub(crate) fn compile(mut build: Command) -> Result<Vec<Program>> {
    build.arg("--message-format=json-render-diagnostics").stdout(Stdio::piped());
    eprintln!("+ {}", show(&build));
    let mut child = build.spawn().context("cannot start cargo")?;
    let messages = child.stdout.take().context("cargo has no stdout")?;
    let mut programs = Vec::new();
    for line in BufReader::new(messages).lines() {
        let message: Value = serde_json::from_str(&line?).context("cargo wrote something else than JSON")?;
        programs.extend(test_program(&message));
    }
    let status = child.wait()?;
    ensure!(status.success(), "the tests cannot be compiled");
    programs.sort_by(|a: &Program, b| a.executable.cmp(&b.executable));
    Ok(programs)
}

/// The test program that a message of cargo's tells of.
fn test_program(message: &Value) -> Option<Program> {
    let executable = message["executable"].as_str().filter(|_| message["profile"]["test"] == true)?;
    let folder = Path::new(message["manifest_path"].as_str()?).parent()?;
    // `path+file:///folder#name@version`, or without the name where the folder has it.
    let (location, version) = message["package_id"].as_str()?.rsplit_once('#')?;
    let package =
        version.split_once('@').map_or_else(|| location.rsplit('/').next(), |(name, _)| Some(name))?;
    let name = message["target"]["name"].as_str()?;
    let tier = Tier::of(package, name);
    Some(Program { tier, name: name.to_owned(), executable: executable.into(), folder: folder.to_path_buf() })
}

fn run_tier(tier: Tier, programs: &[Program], kernel: Option<&str>) -> Result<Outcome> {
    if tier == Tier::Vm {
        return vm::run(programs, kernel);
    }
    let mut outcome = Outcome::default();
    for program in programs.iter().filter(|program| program.tier == tier) {
        let mut command = Command::new(&program.executable);
        command.arg("--show-output").current_dir(&program.folder).env("CARGO_MANIFEST_DIR", &program.folder);
        outcome += run_tests(&mut command)?;
    }
    if tier == Tier::Pure {
        let mut examples = cargo(["test", "--release", "--locked", "--workspace", "--doc", "--no-fail-fast"]);
        outcome += run_tests(&mut examples)?;
    }
    Ok(outcome)
}

/// Runs a test program, passes on what it prints, and counts.
fn run_tests(command: &mut Command) -> Result<Outcome> {
    let shown = show(command);
    println!("+ {shown}");
    let mut child =
        command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start `{shown}`"))?;
    let output = child.stdout.take().context("the tests have no stdout")?;
    let mut reader = Reader::default();
    for line in BufReader::new(output).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        if reader.read(&line) {
            println!("{line}");
        }
    }
    let status = child.wait()?;
    let mut outcome = reader.outcome;
    if !status.success() && outcome.failed == 0 {
        println!("`{shown}` ended early ({status})");
        outcome.failed = 1;
    }
    Ok(outcome)
}

/// Reads what libtest prints with `--show-output`.
///
/// libtest has no word for a test that finds out, when it runs, that it cannot: such a test prints a line that begins
/// with `SKIPPED` and returns. Those lines are worth seeing; whatever else a successful test prints is not.
#[derive(Default)]
pub(crate) struct Reader {
    outcome: Outcome,
    /// Skips since the last result, which counts them as passed.
    skips: u32,
    in_successes: bool,
}

impl Reader {
    /// What came of the tests so far.
    pub(crate) fn outcome(self) -> Outcome {
        self.outcome
    }

    /// Takes a line, and says whether to show it.
    pub(crate) fn read(&mut self, line: &str) -> bool {
        if line.starts_with("SKIPPED") {
            self.skips += 1;
            return true;
        }
        if let Some(counts) = line.strip_prefix("test result: ") {
            let skips = std::mem::take(&mut self.skips);
            self.outcome.passed += count(counts, " passed").saturating_sub(skips);
            self.outcome.failed += count(counts, " failed");
            self.outcome.skipped += count(counts, " ignored") + skips;
        }
        match line {
            "successes:" => self.in_successes = true,
            "failures:" => self.in_successes = false,
            _ if line.starts_with("test result: ") => self.in_successes = false,
            _ => {}
        }
        !self.in_successes
    }
}

/// The number before `word` in `ok. 2 passed; 0 failed; …`.
fn count(counts: &str, word: &str) -> u32 {
    let before = counts.split(word).next().unwrap_or_default();
    before.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const OUTPUT: &str = "\nrunning 4 tests\ntest a ... ok\ntest b ... ok\ntest c ... FAILED\ntest d ... ignored\n\n\
        successes:\n\n---- a stdout ----\nnoise\n\n---- b stdout ----\nSKIPPED b: not root; run `sudo …`\n\n\
        successes:\n    a\n    b\n\nfailures:\n\n---- c stdout ----\nthe reason\n\nfailures:\n    c\n\n\
        test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n";

    #[test]
    fn skips_and_failures_are_counted_and_shown() {
        let mut reader = Reader::default();
        let shown: Vec<&str> = OUTPUT.lines().filter(|line| reader.read(line)).collect();
        assert_eq!(reader.outcome, Outcome { passed: 1, failed: 1, skipped: 2 });
        assert!(shown.contains(&"SKIPPED b: not root; run `sudo …`"), "{shown:#?}");
        assert!(shown.contains(&"the reason"), "{shown:#?}");
        assert!(!shown.contains(&"noise"), "{shown:#?}");
    }

    #[test]
    fn results_add_up() {
        let mut reader = Reader::default();
        for _ in 0..2 {
            reader.read(
                "test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1s",
            );
        }
        assert_eq!(reader.outcome.to_string(), "24 passed, 0 failed, 0 skipped");
    }

    #[test]
    fn cargo_tells_of_test_programs() {
        let message = |test: bool, id: &str, target: &str| {
            json!({
                "reason": "compiler-artifact",
                "package_id": id,
                "manifest_path": "/somewhere/tests/fidelity/Cargo.toml",
                "target": { "name": target },
                "profile": { "test": test },
                "executable": "/target/release/deps/x-1",
            })
        };
        let named = "path+file:///somewhere/tests/fidelity#gadgetd-fidelity@0.1.0";
        let program = test_program(&message(true, named, "enforced")).expect("it is a test");
        assert_eq!((program.tier, program.folder), (Tier::Enforced, "/somewhere/tests/fidelity".into()));
        let tier = |id, target| test_program(&message(true, id, target)).map(|program| program.tier);
        assert_eq!(tier(named, "programs"), Some(Tier::Kernel));
        let gadgetd = "path+file:///somewhere/runtime/gadgetd#0.1.0";
        assert_eq!(tier(gadgetd, "gadgetd"), Some(Tier::Kernel));
        assert_eq!(tier(gadgetd, "projects"), Some(Tier::Languages));
        assert_eq!(
            tier("path+file:///somewhere/runtime/core#gadgetd-core@0.1.0", "gadgetd_core"),
            Some(Tier::Pure)
        );
        let e2e = "path+file:///somewhere/tests/e2e#gadgetd-e2e@0.1.0";
        assert_eq!(tier(e2e, "api_server"), Some(Tier::Api));
        assert_eq!(tier(e2e, "seed"), Some(Tier::Node));
        assert!(test_program(&message(false, named, "enforced")).is_none());
    }
}
