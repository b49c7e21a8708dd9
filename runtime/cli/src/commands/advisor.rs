//! `seccomp-advisor`: a recording in two steps, as the older gadget of that name has it.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::error::ErrorKind;
use gadgetd_core::spo;

use super::{
    start::{clean_up, detached},
    stop::{end, hand_over},
};
use crate::{
    cli::{AdvisorMode, AdvisorStartArgs, AdvisorStopArgs, ClusterArgs, misused},
    connection::{Connection, InTime as _},
    errors::{Explain as _, Needs},
    recording::Recording,
    target,
};

pub(crate) async fn start(cluster: &ClusterArgs, args: &AdvisorStartArgs) -> Result<ExitCode> {
    let connection = Connection::new(cluster).await?;
    let mut wanted = target::of_advisor(args, connection.place())
        .unwrap_or_else(|error| misused(ErrorKind::ValueValidation, &error.to_string()));
    if args.output_mode == AdvisorMode::SeccompProfile {
        // Better now than when everything is recorded.
        let groups = connection.client.list_api_groups().in_time().await;
        let groups = groups.explain("ask the cluster what it knows", Needs::User(None))?.groups;
        if !groups.iter().any(|group| group.name == spo::GROUP) {
            bail!(
                "the cluster does not know SeccompProfiles: install the Security Profiles Operator, or have the profile printed \
                 with -m terminal"
            );
        }
    }
    detached(&connection, &mut wanted, cluster.wait, "kubectl gadget seccomp-advisor stop").await
}

pub(crate) async fn stop(cluster: &ClusterArgs, args: &AdvisorStopArgs) -> Result<ExitCode> {
    let connection = Connection::new(cluster).await?;
    let (recording, trace) = Recording::find(&connection, &args.id).await?;
    let settled = end(&recording, trace, cluster.wait).await?;
    let outcome = hand_over(&recording, &args.id, &settled, None)?;
    clean_up(&recording, &args.id).await;
    outcome
}
