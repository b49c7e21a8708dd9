//! Whether an operation can be carried out on this node, whatever state the Trace is in.

use kube::ResourceExt as _;

use super::{Availability, NodeView, operation::Operation, parameters::Parameters, refusal::Refusal};
use crate::{OutputMode, RunMode, Trace, names::Target};

/// The checks that every operation must pass, the most basic first.
pub(super) fn check(
    trace: &Trace,
    operation: &Operation,
    parameters: &Parameters,
    view: &NodeView<'_>,
) -> Result<(), Refusal> {
    check_gadget(trace, view)?;
    if let Operation::Other(operation) = operation {
        let gadget = trace.spec.gadget.clone();
        return Err(Refusal::Operation { operation: operation.clone(), gadget });
    }
    output_target(trace, parameters, view).map(|_| ())
}

/// Whether the gadget of a Trace may run for it. Its spec may be another one than when it was started.
fn check_gadget(trace: &Trace, view: &NodeView<'_>) -> Result<(), Refusal> {
    let spec = &trace.spec;
    let Some(gadget) = view.gadgets.iter().find(|g| g.name == spec.gadget) else {
        let known = view.gadgets.iter().map(|g| g.name.clone()).collect();
        return Err(Refusal::Gadget { gadget: spec.gadget.clone(), known });
    };
    if let Availability::Unavailable(reason) = &gadget.availability {
        return Err(Refusal::Unusable { gadget: spec.gadget.clone(), reason: reason.clone() });
    }
    if spec.run_mode != RunMode::Manual {
        let mode = spec.run_mode.to_string();
        return Err(Refusal::RunMode { mode, gadget: spec.gadget.clone() });
    }
    if !gadget.output_modes.contains(&spec.output_mode) {
        return Err(Refusal::OutputMode {
            mode: spec.output_mode.to_string(),
            gadget: spec.gadget.clone(),
            supported: gadget.output_modes.iter().map(ToString::to_string).collect(),
        });
    }
    Ok(())
}

/// Where the documents of a Trace go, for the modes that need a name; asked before each document is made.
pub fn destination(
    trace: &Trace,
    parameters: &Parameters,
    view: &NodeView<'_>,
) -> Result<Option<Target>, Refusal> {
    check_gadget(trace, view)?;
    output_target(trace, parameters, view)
}

fn output_target(
    trace: &Trace,
    parameters: &Parameters,
    view: &NodeView<'_>,
) -> Result<Option<Target>, Refusal> {
    let spec = &trace.spec;
    let own = trace.namespace().unwrap_or_default();
    let bad = |reason| Refusal::Output { output: spec.output.clone(), reason };
    let target = match spec.output_mode {
        OutputMode::ExternalResource => Target::resource(&spec.output).map_err(bad)?,
        OutputMode::File => Target::file(&spec.output).map_err(bad)?,
        _ => return Ok(None),
    };
    if let Some(asked) = target.namespace.as_ref().filter(|n| own != view.system_namespace && **n != own) {
        return Err(Refusal::OtherOutputNamespace { own, asked: asked.clone() });
    }
    if spec.output_mode == OutputMode::ExternalResource
        && let Some(formatter) = parameters.formatter.as_deref()
        && ["html", "systemd", "table"].contains(&formatter)
    {
        let must = "spo (or absent) where spec.outputMode is ExternalResource";
        return Err(Refusal::Parameter { name: "formatter", value: formatter.to_owned(), must });
    }
    Ok(Some(target.with_prefix(parameters.profile_prefix.as_deref())))
}
