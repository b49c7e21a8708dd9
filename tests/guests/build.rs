//! Builds the modules that misbehave.

fn main() {
    gadgetd_artifacts::rerun_if_changed(gadgetd_artifacts::Sources::Components);
    for path in ["choice.rs", "gadget", "formatter"] {
        println!("cargo::rerun-if-changed={path}");
    }
    let files =
        gadgetd_artifacts::or_fail(gadgetd_artifacts::components(&["hostile-gadget", "hostile-formatter"]));
    println!("cargo::rustc-env=HOSTILE_GADGET={}", files[0].display());
    println!("cargo::rustc-env=HOSTILE_FORMATTER={}", files[1].display());
}
