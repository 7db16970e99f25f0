//! What is wrong with a request, precisely enough to mend it: which item, which field, what was
//! found and what is expected.

use serde::Serialize;
use std::fmt;

/// How many mistakes are listed; the rest is counted only.
const MAX_LISTED: usize = 20;

/// Whether a request could not be read at all or says something impossible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidKind {
    /// It is neither an object nor a list: HTTP's 400.
    Malformed,
    /// It was understood and cannot be so: HTTP's 422.
    Unprocessable,
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// Index of the item in a list; absent for a single object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub item: Option<usize>,
    /// The field; absent when the item as a whole is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What was wrong: "is missing", "is negative (-3)".
    pub problem: String,
    /// What is expected: "an integer from 0".
    pub expected: String,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.item, &self.field) {
            (Some(item), Some(field)) => write!(f, "item {item}: {field} ")?,
            (Some(item), None) => write!(f, "item {item} ")?,
            (None, Some(field)) => write!(f, "{field} ")?,
            (None, None) => write!(f, "the body ")?,
        }
        write!(f, "{}; expected: {}", self.problem, self.expected)
    }
}

/// A request that is refused as a whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Invalid {
    kind: InvalidKind,
    errors: Vec<FieldError>,
    total: usize,
}

impl Invalid {
    /// A body that cannot be read.
    #[must_use]
    pub fn malformed(problem: impl Into<String>, expected: &str) -> Self {
        let error =
            FieldError { item: None, field: None, problem: problem.into(), expected: expected.to_owned() };
        Self { kind: InvalidKind::Malformed, errors: vec![error], total: 1 }
    }

    /// Mistakes in a body that was read.
    #[must_use]
    pub fn unprocessable(mut errors: Vec<FieldError>) -> Self {
        let total = errors.len();
        errors.truncate(MAX_LISTED);
        Self { kind: InvalidKind::Unprocessable, errors, total }
    }

    /// Malformed or unprocessable.
    #[must_use]
    pub fn kind(&self) -> InvalidKind {
        self.kind
    }

    /// The mistakes, at most twenty.
    #[must_use]
    pub fn errors(&self) -> &[FieldError] {
        &self.errors
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            write!(f, "{}{error}", if index == 0 { "" } else { "; " })?;
        }
        match self.total - self.errors.len() {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}
