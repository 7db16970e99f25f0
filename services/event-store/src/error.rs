//! Errors, one type per operation, with a kind to match on; internals stay private.

use crate::{Appended, Id, InvalidName};
use std::fmt;

/// An append that did not happen, or of which it is unknown whether it did.
#[derive(Debug, thiserror::Error)]
#[error("append: {message}")]
#[non_exhaustive]
pub struct AppendError {
    kind: AppendErrorKind,
    message: String,
    appended: Vec<Appended>,
}

/// Why an append failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AppendErrorKind {
    /// An entity has not the expected version; nothing was written. Read it and decide anew.
    Conflict {
        /// Which event of the batch, from 0.
        index: usize,
        /// The entity's version; `None` when it never existed.
        actual: Option<u64>,
        /// The entity existed and was deleted.
        deleted: bool,
    },
    /// An event id was used before with another body; nothing was written.
    DuplicateId,
    /// The events cannot be appended as they are (a bad name or id, a state that is no object);
    /// nothing was written.
    Invalid,
    /// The batch holds more than [`crate::Config::batch_limit`] permits; nothing was written. Append it in parts, or raise
    /// the limit where the batch must be one step.
    TooLarge {
        /// The events of the batch.
        events: usize,
        /// The events that are permitted.
        most_events: usize,
        /// The bytes that are permitted, of keys and arguments as they are sent.
        most_bytes: usize,
    },
    /// The server could not be reached or did not answer: **unknown** whether it was written. Appending
    /// again with the same event ids is safe.
    Unavailable,
    /// It is in the log of the server that was asked, and fewer copies than asked for have confirmed it in
    /// time (see [`crate::Durability`]): **unknown** whether it outlives that server. The events are
    /// [`AppendError::appended`]; appending them again with the same event ids asks for the copies again.
    Unknown {
        /// How many servers had to confirm.
        wanted: u32,
        /// How many did.
        confirmed: u32,
    },
    /// The server cannot give the durability that was asked for; nothing was written.
    Unsupported,
    /// The server refused (no right to, a key of another type); nothing was written.
    Refused,
}

impl AppendError {
    pub(crate) fn new(kind: AppendErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), appended: Vec::new() }
    }

    /// Too few copies in time.
    pub(crate) fn unknown(appended: Vec<Appended>, wanted: u32, confirmed: u32) -> Self {
        let kind = AppendErrorKind::Unknown { wanted, confirmed };
        let message = format!("appended, but {confirmed} of {wanted} copies confirmed it in time");
        Self { kind, message, appended }
    }

    /// What happened, to match on.
    #[must_use]
    pub fn kind(&self) -> AppendErrorKind {
        self.kind
    }

    /// What was appended although too few copies confirmed it; empty for every other kind.
    #[must_use]
    pub fn appended(&self) -> &[Appended] {
        &self.appended
    }

    /// Is this a refused expectation?
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self.kind, AppendErrorKind::Conflict { .. })
    }
}

/// A read that failed.
#[derive(Debug, thiserror::Error)]
#[error("read: {message}")]
pub struct ReadError {
    kind: ReadErrorKind,
    message: String,
}

/// Why a read failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadErrorKind {
    /// The server could not be reached or did not answer; trying again may help.
    Unavailable,
    /// The server refused (missing rights, a key of another type): its configuration or its content
    /// must change.
    Refused,
    /// What was read is not what the store writes, or not of the type that was asked for.
    Malformed,
    /// A newer program wrote the state that was to be read.
    NewerSchema {
        /// The state's schema.
        schema: u32,
        /// The newest that the reader knows.
        known: u32,
    },
    /// What was asked for cannot be: an index that the kind does not name, a name that there cannot be.
    Invalid,
    /// Events that the reader has not seen were trimmed: begin from a state that covers them, such as the snapshots of a
    /// replay, and go on after the event before `first`.
    Trimmed {
        /// The first id of the stream that is still there.
        first: Id,
    },
}

impl ReadError {
    pub(crate) fn of(kind: ReadErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    pub(crate) fn malformed(message: impl Into<String>) -> Self {
        Self::of(ReadErrorKind::Malformed, message)
    }

    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self::of(ReadErrorKind::Unavailable, message)
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::of(ReadErrorKind::Invalid, message)
    }

    /// What happened, to match on.
    #[must_use]
    pub fn kind(&self) -> ReadErrorKind {
        self.kind
    }
}

impl From<redis::RedisError> for ReadError {
    fn from(e: redis::RedisError) -> Self {
        let kind = match e.kind() {
            _ if crate::connection::is_passing(&e) => ReadErrorKind::Unavailable,
            redis::ErrorKind::UnexpectedReturnType | redis::ErrorKind::Parse => ReadErrorKind::Malformed,
            _ => ReadErrorKind::Refused,
        };
        Self::of(kind, e.to_string())
    }
}

/// A read that had to call a function.
impl From<AppendError> for ReadError {
    fn from(e: AppendError) -> Self {
        let kind = match e.kind() {
            AppendErrorKind::Unavailable | AppendErrorKind::Unknown { .. } => ReadErrorKind::Unavailable,
            _ => ReadErrorKind::Refused,
        };
        Self::of(kind, e.to_string())
    }
}

impl From<InvalidName> for ReadError {
    fn from(e: InvalidName) -> Self {
        Self::invalid(e.to_string())
    }
}

impl From<InvalidName> for AppendError {
    fn from(e: InvalidName) -> Self {
        Self::new(AppendErrorKind::Invalid, e.to_string())
    }
}

/// The store cannot be used on this server.
#[derive(Debug, thiserror::Error)]
#[error("connect: {message}")]
pub struct ConnectError {
    kind: ConnectErrorKind,
    message: String,
}

/// Why a store could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectErrorKind {
    /// The URL is none of Redis.
    InvalidUrl,
    /// The server could not be reached; trying again may help.
    Unavailable,
    /// The server is too old, or may evict keys: its configuration must change.
    Unsuitable,
    /// The program states another value of what all programs of a store must have in common (see [`crate::Settings`]), or
    /// the server would not keep it: the message names both.
    Settings,
}

impl ConnectError {
    pub(crate) fn new(kind: ConnectErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// What happened, to match on.
    #[must_use]
    pub fn kind(&self) -> ConnectErrorKind {
        self.kind
    }
}

/// A projection that is not kept up to date, cannot be read or waited for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProjectionError {
    /// The projection had not come so far when the deadline passed.
    #[error("the projection stands at {position}, not yet at {wanted}")]
    Behind {
        /// Everything up to here is applied.
        position: Id,
        /// What was asked for.
        wanted: Id,
    },
    /// There cannot be such a projection: a bad name, no stream, a stream twice, in the tagged layout streams of several
    /// families. Nothing was written.
    #[error("projection: {0}")]
    Invalid(String),
    /// What is to be applied cannot be: a key of it holds another type, a score is no number, the server lacks a right. The
    /// projector tries again every second, until the key or the program was corrected.
    #[error("projection: {0}")]
    Refused(String),
    /// It must read events that a trim took, and does not say that it can begin from the snapshots.
    #[error(
        "events before {first} were trimmed, so the projection cannot be built from the log: see Projection::from_snapshots"
    )]
    Trimmed {
        /// The first id that is still there.
        first: Id,
    },
    /// It is the version that readers read: activate another one first.
    #[error("version {version} of the projection is the one that is read")]
    Active {
        /// That version.
        version: u32,
    },
    /// A program keeps it up to date: end that program first.
    #[error("a program keeps version {version} of the projection up to date")]
    Built {
        /// That version.
        version: u32,
    },
    /// The server could not be reached, or a key holds what the store never wrote.
    #[error("projection: {0}")]
    Unavailable(String),
}

impl From<ReadError> for ProjectionError {
    fn from(e: ReadError) -> Self {
        Self::Unavailable(e.message)
    }
}

/// A replay that did not come to its end.
#[derive(Debug, thiserror::Error)]
#[error("replay: {message}")]
pub struct ReplayError {
    kind: ReplayErrorKind,
    message: String,
}

/// Why a replay ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReplayErrorKind {
    /// A trim took events that would have been read.
    Trimmed {
        /// The first id that is still there.
        first: Id,
    },
    /// The server could not be reached; trying again may help.
    Unavailable,
    /// The server refused, or what was read is not what the store writes: its rights or its content must change.
    Refused,
}

impl ReplayError {
    pub(crate) fn new(kind: ReplayErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// What happened, to match on.
    #[must_use]
    pub fn kind(&self) -> ReplayErrorKind {
        self.kind
    }
}

impl From<ReadError> for ReplayError {
    fn from(e: ReadError) -> Self {
        let kind = match e.kind() {
            ReadErrorKind::Unavailable => ReplayErrorKind::Unavailable,
            ReadErrorKind::Trimmed { first } => ReplayErrorKind::Trimmed { first },
            _ => ReplayErrorKind::Refused,
        };
        Self::new(kind, e.message)
    }
}

/// An event whose payload is not what the reader expects.
#[derive(Clone, Debug)]
pub struct DecodeError {
    kind: DecodeErrorKind,
    id: Id,
    message: String,
}

/// Why an event could not be read as what the reader expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeErrorKind {
    /// A field is missing, or the state is not of the type.
    Malformed,
    /// It is none of the events that the reader knows.
    Unknown,
    /// A newer program wrote it: it may deserialize and yet mean something else.
    NewerSchema {
        /// The event's schema.
        schema: u32,
        /// The newest that the reader knows.
        known: u32,
    },
}

impl DecodeError {
    pub(crate) fn new(id: Id, message: impl Into<String>) -> Self {
        Self::of(DecodeErrorKind::Malformed, id, message)
    }

    pub(crate) fn of(kind: DecodeErrorKind, id: Id, message: impl Into<String>) -> Self {
        Self { kind, id, message: message.into() }
    }

    /// What is wrong, to match on.
    #[must_use]
    pub fn kind(&self) -> DecodeErrorKind {
        self.kind
    }

    /// The entry that could not be read.
    #[must_use]
    pub fn id(&self) -> Id {
        self.id
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "entry {}: {}", self.id, self.message)
    }
}

impl std::error::Error for DecodeError {}
