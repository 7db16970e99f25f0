//! The shapes of what is printed that are not the library's own, for programs. They are stable:
//! fields may be added, none changes its meaning.

use event_store::inspect::LogEntry;
use event_store::{DeadLetter, Event};
use serde_json::{Value, json};

/// An entry of the log.
pub(crate) fn entry(entry: &LogEntry) -> Value {
    match &entry.content {
        Ok(event) => self::event(event),
        Err(e) => json!({ "id": entry.id, "stream": entry.stream, "error": e.to_string() }),
    }
}

pub(crate) fn event(event: &Event) -> Value {
    json!({
        "id": event.id,
        "stream": event.stream,
        "event_id": event.event_id,
        "entity_type": event.entity_type,
        "entity_id": event.entity_id,
        "version": event.version,
        "schema": event.schema,
        "entity": event.entity,
        "correlation_id": event.correlation_id,
        "causation_id": event.causation_id,
        "traceparent": event.traceparent,
    })
}

pub(crate) fn letter(group: &str, letter: &DeadLetter) -> Value {
    json!({
        "group": group,
        "letter": letter.letter,
        "stream": letter.stream,
        "id": letter.id,
        "reason": letter.reason,
        "attempts": letter.attempts,
        "first_failure_ms": letter.first_failure,
        "last_failure_ms": letter.last_failure,
        "keys": letter.keys,
    })
}

/// With its fields: a text, or the bytes where it is none.
pub(crate) fn whole_letter(group: &str, dead: &DeadLetter) -> Value {
    let field = |(name, value): &(Vec<u8>, Vec<u8>)| {
        let name = String::from_utf8_lossy(name);
        match std::str::from_utf8(value) {
            Ok(text) => json!({ "name": name, "text": text }),
            Err(_) => json!({ "name": name, "bytes": value }),
        }
    };
    let mut value = letter(group, dead);
    value["raw"] = dead.raw.iter().map(field).collect();
    value
}
