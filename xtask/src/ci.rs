//! `cargo xtask ci`: what has to hold besides the tests.

use anyhow::{Context, Result, ensure};

use crate::{
    generate,
    process::{cargo, run as run_command},
    setup,
};

type Check = fn() -> Result<()>;

/// Runs every check, and fails with the names of those that found something.
pub(crate) fn run() -> Result<()> {
    setup::ensure(setup::For::Build)?;
    let checks: [(&str, Check); 6] = [
        ("format", format),
        ("generated files", || generate::run(true)),
        ("licences and sources", licences),
        ("lints", lints),
        ("warnings of the eBPF program", ebpf_warnings),
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
    let deny = ["bans", "licenses", "sources"];
    run_command(cargo(["deny", "--locked", "--workspace", "check"]).args(deny))?;
    let ebpf =
        ["deny", "--locked", "--manifest-path", "ebpf/programs/Cargo.toml", "check", "--config", "deny.toml"];
    run_command(cargo(ebpf).args(deny))
}

fn lints() -> Result<()> {
    let clippy = ["clippy", "--release", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"];
    run_command(&mut cargo(clippy))
}

/// clippy does not know the target of the eBPF program, but its compiler warns too; cargo repeats that on every build.
fn ebpf_warnings() -> Result<()> {
    let build = gadgetd_artifacts::ebpf_build()?.output().context("cannot start cargo")?;
    let said = String::from_utf8_lossy(&build.stderr);
    eprint!("{said}");
    ensure!(build.status.success(), "the eBPF program cannot be compiled");
    ensure!(!said.lines().any(|line| line.starts_with("warning")), "the compiler warns");
    Ok(())
}

fn documentation() -> Result<()> {
    let mut doc =
        cargo(["doc", "--release", "--locked", "--workspace", "--no-deps", "--document-private-items"]);
    run_command(doc.env("RUSTDOCFLAGS", "-D warnings"))
}
