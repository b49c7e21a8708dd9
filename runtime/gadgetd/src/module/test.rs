//! `gadgetd module test`: runs a module on recordings, and compares what comes out with what they say.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use gadgetd_host::{
    Host, Matching, ModuleRef,
    recording::{Difference, Recording},
};

use super::replayed::{Modules, read};
use crate::{host::offline, output};

/// Where a project has its recordings.
const FOLDER: &str = "tests";

#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    /// The folder of the module's project, the path of a component, or the name of a built-in module.
    #[arg(value_name = "DIR|MODULE", default_value = ".")]
    module: String,

    /// The recorded run; may be repeated. Default: every `tests/*.json` of the project.
    #[arg(long, value_name = "FILE")]
    replay: Vec<PathBuf>,

    /// The gadget that calls the tested formatter. Default: the gadget of the recorded run.
    #[arg(short, long, value_name = "NAME|FILE")]
    gadget: Option<String>,

    /// The formatter that the tested gadget calls. Default: the formatter of the recorded run.
    #[arg(short, long, value_name = "NAME|FILE")]
    formatter: Option<String>,

    /// Write the new results to the recorded runs, instead of comparing.
    #[arg(long)]
    update: bool,
}

pub(crate) async fn run(args: &TestArgs) -> Result<ExitCode> {
    let folder = Path::new(&args.module);
    let (module, folder) = if folder.is_dir() {
        (ModuleRef::File(component(folder)?), folder)
    } else {
        (ModuleRef::parse(&args.module), Path::new("."))
    };
    let recordings = if args.replay.is_empty() { recordings(folder)? } else { args.replay.clone() };
    let host = offline()?;
    let modules = Modules::load(&host, &module, args.gadget.as_deref(), args.formatter.as_deref()).await?;

    let mut failed = 0;
    for file in &recordings {
        let verdict =
            if args.update { update(&host, &modules, file).await } else { test(&host, &modules, file).await };
        let mut text = match verdict {
            Ok(Verdict::Same) => format!("ok       {}\n", file.display()),
            Ok(Verdict::Updated) => format!("updated  {}\n", file.display()),
            Ok(Verdict::Differs(difference)) => {
                failed += 1;
                format!("FAILED   {}\n{difference}", file.display())
            }
            Err(error) => {
                failed += 1;
                format!("FAILED   {}\n{error:#}\n", file.display())
            }
        };
        if recordings.last() == Some(file) {
            let _ = writeln!(text, "\n{} of {} as recorded", recordings.len() - failed, recordings.len());
        }
        output::to_stdout(&text)?;
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

enum Verdict {
    Same,
    Updated,
    Differs(Difference),
}

async fn test(host: &Host, modules: &Modules, file: &Path) -> Result<Verdict> {
    let recording = read(file)?;
    ensure!(
        recording.result.is_some(),
        "it does not say what should come out: --update has that written down"
    );
    let (gadget, formatter) = modules.pair(host, &recording).await?;
    let found = host.replay(&recording, &gadget, &formatter, Matching::Exact).await?;
    let difference = Difference::between(&recording, &found.recording?);
    Ok(difference.map_or(Verdict::Same, Verdict::Differs))
}

async fn update(host: &Host, modules: &Modules, file: &Path) -> Result<Verdict> {
    let mut recording = read(file)?;
    let (gadget, formatter) = modules.pair(host, &recording).await?;
    let found = host.replay(&recording, &gadget, &formatter, Matching::SameObject).await?;
    ensure!(
        found.unanswered == 0,
        "{} calls to the cluster have no answer there: write them down under `kube`, or record the run again",
        found.unanswered
    );
    let Recording { contract, gadget, formatter, kube, result, .. } = found.recording?;
    let old = recording.clone();
    (recording.contract, recording.gadget, recording.formatter) = (contract, gadget, formatter);
    (recording.kube, recording.result) = (kube, result);
    if recording == old {
        return Ok(Verdict::Same);
    }
    output::to_file(file, recording.to_json()?.as_bytes()).context("cannot be written")?;
    Ok(Verdict::Updated)
}

/// The component of a project, where `gadgetd module build` leaves it.
fn component(folder: &Path) -> Result<PathBuf> {
    let whole = folder.canonicalize().with_context(|| format!("cannot open {}", folder.display()))?;
    let name = whole.file_name().unwrap_or_default();
    let usual = folder.join(name).with_extension("wasm");
    if usual.is_file() {
        return Ok(usual);
    }
    match &files(folder, "wasm")?[..] {
        [one] => Ok(one.clone()),
        [] => bail!(
            "there is no {}: build it with `gadgetd module build {}`",
            usual.display(),
            folder.display()
        ),
        many => bail!("{} holds {} components: say which to test", folder.display(), many.len()),
    }
}

/// The recordings of a project.
fn recordings(folder: &Path) -> Result<Vec<PathBuf>> {
    let folder = folder.join(FOLDER);
    let found = if folder.is_dir() { files(&folder, "json")? } else { Vec::new() };
    ensure!(
        !found.is_empty(),
        "there is no recording in {}: make one with `gadgetd run --record FILE`, or name one with --replay",
        folder.display()
    );
    Ok(found)
}

/// The files with this ending, by name.
fn files(folder: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let entries = entries.with_context(|| format!("cannot list {}", folder.display()))?;
    let mut files: Vec<_> = entries.into_iter().map(|entry| entry.path()).collect();
    files.retain(|path| path.is_file() && path.extension().is_some_and(|e| e == extension));
    files.sort_unstable();
    Ok(files)
}
