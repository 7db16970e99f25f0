//! What is derived: the entity caches and the read model equal a fold of the log.

use super::Line;
use crate::books::{Books, Entry};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The one field that the cache keeps as a list of its own.
const LIST: &str = "product_ids";

pub(super) fn lines(books: &Books) -> [Line; 2] {
    [caches(books), projection(books)]
}

fn caches(books: &Books) -> Line {
    let mut line = Line::new("every entity cache equals a fold of the log");
    let of = books.by_entity();
    for ((kind, id), entries) in &of {
        let (Some(newest), Some(held)) = (entries.last(), books.caches.get(*kind)) else {
            line.check(false, || format!("there is no cache of {kind}"));
            continue;
        };
        let exists = newest.action() != "deleted";
        line.check(held.ids.contains(*id) == exists, || format!("{kind}_ids and {id}: it exists = {exists}"));
        let (hash, list) =
            if exists { flat(kind, id, &newest.entity()) } else { (BTreeMap::new(), Vec::new()) };
        let holds = plain(held.hashes.get(*id));
        line.check(holds == hash, || format!("{kind}_entity:{id} holds {holds:?}, the log says {hash:?}"));
        let holds = held.lists.get(*id).cloned().unwrap_or_default();
        line.check(holds == list, || format!("{kind}_{LIST}:{id} holds {holds:?}, the log says {list:?}"));
    }
    for (kind, cache) in &books.caches {
        let ids = cache.ids.iter().chain(cache.hashes.keys()).chain(cache.lists.keys());
        for id in ids.filter(|id| !of.contains_key(&(kind.as_str(), id.as_str()))) {
            line.check(false, || format!("{kind} {id} is cached and not in the log"));
        }
    }
    line
}

/// A cached hash as the log's states are read: numbers and what is nested are JSON, and JSON has several texts
/// for the same.
fn plain(hash: Option<&BTreeMap<String, String>>) -> BTreeMap<String, String> {
    let same = |text: &String| {
        serde_json::from_str::<Value>(text).map_or_else(|_| text.clone(), |value| value.to_string())
    };
    hash.into_iter().flatten().map(|(name, text)| (name.clone(), same(text))).collect()
}

fn flat(kind: &str, id: &str, state: &Value) -> (BTreeMap<String, String>, Vec<String>) {
    let mut hash = BTreeMap::new();
    let mut list = Vec::new();
    for (name, value) in state.as_object().into_iter().flatten() {
        match value {
            Value::Array(items) if kind == "order" && name == LIST => {
                list = items.iter().filter_map(Value::as_str).map(str::to_owned).collect();
                hash.insert(name.clone(), format!("{kind}_{LIST}:{id}"));
            }
            Value::Null => {}
            Value::String(text) => {
                hash.insert(name.clone(), text.clone());
            }
            other => {
                hash.insert(name.clone(), other.to_string());
            }
        }
    }
    (hash, list)
}

/// What the read model shows of an entity after this event: nothing of a deleted one or a rejected order.
pub(super) fn shown(entry: &Entry) -> Option<Value> {
    let state = entry.entity();
    let hidden = entry.action() == "deleted" || (entry.kind == "order" && state["status"] == "rejected");
    (!hidden).then_some(state)
}

fn projection(books: &Books) -> Line {
    let mut line = Line::new("the read model equals a fold of the log");
    let of = books.by_entity();
    let model = &books.projection;
    for kind in ["customer", "product", "inventory", "order", "billing"] {
        let entities = || of.iter().filter(|((of, _), _)| *of == kind);
        let mut existing: Vec<&Entry> = Vec::new();
        let mut wanted: BTreeMap<String, Value> = BTreeMap::new();
        for ((_, id), entries) in entities() {
            let (Some(first), Some(last)) = (entries.first(), entries.last()) else { continue };
            if last.action() != "deleted" {
                existing.push(first);
            }
            if let Some(state) = shown(last) {
                wanted.insert((*id).to_owned(), state);
            }
        }
        let found = model.shown.get(kind).cloned().unwrap_or_default();
        let ids: BTreeSet<&String> = wanted.keys().chain(found.keys()).collect();
        for id in ids {
            let (found, wanted) = (found.get(id), wanted.get(id));
            line.check(found == wanted, || {
                format!("{kind} {id} is shown as {found:?}, the log says {wanted:?}")
            });
        }
        existing.sort_by_key(|first| first.id);
        let places: Vec<&String> = existing.iter().map(|first| &first.entity_id).collect();
        let found: Vec<&String> = model.order.get(kind).into_iter().flatten().collect();
        line.check(found == places, || format!("{kind}s are listed as {found:?}, the log says {places:?}"));
    }
    let billed: BTreeMap<String, String> = of
        .iter()
        .filter(|((kind, _), entries)| {
            *kind == "billing" && entries.last().is_some_and(|e| e.action() != "deleted")
        })
        .filter_map(|((_, id), entries)| {
            Some(((*id).to_owned(), entries.last()?.entity()["order_id"].as_str()?.to_owned()))
        })
        .collect();
    line.check(billed == model.billed, || format!("billed are {:?}, the log says {billed:?}", model.billed));
    line
}
