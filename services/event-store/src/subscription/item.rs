//! An entry as a consumer holds it: decoded once, with what the group must know of it laid out once. Its state may be left
//! out: then the entry has its place in the order as any other, and the state is read again when its turn comes. Pure.

use super::mark::Mark;
use super::streams::Other;
use crate::entry::RawEntry;
use crate::{Body, Event, Id, StreamName};
use std::sync::Arc;

/// An entry's place: its id and the number of its stream (another program may repeat ids).
pub(super) type Place = (Id, usize);

/// How far an ordering key is on one stream: a field of the group's positions, which is called by [`field`].
pub(super) type Position = (Mark, usize);

/// The field of the group's positions for a key and a stream, in parts.
pub(super) fn field<'a>(key: &'a str, stream: &'a StreamName) -> [&'a str; 5] {
    [key, " ", stream.family(), "_", stream.action()]
}

/// An earlier event of an ordering key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Before {
    /// The ordering key, counted among those of the event.
    pub(super) key: usize,
    /// The number of its stream, of those that were asked for.
    pub(super) stream: usize,
    pub(super) id: Id,
}

/// An event with what its group must know of it.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) event: Event,
    /// The number of its stream.
    pub(super) stream: usize,
    /// Its ordering keys.
    pub(super) marks: Vec<Mark>,
    /// What must be finished before, on the streams of the subscription.
    pub(super) before: Vec<Before>,
    /// The event has a state that is not held here.
    pub(super) is_without_state: bool,
}

impl Item {
    /// An event of the stream with this number.
    pub(super) fn new(event: Event, stream: usize, streams: &[StreamName]) -> Self {
        let marks = event.after.keys().map(Mark::of).collect();
        let number = |family: &str, action: &str| {
            streams.iter().position(|stream| stream.family() == family && stream.action() == action)
        };
        let before = before(&event, number);
        Self { event, stream, marks, before, is_without_state: false }
    }

    /// The bytes of the state that is held.
    pub(super) fn bytes(&self) -> usize {
        if self.is_without_state { 0 } else { self.event.entity.text().len() }
    }

    /// The same without the state.
    pub(super) fn without_state(self: Arc<Self>) -> Arc<Self> {
        // Nobody else has it yet, unless it is in a handler's hands.
        let mut item = Arc::unwrap_or_clone(self);
        item.event.entity = Body::left_out();
        item.is_without_state = true;
        Arc::new(item)
    }

    /// What must be finished before, on these streams; they are none of the subscription.
    pub(super) fn before_on(&self, streams: &[Other]) -> Vec<Before> {
        before(&self.event, |family, action| {
            let is = |other: &Other| other.stream.family() == family && other.stream.action() == action;
            streams.iter().position(is)
        })
    }

    /// It has predecessors on streams that are none of the subscription.
    pub(super) fn has_other_predecessors(&self) -> bool {
        self.event.after.links().map(|(_, links)| links.count()).sum::<usize>() > self.before.len()
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

/// The earlier events on the streams that have a number.
fn before(event: &Event, number: impl Fn(&str, &str) -> Option<usize>) -> Vec<Before> {
    let mut before = Vec::new();
    for (key, (_, links)) in event.after.links().enumerate() {
        for ((family, action), id) in links {
            before.extend(number(family, action).map(|stream| Before { key, stream, id }));
        }
    }
    before
}

/// What an entry turned out to be.
#[derive(Clone, Debug)]
pub(super) enum Content {
    Event(Arc<Item>),
    /// No event of the store: to be parked with this reason.
    Foreign(String),
}

impl Content {
    /// The bytes of the state that is held.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Event(item) => item.bytes(),
            Self::Foreign(_) => 0,
        }
    }

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

/// Decodes a page of a list of unknown length: states beyond the bytes that are `left` are left out.
pub(super) fn decoded_within(
    left: &mut usize,
    raw: Vec<RawEntry>,
    number: usize,
    streams: &[StreamName],
) -> Entries {
    let mut fitted = |content| match content {
        Content::Event(item) => match left.checked_sub(item.bytes()) {
            Some(rest) => {
                *left = rest;
                Content::Event(item)
            }
            None => Content::Event(item.without_state()),
        },
        Content::Foreign(reason) => Content::Foreign(reason),
    };
    raw.into_iter().map(|raw| (raw.id, fitted(Content::of(raw, number, streams)))).collect()
}
