//! Write gadgets and formatters in Rust
