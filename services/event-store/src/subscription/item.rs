//! An entry as a consumer holds it: decoded once, with what the group must know of it laid out once.
//! Pure.

use super::mark::Mark;
use crate::entry::RawEntry;
use crate::{Event, Id, StreamName};
use std::sync::Arc;

/// An entry's place: its id and the number of its stream (another program may repeat ids).
pub(super) type Place = (Id, usize);

/// How far an ordering key is on one stream: a field of the group's positions, which is called by [`field`].
pub(super) type Position = (Mark, usize);

/// The field of the group's positions for a key and a stream, in parts.
pub(super) fn field<'a>(key: &'a str, stream: &'a StreamName) -> [&'a str; 5] {
    [key, " ", stream.family(), "_", stream.action()]
}

/// An earlier event of an ordering key, on a stream of the subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Before {
    /// The ordering key, counted among those of the event.
    pub(super) key: usize,
    /// The number of its stream.
    pub(super) stream: usize,
    pub(super) id: Id,
}

/// An event with what its group must know of it.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) event: Event,
    /// The number of its stream.
    pub(super) stream: usize,
    /// Its ordering keys.
    pub(super) marks: Vec<Mark>,
    /// What must be finished before.
    pub(super) before: Vec<Before>,
}

impl Item {
    /// An event of the stream with this number.
    pub(super) fn new(event: Event, stream: usize, streams: &[StreamName]) -> Self {
        let marks = event.after.keys().map(Mark::of).collect();
        let mut before = Vec::new();
        for (key, (_, links)) in event.after.links().enumerate() {
            for ((family, action), id) in links {
                let number = streams.iter().position(|s| s.family() == family && s.action() == action);
                before.extend(number.map(|stream| Before { key, stream, id }));
            }
        }
        Self { event, stream, marks, before }
    }

    /// What moves to the event's id when it is finished.
    pub(super) fn positions(&self) -> impl Iterator<Item = Position> {
        self.marks.iter().map(|mark| (*mark, self.stream))
    }

    /// The fields of these, in parts.
    pub(super) fn fields(&self) -> impl Iterator<Item = [&str; 5]> {
        self.event.after.keys().map(|key| field(key, &self.event.stream))
    }

    /// What must be finished before, each with its position.
    pub(super) fn waits_for(&self) -> impl Iterator<Item = (Position, Id)> {
        self.before.iter().map(|b| ((self.marks[b.key], b.stream), b.id))
    }
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
    pub(super) fn of(raw: RawEntry, number: usize, streams: &[StreamName]) -> Self {
        match raw.into_event(&streams[number]) {
            Ok(event) => Self::Event(Arc::new(Item::new(event, number, streams))),
            Err(e) => Self::Foreign(e.to_string()),
        }
    }
}

/// Entries of one stream, decoded.
pub(super) type Entries = Vec<(Id, Content)>;

/// Decodes entries of the stream with this number.
pub(super) fn decoded(raw: Vec<RawEntry>, number: usize, streams: &[StreamName]) -> Entries {
    raw.into_iter().map(|raw| (raw.id, Content::of(raw, number, streams))).collect()
}
