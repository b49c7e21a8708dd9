//! One run: a gadget, a formatter, captures; documents.

use std::sync::Arc;

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
        let Run { gadget: Gadget(gadget), formatter: Formatter(formatter), params, captures, reason, .. } =
            run;
        let _permit = self.permit().await;
        let _ticking = self.engine.tick();
        let label = gadget.label.clone();
        let gadget_run = GadgetRun {
            output: Output::new(gadget.limits.output, run.target),
            formatter: Session::new(formatter.clone(), params.formatter),
            kube: kube::Session::new(&gadget.description.capabilities, run.cluster),
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
        let generated = async {
            let generate: Generate = gadget.start(&mut store).await?;
            let (result,) = generate.call_async(&mut store, (reason.into(), handles)).await?;
            wasmtime::Result::Ok(result)
        };
        let generated = tokio::time::timeout(gadget.limits.run, generated).await;

        let generated = match generated {
            Err(_) => Err(Fault::RunDeadline(gadget.limits.run)),
            Ok(Err(error)) => Err(Fault::of(&error, store.data())),
            Ok(Ok(result)) => Ok(result),
        };
        let mut state = store.into_data();
        state.drain_formatter_log();
        let (log, gadget_run) = state.into_parts();
        let mut report = Report { log: log.lines, dropped_log_lines: log.dropped, ..Report::default() };
        let mut formatter_fault = None;
        if let Some(run) = gadget_run {
            let Output { emitted, made, verdicts, .. } = run.output;
            (report.documents, report.objects, report.verdicts) = (emitted, made, verdicts);
            (report.audit, report.unrecorded_calls) = run.kube.into_audit(&label);
            formatter_fault = run.formatter.fault;
        }

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
        match fault {
            Some(fault) => Err(RunError { fault, report: Box::new(report) }),
            None => Ok(report),
        }
    }
}
