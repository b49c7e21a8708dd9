//! What recording costs: nanoseconds a system call, side by side in one run, rounds interleaved.

use std::{fmt::Write as _, process::Command};

use anyhow::{Context, Result, ensure};
use gadgetd_containers::{Hierarchy, Leftovers, OwnCgroup};
use gadgetd_core::{CgroupSource, Entry, SyscallSource};
use gadgetd_tracer::{Tracer, TracerOptions};

use crate::{
    Effort,
    bpf::{Empty, Kind},
    gadgetd,
    worker::{Load, Worker},
};

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    Bare,
    EmptyRaw,
    EmptyBtf,
    /// Ours, in the process that it records.
    Recorded,
    /// Ours, in one that it does not record.
    Unrelated,
    /// Ours, in both: they take turns.
    Both,
    Ended,
}

const NONE: (Case, &str) = (Case::Bare, "no program");
const EMPTY: [(Case, &str); 2] =
    [(Case::EmptyRaw, "an empty program, raw tracepoint"), (Case::EmptyBtf, "an empty program, `tp_btf`")];
const ENDED: (Case, &str) = (Case::Ended, "gadgetd, after the recording ended");

/// One process at a time: `getppid` and nothing else.
const ALONE: [(Case, &str); 6] = [
    NONE,
    EMPTY[0],
    EMPTY[1],
    (Case::Recorded, "gadgetd, a recorded process"),
    (Case::Unrelated, "gadgetd, any other process"),
    ENDED,
];

/// Two processes on one CPU.
const TURNS: [(Case, &str); 5] =
    [NONE, EMPTY[0], EMPTY[1], (Case::Both, "gadgetd, one of the two is recorded"), ENDED];

/// Processes in cgroups of their own, on one CPU, of which two can be recorded.
struct Bench {
    ours: Worker,
    other: Worker,
    filtered: Worker,
    cgroup: OwnCgroup,
    filtered_cgroup: OwnCgroup,
    _other: OwnCgroup,
    raw: Empty,
    btf: Empty,
    tracer: Tracer,
}

impl Bench {
    fn new() -> Result<Self> {
        let (ours, other, filtered) = (Worker::start(false)?, Worker::start(false)?, Worker::start(true)?);
        let hierarchy = Hierarchy::find()?;
        let cgroup = |of: &Worker| -> Result<OwnCgroup> {
            let made = OwnCgroup::create(&hierarchy, "/", Leftovers::Kill)?;
            ensure!(made.add(of.pid())?, "a worker has died");
            Ok(made)
        };
        Ok(Self {
            cgroup: cgroup(&ours)?,
            filtered_cgroup: cgroup(&filtered)?,
            _other: cgroup(&other)?,
            ours,
            other,
            filtered,
            raw: Empty::load(Kind::RawTracepoint)?,
            btf: Empty::load(Kind::BtfTracepoint)?,
            tracer: Tracer::load(&TracerOptions::default())?,
        })
    }

    /// One measurement, in nanoseconds a call.
    fn measure(&mut self, case: Case, load: Load, calls: u64) -> Result<f64> {
        let _attached = match case {
            Case::EmptyRaw => Some(self.raw.attach()?),
            Case::EmptyBtf => Some(self.btf.attach()?),
            _ => None,
        };
        let recorded = if load == Load::Filtered && case == Case::Recorded {
            self.filtered_cgroup.id()
        } else {
            self.cgroup.id()
        };
        let recording = matches!(case, Case::Recorded | Case::Unrelated | Case::Both);
        if recording {
            self.tracer.enrol(recorded, Entry::Application)?;
        }
        ensure!(self.tracer.is_attached() == recording, "the program is attached at the wrong time");
        let taken = match load {
            Load::Calls => {
                let worker = if case == Case::Unrelated { &mut self.other } else { &mut self.ours };
                worker.begin(load, calls)?;
                worker.end()?
            }
            Load::Filtered => {
                self.filtered.begin(load, calls)?;
                self.filtered.end()?
            }
            Load::Switching => {
                self.ours.begin(load, calls)?;
                self.other.begin(load, calls)?;
                f64::midpoint(self.ours.end()?, self.other.end()?)
            }
        };
        if recording {
            let read = self.tracer.read(recorded)?;
            ensure!(read.completeness.is_complete(), "there are losses: {:?}", read.completeness);
            ensure!(case == Case::Unrelated || !read.syscalls.is_empty(), "nothing was recorded");
            self.tracer.release(recorded)?;
        }
        Ok(taken)
    }

    /// The median of each case, measured in turn.
    fn medians(&mut self, cases: &[(Case, &str)], load: Load, calls: u64, rounds: usize) -> Result<Vec<f64>> {
        let mut times = vec![Vec::new(); cases.len()];
        for _ in 0..rounds {
            for (times, (case, _)) in times.iter_mut().zip(cases) {
                times.push(self.measure(*case, load, calls)?);
            }
        }
        Ok(times.into_iter().map(median).collect())
    }
}

/// What a call costs in a process that is recorded and in one that is not. In Markdown.
pub(crate) fn calls(effort: Effort) -> Result<String> {
    let mut bench = Bench::new()?;
    // Each turn costs a switch of processes, so there are fewer.
    let loads: [(&[_], _, _, _); 3] = [
        (&ALONE, Load::Calls, effort.scale(2_000_000), "`getppid` in a loop"),
        (
            &ALONE,
            Load::Filtered,
            effort.scale(2_000_000),
            "The same in a process under a seccomp filter that allows everything",
        ),
        (
            &TURNS,
            Load::Switching,
            effort.scale(200_000),
            "Two processes in two cgroups take turns on one CPU: four `getppid`, one `sched_yield`",
        ),
    ];
    let mut text = String::new();
    for (cases, load, calls, title) in loads {
        let rounds = effort.rounds();
        let medians = bench.medians(cases, load, calls, rounds)?;
        writeln!(text, "{title}; {calls} calls, median of {rounds} interleaved rounds:\n")?;
        text.push_str("| | ns a call | added | of the empty program's |\n|---|--:|--:|--:|\n");
        for ((_, name), time) in cases.iter().zip(&medians) {
            let (added, empty) = (time - medians[0], medians[1] - medians[0]);
            writeln!(text, "| {name} | {time:.1} | {added:+.1} | {:.2} × |", added / empty)?;
        }
        text.push('\n');
    }
    Ok(text)
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}

/// A command that does little but system calls, alone and under everything that could record it. In Markdown.
pub(crate) fn command(effort: Effort) -> Result<String> {
    let gadgetd = gadgetd();
    let gadgetd = gadgetd.to_str().context("a strange path")?;
    let empty = Empty::load(Kind::RawTracepoint)?;
    // What stops the command at every call takes a hundred times as long: fewer calls tell enough.
    let (many, few) = (effort.scale(1_000_000), effort.scale(20_000));
    let under: [(&str, u64, &[&str]); 6] = [
        ("alone", many, &[]),
        (EMPTY[0].1, many, &[]),
        ("`gadgetd run`", many, &[gadgetd, "run", "seccomp", "-o", "/dev/null", "--"]),
        (
            "`gadgetd run --recorder notify`",
            few,
            &[gadgetd, "run", "seccomp", "--recorder", "notify", "-o", "/dev/null", "--"],
        ),
        ("`strace -f --seccomp-bpf`", few, &["strace", "-f", "--seccomp-bpf", "-o", "/dev/null"]),
        ("`strace -f -c`", few, &["strace", "-f", "-c", "-o", "/dev/null"]),
    ];
    let mut times = vec![Vec::new(); under.len()];
    for _ in 0..effort.rounds() {
        for (times, (name, blocks, prefix)) in times.iter_mut().zip(under) {
            let _attached = if name == EMPTY[0].1 { Some(empty.attach()?) } else { None };
            times.push(dd(prefix, blocks).with_context(|| format!("dd under {name}"))?);
        }
    }
    let medians: Vec<f64> = times.into_iter().map(median).collect();
    let mut text = format!(
        "`dd bs=1`, two calls a block, by its own clock, median of {} interleaved rounds:\n\n\
         | | ns a block | of alone | of the empty program's |\n|---|--:|--:|--:|\n",
        effort.rounds(),
    );
    for ((name, ..), time) in under.iter().zip(&medians) {
        writeln!(text, "| {name} | {time:.0} | {:.2} × | {:.2} × |", time / medians[0], time / medians[1])?;
    }
    Ok(text)
}

/// Nanoseconds a block, of the time that `dd` says it took.
fn dd(prefix: &[&str], blocks: u64) -> Result<f64> {
    let count = format!("count={blocks}");
    let dd = ["dd", "if=/dev/zero", "of=/dev/null", "bs=1", &count];
    let all = [prefix, &dd].concat();
    let output = Command::new(all[0]).args(&all[1..]).env("LC_ALL", "C").output();
    let output = output.with_context(|| format!("cannot start {}", all[0]))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {said}", output.status);
    let line = said
        .lines()
        .find(|line| line.contains("copied,"))
        .with_context(|| format!("dd said only: {said}"))?;
    let seconds = line.split("copied,").nth(1).and_then(|rest| rest.split_whitespace().next());
    let seconds: f64 = seconds.context("dd said no time")?.parse().context("dd said a strange time")?;
    #[allow(clippy::cast_precision_loss, reason = "a mean")]
    Ok(seconds * 1e9 / blocks as f64)
}
