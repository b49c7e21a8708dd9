//! The work of a machine, as a shell script, and what came of it.

use std::fmt::Write as _;

use crate::test::outcome::{Outcome, Reader};

/// Something that a machine does.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    /// Runs tests of a test program.
    Tests {
        /// What they show, in the words of the table.
        shows: &'static str,
        /// The program's name.
        program: &'static str,
        /// Which; all of them if none is named.
        only: &'static [&'static str],
        /// The command that starts it, if there is one.
        under: &'static str,
    },
    /// Starts gadgetd where it cannot work: it has to say why, in words that are for people.
    Refuses {
        /// What makes it impossible, as shell commands.
        because: &'static str,
        /// The command that starts it, if there is one.
        under: &'static str,
        /// Its arguments.
        arguments: &'static str,
        /// Words of the sentence.
        sentence: &'static str,
    },
}

impl Step {
    /// The column of the table that it belongs to.
    pub(super) fn shows(self) -> &'static str {
        match self {
            Self::Tests { shows, .. } => shows,
            Self::Refuses { .. } => "says what is missing",
        }
    }

    /// The programs that it starts.
    pub(super) fn programs(&self) -> &'static [&'static str] {
        match self {
            Self::Tests { program: "fidelity", .. } => &["fidelity", "gadgetd"],
            Self::Tests { program: "enforced", .. } => &["enforced", "gadgetd"],
            Self::Tests { program: "pinned", .. } => &["pinned"],
            Self::Tests { program: "refused", .. } => &["refused"],
            Self::Tests { program: "lineage", .. } => &["lineage"],
            Self::Tests { .. } => &["kernel"],
            Self::Refuses { .. } => &["gadgetd"],
        }
    }

    fn script(self) -> String {
        match self {
            Self::Tests { program, only: [], under, .. } => {
                format!("{under} /test/{program} --test-threads=1 --color=never\n")
            }
            Self::Tests { program, only, under, .. } => {
                let one = |test| {
                    format!(
                        "{under} /test/{program} --test-threads=1 --color=never --exact {test} || failed=1\n"
                    )
                };
                let all: String = only.iter().map(one).collect();
                format!("failed=0\n{all}[ $failed = 0 ]\n")
            }
            Self::Refuses { because, under, arguments, sentence } => format!(
                "{because}\nsaid=$(timeout -s KILL 20 {under} /test/gadgetd {arguments} 2>&1)\ncase \"$?:$said\" in\n\
                 0:*) echo \"it works\"; false;;\n*'{sentence}'*) echo 'test result: ok. 1 passed; 0 failed; 0 ignored;';;\n\
                 *) echo \"$said\"; false;;\nesac\n"
            ),
        }
    }
}

/// How the script says that a step begins, and that it has ended and how.
const BEGIN: &str = "==== step ";
const END: &str = "==== ended ";

/// What a machine runs.
pub(super) fn script(prepare: &str, steps: &[Step]) -> String {
    let mut script = format!(
        "export GADGETD_BIN=/test/gadgetd GADGETD_WORKLOADS=/test/workloads RUST_BACKTRACE=0\nulimit -n 65536\n{prepare}\n"
    );
    for (index, step) in steps.iter().enumerate() {
        // Writing to a string can't fail.
        let _ = write!(script, "echo '{BEGIN}{index}'\n{}echo \"{END}$?\"\n", step.script());
    }
    script
}

/// What came of each step, by what the machine printed. A step that did not end has failed.
pub(super) fn outcomes(steps: &[Step], console: &[String]) -> Vec<Outcome> {
    let failure = Outcome { failed: 1, ..Outcome::default() };
    let mut outcomes = vec![failure; steps.len()];
    let mut current = None;
    let mut reader = Reader::default();
    for line in console {
        if let Some(index) = line.strip_prefix(BEGIN) {
            current = index.parse::<usize>().ok();
            reader = Reader::default();
        } else if let Some(status) = line.strip_prefix(END) {
            let outcome = std::mem::take(&mut reader).outcome();
            if let Some(place) = current.take().and_then(|index| outcomes.get_mut(index)) {
                *place = if status != "0" && outcome.failed == 0 || outcome == Outcome::default() {
                    failure
                } else {
                    outcome
                };
            }
        } else {
            reader.read(line);
        }
    }
    outcomes
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS: [Step; 3] = [
        Step::Tests { shows: "recorded", program: "kernel", only: &[], under: "" },
        Step::Refuses {
            because: "umount /x",
            under: "",
            arguments: "run seccomp",
            sentence: "there is no x",
        },
        Step::Tests { shows: "as strace", program: "fidelity", only: &["i386", "vfork"], under: "" },
    ];

    #[test]
    fn a_machine_that_stops_in_the_middle_has_failed_the_rest() {
        let console = [
            "[    1.5] a message of the kernel's",
            "==== step 0",
            "test a ... ok",
            "test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s",
            "==== ended 0",
            "==== step 1",
            "it works",
            "==== ended 1",
            "==== step 2",
            "test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 28 filtered out; finished in 1.00s",
            "Kernel panic - not syncing",
        ];
        let console: Vec<String> = console.into_iter().map(str::to_owned).collect();
        let [first, second, third] = outcomes(&STEPS, &console)[..] else { panic!("one for each step") };
        assert_eq!((first.passed, first.failed), (2, 0));
        assert_eq!((second.passed, second.failed), (0, 1));
        assert_eq!((third.passed, third.failed), (0, 1));
    }

    #[test]
    fn the_script_has_each_step_in_turn() {
        let script = script("", &STEPS);
        let at = |text: &str| script.find(text).unwrap_or_else(|| panic!("no {text:?} in:\n{script}"));
        assert!(at("/test/kernel --test-threads=1 --color=never\n") < at("umount /x\n"));
        assert!(at("*'there is no x'*)") < at("/test/fidelity --test-threads=1 --color=never --exact vfork"));
    }
}
