//! Loads the eBPF program and reads what it recorded
