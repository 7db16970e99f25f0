//! What a run prints, and what a run that failed leaves. Decides nothing.

use crate::accountant::{Line, is_clean};
use crate::books::Books;
use crate::history::History;
use anyhow::Result;
use std::fmt::Write as _;
use std::path::Path;

/// So many findings of a line are printed; all stand in the file.
const SHOWN: usize = 5;

/// What a run was about, and what came of it.
#[derive(Clone, Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Calls, events, mails, for people.
    pub counts: String,
    /// The accountant's lines.
    pub lines: Vec<Line>,
    /// What the harness itself could not do.
    pub troubles: Vec<String>,
    /// The names of the faults that were done.
    pub faults: Vec<String>,
}

impl Report {
    /// Sums a run up.
    #[must_use]
    pub fn new(seed: u64, history: &History, books: &Books, lines: Vec<Line>, troubles: Vec<String>) -> Self {
        let lost =
            history.calls.iter().filter(|call| call.status().is_none_or(|status| status >= 500)).count();
        let counts = format!(
            "{} faults, {} calls ({lost} without an answer that says yes or no), {} events, {} mails",
            history.faults.len(),
            history.calls.len(),
            books.events.len(),
            books.mails.len()
        );
        let faults = history.faults.iter().map(|done| done.fault.name()).collect();
        Self { seed, counts, lines, troubles, faults }
    }

    /// Did everything add up?
    #[must_use]
    pub fn is_clean(&self) -> bool {
        is_clean(&self.lines) && self.troubles.is_empty()
    }

    /// The verdict, line by line; `all` of the findings or the first few.
    #[must_use]
    pub fn text(&self, all: bool) -> String {
        let mut text = format!("seed {}: {}\n", self.seed, self.counts);
        for line in &self.lines {
            let mark = if line.broken.is_empty() { "ok" } else { "!!" };
            let _ = writeln!(text, "  {mark} {} ({} checked)", line.promise, line.checked);
            let shown = if all { line.broken.len() } else { SHOWN };
            for broken in line.broken.iter().take(shown) {
                let _ = writeln!(text, "       {broken}");
            }
            if line.broken.len() > shown {
                let _ = writeln!(text, "       … and {} more", line.broken.len() - shown);
            }
        }
        for trouble in &self.troubles {
            let _ = writeln!(text, "  !! the harness: {trouble}");
        }
        text
    }

    /// Leaves the verdict and the books in this folder, beside history and logs.
    pub fn leave(&self, books: &Books, folder: &Path) -> Result<()> {
        std::fs::write(folder.join("verdict.txt"), self.text(true))?;
        let mut log = String::new();
        for entry in &books.events {
            log.push_str(&serde_json::to_string(entry)?);
            log.push('\n');
        }
        std::fs::write(folder.join("events.ndjson"), log)?;
        Ok(std::fs::write(folder.join("books.json"), serde_json::to_string(books)?)?)
    }
}
