//! What a consumer holds and which of it may be handed out next. Pure.
//!
//! Three rules. *Order across streams*: nothing beyond the last id of a stream that may hold more.
//! *Order per key*: nothing while an earlier event that shares an ordering key is held. *Room*: a
//! stream is read while fewer than its share is held, counted per stream: the lowest unfinished
//! event of the log is never held back, and whoever stopped reading its stream would hold lower
//! ones of it, so some consumer always makes progress.

use super::item::{Content, Entries, Item, Place};
use super::known::Known;
use super::mark::{ByMark, Mark};
use crate::Id;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

#[derive(Debug)]
struct Slot {
    content: Content,
    in_hand: bool,
    /// Until then nobody can have claimed it, and it was delivered for the first time: the server
    /// need not be asked whether it may be handled.
    trusted_until: Option<Instant>,
    not_before: Option<Instant>,
    attempts: u32,
    waits: u32,
    first_failure: Option<Instant>,
}

/// What to look for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    /// So many that need no question.
    pub(super) go: usize,
    /// So many that need one.
    pub(super) ask: usize,
    /// Nothing is handed out while one before it needs a question.
    pub(super) ordered: bool,
}

/// What may happen next.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// May be handled, as far as anybody needs to be asked.
    pub(super) go: Vec<(Place, Arc<Item>)>,
    /// May be handled when the server says so.
    pub(super) ask: Vec<(Place, Arc<Item>)>,
    /// To be parked.
    pub(super) foreign: Vec<(Place, String)>,
    /// When there is more to do, unless something happens before.
    pub(super) wake: Option<Instant>,
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
}

impl Inbox {
    pub(super) fn new(streams: usize, room: usize) -> Self {
        Self {
            slots: BTreeMap::new(),
            bounds: vec![None; streams],
            held: vec![0; streams],
            room,
            taken: HashSet::default(),
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

    /// The streams with room for more, beyond what is on its way: so many at most of each.
    pub(super) fn readable(&self, coming: &[usize]) -> Vec<usize> {
        (0..self.held.len()).filter(|s| self.held[*s] + coming[*s] < self.room).collect()
    }

    /// How many more of a stream there is room for.
    pub(super) fn room_of(&self, stream: usize) -> usize {
        self.room.saturating_sub(self.held[stream])
    }

    /// The entries for which something can be done now, in id order.
    pub(super) fn plan(&mut self, now: Instant, look: Look, known: &Known) -> Plan {
        let bound = self.bounds.iter().flatten().min().copied().unwrap_or(Id::MAX);
        self.taken.clear();
        let mut plan = Plan::default();
        for (place, slot) in &self.slots {
            if place.0 > bound || plan.go.len() >= look.go {
                break;
            }
            let mut free = !slot.in_hand;
            if let Content::Event(item) = &slot.content {
                for mark in &item.marks {
                    free &= self.taken.insert(*mark);
                }
            }
            // What waits has this one's time as a reason to wake up; an earlier event of its key, or
            // a free hand, is a reason of its own.
            if let Some(then) = slot.not_before.filter(|t| free && *t > now) {
                plan.wake = Some(plan.wake.map_or(then, |wake| wake.min(then)));
                continue;
            }
            match &slot.content {
                _ if !free => {}
                Content::Foreign(reason) => plan.foreign.push((*place, reason.clone())),
                Content::Event(item)
                    if slot.trusted_until.is_some_and(|t| t > now)
                        && known.covers(item)
                        && (plan.ask.is_empty() || !look.ordered) =>
                {
                    plan.go.push((*place, item.clone()));
                }
                // The answer may come before all that stands ahead is handed out.
                Content::Event(item)
                    if plan.ask.len() < look.ask && (plan.go.is_empty() || !look.ordered) =>
                {
                    plan.ask.push((*place, item.clone()));
                }
                Content::Event(_) if look.ordered => break,
                Content::Event(_) => {}
            }
        }
        plan
    }

    /// The entry is being handled.
    pub(super) fn take(&mut self, place: Place) {
        if let Some(slot) = self.slots.get_mut(&place) {
            slot.in_hand = true;
        }
    }

    /// The entry was not handled after all.
    pub(super) fn put_back(&mut self, place: Place) {
        if let Some(slot) = self.slots.get_mut(&place) {
            slot.in_hand = false;
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

    /// The server refused to finish the entry, which stays in hand: how often it has.
    pub(super) fn refused(&mut self, place: Place) -> u32 {
        let Some(slot) = self.slots.get_mut(&place) else { return 0 };
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

    /// Ids held of one stream, ascending.
    pub(super) fn held_of(&self, stream: usize) -> Vec<Id> {
        self.slots.keys().filter(|(_, s)| *s == stream).map(|(id, _)| *id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::RawEntry;
    use crate::{Event, Kind};
    use std::time::Duration;

    fn event(ms: u64, key: &str) -> Event {
        let fields = [
            ("event_id", "6d3ff6f4-8a0d-4ae6-9ff8-cf1d46c0e4a1".to_owned()),
            ("entity", "{}".to_owned()),
            ("entity_type", "order".to_owned()),
            ("entity_id", key.to_owned()),
            ("version", "1".to_owned()),
        ];
        let fields = fields.into_iter().map(|(n, v)| (n.as_bytes().to_vec(), v.into_bytes())).collect();
        RawEntry { id: Id::new(ms, 0), fields }.decode(&Kind::new("order").stream("updated")).unwrap()
    }

    fn put(inbox: &mut Inbox, stream: usize, ms: u64, key: &str) {
        let item = Item::new(event(ms, key), 0, &[Kind::new("order").stream("updated")]);
        let entries = vec![(Id::new(ms, 0), Content::Event(Arc::new(item)))];
        inbox.insert(stream, entries, |_| None);
    }

    fn plan(inbox: &mut Inbox, now: Instant) -> Plan {
        inbox.plan(now, Look { go: 10, ask: 10, ordered: false }, &Known::default())
    }

    fn ids(inbox: &mut Inbox, now: Instant) -> Vec<u64> {
        plan(inbox, now).ask.iter().map(|(place, _)| place.0.ms).collect()
    }

    #[test]
    fn events_of_one_key_come_one_at_a_time_and_in_order() {
        let (mut inbox, now) = (Inbox::new(1, 10), Instant::now());
        for (ms, key) in [(1, "a"), (2, "a"), (3, "b")] {
            put(&mut inbox, 0, ms, key);
        }
        assert_eq!(ids(&mut inbox, now), [1, 3]);
        inbox.take((Id::new(1, 0), 0));
        assert_eq!(ids(&mut inbox, now), [3]);
        inbox.remove((Id::new(1, 0), 0));
        assert_eq!(ids(&mut inbox, now), [2, 3]);
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
        assert_eq!(ids(&mut inbox, now), [3]);
        let then = now + Duration::from_secs(1);
        assert_eq!(plan(&mut inbox, now).wake, Some(then));
        assert_eq!(ids(&mut inbox, then), [1, 3]);
        assert_eq!(plan(&mut inbox, then).wake, None, "its time has come: nothing to wake up for");
    }

    #[test]
    fn nothing_is_handed_out_beyond_a_stream_that_may_hold_more() {
        let (mut inbox, now) = (Inbox::new(2, 10), Instant::now());
        put(&mut inbox, 0, 1, "a");
        put(&mut inbox, 1, 5, "b");
        inbox.set_bound(0, Some(Id::new(1, 0)));
        assert_eq!(ids(&mut inbox, now), [1]);
        inbox.set_bound(0, None);
        assert_eq!(ids(&mut inbox, now), [1, 5]);
    }

    #[test]
    fn a_full_share_of_one_stream_never_stops_the_reading_of_another() {
        let mut inbox = Inbox::new(2, 2);
        put(&mut inbox, 0, 1, "a");
        put(&mut inbox, 0, 2, "a");
        assert_eq!(inbox.readable(&[0, 1]), [1]);
        assert!(inbox.readable(&[0, 2]).is_empty(), "what is on its way has its room");
    }

    #[test]
    fn an_entry_that_is_read_twice_is_held_once() {
        let mut inbox = Inbox::new(1, 10);
        put(&mut inbox, 0, 1, "a");
        inbox.take((Id::new(1, 0), 0));
        put(&mut inbox, 0, 1, "a");
        assert!(ids(&mut inbox, Instant::now()).is_empty());
        assert_eq!(inbox.held_of(0).len(), 1);
    }

    #[test]
    fn a_foreign_entry_stops_nobody() {
        let (mut inbox, now) = (Inbox::new(1, 10), Instant::now());
        inbox.insert(0, vec![(Id::new(1, 0), Content::Foreign("odd".to_owned()))], |_| None);
        put(&mut inbox, 0, 2, "a");
        assert_eq!(ids(&mut inbox, now), [2]);
        assert_eq!(plan(&mut inbox, now).foreign, [((Id::new(1, 0), 0), "odd".to_owned())]);
    }

    fn trusted(inbox: &mut Inbox, ms: u64, key: &str, until: Instant) {
        let item = Item::new(event(ms, key), 0, &[]);
        inbox.insert(0, vec![(Id::new(ms, 0), Content::Event(Arc::new(item)))], |_| Some(until));
    }

    #[test]
    fn what_nobody_can_have_claimed_and_waits_for_nobody_needs_no_question_until_its_time_is_over() {
        let (mut inbox, now) = (Inbox::new(1, 10), Instant::now());
        let until = now + Duration::from_secs(1);
        trusted(&mut inbox, 1, "a", until);
        assert_eq!(plan(&mut inbox, now).go.len(), 1);
        assert_eq!((plan(&mut inbox, until).go.len(), plan(&mut inbox, until).ask.len()), (0, 1));
        inbox.trust(0, &[Id::new(1, 0)], until + Duration::from_secs(1));
        assert_eq!(plan(&mut inbox, until).go.len(), 1);
        inbox.begin_anew(&HashSet::from([(Id::new(1, 0), 0)]));
        inbox.set_bound(0, None);
        assert_eq!(plan(&mut inbox, now).ask.len(), 1, "another server may know another owner");
    }

    #[test]
    fn where_the_order_counts_nothing_overtakes_one_that_needs_a_question() {
        let (mut inbox, now) = (Inbox::new(1, 10), Instant::now());
        put(&mut inbox, 0, 1, "a");
        trusted(&mut inbox, 2, "b", now + Duration::from_secs(1));
        let mut look = |ask, ordered| inbox.plan(now, Look { go: 10, ask, ordered }, &Known::default());
        assert_eq!((look(10, false).go.len(), look(10, false).ask.len()), (1, 1));
        assert_eq!((look(10, true).go.len(), look(10, true).ask.len()), (0, 2));
        assert_eq!((look(0, true).go.len(), look(0, true).ask.len()), (0, 0));
        inbox.remove((Id::new(1, 0), 0));
        put(&mut inbox, 0, 3, "c");
        let plan = inbox.plan(now, Look { go: 10, ask: 10, ordered: true }, &Known::default());
        assert_eq!((plan.go.len(), plan.ask.len()), (1, 0), "nor does the answer to a later one");
    }

    #[test]
    fn after_an_error_only_what_is_pending_or_in_hand_stays_and_every_stream_is_read_first() {
        let (mut inbox, now) = (Inbox::new(1, 10), Instant::now());
        for (ms, key) in [(1, "a"), (2, "b"), (3, "c")] {
            put(&mut inbox, 0, ms, key);
        }
        inbox.take((Id::new(1, 0), 0));
        inbox.begin_anew(&HashSet::from([(Id::new(3, 0), 0)]));
        assert_eq!(inbox.held_of(0), [Id::new(1, 0), Id::new(3, 0)]);
        assert!(ids(&mut inbox, now).is_empty());
        inbox.set_bound(0, None);
        assert_eq!(ids(&mut inbox, now), [3]);
    }
}
