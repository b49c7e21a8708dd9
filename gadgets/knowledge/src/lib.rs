//! What is known of system calls by their names: what they are for, how much harm they can do, and whether a container
//! engine allows them where nobody says otherwise.
//!
//! None of it is this project's opinion where somebody who is asked more often has one: purposes are systemd's
//! groups ([`GROUPS`]), and what is usual is the default profile of containerd ([`engine()`]). Both tables are written by
//! `cargo xtask generate`. [`Risk`] follows from them. Gadgets and formatters link this crate; it needs nothing.
//!
//! ```
//! use syscall_knowledge::{Engine, Risk, engine, purpose, risk};
//!
//! assert_eq!(purpose("timerfd_create").about, "Schedule operations by time");
//! assert_eq!(engine("reboot"), Engine::With("CAP_SYS_BOOT"));
//! assert_eq!((risk("read"), risk("init_module")), (Risk::Low, Risk::High));
//! ```

mod engine;
mod groups;

use std::fmt;

use crate::engine::{CONDITIONAL, DEFAULT_PROFILE, MISSING};
pub use crate::{
    engine::ENGINE,
    groups::{DEFAULT, GROUPS, SYSTEMD},
};

/// Bits for the architectures that a call exists on.
pub mod on {
    pub use crate::groups::{AARCH64, ARM, X32, X86, X86_64};

    /// The bit of an architecture, by systemd's name of it (`x86-64`, `arm64`); 0 for one that is not known.
    pub fn named(architecture: &str) -> u8 {
        match architecture {
            "x86-64" => X86_64,
            "x86" => X86,
            "x32" => X32,
            "arm64" => AARCH64,
            "arm" => ARM,
            _ => 0,
        }
    }
}

/// What a profile has to allow, recorded or not.
///
/// - `exit`, `exit_group`: a server that never ended was never seen to make them. Under a profile
///   without them a start that fails hangs instead of failing, because the OCI runtime cannot end.
/// - `execve`: whoever starts the program makes it when the filter is already in force. A recording
///   that began later has not seen it.
/// - `rt_sigreturn`: ends a signal's handler. Whether a signal came while one recorded is chance; a program that may not make it
///   dies of the first one.
/// - `restart_syscall`: the kernel makes it in the program's place, when the program goes on after it was stopped in a call that
///   waits (by a debugger, a checkpoint, or a cgroup that is frozen).
pub const ALWAYS: [&str; 5] = ["execve", "exit", "exit_group", "restart_syscall", "rt_sigreturn"];

/// Calls that a profile for 32-bit programs has to allow besides. `sigreturn` ends their older kind of signal handler.
pub const ALWAYS_COMPAT: [&str; 1] = ["sigreturn"];

/// Calls that the vDSO makes only on some machines: it depends on their clock (vdso(7)). A profile that was made on one
/// machine is used on others.
pub const VDSO: [&str; 5] = ["clock_getres", "clock_gettime", "getcpu", "gettimeofday", "time"];

/// What a profile has to allow besides, where an OCI runtime prepares the container under the filter.
///
/// runc is a Go program. Between loading the filter and `execve` its threads may have to wait for each other: in one start it
/// happens, and in the next it does not (of 291 recorded starts `futex` was in 36 %; but for `rt_sigreturn` nothing else
/// differed). Where it is refused, runc crashes.
pub const START: [&str; 1] = ["futex"];

/// A group of system calls that serve one purpose, as systemd has them.
#[derive(Debug, PartialEq, Eq)]
pub struct Group {
    /// systemd's name of it, with the `@`.
    pub name: &'static str,
    /// What it is for, in systemd's words.
    pub about: &'static str,
    /// The calls in it, and in the groups in it, sorted; each with the architectures that have it (bits of [`on`]).
    pub calls: &'static [(&'static str, u8)],
}

impl Group {
    /// The calls that exist on at least one of these architectures (bits of [`on`]).
    pub fn names(&self, architectures: u8) -> impl Iterator<Item = &'static str> {
        self.calls.iter().filter(move |(_, on)| on & architectures != 0).map(|(name, _)| *name)
    }

    /// Whether the call is in it.
    pub fn has(&self, name: &str) -> bool {
        self.calls.binary_search_by_key(&name, |(call, _)| *call).is_ok()
    }
}

/// What the default profile of a container engine says of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Engine {
    /// It is allowed.
    Allowed,
    /// It is allowed to a container with this capability, which it has not by default.
    With(&'static str),
    /// It is refused.
    Refused,
}

/// What the default profile of containerd, the engine of most clusters, says of a call.
pub fn engine(name: &str) -> Engine {
    match DEFAULT_PROFILE.binary_search_by_key(&name, |(call, _)| *call) {
        Err(_) => Engine::Refused,
        Ok(found) => match DEFAULT_PROFILE[found].1 {
            // A container has these unless it gives them up.
            "" | "CAP_SYS_CHROOT" => Engine::Allowed,
            capability => Engine::With(capability),
        },
    }
}

/// Whether the default profile allows the call only with some arguments, which a recording does not have.
pub fn depends_on_arguments(name: &str) -> bool {
    CONDITIONAL.contains(&name)
}

/// Whether the default profile answers the call as a kernel does that does not have it (`ENOSYS`), rather than to refuse it:
/// programs then do without.
pub fn is_said_to_be_missing(name: &str) -> bool {
    MISSING.contains(&name)
}

/// The architectures that have the call (bits of [`on`]); `None` where systemd has it in no group.
pub fn architectures(name: &str) -> Option<u8> {
    let find = |group: &Group| {
        let found = group.calls.binary_search_by_key(&name, |(call, _)| *call).ok()?;
        Some(group.calls[found].1)
    };
    GROUPS.iter().chain([&DEFAULT]).find_map(find)
}

/// The calls that the default profile allows to somebody: to every container, or to those with some capability.
pub fn profile() -> impl Iterator<Item = &'static str> {
    DEFAULT_PROFILE.iter().map(|(name, _)| *name)
}

/// The calls that the default profile allows to a container with the usual capabilities.
pub fn usual() -> impl Iterator<Item = &'static str> {
    profile().filter(|name| engine(name) == Engine::Allowed)
}

/// How much harm a call can do in the hands of somebody who took over the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Risk {
    /// Every program makes it, or it concerns the program alone.
    Low,
    /// It changes who the program is, or reaches a part of the kernel that has often been a way out.
    Elevated,
    /// It changes the machine, or looks into other programs.
    High,
}

impl fmt::Display for Risk {
    /// `low`, `elevated` or `high`, padded where that is asked for.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Low => "low",
            Self::Elevated => "elevated",
            Self::High => "high",
        })
    }
}

/// Groups whose calls concern the whole machine or other programs.
const HIGH: [&str; 8] =
    ["@module", "@reboot", "@raw-io", "@swap", "@debug", "@mount", "@cpu-emulation", "@clock"];

/// Groups whose calls are worth a second look.
const ELEVATED: [&str; 4] = ["@privileged", "@setuid", "@keyring", "@obsolete"];

/// Calls of [`HIGH`] or [`ELEVATED`] groups that every container may make, and most do.
const HARMLESS: [&str; 4] = ["chown", "fchown", "fchownat", "lchown"];

/// How much harm a call can do: much, where the engine asks for a capability or refuses it, or where it is of a group
/// that concerns the machine.
pub fn risk(name: &str) -> Risk {
    // The default profile refuses it because a filter cannot look into its arguments; every recent C library tries it
    // first, and makes `clone` instead.
    if name == "clone3" {
        return Risk::Elevated;
    }
    let any = |names: &[&str]| GROUPS.iter().any(|group| names.contains(&group.name) && group.has(name));
    match engine(name) {
        Engine::With(_) => Risk::High,
        // What the engine does not know is newer than it, more often than dangerous.
        Engine::Refused if any(&HIGH) || any(&ELEVATED) => Risk::High,
        Engine::Refused => Risk::Elevated,
        Engine::Allowed if HARMLESS.contains(&name) => Risk::Low,
        Engine::Allowed if any(&HIGH) || any(&ELEVATED) => Risk::Elevated,
        Engine::Allowed => Risk::Low,
    }
}

/// The group that tells best what a call is for: the narrowest of those that it is in.
pub fn purpose(name: &str) -> &'static Group {
    // These collect what other groups have, or say how a call is judged, not what it is for.
    const BROAD: [&str; 4] = ["@system-service", "@privileged", "@obsolete", "@default"];
    let narrow = GROUPS.iter().filter(|group| !BROAD.contains(&group.name) && group.has(name));
    let narrowest = narrow.min_by_key(|group| group.calls.len());
    let broad =
        || GROUPS.iter().chain([&DEFAULT]).find(|group| group.name != "@system-service" && group.has(name));
    narrowest.or_else(broad).unwrap_or(&OTHER)
}

/// What systemd has in none of its groups.
pub const OTHER: Group = Group { name: "", about: "Other system calls", calls: &[] };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted_and_full() {
        assert!(GROUPS.len() > 20 && DEFAULT_PROFILE.len() > 300);
        for group in GROUPS.iter().chain([&DEFAULT]) {
            assert!(group.calls.is_sorted_by_key(|(name, _)| *name), "{}", group.name);
            assert!(!group.calls.is_empty() && !group.about.is_empty(), "{}", group.name);
        }
        assert!(DEFAULT_PROFILE.is_sorted_by_key(|(name, _)| *name));
    }

    #[test]
    fn what_a_call_is_for() {
        for (name, group) in [
            ("read", "@basic-io"),
            ("accept4", "@network-io"),
            ("epoll_wait", "@io-event"),
            ("ptrace", "@debug"),
            ("mount", "@mount"),
            ("setuid", "@setuid"),
            ("brk", "@default"),
            ("no_such_call", ""),
        ] {
            assert_eq!(purpose(name).name, group, "{name}");
        }
    }

    #[test]
    fn what_an_engine_says() {
        assert_eq!(engine("read"), Engine::Allowed);
        assert_eq!(engine("chroot"), Engine::Allowed);
        assert_eq!(engine("mount"), Engine::With("CAP_SYS_ADMIN"));
        assert_eq!(engine("kexec_load"), Engine::Refused);
        assert!(usual().any(|name| name == "openat") && !usual().any(|name| name == "mount"));
        assert!(depends_on_arguments("personality") && !depends_on_arguments("read"));
        assert!(is_said_to_be_missing("clone3") && !is_said_to_be_missing("clone"));
    }

    #[test]
    fn where_a_call_is() {
        assert_eq!(architectures("arch_prctl"), Some(on::X86_64 | on::X86 | on::X32));
        assert_eq!(architectures("no_such_call"), None);
        assert_eq!(on::named("arm64"), on::AARCH64);
    }

    #[test]
    fn how_much_harm_a_call_can_do() {
        for (name, want) in [
            ("read", Risk::Low),
            ("fchown", Risk::Low),
            ("setuid", Risk::Elevated),
            ("clone3", Risk::Elevated),
            ("keyctl", Risk::High),
            ("bpf", Risk::High),
            ("mount", Risk::High),
            ("kexec_load", Risk::High),
            ("a_call_of_next_year", Risk::Elevated),
        ] {
            assert_eq!(risk(name), want, "{name}");
        }
    }
}
