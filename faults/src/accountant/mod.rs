//! The accountant: compares what clients were told with what was written down, and says what does not add up.
//! Pure, and independent: it knows the shop's promises, not its code.

mod commands;
mod log;
mod mails;
mod orders;
mod reads;
mod rest;
mod state;
mod stock;

use crate::books::Books;
use crate::history::History;

/// One promise: how often it was checked, and where it was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The promise.
    pub promise: &'static str,
    /// How many things were looked at.
    pub checked: usize,
    /// What does not add up.
    pub broken: Vec<String>,
}

impl Line {
    pub(crate) fn new(promise: &'static str) -> Self {
        Self { promise, checked: 0, broken: Vec::new() }
    }

    /// Counts a check; `why` says what is wrong when it does not hold.
    pub(crate) fn check(&mut self, holds: bool, why: impl FnOnce() -> String) {
        self.checked += 1;
        if !holds {
            self.broken.push(why());
        }
    }
}

/// All promises, each with its findings.
#[must_use]
pub fn audit(history: &History, books: &Books) -> Vec<Line> {
    let mut lines = commands::lines(history, books).to_vec();
    lines.extend(log::lines(history, books));
    lines.extend(stock::lines(books));
    lines.extend(orders::lines(books));
    lines.extend(mails::lines(history, books));
    lines.extend(state::lines(books));
    lines.push(reads::line(history, books));
    lines.extend(rest::lines(history, books));
    lines
}

/// What must hold at rest and may not hold yet while something is still on its way.
#[must_use]
pub fn at_rest(books: &Books) -> Vec<Line> {
    let mut lines = orders::lines(books).to_vec();
    lines.extend(mails::lines(&History::default(), books).into_iter().take(2));
    lines.extend(state::lines(books));
    lines
}

/// Does all of it add up?
#[must_use]
pub fn is_clean(lines: &[Line]) -> bool {
    lines.iter().all(|line| line.broken.is_empty())
}
