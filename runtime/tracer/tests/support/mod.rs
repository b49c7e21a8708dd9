//! Cgroups, and children that make exactly the calls they are told to.
#![allow(dead_code, reason = "each test program uses a part of it, as a module of its own")]

use std::{
    collections::BTreeSet,
    env,
    ffi::{CStr, CString},
    fs::{self, File},
    ops::{Deref, DerefMut},
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::{
            ffi::OsStrExt,
            fs::{MetadataExt, PermissionsExt},
        },
    },
    path::{Path, PathBuf},
    ptr,
    sync::{
        LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI32, AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use gadgetd_containers::Hierarchy;
use gadgetd_core::{Abi, CgroupEvent, CgroupId, CgroupSource, Machine, Recorded, Refusal, RefusedCall};
use gadgetd_tracer::{Tracer, TracerOptions};
use libc::{c_char, c_int, c_long, syscall};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// A tracer, and the right to be the only test that has one: tests that wait for new cgroups would see each
/// other's.
pub(crate) struct Exclusive {
    tracer: Tracer,
    _only: MutexGuard<'static, ()>,
}

impl Deref for Exclusive {
    type Target = Tracer;
    fn deref(&self) -> &Tracer {
        &self.tracer
    }
}

impl DerefMut for Exclusive {
    fn deref_mut(&mut self) -> &mut Tracer {
        &mut self.tracer
    }
}

impl Exclusive {
    /// Events of these cgroups since the last look; other things on the machine make cgroups, too.
    pub(crate) fn told_of<const N: usize>(&mut self, cgroups: [CgroupId; N]) -> Vec<CgroupEvent> {
        let events = self.events().expect("readable").into_iter();
        events.filter(|event| cgroup_of(*event).is_none_or(|cgroup| cgroups.contains(&cgroup))).collect()
    }

    /// Waits until exactly these events were told of their cgroups, sleeping while there are none.
    pub(crate) fn until_told(&mut self, expected: &[CgroupEvent]) {
        let cgroups: Vec<_> = expected.iter().copied().filter_map(cgroup_of).collect();
        let mut told = Vec::new();
        let deadline = Instant::now() + Duration::from_mins(1);
        while told.len() < expected.len() {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec::try_from(left).expect("seconds");
            let ready = poll(&mut [PollFd::new(&self.tracer, PollFlags::IN)], Some(&timeout));
            assert_eq!(ready, Ok(1), "told only {told:?} of {expected:?}");
            let events = self.events().expect("readable");
            assert!(!events.is_empty(), "woken up for nothing");
            told.extend(events.into_iter().filter(|e| cgroup_of(*e).is_none_or(|c| cgroups.contains(&c))));
        }
        assert_eq!(told, expected);
    }
}

fn cgroup_of(event: CgroupEvent) -> Option<CgroupId> {
    match event {
        CgroupEvent::Opened(cgroup) | CgroupEvent::Ended(cgroup) => Some(cgroup),
        CgroupEvent::Missed => None,
    }
}

/// A tracer, or the reason why there is none, loudly.
pub(crate) fn load(slots: u32) -> Option<Exclusive> {
    is_root().then(|| load_with(&options(slots)))
}

/// The tracer of all tests of a program that record their own cgroups alone: loading one takes seconds in an emulator.
pub(crate) fn shared() -> Option<MutexGuard<'static, Tracer>> {
    static TRACER: LazyLock<Mutex<Tracer>> = LazyLock::new(|| Mutex::new(new(&options(64))));
    is_root().then(|| TRACER.lock().unwrap_or_else(PoisonError::into_inner))
}

fn is_root() -> bool {
    // SAFETY: no preconditions.
    let is_root = unsafe { libc::geteuid() } == 0;
    if !is_root {
        let why = "SKIPPED: recording needs root; run `sudo -E cargo test --release -p gadgetd-tracer`";
        assert_ne!(env::var("CI").as_deref(), Ok("true"), "{why}");
        eprintln!("{why}");
    }
    is_root
}

fn new(options: &TracerOptions) -> Tracer {
    Tracer::load(options).unwrap_or_else(|error| panic!("{error}: {error:?}"))
}

pub(crate) fn load_with(options: &TracerOptions) -> Exclusive {
    static ONLY: Mutex<()> = Mutex::new(());
    let only = ONLY.lock().unwrap_or_else(PoisonError::into_inner);
    Exclusive { tracer: new(options), _only: only }
}

/// So many slots, which go with the process.
pub(crate) fn options(slots: u32) -> TracerOptions {
    TracerOptions { slots, ..TracerOptions::default() }
}

pub(crate) fn set<const N: usize>(names: [&'static str; N]) -> BTreeSet<&'static str> {
    names.into()
}

/// Names of the calls of the application.
pub(crate) fn application(recorded: &Recorded) -> BTreeSet<&'static str> {
    let calls = recorded.syscalls.iter().filter(|call| call.phases.application);
    calls.map(|call| call.name(Machine::current()).unwrap_or("unknown")).collect()
}

/// Names of the calls of the OCI runtime.
pub(crate) fn runtime(recorded: &Recorded) -> BTreeSet<&'static str> {
    let calls = recorded.syscalls.iter().filter(|call| call.phases.runtime);
    calls.map(|call| call.name(Machine::current()).unwrap_or("unknown")).collect()
}

/// Names of the calls that a filter refused, with what it answered.
pub(crate) fn refused(recorded: &Recorded) -> BTreeSet<(Abi, &'static str, Refusal)> {
    let name = |call: &RefusedCall| call.name(Machine::current()).unwrap_or("unknown");
    recorded.refused.iter().map(|call| (call.abi, name(call), call.answer)).collect()
}

/// How many links to eBPF programs this process holds.
pub(crate) fn links() -> usize {
    let open = fs::read_dir("/proc/self/fd").expect("proc is mounted").flatten();
    let targets = open.filter_map(|fd| fs::read_link(fd.path()).ok());
    targets.filter(|target| target.to_string_lossy().contains("bpf_link")).count()
}

/// A cgroup, removed when it is dropped.
pub(crate) struct Cgroup(PathBuf);

impl Cgroup {
    pub(crate) fn new() -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let hierarchy = Hierarchy::find().expect("cgroup v2 is mounted");
        let name = format!("tracer-test-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        Self::at(hierarchy.mount().join(name))
    }

    pub(crate) fn below(&self, name: &str) -> Self {
        Self::at(self.0.join(name))
    }

    fn at(path: PathBuf) -> Self {
        fs::create_dir(&path).expect("a new cgroup");
        Self(path)
    }

    /// Waits until the kernel counts no process in it any more: since Linux 7 that is later than the end of the last one.
    pub(crate) fn until_empty(&self) {
        let deadline = Instant::now() + Duration::from_mins(1);
        let events = || fs::read_to_string(self.0.join("cgroup.events")).expect("a cgroup that exists");
        while !events().contains("populated 0") {
            assert!(Instant::now() < deadline, "processes are left in {}", self.0.display());
            thread::yield_now();
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn id(&self) -> CgroupId {
        CgroupId(fs::metadata(&self.0).expect("it exists").ino())
    }

    /// For [`enter`].
    pub(crate) fn entrance(&self) -> OwnedFd {
        File::options().write(true).open(self.0.join("cgroup.procs")).expect("it exists").into()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let deadline = Instant::now() + Duration::from_mins(1);
        // The last process may have been waited for and yet not have left.
        while fs::remove_dir(&self.0).is_err() && self.0.exists() && Instant::now() < deadline {
            thread::yield_now();
        }
    }
}

/// Moves the calling process: one `write`.
pub(crate) fn enter(entrance: &OwnedFd) {
    // SAFETY: one byte of a literal.
    unsafe { syscall(libc::SYS_write, entrance.as_raw_fd(), c"0".as_ptr(), 1) };
}

/// Where a child waits for its parent: it writes to the first, then reads from the second.
static SAYS: AtomicI32 = AtomicI32::new(-1);
static HEARS: AtomicI32 = AtomicI32::new(-1);

/// A child process.
pub(crate) struct Child {
    pid: c_int,
    said: OwnedFd,
    tell: OwnedFd,
}

impl Child {
    /// A child that moves itself into a cgroup, does what it is told, and ends with `exit_group`.
    pub(crate) fn into(cgroup: &Cgroup, what: impl FnOnce()) -> Self {
        let entrance = cgroup.entrance();
        Self::fork(None, || {
            enter(&entrance);
            what();
        })
    }

    /// A child that starts in a cgroup.
    pub(crate) fn cloned_into(cgroup: &Cgroup, what: impl FnOnce()) -> Self {
        let directory = File::open(cgroup.path()).expect("it exists");
        Self::fork(Some(directory.as_raw_fd()), what)
    }

    /// A child in the cgroup of this process.
    pub(crate) fn plain(what: impl FnOnce()) -> Self {
        Self::fork(None, what)
    }

    pub(crate) fn pid(&self) -> c_int {
        self.pid
    }

    fn fork(cgroup: Option<RawFd>, what: impl FnOnce()) -> Self {
        let (said, says) = pipe();
        let (hears, tell) = pipe();
        let pid = clone_into(cgroup);
        assert!(pid >= 0, "{}", std::io::Error::last_os_error());
        if pid == 0 {
            SAYS.store(says.as_raw_fd(), Ordering::Relaxed);
            HEARS.store(hears.as_raw_fd(), Ordering::Relaxed);
            what();
            exit(0);
        }
        Self { pid: c_int::try_from(pid).expect("a process id"), said, tell }
    }

    /// Returns when the child has come to [`wait_for_parent`], and is asleep in there.
    pub(crate) fn until_it_waits(&self) {
        let mut byte = 0_u8;
        // SAFETY: one byte.
        let read = unsafe { libc::read(self.said.as_raw_fd(), (&raw mut byte).cast(), 1) };
        assert_eq!(read, 1, "the child has ended");
        let deadline = Instant::now() + Duration::from_mins(1);
        let stat = format!("/proc/{}/stat", self.pid);
        while !fs::read_to_string(&stat).expect("it lives").contains(") S ") {
            assert!(Instant::now() < deadline, "the child does not wait");
            thread::yield_now();
        }
    }

    pub(crate) fn go_on(&self) {
        // SAFETY: one byte.
        assert_eq!(unsafe { libc::write(self.tell.as_raw_fd(), c"1".as_ptr().cast(), 1) }, 1);
    }

    /// Waits for its end, which must be a good one.
    pub(crate) fn succeeds(self) {
        let mut status = 0;
        // SAFETY: a child of this process.
        assert_eq!(unsafe { libc::waitpid(self.pid, &raw mut status, 0) }, self.pid);
        assert_eq!(status, 0, "how the child ended");
    }
}

/// Forks a child that starts in a cgroup, or in that of its parent. It may only call what may be called after a fork.
fn clone_into(cgroup: Option<RawFd>) -> c_long {
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    // `struct clone_args`: flags, pidfd, child_tid, parent_tid, exit_signal, stack, its size, tls, set_tid, its
    // size, cgroup.
    let mut arguments = [0_u64; 11];
    arguments[4] = u64::from(libc::SIGCHLD.unsigned_abs());
    if let Some(cgroup) = cgroup {
        arguments[0] = CLONE_INTO_CGROUP;
        arguments[10] = u64::from(cgroup.unsigned_abs());
    }
    // SAFETY: a plain fork.
    unsafe { syscall(libc::SYS_clone3, arguments.as_ptr(), size_of_val(&arguments)) }
}

fn pipe() -> (OwnedFd, OwnedFd) {
    let mut ends = [0; 2];
    // SAFETY: room for two descriptors, which are then owned.
    unsafe {
        assert_eq!(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC), 0);
        (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1]))
    }
}

// What follows runs in children: single calls, no allocation.

/// A call without arguments that nothing makes by itself.
pub(crate) fn call(number: c_long) {
    // SAFETY: the calls that are passed here take no arguments.
    unsafe { syscall(number) };
}

pub(crate) fn exit(status: c_int) -> ! {
    // SAFETY: no preconditions.
    unsafe {
        syscall(libc::SYS_exit_group, status);
        libc::abort()
    }
}

/// Tells the parent, and sleeps until it says so: one `write`, one `read`.
pub(crate) fn wait_for_parent() {
    let mut byte = 0_u8;
    // SAFETY: one byte each.
    unsafe {
        syscall(libc::SYS_write, SAYS.load(Ordering::Relaxed), c"1".as_ptr(), 1);
        syscall(libc::SYS_read, HEARS.load(Ordering::Relaxed), &raw mut byte, 1);
    }
}

/// From now on the caller runs on the first CPU alone, where it takes turns with others.
pub(crate) fn stay_on_one_cpu() {
    let first: c_long = 1;
    let none = libc::sched_param { sched_priority: 0 };
    // SAFETY: a mask of one word, and one parameter.
    unsafe {
        syscall(libc::SYS_sched_setaffinity, 0, size_of_val(&first), &raw const first);
        syscall(libc::SYS_sched_setscheduler, 0, libc::SCHED_OTHER, &raw const none);
    }
}

/// Interrupts whoever runs on the caller's CPU, every half millisecond, until the parent says that it may go on.
pub(crate) fn interrupt_until_told() {
    let highest = libc::sched_param { sched_priority: 2 };
    let mut parent = libc::pollfd { fd: HEARS.load(Ordering::Relaxed), events: libc::POLLIN, revents: 0 };
    let null = ptr::null::<libc::sigset_t>();
    // SAFETY: one parameter, one descriptor and one time; nothing else is read.
    unsafe {
        syscall(libc::SYS_sched_setscheduler, 0, libc::SCHED_FIFO, &raw const highest);
        loop {
            // The kernel writes back what is left of it.
            let mut pause = libc::timespec { tv_sec: 0, tv_nsec: 500_000 };
            if syscall(libc::SYS_ppoll, &raw mut parent, 1, &raw mut pause, null, 0) != 0 {
                break;
            }
        }
    }
}

/// Makes a call again and again, until the parent says that it may go on.
pub(crate) fn call_until_told(number: c_long) {
    let mut parent = libc::pollfd { fd: HEARS.load(Ordering::Relaxed), events: libc::POLLIN, revents: 0 };
    let null = ptr::null::<libc::sigset_t>();
    loop {
        call(number);
        let mut at_once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: one descriptor and one time.
        if unsafe { syscall(libc::SYS_ppoll, &raw mut parent, 1, &raw mut at_once, null, 0) } != 0 {
            return;
        }
    }
}

pub(crate) fn fork_and_wait(what: impl FnOnce()) {
    fork_while(what, || {});
}

/// The same; the child starts in a cgroup.
pub(crate) fn fork_into_and_wait(cgroup: &File, what: impl FnOnce()) {
    let pid = clone_into(Some(cgroup.as_raw_fd()));
    if pid == 0 {
        what();
        exit(0);
    }
    // SAFETY: no place for the status.
    unsafe { syscall(libc::SYS_wait4, pid, 0, 0, 0) };
}

/// One child does the first thing while the caller does the second.
pub(crate) fn fork_while(child: impl FnOnce(), what: impl FnOnce()) {
    // SAFETY: as in `Child::fork`.
    unsafe {
        let pid = syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0);
        if pid == 0 {
            child();
            exit(0);
        }
        what();
        syscall(libc::SYS_wait4, pid, 0, 0, 0);
    }
}

pub(crate) fn exec(program: &CStr) {
    exec_with([program]);
}

pub(crate) fn exec_with<const N: usize>(arguments: [&CStr; N]) {
    let pointers = pointers(arguments);
    let environment: [*const c_char; 1] = [ptr::null()];
    // SAFETY: strings, and lists that end with null.
    unsafe { syscall(libc::SYS_execve, pointers.as_ptr().read(), pointers.as_ptr(), environment.as_ptr()) };
    exit(127);
}

/// Starts a program without naming it.
pub(crate) fn exec_descriptor<const N: usize>(arguments: [&CStr; N]) {
    let pointers = pointers(arguments);
    let environment: [*const c_char; 1] = [ptr::null()];
    // SAFETY: strings, and lists that end with null.
    unsafe {
        let fd = syscall(libc::SYS_openat, libc::AT_FDCWD, pointers[0], libc::O_RDONLY | libc::O_CLOEXEC);
        let (list, flags) = (pointers.as_ptr(), libc::AT_EMPTY_PATH);
        syscall(libc::SYS_execveat, fd, c"".as_ptr(), list, environment.as_ptr(), flags);
    }
    exit(127);
}

fn pointers<const N: usize>(arguments: [&CStr; N]) -> [*const c_char; 8] {
    let mut pointers = [ptr::null(); 8];
    for (pointer, argument) in pointers.iter_mut().zip(arguments) {
        *pointer = argument.as_ptr();
    }
    pointers
}

pub(crate) fn chroot() {
    // SAFETY: a string.
    unsafe { syscall(libc::SYS_chroot, c"/".as_ptr()) };
}

pub(crate) fn pdeathsig() {
    let mut signal: c_int = 0;
    // SAFETY: room for the answer.
    unsafe { syscall(libc::SYS_prctl, libc::PR_GET_PDEATHSIG, &raw mut signal) };
}

pub(crate) fn join_keyring() {
    const KEYCTL_JOIN_SESSION_KEYRING: c_long = 1;
    // SAFETY: an anonymous one.
    unsafe { syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, 0) };
}

/// As libseccomp does to see what the kernel can do.
pub(crate) fn probe_seccomp() {
    // SAFETY: the kernel refuses null.
    unsafe {
        syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, libc::SECCOMP_FILTER_FLAG_TSYNC, 0);
        syscall(libc::SYS_prctl, libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, 0);
    }
}

/// How runtimes load a filter.
#[derive(Clone, Copy)]
pub(crate) enum Loader {
    Prctl,
    Seccomp,
}

/// Loads a filter that allows everything.
pub(crate) fn load_filter(how: Loader) {
    const RETURN: u16 = 6;
    let mut allow = libc::sock_filter { code: RETURN, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW };
    let program = libc::sock_fprog { len: 1, filter: &raw mut allow };
    // SAFETY: a program of one instruction.
    let loaded = unsafe {
        match how {
            Loader::Prctl => {
                syscall(libc::SYS_prctl, libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program)
            }
            Loader::Seccomp => {
                syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program)
            }
        }
    };
    if loaded != 0 {
        exit(126);
    }
}

/// Loads a filter that answers these calls, on every ABI, with these actions (`SECCOMP_RET_…`), and allows all others. Returns the
/// listener, if that is among the `flags`.
pub(crate) fn answer<const N: usize>(answers: [(c_long, u32); N], flags: libc::c_ulong) -> c_int {
    const LOAD: u16 = 0x20;
    const EQUAL: u16 = 0x15;
    const RETURN: u16 = 6;
    let instruction = |code, jf, k| libc::sock_filter { code, jt: 0, jf, k };
    let mut program = [instruction(RETURN, 0, libc::SECCOMP_RET_ALLOW); 64];
    program[0] = instruction(LOAD, 0, 0);
    for (index, (number, action)) in answers.into_iter().enumerate() {
        let number = u32::try_from(number).unwrap_or_else(|_| exit(125));
        program[1 + 2 * index] = instruction(EQUAL, 1, number);
        program[2 + 2 * index] = instruction(RETURN, 0, action);
    }
    let program = libc::sock_fprog { len: 64, filter: program.as_mut_ptr() };
    // SAFETY: a program of 64 instructions.
    let loaded =
        unsafe { syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    c_int::try_from(loaded).ok().filter(|loaded| *loaded >= 0).unwrap_or_else(|| exit(126))
}

/// Answers one call with this result, in the place of the caller, who is known by its filter's listener.
pub(crate) fn supervise(listener: c_int, result: i64) {
    // SAFETY: all zero is a valid notification and answer, of the sizes of this C library, which no kernel makes smaller.
    unsafe {
        let mut request = [0_u64; 32];
        let mut answer: libc::seccomp_notif_resp = std::mem::zeroed();
        syscall(libc::SYS_ioctl, listener, libc::SECCOMP_IOCTL_NOTIF_RECV, request.as_mut_ptr());
        answer.id = request[0];
        if result < 0 {
            answer.error = c_int::try_from(result).unwrap_or(c_int::MIN);
        } else {
            answer.val = result;
        }
        if syscall(libc::SYS_ioctl, listener, libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut answer) != 0 {
            exit(124);
        }
    }
}

/// Has the signal of a filter do nothing.
pub(crate) fn survive_sigsys() {
    extern "C" fn nothing(_: c_int) {}
    // SAFETY: a handler that does nothing.
    unsafe { libc::signal(libc::SIGSYS, nothing as extern "C" fn(c_int) as libc::sighandler_t) };
}

/// Runs something in a thread, and waits for its end.
pub(crate) fn thread(what: extern "C" fn(*mut libc::c_void) -> c_int) {
    let mut stack = [0_u128; 1_024];
    let mut running: c_int = 1;
    let flags = libc::CLONE_VM
        | libc::CLONE_FS
        | libc::CLONE_FILES
        | libc::CLONE_SIGHAND
        | libc::CLONE_THREAD
        | libc::CLONE_SYSVSEM
        | libc::CLONE_CHILD_CLEARTID;
    let (at, null) = (&raw mut running, ptr::null_mut::<libc::c_void>());
    // SAFETY: a stack of its own, and a place that the kernel sets to zero when the thread has ended; this function waits for that.
    unsafe {
        let top = stack.as_mut_ptr().add(stack.len()).cast();
        if libc::clone(what, top, flags, null, null, null, at) < 0 {
            exit(123);
        }
        while ptr::read_volatile(at) != 0 {
            syscall(libc::SYS_futex, at, libc::FUTEX_WAIT, 1, 0);
        }
    }
}

/// Gives up root, and with it every capability.
pub(crate) fn drop_rights() {
    const NOBODY: c_int = 65_534;
    // SAFETY: no preconditions.
    unsafe { syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY) };
}

/// Runs something in a child that shares this process's memory, as `vfork` does.
pub(crate) fn vfork(what: extern "C" fn(*mut libc::c_void) -> c_int) {
    let mut stack = vec![0_u128; 4_096];
    // SAFETY: a stack of its own, which is used only while this function waits.
    unsafe {
        let top = stack.as_mut_ptr().add(stack.len()).cast();
        let pid = libc::clone(what, top, libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD, ptr::null_mut());
        syscall(libc::SYS_wait4, pid, 0, 0, 0);
    }
}

/// Writes a program for 32-bit Arm that makes two calls, `getpid` and `exit`, and returns its path.
pub(crate) fn aarch32_program(folder: &Path) -> CString {
    const ADDRESS: u32 = 0x1_0000;
    const HEADERS: u32 = 52 + 32;
    let code: [u32; 5] = [
        0xe3a0_7014, // mov r7, #20
        0xef00_0000, // svc #0
        0xe3a0_0000, // mov r0, #0
        0xe3a0_7001, // mov r7, #1
        0xef00_0000, // svc #0
    ];
    let size = HEADERS + 4 * 5;
    // The ELF header (elf(5)): 32 bits, little-endian; an executable for Arm, EABI version 5.
    let mut file = b"\x7fELF\x01\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend([2_u16, 40].into_iter().flat_map(u16::to_le_bytes));
    file.extend([1, ADDRESS + HEADERS, 52, 0, 0x0500_0000].into_iter().flat_map(u32::to_le_bytes));
    file.extend([52_u16, 32, 1, 40, 0, 0].into_iter().flat_map(u16::to_le_bytes));
    // The one segment: all of the file, to be read and run.
    file.extend([1, 0, ADDRESS, ADDRESS, size, size, 5, 0x1000].into_iter().flat_map(u32::to_le_bytes));
    file.extend(code.into_iter().flat_map(u32::to_le_bytes));
    let path = folder.join("aarch32");
    fs::write(&path, file).expect("room for a program");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
    CString::new(path.as_os_str().as_bytes()).expect("a path without zeros")
}
