//! The command line: its arguments and help texts.

#[cfg(feature = "cluster")]
use std::net::SocketAddr;
use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{ArgAction, ArgGroup, Args, Parser, Subcommand, ValueEnum};
use gadgetd_core::parameter::{self, ParameterError};

#[cfg(feature = "registry")]
use crate::{
    module::ModuleArgs,
    registry::{RegistryArgs, TrustArgs},
};

const EXAMPLES: &str = "\
Examples:
  Record a server while you use it, end it with Ctrl-C, and keep its profile:
    gadgetd run seccomp -o profile.json -- ./my-server --port 8080

  Run it under that profile, as a container runtime would:
    gadgetd confine --profile profile.json -- ./my-server --port 8080

  Record a container from its very first call (it need not exist yet):
    gadgetd run seccomp --cgroup /kubepods/besteffort/pod<uid>/<id> -o profile.json

Results go to standard output, messages to standard error.";

const RUN_USAGE: &str = "\
gadgetd run [OPTIONS] <GADGET> -- <COMMAND>...
       gadgetd run [OPTIONS] <GADGET> --pid <PID>
       gadgetd run [OPTIONS] <GADGET> --cgroup <PATH>
       gadgetd run [OPTIONS] <GADGET> --list-params";

const RUN_AFTER: &str = "\
Examples:
  gadgetd run seccomp -- python3 -m http.server
  gadgetd run seccomp --pid 4711 --timeout 30s --formatter table
  gadgetd run seccomp --cgroup machine.slice/libpod-<id>.scope -o profile.json
  gadgetd run seccomp --param default-action=kill-process --param compact=true -- ./job
  gadgetd run seccomp-diff --param against=@profile.json -- ./job

gadgetd starts the command in a cgroup of its own and records it from before its first call. It passes signals on to \
the command, and still prints the result. When the command ends, gadgetd ends the processes that it left behind. If \
the result goes to standard output, the command's own standard output goes to standard error.

Every profile also allows execve, exit and exit_group: without them nothing starts, and a failing start hangs. The \
profile of a container that an OCI runtime started also allows futex and rt_sigreturn, because runc makes them only \
in some starts.

Exit status:
  0  done (standard error shows the status of the command)
  1  failed
  2  wrong usage
  3  the recording is incomplete; gadgetd still prints the result, and says what was lost
  4  the gadget's verdict is negative; gadgetd still prints the result";

const CONFINE_AFTER: &str = "\
Examples:
  gadgetd confine --profile profile.json -- ./my-server --port 8080
  gadgetd confine --profile profile.json -- python3 -c 'import os; os.mkdir(\"x\")'

gadgetd makes the same filter from the profile as runc and crun do with the same libseccomp. It skips names that \
libseccomp does not know. The default errno is EPERM. gadgetd loads the filter right before it executes the command, \
so the profile must allow execve.

Exit status:
  the status of the command; 128 + n if signal n killed it
  125  gadgetd failed, for example because the profile is invalid
  126  the command can't be executed
  127  the command was not found
  2    wrong usage";

#[cfg(feature = "cluster")]
const SERVE_AFTER: &str = "\
gadgetd uses the cluster of the pod's service account, or of a kubeconfig (KUBECONFIG, ~/.kube/config). Trace objects \
ask for recordings: see kubectl gadget --help.

SIGTERM ends gadgetd. Recordings continue in the kernel, and the next start adopts them.

Exit status:
  0  ended by a signal
  1  failed
  2  wrong usage";

/// Record the system calls of a command or container, and turn them into a result such as a seccomp profile.
///
/// gadgetd records with one eBPF program and passes the recording to a gadget, a sandboxed WebAssembly component. The
/// gadget `seccomp` makes a seccomp policy, which a formatter turns into a profile. `seccomp-diff` compares the recording
/// with a profile.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES, after_long_help = EXAMPLES, max_term_width = 100)]
pub(crate) struct Cli {
    /// Log more to standard error; repeat for debug. `RUST_LOG` accepts finer filters.
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,

    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Record a command, a process or a cgroup, and run a gadget on the recording.
    #[command(override_usage = RUN_USAGE, after_help = RUN_AFTER, after_long_help = RUN_AFTER)]
    Run(RunArgs),
    /// Run a command under a seccomp profile, as an OCI runtime would enforce it.
    #[command(after_help = CONFINE_AFTER, after_long_help = CONFINE_AFTER)]
    Confine(ConfineArgs),
    #[cfg(feature = "registry")]
    /// Create, build, test and publish a gadget or a formatter.
    Module(ModuleArgs),
    #[cfg(feature = "cluster")]
    /// Record on a node of a cluster, as Trace objects ask for.
    #[command(after_help = SERVE_AFTER, after_long_help = SERVE_AFTER)]
    Serve(ServeArgs),
}

#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("what").required(true).args(["gadget", "gadget_module"]),
    group = ArgGroup::new("target").required(true).args(["pid", "cgroup", "command", "list_params"]),
)]
pub(crate) struct RunArgs {
    /// The built-in gadget to run: `seccomp` or `seccomp-diff`.
    #[arg(value_name = "GADGET")]
    pub gadget: Option<String>,

    /// Run this WebAssembly component instead of a built-in gadget: a path, such as `./mine.wasm`, or a reference to a
    /// registry, such as `ghcr.io/me/mine:1.0`.
    #[arg(long = "gadget", id = "gadget_module", value_name = "FILE|REFERENCE")]
    pub gadget_module: Option<String>,

    /// The formatter of the result: a built-in one (`oci`, `spo`, `table`, `html`, `systemd`), the path of a component,
    /// such as `./mine.wasm`, or a reference to a registry.
    #[arg(short, long, value_name = "NAME|FILE|REFERENCE", default_value = "oci")]
    pub formatter: String,

    /// A parameter of the gadget or the formatter; may be repeated. `NAME=@FILE` reads the value from a file.
    #[arg(short, long = "param", value_name = "NAME=VALUE", value_parser = parameter)]
    pub params: Vec<String>,

    /// List the parameters of the gadget and the formatter, and record nothing.
    #[arg(long)]
    pub list_params: bool,

    /// Record this process, its threads and its descendants.
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(i32).range(1..))]
    pub pid: Option<i32>,

    /// Record this cgroup (version 2): a path below the root of the hierarchy. It need not exist yet.
    #[arg(long, value_name = "PATH")]
    pub cgroup: Option<String>,

    /// The recorder. `auto` uses eBPF if gadgetd may load it, which needs root; otherwise, for a command, seccomp user
    /// notification. That needs no privileges, but slows each system call down, and setuid programs gain no privileges.
    #[arg(long, value_name = "RECORDER", value_enum, default_value = "auto")]
    pub recorder: RecorderName,

    /// End the recording after this time, such as `30s`, `5m` or `1h 30m`.
    #[arg(short, long, value_name = "TIME", value_parser = time)]
    pub timeout: Option<Duration>,

    /// Write the result to this file instead of standard output.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Write the input and output of the gadget to this file, even if the gadget fails. `gadgetd module test --replay
    /// FILE` runs it again, on any machine.
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,

    /// The command to record, with its arguments.
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,

    #[cfg(feature = "registry")]
    #[command(flatten)]
    pub trust: TrustArgs,

    #[cfg(feature = "registry")]
    #[command(flatten)]
    pub registry: RegistryArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ConfineArgs {
    /// The profile: JSON, in the format of `linux.seccomp` in the OCI runtime specification.
    #[arg(short, long, value_name = "FILE")]
    pub profile: PathBuf,

    /// Set `no_new_privs` before loading the filter, like `noNewPrivileges: true` of a container. Without `CAP_SYS_ADMIN`
    /// gadgetd always sets it, because the kernel requires it.
    #[arg(long)]
    pub no_new_privileges: bool,

    /// The OCI runtime to imitate. They differ in calls that are newer than every call in the profile: runc answers `ENOSYS`,
    /// crun takes the default action.
    #[arg(long = "as", value_name = "RUNTIME", default_value = "runc")]
    pub runtime: OciRuntime,

    /// The command to run, with its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// An OCI runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OciRuntime {
    Runc,
    Crun,
}

#[cfg(feature = "cluster")]
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// The name of this node in the cluster.
    #[arg(long, env = "NODE_NAME", value_name = "NAME")]
    pub node: String,

    /// The runtime's own namespace. Traces in it may record pods of any namespace.
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAME", default_value = "gadget")]
    pub namespace: String,

    /// The folder of the journal of recordings. It must outlive this process, but not a reboot.
    #[arg(long, env = "GADGETD_STATE_DIR", value_name = "DIR", default_value = "/run/gadgetd")]
    pub state_dir: PathBuf,

    /// The folder for pinned recordings, which continue without this process: a separate folder on a bpf file system.
    #[arg(long, env = "GADGETD_PIN_DIR", value_name = "DIR", default_value = "/sys/fs/bpf/gadgetd")]
    pub pin_dir: PathBuf,

    /// The maximum number of containers recorded at once, including those about to start.
    #[arg(long, env = "GADGETD_SLOTS", value_name = "N", default_value_t = 8_192)]
    pub slots: u32,

    /// The folder of fetched and compiled modules.
    #[arg(long, env = "GADGETD_CACHE_DIR", value_name = "DIR", default_value = "/var/cache/gadgetd")]
    pub cache_dir: PathBuf,

    /// The folder from which the kubelet reads seccomp profiles.
    #[arg(long, env = "GADGETD_SECCOMP_DIR", value_name = "DIR", default_value = "/var/lib/kubelet/seccomp")]
    pub seccomp_dir: PathBuf,

    /// The mount point of the host's root, below which container runtimes keep their state.
    #[arg(long, env = "GADGETD_HOST_ROOT", value_name = "DIR", default_value = "/")]
    pub host_root: PathBuf,

    /// The address that serves /healthz, /readyz and /metrics.
    #[arg(long, env = "GADGETD_LISTEN", value_name = "ADDRESS", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,

    /// The format of the log on standard error.
    #[arg(long, env = "GADGETD_LOG_FORMAT", value_name = "FORMAT", value_enum, default_value = "text")]
    pub log_format: LogFormat,

    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// The recorder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RecorderName {
    /// eBPF if gadgetd may load it, otherwise seccomp user notification.
    Auto,
    /// The eBPF program.
    Ebpf,
    /// Seccomp user notification.
    Notify,
}

/// The format of the log.
#[cfg(feature = "cluster")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines of text.
    Text,
    /// One JSON object on each line.
    Json,
}

fn parameter(text: &str) -> Result<String, ParameterError> {
    parameter::parse(text).map(|(name, value)| format!("{name}={value}"))
}

fn time(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("nothing can be recorded in no time".into()),
        Ok(time) => Ok(time),
        Err(e) => Err(format!("{e}; write it as 30s, 5m or 1h30m")),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, error::ErrorKind};

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
        let line = "gadgetd run seccomp --timeout 1m30s --param a=b=c -p d= -o f --formatter table -- ls -l";
        let Ok(Cli { command: Command::Run(run), .. }) = parse(line) else { panic!("{line}") };
        assert_eq!(run.gadget.as_deref(), Some("seccomp"));
        assert_eq!(run.timeout, Some(Duration::from_secs(90)));
        assert_eq!(run.params, ["a=b=c", "d="]);
        assert_eq!(run.command, ["ls", "-l"]);
        let line = "gadgetd run seccomp --param a=@@b -- ls";
        let Ok(Cli { command: Command::Run(run), .. }) = parse(line) else { panic!("{line}") };
        assert_eq!(run.params, ["a=@b"]);
    }

    #[test]
    fn wrong_lines_are_refused() {
        for (line, kind) in [
            ("gadgetd", ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand),
            ("gadgetd walk", ErrorKind::InvalidSubcommand),
            ("gadgetd run seccomp", ErrorKind::MissingRequiredArgument),
            ("gadgetd run -- ls", ErrorKind::MissingRequiredArgument),
            ("gadgetd run seccomp ls", ErrorKind::UnknownArgument),
            ("gadgetd run seccomp --gadget x.wasm -- ls", ErrorKind::ArgumentConflict),
            ("gadgetd run seccomp --pid 1 -- ls", ErrorKind::ArgumentConflict),
            ("gadgetd run seccomp --pid 1 --cgroup x", ErrorKind::ArgumentConflict),
            ("gadgetd run seccomp --pid 0", ErrorKind::ValueValidation),
            ("gadgetd run seccomp --pid -3", ErrorKind::UnknownArgument),
            ("gadgetd run seccomp --pid x", ErrorKind::ValueValidation),
            ("gadgetd run seccomp --timeout 30 -- ls", ErrorKind::ValueValidation),
            ("gadgetd run seccomp --recorder ptrace -- ls", ErrorKind::InvalidValue),
            ("gadgetd run seccomp --timeout 0s -- ls", ErrorKind::ValueValidation),
            ("gadgetd run seccomp --param a -- ls", ErrorKind::ValueValidation),
            ("gadgetd run seccomp --param =a -- ls", ErrorKind::ValueValidation),
            ("gadgetd run seccomp --param a=@/no/such/file -- ls", ErrorKind::ValueValidation),
            ("gadgetd confine -- ls", ErrorKind::MissingRequiredArgument),
            ("gadgetd confine --profile p", ErrorKind::MissingRequiredArgument),
            #[cfg(feature = "cluster")]
            ("gadgetd serve --node n --slots x", ErrorKind::ValueValidation),
            #[cfg(feature = "cluster")]
            ("gadgetd serve --node n --listen 8080", ErrorKind::ValueValidation),
            #[cfg(feature = "cluster")]
            ("gadgetd serve --node n --log-format xml", ErrorKind::InvalidValue),
        ] {
            assert_eq!(parse(line).map(|_| ()), Err(kind), "{line}");
        }
    }
}
