//! `gadgetd-e2e api|node`: starts a cluster for a person to try things in, and ends it with Ctrl-C.

use std::process::Command;

use anyhow::Result;
use clap::Parser;
use gadgetd_e2e::{ApiServer, Node, User, images};
use tokio::signal::unix::{SignalKind, signal};

/// Starts a real Kubernetes for tests and keeps it until Ctrl-C
#[derive(Parser)]
enum Arguments {
    /// An API server alone
    Api,
    /// A node that runs pods; takes root
    Node {
        /// Also make and load the image of the demo's workload
        #[arg(long)]
        demo: bool,
        /// Run a command with KUBECONFIG set, and end when it does
        #[arg(last = true)]
        command: Vec<String>,
    },
}

#[tokio::main]
async fn main() -> Result<()> {
    let begin = std::time::Instant::now();
    match Arguments::parse() {
        Arguments::Api => {
            let api = ApiServer::start().await?;
            hold(&api, begin.elapsed()).await
        }
        Arguments::Node { demo, command } => {
            let node = Node::start().await?;
            if demo {
                node.import(&images::build(images::Image::Demo)?)?;
            }
            let Some((program, arguments)) = command.split_first() else {
                return hold(node.api(), begin.elapsed()).await;
            };
            let kubeconfig = node.api().kubeconfig(&User::admin())?;
            let status = Command::new(program).args(arguments).env("KUBECONFIG", kubeconfig).status()?;
            anyhow::ensure!(status.success(), "{program}: {status}");
            Ok(())
        }
    }
}

/// Says where the cluster is, and waits for the signal to end it.
async fn hold(api: &ApiServer, took: std::time::Duration) -> Result<()> {
    println!("export KUBECONFIG={}", api.kubeconfig(&User::admin())?.display());
    eprintln!("ready after {:.1} s; Ctrl-C ends it", took.as_secs_f32());
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}
