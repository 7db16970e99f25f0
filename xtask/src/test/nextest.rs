//! Runs tests by cargo-nextest, each in a process of its own, as `.config/nextest.toml` says. Reads how they ended from
//! its report.

use super::outcome::{Outcome, Test};
use crate::tools::{self, Run};
use crate::{build, cache, step::step};
use anyhow::{Context, Result, bail, ensure};
use quick_junit::{Report, TestCaseStatus};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

/// What nextest ends with when a filter selects nothing.
const NO_TESTS: i32 = 4;

/// The tests of one profile, with what they find around them.
#[derive(Debug, Clone)]
pub(super) struct Suite {
    pub(super) profile: &'static str,
    /// A filter expression of nextest, beside the profile's own.
    pub(super) filter: Option<String>,
    /// The long tests too.
    pub(super) full: bool,
    /// One test after the other.
    pub(super) one_by_one: bool,
    pub(super) envs: Vec<(&'static str, OsString)>,
}

impl Suite {
    pub(super) fn new(profile: &'static str) -> Self {
        Self { profile, filter: None, full: false, one_by_one: false, envs: Vec::new() }
    }

    pub(super) fn env(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.envs.push((name, value.into()));
        self
    }

    /// Runs them to their end; a test that failed is no error. Temporary files go to `scratch`.
    pub(super) fn run(
        &self,
        scratch: &Path,
        reasons: &BTreeMap<String, Option<String>>,
    ) -> Result<Vec<Test>> {
        let report = tools::root().join("target/nextest").join(self.profile).join("junit.xml");
        if report.exists() {
            std::fs::remove_file(&report)?;
        }
        let mut command = command("run")?;
        command.args(["--profile", self.profile, "--cargo-quiet"]);
        if let Some(filter) = &self.filter {
            command.args(["--filterset", filter]);
        }
        if self.full {
            command.args(["--run-ignored", "all"]);
        }
        if self.one_by_one {
            command.args(["--test-threads", "1"]);
        }
        command.env("TMPDIR", scratch).envs(self.envs.iter().map(|(name, value)| (name, value)));
        let status = passed_through(&mut command, self.profile, |_| {})?;
        if status.code() == Some(NO_TESTS) {
            bail!("no test is selected by {}", self.filter.as_deref().unwrap_or(self.profile));
        }
        let text = std::fs::read_to_string(&report)
            .with_context(|| format!("the tests did not run: nextest ended with {status}"))?;
        let tests = tests(&text, reasons)?;
        let has_failed = tests.iter().any(|test| test.outcome == Outcome::Failed);
        ensure!(status.success() || has_failed, "nextest ended with {status}");
        Ok(tests)
    }
}

/// The names of all tests of a profile, the long ones too: `program::name`.
pub(super) fn list(profile: &str) -> Result<Vec<String>> {
    let mut command = command("list")?;
    command.args(["--profile", profile, "--cargo-quiet", "--run-ignored", "all", "--message-format", "json"]);
    names(&command.text()?)
}

fn command(verb: &str) -> Result<Command> {
    let cargo = build::cargo()?;
    let mut command = Command::new(program()?);
    command.args(["nextest", verb, "--workspace", "--locked"]).current_dir(tools::root());
    for (name, value) in cargo.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    // An error says its causes itself; a backtrace of the test runner would bury them.
    command.env("RUST_LIB_BACKTRACE", "0").env("NEXTEST_HIDE_PROGRESS_BAR", "1");
    Ok(command)
}

/// Installs the version that the configuration asks for, when it is not there yet. Call with no lock held.
pub(super) fn ensure_installed() -> Result<()> {
    let program = program()?;
    if program.is_file() {
        return Ok(());
    }
    let _lock = tools::lock()?;
    if program.is_file() {
        return Ok(());
    }
    let version = version()?;
    let scratch = tools::scratch()?;
    step(&format!("cargo-nextest {version} built"), || {
        let mut cargo = build::cargo()?;
        // Unoptimized: it waits for the tests nearly all of its time.
        cargo.args(["install", "--quiet", "cargo-nextest", "--version", &version, "--locked", "--debug"]);
        cargo.args(["--no-default-features", "--root"]).arg(folder()?);
        cargo.env("CARGO_TARGET_DIR", scratch.join("nextest")).current_dir(&scratch);
        cargo.run()
    })?;
    Ok(std::fs::remove_dir_all(scratch)?)
}

fn program() -> Result<PathBuf> {
    Ok(folder()?.join("bin/cargo-nextest"))
}

fn folder() -> Result<PathBuf> {
    Ok(cache::dir()?.join(format!("nextest-{}", version()?)))
}

fn version() -> Result<String> {
    let path = tools::root().join(".config/nextest.toml");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let config: toml::Table = toml::from_str(&text).with_context(|| path.display().to_string())?;
    let version = config.get("nextest-version").and_then(toml::Value::as_str);
    version.map(str::to_owned).context(".config/nextest.toml names no nextest-version")
}

/// Runs a command to its end; each line that it prints is printed with a mark and given to `look`.
pub(super) fn passed_through(
    command: &mut Command,
    mark: &str,
    look: impl FnMut(&str) + Send,
) -> Result<ExitStatus> {
    let name = command.get_program().display().to_string();
    let cannot = || format!("cannot run {name}");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(cannot)?;
    let out = child.stdout.take().with_context(cannot)?;
    let err = child.stderr.take().with_context(cannot)?;
    std::thread::scope(|scope| {
        scope.spawn(|| print_marked(err, mark, |_| {}));
        print_marked(out, mark, look);
    });
    child.wait().with_context(cannot)
}

fn print_marked(output: impl Read, mark: &str, mut look: impl FnMut(&str)) {
    // A line that cannot be read is the last one: the program has ended.
    for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        look(&line);
        println!("{mark:<15} | {line}");
    }
}

/// How the tests of a report ended. An ignored test that gives no reason has failed.
fn tests(junit: &str, reasons: &BTreeMap<String, Option<String>>) -> Result<Vec<Test>> {
    let report = Report::deserialize_from_str(junit).context("nextest's report")?;
    let mut tests = Vec::new();
    for suite in report.test_suites {
        for case in suite.test_cases {
            let name = case.name.to_string();
            let function = name.rsplit("::").next().unwrap_or_default();
            let outcome = match case.status {
                TestCaseStatus::Success { .. } => Outcome::Passed,
                TestCaseStatus::NonSuccess { .. } => Outcome::Failed,
                TestCaseStatus::Skipped { .. } => {
                    reasons.get(function).cloned().flatten().map_or(Outcome::Failed, Outcome::LeftOut)
                }
            };
            let seconds = case.time.unwrap_or_default().as_secs_f64();
            tests.push(Test { program: suite.name.to_string(), name, outcome, seconds });
        }
    }
    Ok(tests)
}

fn names(json: &str) -> Result<Vec<String>> {
    let list: serde_json::Value = serde_json::from_str(json).context("nextest's list of tests")?;
    let suites = list["rust-suites"].as_object().context("nextest's list has no suites")?;
    let mut names = Vec::new();
    for (program, suite) in suites {
        let cases = suite["testcases"].as_object().into_iter().flatten();
        let matching = cases.filter(|(_, case)| case["filter-match"]["status"] == "matches");
        names.extend(matching.map(|(name, _)| format!("{program}::{name}")));
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_how_each_test_ended() {
        let junit = r#"<?xml version="1.0" encoding="UTF-8"?>
            <testsuites name="nextest-run" tests="4" skipped="2" failures="1" errors="0" time="3.0">
              <testsuite name="e2e::cluster" tests="4" skipped="2" errors="0" failures="1">
                <testcase name="a" classname="e2e::cluster" time="1.500"></testcase>
                <testcase name="m::b" classname="e2e::cluster" time="0.500"><failure type="test failure"/></testcase>
                <testcase name="m::long" classname="e2e::cluster"><skipped/></testcase>
                <testcase name="broken" classname="e2e::cluster"><skipped/></testcase>
              </testsuite>
            </testsuites>"#;
        let reasons = [("long".to_owned(), Some("ten minutes".to_owned())), ("broken".to_owned(), None)];
        let tests = tests(junit, &reasons.into()).unwrap();
        let said: Vec<_> = tests.iter().map(|test| (test.name.as_str(), test.outcome.clone())).collect();
        let expected = [
            ("a", Outcome::Passed),
            ("m::b", Outcome::Failed),
            ("m::long", Outcome::LeftOut("ten minutes".to_owned())),
            ("broken", Outcome::Failed),
        ];
        assert_eq!(said, expected);
        assert!((tests[0].seconds - 1.5).abs() < 0.01);
        assert_eq!(tests[1].to_string(), "e2e::cluster::m::b");
    }

    #[test]
    fn the_list_holds_what_the_profile_selects() {
        let json = r#"{"rust-suites": {"e2e::cluster": {"testcases": {
            "a": {"filter-match": {"status": "matches"}}, "b": {"filter-match": {"status": "mismatch"}}}}}}"#;
        assert_eq!(names(json).unwrap(), ["e2e::cluster::a"]);
    }

    #[test]
    fn the_configuration_names_the_version() {
        assert!(version().unwrap().starts_with("0."));
    }
}
