//! Durable subscriptions: a consumer group over several streams, handed out in id order, one event
//! of an entity at a time at any number of replicas.
//!
//! ```text
//!   reader ──batches──▶ driver ──events──▶ handlers ──outcomes──▶ finish (one call for many)
//!             (XREADGROUP)  │  asks `ready`, unless it is known: are all earlier events finished?
//!                           └─ house: keeps its own entries alive, claims what the dead left
//! ```
//!
//! The decisions (what may be handed out, what needs no question, how long to wait) are pure:
//! [`inbox`], [`known`], [`backoff`], [`patience`].
//! Never drops an entry: whatever is read is finished, parked, or left pending for another consumer.

mod accept;
mod backoff;
mod claim;
mod driver;
mod error;
mod finish;
mod hand;
mod house;
mod inbox;
mod item;
mod known;
mod mark;
mod observe;
mod park;
mod patience;
mod reader;
mod ready;
mod register;
mod session;
mod settle;
mod shutdown;
mod standstill;
mod start;
mod states;
mod streams;
mod upkeep;

pub use accept::Accepted;
pub use error::{SubscriptionError, SubscriptionErrorKind};
pub use observe::{GroupState, Observation};
pub use standstill::Standstill;
pub use start::Start;
pub use streams::UnreadStream;

use crate::page::PageSize;
use crate::{Event, EventStore, NameOf, NewEvent, StreamName};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// A read brings this part of what is read ahead, at the sizes seen before.
const PARTS: usize = 8;

/// What a handler makes of an event.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// Handled. These events are appended, the position moved and the entry acknowledged in one step.
    /// When one of them conflicts with its expected version, nothing is appended, and the handler is asked again: that
    /// was a failed attempt. A handler that expects a version loads the entity first, since its event may be old.
    ///
    /// An output's id follows from its event, so that it is appended once however often the handler is asked. One with an
    /// id of its own is appended once, too; where that id is another event's, the handler's event is parked.
    Done(Vec<NewEvent>),
    /// Not now: asked again after a pause that grows, with this reason in the log. A handler that
    /// panics is asked again likewise.
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
    pub(crate) start: Start,
    pub(crate) concurrency: usize,
    pub(crate) claim_after: Duration,
    pub(crate) shutdown: Duration,
    pub(crate) retry_base: Duration,
    pub(crate) retry_cap: Duration,
    pub(crate) park_after: Option<u32>,
    pub(crate) read_ahead_bytes: usize,
}

impl Subscription {
    /// A member of a group. All replicas share the group's name; each has a consumer name of its own
    /// (a pod's name). A process that starts takes its name over from one that has it, which handles nothing more while the
    /// other lives: see [`Observation::is_name_taken`]. Which names there can be: [`NameOf::Group`] and
    /// [`NameOf::Consumer`]; with another one [`Consumer::run`] ends at once.
    #[must_use]
    pub fn new(group: impl Into<String>, consumer: impl Into<String>) -> Self {
        Self {
            group: group.into(),
            consumer: consumer.into(),
            streams: Vec::new(),
            start: Start::Beginning,
            concurrency: 16,
            claim_after: Duration::from_secs(30),
            shutdown: Duration::from_secs(5),
            retry_base: Duration::from_millis(100),
            retry_cap: Duration::from_secs(30),
            park_after: None,
            read_ahead_bytes: 32 << 20,
        }
    }

    /// The bytes of states (the JSON of events) that this consumer holds ahead of its handlers, of all streams together;
    /// default 32 MiB. One event always fits, however large. Entries beyond it are held without their states, which
    /// are read again when their turn comes: a small bound costs a round trip for each of these and no progress.
    ///
    /// Less where memory is short, more where events are large and handlers quick. At its most a consumer needs this,
    /// the states that handlers have in hand ([`Self::concurrency`] × the largest), three reads on their way, each of an eighth of
    /// this at the sizes seen before, and about a kilobyte for each entry.
    #[must_use]
    pub fn read_ahead_bytes(mut self, bytes: usize) -> Self {
        self.read_ahead_bytes = bytes;
        self
    }

    /// The streams. All replicas of a group must name the same ones.
    /// The streams. The replicas of a group may name different ones while a release is rolled out that reads more of them,
    /// or while it is rolled back: the order per entity holds for all streams that a living replica reads. A replica that
    /// names a new stream handles nothing for two seconds, until the others have learned of it. What was appended to the
    /// new stream before what the group has already handled is handled late. A stream that no replica names any more
    /// holds nothing up after twice [`Self::claim_after`], at least 4 s; see [`Observation::unread_streams`].
    #[must_use]
    pub fn streams(mut self, streams: impl IntoIterator<Item = StreamName>) -> Self {
        self.streams = streams.into_iter().collect();
        self
    }

    /// Where the group begins when it is read for the first time; default [`Start::Beginning`]. Each
    /// value says when to choose it.
    #[must_use]
    pub fn start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// Events handled at once by this consumer; default 16. More where handlers wait for something.
    ///
    /// With 1, and as the only consumer of its group, all events are handled in the order of their
    /// ids across all streams; one that is tried again or parked holds up its own entity alone. Several
    /// consumers, or several events at once, keep the order per entity and per ordering key, and
    /// nothing beyond it.
    #[must_use]
    pub fn concurrency(mut self, concurrency: usize) -> Self {
        self.concurrency = concurrency.max(1);
        self
    }

    /// After how long without a sign of life a consumer's entries are claimed by others; default
    /// 30 s. Shorter for a faster takeover, longer where processes or servers pause.
    ///
    /// The consumers of a group may differ, as while a change is rolled out: entries are claimed after the longest time
    /// that a consumer of the group has which holds entries. A consumer whose handlers are all at work for this time keeps
    /// the entries that they have begun; others take over the rest.
    ///
    /// A consumer gives four signs of life in this time, and at least one a second. Who was late
    /// itself, or comes anew, gives the others half of this time (5 s at most) before it claims
    /// anything, so that a server that stood still costs nobody an entry; who is always late waits four
    /// times this time at most. A process that stands still for
    /// longer than this time does lose its entries, and its handlers may be at work on what another
    /// consumer handles too: what they return is refused, what they did outside has happened.
    #[must_use]
    pub fn claim_after(mut self, after: Duration) -> Self {
        self.claim_after = after.max(Duration::from_millis(100));
        self
    }

    /// How long a shutdown waits for handlers before it hands their events back; default 5 s. Longer
    /// than the slowest handler, shorter than the time after which the process is killed. What is
    /// handed back is taken by another consumer within about a second. Until the bound has passed nobody
    /// else begins what a handler has begun, however short [`Self::claim_after`] is. A server that does not answer
    /// costs two seconds more; then the entries are claimed when [`Self::claim_after`] is over.
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

    /// Parks an event that failed so often, conflicts of its outputs included; default: never, it is tried again for ever and holds up
    /// its own entity. Choose it where somebody looks at dead letters. Attempts are counted by the
    /// consumer that has the event; another one that takes it over begins with one.
    #[must_use]
    pub fn park_after(mut self, attempts: u32) -> Self {
        self.park_after = Some(attempts.max(1));
        self
    }
}

impl Subscription {
    /// The size of the next read of one of its streams.
    fn page_size(&self) -> PageSize {
        PageSize::new(reader::BATCH, self.read_ahead_bytes / PARTS / self.streams.len().max(1))
    }
}

/// A member of a group that can be run.
#[derive(Debug)]
pub struct Consumer {
    store: EventStore,
    subscription: Arc<Subscription>,
    observation: Observation,
}

impl EventStore {
    /// A consumer of this subscription.
    ///
    /// ```
    /// use event_store::{CancellationToken, Config, Event, EventStore, Handler, Kind, NewEvent};
    /// use event_store::{Outcome, Subscription};
    /// use serde_json::json;
    ///
    /// const ACCOUNT: Kind = Kind::new("account");
    /// const LETTER: Kind = Kind::new("letter");
    ///
    /// /// Writes a letter to every new account, and has then done enough.
    /// struct Welcome(CancellationToken);
    ///
    /// impl Handler for Welcome {
    ///     async fn handle(&self, event: &Event) -> Outcome {
    ///         self.0.cancel();
    ///         let letter = json!({ "id": event.entity_id, "text": "Welcome!" });
    ///         Outcome::Done(vec![NewEvent::put(LETTER, "written", &event.entity_id, &letter)])
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let redis = event_store::testing::Redis::start();
    /// # let store = EventStore::connect(Config::new(redis.url())).await?;
    /// store.append(vec![NewEvent::put(ACCOUNT, "opened", "ada", &json!({ "id": "ada" }))]).await?;
    ///
    /// let done = CancellationToken::new();
    /// let subscription = Subscription::new("letters", "consumer-1").streams([ACCOUNT.stream("opened")]);
    /// store.subscribe(subscription).run(Welcome(done.clone()), done).await?;
    ///
    /// let letter = store.entity(LETTER, "ada").await?.expect("appended with the acknowledgement");
    /// assert_eq!(letter.body["text"], "Welcome!");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn subscribe(&self, subscription: Subscription) -> Consumer {
        let subscription = Arc::new(subscription);
        let observation = Observation::new(subscription.clone(), self.config().metrics.clone());
        Consumer { store: self.clone(), subscription, observation }
    }
}

impl Consumer {
    /// What this consumer has done and how its group stands.
    #[must_use]
    pub fn observe(&self) -> Observation {
        self.observation.clone()
    }

    /// Handles events until cancelled; then finishes what is in flight within the subscription's
    /// bound, hands the rest back and leaves the group. A server that is away is waited for. A log
    /// that went back in time halts it, see [`Observation::fault`].
    ///
    /// # Errors
    /// Only for a subscription that cannot be one ([`SubscriptionErrorKind::Invalid`]), at once.
    pub async fn run(
        self,
        handler: impl Handler,
        cancel: CancellationToken,
    ) -> Result<(), SubscriptionError> {
        self.validate()?;
        driver::run(self.store, self.subscription, self.observation, Arc::new(handler), cancel).await;
        Ok(())
    }

    /// Checks what can be known without the server.
    pub fn validate(&self) -> Result<(), SubscriptionError> {
        let s = &self.subscription;
        let fail = |message: &str| Err(SubscriptionError::invalid(message));
        let Some(first) = s.streams.first() else {
            return fail("a subscription reads at least one stream");
        };
        if (1..s.streams.len()).any(|i| s.streams[..i].contains(&s.streams[i])) {
            return fail("a subscription names each stream once");
        }
        let named = NameOf::Group.check(&s.group).and_then(|()| NameOf::Consumer.check(&s.consumer));
        if let Err(e) = named {
            return fail(&e.to_string());
        }
        if !self.store.layout().is_plain() && s.streams.iter().any(|x| x.family() != first.family()) {
            return fail("in the tagged layout a subscription reads the streams of one family");
        }
        Ok(())
    }
}
