//! Formatter: the seccomp JSON of the OCI runtime specification
