//! What a consumer holds; `plan` decides which of it may be handed out next. Pure.
//!
//! Of the three rules two are the plan's: *order across streams* and *order per key*. Here is the third, *room*: a
//! stream is read while fewer than its share is held, counted per stream: the lowest unfinished
//! event of the log is never held back, and whoever stopped reading its stream would hold lower
//! ones of it, so some consumer always makes progress.

mod plan;

pub(super) use plan::Look;

use super::item::{Content, Entries, Place};
use super::mark::{ByMark, Mark};
use crate::Id;
use std::collections::{BTreeMap, HashSet};
use std::time::Instant;

#[derive(Debug)]
struct Slot {
    content: Content,
    in_hand: bool,
    /// In hand, but not for the handler: nobody knows when it will be settled.
    aside: bool,
    /// Until then nobody can have claimed it, and it was delivered for the first time: the server
    /// need not be asked whether it may be handled.
    trusted_until: Option<Instant>,
    not_before: Option<Instant>,
    attempts: u32,
    waits: u32,
    first_failure: Option<Instant>,
}

/// The entries a consumer has been given and not finished.
#[derive(Debug)]
pub(super) struct Inbox {
    slots: BTreeMap<Place, Slot>,
    /// Per stream: it may hold more beyond this id.
    bounds: Vec<Option<Id>>,
    held: Vec<usize>,
    room: usize,
    /// The keys of what stands ahead, while a plan is made; kept for its memory.
    taken: HashSet<Mark, ByMark>,
    /// Those of them that what is tried again or set aside holds up.
    held_up: HashSet<Mark, ByMark>,
}

impl Inbox {
    pub(super) fn new(streams: usize, room: usize) -> Self {
        Self {
            slots: BTreeMap::new(),
            bounds: vec![None; streams],
            held: vec![0; streams],
            room,
            taken: HashSet::default(),
            held_up: HashSet::default(),
        }
    }

    /// Takes entries in, and answers how many are new; one that is held already stays as it is.
    pub(super) fn insert(
        &mut self,
        stream: usize,
        entries: Entries,
        trusted: impl Fn(Id) -> Option<Instant>,
    ) -> usize {
        let before = self.held[stream];
        for (id, content) in entries {
            self.slots.entry((id, stream)).or_insert_with(|| {
                self.held[stream] += 1;
                Slot {
                    content,
                    in_hand: false,
                    aside: false,
                    trusted_until: trusted(id),
                    not_before: None,
                    attempts: 0,
                    waits: 0,
                    first_failure: None,
                }
            });
        }
        self.held[stream] - before
    }

    /// The consumer's pending list was read: what else is held and not in hand is not its own any
    /// more. And nothing is handed out before every stream with room has been read once.
    pub(super) fn begin_anew(&mut self, pending: &HashSet<Place>) {
        let gone: Vec<Place> = self
            .slots
            .iter()
            .filter(|(place, slot)| !slot.in_hand && !pending.contains(place))
            .map(|(place, _)| *place)
            .collect();
        for place in gone {
            self.remove(place);
        }
        for slot in self.slots.values_mut() {
            slot.trusted_until = None;
        }
        for stream in 0..self.bounds.len() {
            self.bounds[stream] = (self.held[stream] < self.room).then_some(Id::ZERO);
        }
    }

    /// After a read of a stream: its last id when the batch was full, `None` when it was read to its end.
    pub(super) fn set_bound(&mut self, stream: usize, bound: Option<Id>) {
        self.bounds[stream] = bound;
    }

    /// May the stream hold more than was read of it?
    pub(super) fn may_hold_more(&self, stream: usize) -> bool {
        self.bounds[stream].is_some()
    }

    /// The streams with room for more, beyond what is on its way: so many at most of each.
    pub(super) fn readable(&self, coming: &[usize]) -> Vec<usize> {
        (0..self.held.len()).filter(|s| self.held[*s] + coming[*s] < self.room).collect()
    }

    /// How many more of a stream there is room for.
    pub(super) fn room_of(&self, stream: usize) -> usize {
        self.room.saturating_sub(self.held[stream])
    }

    /// The entry is being handled.
    pub(super) fn take(&mut self, place: Place) {
        if let Some(slot) = self.slots.get_mut(&place) {
            slot.in_hand = true;
        }
    }

    /// The entry is no longer for the handler; when it will be settled the server decides.
    pub(super) fn set_aside(&mut self, place: Place) {
        if let Some(slot) = self.slots.get_mut(&place) {
            (slot.in_hand, slot.aside) = (true, true);
        }
    }

    /// The entry was not handled after all.
    pub(super) fn put_back(&mut self, place: Place) {
        if let Some(slot) = self.slots.get_mut(&place) {
            (slot.in_hand, slot.aside) = (false, false);
        }
    }

    /// The entry is finished, parked, or another consumer's now.
    pub(super) fn remove(&mut self, place: Place) {
        if self.slots.remove(&place).is_some() {
            self.held[place.1] -= 1;
        }
    }

    /// The server says that this entry is not this consumer's. One in hand stays until it is settled.
    pub(super) fn lost(&mut self, place: Place) {
        if self.slots.get(&place).is_some_and(|slot| !slot.in_hand) {
            self.remove(place);
        }
    }

    /// Nobody can have claimed these before then; only those that needed no question are trusted.
    pub(super) fn trust(&mut self, stream: usize, ids: &[Id], until: Instant) {
        for id in ids {
            if let Some(trusted) = self.slots.get_mut(&(*id, stream)).and_then(|s| s.trusted_until.as_mut()) {
                *trusted = until.max(*trusted);
            }
        }
    }

    /// The entry failed: how often it has now, and since when. It waits for [`Self::wait_until`].
    pub(super) fn failed(&mut self, place: Place, now: Instant) -> u32 {
        let Some(slot) = self.slots.get_mut(&place) else { return 0 };
        (slot.in_hand, slot.aside) = (false, false);
        slot.first_failure.get_or_insert(now);
        slot.attempts += 1;
        slot.attempts
    }

    /// Attempts that failed and the time of the first one.
    pub(super) fn failures(&self, place: Place) -> (u32, Option<Instant>) {
        self.slots.get(&place).map_or((0, None), |s| (s.attempts, s.first_failure))
    }

    /// The entry waits for an earlier event that another consumer holds: how often it has been asked.
    pub(super) fn waited(&mut self, place: Place) -> u32 {
        let Some(slot) = self.slots.get_mut(&place) else { return 0 };
        (slot.in_hand, slot.aside) = (false, false);
        slot.waits += 1;
        slot.waits
    }

    /// The server refused to finish the entry, which is set aside: how often it has.
    pub(super) fn refused(&mut self, place: Place) -> u32 {
        self.set_aside(place);
        let Some(slot) = self.slots.get_mut(&place) else { return 0 };
        slot.waits += 1;
        slot.waits
    }

    /// The entry is no candidate before then.
    pub(super) fn wait_until(&mut self, place: Place, then: Instant) {
        if let Some(slot) = self.slots.get_mut(&place) {
            (slot.in_hand, slot.aside) = (false, false);
            slot.not_before = Some(then);
        }
    }

    /// Ids held of one stream, ascending.
    pub(super) fn held_of(&self, stream: usize) -> Vec<Id> {
        self.slots.keys().filter(|(_, s)| *s == stream).map(|(id, _)| *id).collect()
    }
}
