//! `gadgetd run`: records a command, a process or a cgroup, and runs a gadget on the recording.

mod cgroup;
mod choose;
mod command;
mod live;
mod notify;
mod process;
mod recording;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context, Result};
use gadgetd_containers::Hierarchy;
use gadgetd_core::Capture;
use gadgetd_host::{
    Formatter, Gadget, Host, ModuleError, ModuleRef, ParamError, Params, Reason, RecordedRun, Report, Run,
    recording::{Recording, RecordingError},
};

use self::{
    choose::{Chosen, Ebpf, choose},
    recording::Recorder,
};
use crate::{about, cli::RunArgs, host, note, output, signals::Signals};

/// How a run ended that did not fail.
enum Outcome {
    Done,
    /// There is a result, and it may lack calls.
    Incomplete,
    /// There is a result, and it says that what was recorded is not as it should be.
    Objected,
    /// There is a result, and it or the recording of the run could not be written to where it was to go.
    Misplaced,
}

/// Records, runs the gadget, writes the result.
pub(crate) fn main(args: &RunArgs) -> ExitCode {
    let outcome = crate::to_the_end(run(args));
    match outcome {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Misplaced) => ExitCode::FAILURE,
        Ok(Outcome::Incomplete) => ExitCode::from(3),
        Ok(Outcome::Objected) => ExitCode::from(4),
        Err(error) => {
            note(&format!("{error:#}"));
            if is_usage(&error) { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}

/// Whether the command line asks for something that does not exist or makes no sense.
fn is_usage(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(ModuleError::Unknown { .. }))
        || error.is::<ParamError>()
        || error.is::<choose::NeedsEbpf>()
        || matches!(error.downcast_ref(), Some(gadgetd_containers::Error::Path(..)))
}

async fn run(args: &RunArgs) -> Result<Outcome> {
    // Everything that can be wrong with the request comes first: nothing has run yet.
    let modules = Modules::load(args).await?;
    if args.list_params {
        output::to_stdout(&about::both(&modules.gadget, &modules.formatter))?;
        return Ok(Outcome::Done);
    }
    let target = Target::find(args)?;
    if let Some(file) = &args.record {
        output::probe(file).with_context(|| format!("cannot write the recording {}", file.display()))?;
    }

    let output = args.output.as_deref().filter(|file| match output::probe(file) {
        Ok(()) => true,
        Err(error) => {
            note(&format!("cannot write {}: {error}; the result will go to standard output", file.display()));
            false
        }
    });

    let capture = record(args, target, output.is_some()).await?;
    let losses = recording::losses(&capture);
    for loss in &losses {
        note(&format!("the recording is incomplete: {loss}"));
    }
    if !capture.completeness.from_start {
        note(
            "the recording began while it already ran: the calls by which it started are missing, and it may not start under the \
             result. To have them, record it from before its start",
        );
    }
    let (made, kept) = modules.run(capture, args.record.as_deref()).await;
    let Made { text, objections } = made?;
    let written = output::write(output, &text)?;
    for objection in &objections {
        note(&format!("not as it should be: {objection}"));
    }
    Ok(match written {
        _ if !kept => Outcome::Misplaced,
        _ if args.output.is_some() && output.is_none() => Outcome::Misplaced,
        output::Written::Elsewhere => Outcome::Misplaced,
        // What is refused is refused, whatever else was lost.
        output::Written::AsAsked if !objections.is_empty() => Outcome::Objected,
        output::Written::AsAsked if losses.is_empty() => Outcome::Done,
        output::Written::AsAsked => Outcome::Incomplete,
    })
}

/// Records what is asked for. When this returns nothing is attached to the kernel any more, and signals end gadgetd as they
/// end anything.
async fn record(args: &RunArgs, target: Target, to_file: bool) -> Result<Capture> {
    let stdout = if to_file { command::Stdout::Kept } else { command::Stdout::ToStderr };
    let (source, hierarchy, cgroup) = match (choose(args.recorder, &target)?, &target) {
        (Chosen::Ebpf(ebpf), _) => {
            let Ebpf { source, hierarchy, cgroup } = *ebpf;
            (source, hierarchy, cgroup)
        }
        (Chosen::Notify(notify), Target::Command(file)) => {
            let mut signals = Signals::receive()?;
            return notify::record(notify, &mut signals, args.timeout, file, &args.command, stdout).await;
        }
        (Chosen::Notify(_), Target::Process(_) | Target::Cgroup(_)) => {
            unreachable!("it records commands only")
        }
    };
    let mut recorder = Recorder { source, hierarchy, signals: Signals::receive()?, timeout: args.timeout };
    match target {
        Target::Command(file) => {
            let cgroup = cgroup.expect("a command has one");
            command::record(&mut recorder, cgroup, &file, &args.command, stdout).await
        }
        Target::Process(process) => process::record(&mut recorder, &process).await,
        Target::Cgroup(path) => cgroup::record(&mut recorder, path).await,
    }
}

/// What is recorded.
enum Target {
    Command(PathBuf),
    Process(process::Process),
    Cgroup(String),
}

impl Target {
    fn find(args: &RunArgs) -> Result<Self> {
        match (args.pid, &args.cgroup, args.command.first()) {
            (Some(pid), ..) => Ok(Self::Process(process::Process::find(pid)?)),
            (_, Some(path), _) => Ok(Self::Cgroup(Hierarchy::find()?.resolve(path)?)),
            (.., Some(command)) => Ok(Self::Command(crate::command::resolve(command)?)),
            _ => unreachable!("clap requires one of them"),
        }
    }
}

/// The gadget and the formatter, loaded, and what the user has to say to them.
struct Modules {
    host: Host,
    gadget: Gadget,
    formatter: Formatter,
    params: Params,
}

impl Modules {
    async fn load(args: &RunArgs) -> Result<Self> {
        #[cfg(feature = "registry")]
        let (host, trust) = (host::host(&args.registry)?, args.trust.trust()?);
        #[cfg(not(feature = "registry"))]
        let (host, trust) = (host::offline()?, gadgetd_host::Trust::default());
        let gadget = args.gadget_module.as_ref().or(args.gadget.as_ref());
        let gadget = ModuleRef::parse(gadget.expect("clap requires one of them"));
        let gadget = host.gadget_from(&gadget, &trust).await?;
        let formatter = host.formatter_from(&ModuleRef::parse(&args.formatter), &trust).await?;
        let params = Params::resolve(&gadget, &formatter, &args.params)?;
        Ok(Self { host, gadget, formatter, params })
    }

    /// Runs the gadget, and returns its documents one after the other, and whether the run was kept if that was asked for.
    async fn run(self, capture: Capture, record: Option<&Path>) -> (Result<Made>, bool) {
        let run = Run {
            gadget: &self.gadget,
            formatter: &self.formatter,
            params: self.params,
            captures: Arc::new([capture]),
            reason: Reason::OnDemand,
            target: None,
            cluster: None,
        };
        let (result, kept) = match record {
            None => (self.host.run(run).await, true),
            Some(file) => {
                let RecordedRun { recording, result, .. } = self.host.record(run).await;
                (result, keep(recording, file))
            }
        };
        (result.map_err(Into::into).map(Made::of), kept)
    }
}

/// Writes the recording of a run. If that fails people are told, and the result is still there.
fn keep(recording: Result<Recording, RecordingError>, file: &Path) -> bool {
    let text = recording.and_then(|recording| recording.to_json()).context("the recording");
    let written = text.and_then(|text| output::to_private_file(file, &text).context("cannot be written"));
    match written {
        Ok(()) => true,
        Err(error) => {
            note(&format!("{}: {error:#}", file.display()));
            false
        }
    }
}

/// What came of a run.
struct Made {
    /// The gadget's documents, one after the other.
    text: String,
    /// Why what was recorded is not as it should be.
    objections: Vec<String>,
}

impl Made {
    fn of(report: Report) -> Self {
        if report.dropped_log_lines > 0 {
            tracing::warn!("{} more log lines of the gadget were dropped", report.dropped_log_lines);
        }
        Self {
            text: report.documents.into_iter().map(|emitted| emitted.document.body).collect(),
            objections: report.verdicts.into_iter().filter_map(|verdict| verdict.failure).collect(),
        }
    }
}
