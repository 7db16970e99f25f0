//! What a person reads of an error: all of it, on one line.

use std::error::Error;

/// The error and what caused it. Some errors print their cause themselves: each part stands there once.
///
/// ```
/// let inner = std::io::Error::other("the disk is full");
/// let outer = std::io::Error::other(inner);
/// assert_eq!(telemetry::with_causes(&outer), "the disk is full");
/// ```
#[must_use]
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Level {
        text: &'static str,
        source: Option<Box<Level>>,
    }

    #[test]
    fn every_cause_is_named_once_also_one_that_its_error_prints_itself() {
        let inner = Level { text: "refused", source: None };
        let middle = Level { text: "connect: refused", source: Some(Box::new(inner)) };
        let outer = Level { text: "no mail server", source: Some(Box::new(middle)) };
        assert_eq!(with_causes(&outer), "no mail server: connect: refused");
    }
}
