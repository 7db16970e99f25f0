//! Why a position could not be registered, moved or removed.

use crate::error::{AppendError, AppendErrorKind, ReadError, ReadErrorKind};
use crate::{Id, StreamName};

/// A call on a position that changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("position: {message}")]
pub struct PositionError {
    kind: PositionErrorKind,
    message: String,
}

/// Why a call on a position changed nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PositionErrorKind {
    /// The name or the streams cannot be those of a position.
    Invalid,
    /// No position of this name is registered on the stream: it never was, it was removed, or the server lost it.
    /// Register it where the reader is.
    NotRegistered {
        /// The stream.
        stream: StreamName,
    },
    /// Entries after the id that was asked for were trimmed: begin from a state that covers them, such as the snapshots
    /// of a replay.
    Trimmed {
        /// The stream.
        stream: StreamName,
        /// The first id of it that is left.
        first: Id,
    },
    /// The position is registered after the id that was asked for. Another replica of the reader has come further, or the
    /// reader's own state is an older one that was restored: read its position again, and [rewind](crate::Position::rewind)
    /// where it is the older one.
    Ahead {
        /// The stream.
        stream: StreamName,
        /// Where the position is.
        position: Id,
    },
    /// The log ends before the id that was asked for: it is an id of another store, or the log lost its end.
    BeyondLog {
        /// The last id of the log.
        last: Id,
    },
    /// The position has moved since it was listed, so a program uses it; nothing was removed.
    Moved {
        /// The stream.
        stream: StreamName,
    },
    /// The server refused: a missing right, or a key that holds what the store never wrote.
    Refused,
    /// The server could not be reached; every call may be repeated.
    Unavailable,
}

impl PositionError {
    pub(super) fn new(kind: PositionErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// What happened, to match on.
    #[must_use]
    pub fn kind(&self) -> &PositionErrorKind {
        &self.kind
    }
}

impl From<AppendError> for PositionError {
    fn from(e: AppendError) -> Self {
        let unavailable = e.kind() == AppendErrorKind::Unavailable;
        let kind = if unavailable { PositionErrorKind::Unavailable } else { PositionErrorKind::Refused };
        Self::new(kind, e.to_string())
    }
}

impl From<ReadError> for PositionError {
    fn from(e: ReadError) -> Self {
        let unavailable = e.kind() == ReadErrorKind::Unavailable;
        let kind = if unavailable { PositionErrorKind::Unavailable } else { PositionErrorKind::Refused };
        Self::new(kind, e.to_string())
    }
}
