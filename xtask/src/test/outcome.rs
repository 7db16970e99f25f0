//! How the tests of a part ended, and how long each took. Holds values only.

use anyhow::Result;
use std::time::Instant;

/// How many tests ended how.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u32,
    pub(crate) failed: u32,
}

impl Counts {
    pub(crate) const PASSED: Self = Self { passed: 1, failed: 0 };
    pub(crate) const FAILED: Self = Self { passed: 0, failed: 1 };
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

/// How a test ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Passed,
    Failed,
    /// It is left out of a plain run, for this reason.
    LeftOut(String),
}

/// A test that ran, or that was left out.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Test {
    /// The program: `e2e::cluster`, or `domain` for a crate's unit tests.
    pub(super) program: String,
    /// The function with its modules.
    pub(super) name: String,
    pub(super) outcome: Outcome,
    pub(super) seconds: f64,
}

impl std::fmt::Display for Test {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}::{}", self.program, self.name)
    }
}

/// A part of the run: its tests one by one, or their counts where only these are known.
#[derive(Debug, Clone)]
pub(super) struct Section {
    pub(super) title: String,
    pub(super) seconds: f64,
    pub(super) tests: Vec<Test>,
    /// What is counted beside `tests`.
    pub(super) others: Counts,
}

impl Section {
    /// Runs the work of a part. An error is one failure, and is printed.
    pub(super) fn timed(title: &str, work: impl FnOnce() -> Result<(Vec<Test>, Counts)>) -> Self {
        let begin = Instant::now();
        let (tests, others) = work().unwrap_or_else(|error| {
            println!("  !! {title}: {error:#}");
            (Vec::new(), Counts::FAILED)
        });
        Self { title: title.to_owned(), seconds: begin.elapsed().as_secs_f64(), tests, others }
    }

    /// A part whose own thread panicked: it says why on the terminal.
    pub(super) fn panicked() -> Self {
        Self {
            title: "a part that panicked".to_owned(),
            seconds: 0.0,
            tests: Vec::new(),
            others: Counts::FAILED,
        }
    }

    pub(super) fn counts(&self) -> Counts {
        let mut counts = self.others;
        for test in &self.tests {
            match test.outcome {
                Outcome::Passed => counts += Counts::PASSED,
                Outcome::Failed => counts += Counts::FAILED,
                Outcome::LeftOut(_) => {}
            }
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::bail;

    #[test]
    fn the_summary_has_the_form_that_ci_reads() {
        assert_eq!(Counts { passed: 12, failed: 0 }.to_string(), "12 passed, 0 failed");
    }

    #[test]
    fn a_part_that_could_not_run_is_one_failure() {
        let section = Section::timed("part", || bail!("no compiler"));
        assert_eq!(section.counts(), Counts::FAILED);
    }

    #[test]
    fn a_test_that_was_left_out_is_not_counted() {
        let test = |outcome| Test { program: "p".into(), name: "n".into(), outcome, seconds: 1.0 };
        let tests = [Outcome::Passed, Outcome::Failed, Outcome::LeftOut("long".into())].map(test).into();
        let section = Section::timed("part", || Ok((tests, Counts::PASSED)));
        assert_eq!(section.counts(), Counts { passed: 2, failed: 1 });
    }
}
