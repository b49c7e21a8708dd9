//! One run: a gadget, a formatter, captures; documents.

mod formatter;
pub(crate) mod params;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use gadgetd_core::Capture;
use thiserror::Error;

use self::{formatter::FormatterInstance, params::Params};
use crate::{
    bindings::gadget::Error as GadgetError,
    cluster::{
        audit::KubeCall,
        session::{Cluster, Session},
    },
    contract::{
        captures,
        formatter::FormatterContext,
        gadget::{Generate, Reason},
        log::LogLine,
        output::{Emitted, MadeObject, Output, Target, Verdict},
    },
    host::Host,
    modules::loaded::{Formatter, Gadget},
    sandbox::{
        fault::{Fault, ModuleFault},
        limits::ModuleUsage,
        store::{GadgetContexts, StoreData},
    },
};

/// A run to make: the modules and their inputs.
#[derive(Clone, Debug)]
pub struct Run<'a> {
    /// Makes the documents.
    pub gadget: &'a Gadget,
    /// Writes policies down for the gadget.
    pub formatter: &'a Formatter,
    /// The parameters of both.
    pub params: Params,
    /// The captures that the gadget reads.
    pub captures: Arc<[Capture]>,
    /// Why it runs.
    pub reason: Reason,
    /// The object that is wanted; `None`: documents are.
    pub target: Option<Target>,
    /// The cluster that the gadget may work on; `None`: there is none.
    pub cluster: Option<Cluster>,
}

/// The results of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The documents, in the order in which the gadget emitted them. There may be none.
    pub documents: Vec<Emitted>,
    /// The objects that it reported to hold the result, in that order.
    pub objects: Vec<MadeObject>,
    /// Its verdicts, in that order; none if it only reports.
    pub verdicts: Vec<Verdict>,
    /// Every call to the cluster. Each went to `tracing` as well, at target `gadgetd::audit`.
    pub audit: Vec<KubeCall>,
    /// How many calls there were beyond the budget and the first that exceeded it. All were denied.
    pub unrecorded_calls: u64,
    /// The lines that both modules logged. Each line went to `tracing` as well, at target `gadgetd::module`.
    pub log: Vec<LogLine>,
    /// How many lines there were beyond the limit.
    pub dropped_log_lines: u64,
    /// The resources that the run took.
    pub usage: Usage,
}

/// The resources that a run took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// The gadget. What it waited for the formatter and the cluster is not its own time.
    pub gadget: ModuleUsage,
    /// The formatter, all its calls together; nothing, if it was never called.
    pub formatter: ModuleUsage,
    /// The whole run, the host's own work and what was waited for among it.
    pub total: Duration,
}

/// A run that failed. The captures are the caller's, and are as they were.
#[derive(Debug, Error)]
#[error("{fault}")]
pub struct RunError {
    /// The module, and its failure.
    pub fault: ModuleFault,
    /// The documents and log lines from before the failure.
    pub report: Box<Report>,
}

impl Host {
    /// Runs a gadget on captures, both modules in instances of their own that end with the run.
    ///
    /// Waits for its turn while there are [`Limits::runs`](crate::Limits::runs) others.
    pub async fn run(&self, run: Run<'_>) -> Result<Report, RunError> {
        let session = Session::new(run.gadget.0.caller(), run.cluster.clone());
        self.execute(run, session).await.0
    }

    /// Runs a gadget, its calls to the cluster through `session`, which comes back.
    pub(crate) async fn execute(
        &self,
        run: Run<'_>,
        session: Session,
    ) -> (Result<Report, RunError>, Session) {
        let Run { gadget: Gadget(gadget), formatter: Formatter(formatter), params, captures, reason, .. } =
            run;
        let _permit = self.permit().await;
        let begin = Instant::now();
        let _tick = self.engine.tick();
        let label = gadget.label.clone();
        let handles = captures::handles(&captures);
        let instance = FormatterInstance::new(formatter.clone(), params.formatter, captures.clone());
        let contexts = GadgetContexts {
            output: Output::new(gadget.limits.output, run.target),
            formatter: FormatterContext::new(
                formatter.label.clone(),
                formatter.limits.output,
                Box::new(instance),
            ),
            kube: session,
        };
        let data =
            StoreData::generating(label.clone(), gadget.limits.clone(), params.gadget, captures, contexts);
        let mut store = data.into_store(&self.engine.wasmtime);

        let mut instantiate = Duration::ZERO;
        let generated = async {
            let generate: Generate = gadget.start(&mut store).await?;
            instantiate = begin.elapsed();
            let (result,) = generate.call_async(&mut store, (reason.into(), handles)).await?;
            wasmtime::Result::Ok(result)
        };
        let generated = tokio::time::timeout(gadget.limits.run, generated).await;
        let elapsed = begin.elapsed();
        let generated = match generated {
            Err(_) => Err(Fault::RunDeadline(gadget.limits.run)),
            Ok(Err(error)) => Err(store.data().fault(&error)),
            Ok(Ok(result)) => Ok(result),
        };

        let data = store.into_data();
        let run_time = elapsed.saturating_sub(instantiate).saturating_sub(data.waited());
        let memory = data.memory_bytes();
        let (mut log, Some(GadgetContexts { output, formatter: mut context, mut kube })) =
            data.into_contexts()
        else {
            unreachable!("the store of a gadget has the gadget's contexts");
        };
        context.instance.drain_log(&mut log);
        let (audit, unrecorded_calls) = kube.take_audit();
        let usage = Usage {
            gadget: ModuleUsage { instantiate, run: run_time, memory },
            formatter: context.instance.usage(),
            total: begin.elapsed(),
        };
        let report = Report {
            documents: output.documents,
            objects: output.objects,
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
            // The context has the formatter's own fault; the gadget might word it otherwise.
            Ok(Err(GadgetError::Format(error))) => Some(match context.fault {
                Some(fault) => of_formatter(fault),
                None => of_gadget(error.into()),
            }),
            Ok(Err(error)) => Some(of_gadget(error.into())),
            // A gadget that takes a failed formatter for no reason to fail, and has nothing to show.
            Ok(Ok(())) if report.documents.is_empty() && report.objects.is_empty() => {
                context.fault.map(of_formatter)
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
