//! `cargo xtask ci`: what has to hold besides the tests.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use gadgetd_artifacts::{cross::cross_check, target::Target, toolchain::Missing};
use serde_json::Value;

use crate::{
    generate,
    process::{cargo, run as run_command, show},
    setup,
};

type Check = fn() -> Result<()>;

/// Runs every check, and fails with the names of those that found something.
pub(crate) fn run() -> Result<()> {
    setup::ensure(setup::For::Test)?;
    let checks: [(&str, Check); 7] = [
        ("format", format),
        ("generated files", || generate::run(true)),
        ("licences and sources", licences),
        ("unused dependencies", unused_dependencies),
        ("lints", lints),
        ("warnings of nested builds", nested_warnings),
        ("documentation", documentation),
    ];
    let mut failed = Vec::new();
    for (name, check) in checks {
        eprintln!("\n==== {name} ====");
        if let Err(error) = check() {
            eprintln!("error: {error:#}");
            failed.push(name);
        }
    }
    ensure!(failed.is_empty(), "these checks failed: {}", failed.join(", "));
    eprintln!("\nall checks passed");
    Ok(())
}

fn format() -> Result<()> {
    run_command(&mut cargo(["fmt", "--all", "--check"]))?;
    run_command(&mut cargo(["fmt", "--manifest-path", "ebpf/programs/Cargo.toml", "--check"]))
}

/// Advisories are left out: their database has to be fetched, and a build that failed because of what was published
/// overnight would say nothing about the change at hand. `cargo deny check advisories` looks at them.
fn licences() -> Result<()> {
    let check = ["check", "bans", "licenses", "sources"];
    run_command(cargo(["deny", "--locked", "--workspace"]).args(check))?;
    let ebpf = ["deny", "--locked", "--manifest-path", "ebpf/programs/Cargo.toml", "--config", "deny.toml"];
    run_command(cargo(ebpf).args(check))
}

/// Looks for the names of dependencies in the sources, compiles nothing, and takes a second. A dependency that is there for its
/// features alone is named in the manifest, under `package.metadata.cargo-machete`.
fn unused_dependencies() -> Result<()> {
    run_command(&mut cargo(["machete", "--skip-target-dir"]))
}

fn lints() -> Result<()> {
    let clippy = ["clippy", "--release", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"];
    run_command(&mut cargo(clippy))?;
    // What the demonstration builds.
    let least = ["clippy", "--release", "--locked", "--package", "gadgetd", "--no-default-features"];
    run_command(cargo(least).args(["--", "-D", "warnings"]))
}

/// clippy has no library for the targets of the eBPF program, the components and Windows, but their compiler warns too.
/// Cargo repeats that when there is nothing to compile.
fn nested_warnings() -> Result<()> {
    let components = components()?;
    let names: Vec<&str> = components.iter().map(String::as_str).collect();
    let builds = [
        gadgetd_artifacts::ebpf_build()?,
        gadgetd_artifacts::components_build(&names)?,
        // The command line runs where people are; what it needs of a system differs there.
        windows()?,
    ];
    for mut build in builds {
        eprintln!("+ {}", show(&build));
        let output = build.output().context("cannot start cargo")?;
        let said = String::from_utf8_lossy(&output.stderr);
        eprint!("{said}");
        ensure!(output.status.success(), "it cannot be compiled");
        ensure!(!said.lines().any(|line| line.starts_with("warning")), "the compiler warns");
    }
    Ok(())
}

fn windows() -> Result<Command, Missing> {
    let mut check = cross_check(Target::WindowsAmd64)?;
    check.args(["--package", "gadgetd-cli"]);
    Ok(check)
}

/// The packages of the workspace that are components.
fn components() -> Result<Vec<String>> {
    let output = cargo(["metadata", "--locked", "--no-deps", "--format-version=1"]).output();
    let metadata: Value = serde_json::from_slice(&output.context("cannot start cargo")?.stdout)?;
    let packages = metadata["packages"].as_array().context("cargo knows no packages")?;
    let is_component = |package: &&Value| {
        let targets = package["targets"].as_array().into_iter().flatten();
        let mut kinds = targets.filter_map(|target| target["kind"].as_array()).flatten();
        kinds.any(|kind| kind == "cdylib")
    };
    let names = packages.iter().filter(is_component).filter_map(|package| package["name"].as_str());
    Ok(names.map(str::to_owned).collect())
}

fn documentation() -> Result<()> {
    let mut doc =
        cargo(["doc", "--release", "--locked", "--workspace", "--no-deps", "--document-private-items"]);
    run_command(doc.env("RUSTDOCFLAGS", "-D warnings"))
}
