//! One run: a gadget, a formatter, captures; documents.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use gadgetd_core::Capture;
use thiserror::Error;

use crate::{
    Host,
    bindings::gadgets::Error as GadgetError,
    captures,
    fault::{Fault, ModuleFault},
    formatter::Session,
    gadget::Reason,
    kube::{self, Cluster, KubeCall},
    log::LogLine,
    module::{Formatter, Gadget, Generate},
    output::{Emitted, MadeObject, Output, Target, Verdict},
    params::Params,
    state::{GadgetRun, State},
};

/// What is to be run, on what.
#[derive(Clone, Debug)]
pub struct Run<'a> {
    /// Makes the documents.
    pub gadget: &'a Gadget,
    /// Writes policies down for the gadget.
    pub formatter: &'a Formatter,
    /// What the two are told.
    pub params: Params,
    /// What the gadget sees.
    pub captures: Arc<[Capture]>,
    /// Why it runs.
    pub reason: Reason,
    /// The object that is wanted; `None`: documents are.
    pub target: Option<Target>,
    /// The cluster that the gadget may work on; `None`: there is none.
    pub cluster: Option<Cluster>,
}

/// What a run gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The documents, in the order in which the gadget emitted them. There may be none.
    pub documents: Vec<Emitted>,
    /// The objects that it reported to hold the result, in that order.
    pub objects: Vec<MadeObject>,
    /// What it says of what was recorded, in that order; nothing where it only reports.
    pub verdicts: Vec<Verdict>,
    /// Every call to the cluster. Each went to `tracing` as well, at target `gadgetd::audit`.
    pub audit: Vec<KubeCall>,
    /// How many calls there were beyond the budget and the first that exceeded it. All were denied.
    pub unrecorded_calls: u64,
    /// What both modules logged. Each line went to `tracing` as well, at target `gadgetd::module`.
    pub log: Vec<LogLine>,
    /// How many lines there were beyond the limit.
    pub dropped_log_lines: u64,
    /// What the run took.
    pub usage: Usage,
}

/// What a run took of what it may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// The gadget. What it waited for the formatter and the cluster is not its own time.
    pub gadget: ModuleUsage,
    /// The formatter, all its calls together; nothing, if it was never called.
    pub formatter: ModuleUsage,
    /// The whole run, the host's own work and what was waited for among it.
    pub total: Duration,
}

/// What one module took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ModuleUsage {
    /// How long it took to make its instance.
    pub instantiate: Duration,
    /// How long it ran.
    pub run: Duration,
    /// The most memory that it had, in bytes, all its linear memories together.
    pub memory: usize,
}

/// A run that failed. The captures are the caller's, and are as they were.
#[derive(Debug, Error)]
#[error("{fault}")]
pub struct RunError {
    /// Which module, and why.
    pub fault: ModuleFault,
    /// What was emitted and logged before.
    pub report: Box<Report>,
}

impl Host {
    /// Runs a gadget on captures, both modules in instances of their own that end with the run.
    ///
    /// Waits for its turn while there are [`Limits::runs`](crate::Limits::runs) others.
    pub async fn run(&self, run: Run<'_>) -> Result<Report, RunError> {
        let session = kube::Session::new(&run.gadget.description().capabilities, run.cluster.clone());
        self.execute(run, session).await.0
    }

    /// Runs a gadget, its calls to the cluster through `session`, which comes back.
    pub(crate) async fn execute(
        &self,
        run: Run<'_>,
        session: kube::Session,
    ) -> (Result<Report, RunError>, kube::Session) {
        let Run { gadget: Gadget(gadget), formatter: Formatter(formatter), params, captures, reason, .. } =
            run;
        let _permit = self.permit().await;
        let begin = Instant::now();
        let _ticking = self.engine.tick();
        let label = gadget.label.clone();
        let gadget_run = GadgetRun {
            output: Output::new(gadget.limits.output, run.target),
            formatter: Session::new(formatter.clone(), params.formatter),
            kube: session,
        };
        let state = State::generating(
            label.clone(),
            gadget.limits.clone(),
            params.gadget,
            captures.clone(),
            gadget_run,
        );
        let mut store = state.into_store(&self.engine.wasmtime);

        let handles = (0..).zip(captures.iter()).map(|(index, _)| captures::handle(index)).collect();
        let mut instantiate = Duration::ZERO;
        let generated = async {
            let generate: Generate = gadget.start(&mut store).await?;
            instantiate = begin.elapsed();
            let (result,) = generate.call_async(&mut store, (reason.into(), handles)).await?;
            wasmtime::Result::Ok(result)
        };
        let generated = tokio::time::timeout(gadget.limits.run, generated).await;
        let ran = begin.elapsed().saturating_sub(instantiate).saturating_sub(store.data().waited);

        let generated = match generated {
            Err(_) => Err(Fault::RunDeadline(gadget.limits.run)),
            Ok(Err(error)) => Err(Fault::of(&error, store.data())),
            Ok(Ok(result)) => Ok(result),
        };
        let mut state = store.into_data();
        state.drain_formatter_log();
        let memory = state.memory();
        let (log, Some(GadgetRun { output, formatter: session, mut kube })) = state.into_parts() else {
            unreachable!("the state of a gadget has the gadget's part");
        };
        let (audit, unrecorded_calls) = kube.take_audit(&label);
        let usage = Usage {
            gadget: ModuleUsage { instantiate, run: ran, memory },
            formatter: session.usage(),
            total: begin.elapsed(),
        };
        let formatter_fault = session.fault;
        let report = Report {
            documents: output.emitted,
            objects: output.made,
            verdicts: output.verdicts,
            audit,
            unrecorded_calls,
            log: log.lines,
            dropped_log_lines: log.dropped,
            usage,
        };

        let of_gadget = |fault| ModuleFault { module: label.clone(), fault };
        let of_formatter = |fault| ModuleFault { module: formatter.label.clone(), fault };
        let fault = match generated {
            Err(fault) => Some(of_gadget(fault)),
            // What the formatter failed with stands in its session; the gadget might word it otherwise.
            Ok(Err(GadgetError::Format(error))) => Some(match formatter_fault {
                Some(fault) => of_formatter(fault),
                None => of_gadget(GadgetError::Format(error).into()),
            }),
            Ok(Err(error)) => Some(of_gadget(error.into())),
            // A gadget that takes a failed formatter for no reason to fail, and has nothing to show.
            Ok(Ok(())) if report.documents.is_empty() && report.objects.is_empty() => {
                formatter_fault.map(of_formatter)
            }
            Ok(Ok(())) => None,
        };
        let result = match fault {
            Some(fault) => Err(RunError { fault, report: Box::new(report) }),
            None => Ok(report),
        };
        (result, kube)
    }
}
