//! How a projector stands, for readiness and for people.

use crate::error::{AppendError, AppendErrorKind, ProjectionError, ReadError, ReplayError, ReplayErrorKind};
use crate::{Id, ReadErrorKind};
use tokio::sync::watch;

/// How far a version has come, as this replica knows.
#[derive(Clone, Debug, Default)]
pub(super) struct Status {
    pub(super) position: Id,
    /// It has once reached the head of the log and may be read.
    pub(super) caught_up: bool,
    pub(super) state: State,
}

/// What a projector does.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum State {
    /// It has not applied anything yet.
    #[default]
    Begins,
    /// It reads the log and applies it.
    Reads,
    /// It waits for the server.
    Waits,
    /// It tries again what a person must correct.
    Halted(ProjectionError),
}

impl Status {
    pub(super) fn fault(&self) -> Option<&ProjectionError> {
        match &self.state {
            State::Halted(fault) => Some(fault),
            _ => None,
        }
    }

    /// A fault that does not pass by itself while the program runs.
    pub(super) fn lasting_fault(&self) -> Option<&ProjectionError> {
        self.fault()
            .filter(|fault| matches!(fault, ProjectionError::Trimmed { .. } | ProjectionError::Invalid(_)))
    }
}

/// Why the log is not followed at the moment.
#[derive(Debug, PartialEq)]
pub(super) enum Interrupted {
    /// The server is away.
    Away(String),
    /// A person must correct something.
    Halted(ProjectionError),
}

impl Interrupted {
    pub(super) fn refused(why: impl Into<String>) -> Self {
        Self::Halted(ProjectionError::Refused(why.into()))
    }

    pub(super) fn state(&self) -> State {
        match self {
            Self::Away(_) => State::Waits,
            Self::Halted(fault) => State::Halted(fault.clone()),
        }
    }
}

impl From<ReadError> for Interrupted {
    fn from(e: ReadError) -> Self {
        match e.kind() {
            ReadErrorKind::Unavailable => Self::Away(e.to_string()),
            ReadErrorKind::Trimmed { first } => Self::Halted(ProjectionError::Trimmed { first }),
            _ => Self::refused(e.to_string()),
        }
    }
}

impl From<ReplayError> for Interrupted {
    fn from(e: ReplayError) -> Self {
        match e.kind() {
            ReplayErrorKind::Unavailable => Self::Away(e.to_string()),
            ReplayErrorKind::Trimmed { first } => Self::Halted(ProjectionError::Trimmed { first }),
            ReplayErrorKind::Refused => Self::refused(e.to_string()),
        }
    }
}

impl From<AppendError> for Interrupted {
    fn from(e: AppendError) -> Self {
        match e.kind() {
            AppendErrorKind::Unavailable | AppendErrorKind::Unknown { .. } => Self::Away(e.to_string()),
            _ => Self::refused(e.to_string()),
        }
    }
}

/// What a projector has done and whether it goes on. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ProjectionObservation {
    status: watch::Receiver<Status>,
}

impl ProjectionObservation {
    pub(super) fn new(status: watch::Receiver<Status>) -> Self {
        Self { status }
    }

    /// Is the log read and applied? `false` until something was applied, or nothing was to be, and while
    /// [`fault`](Self::fault) is something or the server does not answer.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.status.borrow().state == State::Reads
    }

    /// Has this version once reached the head of the log and become the one that is read?
    #[must_use]
    pub fn caught_up(&self) -> bool {
        self.status.borrow().caught_up
    }

    /// Everything up to here is applied, as far as this replica knows.
    #[must_use]
    pub fn position(&self) -> Id {
        self.status.borrow().position
    }

    /// What keeps the projection from following the log until a person corrects it: a key that holds another type, a score
    /// that is no number, a trimmed log; `None` while all is well and while the server is merely away. It is tried again
    /// about every second.
    #[must_use]
    pub fn fault(&self) -> Option<ProjectionError> {
        self.status.borrow().fault().cloned()
    }
}
