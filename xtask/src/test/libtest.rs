//! Reads the counts out of what Rust's test runner prints. Pure.

/// How many tests ended how.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u32,
    pub(crate) failed: u32,
}

impl Counts {
    /// One thing that went well.
    pub(crate) const PASSED: Self = Self { passed: 1, failed: 0 };
    /// One thing that did not.
    pub(crate) const FAILED: Self = Self { passed: 0, failed: 1 };

    /// Takes the counts of one line, if it is a result line: `test result: ok. 3 passed; 0 failed; …`.
    ///
    /// An ignored test counts as failed, since nobody has seen it pass.
    pub(crate) fn read_line(&mut self, line: &str) {
        let Some(result) = line.trim().strip_prefix("test result: ") else { return };
        // "ok. 3 passed; 0 failed; 1 ignored; …": the word before each name is its count.
        let words: Vec<&str> = result.split_whitespace().collect();
        for pair in words.windows(2) {
            let (Ok(count), name) = (pair[0].parse::<u32>(), pair[1].trim_end_matches(';')) else { continue };
            match name {
                "passed" => self.passed += count,
                "failed" | "ignored" => self.failed += count,
                _ => {}
            }
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Counts {
        let mut counts = Counts::default();
        text.lines().for_each(|line| counts.read_line(line));
        counts
    }

    #[test]
    fn results_of_several_test_programs_add_up() {
        let text = "running 3 tests\ntest a ... ok\n\
            test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s\n\
            test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 5 filtered out; finished in 0.1s\n";
        assert_eq!(read(text), Counts { passed: 4, failed: 2 });
    }

    #[test]
    fn an_ignored_test_is_a_failed_one() {
        let text =
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0s";
        assert_eq!(read(text), Counts { passed: 3, failed: 1 });
    }

    #[test]
    fn the_summary_has_the_form_that_ci_reads() {
        assert_eq!(Counts { passed: 12, failed: 0 }.to_string(), "12 passed, 0 failed");
    }

    #[test]
    fn what_a_test_prints_is_no_result() {
        assert_eq!(read("7 passed; 3 failed in my own words"), Counts::default());
    }
}
