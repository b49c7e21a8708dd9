//! From flags to a Trace.

use std::collections::BTreeMap;

use anyhow::{Result, bail, ensure};
use gadgetd_kube::{
    OPERATION, OutputMode, Trace, TraceFilter, TraceSpec,
    names::{Target, is_label, is_prefix},
};

use crate::cli::{AdvisorMode, AdvisorStartArgs, RunArgs, SelectArgs};

/// The gadget behind `seccomp-advisor`.
pub(crate) const SECCOMP: &str = "seccomp";

/// The label that every Trace of this command has: its id.
pub(crate) const ID: &str = "gadget.kinvolk.io/id";

/// A Trace that is about to be made.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wanted {
    /// Where the Trace is to be: with the pods, where that is enough, so that no more rights are needed than that takes.
    pub namespace: String,
    pub spec: TraceSpec,
}

/// Where flags are read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    /// The namespace of -n, or that of the context.
    pub namespace: &'a str,
    /// Whether it was given with -n.
    pub given: bool,
    /// The runtime's own.
    pub system: &'a str,
}

/// The Trace that `run` asks for.
pub(crate) fn of_run(args: &RunArgs, place: Place<'_>) -> Result<Wanted> {
    let mut wanted = selected(&args.gadget, &args.select, place)?;
    let parameters = &mut wanted.spec.parameters;
    for (name, value) in &args.params {
        if parameters.insert(name.clone(), value.clone()).is_some() {
            bail!("--param {name} is given twice");
        }
    }
    let mut set = |name: &str, value: Option<String>| match value {
        Some(_) if parameters.contains_key(name) => {
            bail!("--{name} and --param {name} are the same: give one")
        }
        Some(value) => {
            parameters.insert(name.to_owned(), value);
            Ok(())
        }
        None => Ok(()),
    };
    set("formatter", args.formatter.clone())?;
    // Nodes know whole seconds.
    set("timeout", args.timeout.map(|time| format!("{}s", time.as_millis().div_ceil(1000))))?;
    Ok(wanted)
}

/// The Trace that `seccomp-advisor start` asks for.
pub(crate) fn of_advisor(args: &AdvisorStartArgs, place: Place<'_>) -> Result<Wanted> {
    let mut wanted = selected(SECCOMP, &args.select, place)?;
    match args.output_mode {
        AdvisorMode::Terminal => {
            for (flag, value) in [
                ("seccomp-profile-name", &args.seccomp_profile_name),
                ("profile-prefix", &args.profile_prefix),
            ] {
                ensure!(value.is_none(), "--{flag} goes with --output-mode seccomp-profile");
            }
            return Ok(wanted);
        }
        AdvisorMode::SeccompProfile => wanted.spec.output_mode = OutputMode::ExternalResource,
    }
    let mut output_namespace = None;
    if let Some(name) = &args.seccomp_profile_name {
        match Target::resource(name) {
            Ok(target) => output_namespace = target.namespace,
            Err(reason) => bail!("--seccomp-profile-name {name:?} cannot be the name of an object: {reason}"),
        }
        wanted.spec.output.clone_from(name);
    }
    if let Some(prefix) = &args.profile_prefix {
        let (namespace, prefix) = match prefix.split_once('/') {
            Some((namespace, prefix)) => (Some(namespace), prefix),
            None => (None, prefix.as_str()),
        };
        // A profile whose name comes from its pod is with its pod.
        if let Some(other) =
            namespace.filter(|n| *n != wanted.spec.filter.as_ref().map_or("", |f| &f.namespace))
        {
            bail!(
                "--profile-prefix makes profiles in the namespace of their pods, not in {other:?}: leave the namespace out, \
                 or use --seccomp-profile-name {other}/{prefix}"
            );
        }
        ensure!(
            is_prefix(prefix),
            "--profile-prefix {prefix:?} must be of lower case letters, digits and -, and begin with a letter or digit"
        );
        wanted.spec.parameters.insert("profile-prefix".to_owned(), prefix.to_owned());
    }
    // A Trace outside of the runtime's own namespace may only write to its own.
    if output_namespace.is_some_and(|namespace| namespace != wanted.namespace) {
        place.system.clone_into(&mut wanted.namespace);
    }
    Ok(wanted)
}

fn selected(gadget: &str, select: &SelectArgs, place: Place<'_>) -> Result<Wanted> {
    ensure!(
        !(select.all_namespaces && place.given),
        "--all-namespaces and --namespace {} exclude each other: give one",
        place.namespace
    );
    let filter = TraceFilter {
        namespace: if select.all_namespaces { String::new() } else { place.namespace.to_owned() },
        podname: select.pod.clone().unwrap_or_default(),
        labels: select.selector.as_deref().map(labels).transpose()?.unwrap_or_default(),
        container_name: select.container.clone().unwrap_or_default(),
    };
    let namespace = if select.all_namespaces { place.system } else { place.namespace };
    let spec = TraceSpec {
        node: select.node.clone().unwrap_or_default(),
        gadget: gadget.to_owned(),
        filter: Some(filter),
        ..TraceSpec::default()
    };
    Ok(Wanted { namespace: namespace.to_owned(), spec })
}

/// The labels of a selector. Traces know labels and values; a selector that says more cannot be expressed.
fn labels(selector: &str) -> Result<BTreeMap<String, String>> {
    let mut labels = BTreeMap::new();
    for part in selector.split(',').map(str::trim) {
        let plain = |word: &str| !word.is_empty() && !word.contains(['!', '=', '(', ')', ' ']);
        match part.split_once("==").or_else(|| part.split_once('=')) {
            Some((key, value)) if plain(key.trim()) && (value.is_empty() || plain(value.trim())) => {
                let (key, value) = (key.trim().to_owned(), value.trim().to_owned());
                if labels.get(&key).is_some_and(|before| *before != value) {
                    bail!("--selector {selector:?} asks for two values of {key}: no pod has both");
                }
                labels.insert(key, value);
            }
            _ => bail!(
                "--selector {selector:?} cannot be used: it must be key=value, or several of them, as in a=b,c=d"
            ),
        }
    }
    Ok(labels)
}

/// An id that no other recording has.
pub(crate) fn new_id() -> String {
    std::iter::repeat_with(fastrand::alphanumeric).take(16).collect()
}

/// The object for a Trace that starts as soon as somebody sees it.
pub(crate) fn object(wanted: &Wanted, id: &str) -> Trace {
    let gadget = if is_label(&wanted.spec.gadget) { &wanted.spec.gadget } else { "gadget" };
    // Names are of lower case.
    let mut trace = Trace::new(&format!("{gadget}-{}", id.to_lowercase()), wanted.spec.clone());
    trace.metadata.namespace = Some(wanted.namespace.clone());
    let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    trace.metadata.labels =
        Some([label(ID, id), label("app.kubernetes.io/managed-by", "kubectl-gadget")].into_iter().collect());
    trace.metadata.annotations = Some([label(OPERATION, "start")].into_iter().collect());
    trace
}

/// What a Trace is about, for people.
pub(crate) fn subject(spec: &TraceSpec) -> String {
    let filter = spec.filter.clone().unwrap_or_default();
    let what = match (filter.podname.as_str(), filter.namespace.as_str()) {
        ("", "") => "pods of all namespaces".to_owned(),
        ("", namespace) => format!("pods of namespace {namespace}"),
        (pod, "") => format!("pods {pod} of all namespaces"),
        (pod, namespace) => format!("pod {namespace}/{pod}"),
    };
    let labels =
        if filter.labels.is_empty() { String::new() } else { format!(" with {}", selector(&filter.labels)) };
    let container = match filter.container_name.as_str() {
        "" => String::new(),
        name => format!(", container {name},"),
    };
    let node = match spec.node.as_str() {
        "" => String::new(),
        node => format!(" on node {node}"),
    };
    format!("{what}{labels}{container}{node}")
}

/// Labels, as --selector takes them.
pub(crate) fn selector(labels: &BTreeMap<String, String>) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{AdvisorCommand, Cli, Command};

    /// What a line asks for, where the context has namespace `default`.
    fn wanted(line: &str) -> Result<Wanted> {
        let cli = Cli::try_parse_from(format!("kubectl-gadget {line}").split_whitespace())?;
        let namespace = cli.cluster.namespace.as_deref();
        let place =
            Place { namespace: namespace.unwrap_or("default"), given: namespace.is_some(), system: "gadget" };
        match cli.command {
            Command::Run(args) => of_run(&args, place),
            Command::Advisor { command: AdvisorCommand::Start(args) } => of_advisor(&args, place),
            other => panic!("{other:?}"),
        }
    }

    fn said(line: &str) -> String {
        wanted(line).expect_err(line).to_string()
    }

    #[test]
    fn a_trace_is_where_its_pods_are_unless_that_is_not_enough() {
        // line → namespace of the Trace, namespace of the pods
        for (line, trace, pods) in [
            ("run seccomp -p a", "default", "default"),
            ("run seccomp -n shop -p a", "shop", "shop"),
            ("run seccomp -A -p a", "gadget", ""),
            ("run seccomp -A -l a=b", "gadget", ""),
            ("seccomp-advisor start -n shop -p a -m seccomp-profile", "shop", "shop"),
            (
                "seccomp-advisor start -n shop -p a -m seccomp-profile --seccomp-profile-name x",
                "shop",
                "shop",
            ),
            (
                "seccomp-advisor start -n shop -p a -m seccomp-profile --seccomp-profile-name shop/x",
                "shop",
                "shop",
            ),
            (
                "seccomp-advisor start -n shop -p a -m seccomp-profile --seccomp-profile-name bank/x",
                "gadget",
                "shop",
            ),
        ] {
            let wanted = wanted(line).unwrap();
            let found = (wanted.namespace.as_str(), wanted.spec.filter.as_ref().unwrap().namespace.as_str());
            assert_eq!(found, (trace, pods), "{line}");
        }
    }

    #[test]
    fn flags_become_fields() {
        let spec = wanted(
            "run seccomp -p a -c app -l x=y,z==,w=v --node n1 --timeout 1500ms --formatter spo --param merge=pod",
        )
        .unwrap()
        .spec;
        let filter = spec.filter.unwrap();
        assert_eq!((filter.podname.as_str(), filter.container_name.as_str()), ("a", "app"));
        assert_eq!(selector(&filter.labels), "w=v,x=y,z=");
        assert_eq!((spec.node.as_str(), spec.output_mode), ("n1", OutputMode::Status));
        assert_eq!(selector(&spec.parameters), "formatter=spo,merge=pod,timeout=2s");

        let spec = wanted("seccomp-advisor start -n s -p a -m seccomp-profile --seccomp-profile-name s/b")
            .unwrap()
            .spec;
        assert_eq!((spec.output_mode, spec.output.as_str()), (OutputMode::ExternalResource, "s/b"));
        let spec =
            wanted("seccomp-advisor start -n s -p a -m seccomp-profile --profile-prefix s/b").unwrap().spec;
        assert_eq!((spec.output.as_str(), selector(&spec.parameters).as_str()), ("", "profile-prefix=b"));
    }

    #[test]
    fn what_cannot_be_is_refused_before_anything_is_made() {
        for (line, want) in [
            ("run seccomp -p a -A -n shop", "exclude each other"),
            ("run seccomp -p a --param x=1 --param x=2", "given twice"),
            ("run seccomp -p a --formatter oci --param formatter=spo", "are the same"),
            ("run seccomp -l a", "must be key=value"),
            ("run seccomp -l a!=b", "must be key=value"),
            ("run seccomp -l a=b,a=c", "no pod has both"),
            ("seccomp-advisor start -p a --seccomp-profile-name x", "goes with --output-mode"),
            ("seccomp-advisor start -p a --profile-prefix x", "goes with --output-mode"),
            ("seccomp-advisor start -p a -m seccomp-profile --seccomp-profile-name a/b/c", "namespace/name"),
            ("seccomp-advisor start -p a -m seccomp-profile --profile-prefix X", "lower case"),
            (
                "seccomp-advisor start -n s -p a -m seccomp-profile --profile-prefix t/x",
                "--seccomp-profile-name t/x",
            ),
        ] {
            assert!(said(line).contains(want), "{line}: {}", said(line));
        }
    }

    #[test]
    fn an_object_can_be_found_by_its_id_and_starts() {
        let id = new_id();
        assert!(id.len() == 16 && id != new_id() && id.chars().all(|c| c.is_ascii_alphanumeric()));
        let trace = object(&wanted("run seccomp -n shop -p a").unwrap(), "AbC");
        assert_eq!(trace.metadata.name.as_deref(), Some("seccomp-abc"));
        assert_eq!(trace.metadata.labels.unwrap()[ID], "AbC");
        assert_eq!(trace.metadata.annotations.unwrap()[OPERATION], "start");
        let odd = object(&wanted("run registry.example/x:1 -n shop -p a").unwrap(), "AbC");
        assert_eq!(odd.metadata.name.as_deref(), Some("gadget-abc"));
    }

    #[test]
    fn what_it_is_about_in_words() {
        for (line, want) in [
            ("run seccomp -n shop -p a", "pod shop/a"),
            ("run seccomp -n shop -p a -c app --node n1", "pod shop/a, container app, on node n1"),
            ("run seccomp -n shop -l a=b", "pods of namespace shop with a=b"),
            ("run seccomp -A -l a=b", "pods of all namespaces with a=b"),
            ("run seccomp -A -p a", "pods a of all namespaces"),
        ] {
            assert_eq!(subject(&wanted(line).unwrap().spec), want);
        }
    }
}
