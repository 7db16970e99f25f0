//! An entry as a consumer holds it: decoded once, with what the group must know of it laid out once.
//! Pure.

use super::mark::Mark;
use crate::entry::RawEntry;
use crate::{Event, Id, StreamName};
use std::sync::Arc;

/// An entry's place: its id and the number of its stream (another program may repeat ids).
pub(super) type Place = (Id, usize);

/// An earlier event of an ordering key, on a stream of the subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Before {
    /// The field of the group's positions that tells whether it is finished.
    pub(super) field: String,
    /// The number of its stream.
    pub(super) stream: usize,
    pub(super) id: Id,
}

/// An event with its fields in the group's positions.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) event: Event,
    /// One for each ordering key: moved to the event's id when it is finished.
    pub(super) fields: Vec<String>,
    /// The ordering keys.
    pub(super) marks: Vec<Mark>,
    /// What must be finished before.
    pub(super) before: Vec<Before>,
}

impl Item {
    pub(super) fn new(event: Event, streams: &[StreamName]) -> Self {
        let field = |key: &str, stream: &StreamName| format!("{key} {stream}");
        let fields = event.after.keys().map(|key| field(key, &event.stream)).collect();
        let marks = event.after.keys().map(|key| Mark::of(key)).collect();
        let mut before = Vec::new();
        for (key, last) in &event.after {
            for (number, stream) in streams.iter().enumerate() {
                // Few streams: no name needs to be made to find one in the map.
                let id = last.iter().find(|(name, _)| is_called(stream, name)).map(|(_, id)| *id);
                before.extend(id.map(|id| Before { field: field(key, stream), stream: number, id }));
            }
        }
        Self { event, fields, marks, before }
    }
}

fn is_called(stream: &StreamName, name: &str) -> bool {
    let rest = name.strip_prefix(stream.family()).and_then(|rest| rest.strip_prefix('_'));
    rest == Some(stream.action())
}

/// What an entry turned out to be.
#[derive(Clone, Debug)]
pub(super) enum Content {
    Event(Arc<Item>),
    /// No event of the store: to be parked with this reason.
    Foreign(String),
}

impl Content {
    /// Decodes an entry of the stream with this number.
    pub(super) fn of(raw: &RawEntry, number: usize, streams: &[StreamName]) -> Self {
        match raw.decode(&streams[number]) {
            Ok(event) => Self::Event(Arc::new(Item::new(event, streams))),
            Err(e) => Self::Foreign(e.to_string()),
        }
    }
}

/// Entries of one stream, decoded.
pub(super) type Entries = Vec<(Id, Content)>;
