//! The ground truth: what `strace` saw.
//!
//! `strace -f` over `gadgetd run … -- COMMAND` sees gadgetd, the command, and all that the command
//! starts, in the very run that gadgetd records. [`application`] picks from the trace what the
//! recording must have: the calls of the command, from the return of its `execve` on, and those of all its
//! descendants.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use anyhow::{Context, Result, bail, ensure};
use gadgetd_core::{Abi, Machine, Phases, Syscall};

/// How strace must be called for [`application`] to understand what it writes: children followed, call
/// numbers (the only thing that tells ABIs apart), and no contents of strings but paths.
pub const OPTIONS: [&str; 5] = ["-f", "-n", "-qq", "-s", "0"];

/// Bit that tells an x32 call from a native one.
const X32_BIT: u32 = 0x4000_0000;

/// Calls that start a task, and return its id to the parent.
const STARTS: [&str; 4] = ["clone", "clone3", "fork", "vfork"];

/// What an application did, by strace.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Truth {
    /// Its calls by ABI and the kernel's name.
    pub calls: BTreeMap<(Abi, &'static str), Seen>,
    /// Numbers that no table has.
    pub unknown: BTreeSet<u32>,
}

/// Whether a call can have been missed by a program on the `sys_enter` tracepoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Seen {
    /// Every time, the task was killed before the call returned. The kernel stops a task for its tracer
    /// first, and reaches the tracepoint after that: a task that is killed while it is stopped
    /// there has entered the call for strace, and for nobody else.
    NeverReturned,
    /// Every time, a signal interrupted it (`? ERESTARTSYS`). The tracepoint had seen it by then. A seccomp filter that notifies
    /// may not have: the kernel does not run a call that is interrupted before somebody receives the notification.
    Interrupted,
    /// It returned at least once, or is one of those that never return.
    Made,
}

/// One call, from its entry to its return.
struct Call<'t> {
    pid: u32,
    number: u32,
    /// The name that strace prints. It is the kernel's, but for the two calls of [`MULTIPLEXED`].
    printed: &'t str,
    arguments: &'t str,
    /// Line of the return, and what it returned; none where the trace has no return.
    returned: Option<(usize, &'t str)>,
    line: usize,
}

/// i386 calls that bundle many: strace prints the one that was meant.
const MULTIPLEXED: [&str; 2] = ["socketcall", "ipc"];

/// The calls of the program at `path`, which was started by the first process of the trace, and of its
/// descendants.
///
/// # Errors
///
/// The trace has a line that is not understood, or the program was never started.
pub fn application(trace: &str, path: &str) -> Result<Truth> {
    let calls = parse(trace)?;
    let recorder = calls.first().context("the trace is empty")?.pid;
    let start = format!("\"{path}\"");
    let (program, started) = calls
        .iter()
        .filter(|call| call.printed == "execve" && call.arguments.starts_with(&start))
        .find_map(|call| call.returned.filter(|(_, value)| *value == "0").map(|(line, _)| (call.pid, line)))
        .with_context(|| format!("the trace has no execve of {path} that succeeded"))?;

    // The recorder and what it started, but for the program: everything else descends from the program. (Its
    // own children can't be followed by what its calls return: in a PID namespace that is another number.)
    let mut recorders = HashSet::from([recorder]);
    let mut grew = true;
    while grew {
        grew = false;
        for call in calls.iter().filter(|call| STARTS.contains(&call.printed)) {
            let child = call.returned.and_then(|(_, value)| value.parse::<u32>().ok());
            if let Some(child) = child.filter(|child| *child > 0 && *child != program)
                && recorders.contains(&call.pid)
            {
                grew |= recorders.insert(child);
            }
        }
    }

    let mut truth = Truth::default();
    let of_program =
        |call: &&Call<'_>| !recorders.contains(&call.pid) && (call.pid != program || call.line > started);
    // A task that was killed where the kernel stopped it for strace, before strace could ask what it calls: the call
    // has no name (and the number of the one before), and was not made (see `Seen::NeverReturned`).
    let asked = |call: &&Call<'_>| !call.printed.starts_with("???");
    for call in calls.iter().filter(of_program).filter(asked) {
        match named(call)? {
            Some(key) => {
                let never_returns = matches!(key.1, "exit" | "exit_group" | "rt_sigreturn" | "sigreturn");
                let seen = match call.returned {
                    _ if never_returns => Seen::Made,
                    Some((_, value)) if value.starts_with("? ERESTART") => Seen::Interrupted,
                    // Both are the end of the task.
                    None | Some((_, "?" | "? <unavailable>")) => Seen::NeverReturned,
                    Some(_) => Seen::Made,
                };
                let entry = truth.calls.entry(key).or_insert(seen);
                *entry = (*entry).max(seen);
            }
            None => {
                truth.unknown.insert(call.number);
            }
        }
    }
    Ok(truth)
}

fn parse(trace: &str) -> Result<Vec<Call<'_>>> {
    let mut calls: Vec<Call<'_>> = Vec::new();
    // By task: the call that it is in.
    let mut pending: HashMap<u32, usize> = HashMap::new();
    for (line, text) in trace.lines().enumerate() {
        let at = || format!("line {} of the trace: {text}", line + 1);
        // 4711  [  59] execve("/bin/true", …) = 0
        let (pid, rest) = text.split_once(char::is_whitespace).with_context(at)?;
        let pid: u32 = pid.parse().with_context(at)?;
        let (number, rest) =
            rest.trim_start().strip_prefix('[').and_then(|r| r.split_once("] ")).with_context(at)?;

        if let Some(event) = rest.strip_prefix("+++ ") {
            // A thread that is not the leader executes a program: from here on it has the leader's id.
            let heir = event.strip_prefix("superseded by execve in pid ").map(|e| e.trim_end_matches(" +++"));
            if let Some(heir) = heir {
                let heir: u32 = heir.parse().with_context(at)?;
                pending.remove(&pid);
                if let Some(call) = pending.remove(&heir) {
                    calls[call].pid = pid;
                    pending.insert(pid, call);
                }
            }
            continue;
        }
        if rest.starts_with("--- ") {
            continue; // A signal.
        }
        if let Some(resumed) = rest.strip_prefix("<... ") {
            let (printed, result) = resumed.split_once(" resumed>").with_context(at)?;
            let call = pending.remove(&pid).with_context(at)?;
            ensure!(calls[call].printed == printed, "{}: {} was expected", at(), calls[call].printed);
            calls[call].returned = Some((line, value(result).with_context(at)?));
            continue;
        }
        let (printed, arguments) = rest.split_once('(').with_context(at)?;
        let number = number.trim().parse().with_context(at)?;
        // `<unfinished ...>`, or `<pid changed to 12 ...>` where the line was being written at that moment.
        let returned = if arguments.trim_end().ends_with(" ...>") {
            pending.insert(pid, calls.len());
            None
        } else {
            Some((line, value(arguments).with_context(at)?))
        };
        calls.push(Call { pid, number, printed, arguments, returned, line });
    }
    Ok(calls)
}

/// What follows the `=` in `…) = -1 ENOENT (No such file or directory)`.
fn value(text: &str) -> Option<&str> {
    let (_, value) = text.rsplit_once(") ")?;
    value.trim().strip_prefix("= ")
}

/// ABI and kernel name of a call; none for a number that no table has.
fn named(call: &Call<'_>) -> Result<Option<(Abi, &'static str)>> {
    let name = |abi, number| {
        Syscall { abi, number, phases: Phases::APPLICATION }.name(Machine::current()).map(|name| (abi, name))
    };
    if Machine::current() == Machine::X86_64 && call.number & X32_BIT != 0 {
        return Ok(name(Abi::X32, call.number & !X32_BIT));
    }
    let native = name(Abi::Native, call.number);
    let compat = name(Abi::Compat, call.number);
    let printed = |key: &Option<(Abi, &str)>| key.is_some_and(|(_, name)| name == call.printed);
    let multiplexed = |key: &Option<(Abi, &str)>| key.is_some_and(|(_, name)| MULTIPLEXED.contains(&name));
    if printed(&native) {
        Ok(native)
    } else if printed(&compat) || multiplexed(&compat) {
        Ok(compat)
    } else if call.printed.starts_with("syscall_0x") {
        Ok(None)
    } else {
        bail!(
            "strace calls number {} {}; the tables have {native:?} and {compat:?}",
            call.number,
            call.printed
        )
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    /// A recorder (10, with its thread 11) that starts `/bin/program` as 12.
    const START: &str = "\
10 [  59] execve(\"/bin/gadgetd\", [...], 0x7f /* 3 vars */) = 0
10 [ 435] clone3({flags=CLONE_VM|CLONE_THREAD, exit_signal=0} => {parent_tid=[11]}, 88) = 11
11 [ 157] prctl(PR_SET_NAME, \"\"...) = 0
11 [  58] vfork( <unfinished ...>
12 [  33] dup2(3, 1)                      = 1
12 [  59] execve(\"/usr/bin/program\", [...], 0x7f /* 3 vars */) = -1 ENOENT (No such file or directory)
12 [  59] execve(\"/bin/program\", [...], 0x7f /* 3 vars */ <unfinished ...>
11 [  58] <... vfork resumed>)            = 12
12 [  59] <... execve resumed>)           = 0
";

    fn calls(rest: &str) -> Vec<(Abi, &'static str)> {
        let truth = application(&format!("{START}{rest}"), "/bin/program").unwrap();
        truth.calls.into_keys().collect()
    }

    #[test]
    fn the_program_and_its_descendants_count_and_the_recorder_does_not() {
        let rest = "\
12 [  57] fork( <unfinished ...>
11 [ 281] epoll_pwait(3,  <unfinished ...>
13 [ 110] getppid()                      = 1
12 [  57] <... fork resumed>)            = 2
13 [ 231] exit_group(0)                  = ?
12 [  61] wait4(-1, NULL, 0, NULL)       = 2
12 [  61] --- SIGCHLD {si_signo=SIGCHLD, si_pid=13} ---
11 [ 281] <... epoll_pwait resumed>[], 8, 0, NULL, 8) = 0
";
        let native = ["exit_group", "fork", "getppid", "wait4"].map(|name| (Abi::Native, name));
        assert_eq!(calls(rest), native);
    }

    #[test]
    fn the_number_tells_the_abi() {
        let rest = "\
12 [1073741934] getppid()                = -1 ENOSYS (Function not implemented)
12 [1073742346] rt_sigpending(NULL, 0)   = -1 ENOSYS (Function not implemented)
12 [  20] getpid()                       = 12
12 [ 102] socket(AF_UNIX, SOCK_STREAM, 0) = 3
12 [ 102] getuid()                       = 0
";
        let expected = [
            (Abi::Native, "getuid"),
            (Abi::Compat, "getpid"),
            (Abi::Compat, "socketcall"),
            (Abi::X32, "getppid"),
            (Abi::X32, "rt_sigpending"),
        ];
        assert_eq!(calls(rest), expected);
    }

    #[test]
    fn a_thread_that_executes_a_program_takes_the_leaders_id() {
        let rest = "\
12 [ 202] futex(0x7f, FUTEX_WAIT, 14, NULL <unfinished ...>
14 [  59] execve(\"/bin/other\", [...], 0x7f /* 0 vars */ <unfinished ...>
12 [ 202] <... futex resumed>)           = ?
12 [  59] +++ superseded by execve in pid 14 +++
12 [  59] <... execve resumed>)          = 0
12 [ 124] getsid(0)                      = 9
";
        let expected = [
            ((Abi::Native, "execve"), Seen::Made),
            ((Abi::Native, "futex"), Seen::NeverReturned),
            ((Abi::Native, "getsid"), Seen::Made),
        ];
        for rest in [rest, &rest.replacen("vars */ <unfinished ...>", "vars */ <pid changed to 12 ...>", 1)] {
            let truth = application(&format!("{START}{rest}"), "/bin/program").unwrap();
            assert_eq!(truth.calls.into_iter().collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn a_call_that_is_restarted_was_interrupted() {
        let rest = "\
12 [  35] nanosleep({tv_sec=1, tv_nsec=0}, NULL) = ? ERESTART_RESTARTBLOCK (Interrupted by signal)
12 [  35] --- SIGSTOP {si_signo=SIGSTOP} ---
12 [ 219] restart_syscall(<... resuming interrupted nanosleep ...>) = 0
12 [   7] poll([{fd=3, events=POLLIN}], 1, 5000 <unfinished ...>) = ?
";
        let truth = application(&format!("{START}{rest}"), "/bin/program").unwrap();
        let expected = [
            ((Abi::Native, "nanosleep"), Seen::Interrupted),
            ((Abi::Native, "poll"), Seen::NeverReturned),
            ((Abi::Native, "restart_syscall"), Seen::Made),
        ];
        assert_eq!(truth.calls.into_iter().collect::<BTreeSet<_>>(), BTreeSet::from(expected));
    }

    #[test]
    fn a_call_of_a_task_that_is_killed_may_not_be_known() {
        let rest = "\
14 [ 202] futex(0x7f, FUTEX_WAKE, 1 <unfinished ...>
15 [ 202] futex(0x7f, FUTEX_WAKE, 1)     = 0
15 [ 202] ???( <unfinished ...>
12 [ 231] exit_group(0)                  = ?
14 [ 202] <... futex resumed>)           = ? <unavailable>
15 [ 202] <... ??? resumed>)             = ?
";
        assert_eq!(calls(rest), ["exit_group", "futex"].map(|name| (Abi::Native, name)));
    }

    #[test]
    fn numbers_without_a_name_are_kept_apart() {
        let rest = "12 [9999] syscall_0x270f(0, 0, 0, 0, 0, 0) = -1 ENOSYS (Function not implemented)\n";
        let truth = application(&format!("{START}{rest}"), "/bin/program").unwrap();
        assert_eq!(truth, Truth { calls: BTreeMap::new(), unknown: BTreeSet::from([9999]) });
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        for rest in
            ["12 [ 110] something\n", "12 [ 110] getpid() = 1\n", "12 [ 1] <... write resumed>) = 1\n"]
        {
            assert!(application(&format!("{START}{rest}"), "/bin/program").is_err(), "{rest}");
        }
        assert!(application(START, "/bin/other").is_err());
        assert!(application("", "/bin/program").is_err());
    }
}
