use std::io;

use libseccomp::error::SeccompError;
use thiserror::Error;

/// Why a command can't be recorded by seccomp user notification.
#[derive(Debug, Error)]
pub enum NotifyError {
    /// The kernel is too old.
    #[error("this kernel is Linux {0}; recording by seccomp notification needs Linux 5.9 or newer")]
    Kernel(String),
    /// The kernel was built without it, or something that stands for a kernel does not have it.
    #[error("this kernel has no seccomp user notification: it needs CONFIG_SECCOMP_FILTER=y")]
    Unavailable(#[source] io::Error),
    /// The kernel's structures are larger than any that is known.
    #[error("this kernel's seccomp notifications have {0} bytes; it is newer than gadgetd knows")]
    Size(u16),
    /// A filter that this process runs under has a listener, and there can only be one.
    #[error(
        "this process is under a seccomp filter that has a listener already, as in some containers, and the kernel allows \
         one: record outside of it"
    )]
    Listener,
    /// The kernel, or a filter that this process runs under, refused the filter.
    #[error(
        "the kernel refused the filter that notifies: is this process under a filter that forbids seccomp(2)?"
    )]
    Refused(#[source] io::Error),
    /// libseccomp made no filter.
    #[error("libseccomp failed")]
    Seccomp(#[from] SeccompError),
    /// The machine lacks memory, processes or descriptors.
    #[error("cannot {0}")]
    Io(&'static str, #[source] io::Error),
}
