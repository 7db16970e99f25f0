//! Reads: what was answered is a state that the log knows, sees the writes that were answered before, and never
//! goes back behind what an earlier read has seen.

use super::Line;
use super::state::shown;
use crate::books::{Books, Entry};
use crate::history::{Call, History, Method};
use crate::schedule::Fault;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};

const SECTIONS: [(&str, &str); 5] = [
    ("customers", "customer"),
    ("products", "product"),
    ("inventory", "inventory"),
    ("orders", "order"),
    ("billings", "billing"),
];

/// An entity as reads see it: nothing, then what each event left.
struct Track {
    states: Vec<Option<Value>>,
    /// When it was answered that a state was reached, and which.
    answered: Vec<(u64, usize)>,
    /// What reads have seen that may not have ended yet, and what is certain.
    seen: Vec<(u64, usize)>,
    floor: usize,
}

impl Track {
    /// The least state that a read must see that begins now.
    fn floor(&mut self, begin: u64, strong: bool) -> usize {
        let mut floor = self.floor;
        self.seen.retain(|(end, state)| {
            let over = *end < begin;
            if over {
                floor = floor.max(*state);
            }
            !over
        });
        self.floor = floor;
        let answered = self.answered.iter().filter(|(end, _)| strong && *end < begin);
        answered.map(|(_, state)| *state).fold(floor, usize::max)
    }

    /// Takes what a read saw; the reason when it must not have.
    fn see(&mut self, call: &Call, strong: bool, shown: Option<&Value>) -> Result<(), String> {
        let floor = self.floor(call.begin, strong);
        let fits = |state: usize| self.states[state].as_ref() == shown;
        if let Some(state) = (floor..self.states.len()).find(|state| fits(*state)) {
            self.seen.push((call.end, state));
            return Ok(());
        }
        let earlier = (0..floor).rev().find(|state| fits(*state));
        Err(match earlier {
            Some(state) => format!("it shows version {state} when {floor} had been answered or read"),
            None => {
                format!("it shows what never was: {}", shown.map_or_else(String::new, ToString::to_string))
            }
        })
    }
}

type Tracks = BTreeMap<String, HashMap<String, Track>>;

fn tracks(history: &History, books: &Books) -> Tracks {
    let ends: HashMap<&str, &Call> = history.calls.iter().map(|call| (call.id.as_str(), call)).collect();
    let mut tracks: Tracks = BTreeMap::new();
    for ((kind, id), entries) in books.by_entity() {
        let states = std::iter::once(None).chain(entries.iter().map(|entry| shown(entry))).collect();
        let mut answered = Vec::new();
        for (index, entry) in entries.iter().enumerate().filter(|(_, entry)| entry.is_root()) {
            let call = entry.correlation.as_deref().and_then(|id| ends.get(id));
            let Some(call) = call.filter(|call| call.status().is_some_and(|status| status < 300)) else {
                continue;
            };
            answered.push((call.end, decided(&entries, index, call) + 1));
        }
        let track = Track { states, answered, seen: Vec::new(), floor: 0 };
        tracks.entry(kind.to_owned()).or_default().insert(id.to_owned(), track);
    }
    tracks
}

/// An order that was answered with 200 is decided: the answer speaks of the decision, too.
fn decided(entries: &[&Entry], index: usize, call: &Call) -> usize {
    let waits = entries[index].kind == "order" && call.request.method != Method::Delete;
    if !waits || call.status() != Some(200) {
        return index;
    }
    let is_decision =
        |entry: &&Entry| matches!(entry.entity()["change"].as_str(), Some("confirmed" | "rejected"));
    let found = entries.iter().enumerate().skip(index).find(|(_, entry)| is_decision(entry));
    found.map_or(index, |(decision, _)| decision)
}

pub(super) fn line(history: &History, books: &Books) -> Line {
    let mut line = Line::new("reads saw the writes that were answered before them, and never went backwards");
    let mut tracks = tracks(history, books);
    let mut reads: Vec<&Call> = history
        .calls
        .iter()
        .filter(|call| call.request.method == Method::Get && call.status() == Some(200))
        .collect();
    reads.sort_by_key(|call| call.begin);
    let wipes: Vec<(u64, u64)> = history
        .faults
        .iter()
        .filter(|done| done.fault == Fault::Rebuild)
        .map(|done| (done.begin, done.end))
        .collect();
    for call in reads {
        let strong = !call.request.path.contains("consistency=eventual");
        // While it is wiped, and where a read takes what is there until it is rebuilt, nothing was promised.
        let promised = wipes.iter().all(|(begin, end)| call.end < *begin || (strong && call.begin > *end));
        if promised {
            read(call, strong, &mut tracks, &mut line);
        }
    }
    line
}

fn read(call: &Call, strong: bool, tracks: &mut Tracks, line: &mut Line) {
    let body = call.body();
    match call.request.parts().as_slice() {
        ["orders", "unbilled"] => some(call, strong, "order", body, tracks, line),
        ["report"] => {
            for (name, kind) in SECTIONS {
                all(call, strong, kind, &body[name], tracks, line);
            }
        }
        [name] => {
            let kind = SECTIONS.iter().find(|(many, _)| many == name).map_or("", |(_, kind)| *kind);
            all(call, strong, kind, body, tracks, line);
        }
        [kind, id] => {
            let found = (!body.is_null()).then_some(body);
            match tracks.get_mut(*kind).and_then(|of| of.get_mut(*id)) {
                Some(track) => judge(call, id, track.see(call, strong, found), line),
                None => {
                    judge(call, id, found.map_or(Ok(()), |_| Err("it is not in the log".to_owned())), line);
                }
            }
        }
        _ => {}
    }
}

fn judge(call: &Call, id: &str, seen: Result<(), String>, line: &mut Line) {
    line.check(seen.is_ok(), || {
        format!("call {} (GET {}) of {id}: {}", call.id, call.request.path, seen.err().unwrap_or_default())
    });
}

/// The items of a listing by their ids; each is looked at.
fn items<'v>(call: &Call, listing: &'v Value, line: &mut Line) -> HashMap<&'v str, &'v Value> {
    let mut items = HashMap::new();
    for item in listing.as_array().into_iter().flatten() {
        let id = item["id"].as_str().unwrap_or_default();
        line.check(items.insert(id, item).is_none(), || format!("call {} lists {id} twice", call.id));
    }
    items
}

/// A listing of all: what is not in it is not there.
fn all(call: &Call, strong: bool, kind: &str, listing: &Value, tracks: &mut Tracks, line: &mut Line) {
    let mut items = items(call, listing, line);
    let none = &mut HashMap::new();
    for (id, track) in tracks.get_mut(kind).unwrap_or(none) {
        judge(call, id, track.see(call, strong, items.remove(id.as_str())), line);
    }
    for id in items.into_keys() {
        judge(call, id, Err("it is not in the log".to_owned()), line);
    }
}

/// A listing of some: what is in it must be right.
fn some(call: &Call, strong: bool, kind: &str, listing: &Value, tracks: &mut Tracks, line: &mut Line) {
    for (id, item) in items(call, listing, line) {
        match tracks.get_mut(kind).and_then(|of| of.get_mut(id)) {
            Some(track) => judge(call, id, track.see(call, strong, Some(item)), line),
            None => judge(call, id, Err("it is not in the log".to_owned()), line),
        }
    }
}
