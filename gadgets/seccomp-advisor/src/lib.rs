//! Gadget: from recorded system calls to a seccomp policy
