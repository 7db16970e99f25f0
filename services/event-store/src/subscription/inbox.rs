//! What a consumer holds and which of it may be handed out next. Pure.
//!
//! Three rules. *Order across streams*: nothing beyond the last id of a stream that may hold more.
//! *Order per key*: nothing while an earlier event that shares an ordering key is held. *Room*: a
//! stream is read while fewer than its share is held, counted per stream: the lowest unfinished
//! event of the log is never held back, and whoever stopped reading its stream would hold lower
//! ones of it, so some consumer always makes progress.

use crate::entry::RawEntry;
use crate::error::DecodeError;
use crate::{Event, Id};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

/// An entry's place: its id and the number of its stream (another program may repeat ids).
pub(super) type Place = (Id, usize);

/// What an entry turned out to be.
#[derive(Clone, Debug)]
pub(super) enum Content {
    Event(Arc<Event>),
    /// No event of the store: to be parked with this reason.
    Foreign(String),
}

#[derive(Debug)]
struct Slot {
    content: Content,
    in_hand: bool,
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
}

impl Inbox {
    pub(super) fn new(streams: usize, room: usize) -> Self {
        Self { slots: BTreeMap::new(), bounds: vec![None; streams], held: vec![0; streams], room }
    }

    /// Takes an entry in; one that is held already stays as it is.
    pub(super) fn insert(
        &mut self,
        stream: usize,
        raw: &RawEntry,
        decode: impl FnOnce() -> Result<Event, DecodeError>,
    ) {
        let place = (raw.id, stream);
        if self.slots.contains_key(&place) {
            return;
        }
        let content =
            decode().map_or_else(|e| Content::Foreign(e.to_string()), |e| Content::Event(Arc::new(e)));
        let slot =
            Slot { content, in_hand: false, not_before: None, attempts: 0, waits: 0, first_failure: None };
        self.slots.insert(place, slot);
        self.held[stream] += 1;
    }

    /// After a read of a stream: its last id when the batch was full, `None` when it was read to its end.
    pub(super) fn set_bound(&mut self, stream: usize, bound: Option<Id>) {
        self.bounds[stream] = bound;
    }

    /// The streams with room for more.
    pub(super) fn readable(&self) -> Vec<usize> {
        (0..self.held.len()).filter(|s| self.held[*s] < self.room).collect()
    }

    /// At most `limit` entries that may be handed out as far as this consumer can tell, in id order.
    pub(super) fn candidates(&self, now: Instant, limit: usize) -> Vec<(Place, Content)> {
        let bound = self.bounds.iter().flatten().min().copied().unwrap_or(Id::MAX);
        let mut taken: HashSet<&str> = HashSet::new();
        let mut found = Vec::new();
        for (place, slot) in &self.slots {
            if found.len() >= limit || place.0 > bound {
                break;
            }
            let free = match &slot.content {
                Content::Foreign(_) => true,
                Content::Event(event) => {
                    let mut free = true;
                    for key in event.after.keys() {
                        free &= taken.insert(key);
                    }
                    free
                }
            };
            if free && !slot.in_hand && slot.not_before.is_none_or(|t| t <= now) {
                found.push((*place, slot.content.clone()));
            }
        }
        found
    }

    /// The entry is being handled.
    pub(super) fn take(&mut self, place: Place) {
        if let Some(slot) = self.slots.get_mut(&place) {
            slot.in_hand = true;
        }
    }

    /// The entry is finished, parked, or another consumer's now.
    pub(super) fn remove(&mut self, place: Place) {
        if self.slots.remove(&place).is_some() {
            self.held[place.1] -= 1;
        }
    }

    /// The entry failed: how often it has now, and since when. It waits for [`Self::wait_until`].
    pub(super) fn failed(&mut self, place: Place, now: Instant) -> u32 {
        let Some(slot) = self.slots.get_mut(&place) else { return 0 };
        slot.in_hand = false;
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
        slot.in_hand = false;
        slot.waits += 1;
        slot.waits
    }

    /// The entry is no candidate before then.
    pub(super) fn wait_until(&mut self, place: Place, then: Instant) {
        if let Some(slot) = self.slots.get_mut(&place) {
            slot.in_hand = false;
            slot.not_before = Some(then);
        }
    }

    /// When the next entry becomes a candidate that was none at `now`. One whose time had come by
    /// then and that is still held waits for something else: a free hand, an earlier event.
    pub(super) fn next_wakeup(&self, now: Instant) -> Option<Instant> {
        self.slots.values().filter(|s| !s.in_hand).filter_map(|s| s.not_before).filter(|t| *t > now).min()
    }

    /// Ids held of one stream.
    pub(super) fn held_of(&self, stream: usize) -> Vec<String> {
        self.slots.keys().filter(|(_, s)| *s == stream).map(|(id, _)| id.to_string()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;
    use std::time::Duration;

    fn event(ms: u64, key: &str) -> Event {
        let fields = [
            ("event_id", "6d3ff6f4-8a0d-4ae6-9ff8-cf1d46c0e4a1".to_owned()),
            ("entity", "{}".to_owned()),
            ("entity_type", "order".to_owned()),
            ("entity_id", key.to_owned()),
            ("version", "1".to_owned()),
            ("after", format!("{{\"order/{key}\":{{}}}}")),
        ];
        let fields = fields.into_iter().map(|(n, v)| (n.as_bytes().to_vec(), v.into_bytes())).collect();
        RawEntry { id: Id::new(ms, 0), fields }.decode(&Kind::new("order").stream("updated")).unwrap()
    }

    fn put(inbox: &mut Inbox, stream: usize, ms: u64, key: &str) {
        let raw = RawEntry { id: Id::new(ms, 0), fields: Vec::new() };
        inbox.insert(stream, &raw, || Ok(event(ms, key)));
    }

    fn ids(inbox: &Inbox, now: Instant) -> Vec<u64> {
        inbox.candidates(now, 10).iter().map(|(place, _)| place.0.ms).collect()
    }

    #[test]
    fn events_of_one_key_come_one_at_a_time_and_in_order() {
        let (mut inbox, now) = (Inbox::new(1, 10), Instant::now());
        for (ms, key) in [(1, "a"), (2, "a"), (3, "b")] {
            put(&mut inbox, 0, ms, key);
        }
        assert_eq!(ids(&inbox, now), [1, 3]);
        inbox.take((Id::new(1, 0), 0));
        assert_eq!(ids(&inbox, now), [3]);
        inbox.remove((Id::new(1, 0), 0));
        assert_eq!(ids(&inbox, now), [2, 3]);
    }

    #[test]
    fn a_retry_holds_up_its_own_key_alone() {
        let (mut inbox, now) = (Inbox::new(1, 10), Instant::now());
        for (ms, key) in [(1, "a"), (2, "a"), (3, "b")] {
            put(&mut inbox, 0, ms, key);
        }
        let place = (Id::new(1, 0), 0);
        assert_eq!(inbox.failed(place, now), 1);
        inbox.wait_until(place, now + Duration::from_secs(1));
        assert_eq!(ids(&inbox, now), [3]);
        let then = now + Duration::from_secs(1);
        assert_eq!(inbox.next_wakeup(now), Some(then));
        assert_eq!(ids(&inbox, then), [1, 3]);
        assert_eq!(inbox.next_wakeup(then), None, "its time has come: nothing to wake up for");
    }

    #[test]
    fn nothing_is_handed_out_beyond_a_stream_that_may_hold_more() {
        let (mut inbox, now) = (Inbox::new(2, 10), Instant::now());
        put(&mut inbox, 0, 1, "a");
        put(&mut inbox, 1, 5, "b");
        inbox.set_bound(0, Some(Id::new(1, 0)));
        assert_eq!(ids(&inbox, now), [1]);
        inbox.set_bound(0, None);
        assert_eq!(ids(&inbox, now), [1, 5]);
    }

    #[test]
    fn a_full_share_of_one_stream_never_stops_the_reading_of_another() {
        let mut inbox = Inbox::new(2, 2);
        put(&mut inbox, 0, 1, "a");
        put(&mut inbox, 0, 2, "a");
        assert_eq!(inbox.readable(), [1]);
    }

    #[test]
    fn an_entry_that_is_read_twice_is_held_once() {
        let mut inbox = Inbox::new(1, 10);
        put(&mut inbox, 0, 1, "a");
        inbox.take((Id::new(1, 0), 0));
        put(&mut inbox, 0, 1, "a");
        assert!(ids(&inbox, Instant::now()).is_empty());
        assert_eq!(inbox.held_of(0).len(), 1);
    }

    #[test]
    fn a_foreign_entry_stops_nobody() {
        let (mut inbox, now) = (Inbox::new(1, 10), Instant::now());
        let raw = RawEntry { id: Id::new(1, 0), fields: Vec::new() };
        inbox.insert(0, &raw, || raw.decode(&Kind::new("order").stream("updated")));
        put(&mut inbox, 0, 2, "a");
        assert_eq!(ids(&inbox, now), [1, 2]);
    }
}
