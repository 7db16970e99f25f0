//! A group's dead letters: what was parked, why, and giving it back to the group. Handles nothing
//! itself: replayed events go the way of all others, in order, through a running consumer.

use crate::append::unexpected;
use crate::entry::{self, RawEntry};
use crate::error::{AppendError, ReadError};
use crate::{EventStore, Id, StreamName};
use redis::Value;
use std::collections::HashMap;

/// An entry that a group has put aside.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct DeadLetter {
    /// Its id among the dead letters.
    pub letter: Id,
    /// The stream it was read from.
    pub stream: StreamName,
    /// Its id in that stream.
    pub id: Id,
    /// Why it was parked.
    pub reason: String,
    /// How often it was tried; 0 for what queues behind another dead letter.
    pub attempts: u32,
    /// When it first failed, in milliseconds since the Unix epoch by the server's clock.
    pub first_failure: u64,
    /// When it failed last, likewise.
    pub last_failure: u64,
    /// The ordering keys that it holds up.
    pub keys: Vec<String>,
    /// Its fields, byte for byte.
    pub raw: Vec<(Vec<u8>, Vec<u8>)>,
}

/// The dead letters of one group.
#[derive(Clone)]
pub struct DeadLetters {
    store: EventStore,
    group: String,
    dead: String,
    parked: String,
}

impl EventStore {
    /// The dead letters of a group. `family` is that of its streams; only the tagged layout needs it.
    #[must_use]
    pub fn dead_letters(&self, group: &str, family: &str) -> DeadLetters {
        DeadLetters {
            dead: self.layout().dead(family, group),
            parked: self.layout().parked(family, group),
            group: group.to_owned(),
            store: self.clone(),
        }
    }
}

impl DeadLetters {
    /// How many there are.
    pub async fn count(&self) -> Result<u64, ReadError> {
        Ok(redis::cmd("XLEN").arg(&self.dead).query_async(&mut self.store.connection()).await?)
    }

    /// The first `limit` of them, in the order of their parking.
    pub async fn list(&self, limit: usize) -> Result<Vec<DeadLetter>, ReadError> {
        let reply: Value = redis::cmd("XRANGE")
            .arg(&self.dead)
            .arg(&["-", "+", "COUNT"])
            .arg(limit.max(1))
            .query_async(&mut self.store.connection())
            .await?;
        entry::parse_entries(reply).iter().map(parse).collect()
    }

    /// Gives these back to the group, which handles them in the order of their ids, each after the
    /// earlier events of its entity. Answers how many were given back: one that is no dead letter
    /// any more is passed over, so a replay that is asked for twice happens once.
    pub async fn replay(&self, letters: &[DeadLetter]) -> Result<u64, AppendError> {
        let mut letters: Vec<&DeadLetter> = letters.iter().collect();
        letters.sort_by_key(|l| l.id);
        let mut keys = vec![self.dead.clone(), self.parked.clone()];
        let mut index: HashMap<&StreamName, usize> = HashMap::new();
        let mut list = Vec::with_capacity(letters.len());
        for l in letters {
            let stream = *index.entry(&l.stream).or_insert_with(|| {
                keys.push(self.store.layout().stream(&l.stream));
                keys.len()
            });
            list.push(serde_json::json!({
                "letter": l.letter.to_string(), "stream": stream, "id": l.id.to_string(), "keys": l.keys,
            }));
        }
        let args = [self.group.clone(), serde_json::Value::Array(list).to_string()];
        let words = self.store.call_until_answered("unpark", &keys, &args).await?;
        words.get(1).and_then(|n| n.parse().ok()).ok_or_else(|| unexpected(&words))
    }
}

fn parse(raw: &RawEntry) -> Result<DeadLetter, ReadError> {
    let wrong = |field: &str| ReadError(format!("dead letter {}: field {field} is unreadable", raw.id));
    let number = |field: &str| raw.lossy(field).parse::<u64>().map_err(|_| wrong(field));
    Ok(DeadLetter {
        letter: raw.id,
        stream: StreamName::parse(&raw.lossy("stream")).ok_or_else(|| wrong("stream"))?,
        id: raw.lossy("id").parse().map_err(|_| wrong("id"))?,
        reason: raw.lossy("reason"),
        attempts: u32::try_from(number("attempts")?).unwrap_or(u32::MAX),
        first_failure: number("first_failure")?,
        last_failure: number("last_failure")?,
        keys: serde_json::from_str(&raw.lossy("keys")).map_err(|_| wrong("keys"))?,
        raw: raw
            .fields
            .iter()
            .filter_map(|(name, value)| Some((name.strip_prefix(b"raw.")?.to_vec(), value.clone())))
            .collect(),
    })
}
