//! gadgetd.
fn main() {}
