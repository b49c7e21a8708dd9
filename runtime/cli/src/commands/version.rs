//! `version`: of this command, and of what runs on the nodes.

use std::process::ExitCode;

use anyhow::Result;
use serde_json::{Value, json};

use crate::{
    cli::{ClusterArgs, VersionArgs, VersionFormat},
    connection::Connection,
    output,
    runtime::{CLIENT, Found, Runtime, look},
    table,
};

pub(crate) async fn main(cluster: &ClusterArgs, args: &VersionArgs) -> Result<ExitCode> {
    let found = if args.client { None } else { Some(look(&Connection::new(cluster).await?).await?) };
    let text = match args.output {
        Some(VersionFormat::Json) => table::json(&object(found.as_ref()))?,
        Some(VersionFormat::Yaml) => table::yaml(&object(found.as_ref()))?,
        None => text(found.as_ref()),
    };
    output::to_stdout(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn object(found: Option<&Found>) -> Value {
    let mut object = json!({ "client": CLIENT });
    match found {
        None => {}
        Some(Found::Missing(what)) => object["runtime"] = json!({ "deployed": false, "missing": what }),
        Some(Found::Installed(Runtime { namespace, version, nodes })) => {
            object["runtime"] =
                json!({ "deployed": true, "namespace": namespace, "version": version, "nodes": nodes });
        }
    }
    object
}

fn text(found: Option<&Found>) -> String {
    let client = format!("client:  {CLIENT}\n");
    let runtime = match found {
        None => return client,
        Some(Found::Missing(what)) => {
            return format!("{client}runtime: not deployed ({what}); type: kubectl gadget deploy\n");
        }
        Some(Found::Installed(runtime)) => runtime,
    };
    let version = runtime.version.as_deref().unwrap_or("unknown");
    let head = format!("{client}runtime: {version}, in namespace {}\n", runtime.namespace);
    let Some(nodes) = &runtime.nodes else {
        return format!("{head}nodes:   not yours to see\n");
    };
    if nodes.is_empty() {
        return format!("{head}nodes:   none\n");
    }
    let rows = nodes.iter().map(|(node, on)| {
        let state = on.reason.as_ref().map_or_else(|| "yes".to_owned(), |reason| format!("no: {reason}"));
        let version = on.version.clone().unwrap_or_else(|| "unknown".into());
        vec![node.clone(), version, on.image.clone(), state]
    });
    format!("{head}\n{}", table::table(&["NODE", "VERSION", "IMAGE", "READY"], rows.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::OnNode;

    #[test]
    fn what_runs_where() {
        assert_eq!(text(None), format!("client:  {CLIENT}\n"));
        let on = |ready: bool| OnNode {
            pod: "p".into(),
            version: Some("0.1.0".into()),
            image: "i:1".into(),
            ready,
            reason: (!ready).then(|| "ImagePullBackOff".into()),
        };
        let nodes = [("n1".to_owned(), on(true)), ("n2".to_owned(), on(false))].into();
        let found = Found::Installed(Runtime {
            namespace: "gadget".into(),
            version: Some("0.1.0".into()),
            nodes: Some(nodes),
        });
        let want = format!(
            "client:  {CLIENT}\nruntime: 0.1.0, in namespace gadget\n\n\
             NODE   VERSION   IMAGE   READY\n\
             n1     0.1.0     i:1     yes\n\
             n2     0.1.0     i:1     no: ImagePullBackOff\n"
        );
        assert_eq!(text(Some(&found)), want);
        assert_eq!(object(Some(&found))["runtime"]["nodes"]["n2"]["ready"], false);
        assert!(text(Some(&Found::Missing("x"))).contains("kubectl gadget deploy"));
    }
}
