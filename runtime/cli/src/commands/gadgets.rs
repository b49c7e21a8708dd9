//! `gadgets`: the modules that are installed, and what they may do.

use std::process::ExitCode;

use anyhow::{Result, bail};
use gadgetd_kube::Gadget;
use kube::{Api, ResourceExt, api::ListParams};

use crate::{
    cli::{ClusterArgs, GadgetsArgs},
    connection::{Connection, InTime as _},
    errors::{Needs, explained, is_not_found},
    output, table,
};

pub(crate) async fn main(cluster: &ClusterArgs, args: &GadgetsArgs) -> Result<ExitCode> {
    let connection = Connection::new(cluster).await?;
    let api = Api::<Gadget>::all(connection.client.clone());
    let mut gadgets = match api.list(&ListParams::default()).in_time().await {
        Ok(gadgets) => gadgets.items,
        Err(error) if is_not_found(&error) => {
            bail!(
                "the runtime is not deployed, or too old to have gadgets installed; run: kubectl gadget deploy"
            )
        }
        Err(error) => return Err(explained(&error, "list the gadgets", Needs::Admin)),
    };
    gadgets.sort_by_key(ResourceExt::name_any);
    output::to_stdout(&table::gadgets(&gadgets, args.output)?)?;
    Ok(ExitCode::SUCCESS)
}
