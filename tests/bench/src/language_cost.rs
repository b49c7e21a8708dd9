//! What the same gadget costs in each language: those that `gadgetd module new` makes, which do the same, built and
//! measured by `gadgetd module`.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use gadgetd_artifacts::cache::tools;
use serde_json::Value;

use crate::{Effort, gadget_cost, gadgetd};

/// As `--lang` has them, and as people do. The first one is what the others are compared to.
const LANGUAGES: [(&str, &str); 4] =
    [("rust", "Rust"), ("c", "C"), ("js", "JavaScript"), ("python", "Python")];

/// A component, and what was measured of it, once a round.
struct Measured {
    component: PathBuf,
    rounds: Vec<Value>,
}

impl Measured {
    /// The middle of the rounds, of a number at this place.
    fn middle(&self, place: &str) -> Result<u64> {
        let numbers = self.rounds.iter().map(|round| round.pointer(place).and_then(Value::as_u64));
        let mut numbers =
            numbers.collect::<Option<Vec<_>>>().with_context(|| format!("there is no {place}"))?;
        numbers.sort_unstable();
        numbers.get(numbers.len() / 2).copied().context("nothing was measured")
    }
}

/// The table.
pub(crate) fn table(effort: Effort) -> Result<String> {
    let folder = tempfile::tempdir()?;
    let mut all = Vec::new();
    for (language, _) in LANGUAGES {
        let project = format!("in-{language}");
        module(folder.path(), &["new", &project, "--lang", language, "--kind", "gadget"])?;
        let component = folder.path().join(format!("{project}.wasm"));
        let output = component.to_str().context("a strange path")?;
        module(folder.path(), &["build", &project, "--output", output])?;
        all.push(Measured { component, rounds: Vec::new() });
    }
    let runs = effort.scale(500).to_string();
    for _ in 0..effort.rounds() {
        for one in &mut all {
            let component = one.component.to_str().context("a strange path")?;
            let measured = module(folder.path(), &["bench", component, "--runs", &runs, "--json"])?;
            one.rounds.push(serde_json::from_str(&measured).context("not what `--json` promises")?);
        }
    }

    let mut table = String::new();
    writeln!(
        table,
        "| the gadget of the template, 1 capture of 120 calls | in {} |",
        LANGUAGES.map(|l| l.1).join(" | in ")
    )?;
    writeln!(table, "|---|{}", "---:|".repeat(LANGUAGES.len()))?;
    let mut row = |what: &str, cell: &dyn Fn(&Measured) -> Result<String>| -> Result<()> {
        let cells = all.iter().map(cell).collect::<Result<Vec<_>>>()?;
        Ok(writeln!(table, "| {what} | {} |", cells.join(" | "))?)
    };
    let time = |place: &'static str| {
        move |of: &Measured| Ok(gadget_cost::text(Duration::from_nanos(of.middle(place)?)))
    };
    row("size of the component", &|of| Ok(kib(fs::metadata(&of.component)?.len())))?;
    row("compile, and ask it to describe itself", &time("/compile"))?;
    row("load from the cache instead", &time("/load"))?;
    row("a fresh instance", &time("/times/instantiate-gadget/median"))?;
    row("`generate`", &time("/times/generate/median"))?;
    row("a whole run", &time("/times/whole-run/median"))?;
    let first = all[0].middle("/times/whole-run/median")?;
    row("of that in Rust", &|of| {
        #[allow(clippy::cast_precision_loss)] // A ratio with two digits.
        let times = of.middle("/times/whole-run/median")? as f64 / first as f64;
        Ok(format!("{times:.2} ×"))
    })?;
    row("memory", &|of| Ok(kib(of.middle("/sizes/gadget-memory/most")?)))?;
    Ok(table)
}

/// `gadgetd module`, with the tools of every language; what it printed.
fn module(folder: &Path, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(gadgetd());
    command.arg("module").args(arguments).current_dir(folder).env("PATH", tools::path());
    command.env("GADGETD_SDK", gadgetd_artifacts::workspace().join("sdk/rust"));
    command.env("CARGO_TARGET_DIR", gadgetd_artifacts::target_dir().join("artifacts/projects"));
    let output =
        command.stderr(Stdio::piped()).output().with_context(|| format!("cannot run {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {said}");
    Ok(String::from_utf8(output.stdout)?)
}

fn kib(bytes: u64) -> String {
    format!("{} KiB", bytes.div_ceil(1024))
}
