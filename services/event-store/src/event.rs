//! Events: one to be appended ([`NewEvent`]) and one that was read ([`Event`]). Never talks to Redis.

use crate::error::DecodeError;
use crate::record::After;
use crate::{Body, Id, Kind, StreamName};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

/// Which version an entity must have for an append to be accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Expected {
    /// Whatever it is: last writer wins.
    #[default]
    Any,
    /// There was never an entity with this id.
    None,
    /// It exists and is not deleted.
    Exists,
    /// It exists (or existed) with exactly this version.
    Exactly(u64),
}

/// What the append does to the entity's cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CacheStep {
    Put,
    Remove,
}

/// An event to be appended.
#[derive(Clone, Debug)]
#[must_use = "an event does nothing until it is appended"]
pub struct NewEvent {
    pub(crate) event_id: Option<Uuid>,
    pub(crate) kind: Kind,
    pub(crate) action: &'static str,
    pub(crate) entity_id: String,
    /// The state as the log takes it: its fields in the order in which the writer's type names them.
    pub(crate) entity: Result<String, String>,
    pub(crate) cache: CacheStep,
    pub(crate) expected: Expected,
    pub(crate) schema: u32,
    pub(crate) keys: Vec<String>,
    pub(crate) correlation_id: Option<String>,
    pub(crate) causation_id: Option<String>,
    pub(crate) traceparent: Option<String>,
}

impl NewEvent {
    /// The entity's state after the event; the cache takes it in the same step.
    /// The state must be a JSON object.
    pub fn put(kind: Kind, action: &'static str, id: impl Into<String>, state: &impl Serialize) -> Self {
        Self::new(kind, action, id.into(), state, CacheStep::Put)
    }

    /// The entity is deleted: the event carries its last state, the cache drops it.
    pub fn remove(kind: Kind, action: &'static str, id: impl Into<String>, last: &impl Serialize) -> Self {
        Self::new(kind, action, id.into(), last, CacheStep::Remove)
    }

    fn new(kind: Kind, action: &'static str, id: String, state: &impl Serialize, cache: CacheStep) -> Self {
        Self {
            event_id: None,
            kind,
            action,
            entity_id: id,
            entity: serde_json::to_string(state).map_err(|e| e.to_string()),
            cache,
            expected: Expected::Any,
            schema: 1,
            keys: Vec::new(),
            correlation_id: None,
            causation_id: None,
            traceparent: None,
        }
    }

    /// About how many bytes it has.
    pub(crate) fn size(&self) -> usize {
        self.entity.as_ref().map_or(0, String::len) + self.entity_id.len()
    }

    /// The stream that it is for; none where the action is none, which the append refuses.
    pub(crate) fn stream(&self) -> StreamName {
        self.kind.stream_of(self.action)
    }

    /// Accept the append only at this version of the entity.
    pub fn expect(mut self, expected: Expected) -> Self {
        self.expected = expected;
        self
    }

    /// The id that makes a retried append one event. Default: random, or derived from the handled
    /// event when the event is a handler's output.
    pub fn event_id(mut self, id: Uuid) -> Self {
        self.event_id = Some(id);
        self
    }

    /// Events are handled in order per entity. With a further key (see [`Kind::ordering_key`])
    /// they are also handled in order with all other events of that key, such as the events of one
    /// customer's orders with those of the customer. On Redis Cluster this holds within a family.
    pub fn ordered_with(mut self, key: impl Into<String>) -> Self {
        self.keys.push(key.into());
        self
    }

    /// Version of the payload's schema; default 1.
    pub fn schema(mut self, schema: u32) -> Self {
        self.schema = schema;
        self
    }

    /// Groups all events of one flow; a handler's output inherits it.
    pub fn correlation_id(mut self, id: impl Into<String>) -> Self {
        self.correlation_id = Some(id.into());
        self
    }

    /// The event (or command) that caused this one; set by itself for a handler's output.
    pub fn causation_id(mut self, id: impl Into<String>) -> Self {
        self.causation_id = Some(id.into());
        self
    }

    /// W3C trace context of the appending span; a handler's output inherits the handled event's.
    pub fn traceparent(mut self, traceparent: impl Into<String>) -> Self {
        self.traceparent = Some(traceparent.into());
        self
    }
}

/// An event as it stands in the log.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Event {
    /// Its place in the log; orders events across streams.
    pub id: Id,
    /// The stream it was read from.
    pub stream: StreamName,
    /// Unique id given by the writer.
    pub event_id: Uuid,
    /// The kind of the entity, which differs from the stream's family for [`Kind::within`].
    pub entity_type: String,
    /// The entity.
    pub entity_id: String,
    /// The entity's version after this event: from 1, without a gap.
    pub version: u64,
    /// Version of the payload's schema.
    pub schema: u32,
    /// The entity's state after the event (for a deletion: its last).
    pub entity: Body,
    /// Is the entity deleted by this event?
    pub removed: bool,
    /// Groups all events of one flow.
    pub correlation_id: Option<String>,
    /// What caused this event.
    pub causation_id: Option<String>,
    /// W3C trace context of the writer.
    pub traceparent: Option<String>,
    /// A trim took the entity's earlier events: this one, its last, stands for them. Only a reader
    /// that asked for snapshots meets it.
    pub snapshot: bool,
    /// Ordering keys with, per stream, the last earlier event of that key.
    pub(crate) after: After,
}

impl Event {
    /// The action: `created` of `order_created`.
    #[must_use]
    pub fn action(&self) -> &str {
        self.stream.action()
    }

    /// The entity as a type of the caller's.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, DecodeError> {
        self.entity
            .decode()
            .map_err(|e| DecodeError::new(self.id, format!("{} {}: {e}", self.stream, self.entity_id)))
    }
}
