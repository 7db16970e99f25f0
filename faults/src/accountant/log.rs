//! The log by itself: versions without gap and in order, ids that increase across all streams, no event twice.

use super::Line;
use crate::books::{Books, Entry};
use crate::history::{Call, History};
use event_store::Id;
use std::collections::{BTreeMap, HashMap, HashSet};

pub(super) fn lines(history: &History, books: &Books) -> [Line; 3] {
    [versions(books), ids(history, books), once(books)]
}

fn versions(books: &Books) -> Line {
    let mut line = Line::new("per entity, versions are gapless and in the order of the log");
    for ((kind, id), entries) in books.by_entity() {
        let versions: Vec<u64> = entries.iter().map(|entry| entry.version).collect();
        let gapless = (1..).zip(&versions).all(|(wanted, version)| wanted == *version);
        line.check(gapless, || format!("{kind} {id} has the versions {versions:?}"));
    }
    line
}

/// No two events share an id; an effect comes after its cause; what was answered comes before what was asked later.
fn ids(history: &History, books: &Books) -> Line {
    let mut line =
        Line::new("ids increase across all streams: after the cause, after what was answered before");
    for pair in books.events.windows(2) {
        line.check(pair[0].id < pair[1].id, || {
            format!("{} and {} share the id {}", pair[0].stream, pair[1].stream, pair[0].id)
        });
    }
    let by_event: HashMap<&str, &Entry> = books.events.iter().map(|e| (e.event_id.as_str(), e)).collect();
    for entry in &books.events {
        let cause = entry.causation.as_deref().and_then(|cause| by_event.get(cause));
        if let Some(cause) = cause {
            line.check(cause.id < entry.id, || {
                format!("{} {} stands before its cause {}", entry.stream, entry.id, cause.id)
            });
        }
    }
    in_real_time(history, books, &mut line);
    line
}

fn in_real_time(history: &History, books: &Books, line: &mut Line) {
    let mut places: HashMap<&str, (Id, Id)> = HashMap::new();
    for entry in books.events.iter().filter(|entry| entry.is_root()) {
        let Some(call) = entry.correlation.as_deref() else { continue };
        let place = places.entry(call).or_insert((entry.id, entry.id));
        *place = (place.0.min(entry.id), place.1.max(entry.id));
    }
    let acknowledged = |call: &&Call| call.status().is_some_and(|status| status < 300);
    let mut ends: Vec<(u64, Id)> = history
        .calls
        .iter()
        .filter(acknowledged)
        .filter_map(|call| Some((call.end, places.get(call.id.as_str())?.1)))
        .collect();
    ends.sort_by_key(|(end, _)| *end);
    let mut begins: Vec<(&Call, Id)> =
        history.calls.iter().filter_map(|call| Some((call, places.get(call.id.as_str())?.0))).collect();
    begins.sort_by_key(|(call, _)| call.begin);
    let (mut next, mut highest) = (0, Id::ZERO);
    for (call, first) in begins {
        while next < ends.len() && ends[next].0 < call.begin {
            highest = highest.max(ends[next].1);
            next += 1;
        }
        line.check(highest < first, || {
            format!("call {} wrote {first} after {highest} had been answered", call.id)
        });
    }
}

/// Each event id once; and each event had the effects of its handlers once.
fn once(books: &Books) -> Line {
    let mut line = Line::new("no event is in the log twice, and none was handled twice");
    let mut seen = HashSet::new();
    let mut effects: BTreeMap<(&str, &str, &str), u32> = BTreeMap::new();
    for entry in &books.events {
        line.check(seen.insert(&entry.event_id), || {
            format!("event {} stands twice, again at {} {}", entry.event_id, entry.stream, entry.id)
        });
        if let Some(cause) = &entry.causation {
            // A mail says what it is about; of everything else an event has one effect of a kind on an entity.
            *effects.entry((cause, &entry.stream, &entry.entity_id)).or_default() += 1;
        }
    }
    for ((cause, stream, id), count) in effects {
        line.check(count == 1, || format!("event {cause} caused {count} {stream} of {id}"));
    }
    line
}
