//! Builds the modules that are a part of gadgetd, for `src/modules/source.rs` to embed.

fn main() {
    gadgetd_artifacts::rerun_if_changed(gadgetd_artifacts::Sources::Components);
    let mut packages = vec!["seccomp-advisor", "formatter-oci"];
    if std::env::var_os("CARGO_FEATURE_ALL_MODULES").is_some() {
        packages.extend([
            "seccomp-diff",
            "formatter-html",
            "formatter-spo",
            "formatter-systemd",
            "formatter-table",
        ]);
    }
    let files = gadgetd_artifacts::or_fail(gadgetd_artifacts::components(&packages));
    for (package, file) in packages.iter().zip(files) {
        let variable = package.replace('-', "_").to_uppercase();
        println!("cargo::rustc-env=COMPONENT_{variable}={}", file.display());
    }
}
