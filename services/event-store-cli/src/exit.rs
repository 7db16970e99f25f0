//! How the program ends. The codes are part of its interface: scripts match on them.

use event_store::{
    AppendError, AppendErrorKind, ConnectError, PositionError, PositionErrorKind, ReadError, ReadErrorKind,
};
use std::io::{self, Write as _};
use std::process::ExitCode;

/// The table of codes as the help shows it.
pub const CODES: &str = "\
Exit codes:
  0  done
  1  something is wrong: doctor has a warning or worse, verify found a difference
  2  the command line is not understood, or an answer is needed and nobody is there to give it
  3  the server cannot be reached, or is unfit for the store
  4  what was named (an entity, a group, a dead letter, a position) is not there
  5  it failed on the way; what was printed before holds";

/// A command that did what it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// It did.
    Fine,
    /// It was asked whether something is wrong, and there is.
    Wrong,
}

/// A command that did not.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command line makes no sense, or nobody is there to answer.
    #[error("{0}")]
    Usage(String),
    /// The server is not there, or unfit.
    #[error("{0}")]
    Server(String),
    /// What was named is not there.
    #[error("{0}")]
    NotFound(String),
    /// It failed on the way.
    #[error("{0}")]
    Failed(String),
    /// Nobody reads the output any more, or it cannot be written.
    #[error("output: {0}")]
    Output(#[from] io::Error),
}

impl From<ConnectError> for Failure {
    fn from(e: ConnectError) -> Self {
        Self::Server(e.to_string())
    }
}

impl From<ReadError> for Failure {
    fn from(e: ReadError) -> Self {
        match e.kind() {
            ReadErrorKind::Unavailable => Self::Server(e.to_string()),
            _ => Self::Failed(e.to_string()),
        }
    }
}

impl From<AppendError> for Failure {
    fn from(e: AppendError) -> Self {
        match e.kind() {
            AppendErrorKind::Unavailable => Self::Server(e.to_string()),
            _ => Self::Failed(e.to_string()),
        }
    }
}

impl From<PositionError> for Failure {
    fn from(e: PositionError) -> Self {
        match e.kind() {
            PositionErrorKind::Unavailable => Self::Server(e.to_string()),
            _ => Self::Failed(e.to_string()),
        }
    }
}

/// The code, after telling people why, in the name of the program.
#[must_use]
pub fn code(program: &str, result: Result<Done, Failure>) -> ExitCode {
    let failure = match result {
        Ok(Done::Fine) => return ExitCode::SUCCESS,
        Ok(Done::Wrong) => return ExitCode::from(1),
        // `eventstore tail | head` ends like this: that is no failure.
        Err(Failure::Output(e)) if e.kind() == io::ErrorKind::BrokenPipe => return ExitCode::SUCCESS,
        Err(failure) => failure,
    };
    // Nothing is left to tell it to when this fails too.
    let _ = writeln!(io::stderr(), "{program}: {}", crate::output::plain(&failure.to_string()));
    ExitCode::from(failure.code())
}

impl Failure {
    /// The program's exit code after this.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Server(_) => 3,
            Self::NotFound(_) => 4,
            Self::Failed(_) | Self::Output(_) => 5,
        }
    }
}
