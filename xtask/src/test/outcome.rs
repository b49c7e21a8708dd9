//! What came of tests, and how to read it from what they print.

use std::{fmt, ops::AddAssign};

/// What came of some tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Outcome {
    pub passed: u32,
    pub failed: u32,
    pub skipped: u32,
}

impl AddAssign for Outcome {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// Reads what libtest prints with `--show-output`.
///
/// libtest has no word for a test that finds out, when it runs, that it cannot: such a test prints a line that begins
/// with `SKIPPED` and returns. Those lines are worth seeing; whatever else a successful test prints is not.
#[derive(Default)]
pub(crate) struct Reader {
    outcome: Outcome,
    /// Skips since the last result, which counts them as passed.
    skips: u32,
    in_successes: bool,
}

impl Reader {
    /// What came of the tests so far.
    pub(crate) fn outcome(self) -> Outcome {
        self.outcome
    }

    /// Takes a line, and says whether to show it.
    pub(crate) fn read(&mut self, line: &str) -> bool {
        if line.starts_with("SKIPPED") {
            self.skips += 1;
            return true;
        }
        if let Some(counts) = line.strip_prefix("test result: ") {
            let skips = std::mem::take(&mut self.skips);
            self.outcome.passed += count(counts, " passed").saturating_sub(skips);
            self.outcome.failed += count(counts, " failed");
            self.outcome.skipped += count(counts, " ignored") + skips;
        }
        match line {
            "successes:" => self.in_successes = true,
            "failures:" => self.in_successes = false,
            _ if line.starts_with("test result: ") => self.in_successes = false,
            _ => {}
        }
        !self.in_successes
    }
}

/// The number before `word` in `ok. 2 passed; 0 failed; …`.
fn count(counts: &str, word: &str) -> u32 {
    let before = counts.split(word).next().unwrap_or_default();
    before.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\nrunning 4 tests\ntest a ... ok\ntest b ... ok\ntest c ... FAILED\ntest d ... ignored\n\n\
        successes:\n\n---- a stdout ----\nnoise\n\n---- b stdout ----\nSKIPPED b: not root; run `sudo …`\n\n\
        successes:\n    a\n    b\n\nfailures:\n\n---- c stdout ----\nthe reason\n\nfailures:\n    c\n\n\
        test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n";

    #[test]
    fn skips_and_failures_are_counted_and_shown() {
        let mut reader = Reader::default();
        let shown: Vec<&str> = OUTPUT.lines().filter(|line| reader.read(line)).collect();
        assert_eq!(reader.outcome, Outcome { passed: 1, failed: 1, skipped: 2 });
        assert!(shown.contains(&"SKIPPED b: not root; run `sudo …`"), "{shown:#?}");
        assert!(shown.contains(&"the reason"), "{shown:#?}");
        assert!(!shown.contains(&"noise"), "{shown:#?}");
    }

    #[test]
    fn results_add_up() {
        let mut reader = Reader::default();
        for _ in 0..2 {
            reader.read(
                "test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1s",
            );
        }
        assert_eq!(reader.outcome.to_string(), "24 passed, 0 failed, 0 skipped");
    }
}
