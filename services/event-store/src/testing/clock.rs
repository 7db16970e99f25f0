//! A wall clock of a server's own that a test can set while the server runs: a small library
//! (`clock.c`) that the server is started with. The clock that measures durations goes on as it is.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/testing/clock.c");

/// A server's wall clock.
#[derive(Debug)]
pub struct Clock {
    folder: TempDir,
}

impl Clock {
    /// A clock that is right.
    ///
    /// # Panics
    /// When `cc`, which Rust links with, is not installed: a test cannot do without it.
    #[must_use]
    pub fn new() -> Self {
        let folder = TempDir::new().unwrap_or_else(|error| panic!("no folder for a clock: {error}"));
        let clock = Self { folder };
        clock.set(0);
        let mut compiler = Command::new("cc");
        compiler.args(["-O1", "-shared", "-fPIC", "-o"]).arg(clock.library()).arg(SOURCE);
        match compiler.status() {
            Ok(status) if status.success() => clock,
            Ok(_) => panic!("{SOURCE} does not compile"),
            Err(error) => panic!("cc, which Rust links with, cannot be run: {error}"),
        }
    }

    /// Sets it this much ahead of the machine's clock.
    ///
    /// # Panics
    /// When its file cannot be written.
    pub fn ahead(&self, by: Duration) {
        self.set(seconds(by));
    }

    /// Sets it this much behind the machine's clock.
    ///
    /// # Panics
    /// As [`Clock::ahead`].
    pub fn behind(&self, by: Duration) {
        self.set(-seconds(by));
    }

    fn library(&self) -> PathBuf {
        self.folder.path().join("clock.so")
    }

    fn offset(&self) -> PathBuf {
        self.folder.path().join("offset")
    }

    /// The server maps the file, so it is written in place, with one write.
    fn set(&self, offset: i64) {
        use std::io::Write;
        let file = std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(self.offset());
        file.and_then(|mut file| file.write_all(&offset.to_ne_bytes()))
            .unwrap_or_else(|error| panic!("the clock cannot be set: {error}"));
    }

    /// The variables that a server is started with to go by it.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, String)> {
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        vec![
            ("LD_PRELOAD".to_owned(), text(self.library())),
            ("CLOCK_OFFSET".to_owned(), text(self.offset())),
        ]
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

fn seconds(by: Duration) -> i64 {
    i64::try_from(by.as_secs()).unwrap_or(i64::MAX)
}
