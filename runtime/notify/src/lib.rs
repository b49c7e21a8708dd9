//! Records a command without privileges, by seccomp user notification.
//!
//! The command runs under a seccomp filter that allows nothing by itself: for every system call, on every ABI, the kernel
//! stops the caller and asks the owner of the filter's *listener*. That is a process of its own, the supervisor, which notes
//! number and ABI and has the kernel go on. Children, threads and whatever they execute inherit the filter. The
//! supervisor notes a call before it lets it go on, so no call is made that was not noted. Decision 020 has the reasons.
//!
//! ```no_run
//! use gadgetd_core::{Machine, SyscallSource};
//! use gadgetd_notify::Notify;
//!
//! let notify = Notify::new()?;
//! let mut command = std::process::Command::new("/bin/true");
//! notify.record(&mut command);
//! command.spawn()?.wait()?;
//! for call in &notify.read(())?.syscalls {
//!     println!("{}", call.name(Machine::current()).unwrap_or("?"));
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod filter;
mod kernel;
mod notify;
mod shared;
mod supervisor;

pub use error::NotifyError;
pub use filter::export;
pub use notify::{Notify, State};
