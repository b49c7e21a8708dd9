//! Writes the custom resource definitions into a folder, one file each; without one, to standard output.
//!
//! `cargo run -p gadgetd-kube --example crds -- deploy/crds`

use std::{env, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = env::args_os().nth(1).map(PathBuf::from);
    for crd in gadgetd_kube::crds::crds() {
        let yaml = gadgetd_kube::crds::to_yaml(&crd)?;
        match &folder {
            Some(folder) => fs::write(folder.join(gadgetd_kube::crds::file_name(&crd)), yaml)?,
            None => print!("{yaml}"),
        }
    }
    Ok(())
}
