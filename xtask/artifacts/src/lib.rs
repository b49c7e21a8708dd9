//! Finds the toolchains for eBPF and WebAssembly, and builds what gadgetd embeds.
