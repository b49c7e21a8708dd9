//! What a run of a gadget costs: as components in the host, and the same code compiled natively.

use std::{
    fmt::Write as _,
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use formatter_oci::Oci;
use gadget_sdk::testing;
use gadgetd_core::{Abi, Capture, Completeness, Container, Machine, Phases, Syscall};
use gadgetd_host::{Formatter, Gadget, Host, HostConfig, ModuleRef, Params, Reason, Run};
use seccomp_advisor::SeccompAdvisor;

use crate::Effort;

/// Calls of a server of the usual size.
const CALLS: u32 = 120;

/// The modules, ready to run.
struct Bench {
    host: Host,
    gadget: Gadget,
    formatter: Formatter,
    runtime: tokio::runtime::Runtime,
}

impl Bench {
    /// Also how long it took to get both modules ready.
    fn new(config: HostConfig) -> Result<(Self, Duration)> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let host = Host::new(config)?;
        let begin = Instant::now();
        let gadget = runtime.block_on(host.gadget(&ModuleRef::parse("seccomp")))?;
        let formatter = runtime.block_on(host.formatter(&ModuleRef::parse("oci")))?;
        Ok((Self { host, gadget, formatter, runtime }, begin.elapsed()))
    }

    /// Time of one run.
    fn run(&self, captures: &Arc<[Capture]>) -> Result<Duration> {
        let (gadget, formatter, wanted) = (&self.gadget, &self.formatter, captures.len());
        let params = Params::resolve(gadget, formatter, [""; 0])?;
        let (captures, reason) = (captures.clone(), Reason::OnDemand);
        let run = Run { gadget, formatter, params, captures, reason, target: None, cluster: None };
        let begin = Instant::now();
        let report = self.runtime.block_on(self.host.run(run));
        let elapsed = begin.elapsed();
        // Without a capture there is nothing to do, and the gadget says so at once.
        ensure!(report.map_or(0, |report| report.documents.len()) == wanted, "a document is missing");
        Ok(elapsed)
    }
}

/// The table.
pub(crate) fn table(effort: Effort) -> Result<String> {
    let cache = tempfile::tempdir()?;
    let cached = || HostConfig { cache_dir: Some(cache.path().to_owned()), ..HostConfig::default() };
    let (_, compile) = Bench::new(cached())?;
    let (bench, load) = Bench::new(cached())?;

    let [none, one, many] = [0, 1, 1000].map(|n| (0..n).map(capture).collect::<Arc<[Capture]>>());
    let native_one = || vec![native_capture(0)];
    let native_many = || (0..1000).map(native_capture).collect::<Vec<_>>();

    let small = usize::try_from(effort.scale(2000))?;
    let large = usize::try_from(effort.scale(20))?;
    let instantiate = median(small, || bench.run(&none))?;
    // In turns, so that whatever else the machine does meets both.
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..small {
        times[0].push(bench.run(&one)?);
        times[1].push(run_natively(native_one()));
    }
    let [one, one_native] = times.map(middle);
    let many = median(large, || bench.run(&many))?;
    let many_native = median(large, || Ok(run_natively(native_many())))?;

    let mut table = String::new();
    writeln!(table, "| gadget `seccomp` and formatter `oci` | as components | compiled natively |")?;
    writeln!(table, "|---|---:|---:|")?;
    let mut row = |what: &str, component: Duration, native: Option<Duration>| {
        let native = native.map_or("–".to_owned(), text);
        writeln!(table, "| {what} | {} | {native} |", text(component))
    };
    row("compile both, and ask them to describe themselves", compile, None)?;
    row("load both from the cache instead", load, None)?;
    row("a fresh instance that is called and has nothing to do", instantiate, None)?;
    row("a fresh run: 1 capture of 120 calls, two instances", one, Some(one_native))?;
    row("a fresh run: 1,000 captures of 120 calls", many, Some(many_native))?;
    Ok(table)
}

fn capture(n: u32) -> Capture {
    let call = |number| Syscall { abi: Abi::Native, number, phases: Phases::APPLICATION };
    Capture {
        container: Container { id: format!("c{n}"), name: Some("web".into()), ..Container::default() },
        machine: Machine::X86_64,
        syscalls: (0..CALLS).map(call).collect(),
        refused: Vec::new(),
        completeness: Completeness { losses: vec![], from_start: true },
    }
}

/// The same for the SDK's test double, made outside of what is measured, as the tracer makes the other.
fn native_capture(n: u32) -> gadget_sdk::Capture {
    let builder = testing::capture(&format!("c{n}"));
    let builder = (0..CALLS).fold(builder, |builder, number| {
        let call = Syscall { abi: Abi::Native, number, phases: Phases::APPLICATION };
        let application = gadget_sdk::Phases::APPLICATION;
        builder.call(gadget_sdk::Abi::Native, number, call.name(Machine::X86_64), application)
    });
    builder.build()
}

fn run_natively(captures: Vec<gadget_sdk::Capture>) -> Duration {
    let run = testing::gadget::<SeccompAdvisor>().formatter::<Oci>();
    let begin = Instant::now();
    black_box(run.run(captures));
    begin.elapsed()
}

fn median(rounds: usize, mut measure: impl FnMut() -> Result<Duration>) -> Result<Duration> {
    let times = (0..rounds).map(|_| measure()).collect::<Result<Vec<_>>>();
    times.map(middle).context("a run failed")
}

fn middle(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// A time for people.
pub(crate) fn text(time: Duration) -> String {
    match time.as_secs_f64() {
        s if s < 1e-3 => format!("{:.1} µs", s * 1e6),
        s => format!("{:.1} ms", s * 1e3),
    }
}
