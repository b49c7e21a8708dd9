//! `gadgetd serve`: works for a cluster, on one of its nodes.
//!
//! Wiring only: what to do about a Trace is decided in `runtime/kube`, how a node does it in `runtime/node`.

mod http;
mod metrics;

use std::{
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use futures::{FutureExt as _, StreamExt as _};
use gadgetd_containers::Hierarchy;
use gadgetd_core::kube::KubeApi;
use gadgetd_host::{Host, HostConfig};
use gadgetd_kube::{
    adapter::KubeAdapter,
    controller::{self, NodeServices, Settings},
};
use gadgetd_node::{HostRunner, Kernel, NodeRecorder, RecorderSettings, SeccompFiles, watch};
use gadgetd_tracer::{LoadError, Tracer, TracerOptions};
use kube::{Client, Config};
use tokio::{net::TcpListener, runtime, sync::oneshot, task::JoinSet, time::sleep};

use self::{http::Service, metrics::Metrics};
use crate::{cli::ServeArgs, note, signals::Signals};

/// How long what is under way may take at the end: less than a kubelet waits before it kills.
const FAREWELL: Duration = Duration::from_secs(20);

/// Works until a signal comes.
pub(crate) fn main(args: &ServeArgs) -> ExitCode {
    // A node has better things to do with its memory than to keep a thread for each CPU.
    let runtime = runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let outcome = runtime.context("cannot start").and_then(|runtime| {
        let outcome = runtime.block_on(serve(args));
        runtime.shutdown_timeout(Duration::from_secs(1));
        outcome
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "gadgetd ends");
            note(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn serve(args: &ServeArgs) -> Result<()> {
    let begun = Instant::now();
    let mut signals = Signals::receive()?;
    let config = Config::infer().await.context(
        "cannot tell which cluster to work for: there is neither a service account (in a pod) nor a usable kubeconfig",
    )?;
    let client = Client::try_from(config).context("cannot work with this configuration of the cluster")?;
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("cannot listen on {} (see --listen)", args.listen))?;

    let recorder = NodeRecorder::start(recorder_settings(args), loader(args))?;
    // Each by what is missing without it. None of them ends by itself.
    let mut tasks = JoinSet::new();
    let pods = watch(client.clone(), &args.node);
    let told = recorder.clone();
    let pods = pods.for_each(move |change| {
        told.pod_changed(change);
        std::future::ready(())
    });
    tasks.spawn(pods.map(|()| "the watch of pods"));

    let metrics = Metrics::new(args.slots);
    let service = Service::new(recorder.clone(), metrics.clone());
    tasks.spawn(http::serve(listener, service.clone()).map(|()| "the service for probes and metrics"));
    tokio::spawn(announce(service, begun));

    let mut settings = Settings::new(&args.node, &args.namespace);
    settings.observer = metrics;
    let (calls, deadline) = (client.clone(), settings.request_timeout);
    let connect = move |manager: &str| -> Arc<dyn KubeApi> {
        Arc::new(KubeAdapter::new(calls.clone(), manager, deadline))
    };
    let runner = HostRunner::new(host(args)?, connect);
    let runner = runner.await.context("cannot load the built-in gadgets")?;
    let gadgets = (client.clone(), settings.clone(), Arc::new(runner.clone()));
    let gadgets = controller::run_gadgets(gadgets.0, gadgets.1, gadgets.2, std::future::pending());
    tasks.spawn(gadgets.map(|()| "the watch of Gadget objects"));
    let parts =
        NodeServices { recorder: recorder.clone(), runner, files: SeccompFiles::below(&args.seccomp_dir) };
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async move { drop(stopped.await) };
    let mut work = std::pin::pin!(controller::run(client, settings, parts, shutdown));
    tokio::select! {
        ended = &mut work => {
            ended?;
            bail!("the controller has ended");
        }
        () = recorder.ended() => bail!("the recorder has ended"),
        Some(ended) = tasks.join_next() => bail!("{} has ended", ended.context("a part of the service")?),
        signal = signals.next() => tracing::info!(signal = signal.name(), "ends; what is recorded goes on in the kernel"),
    }
    drop(stop);
    tokio::select! {
        ended = &mut work => ended?,
        () = sleep(FAREWELL) => tracing::warn!("ends in the middle of something; the next start goes on with it"),
        _ = signals.next() => {
            tracing::warn!("ends at once; the next start goes on with what was under way");
            return Ok(());
        }
    }
    recorder.shut_down().await.context("cannot give back what nobody records any more")
}

fn recorder_settings(args: &ServeArgs) -> RecorderSettings {
    RecorderSettings {
        state_dir: args.state_dir.clone(),
        host_root: args.host_root.clone(),
        ..RecorderSettings::new(&args.node)
    }
}

fn loader(args: &ServeArgs) -> impl FnMut() -> Result<Kernel<Tracer>, LoadError> + Send + 'static {
    let options = TracerOptions { slots: args.slots, pin: Some(args.pin_dir.clone()) };
    move || Ok(Kernel { source: Tracer::load(&options)?, hierarchy: Hierarchy::find()? })
}

/// A host that keeps what it fetches and compiles, if it can.
fn host(args: &ServeArgs) -> Result<Host> {
    let registry = args.registry.client(Some(args.cache_dir.join("artifacts")))?;
    let plain = HostConfig { registry: Some(registry), ..HostConfig::default() };
    let cached = HostConfig { cache_dir: Some(args.cache_dir.clone()), ..plain.clone() };
    let host = Host::new(cached).or_else(|error| {
        tracing::warn!(%error, "modules are compiled anew at every start");
        Host::new(plain)
    });
    host.context("cannot run gadgets")
}

/// Says when everything is there that is needed; and what is missing, if that takes long.
async fn announce(service: Arc<Service>, begun: Instant) {
    let mut said = String::new();
    loop {
        let report = service.readiness().await;
        let waited = begun.elapsed();
        if report.ready {
            tracing::info!(after_ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX), "ready");
            return;
        }
        if waited > Duration::from_secs(5) && report.text != said {
            tracing::warn!(missing = report.missing(), "not ready");
            said = report.text;
        }
        sleep(Duration::from_millis(if waited < Duration::from_secs(2) { 5 } else { 500 })).await;
    }
}
