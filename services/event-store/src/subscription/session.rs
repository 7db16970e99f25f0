//! The session of a process: a random value that stands for it where its consumer's name is kept on the server.
//!
//! A name belongs to the newest process that runs under it. A process that starts takes the name over at once, whoever has
//! it: after a crash nobody gives it back, and a container that is restarted has the name of the one before. The process
//! that had it notices with its next heartbeat, handles nothing more and says so. It goes on when the other has left, or has
//! given no heartbeat for the claim time. Two processes that are configured with one name so never take it from each other
//! in turn; they handle events twice for as long as the older one has not noticed, and outputs stay once.
//!
//! A program of an older version neither takes a name nor notices that it is taken.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use uuid::Uuid;

/// What the functions need to know of the session.
#[derive(Debug)]
pub(super) struct Session {
    /// The key in which the name's session stands.
    pub(super) key: String,
    pub(super) id: String,
    alive: Duration,
    has_taken: AtomicBool,
}

impl Session {
    /// A new process under the name whose session stands in this key; without a heartbeat for `alive` it has ended.
    pub(super) fn new(key: String, alive: Duration) -> Self {
        Self { key, id: Uuid::new_v4().to_string(), alive, has_taken: AtomicBool::new(false) }
    }

    /// For how long it counts as alive after a heartbeat, in milliseconds: the consumer's claim time.
    pub(super) fn alive_ms(&self) -> String {
        self.alive.as_millis().to_string()
    }

    /// Has it still to take the name? Once: a process that lost the name does not take it back from one that lives.
    pub(super) fn is_new(&self) -> bool {
        !self.has_taken.load(Ordering::Relaxed)
    }

    pub(super) fn taken(&self) {
        self.has_taken.store(true, Ordering::Relaxed);
    }
}
