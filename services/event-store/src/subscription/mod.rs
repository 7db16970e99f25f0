//! Durable subscriptions: a consumer group over several streams, handed out in id order, one event
//! of an entity at a time at any number of replicas.
//!
//! ```text
//!   reader ──batches──▶ driver ──events──▶ handlers ──outcomes──▶ finish (one function call)
//!             (XREADGROUP)  │  asks `ready`: are all earlier events of its keys finished?
//!                           └─ upkeep: claims what the dead left, keeps its own alive
//! ```
//!
//! The decisions (what may be handed out, how long to wait) are pure: [`inbox`], [`backoff`].
//! Never drops an entry: whatever is read is finished, parked, or left pending for another consumer.

mod backoff;
mod driver;
mod finish;
mod inbox;
mod observe;
mod reader;
mod upkeep;

pub use observe::{GroupState, Observation};

use crate::error::{ConnectError, ConnectErrorKind};
use crate::{Event, EventStore, NewEvent, StreamName};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// What a handler makes of an event.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// Handled. These events are appended, the position moved and the entry acknowledged in one step.
    /// When one of them conflicts with its expected version, the handler is asked again.
    Done(Vec<NewEvent>),
    /// Not now: asked again after a pause that grows, with this reason in the log.
    Retry(String),
    /// Never: kept as a dead letter with this reason; later events of its entity queue behind it.
    Park(String),
    /// Of no interest, for this reason: finished without outputs.
    Skip(String),
}

/// Handles the events of a subscription. May be asked several times about one event (after
/// `Retry`, a conflict, or a crash), so what it does besides its outputs must bear that.
pub trait Handler: Send + Sync + 'static {
    /// Decides about one event.
    fn handle(&self, event: &Event) -> impl Future<Output = Outcome> + Send;
}

/// A durable subscription: which group, as which consumer, on which streams.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Subscription {
    pub(crate) group: String,
    pub(crate) consumer: String,
    pub(crate) streams: Vec<StreamName>,
    pub(crate) concurrency: usize,
    pub(crate) claim_after: Duration,
    pub(crate) shutdown: Duration,
    pub(crate) retry_base: Duration,
    pub(crate) retry_cap: Duration,
}

impl Subscription {
    /// A member of a group. All replicas share the group's name; each has a consumer name of its own
    /// (a pod's name).
    #[must_use]
    pub fn new(group: impl Into<String>, consumer: impl Into<String>) -> Self {
        Self {
            group: group.into(),
            consumer: consumer.into(),
            streams: Vec::new(),
            concurrency: 16,
            claim_after: Duration::from_secs(30),
            shutdown: Duration::from_secs(5),
            retry_base: Duration::from_millis(100),
            retry_cap: Duration::from_secs(30),
        }
    }

    /// The streams. All replicas of a group must name the same ones.
    #[must_use]
    pub fn streams(mut self, streams: impl IntoIterator<Item = StreamName>) -> Self {
        self.streams = streams.into_iter().collect();
        self
    }

    /// Events handled at once by this consumer; default 16. With 1 a single consumer handles all
    /// events in id order across its streams.
    #[must_use]
    pub fn concurrency(mut self, concurrency: usize) -> Self {
        self.concurrency = concurrency.max(1);
        self
    }

    /// After how long without a sign of life a consumer's entries are claimed by others; default
    /// 30 s. Shorter for a faster takeover, longer on servers that pause.
    #[must_use]
    pub fn claim_after(mut self, after: Duration) -> Self {
        self.claim_after = after.max(Duration::from_millis(100));
        self
    }

    /// How long a shutdown waits for handlers before it hands their events back; default 5 s.
    #[must_use]
    pub fn shutdown_within(mut self, bound: Duration) -> Self {
        self.shutdown = bound;
        self
    }

    /// The pause before the first retry of an event and the longest one; default 100 ms and 30 s.
    #[must_use]
    pub fn retry(mut self, base: Duration, cap: Duration) -> Self {
        self.retry_base = base;
        self.retry_cap = cap;
        self
    }
}

/// A member of a group that can be run.
pub struct Consumer {
    store: EventStore,
    subscription: Arc<Subscription>,
    observation: Observation,
}

impl EventStore {
    /// A consumer of this subscription.
    #[must_use]
    pub fn subscribe(&self, subscription: Subscription) -> Consumer {
        Consumer {
            store: self.clone(),
            subscription: Arc::new(subscription),
            observation: Observation::default(),
        }
    }
}

impl Consumer {
    /// What this consumer has done and how its group stands.
    #[must_use]
    pub fn observe(&self) -> Observation {
        self.observation.clone()
    }

    /// Handles events until cancelled; then finishes what is in flight within the subscription's
    /// bound, hands the rest back and leaves the group.
    pub async fn run(self, handler: impl Handler, cancel: CancellationToken) {
        driver::run(self.store, self.subscription, self.observation, Arc::new(handler), cancel).await;
    }

    /// Checks what can be known without the server.
    pub fn validate(&self) -> Result<(), ConnectError> {
        let s = &self.subscription;
        let fail = |message: &str| Err(ConnectError::new(ConnectErrorKind::Unsuitable, message));
        if s.streams.is_empty() {
            return fail("a subscription reads at least one stream");
        }
        if !crate::kind::is_valid_name(&s.group) || !crate::kind::is_valid_id(&s.consumer) {
            return fail("group and consumer need names: letters, digits, - and _");
        }
        let family = s.streams[0].family();
        if !self.store.layout().is_plain() && s.streams.iter().any(|x| x.family() != family) {
            return fail("in the tagged layout a subscription reads the streams of one family");
        }
        Ok(())
    }
}
