//! `cargo xtask`: what this project does to itself.
//!
//! ```console
//! $ cargo xtask demo      # from a bare machine to an enforced seccomp profile
//! $ cargo xtask test      # every tier, with a summary
//! ```
//!
//! Each command makes sure of what it needs, so none has to be typed before another.

mod bench;
mod build;
mod ci;
mod debian;
mod demo;
mod dist;
mod files;
mod generate;
mod image;
mod kube_assets;
mod process;
mod runtimes;
mod setup;
mod test;
mod vm;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use gadgetd_artifacts::target::Target;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "Sets up, builds, demonstrates, tests and measures gadgetd"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Installs what building and testing need, says what and why; changes nothing that is there
    Setup,
    /// Builds the eBPF object, the gadgets and formatters, and target/release/gadgetd
    Build {
        /// Build for another system, into target/TARGET/release: aarch64-unknown-linux-gnu for one
        #[arg(long)]
        target: Option<Target>,
        /// What cargo is to build for that system instead of the programs: -- --release --package gadgetd-core --tests
        #[arg(last = true, requires = "target")]
        what: Vec<String>,
    },
    /// Records a real server, prints its seccomp profile, and shows that the profile holds
    Demo,
    /// Runs the tests, tier by tier, and sums up
    Test {
        /// The tiers to run; all of them but `node` if none is named
        tiers: Vec<test::Tier>,
        /// Of the tier `vm`, only the machines with the kernel of this Debian release, such as `sid`
        #[arg(long, value_name = "RELEASE")]
        kernel: Option<String>,
    },
    /// Runs the tests on a real node: the tier `node`
    E2e,
    /// Measures what recording and gadgets cost
    Bench {
        /// Passed on to the benchmarks
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Writes the generated files anew
    Generate {
        /// Changes nothing, and fails if a file would change
        #[arg(long)]
        check: bool,
    },
    /// Finds or builds the Kubernetes that the cluster tests start, and prints its folder
    KubeAssets(kube_assets::Args),
    /// Fetches the OCI runtimes of other Debian releases that the tests run, and lists them
    Runtimes,
    /// Writes the container image as an OCI archive, without a daemon or a registry
    Image(image::Args),
    /// Builds a release for every system, the same bytes from the same commit, into target/dist
    Dist,
    /// Checks format, lints, licences, documentation and generated files
    Ci,
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Setup => setup::run(),
        Command::Build { target: None, .. } => build::run().map(drop),
        Command::Build { target: Some(target), what } => build::cross(target, &what),
        Command::Demo => demo::run(),
        Command::Test { tiers, kernel } => test::run(&tiers, kernel.as_deref()),
        Command::E2e => test::run(&[test::Tier::Node], None),
        Command::Bench { arguments } => bench::run(&arguments),
        Command::Generate { check } => generate::run(check),
        Command::KubeAssets(args) => kube_assets::run(&args),
        Command::Runtimes => runtimes::run(),
        Command::Image(args) => image::run(&args),
        Command::Dist => dist::run(),
        Command::Ci => ci::run(),
    }
}
