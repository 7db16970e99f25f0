//! Signals as messages: the supervisor waits for a child's end, for the user's wish to stop, or for a time.

use anyhow::Result;
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// What a wait ended with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wake {
    /// Ctrl-C, SIGTERM, or the terminal went away.
    Stop,
    /// Some child ended.
    Child,
    /// The time passed.
    Time,
}

/// The process' signals from the moment of its making.
pub(super) struct Inbox {
    signals: Receiver<i32>,
}

impl Inbox {
    /// From now on these signals no longer end the process by themselves.
    pub(super) fn open() -> Result<Self> {
        let mut signals = Signals::new([SIGCHLD, SIGHUP, SIGINT, SIGTERM])?;
        let (sender, receiver) = channel();
        std::thread::spawn(move || signals.forever().try_for_each(|signal| sender.send(signal)));
        Ok(Self { signals: receiver })
    }

    /// Waits for a signal, `longest` at most.
    pub(super) fn wait(&self, longest: Duration) -> Wake {
        match self.signals.recv_timeout(longest) {
            Ok(SIGCHLD) => Wake::Child,
            Ok(_) | Err(RecvTimeoutError::Disconnected) => Wake::Stop,
            Err(RecvTimeoutError::Timeout) => Wake::Time,
        }
    }
}
