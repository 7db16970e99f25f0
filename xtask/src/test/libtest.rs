//! Reads the counts out of what Rust's test runner prints. Pure.

use super::outcome::Counts;

/// The counts of one line, when it is a result line: `test result: ok. 3 passed; 0 failed; …`.
///
/// An ignored test counts as failed, since nobody has seen it pass.
pub(super) fn counts(line: &str) -> Counts {
    let mut counts = Counts::default();
    let Some(result) = line.trim().strip_prefix("test result: ") else { return counts };
    // "ok. 3 passed; 0 failed; 1 ignored; …": the word before each name is its count.
    let words: Vec<&str> = result.split_whitespace().collect();
    for pair in words.windows(2) {
        let (Ok(count), name) = (pair[0].parse::<u32>(), pair[1].trim_end_matches(';')) else { continue };
        match name {
            "passed" => counts.passed += count,
            "failed" | "ignored" => counts.failed += count,
            _ => {}
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_line_is_read() {
        let line = "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 5 filtered out; finished in 0.1s\n";
        assert_eq!(counts(line), Counts { passed: 1, failed: 2 });
    }

    #[test]
    fn an_ignored_test_is_a_failed_one() {
        let line =
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0s";
        assert_eq!(counts(line), Counts { passed: 3, failed: 1 });
    }

    #[test]
    fn what_a_test_prints_is_no_result() {
        assert_eq!(counts("7 passed; 3 failed in my own words"), Counts::default());
    }
}
