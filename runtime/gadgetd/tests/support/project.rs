//! Projects of modules, built by `gadgetd module build` with the tools of their languages.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{Mutex, PoisonError},
};

use gadgetd_artifacts::cache::tools;
use gadgetd_artifacts::{target_dir, workspace};
use gadgetd_host::ModuleRef;
use tempfile::TempDir;

use super::GADGETD;

/// `gadgetd module`, with the tools of every language, in a folder. It has nobody to ask for its own SDK.
pub fn module(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(GADGETD);
    command.arg("module").args(arguments).current_dir(folder).env_remove("RUST_LOG").env("LC_ALL", "C");
    command.env("PATH", tools::path()).env("GADGETD_SDK", workspace().join("sdk/rust"));
    // Compiling the standard library takes a minute: once for all, and not beside what cargo makes of the workspace.
    command.env("CARGO_TARGET_DIR", target_dir().join("artifacts/projects"));
    command
}

/// What came of it, and what it said on standard error.
pub fn output(command: &mut Command) -> (Output, String) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output, said)
}

/// A project in a folder that ends with it.
pub struct Project {
    _ends_with_this: TempDir,
    /// The folder.
    pub folder: PathBuf,
}

impl Project {
    /// Made from a template.
    pub fn new(language: &str, kind: &str) -> Self {
        let parent = tempfile::tempdir().unwrap();
        let (made, said) =
            output(&mut module(parent.path(), &["new", "my-own", "--lang", language, "--kind", kind]));
        assert!(made.status.success(), "{said}");
        let folder = parent.path().join("my-own");
        assert!(folder.join("README.md").is_file(), "{said}");
        Self { _ends_with_this: parent, folder }
    }

    /// A copy of an example.
    pub fn example(name: &str) -> Self {
        Self::copy(&workspace().join("gadgets/examples").join(name))
    }

    /// A copy of the module in this language that makes calls, or misbehaves, as it is told.
    pub fn guest(language: &str) -> Self {
        Self::copy(&workspace().join("tests/guests/languages").join(language))
    }

    /// A copy, with files for links.
    fn copy(of: &Path) -> Self {
        let parent = tempfile::tempdir().unwrap();
        let mut copy = Command::new("cp");
        copy.args(["--recursive", "--dereference"]).arg(of).arg(parent.path());
        assert!(copy.status().unwrap().success());
        let folder = parent.path().join(of.file_name().unwrap());
        Self { _ends_with_this: parent, folder }
    }

    /// The component. `None`: a tool is missing here, which was told loudly, and is a failure with `CI=true`.
    pub fn build(&self) -> Option<ModuleRef> {
        // Projects in Rust share a target folder, in which two of one name would take each other's component.
        static ONE_BY_ONE: Mutex<()> = Mutex::new(());
        let _alone = ONE_BY_ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let file = self.folder.with_extension("wasm");
        let mut build = module(&self.folder, &["build", "--output"]);
        let (outcome, said) = output(build.arg(&file));
        if said.contains(" is missing; install it: ") {
            assert!(std::env::var_os("CI").is_none(), "{said}");
            println!("SKIPPED: {} run `cargo xtask setup`", said.trim());
            return None;
        }
        assert!(outcome.status.success(), "{said}{}", String::from_utf8_lossy(&outcome.stdout));
        assert!(outcome.stdout.is_empty(), "what tools print is for people");
        Some(ModuleRef::File(file))
    }
}
