//! Records which system calls each container makes. A container is a cgroup v2; what it did is one bit per call
//! in a slot of its own.
//!
//! - [`calls`]: `sys_enter`, the program that runs at every call.
//! - [`refused`]: `sys_exit`, for calls that a seccomp filter did not let run.
//! - [`slots`]: bits of a slot.
//! - [`entrant`]: how far an OCI runtime has come in preparing a container.
//! - [`lineage`]: `fork`, `exec` and moves between cgroups: is a task the container's application, or an OCI
//!   runtime that prepares the container?
//! - [`cgroups`]: new cgroups get a slot, or share the one of the container that made them.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod atomic;
mod cache;
mod calls;
mod cgroups;
mod entrant;
mod kernel;
mod lineage;
mod maps;
mod refused;
mod slots;

#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier proves that nothing here can panic: a program in which this is reachable is refused.
    loop {}
}
