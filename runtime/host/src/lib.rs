//! Runs gadgets and formatters, WebAssembly components, within limits
