//! The demonstration that the project's users begin with, on a real node: `seed.console`, from top to bottom.
//!
//! It is read when the test runs, not when it is compiled: whoever edits it can try it at once.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use gadgetd_e2e::images::{self, Image};
use gadgetd_e2e::{Node, Runtime, Shell, Tier, assets};
use gadgetd_kube_tests::spo::releases;

/// Named in the script as `$SPO`: the definition of `SeccompProfile` in the oldest release that gadgetd writes for.
fn definition() -> Result<String> {
    let oldest = releases()?.into_iter().find(|release| release.version == "v1alpha1");
    let mut crd = serde_json::to_value(oldest.context("a release with v1alpha1")?.crd)?;
    crd["apiVersion"] = "apiextensions.k8s.io/v1".into();
    crd["kind"] = "CustomResourceDefinition".into();
    Ok(crd.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demonstration_from_the_first_line_to_the_last() -> Result<()> {
    if assets(Tier::Node).is_none() {
        return Ok(());
    }
    let node = Node::start().await?;
    node.import(&images::build(Image::Demo)?)?;
    Runtime::load_image(&node)?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("seccompprofiles.json");
    fs::write(&file, definition()?)?;

    let mut shell = Shell::on(&node)?;
    shell.set("SPO", &file.display().to_string())?;
    shell.run(&script()?).with_context(|| Runtime::of(&node).account())
}

fn script() -> Result<String> {
    Ok(fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/seed.console"))?)
}

#[test]
fn the_readme_types_what_the_demonstration_types() -> Result<()> {
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md"))?;
    let (_, section) = readme.split_once("\n## On a cluster\n").context("a section about clusters")?;
    let (section, _) = section.split_once("\n## ").context("another section")?;
    let script = script()?;
    let typed = section.lines().filter_map(|line| line.strip_prefix("$ "));
    let typed: Vec<_> = typed.map(|line| line.split("  #").next().unwrap_or(line).trim_end()).collect();
    ensure!(typed.len() > 2, "{typed:?}");
    for command in typed {
        // The README's shop is anybody's.
        let here = command.replace("shop", "seccomp-demo").replace("cart-0", "hello-python");
        let here = match here.rsplit_once(' ') {
            Some((before, id)) if before.ends_with("stop") && id.len() == 16 => format!("{before} $id"),
            _ => here,
        };
        ensure!(script.contains(&here), "{command} is in the README, and not in the demonstration");
    }
    Ok(())
}
