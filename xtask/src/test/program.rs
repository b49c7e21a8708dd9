//! The test programs of the workspace, and the tier of each.

use std::{
    fmt,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use serde_json::Value;

use crate::process::show;

/// Tests that cost alike and need alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tier {
    /// The domain, the gadgets and formatters compiled for this machine, the SDK, the examples in the documentation
    Pure,
    /// Real components, good and hostile, in the host, and out of a real registry
    Host,
    /// Modules in Rust, Python, JavaScript and C, built from templates and examples with the tools of their languages
    Languages,
    /// The real eBPF program and the command line, compared with strace; needs root
    Kernel,
    /// Profiles enforced by runc and crun; needs root
    Enforced,
    /// The controller, and `gadgetd serve`, against a real API server, which is built first; the latter needs root
    Api,
    /// What the tiers `kernel` and `enforced` try, on stock kernels from the oldest to the newest, in emulated machines
    Vm,
    /// Pods on a real node, which is built first; needs root. `cargo xtask e2e` runs it
    Node,
}

impl Tier {
    /// What runs when no tier is named.
    pub(crate) const USUAL: [Self; 7] =
        [Self::Pure, Self::Host, Self::Languages, Self::Kernel, Self::Enforced, Self::Api, Self::Vm];

    /// The tier of a test program. What is not known to need anything is pure.
    fn of(package: &str, target: &str) -> Self {
        match (package, target) {
            (_, "enforced") => Self::Enforced,
            ("gadgetd", "projects" | "hostile") => Self::Languages,
            ("gadgetd-e2e", "gadgetd_e2e" | "gadgetd-e2e") => Self::Pure,
            ("gadgetd-kube-tests", _)
            | ("gadgetd-e2e", "api_server")
            | ("gadgetd", "gadgets" | "serve")
            | ("gadgetd-cli", "cluster") => Self::Api,
            ("gadgetd-e2e", _) => Self::Node,
            ("gadgetd-host" | "gadgetd-guests" | "gadget-testing" | "gadgetd-registry-tests", _)
            | ("gadgetd-node", "objects")
            | ("gadgetd", "distribution") => Self::Host,
            (
                "gadgetd" | "gadgetd-bench" | "gadgetd-containers" | "gadgetd-fidelity" | "gadgetd-tracer",
                _,
            ) => Self::Kernel,
            _ => Self::Pure,
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.pad(value.as_ref().map_or("", |value| value.get_name()))
    }
}

/// A compiled test program.
pub(crate) struct Program {
    pub tier: Tier,
    /// As in its manifest.
    pub name: String,
    pub executable: PathBuf,
    /// Tests run in the folder of their package, as with `cargo test`.
    pub folder: PathBuf,
}

/// Compiles, and returns the tests among what was compiled.
pub(crate) fn compile(mut build: Command) -> Result<Vec<Program>> {
    build.arg("--message-format=json-render-diagnostics").stdout(Stdio::piped());
    eprintln!("+ {}", show(&build));
    let mut child = build.spawn().context("cannot start cargo")?;
    let messages = child.stdout.take().context("cargo has no stdout")?;
    let mut programs = Vec::new();
    for line in BufReader::new(messages).lines() {
        let message: Value = serde_json::from_str(&line?).context("cargo wrote something else than JSON")?;
        programs.extend(test_program(&message));
    }
    let status = child.wait()?;
    ensure!(status.success(), "the tests cannot be compiled");
    programs.sort_by(|a: &Program, b| a.executable.cmp(&b.executable));
    Ok(programs)
}

/// The test program that a message of cargo's tells of.
fn test_program(message: &Value) -> Option<Program> {
    let executable = message["executable"].as_str().filter(|_| message["profile"]["test"] == true)?;
    let folder = Path::new(message["manifest_path"].as_str()?).parent()?;
    // `path+file:///folder#name@version`, or without the name where the folder has it.
    let (location, version) = message["package_id"].as_str()?.rsplit_once('#')?;
    let package =
        version.split_once('@').map_or_else(|| location.rsplit('/').next(), |(name, _)| Some(name))?;
    let name = message["target"]["name"].as_str()?;
    let tier = Tier::of(package, name);
    Some(Program { tier, name: name.to_owned(), executable: executable.into(), folder: folder.to_path_buf() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn cargo_tells_of_test_programs() {
        let message = |test: bool, id: &str, target: &str| {
            json!({
                "reason": "compiler-artifact",
                "package_id": id,
                "manifest_path": "/somewhere/tests/fidelity/Cargo.toml",
                "target": { "name": target },
                "profile": { "test": test },
                "executable": "/target/release/deps/x-1",
            })
        };
        let named = "path+file:///somewhere/tests/fidelity#gadgetd-fidelity@0.1.0";
        let program = test_program(&message(true, named, "enforced")).expect("it is a test");
        assert_eq!((program.tier, program.folder), (Tier::Enforced, "/somewhere/tests/fidelity".into()));
        let tier = |id, target| test_program(&message(true, id, target)).map(|program| program.tier);
        assert_eq!(tier(named, "programs"), Some(Tier::Kernel));
        let gadgetd = "path+file:///somewhere/runtime/gadgetd#0.1.0";
        assert_eq!(tier(gadgetd, "gadgetd"), Some(Tier::Kernel));
        assert_eq!(tier(gadgetd, "projects"), Some(Tier::Languages));
        assert_eq!(
            tier("path+file:///somewhere/runtime/core#gadgetd-core@0.1.0", "gadgetd_core"),
            Some(Tier::Pure)
        );
        let e2e = "path+file:///somewhere/tests/e2e#gadgetd-e2e@0.1.0";
        assert_eq!(tier(e2e, "api_server"), Some(Tier::Api));
        assert_eq!(tier(e2e, "seed"), Some(Tier::Node));
        assert!(test_program(&message(false, named, "enforced")).is_none());
    }
}
