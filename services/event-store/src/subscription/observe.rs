//! What a consumer has done and how its group stands, for readiness and metrics.

use super::{Standstill, Subscription, SubscriptionError, UnreadStream};
use crate::{Metrics, StreamName};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How a group stands on one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupState {
    /// The stream.
    pub stream: StreamName,
    /// Entries not yet delivered to any consumer; `None` when the server cannot tell, which is not zero.
    pub lag: Option<u64>,
    /// Entries delivered and not finished.
    pub pending: u64,
    /// The time since the oldest of those was appended, by the server's clock; `None` without any.
    pub oldest_pending: Option<Duration>,
}

/// Counters and states of a running consumer. Cheap to clone.
#[derive(Clone)]
pub struct Observation {
    inner: Arc<Inner>,
}

struct Inner {
    subscription: Arc<Subscription>,
    metrics: Arc<dyn Metrics>,
    ready: AtomicBool,
    name_taken: AtomicBool,
    handled: AtomicU64,
    retried: AtomicU64,
    conflicted: AtomicU64,
    parked: AtomicU64,
    claimed: AtomicU64,
    states: Mutex<Vec<GroupState>>,
    fault: Mutex<Option<SubscriptionError>>,
    standstill: Mutex<Option<Standstill>>,
    unread: Mutex<Vec<UnreadStream>>,
}

impl fmt::Debug for Observation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let group = &self.inner.subscription.group;
        f.debug_struct("Observation")
            .field("group", group)
            .field("ready", &self.ready())
            .finish_non_exhaustive()
    }
}

/// Nobody panics while holding one of these locks.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Observation {
    pub(super) fn new(subscription: Arc<Subscription>, metrics: Arc<dyn Metrics>) -> Self {
        Self {
            inner: Arc::new(Inner {
                subscription,
                metrics,
                ready: AtomicBool::new(false),
                name_taken: AtomicBool::new(false),
                handled: AtomicU64::new(0),
                retried: AtomicU64::new(0),
                conflicted: AtomicU64::new(0),
                parked: AtomicU64::new(0),
                claimed: AtomicU64::new(0),
                states: Mutex::default(),
                fault: Mutex::default(),
                standstill: Mutex::default(),
                unread: Mutex::default(),
            }),
        }
    }

    /// Is the consumer connected and its group there?
    #[must_use]
    pub fn ready(&self) -> bool {
        self.inner.ready.load(Ordering::Relaxed)
    }

    /// What halts the consumer until a person does something; `None` while all is well.
    #[must_use]
    pub fn fault(&self) -> Option<SubscriptionError> {
        locked(&self.inner.fault).clone()
    }

    /// That nobody has finished anything of the group for twice the claim time although entries are pending, as of the
    /// last look; `None` while it goes on. A reason to warn somebody, and none to take the consumer out of service.
    #[must_use]
    pub fn standstill(&self) -> Option<Standstill> {
        locked(&self.inner.standstill).clone()
    }

    /// The streams of the group that no living consumer reads although entries wait there, as of the last look; empty
    /// while there are none. A reason to warn somebody, and none to take the consumer out of service.
    #[must_use]
    pub fn unread_streams(&self) -> Vec<UnreadStream> {
        locked(&self.inner.unread).clone()
    }

    /// Does another process run under this consumer's name? It has started later, or this one gave no heartbeat for the claim
    /// time; this one handles nothing until that one has left, or has given none for the claim time. Give each process a name
    /// of its own. A reason to warn somebody, and none to take the process out of service.
    #[must_use]
    pub fn is_name_taken(&self) -> bool {
        self.inner.name_taken.load(Ordering::Relaxed)
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

    /// Attempts whose outputs conflicted with their expected versions.
    #[must_use]
    pub fn conflicted(&self) -> u64 {
        self.inner.conflicted.load(Ordering::Relaxed)
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

    /// The group's states, as of the last look (about once a second); empty while the server does not answer.
    #[must_use]
    pub fn states(&self) -> Vec<GroupState> {
        locked(&self.inner.states).clone()
    }

    pub(super) fn set_ready(&self, ready: bool) {
        self.inner.ready.store(ready, Ordering::Relaxed);
    }

    pub(super) fn set_name_taken(&self, taken: bool) {
        self.inner.name_taken.store(taken, Ordering::Relaxed);
    }

    pub(super) fn set_fault(&self, fault: Option<SubscriptionError>) {
        *locked(&self.inner.fault) = fault;
    }

    /// The server does not say how the group stands.
    pub(super) fn set_unknown(&self) {
        locked(&self.inner.states).clear();
        self.set_standstill(None);
    }

    /// What was so before.
    pub(super) fn set_standstill(&self, standstill: Option<Standstill>) -> Option<Standstill> {
        std::mem::replace(&mut *locked(&self.inner.standstill), standstill)
    }

    /// Those before.
    pub(super) fn set_unread(&self, unread: Vec<UnreadStream>) -> Vec<UnreadStream> {
        std::mem::replace(&mut *locked(&self.inner.unread), unread)
    }

    pub(super) fn count_handled(&self, stream: usize) {
        self.inner.handled.fetch_add(1, Ordering::Relaxed);
        self.told(stream, <dyn Metrics>::handled);
    }

    pub(super) fn took(&self, stream: usize, time: Duration) {
        self.told(stream, |m, group, stream| m.handler_took(group, stream, time));
    }

    pub(super) fn count_retried(&self, stream: usize) {
        self.inner.retried.fetch_add(1, Ordering::Relaxed);
        self.told(stream, <dyn Metrics>::retried);
    }

    pub(super) fn count_conflicted(&self, stream: usize) {
        self.inner.conflicted.fetch_add(1, Ordering::Relaxed);
        self.told(stream, <dyn Metrics>::conflicted);
    }

    pub(super) fn count_parked(&self, stream: usize) {
        self.inner.parked.fetch_add(1, Ordering::Relaxed);
        self.told(stream, <dyn Metrics>::parked);
    }

    pub(super) fn count_claimed(&self, stream: usize, entries: usize) {
        self.inner.claimed.fetch_add(entries as u64, Ordering::Relaxed);
        self.told(stream, |m, group, stream| m.claimed(group, stream, entries as u64));
    }

    pub(super) fn set_states(&self, states: Vec<GroupState>) {
        for state in &states {
            self.inner.metrics.group_state(&self.inner.subscription.group, state);
        }
        *locked(&self.inner.states) = states;
    }

    fn told(&self, stream: usize, tell: impl FnOnce(&dyn Metrics, &str, &StreamName)) {
        let Inner { subscription, metrics, .. } = &*self.inner;
        tell(metrics.as_ref(), &subscription.group, &subscription.streams[stream]);
    }
}
