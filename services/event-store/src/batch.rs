//! A batch of events as the append function takes it: keys and arguments, flat and in the order in
//! which the function reads them (`functions/append.lua` and `cache.lua` name it). Sends nothing.

use crate::error::{AppendError, AppendErrorKind};
use crate::event::{CacheStep, Expected, NewEvent};
use crate::limit::BatchLimit;
use crate::name::NameOf;
use crate::settings::Agreed;
use crate::state::{self, Fields};
use crate::words::Words;
use crate::{Id, Kind, Layout, cache, record};
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use uuid::Uuid;

/// Buckets of remembered event ids. A bucket is compact while it holds fewer than 512 ids, so the
/// buckets together hold two million in two windows at about 9 bytes each.
const BUCKETS: u64 = 4096;
/// So many new ids in a row share a bucket.
const NEIGHBOURS: u64 = 64;
/// What the function reads as one byte of a count, or unpacks at once.
const FEW: usize = 1000;

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
    /// The clock that its ids come from. It stands before the keys of all batches of a call.
    pub(crate) clock: String,
    /// What programs must have in common about the family. It stands behind the clock.
    pub(crate) settings: String,
    /// The keys of its records. They stand together before the other keys of all batches of a call.
    pub(crate) records: Words,
    pub(crate) keys: Words,
    pub(crate) args: Words,
    ids: Vec<Uuid>,
}

/// What the append function says of a batch.
#[derive(Debug)]
pub(crate) enum Answer {
    Appended(Vec<Appended>),
    /// All its event ids were used before.
    Known(Vec<Uuid>),
}

fn invalid(index: usize, message: impl std::fmt::Display) -> AppendError {
    AppendError::new(AppendErrorKind::Invalid, format!("event {index}: {message}"))
}

/// The ids of a batch's events, for those without one a new one. They stay what they are however often the batch is laid out.
pub(crate) fn event_ids(events: &[NewEvent]) -> Vec<Uuid> {
    events.iter().map(|event| event.event_id.unwrap_or_else(new_event_id)).collect()
}

/// Checks what needs neither the server nor the kinds' settings. Answers the family of the first event.
pub(crate) fn check(
    layout: Layout,
    limit: BatchLimit,
    events: &[NewEvent],
) -> Result<&'static str, AppendError> {
    limit.check(events.len(), 0)?;
    let Some(first) = events.first() else {
        return Err(AppendError::new(AppendErrorKind::Invalid, "a batch holds at least one event"));
    };
    let family = first.kind.family;
    for (index, event) in events.iter().enumerate() {
        if !layout.is_plain() && event.kind.family != family {
            return Err(invalid(index, "in the tagged layout a batch stays within one family"));
        }
        check_names(event).map_err(|message| invalid(index, message))?;
    }
    Ok(family)
}

impl Batch {
    /// Lays out events that were checked, with these ids, by these settings.
    pub(crate) fn new(
        layout: Layout,
        limit: BatchLimit,
        events: &[NewEvent],
        ids: Vec<Uuid>,
        settings: &Agreed,
    ) -> Result<Self, AppendError> {
        let family = events.first().map_or("", |event| event.kind.family);
        let mut words =
            Laid { layout, records: Words::default(), keys: Words::default(), args: Words::default() };
        let superseded = superseded(events);
        for (index, (event, event_id)) in events.iter().zip(&ids).enumerate() {
            let kind = settings.kind(event.kind);
            words
                .event(event, kind, *event_id, superseded[index])
                .map_err(|message| invalid(index, message))?;
            limit.check(events.len(), words.size())?;
        }
        let mut args = Words::default();
        args.push_display(format_args!(
            "{} {} {} {} {}",
            events.len(),
            words.keys.len(),
            words.args.len() + 1,
            words.records.len(),
            settings.revision,
        ));
        args.extend(&words.args);
        let (clock, settings) = (layout.clock(family), layout.settings(family));
        Ok(Self { clock, settings, records: words.records, keys: words.keys, args, ids })
    }

    /// How many events it holds.
    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    /// What the append function answered. `None`: the settings have changed since the batch was laid out, so that it is to
    /// be laid out again, with the same event ids; nothing was written.
    pub(crate) fn answer(&self, words: &[&str]) -> Result<Option<Answer>, AppendError> {
        let number = |i: usize| words.get(i).and_then(|w| w.parse::<u64>().ok()).unwrap_or(0);
        let index = usize::try_from(number(1)).unwrap_or(0).saturating_sub(1);
        let refused =
            |kind, message: String| Err(AppendError::new(kind, format!("event {index}: {message}")));
        match words.first().copied() {
            Some("ok") => {
                let appended = self.ids.iter().enumerate().map(|(i, event_id)| {
                    let id = words.get(2 * i + 1).and_then(|w| w.parse().ok());
                    let id = id.ok_or_else(|| unexpected(words))?;
                    Ok(Appended { id, version: number(2 * i + 2), event_id: *event_id })
                });
                appended.collect::<Result<_, _>>().map(|appended| Some(Answer::Appended(appended)))
            }
            Some("known") => Ok(Some(Answer::Known(self.ids.clone()))),
            Some("stale") => Ok(None),
            Some("conflict") => {
                let actual = Some(number(2)).filter(|v| *v > 0);
                let deleted = number(3) == 1;
                let state = match (actual, deleted) {
                    (None, _) => "it does not exist".to_owned(),
                    (Some(v), true) => format!("it was deleted at version {v}"),
                    (Some(v), false) => format!("its version is {v}"),
                };
                let kind = AppendErrorKind::Conflict { index, actual, deleted };
                refused(kind, format!("the entity is not as expected: {state}"))
            }
            Some("duplicate") => Err(duplicate(index)),
            Some("wrongtype") => {
                let key = words.get(2..).unwrap_or_default().join(" ");
                refused(
                    AppendErrorKind::Refused,
                    format!("key {key:?} holds what the store never wrote; nothing was written"),
                )
            }
            Some("exhausted") => refused(
                AppendErrorKind::Refused,
                format!("stream {:?} has an entry whose id leaves no room for others", words.get(2)),
            ),
            _ => Err(unexpected(words)),
        }
    }
}

pub(crate) fn duplicate(index: usize) -> AppendError {
    AppendError::new(
        AppendErrorKind::DuplicateId,
        format!("event {index}: its event id was used before with another content"),
    )
}

pub(crate) fn unexpected(words: &[impl std::fmt::Debug]) -> AppendError {
    AppendError::new(AppendErrorKind::Unavailable, format!("the server answered {words:?}"))
}

/// A new random id. Those that are made one after the other fall into the same bucket, so that a call
/// with many events asks and writes few of them.
fn new_event_id() -> Uuid {
    static MADE: LazyLock<AtomicU64> = LazyLock::new(|| AtomicU64::new(Uuid::new_v4().as_u64_pair().1));
    let bucket = MADE.fetch_add(1, Ordering::Relaxed) / NEIGHBOURS % BUCKETS;
    Uuid::from_u128(Uuid::new_v4().as_u128() & !u128::from(BUCKETS - 1) | u128::from(bucket))
}

/// The bucket in which an event id is remembered: by its last bits.
fn bucket_of(event_id: Uuid) -> u64 {
    event_id.as_u64_pair().1 % BUCKETS
}

/// A number of 58 bits with a leading one: with the generation as a further decimal digit it stays
/// below 2^63, so that a bucket of them is a compact set of integers.
fn number_of(event_id: Uuid) -> u64 {
    let hash = Sha256::digest(event_id.as_bytes());
    let bits = hash.iter().take(8).fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
    bits >> 6 | 1 << 58
}

/// Which of the events have a later one of their entity in the batch: what they leave in the cache is
/// overwritten in the same step, so it is never written.
fn superseded(events: &[NewEvent]) -> Vec<bool> {
    let mut later = HashSet::new();
    let mut superseded: Vec<bool> =
        events.iter().rev().map(|e| !later.insert((e.kind.family, e.kind.name, &e.entity_id))).collect();
    superseded.reverse();
    superseded
}

struct Laid {
    layout: Layout,
    records: Words,
    keys: Words,
    args: Words,
}

impl Laid {
    fn size(&self) -> usize {
        self.records.size() + self.keys.size() + self.args.size()
    }

    fn event(
        &mut self,
        event: &NewEvent,
        kind: Kind,
        event_id: Uuid,
        superseded: bool,
    ) -> Result<(), String> {
        let id = event.entity_id.as_str();
        let body = event.entity.as_deref().map_err(|e| format!("the entity's state: {e}"))?;
        let fields =
            Fields::of(body).map_err(|e| format!("the entity's state must be a JSON object: {e}"))?;
        let own = kind.ordering_key(id);
        let stream = event.stream();
        let mut others: Vec<&str> = Vec::new();
        for key in &event.keys {
            NameOf::OrderingKey.check(key).map_err(|e| e.to_string())?;
            if *key != own && !others.contains(&key.as_str()) {
                others.push(key);
            }
        }
        self.keys.push(self.layout.stream(&stream));
        self.keys.push(self.layout.seen(kind.family, bucket_of(event_id)));
        self.records.push(self.layout.record(kind.family, &own));
        for key in &others {
            self.records.push(self.layout.record(kind.family, key));
        }
        let further = further_fields(event, &fields);
        self.args.push(format!("{} {} {}", others.len(), 2 * further.len(), event.schema));
        self.args.push_parts(record::link_on(&own, &stream).each_ref().map(|part| part.as_bytes()));
        self.args.push(event_id.hyphenated().encode_lower(&mut Uuid::encode_buffer()).as_bytes());
        self.args.push_number(number_of(event_id));
        match event.expected {
            Expected::Any => self.args.push("*"),
            Expected::None => self.args.push("0"),
            Expected::Exists => self.args.push("+"),
            Expected::Exactly(version) => self.args.push_number(version),
        }
        self.args.push(body);
        for key in &others {
            self.args.push(key);
            self.args.push_parts(record::link_on(key, &stream).each_ref().map(|part| part.as_bytes()));
        }
        for (name, value) in further {
            self.args.push(name);
            self.args.push(value);
        }
        let removed = event.cache == CacheStep::Remove;
        if superseded {
            cache::check(kind, &fields)?;
            cache::lay_out_superseded(removed, &mut self.args);
            return Ok(());
        }
        cache::lay_out(self.layout, kind, id, removed, &fields, &mut self.keys, &mut self.args)
    }
}

/// Those of its kind were checked when the kind was made.
fn check_names(event: &NewEvent) -> Result<(), String> {
    NameOf::Action.check(event.action).map_err(|e| e.to_string())?;
    NameOf::EntityId.check(&event.entity_id).map_err(|e| e.to_string())?;
    if event.keys.len() > FEW {
        return Err(format!("{} ordering keys are too many: {FEW} at most", event.keys.len()));
    }
    Ok(())
}

/// Fields of the entry that most entries do without.
fn further_fields<'a>(event: &'a NewEvent, fields: &Fields<'_>) -> Vec<(&'static str, &'a str)> {
    let kind = event.kind;
    let says_id = fields.get("id").is_some_and(|id| {
        id.get().starts_with('"') && state::plain(id).is_some_and(|id| id == event.entity_id)
    });
    [
        ("entity_type", (kind.name != kind.family).then_some(kind.name)),
        ("entity_id", (!says_id).then_some(event.entity_id.as_str())),
        ("removed", (event.cache == CacheStep::Remove).then_some("1")),
        ("correlation_id", event.correlation_id.as_deref()),
        ("causation_id", event.causation_id.as_deref()),
        ("traceparent", event.traceparent.as_deref()),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ORDER: Kind = Kind::new("order").lists(&["product_ids"]);

    fn in_layout(layout: Layout, events: &[NewEvent]) -> Result<Batch, AppendError> {
        let limit = BatchLimit::default();
        check(layout, limit, events)?;
        Batch::new(layout, limit, events, event_ids(events), &Agreed::default())
    }

    fn batch(events: &[NewEvent]) -> Result<Batch, AppendError> {
        in_layout(Layout::Plain, events)
    }

    #[test]
    fn a_batch_beyond_the_limit_of_events_or_bytes_is_refused_with_both_named() {
        let limit = BatchLimit { events: 2, bytes: 1_000 };
        let event = |size: usize| NewEvent::put(ORDER, "created", "1", &json!({ "text": "x".repeat(size) }));
        let laid_out = |events: &[NewEvent]| {
            check(Layout::Plain, limit, events)?;
            Batch::new(Layout::Plain, limit, events, event_ids(events), &Agreed::default())
        };
        let refused = |events: &[NewEvent]| {
            let error = laid_out(events).unwrap_err();
            assert!(error.to_string().contains("2 events and 1000 bytes"), "{error}");
            error.kind()
        };
        let too_large = |events| AppendErrorKind::TooLarge { events, most_events: 2, most_bytes: 1_000 };
        assert!(laid_out(&[event(10), event(10)]).is_ok());
        assert_eq!(refused(&[event(10), event(10), event(10)]), too_large(3));
        assert_eq!(refused(&[event(10), event(1_000)]), too_large(2));
    }

    #[test]
    fn what_cannot_be_appended_is_refused_before_anything_is_sent() {
        let state = json!({ "id": "1" });
        for (event, says) in [
            (NewEvent::put(ORDER, "cre:ated", "1", &state), "an action"),
            (NewEvent::put(ORDER, "paid_in", "1", &state), "an action"),
            (NewEvent::put(ORDER, "created", "a}b", &state), "id of an entity"),
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
    fn a_batch_of_two_families_is_refused_where_their_slots_differ() {
        let events = ["order", "bill"].map(|name| NewEvent::put(Kind::new(name), "created", "1", &json!({})));
        assert!(batch(&events).is_ok());
        assert!(in_layout(Layout::Tagged, &events).is_err());
    }

    #[test]
    fn a_refusal_carries_the_actual_version() {
        let batch = batch(&[NewEvent::put(ORDER, "created", "1", &json!({}))]).unwrap();
        let kind = batch.answer(&["conflict", "1", "7", "0"]).unwrap_err().kind();
        assert_eq!(kind, AppendErrorKind::Conflict { index: 0, actual: Some(7), deleted: false });
    }

    #[test]
    fn the_number_of_an_event_id_fits_a_set_of_integers_whatever_its_generation() {
        for event_id in [Uuid::nil(), Uuid::max(), Uuid::new_v4()] {
            let number = number_of(event_id);
            assert!(number.checked_mul(10).and_then(|n| i64::try_from(n + 9).ok()).is_some(), "{number}");
            assert!(number >= 1 << 58);
        }
    }
}
