//! Which recorder a run has.

use anyhow::{Context, Result};
use gadgetd_containers::{Hierarchy, Leftovers, OwnCgroup};
use gadgetd_notify::Notify;
use gadgetd_tracer::{Tracer, TracerOptions};
use thiserror::Error;

use super::Target;
use crate::{cli::RecorderName, note};

/// A recorder, ready to record.
pub(super) enum Chosen {
    Ebpf(Box<Ebpf>),
    Notify(Notify),
}

/// The eBPF program, and where the cgroups are that it records.
pub(super) struct Ebpf {
    pub source: Tracer,
    pub hierarchy: Hierarchy,
    /// For a command.
    pub cgroup: Option<OwnCgroup>,
}

/// The command line asks a recorder for what it can't record.
#[derive(Debug, Error)]
#[error(
    "{0} needs the recorder ebpf: seccomp notification records nothing but a command that gadgetd starts itself"
)]
pub(super) struct NeedsEbpf(&'static str);

/// The recorder that is asked for; left to us, the eBPF program where it may be loaded.
pub(super) fn choose(asked: RecorderName, target: &Target) -> Result<Chosen> {
    let option = match target {
        Target::Command(_) => None,
        Target::Process(_) => Some("--pid"),
        Target::Cgroup(_) => Some("--cgroup"),
    };
    match (asked, option) {
        (RecorderName::Notify, Some(option)) => Err(NeedsEbpf(option).into()),
        (RecorderName::Notify, None) => notify(None),
        (RecorderName::Ebpf, _) => ebpf(target).map(Chosen::Ebpf),
        (RecorderName::Auto, Some(option)) => {
            let loaded = ebpf(target).with_context(|| format!("{option} needs eBPF"));
            loaded.map(Chosen::Ebpf)
        }
        (RecorderName::Auto, None) => match ebpf(target) {
            Ok(ebpf) => Ok(Chosen::Ebpf(ebpf)),
            Err(why) => {
                let why = format!("{why:#}");
                notify(Some(&why))
                    .with_context(|| format!("cannot record by eBPF ({why}), nor by seccomp notification"))
            }
        },
    }
}

fn ebpf(target: &Target) -> Result<Box<Ebpf>> {
    let hierarchy = Hierarchy::find()?;
    // Only waiting for a cgroup takes more than one slot: every new one gets one until it is known not to be meant.
    let options = match target {
        Target::Cgroup(_) => TracerOptions::default(),
        Target::Command(_) | Target::Process(_) => TracerOptions { slots: 1, ..TracerOptions::default() },
    };
    let source = Tracer::load(&options)?;
    match OwnCgroup::sweep(&hierarchy) {
        Ok(swept) if swept.is_empty() => {}
        Ok(swept) => tracing::info!("removed cgroups of a gadgetd that was killed: {}", swept.join(", ")),
        Err(error) => tracing::info!("cannot remove the cgroup of a gadgetd that was killed: {error}"),
    }
    let cgroup = match target {
        Target::Command(_) => Some(OwnCgroup::create(&hierarchy, &hierarchy.own()?, Leftovers::Kill)?),
        Target::Process(_) | Target::Cgroup(_) => None,
    };
    Ok(Box::new(Ebpf { source, hierarchy, cgroup }))
}

/// Recording without privileges; says in one line that it is used, why, what it costs, and what it can't see.
fn notify(why: Option<&str>) -> Result<Chosen> {
    let notify = Notify::new()?;
    let why = why.map(|why| format!(", because eBPF is not available ({why})")).unwrap_or_default();
    let privileges = if notify.no_new_privileges() {
        "; setuid programs and file capabilities have no effect (no_new_privs), so what the command would do with such \
         privileges is not seen"
    } else {
        ""
    };
    note(&format!(
        "recording by seccomp notification{why}: each system call takes some microseconds longer; only a command can be \
         recorded, not --pid or --cgroup{privileges}"
    ));
    Ok(Chosen::Notify(notify))
}
