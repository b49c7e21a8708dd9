//! The command line: what it takes, and how it explains itself.

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

  Record a container from its very first call; it need not exist yet:
    gadgetd run seccomp --cgroup /kubepods/besteffort/pod<uid>/<id> -o profile.json

Results go to standard output, everything for people to standard error.";

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

A command runs in a cgroup of its own, which is recorded from before its first call. Signals reach it, and \
the result still comes. When it ends, processes that it left behind are ended too. With the result on \
standard output, the command's own standard output goes to standard error.

Every profile also allows execve, exit and exit_group: without them nothing starts, and a failing start hangs. \
That of a container that an OCI runtime started allows futex and rt_sigreturn too: whether runc makes them is a \
matter of time.

Exit status:
  0  done (whatever the command's own status was: that is told on standard error)
  1  failed
  2  wrong usage
  3  the recording is incomplete; the result is still printed, and what was lost is told
  4  the gadget says that what was recorded is not as it should be; the result is still printed";

const CONFINE_AFTER: &str = "\
Examples:
  gadgetd confine --profile profile.json -- ./my-server --port 8080
  gadgetd confine --profile profile.json -- python3 -c 'import os; os.mkdir(\"x\")'

The filter is what runc and crun make of the profile with the same libseccomp: names that it does not know \
are skipped, an errno that is not given is EPERM. It is loaded right before the command is executed, so the \
profile must allow execve.

Exit status:
  the command's own; 128 + n if signal n killed it
  125  gadgetd failed, as with a profile that is not valid
  126  the command can't be executed
  127  the command is not found
  2    wrong usage";

#[cfg(feature = "cluster")]
const SERVE_AFTER: &str = "\
The cluster is that of the pod's service account, or of a kubeconfig (KUBECONFIG, ~/.kube/config). Everything that \
is recorded is in Trace objects: kubectl gadget --help.

SIGTERM ends it; recordings go on in the kernel, and the next start takes them over.

Exit status:
  0  ended by a signal
  1  failed
  2  wrong usage";

/// Record what system calls a command or container makes, and turn them into something useful.
///
/// gadgetd records with one eBPF program and hands the recording to a gadget, a sandboxed WebAssembly
/// component. The gadget `seccomp` makes a seccomp profile of it, which a formatter writes down; `seccomp-diff` compares it
/// with one.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES, after_long_help = EXAMPLES, max_term_width = 100)]
pub(crate) struct Cli {
    /// Tell more on standard error; twice: debug. `RUST_LOG` takes finer filters.
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
    /// What the author of a gadget or a formatter does with it.
    Module(ModuleArgs),
    #[cfg(feature = "cluster")]
    /// Work for a cluster, on one of its nodes: record what Traces ask for.
    #[command(after_help = SERVE_AFTER, after_long_help = SERVE_AFTER)]
    Serve(ServeArgs),
}

#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("what").required(true).args(["gadget", "gadget_module"]),
    group = ArgGroup::new("target").required(true).args(["pid", "cgroup", "command", "list_params"]),
)]
pub(crate) struct RunArgs {
    /// The built-in gadget to run: `seccomp`, or `seccomp-diff`.
    #[arg(value_name = "GADGET")]
    pub gadget: Option<String>,

    /// Run this WebAssembly component instead of a built-in gadget: the path of one, such as `./mine.wasm`, or where it is
    /// in a registry, as `ghcr.io/me/mine:1.0`.
    #[arg(long = "gadget", id = "gadget_module", value_name = "FILE|REFERENCE")]
    pub gadget_module: Option<String>,

    /// How the result is written: a built-in formatter (`oci`, `spo`, `table`), the path of a component, such as
    /// `./mine.wasm`, or where one is in a registry.
    #[arg(short, long, value_name = "NAME|FILE|REFERENCE", default_value = "oci")]
    pub formatter: String,

    /// A parameter of the gadget or the formatter; may be repeated. `NAME=@FILE` takes the value from a file.
    #[arg(short, long = "param", value_name = "NAME=VALUE", value_parser = parameter)]
    pub params: Vec<String>,

    /// List the parameters that the gadget and the formatter have, and record nothing.
    #[arg(long)]
    pub list_params: bool,

    /// Record this process, its threads and everything that descends from it.
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(i32).range(1..))]
    pub pid: Option<i32>,

    /// Record this cgroup (version 2), as a path below the root of the hierarchy. It need not exist yet.
    #[arg(long, value_name = "PATH")]
    pub cgroup: Option<String>,

    /// What records. `auto`: eBPF where it may be loaded, which needs root; otherwise, for a command, seccomp user notification,
    /// which needs no privileges, slows each system call down, and keeps setuid programs from gaining any.
    #[arg(long, value_name = "RECORDER", value_enum, default_value = "auto")]
    pub recorder: RecorderName,

    /// End the recording after this time, such as `30s`, `5m` or `1h 30m`.
    #[arg(short, long, value_name = "TIME", value_parser = time)]
    pub timeout: Option<Duration>,

    /// Write the result to this file instead of standard output.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Keep the whole run in this file, also if the gadget fails: what it saw, was answered and gave. `gadgetd module
    /// test --replay FILE` runs it again, on any machine.
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
    /// The profile: JSON, as the OCI runtime specification has it in `linux.seccomp`.
    #[arg(short, long, value_name = "FILE")]
    pub profile: PathBuf,

    /// Set `no_new_privs` before the filter is loaded, like `noNewPrivileges: true` of a container. Without
    /// `CAP_SYS_ADMIN` it is always set: the kernel takes no filter otherwise.
    #[arg(long)]
    pub no_new_privileges: bool,

    /// The command to run, with its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

#[cfg(feature = "cluster")]
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// The name of this node, as the cluster knows it.
    #[arg(long, env = "NODE_NAME", value_name = "NAME")]
    pub node: String,

    /// The runtime's own namespace: Traces there may record pods of any.
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAME", default_value = "gadget")]
    pub namespace: String,

    /// Where to keep what is recorded for whom. It must outlive this process, and need not outlive the machine.
    #[arg(long, env = "GADGETD_STATE_DIR", value_name = "DIR", default_value = "/run/gadgetd")]
    pub state_dir: PathBuf,

    /// Where to pin what is recorded, so that it goes on while this process is gone: a folder of its own on a bpf file system.
    #[arg(long, env = "GADGETD_PIN_DIR", value_name = "DIR", default_value = "/sys/fs/bpf/gadgetd")]
    pub pin_dir: PathBuf,

    /// How many containers can be recorded at once, with those that are about to start.
    #[arg(long, env = "GADGETD_SLOTS", value_name = "N", default_value_t = 8_192)]
    pub slots: u32,

    /// Where to keep compiled modules.
    #[arg(long, env = "GADGETD_CACHE_DIR", value_name = "DIR", default_value = "/var/cache/gadgetd")]
    pub cache_dir: PathBuf,

    /// Where the kubelet reads seccomp profiles from.
    #[arg(long, env = "GADGETD_SECCOMP_DIR", value_name = "DIR", default_value = "/var/lib/kubelet/seccomp")]
    pub seccomp_dir: PathBuf,

    /// Where the root of the host's file system is mounted: below it, container runtimes keep their state.
    #[arg(long, env = "GADGETD_HOST_ROOT", value_name = "DIR", default_value = "/")]
    pub host_root: PathBuf,

    /// Where to answer /healthz, /readyz and /metrics.
    #[arg(long, env = "GADGETD_LISTEN", value_name = "ADDRESS", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,

    /// How the log on standard error is written.
    #[arg(long, env = "GADGETD_LOG_FORMAT", value_name = "FORMAT", value_enum, default_value = "text")]
    pub log_format: LogFormat,

    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// What records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RecorderName {
    /// eBPF where it may be loaded, else seccomp user notification.
    Auto,
    /// The eBPF program.
    Ebpf,
    /// Seccomp user notification.
    Notify,
}

/// How a log is written.
#[cfg(feature = "cluster")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people.
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
