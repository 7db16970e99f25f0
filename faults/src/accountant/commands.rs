//! Calls and the log: what was acknowledged happened once, what was not at most once, what was refused never,
//! and nothing happened that nobody asked for. The id of a call is the correlation id of its events.

use super::Line;
use crate::books::{Books, Entry};
use crate::history::{Call, History, Method};
use serde_json::Value;
use std::collections::HashMap;

/// How often the events of a command must be in the log: all of them, all or none, none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Must {
    Once,
    AtMostOnce,
    Never,
}

fn must(call: &Call) -> Must {
    let out_of_stock = || call.body()["type"].as_str().is_some_and(|kind| kind.ends_with(":out-of-stock"));
    match call.status() {
        Some(200 | 202) => Must::Once,
        // The order is in the log, and rejected.
        Some(409) if out_of_stock() => Must::Once,
        Some(400 | 405 | 413 | 422) => Must::Never,
        _ => Must::AtMostOnce,
    }
}

pub(super) fn lines(history: &History, books: &Books) -> [Line; 4] {
    let mut acknowledged = Line::new("every acknowledged command is in the log exactly once");
    let mut unknown =
        Line::new("every unacknowledged command is in the log at most once, whole or not at all");
    let mut refused = Line::new("a refused command has written nothing");
    let mut asked = Line::new("nothing is in the log that nobody asked for");

    let mut roots: HashMap<&str, Vec<&Entry>> = HashMap::new();
    for entry in books.events.iter().filter(|entry| entry.is_root()) {
        roots.entry(entry.correlation.as_deref().unwrap_or_default()).or_default().push(entry);
    }
    for call in history.calls.iter().filter(|call| call.request.method != Method::Get) {
        let found = roots.remove(call.id.as_str()).unwrap_or_default();
        let wanted = call.request.items();
        let told = || format!("{}: {} of {wanted} events", described(call), found.len());
        match must(call) {
            Must::Once => {
                acknowledged.check(found.len() == wanted && fits(call, &found), told);
            }
            Must::AtMostOnce => {
                unknown.check((found.is_empty() || found.len() == wanted) && fits(call, &found), told);
            }
            Must::Never => refused.check(found.is_empty(), told),
        }
    }
    asked.checked = books.events.len();
    asked.broken.extend(roots.into_values().flatten().map(|entry| {
        format!("{} {} of {} was asked for by nobody", entry.stream, entry.id, entry.entity_id)
    }));
    [acknowledged, unknown, refused, asked]
}

fn described(call: &Call) -> String {
    let answer = match &call.answer {
        crate::history::Answer::Status(status, _) => status.to_string(),
        crate::history::Answer::Lost(reason) => reason.clone(),
    };
    format!("call {} ({:?} {}, answered: {answer})", call.id, call.request.method, call.request.path)
}

/// Are these the events that the call asked for?
fn fits(call: &Call, found: &[&Entry]) -> bool {
    let parts = call.request.parts();
    let kind = match parts.first().copied().unwrap_or_default() {
        "inventory" => "inventory",
        path => path.strip_suffix('s').unwrap_or(path),
    };
    let action = match call.request.method {
        Method::Post => "created",
        Method::Put => "updated",
        Method::Delete => "deleted",
        Method::Get => return false,
    };
    let of_kind = found.iter().all(|entry| entry.kind == kind && entry.action() == action);
    of_kind
        && match call.request.method {
            Method::Post => created(call, found),
            Method::Put => found.iter().all(|e| {
                Some(&e.entity_id.as_str()) == parts.get(1) && carries(call.request.body.as_ref(), e)
            }),
            _ => found.iter().all(|entry| Some(&entry.entity_id.as_str()) == parts.get(1)),
        }
}

/// The ids that were answered are those of the items, in their order.
fn created(call: &Call, found: &[&Entry]) -> bool {
    let Some(Value::Array(ids)) = Some(call.body()).filter(|_| matches!(call.status(), Some(200 | 202)))
    else {
        return true;
    };
    let items: Vec<&Value> = match &call.request.body {
        Some(Value::Array(items)) => items.iter().collect(),
        Some(item) => vec![item],
        None => Vec::new(),
    };
    ids.len() == items.len()
        && ids.iter().zip(items).all(|(id, item)| {
            let entry = found.iter().find(|entry| id == entry.entity_id.as_str());
            entry.is_some_and(|entry| carries(Some(item), entry))
        })
}

/// Does the event's state say what was asked for, field by field?
fn carries(item: Option<&Value>, entry: &Entry) -> bool {
    let state = entry.entity();
    let equal = |(name, wanted): (&String, &Value)| {
        let is = &state[name];
        is == wanted || is.as_f64().is_some_and(|is| Some(is) == wanted.as_f64())
    };
    item.and_then(Value::as_object).is_none_or(|fields| fields.iter().all(equal))
}
