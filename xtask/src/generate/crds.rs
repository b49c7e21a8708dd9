//! The custom resource definitions, from the types in `runtime/kube`.

use std::{collections::BTreeMap, fmt::Write as _, fs, process::Command};

use anyhow::{Context, Result};
use gadgetd_artifacts::{target_dir, workspace};

use super::Generated;
use crate::process::{cargo, run as run_command};

pub(super) const FOLDER: &str = "deploy/crds";

pub(super) const KUSTOMIZATION: &str = "kustomization.yaml";

/// The definitions by file name.
fn definitions() -> Result<BTreeMap<String, String>> {
    // With the features that the whole workspace has, as the tests are built: else half of it would compile anew.
    run_command(&mut cargo(["build", "--release", "--locked", "--workspace", "--example", "crds"]))?;
    let folder = tempfile::tempdir()?;
    run_command(Command::new(target_dir().join("release/examples/crds")).arg(folder.path()))?;
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder.path())? {
        let entry = entry?;
        files.insert(entry.file_name().to_string_lossy().into_owned(), fs::read_to_string(entry.path())?);
    }
    Ok(files)
}

pub(super) fn files() -> Result<Vec<Generated>> {
    let definitions = definitions()?;
    let mut kustomization =
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n".to_owned();
    for name in definitions.keys() {
        writeln!(kustomization, "- {name}")?;
    }
    let all = definitions.into_iter().chain([(KUSTOMIZATION.to_owned(), kustomization)]);
    Ok(all.map(|(name, content)| Generated::new(format!("{FOLDER}/{name}"), content)).collect())
}

/// Files that no type stands behind any more; removed, unless this is a check.
pub(super) fn strangers(check: bool) -> Result<Vec<String>> {
    let folder = workspace().join(FOLDER);
    let listed = fs::read_to_string(folder.join(KUSTOMIZATION)).unwrap_or_default();
    let mut strangers = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name == KUSTOMIZATION || listed.lines().any(|line| line.strip_prefix("- ") == Some(&name)) {
            continue;
        }
        if !check {
            fs::remove_file(folder.join(&name))?;
            eprintln!("{FOLDER}/{name} is removed");
        }
        strangers.push(format!("{FOLDER}/{name}"));
    }
    Ok(strangers)
}
