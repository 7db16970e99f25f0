//! One test in a process of its own: its time, its deadline, its output. A test that hangs or dies takes no other
//! with it.

use crate::test::libtest::Counts;
use anyhow::{Context, Result};
use std::ffi::OsString;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A test that is too long for the short run says so by the reason why it is ignored: `full: why`.
const FULL: &str = "full: ";
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A test of the short run takes a minute at most when the machine is free.
const SHORT_LIMIT: Duration = Duration::from_mins(8);
const FULL_LIMIT: Duration = Duration::from_mins(40);

/// How tests are run: what they find around them, and whether the long ones are among them.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    pub(super) folder: PathBuf,
    pub(super) scratch: PathBuf,
    pub(super) envs: Vec<(&'static str, OsString)>,
    pub(super) full: bool,
}

/// How a test ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Passed,
    Failed,
    /// It is left out of the short run, for this reason.
    Full(String),
}

/// A test that ran, or that was left out.
#[derive(Debug, Clone)]
pub(super) struct Ran {
    pub(super) test: Test,
    pub(super) outcome: Outcome,
    pub(super) seconds: f64,
    /// What it wrote, where it failed.
    pub(super) output: String,
}

/// One test of one program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Test {
    /// The program's name: `cluster`.
    pub(super) program: String,
    pub(super) path: PathBuf,
    /// The function's name.
    pub(super) name: String,
}

impl std::fmt::Display for Test {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}::{}", self.program, self.name)
    }
}

/// The tests of a program, in the order in which it names them.
pub(super) fn list(program: &str, path: &PathBuf) -> Result<Vec<Test>> {
    let output = Command::new(path).args(["--list", "--format", "terse"]).output();
    let output = output.with_context(|| format!("cannot run {}", path.display()))?;
    let names = String::from_utf8_lossy(&output.stdout);
    let test = |name: &str| Test { program: program.to_owned(), path: path.clone(), name: name.to_owned() };
    Ok(names.lines().filter_map(|line| line.strip_suffix(": test")).map(test).collect())
}

/// Runs it to its end or its deadline.
pub(super) fn run(test: Test, setting: &Setting) -> Result<Ran> {
    let log = setting.scratch.join(format!("{}-{}.log", test.program, test.name));
    let file = File::create(&log).with_context(|| log.display().to_string())?;
    let mut command = Command::new(&test.path);
    command.args(["--exact", &test.name, "--test-threads", "1"]);
    if setting.full {
        command.arg("--include-ignored");
    }
    command
        .current_dir(&setting.folder)
        .env("CARGO_MANIFEST_DIR", &setting.folder)
        .env("TMPDIR", &setting.scratch)
        // Errors tell their causes themselves; a backtrace of the test runner would bury them.
        .env("RUST_LIB_BACKTRACE", "0")
        .envs(setting.envs.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stderr(file.try_clone()?)
        .stdout(file);
    let begin = Instant::now();
    let child = command.spawn().with_context(|| format!("cannot run {}", test.path.display()))?;
    let limit = if setting.full { FULL_LIMIT } else { SHORT_LIMIT };
    let status = wait(child, limit)?;
    let seconds = begin.elapsed().as_secs_f64();

    let mut output = String::from_utf8_lossy(&std::fs::read(&log)?).into_owned();
    let outcome = judge(&test.name, status.is_some_and(|status| status.success()), &output);
    if status.is_none() {
        let killed = format!("killed: it did not end within {} s\n", limit.as_secs());
        output.push_str(&killed);
    }
    if outcome != Outcome::Failed {
        output.clear();
    }
    Ok(Ran { test, outcome, seconds, output })
}

/// `None` when it had to be killed.
fn wait(mut child: Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// What Rust's test runner says about its only test. Pure.
///
/// Passed only if it was seen to pass: a test that is ignored for another reason than its length has failed.
fn judge(name: &str, success: bool, output: &str) -> Outcome {
    let ignored = format!("test {name} ... ignored");
    let mut counts = Counts::default();
    for line in output.lines() {
        if let Some(why) = line.strip_prefix(&ignored).and_then(|rest| rest.strip_prefix(", "))
            && let Some(why) = why.strip_prefix(FULL)
        {
            return Outcome::Full(why.trim().to_owned());
        }
        counts.read_line(line);
    }
    if success && counts == Counts::PASSED { Outcome::Passed } else { Outcome::Failed }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: &str = "0 measured; 7 filtered out; finished in 0.00s";

    #[test]
    fn a_test_passed_only_if_it_was_seen_to_pass() {
        let ok = format!("test a ... noise\nok\n\ntest result: ok. 1 passed; 0 failed; 0 ignored; {NONE}\n");
        assert_eq!(judge("a", true, &ok), Outcome::Passed);
        assert_eq!(judge("a", false, &ok), Outcome::Failed, "it died at its very end");
        let none = format!("test result: ok. 0 passed; 0 failed; 0 ignored; {NONE}\n");
        assert_eq!(judge("a", true, &none), Outcome::Failed, "it was not found");
        assert_eq!(judge("a", true, "running 1 test\n"), Outcome::Failed, "it was killed");
    }

    #[test]
    fn only_a_test_that_is_too_long_may_be_left_out_and_says_why() {
        let result = format!("test result: ok. 0 passed; 0 failed; 1 ignored; {NONE}\n");
        let said = |why: &str| judge("a", true, &format!("test a ... ignored{why}\n\n{result}"));
        assert_eq!(said(", full: five minutes"), Outcome::Full("five minutes".to_owned()));
        assert_eq!(said(", does not work"), Outcome::Failed);
        assert_eq!(said(""), Outcome::Failed);
    }

    #[test]
    fn a_test_that_hangs_is_killed_at_its_deadline() {
        let hangs = Command::new("sleep").arg("60").spawn().unwrap();
        let begin = Instant::now();
        assert_eq!(wait(hangs, Duration::from_millis(100)).unwrap(), None);
        assert!(begin.elapsed() < Duration::from_secs(30));
    }
}
