//! Processes that make system calls when they are told to, and say how long it took.
#![allow(unsafe_code, reason = "fork, and raw calls")]

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::{FromRawFd, OwnedFd},
};

use anyhow::{Context, Result, ensure};

/// Which calls a worker makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    /// `getppid` and nothing else: the cheapest call there is.
    Calls,
    /// The same, under a seccomp filter that allows everything.
    Filtered,
    /// After each four of them it lets the other process of its CPU run.
    Switching,
}

/// A process of its own, on the second CPU if there is one.
pub(crate) struct Worker {
    pid: i32,
    orders: File,
    answers: File,
}

impl Worker {
    /// Starts one, under a filter that allows everything or under none.
    pub(crate) fn start(filtered: bool) -> Result<Self> {
        let (theirs, orders) = pipe()?;
        let (answers, results) = pipe()?;
        // SAFETY: this process has one thread when it starts workers; the child never returns.
        let pid = unsafe { libc::fork() };
        ensure!(pid >= 0, "cannot fork");
        if pid == 0 {
            drop((orders, answers));
            work(filtered, theirs, results);
        }
        Ok(Self { pid, orders, answers })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// Tells it to begin.
    pub(crate) fn begin(&mut self, load: Load, calls: u64) -> Result<()> {
        let order = [u64::from(load == Load::Switching), calls];
        let bytes: Vec<u8> = order.iter().flat_map(|word| word.to_ne_bytes()).collect();
        self.orders.write_all(&bytes).context("a worker has died")
    }

    /// Waits until it is done. Nanoseconds of CPU time a call: what other processes do meanwhile does not count.
    pub(crate) fn end(&mut self) -> Result<f64> {
        let mut answer = [0; 8];
        self.answers.read_exact(&mut answer).context("a worker has died")?;
        Ok(f64::from_ne_bytes(answer))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // SAFETY: our child, which has not been waited for.
        unsafe {
            libc::kill(self.pid, libc::SIGKILL);
            libc::waitpid(self.pid, std::ptr::null_mut(), 0);
        }
    }
}

fn work(filtered: bool, mut orders: File, mut results: File) -> ! {
    pin();
    if filtered && !load_filter() {
        // SAFETY: no preconditions.
        unsafe { libc::_exit(1) }
    }
    let mut order = [0; 16];
    while orders.read_exact(&mut order).is_ok() {
        let word = |at: usize| u64::from_ne_bytes(std::array::from_fn(|byte| order[at * 8 + byte]));
        let (switching, calls) = (word(0) != 0, word(1));
        let begin = cpu_time();
        for n in 0..calls {
            // SAFETY: neither takes arguments.
            unsafe {
                libc::syscall(libc::SYS_getppid);
                if switching && n % 4 == 0 {
                    libc::syscall(libc::SYS_sched_yield);
                }
            }
        }
        #[allow(clippy::cast_precision_loss, reason = "a mean")]
        let each = (cpu_time() - begin) as f64 / (calls + if switching { calls / 4 } else { 0 }) as f64;
        if results.write_all(&each.to_ne_bytes()).is_err() {
            break;
        }
    }
    // SAFETY: no preconditions.
    unsafe { libc::_exit(0) }
}

/// All workers share one CPU, so that what is remembered per CPU is put to the test, and ordinary processes do not
/// interrupt them. Where that is not allowed the numbers are a little less steady.
fn pin() {
    // SAFETY: a set that is initialized to zero.
    unsafe {
        let cpus = libc::sysconf(libc::_SC_NPROCESSORS_ONLN);
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(usize::from(cpus > 1), &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &raw const set);
        let lowest = libc::sched_param { sched_priority: 1 };
        libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const lowest);
    }
}

fn load_filter() -> bool {
    const RETURN: u16 = 6;
    let mut allow = libc::sock_filter { code: RETURN, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW };
    let program = libc::sock_fprog { len: 1, filter: &raw mut allow };
    // SAFETY: a program of one instruction.
    unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) == 0 }
}

fn cpu_time() -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: room for the answer.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

fn pipe() -> Result<(File, File)> {
    let mut ends = [0; 2];
    // SAFETY: room for two descriptors, which are then owned.
    unsafe {
        ensure!(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) == 0, "cannot make a pipe");
        Ok((OwnedFd::from_raw_fd(ends[0]).into(), OwnedFd::from_raw_fd(ends[1]).into()))
    }
}
