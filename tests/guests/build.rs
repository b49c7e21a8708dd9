//! Builds the modules that misbehave, and others that only tests run.

fn main() {
    gadgetd_artifacts::rerun_if_changed(gadgetd_artifacts::Sources::Components);
    for path in ["choice.rs", "caller", "gadget", "formatter", "previous"] {
        println!("cargo::rerun-if-changed={path}");
    }
    let packages = [
        "hostile-gadget",
        "hostile-formatter",
        "caller-gadget",
        "previous-gadget",
        "example-count",
        "example-workload-configmap",
    ];
    let files = gadgetd_artifacts::or_fail(gadgetd_artifacts::components(&packages));
    for (package, file) in packages.iter().zip(files) {
        let variable = package.replace('-', "_").to_uppercase();
        println!("cargo::rustc-env={variable}={}", file.display());
    }
}
