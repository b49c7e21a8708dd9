//! Which cluster, and as whom.

use std::{future::Future, time::Duration};

use anyhow::{Result, anyhow};
use clap::error::ErrorKind;
use gadgetd_kube::Trace;
use kube::{
    Api, Client, Config,
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};
use tokio::time::timeout;

use crate::{
    cli::{ClusterArgs, misused},
    target::Place,
};

/// How long the API server may take to answer. Without a limit, a network that went away would be waited for as long as
/// the kernel waits, which is a quarter of an hour.
const DEADLINE: Duration = Duration::from_secs(15);

/// A request that ends. A watch is none.
pub(crate) trait InTime<T> {
    /// Waits for the answer; one that does not come in time counts as that of a server that cannot be reached.
    async fn in_time(self) -> kube::Result<T>;
}

impl<T, F: Future<Output = kube::Result<T>>> InTime<T> for F {
    async fn in_time(self) -> kube::Result<T> {
        within(DEADLINE, self).await
    }
}

async fn within<T>(deadline: Duration, request: impl Future<Output = kube::Result<T>>) -> kube::Result<T> {
    timeout(deadline, request).await.unwrap_or_else(|_| {
        let what = format!("no answer within {}", humantime::format_duration(deadline));
        Err(kube::Error::Service(what.into()))
    })
}

/// A way to the API server.
#[derive(Clone)]
pub(crate) struct Connection {
    pub client: Client,
    /// The namespace of the context.
    pub context: String,
    /// The namespace of -n, or that of the context.
    pub namespace: String,
    /// Whether it was given with -n.
    pub namespace_given: bool,
    /// The runtime's own namespace.
    pub system: String,
}

impl Connection {
    /// Reads the configuration. Nothing is sent yet.
    pub(crate) async fn new(args: &ClusterArgs) -> Result<Self> {
        if args.as_user.is_none() && !args.as_groups.is_empty() {
            misused(ErrorKind::MissingRequiredArgument, "--as-group goes with --as: a group alone is nobody");
        }
        let mut config = config(args).await?;
        if args.as_user.is_some() {
            config.auth_info.impersonate.clone_from(&args.as_user);
            config.auth_info.impersonate_groups =
                (!args.as_groups.is_empty()).then(|| args.as_groups.clone());
        }
        let context = config.default_namespace.clone();
        let client = Client::try_from(config)
            .map_err(|error| anyhow!("cannot use this configuration of the cluster: {error}"))?;
        Ok(Self {
            client,
            namespace_given: args.namespace.is_some(),
            namespace: args.namespace.clone().unwrap_or_else(|| context.clone()),
            context,
            system: args.runtime_namespace.clone(),
        })
    }

    /// Where flags are read.
    pub(crate) fn place(&self) -> Place<'_> {
        Place { namespace: &self.namespace, given: self.namespace_given, system: &self.system }
    }

    /// The Traces of a namespace.
    pub(crate) fn traces(&self, namespace: &str) -> Api<Trace> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// The Traces of all namespaces.
    pub(crate) fn all_traces(&self) -> Api<Trace> {
        Api::all(self.client.clone())
    }
}

async fn config(args: &ClusterArgs) -> Result<Config> {
    let options = KubeConfigOptions {
        context: args.context.clone(),
        cluster: args.cluster.clone(),
        user: args.user.clone(),
    };
    // Errors of this kind have their causes in their text.
    let unusable = |what: String| move |error: KubeconfigError| anyhow!("cannot use {what}: {error}");
    if let Some(file) = &args.kubeconfig {
        let what = format!("the kubeconfig {}", file.display());
        let kubeconfig = Kubeconfig::read_from(file).map_err(unusable(what.clone()))?;
        return Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(unusable(what));
    }
    if args.context.is_some() || args.cluster.is_some() || args.user.is_some() {
        return Config::from_kubeconfig(&options).await.map_err(unusable("the kubeconfig".into()));
    }
    Config::infer().await.map_err(|error| {
        anyhow!(
            "cannot tell which cluster is meant: there is no usable kubeconfig (KUBECONFIG, ~/.kube/config, --kubeconfig), and \
             this is no pod with a service account ({error})"
        )
    })
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;
    use crate::errors::{Needs, explained, is_unreachable};

    #[tokio::test]
    async fn what_is_not_answered_in_time_counts_as_unreachable() {
        let silent = within(Duration::from_millis(5), pending::<kube::Result<()>>()).await.unwrap_err();
        assert!(is_unreachable(&silent), "{silent:?}");
        let said = explained(&silent, "list recordings", Needs::Admin).to_string();
        assert!(said.contains("cannot be reached (no answer within 5ms)"), "{said}");
        assert_eq!(ready(Ok(1)).in_time().await.unwrap(), 1);
    }
}
