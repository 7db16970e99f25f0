//! What the shop has written down when it is at rest: the log, the caches, the projection, how the groups
//! stand, the dead letters, and the mails that reached the outside. Plain data: it can be written by hand.

mod read;

pub use read::read;

use event_store::Id;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The kinds of entities.
pub const KINDS: [&str; 7] = ["customer", "product", "inventory", "order", "billing", "reservation", "mail"];

/// An event of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Its place.
    #[serde(with = "id_text")]
    pub id: Id,
    /// Its stream without the prefix: `order_created`.
    pub stream: String,
    /// The writer's id.
    pub event_id: String,
    /// The kind of its entity.
    pub kind: String,
    /// Its entity.
    pub entity_id: String,
    /// The entity's version.
    pub version: u64,
    /// Which schema the state is of.
    #[serde(default = "first_schema")]
    pub schema: u32,
    /// The entity's state as it stands in the log.
    pub text: String,
    /// The call that began its flow.
    #[serde(default)]
    pub correlation: Option<String>,
    /// The event that caused it; none for a command's own.
    #[serde(default)]
    pub causation: Option<String>,
}

fn first_schema() -> u32 {
    1
}

impl Entry {
    /// What follows the last underscore of the stream.
    #[must_use]
    pub fn action(&self) -> &str {
        self.stream.rsplit_once('_').map_or("", |(_, action)| action)
    }

    /// Was it asked for by a client, not by another event?
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.causation.is_none()
    }

    /// The state.
    #[must_use]
    pub fn entity(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }
}

/// An entry that is no event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Foreign {
    /// Its stream's key.
    pub stream: String,
    /// Its id.
    pub id: String,
}

/// The entity cache of a kind.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cache {
    /// The ids of the live ones.
    pub ids: BTreeSet<String>,
    /// The hash of each.
    pub hashes: BTreeMap<String, BTreeMap<String, String>>,
    /// The list of each.
    pub lists: BTreeMap<String, Vec<String>>,
}

/// The read model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Projection {
    /// Per kind, the JSON of each by its id.
    pub shown: BTreeMap<String, BTreeMap<String, Value>>,
    /// Per kind, the ids in their order.
    pub order: BTreeMap<String, Vec<String>>,
    /// The order of each billing.
    pub billed: BTreeMap<String, String>,
}

/// A group on one stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Its name.
    pub group: String,
    /// The stream's key.
    pub stream: String,
    /// Entries that were not delivered; `None` when the server cannot tell.
    pub lag: Option<u64>,
    /// Entries that were delivered and not finished.
    pub pending: u64,
}

/// A dead letter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// The group.
    pub group: String,
    /// The stream's key.
    pub stream: String,
    /// The entry.
    pub id: String,
    /// Why.
    pub reason: String,
}

/// A mail that the outside received.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Received {
    /// The Message-ID.
    pub id: String,
    /// The recipients.
    pub to: Vec<String>,
    /// The subject.
    pub subject: String,
    /// The text.
    pub body: String,
    /// When, in Unix seconds.
    pub at: f64,
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Books {
    /// The log in the order of its ids.
    pub events: Vec<Entry>,
    /// What else stands in the streams.
    pub foreign: Vec<Foreign>,
    /// The caches by kind.
    pub caches: BTreeMap<String, Cache>,
    /// The read model.
    pub projection: Projection,
    /// The groups.
    pub groups: Vec<Group>,
    /// The dead letters of all groups.
    pub dead: Vec<DeadLetter>,
    /// The mails, in the order in which they arrived.
    pub mails: Vec<Received>,
}

impl Books {
    /// The events of each entity in the order of the log, by kind and id.
    #[must_use]
    pub fn by_entity(&self) -> BTreeMap<(&str, &str), Vec<&Entry>> {
        let mut of: BTreeMap<(&str, &str), Vec<&Entry>> = BTreeMap::new();
        for entry in &self.events {
            of.entry((&entry.kind, &entry.entity_id)).or_default().push(entry);
        }
        of
    }
}

mod id_text {
    use event_store::Id;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(id: &Id, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(id)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Id, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}
