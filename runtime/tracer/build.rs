//! Builds the eBPF object that the tracer embeds.

use gadgetd_artifacts::{Sources, ebpf, or_fail, rerun_if_changed};

fn main() {
    rerun_if_changed(Sources::Ebpf);
    println!("cargo::rustc-env=EBPF_OBJECT={}", or_fail(ebpf()).display());
}
