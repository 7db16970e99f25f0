//! One run of `cargo test`: its output passes through, its counts are kept.

use super::libtest::Counts;
use crate::{build, cache, tools};
use anyhow::{Context, Result, bail};
use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

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
        let mut child = self.command.stdout(Stdio::piped()).spawn().context("cannot run cargo test")?;
        let mut counts = Counts::default();
        let output = child.stdout.take().context("cargo test has no output")?;
        for line in BufReader::new(output).split(b'\n') {
            let line = line?;
            let line = String::from_utf8_lossy(&line);
            counts.read_line(&line);
            println!("{line}");
        }
        let status = child.wait()?;
        if !status.success() && counts.failed == 0 {
            // It did not compile, or a test program died: no result line tells of that.
            println!("  !! cargo test ended with {status}");
            counts += Counts::FAILED;
        }
        if counts == Counts::default() {
            bail!("cargo test ran no test");
        }
        Ok(counts)
    }
}
