//! `gadgetd module new` embeds folders, and the macro that does it cannot tell cargo of files that come and go.

fn main() {
    for folder in ["../../sdk/templates", "../../sdk/wit"] {
        println!("cargo::rerun-if-changed={folder}");
    }
}
