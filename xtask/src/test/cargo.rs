//! One run of `cargo test`, or of a program that it built: the output passes through, the counts are kept.

use super::libtest::Counts;
use crate::{build, cache, tools};
use anyhow::{Context, Result, bail};
use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

pub(super) struct CargoTest {
    command: Command,
    threads: Option<usize>,
}

impl CargoTest {
    /// Tests that write temporary files do so in `scratch`.
    pub(super) fn new(scratch: &Path) -> Self {
        let mut command = build::cargo();
        command.args(["test", "--locked"]).current_dir(tools::root()).env("TMPDIR", scratch);
        // Errors tell their causes themselves; a backtrace of the test runner would bury them.
        command.env("RUST_LIB_BACKTRACE", "0");
        Self { command, threads: None }
    }

    pub(super) fn args<'a>(mut self, args: impl IntoIterator<Item = &'a str>) -> Self {
        self.command.args(args);
        self
    }

    pub(super) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub(super) fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// The counts of all its test programs. A failed test is a count; an error is what kept them from running.
    pub(super) fn run(mut self) -> Result<Counts> {
        if let Some(threads) = self.threads {
            self.command.args(["--", "--test-threads", &threads.to_string()]);
        }
        self.command.env("CARGO_TARGET_DIR", cache::target_dir()?);
        counts(&mut self.command)
    }

    /// Builds instead of running: the programs of a package's tests and examples, but not its unit tests.
    pub(super) fn programs(mut self, package: &str) -> Result<Vec<PathBuf>> {
        self.command.args(["--no-run", "--message-format", "json-render-diagnostics"]);
        self.command.env("CARGO_TARGET_DIR", cache::target_dir()?);
        let output = self.command.stderr(Stdio::inherit()).output().context("cannot run cargo test")?;
        if !output.status.success() {
            bail!("cargo test --no-run ended with {}", output.status);
        }
        let programs: Vec<PathBuf> = String::from_utf8_lossy(&output.stdout)
            .lines()
            .filter_map(|line| program(line, package))
            .collect();
        if programs.is_empty() {
            bail!("{package} has no tests");
        }
        Ok(programs)
    }
}

/// Runs a program of tests that was built before, in its package's folder as cargo would.
pub(super) fn run_program(
    program: &Path,
    folder: &Path,
    scratch: &Path,
    threads: usize,
    envs: &[(&str, &OsStr)],
) -> Result<Counts> {
    let mut command = Command::new(program);
    command.args(["--test-threads", &threads.to_string()]).current_dir(folder);
    command.env("CARGO_MANIFEST_DIR", folder).env("TMPDIR", scratch).env("RUST_LIB_BACKTRACE", "0");
    command.envs(envs.iter().copied());
    judged(&mut command)
}

/// The counts of a command whose result lines are those of Rust's test runner.
pub(super) fn counts(command: &mut Command) -> Result<Counts> {
    let counts = judged(command)?;
    if counts == Counts::default() {
        bail!("{} ran no test", command.get_program().display());
    }
    Ok(counts)
}

fn judged(command: &mut Command) -> Result<Counts> {
    let (mut counts, status) = passed_through(command)?;
    if !status.success() && counts.failed == 0 {
        // It did not compile, or a test program died: no result line tells of that.
        println!("  !! {} ended with {status}", command.get_program().display());
        counts += Counts::FAILED;
    }
    Ok(counts)
}

fn passed_through(command: &mut Command) -> Result<(Counts, ExitStatus)> {
    let name = command.get_program().to_owned();
    let cannot = || format!("cannot run {}", name.display());
    let mut child = command.stdout(Stdio::piped()).spawn().with_context(cannot)?;
    let mut counts = Counts::default();
    let output = child.stdout.take().with_context(cannot)?;
    for line in BufReader::new(output).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        counts.read_line(&line);
        println!("{line}");
    }
    Ok((counts, child.wait()?))
}

/// The program in a line of cargo's JSON, if it is one of the package's tests or examples.
fn program(line: &str, package: &str) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(line).ok()?;
    let of_package = message["package_id"].as_str()?.contains(&format!("/{package}#"));
    let kind = message["target"]["kind"][0].as_str()?;
    let is_test = message["profile"]["test"].as_bool()? && matches!(kind, "test" | "example");
    (of_package && is_test).then(|| message["executable"].as_str().map(PathBuf::from))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_programs_of_a_packages_tests_are_found_in_what_cargo_prints() {
        let line = |id: &str, kind: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","package_id":"path+file:///x/services/{id}#0.1.0",
                "target":{{"kind":["{kind}"]}},"profile":{{"test":true}},"executable":"/t/deps/append-1"}}"#
            )
        };
        let found = |id, kind| program(&line(id, kind), "event-store");
        assert_eq!(found("event-store", "test"), Some(PathBuf::from("/t/deps/append-1")));
        assert_eq!(found("event-store", "lib"), None);
        assert_eq!(found("event-store-cli", "test"), None);
        assert_eq!(program("warning: no JSON", "event-store"), None);
    }
}
