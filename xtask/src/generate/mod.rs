//! `cargo xtask generate`: files that are made from other files.

mod chart;
mod crds;
mod engine;
mod systemd;
mod version;
mod wit;
mod x32;

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use gadgetd_artifacts::workspace;

/// A file as it has to be.
pub(super) struct Generated {
    /// Its path from the root of the workspace.
    path: String,
    content: String,
}

impl Generated {
    fn new(path: impl Into<String>, content: impl Into<String>) -> Self {
        Self { path: path.into(), content: content.into() }
    }
}

/// Writes the generated files anew, or only looks whether they are up to date.
pub(crate) fn run(check: bool) -> Result<()> {
    let mut stale = Vec::new();
    // In this order: the chart is made from what the others write.
    for files in
        [x32::files, systemd::files, engine::files, wit::files, crds::files, version::files, chart::files]
    {
        for Generated { path, content } in files()? {
            let full = workspace().join(&path);
            if fs::read_to_string(&full).is_ok_and(|there| there == content) {
                continue;
            }
            if !check {
                let folder = full.parent().context("a file is in a folder")?;
                fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
                fs::write(&full, content).with_context(|| format!("cannot write {}", full.display()))?;
                eprintln!("{path} is written");
            }
            stale.push(path);
        }
    }
    stale.extend(crds::strangers(check)?);
    ensure!(
        !check || stale.is_empty(),
        "not what their sources say: {}; run `cargo xtask generate`",
        stale.join(", ")
    );
    eprintln!("the generated files are up to date");
    Ok(())
}

/// Reads a file of the workspace.
fn read(path: impl AsRef<Path>) -> Result<String> {
    let full = workspace().join(path);
    fs::read_to_string(&full).with_context(|| format!("cannot read {}", full.display()))
}
