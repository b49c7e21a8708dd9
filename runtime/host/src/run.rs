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
    log::LogLine,
    module::{Formatter, Gadget, Generate},
    output::Emitted,
    params::Params,
    state::State,
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
}

/// What a run gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The documents, in the order in which the gadget emitted them. There may be none.
    pub documents: Vec<Emitted>,
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
        let Run { gadget: Gadget(gadget), formatter: Formatter(formatter), params, captures, reason } = run;
        let _permit = self.permit().await;
        let _ticking = self.engine.tick();
        let session = Session::new(formatter.clone(), params.formatter);
        let label = gadget.label.clone();
        let state =
            State::generating(label.clone(), self.limits.clone(), params.gadget, captures.clone(), session);
        let mut store = state.into_store(&self.engine.wasmtime);

        let handles = (0..).zip(captures.iter()).map(|(index, _)| captures::handle(index)).collect();
        let generated = async {
            let generate: Generate = gadget.start(&mut store).await?;
            let (result,) = generate.call_async(&mut store, (reason.into(), handles)).await?;
            wasmtime::Result::Ok(result)
        };
        let generated = tokio::time::timeout(self.limits.run, generated).await;

        let generated = match generated {
            Err(_) => Err(Fault::RunDeadline(self.limits.run)),
            Ok(Err(error)) => Err(Fault::of(&error, store.data())),
            Ok(Ok(result)) => Ok(result),
        };
        let mut state = store.into_data();
        state.drain_formatter_log();
        let (log, gadget_run) = state.into_parts();
        let (documents, formatter_fault) =
            gadget_run.map(|run| (run.output.emitted, run.formatter.fault)).unwrap_or_default();

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
            Ok(Ok(())) if documents.is_empty() => formatter_fault.map(of_formatter),
            Ok(Ok(())) => None,
        };
        let report = Report { documents, log: log.lines, dropped_log_lines: log.dropped };
        match fault {
            Some(fault) => Err(RunError { fault, report: Box::new(report) }),
            None => Ok(report),
        }
    }
}
