//! Appending: a batch of events becomes one call of the append function. Never writes anything
//! by another way, and never uses a clock of its own.

use crate::error::{AppendError, AppendErrorKind};
use crate::event::{CacheStep, Expected, NewEvent, State};
use crate::kind::{is_valid_action, is_valid_id, is_valid_name};
use crate::{EventStore, Id, Layout, connection, entry, functions};
use redis::Value;
use serde_json::{Map, Value as Json, json};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// An event that is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Appended {
    /// Its place in the log.
    pub id: Id,
    /// The entity's version after it.
    pub version: u64,
    /// Its id, as given or made.
    pub event_id: Uuid,
}

/// A batch as the append function takes it.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) keys: Vec<String>,
    pub(crate) spec: String,
    ids: Vec<Uuid>,
}

/// Gives every key its index once; indexes count from 1 as Lua does.
struct Keys {
    list: Vec<String>,
    index: HashMap<String, usize>,
}

impl Keys {
    fn add(&mut self, key: String) -> usize {
        if let Some(index) = self.index.get(&key) {
            return *index;
        }
        self.list.push(key.clone());
        self.index.insert(key, self.list.len());
        self.list.len()
    }
}

fn invalid(index: usize, message: impl std::fmt::Display) -> AppendError {
    AppendError::new(AppendErrorKind::Invalid, format!("event {index}: {message}"))
}

impl Batch {
    /// Checks the events and lays them out; `keys` are those that stand before the batch's own.
    pub(crate) fn new(
        layout: Layout,
        dedup_window: Duration,
        events: &[NewEvent],
        keys: Vec<String>,
    ) -> Result<Self, AppendError> {
        let Some(first) = events.first() else {
            return Err(AppendError::new(AppendErrorKind::Invalid, "a batch holds at least one event"));
        };
        let family = first.kind.family;
        let mut keys =
            Keys { index: keys.iter().cloned().enumerate().map(|(i, k)| (k, i + 1)).collect(), list: keys };
        let mut specs = Vec::with_capacity(events.len());
        let mut ids = Vec::with_capacity(events.len());
        for (index, event) in events.iter().enumerate() {
            if !layout.is_plain() && event.kind.family != family {
                return Err(invalid(index, "in the tagged layout a batch stays within one family"));
            }
            let event_id = event.event_id.unwrap_or_else(Uuid::new_v4);
            ids.push(event_id);
            specs.push(spec(layout, &mut keys, index, event, event_id)?);
        }
        let clock = keys.add(layout.clock(family));
        let dedup_ms = u64::try_from(dedup_window.as_millis()).unwrap_or(u64::MAX).max(1);
        let spec = json!({ "events": specs, "clock": clock, "dedup_ms": dedup_ms }).to_string();
        Ok(Self { keys: keys.list, spec, ids })
    }

    /// What the append function answered.
    pub(crate) fn answer(&self, words: &[String]) -> Result<Vec<Appended>, AppendError> {
        let number = |i: usize| words.get(i).and_then(|w| w.parse::<u64>().ok()).unwrap_or(0);
        let index = usize::try_from(number(1)).unwrap_or(0).saturating_sub(1);
        match words.first().map(String::as_str) {
            Some("ok" | "known") => self
                .ids
                .iter()
                .enumerate()
                .map(|(i, event_id)| {
                    let id = words.get(2 * i + 1).and_then(|w| w.parse().ok());
                    let id = id.ok_or_else(|| unexpected(words))?;
                    Ok(Appended { id, version: number(2 * i + 2), event_id: *event_id })
                })
                .collect(),
            Some("conflict") => {
                let actual = Some(number(2)).filter(|v| *v > 0);
                let deleted = number(3) == 1;
                let state = match (actual, deleted) {
                    (None, _) => "it does not exist".to_owned(),
                    (Some(v), true) => format!("it was deleted at version {v}"),
                    (Some(v), false) => format!("its version is {v}"),
                };
                Err(AppendError::new(
                    AppendErrorKind::Conflict { index, actual, deleted },
                    format!("event {index}: the entity is not as expected: {state}"),
                ))
            }
            Some("duplicate") => Err(AppendError::new(
                AppendErrorKind::DuplicateId,
                format!("event {index}: its event id was used before with another content"),
            )),
            Some("wrongtype") => Err(AppendError::new(
                AppendErrorKind::Refused,
                format!("event {index}: key {:?} holds another type; nothing was written", words.get(2)),
            )),
            _ => Err(unexpected(words)),
        }
    }
}

pub(crate) fn unexpected(words: &[String]) -> AppendError {
    AppendError::new(AppendErrorKind::Unavailable, format!("the server answered {words:?}"))
}

fn spec(
    layout: Layout,
    keys: &mut Keys,
    index: usize,
    event: &NewEvent,
    event_id: Uuid,
) -> Result<Json, AppendError> {
    let kind = event.kind;
    for name in [kind.family, kind.name].iter().chain(kind.lists).chain(kind.indexes) {
        if !is_valid_name(name) {
            return Err(invalid(index, format!("{name:?} is no name: use letters, digits, - and _")));
        }
    }
    if !is_valid_action(event.action) {
        return Err(invalid(index, format!("{:?} is no action: use letters, digits and -", event.action)));
    }
    let id = &event.entity_id;
    if !is_valid_id(id) {
        return Err(invalid(
            index,
            format!("{id:?} is no entity id: 1 to 256 bytes without control characters or braces"),
        ));
    }
    let (state, body) = match &event.entity {
        Ok(State { value: Json::Object(state), text }) => (state, text),
        Ok(_) => return Err(invalid(index, "the entity's state must be a JSON object")),
        Err(e) => return Err(invalid(index, format!("the entity's state: {e}"))),
    };
    let mut ordering = vec![kind.ordering_key(id)];
    for key in &event.keys {
        if !is_valid_id(key) {
            return Err(invalid(index, format!("{key:?} is no ordering key")));
        }
        if !ordering.contains(key) {
            ordering.push(key.clone());
        }
    }
    let stream = kind.stream(event.action);
    let metadata: Vec<[&str; 2]> = [
        ("correlation_id", &event.correlation_id),
        ("causation_id", &event.causation_id),
        ("traceparent", &event.traceparent),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some([name, value.as_deref()?]))
    .collect();
    let expected = match event.expected {
        Expected::Any => json!("any"),
        Expected::None => json!("none"),
        Expected::Exists => json!("exists"),
        Expected::Exactly(version) => json!(version),
    };
    let lists = lists(layout, keys, index, event, state)?;
    Ok(json!({
        "stream": keys.add(layout.stream(&stream)),
        "meta": keys.add(layout.meta(kind, id)),
        "seen": keys.add(layout.seen(kind.family, &event_id)),
        "ids": keys.add(layout.ids(kind)),
        "hash": keys.add(layout.entity(kind, id)),
        "chains": ordering.iter().map(|key| keys.add(layout.chain(kind.family, key))).collect::<Vec<_>>(),
        "keys": ordering,
        "lists": lists,
        "indexes": kind.indexes.iter().map(|field| {
            let value = state.get(*field).and_then(plain_text);
            json!({ "key": keys.add(layout.index(kind, field)), "field": field, "value": value })
        }).collect::<Vec<_>>(),
        "fields": fields(kind.lists, state),
        "name": stream.to_string(),
        "event_id": event_id.to_string(),
        "entity_type": kind.name,
        "entity_id": id,
        "digest": digest(&[&stream.to_string(), kind.name, id, body]),
        "entity": body,
        "remove": event.cache == CacheStep::Remove,
        "expected": expected,
        "schema": event.schema,
        "metadata": metadata,
    }))
}

fn lists(
    layout: Layout,
    keys: &mut Keys,
    index: usize,
    event: &NewEvent,
    state: &Map<String, Json>,
) -> Result<Vec<Json>, AppendError> {
    let mut lists = Vec::new();
    for field in event.kind.lists {
        let items = match state.get(*field) {
            None | Some(Json::Null) => Vec::new(),
            Some(Json::Array(items)) => {
                items.iter().map(|item| plain_text(item).unwrap_or_default()).collect()
            }
            Some(_) => {
                return Err(invalid(
                    index,
                    format!("field {field} is kept as a list, so it must be an array"),
                ));
            }
        };
        lists.push(json!({ "key": keys.add(layout.list(event.kind, field, &event.entity_id)), "field": field, "items": items }));
    }
    Ok(lists)
}

/// The cache's hash: a text per field; what is nested stays JSON.
fn fields(lists: &[&str], state: &Map<String, Json>) -> Vec<[String; 2]> {
    state
        .iter()
        .filter(|(name, _)| !lists.contains(&name.as_str()))
        .filter_map(|(name, value)| Some([name.clone(), plain_text(value)?]))
        .collect()
}

fn plain_text(value: &Json) -> Option<String> {
    match value {
        Json::Null => None,
        Json::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn digest(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.len().to_le_bytes());
        hash.update(part.as_bytes());
    }
    hex(&hash.finalize()[..16])
}

impl EventStore {
    /// Appends a batch: all of it or nothing, in one step on the server.
    ///
    /// An answer lost on the wire is asked for again until [`crate::Config::append_deadline`]; the
    /// event ids make that one append.
    pub async fn append(&self, events: Vec<NewEvent>) -> Result<Vec<Appended>, AppendError> {
        let batch = Batch::new(self.layout(), self.config().dedup_window, &events, Vec::new())?;
        let words =
            self.call_until_answered("append", &batch.keys, std::slice::from_ref(&batch.spec)).await?;
        batch.answer(&words)
    }

    /// As [`Self::call_value`], for functions that answer texts.
    pub(crate) async fn call_until_answered(
        &self,
        function: &str,
        keys: &[String],
        args: &[String],
    ) -> Result<Vec<String>, AppendError> {
        self.call_value(function, keys, args).await.map(entry::words)
    }

    /// Calls a function again after lost answers. For functions that are idempotent only.
    pub(crate) async fn call_value(
        &self,
        function: &str,
        keys: &[String],
        args: &[String],
    ) -> Result<Value, AppendError> {
        let deadline = Instant::now() + self.config().append_deadline;
        let mut pause = Duration::from_millis(10);
        loop {
            let answer: Result<Value, _> =
                functions::call(&mut self.connection(), function, keys, args).await;
            match answer {
                Ok(value) => return Ok(value),
                Err(e) if connection::is_passing(&e) && Instant::now() + pause < deadline => {
                    tracing::debug!(error = %e, function, "no answer, asking again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_millis(500));
                }
                Err(e) if connection::is_passing(&e) => {
                    return Err(AppendError::new(AppendErrorKind::Unavailable, e.to_string()));
                }
                Err(e) => return Err(AppendError::new(AppendErrorKind::Refused, e.to_string())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    const ORDER: Kind = Kind::new("order").lists(&["product_ids"]);

    fn batch(events: &[NewEvent]) -> Result<Batch, AppendError> {
        Batch::new(Layout::Plain, Duration::from_secs(1), events, Vec::new())
    }

    #[test]
    fn what_cannot_be_appended_is_refused_before_anything_is_sent() {
        let state = json!({ "id": "1" });
        for (event, says) in [
            (NewEvent::put(ORDER, "cre:ated", "1", &state), "no action"),
            (NewEvent::put(ORDER, "paid_in", "1", &state), "no action"),
            (NewEvent::put(ORDER, "created", "a}b", &state), "no entity id"),
            (NewEvent::put(ORDER, "created", "1", &json!([])), "JSON object"),
            (NewEvent::put(ORDER, "created", "1", &json!({ "product_ids": 3 })), "array"),
            (NewEvent::put(ORDER, "created", "1", &state).ordered_with("a{b"), "ordering key"),
        ] {
            let error = batch(&[event]).unwrap_err();
            assert_eq!(error.kind(), AppendErrorKind::Invalid);
            assert!(error.to_string().contains(says), "{error}");
        }
        assert_eq!(batch(&[]).unwrap_err().kind(), AppendErrorKind::Invalid);
    }

    #[test]
    fn a_key_that_several_events_use_is_passed_once() {
        let state = json!({ "id": "1" });
        let events =
            [NewEvent::put(ORDER, "created", "1", &state), NewEvent::put(ORDER, "updated", "1", &state)];
        let keys = batch(&events).unwrap().keys;
        let mut unique = keys.clone();
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len(), keys.len());
        assert_eq!(keys.iter().filter(|k| *k == "order_ids").count(), 1);
    }

    #[test]
    fn a_conflict_carries_the_actual_version() {
        let batch = batch(&[NewEvent::put(ORDER, "created", "1", &json!({ "id": "1" }))]).unwrap();
        let words: Vec<String> = ["conflict", "1", "7", "0"].map(String::from).to_vec();
        let kind = batch.answer(&words).unwrap_err().kind();
        assert_eq!(kind, AppendErrorKind::Conflict { index: 0, actual: Some(7), deleted: false });
    }
}
