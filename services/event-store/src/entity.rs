//! Entities as the store's inline projection keeps them: exact JSON, version, and the ids by kind
//! and index. Reads only.

use crate::entry::{self, RawEntry};
use crate::error::ReadError;
use crate::reads::Reads;
use crate::record::Record;
use crate::{EventStore, Id, Kind, StreamName};
use redis::Value;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use tokio::time::{Instant, timeout_at};

/// An entity's last state.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Entity {
    /// Its id.
    pub id: String,
    /// From 1, one more with every event.
    pub version: u64,
    /// Was its last event a deletion? `body` is then the last state before it.
    pub deleted: bool,
    /// Version of the state's schema.
    pub schema: u32,
    /// The state.
    pub body: Json,
}

impl Entity {
    /// The state as a type of the caller's.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, ReadError> {
        T::deserialize(&self.body).map_err(|e| ReadError::malformed(format!("entity {}: {e}", self.id)))
    }
}

fn parse(id: &str, record: &Record, stream: &StreamName, raw: &RawEntry) -> Result<Entity, ReadError> {
    let event = raw.decode(stream).map_err(|e| ReadError::malformed(format!("entity {id}: {e}")))?;
    Ok(Entity {
        id: id.to_owned(),
        version: record.version,
        deleted: record.removed,
        schema: event.schema,
        body: event.entity.into_value(),
    })
}

impl EventStore {
    /// A live entity, or `None`. Never behind the log.
    pub async fn entity(&self, kind: Kind, id: &str) -> Result<Option<Entity>, ReadError> {
        Ok(self.last_state(kind, id).await?.filter(|e| !e.deleted))
    }

    /// An entity, also after its deletion.
    pub async fn last_state(&self, kind: Kind, id: &str) -> Result<Option<Entity>, ReadError> {
        Ok(self.last_states(kind, &[id]).await?.pop().flatten())
    }

    /// Several live entities in the order asked for, as all of them stood at one moment; two round trips,
    /// however many they are.
    pub async fn entities<I: AsRef<str>>(
        &self,
        kind: Kind,
        ids: &[I],
    ) -> Result<Vec<Option<Entity>>, ReadError> {
        let states = self.last_states(kind, ids).await?;
        Ok(states.into_iter().map(|e| e.filter(|e| !e.deleted)).collect())
    }

    /// Several entities, also deleted ones: first where their last events stand, then those.
    pub async fn last_states<I: AsRef<str>>(
        &self,
        kind: Kind,
        ids: &[I],
    ) -> Result<Vec<Option<Entity>>, ReadError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        // One command is one moment; what stands in the log at these places does not change any more.
        let mut records = redis::cmd("MGET");
        for id in ids {
            records.arg(self.layout().record(kind.family, &kind.ordering_key(id.as_ref())));
        }
        let mut reads = self.reads();
        let texts: Vec<Option<String>> = records.query_async(&mut reads).await?;
        let mut found = Vec::with_capacity(ids.len());
        for (id, text) in ids.iter().zip(texts) {
            let key = kind.ordering_key(id.as_ref());
            let unreadable = || ReadError::malformed(format!("entity {key}: its record is unreadable"));
            found.push(match text {
                Some(text) => Some(Record::parse(&key, &text).ok_or_else(unreadable)?),
                None => None,
            });
        }
        let places: Vec<(&StreamName, Id)> =
            found.iter().flatten().filter_map(|r| r.last.as_ref()).map(|(s, id)| (s, *id)).collect();
        let mut entries = self.entries_at(&mut reads, &places).await?.into_iter();
        let mut entities = Vec::with_capacity(ids.len());
        for (id, record) in ids.iter().zip(&found) {
            let id = id.as_ref();
            let at = record.as_ref().and_then(|r| Some((r, r.last.as_ref()?)));
            entities.push(match at {
                Some((record, (stream, _))) => {
                    let lost =
                        || ReadError::malformed(format!("entity {id}: its last event is not in the log"));
                    let raw = entries.next().flatten().ok_or_else(lost)?;
                    Some(parse(id, record, stream, &raw)?)
                }
                None => None,
            });
        }
        Ok(entities)
    }

    /// One entry of the log.
    pub(crate) async fn entry(&self, stream: &StreamName, id: Id) -> Result<Option<RawEntry>, ReadError> {
        Ok(self.entries_at(&mut self.reads(), &[(stream, id)]).await?.pop().flatten())
    }

    /// Entries at these places: in the log, or where a trim has kept them.
    pub(crate) async fn entries_at(
        &self,
        reads: &mut Reads,
        places: &[(&StreamName, Id)],
    ) -> Result<Vec<Option<RawEntry>>, ReadError> {
        let streams: Vec<String> = places.iter().map(|(stream, _)| self.layout().stream(stream)).collect();
        let mut found = self.entries_of(reads, places, &streams).await?;
        let gone: Vec<usize> = (0..found.len()).filter(|i| found[*i].is_none()).collect();
        let places: Vec<(&StreamName, Id)> = gone.iter().map(|i| places[*i]).collect();
        let kept: Vec<String> = places.iter().map(|(stream, _)| self.layout().kept(stream)).collect();
        for (i, entry) in gone.into_iter().zip(self.entries_of(reads, &places, &kept).await?) {
            found[i] = entry;
        }
        Ok(found)
    }

    async fn entries_of(
        &self,
        reads: &mut Reads,
        places: &[(&StreamName, Id)],
        keys: &[String],
    ) -> Result<Vec<Option<RawEntry>>, ReadError> {
        if places.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipe = redis::pipe();
        for ((_, id), key) in places.iter().zip(keys) {
            pipe.cmd("XRANGE").arg(key).arg(id.to_string()).arg(id.to_string());
        }
        let replies: Vec<Value> = pipe.query_async(reads).await?;
        Ok(replies.into_iter().map(|reply| entry::parse_entries(reply).pop()).collect())
    }

    /// The ids of all live entities of a kind, in no order.
    pub async fn ids(&self, kind: Kind) -> Result<Vec<String>, ReadError> {
        Ok(redis::cmd("SMEMBERS").arg(self.layout().ids(kind)).query_async(&mut self.reads()).await?)
    }

    /// The ids of the live entities whose field has this value. The field must be one of
    /// [`Kind::indexes`]. An index that was added to a kind with entities is built first: until it holds all of them the
    /// answer is [`crate::ReadErrorKind::Unavailable`], and asking again helps.
    pub async fn ids_where(&self, kind: Kind, field: &str, value: &str) -> Result<Vec<String>, ReadError> {
        // Settling the kind asks the server, too, for as long as an append may take.
        let deadline = Instant::now() + self.config().read_deadline;
        let mut lookup = redis::pipe();
        lookup
            .cmd("ZRANGEBYLEX")
            .arg(self.layout().index(kind, field))
            .arg(format!("[{value}\0"))
            .arg(format!("({value}\x01"))
            .cmd("HGET")
            .arg(self.layout().settings(kind.family))
            .arg("revision");
        let found: Vec<String> = loop {
            let agreed = timeout_at(deadline, self.agreed_on_index(kind, field)).await.map_err(|_| {
                ReadError::unavailable(
                    "the server did not answer how the kind is kept within the read deadline",
                )
            })??;
            let reads = &mut self.reads_within(deadline.saturating_duration_since(Instant::now()));
            let (found, revision): (_, Option<String>) = lookup.query_async(reads).await?;
            // What was found holds if nothing had changed by then: an index that was dropped is empty.
            if revision.as_deref().unwrap_or("0") == agreed.revision {
                break found;
            }
            self.forget_settings();
        };
        // An id holds no NUL, so the last one ends the value.
        let id = |member: &String| {
            let (of, id) = member.rsplit_once('\0')?;
            (of == value).then(|| id.to_owned())
        };
        Ok(found.iter().filter_map(id).collect())
    }
}
