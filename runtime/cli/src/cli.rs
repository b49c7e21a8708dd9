//! The command line: its arguments and help texts.

use std::{path::PathBuf, time::Duration};

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum, error::ErrorKind};
use clap_complete::Shell;
use gadgetd_core::parameter;

const EXAMPLES: &str = "\
Examples:
  Install the runtime, one pod on each node:
    kubectl gadget deploy

  Record a pod while you use it, end the recording with Ctrl-C, and keep its seccomp profile:
    kubectl gadget run seccomp -n shop -p cart-0 -o profile.json

  The same in two steps; the pod need not exist yet:
    kubectl gadget seccomp-advisor start -n shop -p cart-0
    kubectl gadget seccomp-advisor stop <ID>

Results go to standard output, messages to standard error.

Exit status:
  0  done
  1  failed
  2  wrong usage
  3  the recording is incomplete; the command still prints the result, and says what was lost
  4  the gadget's verdict is negative; the command still prints the result";

const RUN_USAGE: &str = "\
kubectl gadget run [OPTIONS] <GADGET> --pod <NAME>
       kubectl gadget run [OPTIONS] <GADGET> --selector <KEY=VALUE,…>";

const RUN_AFTER: &str = "\
Examples:
  kubectl gadget run seccomp -n shop -p cart-0
  kubectl gadget run seccomp -n shop -l app=cart --timeout 5m --param merge=pod
  kubectl gadget run seccomp -A -l tier=web --formatter table
  id=$(kubectl gadget run seccomp -n shop -p cart-0 --detach)

Ctrl-C, SIGTERM or the end of --timeout ends the recording and prints the result. A second Ctrl-C exits at once, \
without a result. Nothing stays in the cluster. With --detach the recording continues: show, stop and delete accept \
its id.

For one container the command prints its document unchanged. For several it prints a JSON array of documents and their \
containers.

The runtime has the parameter merge=container|pod: one document for each container, or for each pod. It passes all \
other parameters to the gadget and its formatter.";

const ADVISOR_AFTER: &str = "\
Examples:
  kubectl gadget seccomp-advisor start -n shop -p cart-0
  kubectl gadget seccomp-advisor start -n shop -p cart-0 -m seccomp-profile --seccomp-profile-name shop/cart
  kubectl gadget seccomp-advisor list
  kubectl gadget seccomp-advisor stop <ID>";

/// kubectl runs a program to complete the arguments of a plugin. clap's script for bash serves all shells.
const COMPLETION_AFTER: &str = r#"For `kubectl-gadget`, load the completions in your shell, for example:
  source <(kubectl-gadget completion bash)

For `kubectl gadget`, kubectl's own completion runs a program `kubectl_complete-gadget`.
Create it on the PATH, executable, with this text, which serves every shell:
  #!/usr/bin/env bash
  source <(kubectl-gadget completion bash)
  COMP_WORDS=(kubectl-gadget "$@"); COMP_CWORD=$#
  _kubectl__gadget kubectl-gadget "${COMP_WORDS[$#]}" "${COMP_WORDS[$#-1]}" 2>/dev/null
  printf '%s\n' "${COMPREPLY[@]}" :0"#;

/// Record the system calls of pods, and turn them into a result such as a seccomp profile.
///
/// The runtime, gadgetd, records on every node (`kubectl gadget deploy` installs it). Trace objects ask for recordings
/// and hold their results. This command creates, reads and deletes them. It connects only to the API server.
#[derive(Debug, Parser)]
#[command(
    name = "kubectl-gadget",
    bin_name = "kubectl gadget",
    version,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = EXAMPLES,
    after_long_help = EXAMPLES
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub cluster: ClusterArgs,

    #[command(subcommand)]
    pub command: Command,
}

/// The cluster, the user, and other options of all commands.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Cluster")]
pub(crate) struct ClusterArgs {
    /// The kubeconfig file. Default: KUBECONFIG, `~/.kube/config`, or the service account of the pod.
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// The context of the kubeconfig.
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,

    /// The cluster of the kubeconfig.
    #[arg(long, global = true, value_name = "NAME")]
    pub cluster: Option<String>,

    /// The user of the kubeconfig.
    #[arg(long, global = true, value_name = "NAME")]
    pub user: Option<String>,

    /// The namespace of the pods. Default: the namespace of the context.
    #[arg(short, long, global = true, value_name = "NAME")]
    pub namespace: Option<String>,

    /// Impersonate this user.
    #[arg(long = "as", global = true, value_name = "USER")]
    pub as_user: Option<String>,

    /// Impersonate this group; may be repeated. Requires --as.
    #[arg(long = "as-group", global = true, value_name = "GROUP")]
    pub as_groups: Vec<String>,

    /// The namespace of the runtime.
    #[arg(
        long,
        global = true,
        env = "GADGETD_NAMESPACE",
        hide_env = true,
        value_name = "NAME",
        default_value = "gadget"
    )]
    pub runtime_namespace: String,

    /// How long to wait for answers from nodes.
    #[arg(long, global = true, value_name = "TIME", default_value = "30s", value_parser = time)]
    pub wait: Duration,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Record pods, and run a gadget on the recording.
    #[command(override_usage = RUN_USAGE, after_help = RUN_AFTER, after_long_help = RUN_AFTER)]
    Run(RunArgs),
    /// Record pods in two steps, and print a seccomp profile.
    #[command(
        name = "seccomp-advisor",
        after_help = ADVISOR_AFTER,
        after_long_help = ADVISOR_AFTER,
        subcommand_required = true,
        arg_required_else_help = true
    )]
    Advisor {
        #[command(subcommand)]
        command: AdvisorCommand,
    },
    /// List recordings.
    List(ListArgs),
    /// List the installed gadgets and formatters, with their sources, signatures and grants.
    Gadgets(GadgetsArgs),
    /// Show the results of a recording so far.
    Show(ShowArgs),
    /// End a recording and print its result. `show` can print it again until you delete the recording.
    Stop(StopArgs),
    /// Delete recordings, also ones that have not ended.
    Delete(DeleteArgs),
    /// Install or update the runtime, and wait until it is ready on every node.
    Deploy(DeployArgs),
    /// Remove the runtime and all its objects, including recordings.
    Undeploy(UndeployArgs),
    /// Print the version of this command and of the runtime on each node.
    Version(VersionArgs),
    /// Print the completion script of a shell.
    #[command(after_help = COMPLETION_AFTER, after_long_help = COMPLETION_AFTER)]
    Completion {
        /// The shell.
        shell: Shell,
    },
    /// Write man pages into a folder.
    #[command(hide = true)]
    Man {
        /// The folder; it must exist.
        folder: PathBuf,
    },
}

/// The containers to record.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Containers")]
pub(crate) struct SelectArgs {
    /// The pod. It need not exist yet.
    #[arg(short, long = "pod", alias = "podname", value_name = "NAME", required_unless_present = "selector")]
    pub pod: Option<String>,

    /// The container. Default: all containers of the pod.
    #[arg(short, long = "container", alias = "containername", value_name = "NAME")]
    pub container: Option<String>,

    /// Pods with these labels.
    #[arg(short = 'l', long, value_name = "KEY=VALUE,…")]
    pub selector: Option<String>,

    /// Pods of all namespaces.
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,

    /// The node that records. Default: the node of the pod, or all nodes.
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The gadget, such as `seccomp`.
    #[arg(value_name = "GADGET")]
    pub gadget: String,

    /// End the recording after this time, such as `30s`, `5m` or `1h`.
    #[arg(short, long, value_name = "TIME", value_parser = time)]
    pub timeout: Option<Duration>,

    /// The formatter of the result, such as `oci`, `spo` or `table`.
    #[arg(short, long, value_name = "NAME")]
    pub formatter: Option<String>,

    /// A parameter of the gadget, the formatter or the runtime; may be repeated. `NAME=@FILE` reads the value from a file.
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = parameter::parse)]
    pub params: Vec<(String, String)>,

    /// Write the result to this file instead of standard output.
    #[arg(short, long, value_name = "FILE", conflicts_with = "detach")]
    pub output: Option<PathBuf>,

    /// Start the recording, print its id, and exit.
    #[arg(long)]
    pub detach: bool,

    #[command(flatten)]
    pub select: SelectArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AdvisorCommand {
    /// Start a recording, and print its id.
    Start(AdvisorStartArgs),
    /// End a recording, print the profile or the names of the created profiles, and delete the recording.
    Stop(AdvisorStopArgs),
    /// List the recordings for seccomp profiles.
    List(ListArgs),
}

#[derive(Debug, Args)]
pub(crate) struct AdvisorStartArgs {
    /// The destination of the profile.
    #[arg(short = 'm', long, value_name = "MODE", value_enum, default_value = "terminal")]
    pub output_mode: AdvisorMode,

    /// The name of the `SeccompProfile`, with or without its namespace.
    #[arg(long, value_name = "[NAMESPACE/]NAME", conflicts_with = "profile_prefix")]
    pub seccomp_profile_name: Option<String>,

    /// The prefix of the name of the `SeccompProfile`; the pod's name follows.
    #[arg(long, value_name = "[NAMESPACE/]PREFIX")]
    pub profile_prefix: Option<String>,

    #[command(flatten)]
    pub select: SelectArgs,
}

/// The destination of a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AdvisorMode {
    /// `stop` prints it.
    Terminal,
    /// gadgetd creates a `SeccompProfile` object of the Security Profiles Operator.
    SeccompProfile,
}

#[derive(Debug, Args)]
pub(crate) struct AdvisorStopArgs {
    /// The id that `start` printed.
    #[arg(value_name = "ID")]
    pub id: String,
}

/// The output format of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// As JSON.
    Json,
    /// As YAML.
    Yaml,
    /// A table with more columns.
    Wide,
    /// Only their names.
    Name,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// The output format.
    #[arg(short, long, value_name = "FORMAT", value_enum)]
    pub output: Option<Format>,

    /// All namespaces. Default if the user may list them.
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
}

#[derive(Debug, Args)]
pub(crate) struct GadgetsArgs {
    /// The output format.
    #[arg(short, long, value_name = "FORMAT", value_enum)]
    pub output: Option<Format>,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The id of the recording, or the name of a Trace, with or without its namespace.
    #[arg(value_name = "ID")]
    pub id: String,

    /// Print each new document as a line of JSON, until the recording ends.
    #[arg(short, long, conflicts_with_all = ["output", "generate"])]
    pub follow: bool,

    /// Generate documents from the recording so far. The recording continues.
    #[arg(short, long)]
    pub generate: bool,

    /// Print the gadget's calls to the cluster, including denied ones, instead of the documents.
    #[arg(long, conflicts_with_all = ["output", "follow"])]
    pub audit: bool,

    /// Print the Trace object instead of the documents.
    #[arg(short, long, value_name = "FORMAT", value_enum)]
    pub output: Option<Format>,
}

#[derive(Debug, Args)]
pub(crate) struct StopArgs {
    /// The id of the recording, or the name of a Trace, with or without its namespace.
    #[arg(value_name = "ID")]
    pub id: String,

    /// Write the result to this file instead of standard output.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// The ids of recordings, or names of Traces, with or without their namespaces.
    #[arg(value_name = "ID", required = true)]
    pub ids: Vec<String>,

    /// Do not wait for nodes: remove their finalizers.
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DeployArgs {
    /// The image of the runtime.
    #[arg(long, value_name = "REFERENCE")]
    pub image: Option<String>,

    /// Print the manifests instead of applying them.
    #[arg(long)]
    pub dry_run: bool,

    /// How long to wait until every node is ready.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = time)]
    pub timeout: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct UndeployArgs {
    /// How long to wait until everything is removed.
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = time)]
    pub timeout: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct VersionArgs {
    /// Print only the version of this command.
    #[arg(long)]
    pub client: bool,

    /// The output format.
    #[arg(short, long, value_name = "FORMAT", value_enum)]
    pub output: Option<VersionFormat>,
}

/// The output format of versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum VersionFormat {
    /// As JSON.
    Json,
    /// As YAML.
    Yaml,
}

fn time(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("that is no time".into()),
        Ok(time) => Ok(time),
        Err(e) => Err(format!("{e}; write it as 30s, 5m or 1h30m")),
    }
}

/// Exits with an error of wrong usage.
pub(crate) fn misused(kind: ErrorKind, what: &str) -> ! {
    Cli::command().error(kind, what).exit()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, ErrorKind> {
        Cli::try_parse_from(line.split_whitespace()).map_err(|e| e.kind())
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_full_line_is_taken() {
        let line = "kubectl-gadget run seccomp -n shop -p cart-0 -c app -l a=b --node n1 --timeout 1m30s --formatter \
                    spo --param merge=pod --param x= -o f --context c --as ada --as-group g --as-group h";
        let Ok(Cli { cluster, command: Command::Run(run) }) = parse(line) else { panic!("{line}") };
        assert_eq!((cluster.namespace.as_deref(), cluster.context.as_deref()), (Some("shop"), Some("c")));
        assert_eq!(
            (cluster.as_user.as_deref(), cluster.as_groups),
            (Some("ada"), vec!["g".into(), "h".into()])
        );
        assert_eq!(run.select.pod.as_deref(), Some("cart-0"));
        assert_eq!(run.timeout, Some(Duration::from_secs(90)));
        assert_eq!(run.params, [("merge".into(), "pod".into()), ("x".into(), String::new())]);
    }

    #[test]
    fn the_lines_of_the_older_gadget_are_taken() {
        for line in [
            "kubectl-gadget seccomp-advisor start -n seccomp-demo -p hello-python",
            "kubectl-gadget seccomp-advisor start -n seccomp-demo -m seccomp-profile --seccomp-profile-name \
             seccomp-demo/hello-profile -p hello-python",
            "kubectl-gadget seccomp-advisor start --podname a --containername b --output-mode terminal",
            "kubectl-gadget seccomp-advisor start -A -p a -m seccomp-profile --profile-prefix ns/x",
            "kubectl-gadget seccomp-advisor stop jMzhur2dQjZJxDCI",
            "kubectl-gadget seccomp-advisor list",
        ] {
            assert!(parse(line).is_ok(), "{line}: {:?}", parse(line).err());
        }
    }

    #[test]
    fn wrong_lines_are_refused() {
        for (line, kind) in [
            ("kubectl-gadget", ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand),
            ("kubectl-gadget walk", ErrorKind::InvalidSubcommand),
            ("kubectl-gadget run -p a", ErrorKind::MissingRequiredArgument),
            ("kubectl-gadget run seccomp", ErrorKind::MissingRequiredArgument),
            ("kubectl-gadget run seccomp -c app", ErrorKind::MissingRequiredArgument),
            ("kubectl-gadget run seccomp -p a --timeout 30", ErrorKind::ValueValidation),
            ("kubectl-gadget run seccomp -p a --timeout 0s", ErrorKind::ValueValidation),
            ("kubectl-gadget run seccomp -p a --param x", ErrorKind::ValueValidation),
            ("kubectl-gadget run seccomp -p a --param x=@/no/such/file", ErrorKind::ValueValidation),
            ("kubectl-gadget run seccomp -p a --detach -o f", ErrorKind::ArgumentConflict),
            ("kubectl-gadget seccomp-advisor", ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand),
            ("kubectl-gadget seccomp-advisor start", ErrorKind::MissingRequiredArgument),
            ("kubectl-gadget seccomp-advisor start -p a -m file", ErrorKind::InvalidValue),
            (
                "kubectl-gadget seccomp-advisor start -p a --seccomp-profile-name a --profile-prefix b",
                ErrorKind::ArgumentConflict,
            ),
            ("kubectl-gadget seccomp-advisor stop", ErrorKind::MissingRequiredArgument),
            ("kubectl-gadget show x -f -o json", ErrorKind::ArgumentConflict),
            ("kubectl-gadget show x --audit -o json", ErrorKind::ArgumentConflict),
            ("kubectl-gadget show", ErrorKind::MissingRequiredArgument),
            ("kubectl-gadget delete", ErrorKind::MissingRequiredArgument),
            ("kubectl-gadget list -o xml", ErrorKind::InvalidValue),
            ("kubectl-gadget completion dos", ErrorKind::InvalidValue),
        ] {
            assert_eq!(parse(line).map(|_| ()), Err(kind), "{line}");
        }
    }
}
