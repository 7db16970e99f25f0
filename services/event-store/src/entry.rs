//! Entries as they come off the wire, and their decoding into events. An entry may have been
//! written by any program, so nothing here trusts its content.

use crate::error::DecodeError;
use crate::kind::ordering_key;
use crate::record::After;
use crate::{Body, Event, Id, StreamName};
use redis::Value;
use uuid::Uuid;

/// An entry of a stream, undecoded.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RawEntry {
    pub(crate) id: Id,
    pub(crate) fields: Vec<(Vec<u8>, Vec<u8>)>,
}

impl RawEntry {
    /// The bytes of its fields.
    pub(crate) fn size(&self) -> usize {
        self.fields.iter().map(|(name, value)| name.len() + value.len()).sum()
    }

    /// A field as text, whatever bytes it holds.
    pub(crate) fn lossy(&self, name: &str) -> String {
        let found = self.fields.iter().find(|(n, _)| n == name.as_bytes());
        found.map(|(_, value)| String::from_utf8_lossy(value)).unwrap_or_default().into_owned()
    }

    /// Takes a field out as text.
    fn take(&mut self, name: &str) -> Result<Option<String>, DecodeError> {
        let found = self.fields.iter_mut().find(|(n, _)| n == name.as_bytes());
        let Some(value) = found.map(|(_, value)| std::mem::take(value)) else { return Ok(None) };
        String::from_utf8(value).map(Some).map_err(|_| self.wrong(name, &"it is not UTF-8"))
    }

    fn required(&mut self, name: &str) -> Result<String, DecodeError> {
        self.take(name)?.ok_or_else(|| self.wrong(name, &"it is missing"))
    }

    fn wrong(&self, name: &str, why: &dyn std::fmt::Display) -> DecodeError {
        DecodeError::new(self.id, format!("field {name}: {why}"))
    }

    /// The event in this entry.
    pub(crate) fn decode(&self, stream: &StreamName) -> Result<Event, DecodeError> {
        self.clone().into_event(stream)
    }

    /// The event in this entry, made of what the entry holds.
    pub(crate) fn into_event(mut self, stream: &StreamName) -> Result<Event, DecodeError> {
        let event_id = self.required("event_id")?;
        let event_id = Uuid::parse_str(&event_id).map_err(|e| self.wrong("event_id", &e))?;
        let body = self.required("entity")?;
        let (entity, id_of_body) = Body::checked(body).map_err(|e| self.wrong("entity", &e))?;
        let entity_type = self.take("entity_type")?.unwrap_or_else(|| stream.family().to_owned());
        let entity_id = self.take("entity_id")?.or(id_of_body);
        let entity_id =
            entity_id.ok_or_else(|| self.wrong("entity_id", &"it is missing, and the entity has no id"))?;
        let version = self.required("version")?.parse().map_err(|e| self.wrong("version", &e))?;
        let schema = self.take("schema")?;
        let schema = schema.as_deref().unwrap_or("1").parse().map_err(|e| self.wrong("schema", &e))?;
        let after = After::parse(ordering_key(&entity_type, &entity_id), self.take("after")?);
        let after = after.ok_or_else(|| {
            self.wrong("after", &"it is no list of streams and ids, with each ordering key once")
        })?;
        Ok(Event {
            id: self.id,
            stream: stream.clone(),
            event_id,
            version,
            schema,
            entity,
            entity_type,
            entity_id,
            removed: self.fields.iter().any(|(name, _)| name == b"removed"),
            correlation_id: self.take("correlation_id")?,
            causation_id: self.take("causation_id")?,
            traceparent: self.take("traceparent")?,
            snapshot: false,
            after,
        })
    }
}

/// The bytes of these entries together.
pub(crate) fn size_of(entries: &[RawEntry]) -> usize {
    entries.iter().map(RawEntry::size).sum()
}

/// Entries of several streams, as XREAD and XREADGROUP answer; the key stands first.
pub(crate) fn parse_streams(reply: Value) -> Vec<(String, Vec<RawEntry>)> {
    let pairs: Vec<(Value, Value)> = match reply {
        Value::Array(items) => items
            .into_iter()
            .filter_map(|item| match item {
                Value::Array(pair) => {
                    let mut pair = pair.into_iter();
                    Some((pair.next()?, pair.next()?))
                }
                _ => None,
            })
            .collect(),
        Value::Map(pairs) => pairs,
        _ => Vec::new(),
    };
    pairs.into_iter().filter_map(|(key, entries)| Some((text(key)?, parse_entries(entries)))).collect()
}

/// Entries of one stream. One whose id cannot be read is left out: the server wrote none such.
/// An entry that was deleted while pending comes with nil for its fields and is kept without any.
pub(crate) fn parse_entries(reply: Value) -> Vec<RawEntry> {
    let Value::Array(entries) = reply else { return Vec::new() };
    entries
        .into_iter()
        .filter_map(|entry| {
            let Value::Array(pair) = entry else { return None };
            let mut pair = pair.into_iter();
            let id = text(pair.next()?)?.parse().ok()?;
            Some(RawEntry { id, fields: parse_fields(pair.next().unwrap_or_default()) })
        })
        .collect()
}

fn parse_fields(value: Value) -> Vec<(Vec<u8>, Vec<u8>)> {
    match value {
        Value::Array(items) => {
            let mut fields = Vec::with_capacity(items.len() / 2);
            let mut items = items.into_iter();
            while let (Some(name), Some(value)) = (items.next(), items.next()) {
                fields.push((bytes(name), bytes(value)));
            }
            fields
        }
        Value::Map(pairs) => pairs.into_iter().map(|(name, value)| (bytes(name), bytes(value))).collect(),
        _ => Vec::new(),
    }
}

fn bytes(value: Value) -> Vec<u8> {
    match value {
        Value::BulkString(bytes) => bytes,
        Value::SimpleString(text) => text.into_bytes(),
        _ => Vec::new(),
    }
}

pub(crate) fn text(value: Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        Value::Int(n) => Some(n.to_string()),
        Value::Okay => Some("OK".to_owned()),
        _ => None,
    }
}

/// An answer of a function: a word and what follows it, as texts.
pub(crate) fn words(value: Value) -> Vec<String> {
    match value {
        Value::Array(items) => items.into_iter().map(|item| text(item).unwrap_or_default()).collect(),
        other => text(other).into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    fn entry(fields: &[(&str, &[u8])]) -> RawEntry {
        let fields = fields.iter().map(|(n, v)| (n.as_bytes().to_vec(), v.to_vec())).collect();
        RawEntry { id: Id::new(1, 0), fields }
    }

    const GOOD: [(&str, &[u8]); 4] = [
        ("event_id", b"6d3ff6f4-8a0d-4ae6-9ff8-cf1d46c0e4a1"),
        ("entity", b"{\"id\":\"7\"}"),
        ("version", b"3"),
        ("after", b"created=5-1"),
    ];

    #[test]
    fn an_entry_of_the_store_decodes() {
        let event = entry(&GOOD).decode(&Kind::new("order").stream("updated")).unwrap();
        assert_eq!((event.version, event.schema, event.entity_id.as_str()), (3, 1, "7"));
        assert_eq!((event.entity_type.as_str(), event.removed), ("order", false));
        assert_eq!(event.after.chain("order/7").unwrap()["order_created"], Id::new(5, 1));
    }

    #[test]
    fn what_the_stream_and_the_body_say_need_not_stand_in_fields() {
        let stream = Kind::new("account").stream("updated");
        let mut fields = GOOD.to_vec();
        fields[1].1 = b"{\"name\":\"x\"}";
        assert!(entry(&fields).decode(&stream).unwrap_err().to_string().contains("entity_id"));
        fields.extend([("entity_id", &b"8"[..]), ("entity_type", b"card"), ("removed", b"1")]);
        let event = entry(&fields).decode(&stream).unwrap();
        assert_eq!((event.entity_type.as_str(), event.entity_id.as_str()), ("card", "8"));
        assert!(event.removed && event.after.own() == "card/8");
    }

    #[test]
    fn foreign_content_is_an_error_that_names_the_field_never_a_panic() {
        let stream = Kind::new("order").stream("updated");
        for (name, value) in [
            ("event_id", &b"nope"[..]),
            ("entity", b"{"),
            ("entity", &[0xff, 0xfe]),
            ("version", b"-1"),
            ("after", b"[]"),
            ("after", b"a=b"),
            ("after", b"\norder/7\tcreated=5-1"),
        ] {
            let mut fields = GOOD;
            for field in &mut fields {
                if field.0 == name {
                    field.1 = value;
                }
            }
            let error = entry(&fields).decode(&stream).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
        assert!(entry(&[]).decode(&stream).unwrap_err().to_string().contains("missing"));
    }
}
