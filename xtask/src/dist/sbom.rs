//! What programs and the image are made of, as SBOM documents of `cargo cyclonedx`.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use gadgetd_artifacts::{target::Target, toolchain::find_program, workspace};
use serde_json::{Value, json};

use super::{VERSION, archive, programs::Program};
use crate::{
    files,
    process::{cargo, run as run_command},
};

/// Workspaces that gadgetd has parts of built in: their manifests, the targets, and the folders of the packages.
const BUILT_IN: [(&str, &str, &str); 2] = [
    ("Cargo.toml", "wasm32-unknown-unknown", "gadgets"),
    ("ebpf/programs/Cargo.toml", "bpfel-unknown-none", "ebpf"),
];

/// Of gadgets, only for those who learn to write one.
const EXAMPLES: &str = "gadgets/examples";

/// Installs the tool if it is not here: nothing else needs it.
pub(super) fn provide() -> Result<()> {
    if find_program("cargo-cyclonedx").is_some() {
        return Ok(());
    }
    run_command(&mut cargo(["install", "--locked", "cargo-cyclonedx", "--version", "0.5.9"]))
}

/// Writes a document for each program, and one for the image.
pub(super) fn write(built: &[Program], to: &Path) -> Result<()> {
    let work = tempfile::tempdir()?;
    // A copy: the tool writes beside the manifests.
    let sources = work.path().join("sources");
    fs::create_dir(&sources)?;
    let packed = work.path().join("sources.tar");
    run_command(
        Command::new("git").arg("archive").arg("--output").arg(&packed).arg("HEAD").current_dir(workspace()),
    )?;
    run_command(Command::new("tar").arg("-xf").arg(&packed).arg("-C").arg(&sources))?;

    let mut built_in = Vec::new();
    for (manifest, target, folder) in BUILT_IN {
        describe(&sources, manifest, target)?;
        built_in.extend(documents(&sources, folder)?);
    }
    let mut image = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": { "component": {
            "type": "container", "name": "gadgetd", "version": VERSION, "bom-ref": gadgetd_image::reference(),
        } },
    });
    for target in Target::ALL {
        describe(&sources, "Cargo.toml", target.triple())?;
        for program in built.iter().filter(|program| program.target == target) {
            let folder = if program.name == "gadgetd" { "runtime/gadgetd" } else { "runtime/cli" };
            let mut document = documents(&sources, folder)?.pop().context("cargo cyclonedx wrote nothing")?;
            if program.name == "gadgetd" {
                for part in &built_in {
                    add(&mut document, part);
                }
                add(&mut image, &document);
                add(&mut image, &debian(&target.root().context("gadgetd is for Linux")?)?);
            }
            let name = archive::name(program.name, VERSION, target).replace(".tar.gz", ".cdx.json");
            fs::write(to.join(name), serde_json::to_vec_pretty(&document)?)?;
        }
    }
    let name = format!("gadgetd-{VERSION}-image.cdx.json");
    Ok(fs::write(to.join(name), serde_json::to_vec_pretty(&image)?)?)
}

/// Has the documents of a workspace's programs and components written, each beside its manifest.
fn describe(sources: &Path, manifest: &str, target: &str) -> Result<()> {
    let mut describe =
        cargo(["cyclonedx", "--format", "json", "--spec-version", "1.5", "--describe", "binaries"]);
    describe
        .args(["--no-build-deps", "--quiet", "--target", target, "--manifest-path"])
        .arg(sources.join(manifest));
    // Without it, each document has a number and a time of its own.
    run_command(describe.env("SOURCE_DATE_EPOCH", "0"))
}

/// The documents below a folder, which have no path of the machine in them.
fn documents(sources: &Path, folder: &str) -> Result<Vec<Value>> {
    let here = format!("path+file://{}", sources.display());
    let there = format!("git+{}", env!("CARGO_PKG_REPOSITORY"));
    let below = sources.join(folder);
    let files = files::below(&below)?.into_iter().map(|file| below.join(file));
    let is_wanted = |file: &PathBuf| {
        file.to_string_lossy().ends_with(".cdx.json") && !file.starts_with(sources.join(EXAMPLES))
    };
    let read = |file: PathBuf| -> Result<Value> {
        // The second is in the addresses of packages beside their workspace.
        let text =
            fs::read_to_string(&file)?.replace(&here, &there).replace(&sources.display().to_string(), "");
        let mut document: Value = serde_json::from_str(&text)?;
        // The epoch, which says nothing.
        if let Some(metadata) = document["metadata"].as_object_mut() {
            metadata.remove("timestamp");
        }
        Ok(document)
    };
    files.filter(is_wanted).map(read).collect()
}

/// The packages that are unpacked in a folder.
fn debian(root: &Path) -> Result<Value> {
    let folder = root.join(crate::debian::STATUS);
    let mut components = Vec::new();
    for file in files::below(&folder)? {
        let status = fs::read_to_string(folder.join(&file))?;
        let field = |name: &str| {
            let mut fields = status.lines().filter_map(|line| line.split_once(": "));
            let (_, value) =
                fields.find(|(field, _)| *field == name).with_context(|| format!("{file} has no {name}"))?;
            anyhow::Ok(value)
        };
        let (name, version, architecture) = (field("Package")?, field("Version")?, field("Architecture")?);
        let purl = format!("pkg:deb/debian/{name}@{}?arch={architecture}", version.replace('+', "%2B"));
        components.push(json!({
            "type": "library", "name": name, "version": version, "purl": purl, "bom-ref": purl,
        }));
    }
    Ok(json!({ "components": components }))
}

/// Adds the components of one document, the one it is about included, to another. Each stands there once.
fn add(document: &mut Value, part: &Value) {
    for (list, key) in [("components", "bom-ref"), ("dependencies", "ref")] {
        let old = document[list].as_array().into_iter().flatten();
        let new = part[list].as_array().into_iter().flatten();
        let about = part.pointer("/metadata/component").filter(|_| list == "components");
        let all =
            old.chain(about).chain(new).filter_map(|one| Some((one[key].as_str()?.to_owned(), one.clone())));
        document[list] = all.collect::<BTreeMap<_, _>>().into_values().collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_of_two_parts_stands_there_once() {
        let component = |name: &str| json!({ "name": name, "bom-ref": name });
        let mut document = json!({
            "metadata": { "component": component("gadgetd") },
            "components": [component("serde")],
            "dependencies": [{ "ref": "gadgetd", "dependsOn": ["serde"] }],
        });
        let part = json!({
            "metadata": { "component": component("formatter") },
            "components": [component("serde"), component("itoa")],
            "dependencies": [{ "ref": "formatter", "dependsOn": ["serde", "itoa"] }],
        });
        add(&mut document, &part);
        assert_eq!(
            document["components"],
            json!([component("formatter"), component("itoa"), component("serde")])
        );
        assert_eq!(document["dependencies"].as_array().map(Vec::len), Some(2));
        assert_eq!(document["metadata"]["component"]["name"], "gadgetd");
    }

    #[test]
    fn packages_are_named_by_what_debian_says_of_them() -> Result<()> {
        let root = tempfile::tempdir()?;
        let folder = root.path().join(crate::debian::STATUS);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("libc6"), "Package: libc6\nVersion: 2.36-9+deb12u1\nArchitecture: arm64\n")?;
        let found = debian(root.path())?;
        assert_eq!(found["components"][0]["purl"], "pkg:deb/debian/libc6@2.36-9%2Bdeb12u1?arch=arm64");
        Ok(())
    }
}
