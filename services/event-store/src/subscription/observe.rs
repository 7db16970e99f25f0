//! What a consumer has done and how its group stands, for readiness and metrics.

use crate::StreamName;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// How a group stands on one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupState {
    /// The stream.
    pub stream: StreamName,
    /// Entries not yet delivered to any consumer; `None` when the server cannot tell.
    pub lag: Option<u64>,
    /// Entries delivered and not finished.
    pub pending: u64,
}

/// Counters and states of a running consumer. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Observation {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    ready: AtomicBool,
    handled: AtomicU64,
    retried: AtomicU64,
    parked: AtomicU64,
    claimed: AtomicU64,
    states: Mutex<Vec<GroupState>>,
}

impl Observation {
    /// Is the consumer connected and its group there?
    #[must_use]
    pub fn ready(&self) -> bool {
        self.inner.ready.load(Ordering::Relaxed)
    }

    /// Events finished by this consumer.
    #[must_use]
    pub fn handled(&self) -> u64 {
        self.inner.handled.load(Ordering::Relaxed)
    }

    /// Attempts that were put off.
    #[must_use]
    pub fn retried(&self) -> u64 {
        self.inner.retried.load(Ordering::Relaxed)
    }

    /// Events made dead letters.
    #[must_use]
    pub fn parked(&self) -> u64 {
        self.inner.parked.load(Ordering::Relaxed)
    }

    /// Entries taken over from other consumers.
    #[must_use]
    pub fn claimed(&self) -> u64 {
        self.inner.claimed.load(Ordering::Relaxed)
    }

    /// The group's states, as of the last look (about once a second).
    #[must_use]
    pub fn states(&self) -> Vec<GroupState> {
        self.inner.states.lock().map(|s| s.clone()).unwrap_or_default()
    }

    pub(super) fn set_ready(&self, ready: bool) {
        self.inner.ready.store(ready, Ordering::Relaxed);
    }

    pub(super) fn count_handled(&self) {
        self.inner.handled.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_retried(&self) {
        self.inner.retried.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_parked(&self) {
        self.inner.parked.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_claimed(&self, entries: usize) {
        self.inner.claimed.fetch_add(entries as u64, Ordering::Relaxed);
    }

    pub(super) fn set_states(&self, states: Vec<GroupState>) {
        if let Ok(mut held) = self.inner.states.lock() {
            *held = states;
        }
    }
}
