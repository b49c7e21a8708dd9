//! `gadgetd module bench`: what a module takes, against what it may have.

use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};
use clap::Args;
use comfy_table::{CellAlignment, ContentArrangement, Table, TableStyle};
use gadgetd_core::{Abi, Capture, Completeness, Container, Machine, Phases, Syscall};
use gadgetd_host::{
    AnyModule, Formatter, Gadget, Host, HostConfig, Limits, Matching, ModuleRef, ModuleUsage, Report,
    recording::{Identity, Recording},
};
use serde_json::{Value, json};

use super::replayed::{Modules, read};
use crate::output;

/// Calls in the capture that stands in for a recording: what a server of the usual size makes.
const CALLS: u32 = 120;
/// Runs that are not counted: caches fill.
const WARM_UP: u32 = 5;

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// The path of a component, such as `./mine.wasm`, or the name of a built-in module.
    #[arg(value_name = "MODULE")]
    module: String,

    /// The recorded run. Default: one capture of 120 calls.
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,

    /// The gadget that calls the measured formatter.
    #[arg(short, long, value_name = "NAME|FILE")]
    gadget: Option<String>,

    /// The formatter that the measured gadget calls.
    #[arg(short, long, value_name = "NAME|FILE")]
    formatter: Option<String>,

    /// The number of runs.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,

    /// Print one JSON object, for programs: times in nanoseconds, sizes in bytes.
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: &BenchArgs) -> Result<ExitCode> {
    let limits = Limits::default();
    let module = ModuleRef::parse(&args.module);
    let recording = match &args.replay {
        Some(file) => read(file)?,
        None => made_up(),
    };
    // A cache of our own: the first time everything is compiled, the second time it is there.
    let cache = tempfile::tempdir().context("cannot make a folder for compiled modules")?;
    let host = || {
        let cache_dir = Some(cache.path().to_owned());
        let config = HostConfig { limits: limits.clone(), cache_dir, ..HostConfig::default() };
        Host::new(config).context("cannot run gadgets")
    };
    let load = async |host: &Host| {
        let begin = Instant::now();
        let loaded = host.module(&module).await?;
        Ok::<_, anyhow::Error>((loaded, begin.elapsed()))
    };
    let (_, compile) = load(&host()?).await?;
    let host = host()?;
    let (loaded, load) = load(&host).await?;
    let modules = Modules::load(&host, &module, args.gadget.as_deref(), args.formatter.as_deref()).await?;
    let (gadget, formatter) = modules.pair(&host, &recording).await?;

    let mut reports = Vec::new();
    for run in 0..WARM_UP + args.runs {
        let report = once(&host, &recording, &gadget, &formatter).await?;
        if run >= WARM_UP {
            reports.push(report);
        }
    }
    let measured = Measured { loaded, gadget, formatter, compile, load, limits, reports };
    let text = if args.json { format!("{:#}\n", measured.object()) } else { measured.table() };
    output::to_stdout(&text)?;
    Ok(ExitCode::SUCCESS)
}

async fn once(host: &Host, recording: &Recording, gadget: &Gadget, formatter: &Formatter) -> Result<Report> {
    let replayed = host.replay(recording, gadget, formatter, Matching::SameObject).await?;
    replayed.result.map_err(|error| {
        anyhow!(error).context(
            "a run that fails says nothing of the time that others take; --replay gives it other input",
        )
    })
}

/// What stands in for a recording.
fn made_up() -> Recording {
    let call = |number| Syscall { abi: Abi::Native, number, phases: Phases::APPLICATION };
    let mut recording = Recording::of([Capture {
        container: Container { id: "bench".into(), ..Container::default() },
        machine: Machine::X86_64,
        syscalls: (0..CALLS).map(call).collect(),
        refused: Vec::new(),
        completeness: Completeness { losses: Vec::new(), from_start: true },
    }]);
    // The one that calls formatters.
    recording.gadget = Some(Identity { module: "seccomp".into(), name: None, version: None, digest: None });
    recording
}

struct Measured {
    loaded: AnyModule,
    gadget: Gadget,
    formatter: Formatter,
    compile: Duration,
    load: Duration,
    limits: Limits,
    reports: Vec<Report>,
}

/// What was measured several times.
struct Spread {
    min: Duration,
    median: Duration,
    p95: Duration,
}

impl Spread {
    fn of(times: impl Iterator<Item = Duration>) -> Self {
        let mut times: Vec<_> = times.collect();
        times.sort_unstable();
        let at = |percent: usize| times[(times.len() - 1) * percent / 100];
        Self { min: at(0), median: at(50), p95: at(95) }
    }
}

impl Measured {
    /// The times of the runs, by the name of the step.
    fn times(&self) -> [(&'static str, Spread); 5] {
        let spread = |time: fn(&Report) -> Duration| Spread::of(self.reports.iter().map(time));
        [
            ("instantiate gadget", spread(|report| report.usage.gadget.instantiate)),
            ("generate", spread(|report| report.usage.gadget.run)),
            ("instantiate formatter", spread(|report| report.usage.formatter.instantiate)),
            ("format", spread(|report| report.usage.formatter.run)),
            ("whole run", spread(|report| report.usage.total)),
        ]
    }

    /// The most that a module had in any run.
    fn memory(&self, of: fn(&Report) -> ModuleUsage) -> usize {
        self.reports.iter().map(|report| of(report).memory).max().unwrap_or_default()
    }

    /// The most that came out of any run.
    fn output(&self) -> usize {
        let bytes =
            |report: &Report| report.documents.iter().map(|emitted| emitted.document.body.len()).sum();
        self.reports.iter().map(bytes).max().unwrap_or_default()
    }

    /// What has a limit: name, most, limit.
    fn sizes(&self) -> [(&'static str, usize, usize); 3] {
        [
            ("gadget memory", self.memory(|report| report.usage.gadget), self.limits.memory),
            ("formatter memory", self.memory(|report| report.usage.formatter), self.limits.memory),
            ("output", self.output(), self.limits.output),
        ]
    }

    fn table(&self) -> String {
        let mut times = table(&["", "MIN", "MEDIAN", "P95"]);
        let once =
            |what: &str, time: Duration| vec![what.to_owned(), String::new(), text(time), String::new()];
        times.add_row(once("compile and describe", self.compile));
        times.add_row(once("load from cache and describe", self.load));
        for (what, Spread { min, median, p95 }) in self.times() {
            times.add_row(vec![what.to_owned(), text(min), text(median), text(p95)]);
        }
        let mut sizes = table(&["", "MOST", "LIMIT", "USED"]);
        for (what, most, limit) in self.sizes() {
            let used = (most * 100).div_ceil(limit.max(1));
            sizes.add_row(vec![what.to_owned(), kib(most), kib(limit), format!("{used} %")]);
        }
        let (gadget, formatter, runs) = (self.gadget.label(), self.formatter.label(), self.reports.len());
        format!("{gadget}, {formatter}, {runs} runs\n\n{}\n\n{}\n", times.trim_fmt(), sizes.trim_fmt())
    }

    fn object(&self) -> Value {
        let ns = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let key = |what: &str| what.replace(' ', "-");
        let spread = |(what, Spread { min, median, p95 }): (&str, Spread)| {
            (key(what), json!({ "min": ns(min), "median": ns(median), "p95": ns(p95) }))
        };
        let size =
            |(what, most, limit): (&str, usize, usize)| (key(what), json!({ "most": most, "limit": limit }));
        json!({
            "module": self.loaded.description().name,
            "digest": self.loaded.digest().to_string(),
            "gadget": self.gadget.label(),
            "formatter": self.formatter.label(),
            "runs": self.reports.len(),
            "compile": ns(self.compile),
            "load": ns(self.load),
            "times": self.times().map(spread).into_iter().collect::<serde_json::Map<_, _>>(),
            "sizes": self.sizes().map(size).into_iter().collect::<serde_json::Map<_, _>>(),
        })
    }
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(TableStyle::new()).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().copied());
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
        if column.index > 0 {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn text(time: Duration) -> String {
    match time.as_secs_f64() {
        s if s < 1e-3 => format!("{:.1} µs", s * 1e6),
        s => format!("{:.1} ms", s * 1e3),
    }
}

fn kib(bytes: usize) -> String {
    format!("{} KiB", bytes.div_ceil(1024))
}
